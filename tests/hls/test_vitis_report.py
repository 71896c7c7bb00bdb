"""Reports of Vitis HLS and Vivado: files written after the public formats, whole, partial, broken and hostile."""

import pytest

from hls.vitis_report import MAX_BYTES, read_report
from hls.vivado_report import parse_timing

CSYNTH = """<profile>
    <ReportVersion>
        <Version>2023.2</Version>
    </ReportVersion>
    <UserAssignments>
        <unit>ns</unit>
        <ProductFamily>virtexuplus</ProductFamily>
        <Part>xcu250-figd2104-2L-e</Part>
        <TopModelName>layer_fc_x0</TopModelName>
        <TargetClockPeriod>3.33</TargetClockPeriod>
        <FlowTarget>vitis</FlowTarget>
    </UserAssignments>
    <PerformanceEstimates>
        <PipelineType>no</PipelineType>
        <SummaryOfTimingAnalysis>
            <unit>ns</unit>
            <EstimatedClockPeriod>2.500</EstimatedClockPeriod>
        </SummaryOfTimingAnalysis>
        <SummaryOfOverallLatency>
            <unit>clock cycles</unit>
            <Best-caseLatency>1200</Best-caseLatency>
            <Worst-caseLatency>4800</Worst-caseLatency>
            <Interval-min>1100</Interval-min>
            <Interval-max>4700</Interval-max>
        </SummaryOfOverallLatency>
    </PerformanceEstimates>
    <AreaEstimates>
        <Resources>
            <BRAM_18K>15</BRAM_18K>
            <DSP>20</DSP>
            <FF>30000</FF>
            <LUT>40000</LUT>
            <URAM>2</URAM>
        </Resources>
        <AvailableResources>
            <BRAM_18K>5376</BRAM_18K>
            <DSP>12288</DSP>
            <FF>3456000</FF>
            <LUT>1728000</LUT>
            <URAM>1280</URAM>
        </AvailableResources>
    </AreaEstimates>
</profile>
"""
HEADER = """Copyright 1986-2022 Xilinx, Inc. All Rights Reserved. Copyright 2022-2023 Advanced Micro Devices, Inc.
----------------------------------------------------------------------------------
| Tool Version : Vivado v.2023.2 (lin64) Build 4029153 Fri Oct 13 20:13:54 MDT 2023
| Command      : report_utilization -file fc.rpt
| Design       : layer_fc_x0
| Device       : xcu250-figd2104-2L-e
| Design State : Routed
----------------------------------------------------------------------------------

"""
UTILIZATION = f"""{HEADER}
1. CLB Logic
------------

+----------------------------+-------+-------+------------+-----------+-------+
|          Site Type         |  Used | Fixed | Prohibited | Available | Util% |
+----------------------------+-------+-------+------------+-----------+-------+
| CLB LUTs                   | 21000 |     0 |          0 |   1728000 |  1.22 |
|   LUT as Logic             | 19000 |     0 |          0 |   1728000 |  1.10 |
|   LUT as Memory            |  2000 |     0 |          0 |    791040 |  0.25 |
| CLB Registers              | 26000 |     0 |          0 |   3456000 |  0.75 |
|   Register as Flip Flop    | 26000 |     0 |          0 |   3456000 |  0.75 |
+----------------------------+-------+-------+------------+-----------+-------+

3. BLOCKRAM
-----------

+-------------------+------+-------+------------+-----------+-------+
|     Site Type     | Used | Fixed | Prohibited | Available | Util% |
+-------------------+------+-------+------------+-----------+-------+
| Block RAM Tile    |  7.5 |     0 |          0 |      2688 |  0.28 |
|   RAMB36/FIFO*    |    7 |     0 |          0 |      2688 |  0.26 |
| URAM              |    2 |     0 |          0 |      1280 |  0.16 |
+-------------------+------+-------+------------+-----------+-------+

4. ARITHMETIC
-------------

+-----------+------+-------+------------+-----------+-------+
| Site Type | Used | Fixed | Prohibited | Available | Util% |
+-----------+------+-------+------------+-----------+-------+
| DSPs      |   18 |     0 |          0 |     12288 |  0.15 |
+-----------+------+-------+------------+-----------+-------+
"""
TIMING = f"""{HEADER}
------------------------------------------------------------------------------------------------
| Design Timing Summary
| ---------------------
------------------------------------------------------------------------------------------------

    WNS(ns)      TNS(ns)  TNS Failing Endpoints  TNS Total Endpoints      WHS(ns)      THS(ns)
    -------      -------  ---------------------  -------------------      -------      -------
     -0.667      -12.000                     40               124537        0.010        0.000


------------------------------------------------------------------------------------------------
| Clock Summary
| -------------
------------------------------------------------------------------------------------------------

Clock   Waveform(ns)         Period(ns)      Frequency(MHz)
-----   ------------         ----------      --------------
ap_clk  {{0.000 1.667}}        3.333           300.030
"""


