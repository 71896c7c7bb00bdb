"""What ``codesign csim`` says of results that are stood in for; ``test_cli_export`` compiles and runs an export."""

import json

import pytest

from codesign import cli_csim
from hls.csim import Export, LayerResult, Mismatch

# one row off by the lowest bit of an FP32 one (0x3F800000); one whose weights' format was chosen at run time
SUM = Mismatch("a.one", 2, 5, 0x3F800000, 0x3F800001, "fp32")
CODE = Mismatch("b.two", 0, 7, 3, 9, "codes", format="int6")
RIGHT = LayerResult("a.one", 96, 0, (), compile_s=1.25, run_s=0.5)
WRONG = LayerResult("a.one", 96, 4, (SUM,), compile_s=1.25, run_s=0.5)
CHOSEN = LayerResult("b.two", 32, 1, (CODE,), compile_s=None, run_s=0.25)


@pytest.fixture
def simulated(monkeypatch, tmp_path, run):
    """A function: the command line over these results of an export; what its simulation was asked for comes last."""

    def simulated(results, *arguments, edited=()):
        asked = {}
        export = Export(tmp_path, tuple({"name": result.layer} for result in results), {})

        def simulate(given, *, finished, **options):
            asked.update(options, same=given is export)
            for done, result in enumerate(results, start=1):
                finished(result, done, len(results))
            return list(results)

        monkeypatch.setattr(cli_csim, "open_export", lambda folder, layers: asked.update(layers=list(layers)) or export)
        monkeypatch.setattr(cli_csim, "edited_sources", lambda given: list(edited))
        monkeypatch.setattr(cli_csim, "simulate", simulate)
        return *run("csim", tmp_path, *arguments), asked

    return simulated


def test_equal_outputs_are_counted_and_end_well(simulated):
    status, out, err, _ = simulated([RIGHT, LayerResult("b.two", 4, 0, (), None, 0.25)])
    assert status == 0
    assert err.splitlines() == [
        "1 of 2: a.one, 96 outputs as expected",
        "2 of 2: b.two, 4 outputs as expected",
        "all 100 outputs are as expected",
    ]
    assert "C simulation" in out and "a.one" in out and "b.two" in out and "1.25" in out


def test_different_outputs_are_named_and_end_with_one(simulated):
    status, out, err, _ = simulated([WRONG, CHOSEN])
    assert status == 1
    assert err.splitlines() == [
        "1 of 2: a.one, 4 of 96 outputs differ",
        "2 of 2: b.two, 1 of 32 outputs differ",
        "layer a.one, row 5, token 2: expected 1.0 (0x3f800000), found 1.0000001192092896 (0x3f800001)",
        "layer b.two, format int6, row 7, token 0: expected 3 (0x3), found 9 (0x9)",
        "5 of 128 outputs differ",
    ]
    assert "a.one" in out


def test_one_wrong_layer_among_right_ones_is_enough(simulated):
    status, _, err, _ = simulated([RIGHT, CHOSEN])
    assert status == 1 and err.splitlines()[-1] == "1 of 128 outputs differ"
    status, out, _, _ = simulated([RIGHT, CHOSEN], "--json")
    assert status == 1 and json.loads(out)["equal"] is False


def test_json_has_bits_and_values_and_nothing_beside_it(simulated):
    status, out, err, _ = simulated([WRONG, CHOSEN], "--json")
    one, two = json.loads(out)["layers"]
    assert status == 1 and err == ""
    assert {key: one[key] for key in one if key != "first"} == {
        "layer": "a.one", "outputs": 96, "mismatches": 4, "compile_s": 1.25, "run_s": 0.5,
    }  # fmt: skip
    assert one["first"] == [
        {"row": 5, "token": 2, "expected": 1.0, "found": 1 + 2**-23, "expected_bits": 0x3F800000,
         "found_bits": 0x3F800001},
    ]  # fmt: skip
    assert two["compile_s"] is None
    assert two["first"] == [
        {"row": 7, "token": 0, "expected": 3, "found": 9, "expected_bits": 3, "found_bits": 9, "format": "int6"}
    ]
    status, out, _, _ = simulated([RIGHT], "--json")
    assert status == 0 and json.loads(out) == {
        "layers": [{"layer": "a.one", "outputs": 96, "mismatches": 0, "compile_s": 1.25, "run_s": 0.5, "first": []}],
        "equal": True,
    }


def test_options_reach_the_simulation_and_edited_files_are_named(simulated, tmp_path):
    _, _, err, asked = simulated(
        [RIGHT], "-l", "a.*", "-l", "b", "--workers", 1, "--mismatches", 3, "--ap-types", tmp_path,
        edited=["layers/a/config.h"],
    )  # fmt: skip
    assert asked == {"layers": ["a.*", "b"], "same": True, "workers": 1, "most": 3, "ap_types": tmp_path}
    assert err.startswith("layers/a/config.h was edited after its export: simulated as it is now\n")
