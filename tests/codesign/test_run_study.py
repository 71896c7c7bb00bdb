"""Pricing results on machines, the manifest, and the folder that a study leaves behind."""

import json

import pandas as pd
import pytest

from codesign.models import resolve_model
from codesign.pricing import trace_generation
from codesign.recipe_accuracy import RecipeResult
from codesign.recipes import recipe
from codesign.run_study import accelerators_by_name, check_output, manifest, price_all, read_study_folder, write_study
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


def test_accelerators_are_presets_or_files(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("base: bitmod\nname: mine\nsource: a test\n")
    assert list(accelerators_by_name(("ant", str(file)))) == ["ant", "mine"]
    file.write_text("base: bitmod\nname: ant\nsource: a test\n")
    with pytest.raises(ValueError, match="must have different names, not two called 'ant'"):
        accelerators_by_name(("ant", str(file)))
    with pytest.raises(ValueError, match="nearest: bitmod"):
        accelerators_by_name(("bitmodd",))


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


def test_a_folder_is_read_back(study, tmp_path):
    folder = tmp_path / "out"
    page = write_study(study, folder)
    assert page.read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    back = read_study_folder(folder)
    pd.testing.assert_frame_equal(back.trials, study.trials)
    pd.testing.assert_frame_equal(back.layers, study.layers)
    assert back.objectives == study.objectives
    csv = pd.read_csv(folder / "front.csv")
    assert csv["on_front"].all()
    assert not list(folder.glob(".*")), "no temporary file is left"


@pytest.mark.parametrize("damage", ["manifest.json", "trials.parquet"])
def test_a_damaged_folder_is_one_sentence(study, tmp_path, damage):
    folder = tmp_path / "out"
    write_study(study, folder)
    (folder / damage).write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="out must be the folder of a finished study") as caught:
        read_study_folder(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["manifest.json", "layers.parquet"])
def test_what_a_folder_lacks_is_named(study, tmp_path, missing):
    folder = tmp_path / "out"
    write_study(study, folder)
    (folder / missing).unlink()
    with pytest.raises(ValueError, match=f"out must be the folder of a finished study, but {missing} is not there$"):
        read_study_folder(folder)


def test_an_output_that_cannot_be_written_is_said_before_anything_is(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="file must be a folder, not a file"):
        check_output(tmp_path / "file")
    with pytest.raises(ValueError, match="must be where files may be written, which .*file is not"):
        check_output(tmp_path / "file" / "below" / "it")
    check_output(tmp_path / "new" / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_front_leaves_out_what_cannot_run():
    trials = pd.DataFrame({"loss": [1.0, 2.0, 0.5], "total_s": [1.0, 0.5, 0.1], "supported": [True, True, False]})
    assert mark_front(trials, ("loss", "total_s")).tolist() == [True, True, False]
    assert mark_front(trials, ("-loss",)).tolist() == [False, True, False]
    with pytest.raises(ValueError, match="objectives must be columns of the trials table, not speed"):
        mark_front(trials, ("speed",))
