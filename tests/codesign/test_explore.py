"""``codesign explore``: fronts of a small space against pricing each design by itself."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from codesign.explore import COLUMNS, ExploreSpec, arrays_of, explore, spec_from
from codesign.models import resolve_model
from codesign.pareto import pareto_mask
from codesign.pricing import configs_of, price_generation, trace_generation
from codesign.recipes import recipe
from hwmodel.gpu_presets import GPUS
from hwmodel.presets import ACCELERATORS, BITMOD
from hwmodel.units import KIB

CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 128, "intermediate_size": 384,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320,
}  # fmt: skip
LIST = ("--recipes", "bitmod4_g128_kv8,int8_channel,nf4_g64", "--accelerators", "bitmod,fp16_baseline",
        "--weight-buffers", "64,256", "--bandwidths", "8,32", "--prompts", "24", "--generate", "3")  # fmt: skip
SPEC = ExploreSpec(
    recipes=("bitmod4_g128_kv8", "int8_channel", "nf4_g64"), accelerators=("bitmod", "fp16_baseline"),
    weight_buffers_kib=(64, 256), bandwidths_gb_s=(8, 32), prompts=(24,), tokens=(3,),
)  # fmt: skip


@pytest.fixture
def shapes(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def _by_hand(folder):
    """Objectives of every design of ``SPEC`` by ``price_generation``."""
    generation = trace_generation(resolve_model(str(folder)), prompt=24, tokens=3)
    rows = {}
    for name in SPEC.recipes:
        configs = configs_of(recipe(name), generation)
        for accelerator in SPEC.accelerators:
            for size in SPEC.weight_buffers_kib:
                for rate in SPEC.bandwidths_gb_s:
                    base = ACCELERATORS[accelerator]
                    machine = replace(
                        base,
                        weight_buffer=replace(base.weight_buffer, capacity_bytes=size * KIB),
                        dram=replace(base.dram, bytes_per_s=rate * 1e9),
                    )
                    try:
                        rows[name, accelerator, size, rate] = price_generation(
                            generation, configs, machine
                        ).objectives()
                    except NotImplementedError:
                        assert (name, accelerator) == ("nf4_g64", "bitmod")
    return rows


def test_the_front_is_that_of_designs_priced_one_by_one(shapes):
    found = explore(str(shapes), SPEC)
    rows = _by_hand(shapes)
    assert (found.designs, found.runnable) == (24, 20) and len(rows) == 20
    assert len(found.reasons) == 1 and "accelerator bitmod cannot run nf4" in found.reasons[0]
    costs = np.array([[row[name] for name in SPEC.objectives] for row in rows.values()])
    expected = {key for key, on in zip(rows, pareto_mask(costs), strict=True) if on}
    keys = zip(*(found.fronts[name] for name in ("recipe", "accelerator", "weight_buffer_kib", "bandwidth_gb_s")),
               strict=True)  # fmt: skip
    assert set(keys) == expected
    for _, row in found.fronts.iterrows():
        wanted = rows[row["recipe"], row["accelerator"], row["weight_buffer_kib"], row["bandwidth_gb_s"]]
        for name in ("prefill_s", "total_s", "total_energy_j", "area_mm2"):
            assert row[name] == pytest.approx(wanted[name], rel=1e-12)
        for name in ("decode_s", "decode_energy_j"):  # for each of the 3 tokens, from differences of sums
            assert row[name] == pytest.approx(wanted[name], rel=1e-9)


def test_each_workload_has_its_front(shapes):
    spec = replace(SPEC, prompts=(8, 24), batches=(1, 2), objectives=("total_s", "bandwidth_gb_s"))
    fronts = explore(str(shapes), spec).fronts
    assert len(fronts.groupby(["batch", "prompt", "tokens"])) == 4
    for _, front in fronts.groupby(["batch", "prompt", "tokens"]):
        assert pareto_mask(front[list(spec.objectives)].to_numpy()).all()
        assert set(front["bandwidth_gb_s"]) == {8, 32}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_command_writes_what_it_shows(run, shapes, suffix):
    out = shapes / f"front.{suffix}"
    status, said, _ = run("explore", shapes, *LIST, "--json", "--out", out)
    made = json.loads(said)
    written = pd.read_csv(out) if suffix == "csv" else pd.read_parquet(out)
    assert status == 0 and made["designs"] == 24 and len(made["front"]) == len(written)
    assert list(written.columns) == ["index", *COLUMNS]
    assert [row["total_s"] for row in made["front"]] == pytest.approx(written["total_s"].tolist())
    status, said, err = run("explore", shapes, *LIST)
    assert status == 0 and "of 24 in all workloads" in said.replace("\n", " ") and "not run: nf4_g64" in err


def test_gpus_stand_in_the_same_space(run, shapes):
    """An H100 with its own memory: once, not at every buffer and bandwidth."""
    options = [*LIST, "--accelerators", "h100", "--objectives", "total_s"]
    status, said, _ = run("explore", shapes, *options, "--json")
    made = json.loads(said)
    assert status == 0 and made["designs"] == 12 and made["runnable"] == 3
    generation = trace_generation(resolve_model(str(shapes)), prompt=24, tokens=3)
    seconds = [
        price_generation(generation, configs_of(recipe(name), generation), GPUS["h100"]).objectives()["total_s"]
        for name in SPEC.recipes
    ]
    for row in made["front"]:
        assert row["total_s"] == pytest.approx(min(seconds), rel=1e-12) and row["bandwidth_gb_s"] == 3350
        assert row["prefill_array"] is None and row["weight_buffer_kib"] is None and row["area_mm2"] == 814.0
    status, said, _ = run("explore", shapes, *options)
    assert status == 0 and "- / -" in said
    _, said, _ = run("explore", shapes, *LIST, "--accelerators", "h100,bitmod", "--json")
    assert {row["accelerator"] for row in json.loads(said)["front"]} == {"bitmod"}  # far smaller, and as fast


def test_a_file_says_the_same_as_options(run, shapes):
    file = shapes / "space.yaml"
    file.write_text(
        "recipes: [bitmod4_g128_kv8, int8_channel, nf4_g64]\naccelerators: [bitmod, fp16_baseline]\n"
        "weight_buffers_kib: [64, 256]\nbandwidths_gb_s: [8, 32]\nprompts: 24\ntokens: 7\n"
    )
    _, by_file, _ = run("explore", shapes, "--space", file, "--generate", 3, "--json")
    _, by_options, _ = run("explore", shapes, *LIST, "--json")
    assert json.loads(by_file) == json.loads(by_options)


def test_losses_make_accuracy_an_objective(run, shapes):
    losses = shapes / "trials.csv"
    losses.write_text("recipe,loss\nbitmod4_g128_kv8,3.2\nint8_channel,3.0\nnf4_g64,3.1\n")
    _, said, _ = run("explore", shapes, *LIST, "--losses", losses, "--json")
    made = json.loads(said)
    assert made["objectives"][0] == "loss"
    assert {row["recipe"]: row["loss"] for row in made["front"]}["int8_channel"] == 3.0
    losses.write_text("recipe,loss\nint8_channel,3.0\n")
    status, _, err = run("explore", shapes, *LIST, "--losses", losses)
    assert status == 2 and "must hold every recipe, and bitmod4_g128_kv8, nf4_g64 is not there" in " ".join(err.split())


@pytest.mark.parametrize("loss", ["bad", "", "nan", "inf"])
def test_a_loss_that_is_no_number_is_refused(run, shapes, loss):
    losses = shapes / "trials.csv"
    losses.write_text(f"recipe,loss\nbitmod4_g128_kv8,3.2\nint8_channel,{loss}\nnf4_g64,3.1\n")
    status, out, err = run("explore", shapes, *LIST, "--losses", losses)
    assert (status, out) == (2, "")
    assert re.search(r"losses in .*trials\.csv must be finite numbers, not .* for int8_channel", " ".join(err.split()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--arrays", "32"), "an array must be rows x columns, such as 32x32 or 32x32/64x16, not '32'"),
        (("--arrays", "4x4/8x8"), "an array must have as many PEs in decode as in prefill"),
        (("--memories", "ddr9"), "memories must be of ddr4, .* not 'ddr9'"),
        (("--bandwidths", "fast"), "options: bandwidths_gb_s must be a list of float, not 'fast'"),
        (("--frequencies", "0"), "frequencies_ghz of a design space must be above 0 and finite, not 0.0"),
        (("--bandwidths", "8,-1"), "bandwidths_gb_s of a design space must be above 0 and finite, not -1.0"),
        (("--buffers", "nan"), "weight_buffers_kib of a design space must be above 0 and finite, not nan"),
        (("--activation-buffers", "inf"), "activation_buffers_kib of a design space must be above 0 and finite"),
        (("--batches", "0"), "batches of a design space must be above 0 and finite, not 0"),
        (("--prompts", "1.5"), "options: prompts must be a list of int, not '1.5'"),
        (("--objectives", "beauty"), "objectives must be of loss, .* not 'beauty'"),
        (("--objectives", "loss"), "losses must be given where loss is an objective"),
        (("--recipes", ","), "recipes of a design space must not be empty"),
        (("--accelerators", "h1000"), "accelerator must be one of the presets .* not 'h1000'"),
        (("--losses", "none.csv"), "losses must be a table with columns recipe and loss"),
        (("--memories", "ddr4,hbm2e,ddr4"), "memories of a design space must all differ, not hold 'ddr4' twice"),
        (("--batches", "2,2"), "batches of a design space must all differ, not hold 2 twice"),
        (("--out", "x.txt"), "file for the fronts must end in .csv or .parquet"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(run, shapes, options, message):
    status, out, err = run("explore", shapes, *options)
    assert status == 2 and out == ""
    assert re.search(message, " ".join(err.split()))


@pytest.mark.parametrize("value", [1.5, True, float("nan"), float("inf"), None, {}, [[1]], "1e3"])
def test_whole_numbers_of_a_file_are_whole(value):
    assert spec_from({"prompts": [7.0, "8", 9]}, "f").prompts == (7, 8, 9)
    with pytest.raises(ValueError, match="^f: prompts must be a list of int, not "):
        spec_from({"prompts": [value]}, "f")


def test_arrays_and_unknown_keys():
    assert arrays_of("32x32/64x16") == (BITMOD.prefill_array, BITMOD.decode_array)
    assert arrays_of("8x4")[0] == arrays_of("8x4")[1]
    with pytest.raises(ValueError, match="x.yaml: key 'recipe' must be one of recipes, "):
        spec_from({"recipe": "fp16"}, "x.yaml")


def test_a_switch_is_true_or_false():
    assert spec_from({"whole_tiles": True}, "here").whole_tiles
    with pytest.raises(ValueError, match="here: fill_and_drain must be true or false, not 'maybe'"):
        spec_from({"fill_and_drain": "maybe"}, "here")