def written(tmp_path, text, name="report"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_csynth(tmp_path):
    made = read_report(written(tmp_path, CSYNTH))
    report = made.report
    assert (made.kind, made.period_s) == ("csynth", pytest.approx(3.33e-9))
    assert (report.design, report.target) == ("layer_fc_x0", "xcu250-figd2104-2L-e")
    assert (report.luts, report.flip_flops, report.dsps, report.brams, report.urams) == (40000, 30000, 20, 7.5, 2)
    assert (report.latency_cycles, report.interval_cycles) == (4800, 4700)
    assert report.max_frequency_hz == pytest.approx(400e6)  # 2.5 ns
    assert report.tool == "Vitis HLS 2023.2, before place and route"


def test_what_csynth_does_not_know_is_absent(tmp_path):
    text = CSYNTH.replace("<Worst-caseLatency>4800<", "<Worst-caseLatency>undef<").replace("<URAM>2</URAM>", "", 1)
    report = read_report(written(tmp_path, text)).report
    assert report.latency_cycles is None and report.urams is None and report.luts == 40000


def test_more_cycles_than_any_device_has_sites(tmp_path):
    # 2**32 iterations, which a tool assumes where it knows no bound
    text = CSYNTH.replace("4800", "4294967300").replace("4700", "4294967200")
    report = read_report(written(tmp_path, text)).report
    assert (report.latency_cycles, report.interval_cycles) == (4294967300, 4294967200)
    cosim = read_report(written(tmp_path, COSIM.replace("4800", "4294967300"), "layer_fc_x0_cosim.rpt"))
    assert cosim.report.latency_cycles == 4294967300


def test_older_reports_count_dsps_by_another_name(tmp_path):
    text = CSYNTH.replace("<DSP>20</DSP>", "<DSP48E>20</DSP48E>", 1)
    assert read_report(written(tmp_path, text)).report.dsps == 20


def test_a_byte_order_mark_is_no_part_of_a_report(tmp_path):
    assert read_report(written(tmp_path, b"\xef\xbb\xbf" + CSYNTH.encode())).report.luts == 40000


def test_utilization(tmp_path):
    report = read_report(written(tmp_path, UTILIZATION)).report
    assert (report.luts, report.flip_flops, report.dsps, report.brams, report.urams) == (21000, 26000, 18, 7.5, 2)
    assert (report.design, report.target, report.tool) == ("layer_fc_x0", "xcu250-figd2104-2L-e", "Vivado v.2023.2")
    assert report.max_frequency_hz is None


def test_utilization_of_7_series_and_after_synthesis(tmp_path):
    text = UTILIZATION.replace("CLB LUTs    ", "Slice LUTs* ").replace("CLB Registers  ", "Slice Registers")
    report = read_report(written(tmp_path, text)).report
    assert (report.luts, report.flip_flops) == (21000, 26000)


def test_timing_gives_the_frequency_that_the_slack_leaves(tmp_path):
    made = read_report(written(tmp_path, TIMING))
    assert made.kind == "timing" and made.slack_s == pytest.approx(-0.667e-9)
    assert made.report.max_frequency_hz == pytest.approx(250e6)  # 3.333 + 0.667 = 4 ns
    assert made.report.design == "layer_fc_x0"


def test_a_timing_summary_without_its_clock_needs_one(tmp_path):
    text = TIMING.split("| Clock Summary")[0]
    with pytest.raises(ValueError, match="must have one clock, not 0"):
        read_report(written(tmp_path, text))
    made = read_report(written(tmp_path, text), clock_hz=1 / 3.333e-9)
    assert made.report.max_frequency_hz == pytest.approx(250e6)


# As AMD UG1399 shows it ("Analyzing RTL Simulations"): a row a language, largest figures third and sixth.
COSIM = """
Report time       : Fri Mar 15 10:12:28 CET 2024.
Solution          : hls.
Simulation tool   : xsim.

+----------+----------+-----------------------------------------------+-----------------------------------------------+----------+
|          |          |             Latency(Clock Cycles)             |             Interval(Clock Cycles)            | Total    |
+   RTL    +  Status  +-----------------------------------------------+-----------------------------------------------+ Execution|
|          |          |      min      |      avg      |      max      |      min      |      avg      |      max      |   Time   |
+----------+----------+-----------------------------------------------+-----------------------------------------------+----------+
|      VHDL|        NA|             NA|             NA|             NA|             NA|             NA|             NA|        NA|
|   Verilog|      Pass|           1210|           3005|           4800|           1215|           1215|           1215|      6015|
+----------+----------+-----------------------------------------------+-----------------------------------------------+----------+
"""  # noqa: E501 - as wide as it is


def test_cosim_has_the_cycles_of_the_longest_call(tmp_path):
    made = read_report(written(tmp_path, COSIM, "layer_fc_x0_cosim.rpt"))
    assert made.kind == "cosim" and made.report.design == "layer_fc_x0" and made.report.luts is None
    assert (made.report.latency_cycles, made.report.interval_cycles) == (4800, 1215)
    single = COSIM.replace(
        "           1215|           1215|           1215|", "             NA|             NA|             NA|"
    )
    assert read_report(written(tmp_path, single, "layer_fc_x0_cosim.rpt")).report.interval_cycles is None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("report.rpt", COSIM, r"must keep its name, <top function>_cosim.rpt, not 'report.rpt'"),
        ("_cosim.rpt", COSIM, r"must keep its name, <top function>_cosim.rpt, not '_cosim.rpt'"),
        ("a_cosim.rpt", COSIM.replace("Pass", "Fail"), "must have a row of Verilog or VHDL that passed"),
        ("a_cosim.rpt", COSIM.replace("4800", "lots"), "the largest latency in report .* must be a number, not 'lots'"),
        ("a_cosim.rpt", COSIM.split("|   Verilog")[0], "must have a row of Verilog or VHDL that passed"),
    ],
)
def test_what_is_no_cosim_report_is_one_sentence(tmp_path, name, text, said):
    with pytest.raises(ValueError, match=said):
        read_report(written(tmp_path, text, name))


