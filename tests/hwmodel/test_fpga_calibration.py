"""Ratios of measured and estimated resources: made, kept, applied, refused."""

import json
import math

import pytest

from hwmodel.fpga import FpgaResources, device_by_name
from hwmodel.fpga_accelerator import estimate_on_fpga
from hwmodel.fpga_calibration import (
    FpgaCalibration,
    ResourceRatio,
    calibrate,
    calibrated,
    load_calibration,
    merged,
    save_calibration,
)
from hwmodel.presets import BITMOD
from hwmodel.report import ResourceReport

FAMILY = "UltraScale+"


def report(design, tool, **figures):
    return ResourceReport(design, "u250", tool, **figures)


PAIRS = [
    (report("a", "Vivado", luts=200, brams=3.0, dsps=0), report("a", "estimate", luts=100, brams=6.0, dsps=4)),
    (report("b", "Vivado", luts=50), report("b", "estimate", luts=100, flip_flops=10)),
]


def test_ratios_by_hand():
    luts, brams = calibrate(PAIRS, FAMILY)
    # ratios of 2 and 1/2: a geometric mean of 1, from which either is a factor of 2
    assert (luts.resource, luts.ratio, luts.spread) == ("luts", pytest.approx(1.0), pytest.approx(2.0))
    assert luts.designs == ("a", "b") and luts.tool == "Vivado"
    # one design says one half; no DSPs measured and no flip-flops stated say nothing
    assert (brams.resource, brams.ratio, brams.spread) == ("bram36", 0.5, 1.0)


def test_resources_are_corrected_one_by_one():
    made = FpgaCalibration(calibrate(PAIRS[:1], FAMILY), "mine.json")
    total, said = calibrated(FpgaResources(luts=10, flip_flops=5, bram36=8), made, FAMILY)
    assert total == FpgaResources(luts=20, flip_flops=5, bram36=4)
    assert said == (
        "calibrated by mine.json on UltraScale+: luts x 2.00 (spread 1.00, 1 designs), "
        "bram36 x 0.50 (spread 1.00, 1 designs)"
    )


def test_another_family_stays_as_it_is():
    made = FpgaCalibration(calibrate(PAIRS, FAMILY), "mine.json")
    before = FpgaResources(luts=10)
    assert calibrated(before, made, "Versal") == (before, "not calibrated: mine.json has no design of family Versal")


def test_an_accelerator_is_corrected_too():
    plain = estimate_on_fpga(BITMOD, device_by_name("u250"))
    made = FpgaCalibration((ResourceRatio(FAMILY, "luts", 2.0, 1.0, ("a",), "Vivado"),), "mine.json")
    corrected = estimate_on_fpga(BITMOD, device_by_name("u250"), calibration=made)
    assert corrected.budget.uses[0].used == pytest.approx(2 * plain.budget.uses[0].used)
    assert corrected.resources == plain.resources  # parts are as they were
    assert plain.calibration == "" and corrected.calibration.startswith("calibrated by mine.json")


def test_a_file_comes_back_as_it_was(tmp_path):
    made = FpgaCalibration(calibrate(PAIRS, FAMILY))
    path = tmp_path / "mine.json"
    save_calibration(made, path)
    assert load_calibration(path) == FpgaCalibration(made.ratios, "mine.json")
    assert [each.name for each in tmp_path.iterdir()] == ["mine.json"]


def test_new_ratios_replace_those_of_the_same_resource():
    old = FpgaCalibration(calibrate(PAIRS, FAMILY))
    (luts,) = calibrate([(report("c", "Vivado", luts=300), report("c", "estimate", luts=100))], FAMILY)
    ratios = merged(old, (luts,)).of(FAMILY)
    assert ratios["luts"].ratio == pytest.approx(3.0) and ratios["bram36"].ratio == 0.5


def test_reports_of_different_designs_are_not_compared():
    with pytest.raises(ValueError, match="must be of one design, not 'a' and 'b'"):
        calibrate([(PAIRS[0][0], PAIRS[1][1])], FAMILY)
    with pytest.raises(ValueError, match="one report for each design, not two of 'a'"):
        calibrate([PAIRS[0], PAIRS[0]], FAMILY)


def _content(**changes):
    ratio = {
        "family": FAMILY, "resource": "luts", "ratio": 1.5, "spread": 1.0, "designs": ["a"], "tool": "Vivado", **changes
    }  # fmt: skip
    return {"kind": "codesign fpga calibration", "version": 1, "ratios": [ratio]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "must be JSON"), ("[" * 100_000, "must be JSON"), ("[]", "must be of kind"),
        (json.dumps({**_content(), "version": 2}), "version 1"),
        (json.dumps({**_content(), "ratios": {}}), "must each have"),
        (json.dumps({**_content(), "ratios": [{"family": FAMILY}]}), "must each have"),
        (json.dumps(_content(resource="dreams")), "resource of a calibration must be one of luts"),
        (json.dumps(_content(ratio="2")), "ratio of a calibration must be 0.001 to 1000, not '2'"),
        (json.dumps(_content(ratio=0)), "ratio of a calibration must be 0.001 to 1000, not 0"),
        (json.dumps(_content(ratio=True)), "ratio of a calibration must be 0.001 to 1000, not True"),
        (json.dumps(_content(ratio=10**400)), "bad.json: ratio of a calibration must be 0.001 to 1000, not 1000"),
        (json.dumps(_content(spread=0.5)), "spread of a calibration must be 1 to 1000, not 0.5"),
        (json.dumps(_content(family=5)), "family of a calibration must be a text, not 5"),
        (json.dumps(_content(tool=["x"])), "tool of a calibration must be a text"),
        (json.dumps(_content(designs="abc")), "must be a list of names"),
        (json.dumps({**_content(), "ratios": 2 * _content()["ratios"]}), "one ratio of luts on UltraScale., not two"),
        (json.dumps(_content(ratio=math.nan)), "ratio of a calibration must be 0.001 to 1000, not nan"),
        (json.dumps(_content(designs=[])), "designs of a calibration must be named"),
        (json.dumps(_content(designs=3)), "must be a list of names"),
    ],
    ids=range(19),
)  # fmt: skip
def test_files_that_are_no_calibration_are_one_sentence(tmp_path, content, said):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=said) as refused:
        load_calibration(path)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="must be a file that codesign hls-report wrote"):
        load_calibration(tmp_path / "none.json")
