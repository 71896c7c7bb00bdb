"""Pricing results on machines, and the manifest."""

import json

import pandas as pd
import pytest

from codesign.machines import accelerators_by_name
from codesign.models import resolve_model
from codesign.pricing import trace_generation
from codesign.recipe_accuracy import RecipeResult
from codesign.recipes import recipe
from codesign.run_study import manifest, price_all
from codesign.study import LAYER_COLUMNS, TRIAL_COLUMNS, StudyResult, mark_front
from codesign.study_file import StudySpec
from hwmodel.presets import ACCELERATORS
from hwmodel.workload import LayerKind

NUMBERS = dict.fromkeys(
    ("bits_per_weight", "model_bytes", "loss", "loss_delta", "loss_delta_se", "perplexity", "kl", "top1", "sqnr_db",
     "quantize_s", "evaluate_s"), 1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def generation(tiny_llama_dir):
    return trace_generation(resolve_model(tiny_llama_dir), prompt=8, tokens=4)


def result_of(name, generation):
    made = recipe(name)
    layers = [layer for layer in generation.prefill.layers if layer.kind is LayerKind.LINEAR and not layer.head]
    configs = {} if made.algorithm is None else {layer.name: made.linear for layer in layers}
    return RecipeResult(name, "rtn", configs, NUMBERS, {})


def test_every_pair_is_a_trial_and_what_cannot_run_says_why(generation):
    results = {name: result_of(name, generation) for name in ("fp16", "bitmod4_g64", "nf4_g64")}
    machines = accelerators_by_name(("fp16_baseline", "bitmod"))
    trials, layers = price_all(generation, results, machines)
    assert len(trials) == 6
    refused = trials[~trials["supported"]]
    assert refused[["recipe", "accelerator"]].to_numpy().tolist() == [["nf4_g64", "bitmod"]]
    assert refused["reason"].str.contains("accelerator bitmod cannot run nf4").all()
    assert refused["total_s"].isna().all()
    assert set(layers.columns) == set(LAYER_COLUMNS)
    assert len(layers) == 5 * 2 * len(generation.prefill.layers)
    prompt = layers[
        (layers["recipe"] == "bitmod4_g64") & (layers["accelerator"] == "bitmod") & (layers["phase"] == "prefill")
    ]
    trial = trials[(trials["recipe"] == "bitmod4_g64") & (trials["accelerator"] == "bitmod")].iloc[0]
    assert prompt["cycles"].sum() / ACCELERATORS["bitmod"].frequency_hz == pytest.approx(trial["prefill_s"], rel=1e-12)


def test_fewer_bits_take_less_time_where_memory_is_the_limit(generation):
    results = {name: result_of(name, generation) for name in ("fp16", "int8_channel", "int4_g64_fp16")}
    trials, _ = price_all(generation, results, accelerators_by_name(("fp16_baseline",)))
    seconds = trials.set_index("recipe")["decode_s"]
    assert seconds["int4_g64_fp16"] < seconds["int8_channel"] < seconds["fp16"]


def study_of(generation, source, text):
    results = {name: result_of(name, generation) for name in ("fp16", "bitmod4_g64")}
    machines = accelerators_by_name(("fp16_baseline", "bitmod"))
    trials, layers = price_all(generation, results, machines)
    spec = StudySpec(
        "tiny", str(source.path), ("fp16", "bitmod4_g64"), tuple(machines), text=text, calibration_text=text
    )
    trials["on_front"] = mark_front(trials, spec.objectives)
    rows = [
        {"accelerator": name, "clock_hz": 1e9, "peak_macs_per_s": 1e12, "dram_bytes_per_s": 1e10, "area_mm2": 1.0,
         "source": machine.source} for name, machine in machines.items()
    ]  # fmt: skip
    about = manifest(spec, source, [recipe(name) for name in spec.recipes], machines)
    return StudyResult("tiny", trials[list(TRIAL_COLUMNS)], layers, pd.DataFrame(rows), spec.objectives, about)


@pytest.fixture
def study(generation, tiny_llama_dir, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("words " * 100)
    return study_of(generation, resolve_model(tiny_llama_dir), str(text))


def test_the_manifest_names_versions_hashes_and_sources(study):
    about = json.loads(json.dumps(study.manifest, allow_nan=False))
    assert len(about["model"]["sha256"]) == 64
    assert len(about["texts"]["evaluation"]["sha256"]) == 64
    assert {"python", "torch", "numpy", "codesign"} <= set(about["versions"])
    assert about["study"]["seed"] == 0
    assert about["first_token"] is None  # what this tokenizer does, as the study leaves it open
    machine = about["accelerators"]["bitmod"]
    assert (
        machine["source"] and machine["pe"]["source"] and machine["dram"]["source"] and machine["technology"]["source"]
    )
    assert [made["name"] for made in about["recipes"]] == ["fp16", "bitmod4_g64"]


def test_the_front_leaves_out_what_cannot_run():
    trials = pd.DataFrame({"loss": [1.0, 2.0, 0.5], "total_s": [1.0, 0.5, 0.1], "supported": [True, True, False]})
    assert mark_front(trials, ("loss", "total_s")).tolist() == [True, True, False]
    assert mark_front(trials, ("-loss",)).tolist() == [False, True, False]
    with pytest.raises(ValueError, match="objectives must be columns of the trials table, not speed"):
        mark_front(trials, ("speed",))