# --- broken and hostile ----------------------------------------------------------------------------------------------

BOMB = """<?xml version="1.0"?>
<!DOCTYPE profile [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;">]>
<profile><AreaEstimates><Resources><LUT>&c;</LUT></Resources></AreaEstimates></profile>
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "without a document type"),
        ('<!DOCTYPE profile SYSTEM "file:///etc/passwd"><profile/>', "without a document type"),
        ('<!doctype profile [<!entity x SYSTEM "http://a/">]><profile>&x;</profile>', "without a document type"),
        (CSYNTH.encode("utf-16"), "must be a csynth.xml, a utilization report, a timing summary, a co-simulation"),
        (CSYNTH.replace("2023.2", "2023\x00.2"), "without a document type"),
        (CSYNTH[:900], "must be XML as Vitis HLS writes it"),
        ("<profile>&unknown;</profile>", "must be XML as Vitis HLS writes it"),
        ("<a>" * 5000, "more than 64 elements in one another"),
        ("<html><body/></html>", "must be a csynth.xml, with resources"),
        ("<profile><AreaEstimates/></profile>", "must be a csynth.xml, with resources"),
        (CSYNTH.replace("<TopModelName>layer_fc_x0</TopModelName>", ""), "must name its top function"),
        (CSYNTH.replace(">40000<", ">many<"), "LUT in report .* must be a number, not 'many'"),
        (CSYNTH.replace(">40000<", ">-1<"), "LUT in report .* must be a whole number of 0 to 1,000,000,000, not '-1'"),
        (CSYNTH.replace(">40000<", ">2000000000<"), "LUT in report .* must be a whole number of 0 to 1,000,000,000"),
        (CSYNTH.replace(">40000<", ">1e9<"), "LUT in report .* must be a number, not '1e9'"),
        (CSYNTH.replace(">40000<", f">{'9' * 400}<"), "LUT in report .* must be a number"),
        (CSYNTH.replace(">40000<", ">nan<"), "LUT in report .* must be a number, not 'nan'"),
        (CSYNTH.replace(">2.500<", ">0<"), "a clock period in report .* must be above 0"),
        ("", "and is none of them"),
        (b"\x7fELF\x02\x01\x01", "and is none of them"),
        ("| Site Type | Used |\n", "must have a row of CLB LUTs"),
        (UTILIZATION.replace("21000", "lots"), "CLB LUTs in report .* must be a number, not 'lots'"),
        (UTILIZATION.replace("| Design       :", "| Thing        :"), "must name its design"),
        (TIMING.replace("     -0.667", "         NA"), "must state a worst slack"),
        (TIMING.replace("-0.667", "-4.000").replace("3.333", "-3.33"), "must have one clock, not 0"),
        (TIMING.replace("-0.667", " 4.000"), "a clock period in report .* must be above 0"),
        (TIMING.replace("WNS(ns)", "slack"), "with a row of slacks"),
    ],
)  # fmt: skip
def test_what_is_no_report_is_one_sentence(tmp_path, text, said):
    with pytest.raises(ValueError, match=said) as refused:
        read_report(written(tmp_path, text))
    assert "\n" not in str(refused.value)


def test_no_file_and_too_large_a_file(tmp_path):
    with pytest.raises(ValueError, match="a report must be a file"):
        read_report(tmp_path)
    path = tmp_path / "huge.xml"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse
    with pytest.raises(ValueError, match="must be at most 64 MiB"):
        read_report(path)


def test_two_clocks_are_not_guessed_between():
    text = TIMING + "other  {0.000 5.000}        10.000          100.000\n"
    with pytest.raises(ValueError, match="must have one clock, not 2"):
        parse_timing(text, "x")
