"""What the commands on ground truth give to their work, and which options do not belong together."""

from pathlib import Path

from codesign.commands_truth import MOST_TOKENS
from kernels_gpu.gemv_launch import MAX_TOKENS


def test_the_most_tokens_are_those_of_the_kernel(given, refused):
    assert MOST_TOKENS == MAX_TOKENS
    assert given("cli_bench.bench", "bench", "-o", "a.json", "--tokens", MAX_TOKENS)["tokens"] == [MAX_TOKENS]
    assert "--tokens" in refused("bench", "-o", "a.json", "--tokens", MAX_TOKENS + 1)


def test_every_option_of_bench_arrives(given):
    found = given(
        "cli_bench.bench", "bench", "-o", "a.json", "-r", "int8", "-r", "nf4_g64", "--shape", "64x256", "--shape",
        "8x8", "--tokens", 1, "--tokens", 4, "--no-others", "--json",
    )  # fmt: skip
    assert found == {
        "out": Path("a.json"), "recipe": ["int8", "nf4_g64"], "shape": ["64x256", "8x8"], "tokens": [1, 4],
        "others": False, "as_json": True,
    }  # fmt: skip
    plain = given("cli_bench.bench", "bench", "-o", "a.json")
    assert (plain["recipe"], plain["shape"], plain["tokens"], plain["others"]) == (None, (), [1], True)


def test_figures_are_of_simulators_or_of_kernels(given, tmp_path):
    found = given("cli_validate.validate", "validate", "--rows", "mine.csv", "--details", "--json")
    assert list(found.values()) == [Path("mine.csv"), True, True]
    page = tmp_path / "page.html"
    found = given("cli_validate_gpu.validate_gpu", "validate", "--gpu", "a.json", "b.json", "--page", page)
    assert (found["page"], found["every"], found["as_json"]) == (page, False, False)
    assert (Path("a.json"), Path("b.json")) in found.values()


def test_options_of_the_two_do_not_mix(refused, tmp_path):
    assert refused("validate", "--gpu", "--rows", "x.csv").startswith("rows must be left out with --gpu")
    for arguments in (("x.json",), ("--page", tmp_path / "page.html")):
        assert refused("validate", *arguments) == "measured files and --page must come with --gpu"


def test_a_page_that_cannot_be_written_is_said_before_anything_is_compared(refused, tmp_path):
    assert "must be a file, not a folder" in refused("validate", "--gpu", "--page", tmp_path)
