"""What Vitis HLS writes of an implementation by Vivado; other reports of Vivado are in ``test_vitis_report.py``."""

from pathlib import Path

import pytest

from hls.report_figures import same_part
from hls.vitis_report import read_report

# as the scripts of Vitis HLS 2020.2 to 2025.1 write it
EXPORT = """

Implementation tool: Xilinx Vivado v.2023.1
Project:             component
Solution:            hls
Device target:       xcu250-figd2104-2L-e
Report date:         Mon May 01 11:41:10 PDT 2023

#=== Post-Implementation Resource usage ===
SLICE:            0
LUT:          21000
FF:           26000
DSP:             18
BRAM:            15
URAM:             2
LATCH:            0
SRL:            476
CLB:           4314

#=== Final timing ===
CP required:                     3.333
CP achieved post-synthesis:      2.755
CP achieved post-implementation: 4.000
Timing not met
"""
NAME = "layer_fc_x0_export.rpt"


def written(folder: Path, text: str, name: str = NAME) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_an_implementation_by_vitis_is_that_of_the_function_in_its_name(tmp_path: Path) -> None:
    made = read_report(written(tmp_path, EXPORT))
    report = made.report
    assert (made.kind, made.period_s) == ("implementation", pytest.approx(3.333e-9))
    assert (report.design, report.target) == ("layer_fc_x0", "xcu250-figd2104-2L-e")
    # block RAMs of 18 kb are halves
    assert (report.luts, report.flip_flops, report.dsps, report.brams, report.urams) == (21000, 26000, 18, 7.5, 2)
    assert report.max_frequency_hz == pytest.approx(250e6)  # 4 ns
    assert report.tool == "Xilinx Vivado v.2023.1, after place and route"
    assert report.latency_cycles is None


def test_after_synthesis_alone_and_without_a_path(tmp_path: Path) -> None:
    text = EXPORT.replace("Post-Implementation", "Post-Synthesis").replace(
        "CP achieved post-implementation: 4.000\nTiming not met", "Timing met"
    )
    report = read_report(written(tmp_path, text)).report
    assert report.max_frequency_hz == pytest.approx(1 / 2.755e-9)
    assert report.tool == "Xilinx Vivado v.2023.1, after synthesis"
    without = read_report(written(tmp_path, text.replace("2.755", "NA").replace("URAM:             2\n", ""))).report
    assert without.max_frequency_hz is None and without.urams is None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("report.rpt", EXPORT, "must keep its name, <top function>_export.rpt, not 'report.rpt'"),
        ("_export.rpt", EXPORT, "must keep its name, <top function>_export.rpt, not '_export.rpt'"),
        (NAME, EXPORT.replace("21000", "lots"), "LUT in report .* must be a number, not 'lots'"),
        (NAME, EXPORT.replace("LUT: ", "ALM: "), "must have a line of LUTs"),
        (NAME, EXPORT.replace("4.000", "0.000"), "a clock period in report .* must be above 0"),
        (NAME, EXPORT.replace("4.000", "soon"), "CP achieved in report .* must be a number, not 'soon'"),
    ],
)
def test_what_is_no_such_report_is_one_sentence(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_report(written(tmp_path, text, name))


@pytest.mark.parametrize(
    ("stated", "same"),
    [
        ("xcu280-fsvh2892-2L-e", True),
        ("XCU280-FSVH2892-2L-E", True),
        ("xcu280fsvh2892-2L", True),  # report_utilization of Vivado 2020.2
        ("u280-fsvh2892", True),  # report_timing_summary, whose grades are in lines of their own
        ("xcu280-fsvh2892-2-e", False),
        ("xcu280-fsvh2892-2L-i", False),
        ("xcu55c-fsvh2892-2L-e", False),  # another die in the same package
        ("xcu280-fsvh2104-2L-e", False),
        ("xcu280", False),
        ("xcu28", False),
    ],
)
def test_a_part_is_the_same_however_reports_write_it(stated, same):
    part = "xcu280-fsvh2892-2L-e"
    assert same_part(part, stated) is same
    assert same_part(stated, part) is same
