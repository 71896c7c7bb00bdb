"""The command line as a user meets it: results on standard output, one sentence and exit status 2 for mistakes."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from codesign.study import TRIAL_COLUMNS

ROOT = Path(__file__).resolve().parents[2]
TEXT = "The quick brown fox jumps over the lazy dog. She read the whole book, and then she read it again. " * 40


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "held_out.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def bos_dir(tiny_llama_dir, tmp_path_factory):
    """The model with a tokenizer whose configuration puts a first token before every text."""
    folder = shutil.copytree(tiny_llama_dir, tmp_path_factory.mktemp("bos") / "model")
    path = folder / "tokenizer_config.json"
    first = {"bos_token": "a", "add_bos_token": True}  # any token of the vocabulary
    path.write_text(json.dumps(json.loads(path.read_text()) | first))
    return folder


def test_a_tile_schedule_of_a_gpu_is_one_sentence(run, tmp_path):
    status, _, err = run("estimate", tmp_path, "-a", "h100", "--fill-and-drain")
    assert status == 2
    assert "whole_tiles and fill_and_drain are of arrays: h100 must be priced without them" in err


@pytest.mark.parametrize("command", ["formats", "accelerators", "algorithms", "recipes"])
def test_lists_name_a_source_for_every_entry(run, command):
    status, out, _ = run(command, "--json")
    rows = json.loads(out)
    assert status == 0
    assert len(rows) >= 5
    assert all(row.get("source") or row.get("note") for row in rows)


def test_estimate_needs_only_a_config(run, tmp_path):
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 320,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    status, out, _ = run("estimate", tmp_path, "-r", "int4_g64_fp16", "-a", "fp16_baseline", "--json")
    made = json.loads(out)
    assert status == 0
    # 7 linears of 2 blocks: q 64x64, k and v 32x64, o 64x64, gate and up 128x64, down 64x128
    assert made["totals"]["quantized_weights"] == 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64)
    assert made["totals"]["bits_per_weight"] == 4.25
    cycles = sum(row["cycles"] for row in made["layers"] if row["phase"] == "prefill")
    assert cycles == made["totals"]["prefill_cycles"]
    # embedding and head of 320 x 64 in FP16; keys and values of 32 numbers, 512 tokens and 2 blocks in FP16
    stored_bits = 4.25 * made["totals"]["quantized_weights"] + 16 * (2 * 320 * 64 + 2 * 32 * 512 * 2)
    assert made["totals"]["stored_gb"] == pytest.approx(stored_bits / 8e9, rel=1e-12)
    status, out, _ = run("estimate", tmp_path, "-r", "int4_g64_fp16", "-a", "fp16_baseline")
    assert status == 0
    assert "mlp.down_proj" in out
    sheet = tmp_path / "small.yaml"
    sheet.write_text("name: small\nbase: h100\nsource: made up\nmemory: {preset: hbm3, gb: 0.0001, gb_per_s: 100}\n")
    _, _, note = run("estimate", tmp_path, "-r", "int4_g64_fp16", "-a", sheet)
    assert "do not fit into the 0.0001 GB of small" in note


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        (
            {"model_type": "bert", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
             "num_attention_heads": 4, "vocab_size": 320, "architectures": ["BertModel"]},
            2 * (4 * 64 * 64 + 2 * 64 * 128) + 64 * 64,  # two blocks, and the pooler
        ),
        (
            {"model_type": "resnet", "depths": [1, 1], "hidden_sizes": [16, 32], "embedding_size": 8,
             "layer_type": "basic", "architectures": ["ResNetForImageClassification"], "num_labels": 10},
            # stem 7x7; 3x3 twice and a 1x1 shortcut in each of two stages; the classifier
            3 * 8 * 49 + (8 * 16 + 16 * 16) * 9 + 8 * 16 + (16 * 32 + 32 * 32) * 9 + 16 * 32 + 32 * 10,
        ),
    ],
    ids=["encoder", "convolutional net"],
)  # fmt: skip
def test_estimate_of_a_model_that_writes_no_tokens_is_one_pass(run, tmp_path, config, weights):
    (tmp_path / "config.json").write_text(json.dumps(config))
    status, out, _ = run("estimate", tmp_path, "-r", "int8_channel", "-a", "fp16_baseline", "--json")
    made = json.loads(out)
    assert status == 0
    assert made["totals"]["quantized_weights"] == weights
    assert made["totals"]["total_cycles"] == sum(row["cycles"] for row in made["layers"])
    assert {row["phase"] for row in made["layers"]} == {"prefill"}
    assert "tokens_per_s" not in made["totals"] and "decode_s" not in made["totals"]
    status, out, _ = run("estimate", tmp_path, "-r", "int8_channel", "-a", "fp16_baseline")
    assert status == 0
    assert "writes no tokens" in out


def test_quantize_evaluate_and_estimate_a_folder(run, refused, tmp_path, tiny_llama_dir, text_file):
    out_dir = tmp_path / "quantized"
    arguments = ("quantize", tiny_llama_dir, "-r", "bitmod4_g64", "-o", out_dir, "--json")
    status, out, err = run(*arguments)
    assert status == 0, err
    # 4 bits, an FP16 scale and a 2-bit selector for each group of 64; ragged groups and padded words add a little
    assert json.loads(out)["bits_per_weight"] == pytest.approx(4 + 18 / 64, rel=0.02)
    evaluation = ("--text", text_file, "--tokens", 256, "--context", 64, "--json")
    status, first, err = run("evaluate", out_dir, *evaluation)
    assert status == 0, err
    status, again, _ = run("evaluate", out_dir, *evaluation)
    assert json.loads(first) == json.loads(again)
    status, original, _ = run("evaluate", tiny_llama_dir, *evaluation)
    assert json.loads(original)[0]["loss_nats"] != json.loads(first)[0]["loss_nats"]
    status, priced, err = run("estimate", out_dir, "--json")
    assert status == 0, err
    assert run("estimate", out_dir, "-r", "bitmod4_g64", "--json")[1] == priced
    for command in ("estimate", "simulate", "bits"):
        message = f"recipe of the quantized model {out_dir} must be its own, bitmod4_g64, not int8_channel"
        assert refused(command, out_dir, "-r", "int8_channel") == message
    for command in (("explore",), ("serving", "-a", "h100", "--rate", 1), ("quantize", "-r", "int4_g64", "-o", "x")):
        message = refused(command[0], out_dir, *command[1:])
        assert message.startswith(f"model must be an original one here, not {out_dir}, which codesign quantize wrote")
    status, again, _ = run(*arguments)
    assert status == 0
    assert json.loads(again) == json.loads(out), "a finished folder is recognised"
    assert json.loads(priced)["totals"]["bits_per_weight"] == json.loads(out)["bits_per_weight"]


def test_quantize_says_that_its_folder_is_taken_before_any_work(
    refused, tmp_path, tiny_llama_dir, text_file, monkeypatch
):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    message = refused("quantize", "no-such-model", "-r", "int4_g64", "-o", tmp_path / "mine")
    assert message == f"the output folder {tmp_path / 'mine'} must be empty or hold a quantized model, not other files"
    (tmp_path / "other" / "layers").mkdir(parents=True)
    (tmp_path / "other" / "job.json").write_text('{"recipe": "fp16"}')

    def never(*_args, **_kwargs):
        raise AssertionError("calibrated first")

    monkeypatch.setattr("codesign.cli_work.gather", never)
    calibration = ("--calibration-text", text_file, "--calibration-tokens", 128, "--context", 64)
    message = refused("quantize", tiny_llama_dir, "-r", "gwq4_g128", "-o", tmp_path / "other", *calibration)
    assert "other must hold the same job, but its recipe differs" in message


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "{folder}", "--text", "{text}"),
        ("estimate", "{folder}"),
        ("simulate", "{folder}"),
        ("bits", "{folder}"),
        ("explore", "{folder}"),
        ("serving", "{folder}", "-a", "h100", "--rate", "1"),
        ("quantize", "{folder}", "-r", "int4_g64", "-o", "{folder}2"),
        ("export", "{folder}", "-o", "{folder}2"),
    ],
    ids=lambda command: command[0],
)
def test_an_interrupted_folder_is_said_to_be_one(refused, tmp_path, text_file, command):
    folder = tmp_path / "part"
    (folder / "layers").mkdir(parents=True)
    for name in ("job.json", "layers/00000.json", "layers/00001.json"):
        (folder / name).write_text("{}")
    said = refused(*(argument.format(folder=folder, text=text_file) for argument in command))
    assert said == f"{folder} must be a finished quantized model, not one interrupted after 2 layers"


def study_file(tmp_path, model, text, extra=""):
    path = tmp_path / "study.yaml"
    path.write_text(
        f"name: tiny\nmodel: {model}\nrecipes: [fp16, int4_g32_fp16, bitmod3_g64]\n"
        "accelerators: [fp16_baseline, bitmod, ant]\n"
        f"evaluation: {{text: {text}, tokens: 256, context: 64}}\ncalibration: {{text: {text}, tokens: 128}}\n"
        f"workload: {{prompt: 16, generate: 4}}\n{extra}"
    )
    return path


def test_a_study_writes_its_folder_and_a_second_run_measures_nothing(
    run, refused, tmp_path, tiny_llama_dir, text_file, monkeypatch
):
    file = study_file(tmp_path, tiny_llama_dir, text_file)
    folder = tmp_path / "out"
    status, out, err = run("study", file, "-o", folder, "--json")
    assert status == 0, err
    made = json.loads(out)
    trials = pd.read_parquet(folder / "trials.parquet")
    assert list(trials.columns) == list(TRIAL_COLUMNS)
    assert len(trials) == 9
    assert Path(made["page"]) == (folder / "index.html").resolve()
    tables = {f"{name}.parquet" for name in ("trials", "layers", "machines")}
    others = {"index.html", "trials.csv", "machines.csv", "front.csv", "manifest.json"}
    assert {path.name for path in folder.iterdir()} == tables | others
    unsupported = trials[~trials["supported"]]
    assert set(unsupported["accelerator"]) == {"ant"}
    assert all(unsupported["reason"].str.contains("accelerator ant cannot run"))
    fp16 = trials[trials["recipe"] == "fp16"]
    assert (fp16["loss_delta"] == 0).all()
    assert (fp16["bits_per_weight"] == 16).all()

    def never(*_args, **_kwargs):
        raise AssertionError("measured again")

    monkeypatch.setattr("codesign.recipe_accuracy.quantize_model", never)
    monkeypatch.setattr("codesign.recipe_accuracy.reference", never)
    status, out, err = run("study", file, "-o", folder, "--json")
    assert status == 0, err
    again = pd.read_parquet(folder / "trials.parquet")
    pd.testing.assert_frame_equal(trials, again)
    status, out, err = run("report", folder)
    assert status == 0, err
    assert "bitmod3_g64" in out
    assert str(folder) in err.replace("\n", "")
    file.write_text(file.read_text().replace("name: tiny", "name: other"))
    assert refused("study", file, "-o", folder) == (
        f"the output folder {folder} must be new or of study 'other', not of study 'tiny'"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("bitmod3_g64", "bitmud3_g64"), "study.yaml: recipes: recipe must be"),
        (("ant]", "aunt]"), "study.yaml: accelerators: accelerator must be"),
        (("model: ", "model: no-"), "study.yaml: model: model must be"),
        (("evaluation: {text: ", "evaluation: {text: no-"), "study.yaml: evaluation: text must be"),
        (("calibration: {text: ", "calibration: {text: no-"), "study.yaml: calibration: text must be"),
        (("tokens: 256", "tokens: 100000"), None),
        (("context: 64", "contxt: 64"), "did you mean 'context'"),
        (
            ("256, context: 64", "9999, context: 9999"),
            "study.yaml: evaluation: context must be at most the 256 positions",
        ),
        (
            ("calibration: {text: ", "calibration: {text: short.txt, tokens: 128} # {"),
            "study.yaml: calibration: text short must be at least one window (context) of 64 tokens, not ",
        ),
        (("workload:", "objectives: [loss, recipe]\nworkload:"), "objectives of study tiny must be columns of numbers"),
    ],
)
def test_a_wrong_study_is_one_sentence(run, refused, tmp_path, tiny_llama_dir, text_file, monkeypatch, change, message):
    file = study_file(tmp_path, tiny_llama_dir, text_file)
    file.write_text(file.read_text().replace(*change))
    (tmp_path / "short.txt").write_text("too short")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "out"
    if message is None:
        status, _, err = run("study", file, "-o", folder)
        assert status == 0, "more tokens than the text has: all of it is used"
        texts = json.loads((folder / "manifest.json").read_text())["manifest"]["texts"]
        assert f"held_out holds {texts['evaluation']['tokens']} tokens, not 100000: all are taken" in err
        assert 0 < texts["evaluation"]["tokens"] < 100000 and texts["calibration"]["tokens"] == 128
        return
    assert message in refused("study", file, "-o", folder)
    assert not folder.exists()


def test_a_text_shorter_than_one_window_is_one_sentence(refused, tmp_path, tiny_llama_dir):
    short = tmp_path / "short.txt"
    short.write_text("too short")
    message = refused("evaluate", tiny_llama_dir, "--text", short, "--context", 64)
    assert "text short must be at least one window (context) of 64 tokens, not " in message
    enough = tmp_path / "enough.txt"
    enough.write_text("A cost model says what a layer costs. " * 60)
    more = ("-r", "awq_int4_g32", "-o", tmp_path / "out", "--calibration-text", enough)
    message = refused("quantize", tiny_llama_dir, *more, "--calibration-tokens", 9, "--context", 64)
    assert message == "tokens of text enough must be at least 64, one window (context), not 9"
    message = refused("quantize", tiny_llama_dir, *more, "--context", 257)
    assert message == f"context must be at most the 256 positions of {tiny_llama_dir.name}, not 257"
    assert message == refused("evaluate", tiny_llama_dir, "--text", enough, "--context", 257)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("estimate", "no-such-model"), "model must be a folder, a GGUF file or a known name, not 'no-such-model'"),
        (("estimate", "{model}", "-a", "bitmood"), "nearest: bitmod"),
        (("estimate", "{model}", "-r", "nf5_g64"), "recipe must be"),
        (("quantize", "{model}", "-r", "bitmod4_g64", "-o", "{file}"), "must be a folder, not a file"),
        (("evaluate", "no-such-model", "--text", "no-such-text"), "text must be a known name or a file"),
        (
            ("quantize", "no-such-model", "-r", "int4_g64", "-o", "{file}", "--calibration-text", "no-such-text"),
            "text must be a known name or a file",
        ),
        (
            ("evaluate", "{model}", "--text", "{text}", "--device", "abacus"),
            "device must be one that torch can use here",
        ),
        (("study", "{file}.yaml"), "must be a readable YAML file"),
        (("report", "{empty}"), "must be the folder of a finished study"),
        (("validate", "--rows", "{text}"), "column"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_mistake_is_one_sentence(refused, tmp_path, tiny_llama_dir, text_file, arguments, message):
    places = {"model": tiny_llama_dir, "file": tmp_path / "a_file", "text": text_file, "empty": tmp_path / "empty"}
    places["file"].write_text("taken")
    places["empty"].mkdir()
    assert message in refused(*(str(a).format(**places) for a in arguments))


def test_a_full_disk_is_one_sentence(refused, tmp_path, tiny_llama_dir, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device", str(tmp_path / "out"))

    monkeypatch.setattr("codesign.tensor_file.save_file", full)
    message = refused("quantize", tiny_llama_dir, "-r", "bitmod4_g64", "-o", tmp_path / "out")
    assert "00000.safetensors must be writable, with room on the disk" in message


def test_evaluation_follows_the_tokenizer_and_says_so(run, bos_dir, text_file):
    evaluation = ("evaluate", bos_dir, "--text", text_file, "--tokens", 256, "--context", 64, "--json")
    found = {}
    for option in (None, "--bos", "--no-bos"):
        status, out, err = run(*evaluation, *([option] if option else []))
        assert status == 0, err
        (found[option],) = json.loads(out)
    assert [made["bos"] for made in found.values()] == [True, True, False]
    assert found[None] == found["--bos"]
    assert found["--no-bos"]["loss_nats"] != found["--bos"]["loss_nats"]


def test_a_first_token_that_the_tokenizer_has_not_is_one_sentence(refused, tiny_llama_dir, text_file):
    message = refused("evaluate", tiny_llama_dir, "--text", text_file, "--bos")
    assert message == "the tokenizer must have a first token (bos_token) to put before windows, but it has none"


def test_help_starts_without_loading_a_model():
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-m", "codesign.cli", "--help"], cwd=ROOT, capture_output=True, text=True, env=environment,
        check=True,
    )  # fmt: skip
    for command in ("study", "quantize", "evaluate", "estimate", "report", "formats", "validate"):
        assert command in done.stdout


def test_an_interrupt_while_the_command_line_loads_leaves_no_traceback():
    interrupted = (  # a finder of modules that is interrupted when the command line is asked for
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'codesign.cli': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from codesign.__main__ import main\n"
    )
    done = subprocess.run([sys.executable, "-c", interrupted], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")  # 128 + SIGINT
    whole = subprocess.run(
        [sys.executable, "-m", "codesign", "formats", "nf9"], cwd=ROOT, capture_output=True, text=True
    )
    assert whole.returncode == 2 and whole.stderr.startswith("codesign: format must be one of the catalogue")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"codesign": "codesign.__main__:main"}


def test_an_interrupt_ends_with_its_status_wherever_it_strikes(tmp_path):
    """Python would end ``python -m`` by the signal after one inside code made as text, as dataclasses' methods are."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'codesign.cli_lists':\n"
        "            atexit.register(print, 'others end first', flush=True)\n"
        "            exec('raise KeyboardInterrupt')\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "codesign", "formats"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (130, "others end first\n")
    assert done.stderr == "codesign: interrupted; run the same command again to go on\n"


