"""What the commands on a model's weights give to their work."""

from pathlib import Path


def test_a_study_goes_to_its_folder(given):
    found = given("cli_work.study", "study", "a.yaml", "-o", "there", "--device", "cuda", "--json")
    assert found == {"file": Path("a.yaml"), "out": Path("there"), "device": "cuda", "as_json": True}
    assert given("cli_work.study", "study", "a.yaml")["out"] == Path("results")


def test_a_report_is_of_a_folder(given):
    assert given("cli_report.report", "report", "there") == {"folder": Path("there"), "as_json": False}


def test_every_option_of_quantize_arrives(given):
    found = given(
        "cli_work.quantize", "quantize", "model", "-r", "int8_channel", "-o", "there", "--calibration-text", "a.txt",
        "--calibration-tokens", 64, "--context", 32, "--no-sequential", "--device", "cuda", "--json",
    )  # fmt: skip
    assert found == {
        "model": "model", "recipe_name": "int8_channel", "out": Path("there"), "calibration_text": "a.txt",
        "calibration_tokens": 64, "context": 32, "sequential": False, "device": "cuda", "as_json": True,
    }  # fmt: skip
    assert given("cli_work.quantize", "quantize", "model", "-r", "fp16", "-o", "there")["sequential"] is True


def test_every_option_of_evaluate_arrives(given):
    found = given(
        "cli_work.evaluate", "evaluate", "model", "--text", "a.txt", "--tokens", 64, "--context", 32, "--task", "piqa",
        "--task", "boolq", "--limit", 5, "--no-bos", "--device", "cuda", "--json",
    )  # fmt: skip
    assert found == {
        "model": "model", "text": "a.txt", "tokens": 64, "context": 32, "tasks": ("piqa", "boolq"), "limit": 5,
        "bos": False, "device": "cuda", "as_json": True,
    }  # fmt: skip
    plain = given("cli_work.evaluate", "evaluate", "model")
    assert (plain["tasks"], plain["limit"], plain["bos"]) == ((), None, None)  # the tokenizer says whether


def test_counts_of_bits_go_to_a_file(given):
    found = given("cli_bits.bits", "bits", "model", "-r", "int4_g128", "-o", "a.json", "--layers", "--json")
    assert found == {
        "model": "model", "recipe_name": "int4_g128", "out": Path("a.json"), "every_layer": True, "as_json": True,
    }  # fmt: skip