def test_an_interrupt_while_python_shuts_down_changes_no_status(tmp_path):
    """When Python's own handlers are gone, as modules are taken down, which takes torch a second."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Late:\n"
        "    def __del__(self, kill=os.kill, me=os.getpid(), stop=signal.SIGINT): kill(me, stop)\n"
        "sys.late = Late()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "codesign", "formats", "no-such"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("codesign: format must be one of the catalogue")


@pytest.mark.parametrize(
    ("arguments", "closed", "status"),
    [("formats e2m1", ">&-", 0), ("formats no-such", "2>&-", 2), ("estmate", "2>&-", 2)],
)
def test_a_closed_stream_is_no_mistake(arguments, closed, status):
    command = f"exec '{sys.executable}' -m codesign.cli {arguments} {closed}"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == status and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_version_is_that_of_the_project(run):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert run("--version")[1].strip() in (
        f"codesign {project['version']}", "codesign from a checkout that is not installed",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("estmate",), "No such command 'estmate'"),
        (("estimate", "--foo"), "No such option: --foo"),
        (("quantize",), "Missing argument 'model'"),
    ],
    ids=["command", "option", "missing argument"],
)
def test_wrong_usage_is_one_sentence(refused, arguments, message):
    assert message in refused(*arguments)


@pytest.mark.parametrize("arguments", [("study", "x.yaml", "--out", ""), ("report", ""), ("",)], ids=str)
def test_an_empty_argument_is_no_folder(refused, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    before = "codesign" if len(arguments) == 1 else arguments[-2]
    assert refused(*arguments) == f"arguments must not be empty, which the one after {before!r} is"
    assert not list(tmp_path.iterdir())


def test_an_interrupt_says_how_to_go_on(run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("codesign.cli_work.estimate", interrupted)
    status, out, err = run("estimate", "anything")
    assert (status, out) == (130, "")  # 128 + SIGINT
    assert " ".join(err.split()) == "codesign: interrupted; run the same command again to go on"
