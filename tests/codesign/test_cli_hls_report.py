"""``codesign hls-report``: reports beside estimates, and the calibration that export and fpga apply."""

import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from codesign.cli_hls_report import joined  # noqa: E402
from datatypes.catalog import FP16, INTS, INTS_SYMMETRIC  # noqa: E402
from datatypes.granularity import PerChannel, PerGroup  # noqa: E402
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig  # noqa: E402
from datatypes.quantize import quantize_tensor  # noqa: E402
from datatypes.quantized_layer import QuantizedLayer  # noqa: E402
from hls.export import ExportLayer, ExportTarget, export_layers, seeded_input  # noqa: E402
from hls.layer_options import LayerOptions  # noqa: E402
from hls.report_figures import ParsedReport  # noqa: E402
from hwmodel.fpga import DEVICES  # noqa: E402
from hwmodel.report import ResourceReport  # noqa: E402

N, K, TOKENS = 10, 70, 2
DESIGN = "layer_model_q_x1"
REPORT = """<profile><ReportVersion><Version>2023.2</Version></ReportVersion>
<UserAssignments><Part>xcu250-figd2104-2L-e</Part><TopModelName>{design}</TopModelName></UserAssignments>
<PerformanceEstimates><SummaryOfOverallLatency><Worst-caseLatency>{cycles}</Worst-caseLatency></SummaryOfOverallLatency>
</PerformanceEstimates><AreaEstimates><Resources><LUT>{luts}</LUT><FF>{ffs}</FF></Resources></AreaEstimates></profile>
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An export of one layer, and its estimate."""
    weight = TensorConfig((INTS[4],), PerGroup(32))
    config = LayerConfig(
        weight=weight, activation=TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), ScaleConfig(FP16), dynamic=True)
    )
    values = torch.randn(N, K, generator=torch.Generator().manual_seed(0))
    layer = QuantizedLayer(config, quantize_tensor(values, weight), (N, K))
    folder = tmp_path_factory.mktemp("export") / "out"
    item = ExportLayer("model.q", layer, seeded_input("model.q", (TOKENS, K), 0), np.ones(N, np.float32))
    target = ExportTarget(DEVICES["u250"], 300.0, LayerOptions(tokens=TOKENS, lanes=8, tile_rows=4))
    manifest = export_layers(folder, [item], target, {"model": "m", "recipe": "r"})
    return folder, manifest["layers"][0]["estimate"]


def written(tmp_path, estimate, factor=2.0, design=DESIGN):
    path = tmp_path / "csynth.xml"
    taken = estimate["resources"]
    path.write_text(
        REPORT.format(
            design=design, luts=round(taken["luts"] * factor), ffs=round(taken["flip_flops"]),
            cycles=estimate["cycles"]["latency"] + 1,
        )
    )  # fmt: skip
    return path


def test_a_report_alone_is_shown(exported, tmp_path, run):
    code, out, _ = run("hls-report", written(tmp_path, exported[1]), "--json")
    (row,) = json.loads(out)
    assert code == 0 and row["design"] == DESIGN and row["tool"].startswith("Vitis HLS 2023.2")


def test_measured_over_estimated_becomes_a_calibration_that_commands_apply(exported, tmp_path, run):
    folder, estimate = exported
    file = tmp_path / "mine.json"
    code, out, _ = run("hls-report", written(tmp_path, estimate), "--export", folder, "--calibration", file, "--json")
    made = json.loads(out)
    assert code == 0 and made["family"] == "UltraScale+"
    assert {ratio["resource"]: round(ratio["ratio"], 3) for ratio in made["ratios"]} == {"luts": 2.0, "flip_flops": 1.0}
    figures = {row["figure"]: row for row in made["figures"]}
    assert figures["latency_cycles"]["measured"] == estimate["cycles"]["latency"] + 1
    # and back into an estimate
    code, out, _ = run("fpga", "-a", "bitmod", "--json")
    plain = {use["resource"]: use["used"] for use in json.loads(out)["budget"]}
    code, out, _ = run("fpga", "-a", "bitmod", "--calibration", file, "--json")
    corrected = json.loads(out)
    used = {use["resource"]: use["used"] for use in corrected["budget"]}
    assert used["luts"] == pytest.approx(2 * plain["luts"], rel=1e-3)
    assert corrected["calibration"].startswith("calibrated by mine.json on UltraScale+: ")
    assert "luts x 2.00 (spread 1.00, 1 designs)" in corrected["calibration"]


def test_reports_are_found_where_make_synth_leaves_them(exported, tmp_path, run):
    folder, estimate = exported
    place = folder / "build" / DESIGN / "vitis" / "hls" / "syn" / "report"
    place.mkdir(parents=True)
    written(place, estimate, 0.5)
    code, out, err = run("hls-report", "--export", folder)
    assert code == 0 and DESIGN in out and "luts on UltraScale+: 0.50 of the estimate" in err
    # cycles of a co-simulation take the place of what csynth.xml says, or does not know
    report = folder / "build" / DESIGN / "vitis" / "hls" / "sim" / "report"
    report.mkdir(parents=True)
    latency = 3 * estimate["cycles"]["latency"]
    figures = " | ".join(["1", "1", str(latency), "NA", "NA", "NA"])
    text = f"| RTL | Status | Latency(Clock Cycles) |\n| Verilog | Pass | {figures} | {latency} |\n"
    (report / f"{DESIGN}_cosim.rpt").write_text(text)
    code, out, _ = run("hls-report", "--export", folder, "--json")
    cycles = [row for row in json.loads(out)["figures"] if row["figure"] == "latency_cycles"]
    assert code == 0 and [(row["measured"], row["ratio"]) for row in cycles] == [(latency, 3.0)]
    # and sites after place and route that of those before
    place = folder / "build" / DESIGN / "vitis" / "hls" / "impl" / "report" / "verilog"
    place.mkdir(parents=True)
    luts = 2 * round(estimate["resources"]["luts"])
    (place / f"{DESIGN}_export.rpt").write_text(f"#=== Post-Implementation Resource usage ===\nLUT: {luts}\n")
    code, _, err = run("hls-report", "--export", folder)
    assert code == 0 and "luts on UltraScale+: 2.00 of the estimate" in err


def parsed(kind, tool, design="a", **figures):
    return ParsedReport(kind, ResourceReport(design, "part", tool, **figures))


CSYNTH = parsed("csynth", "Vitis 1", luts=10, urams=1, latency_cycles=5, max_frequency_hz=3e8)
COSIM, TIMING = parsed("cosim", "co-simulation", latency_cycles=6), parsed("timing", "Vivado 2", max_frequency_hz=2e8)
ROUTED = parsed("utilization", "Vivado 2", luts=8, flip_flops=9)


@pytest.mark.parametrize(
    ("reports", "tool"),
    [
        ([CSYNTH], "Vitis 1"),
        ([COSIM, CSYNTH], "Vitis 1; cycles: co-simulation"),
        ([TIMING, CSYNTH], "Vitis 1; clock: Vivado 2"),
        ([CSYNTH, COSIM, ROUTED, TIMING], "Vivado 2 and Vitis 1; cycles: co-simulation; clock: Vivado 2"),
        ([COSIM, TIMING], "cycles: co-simulation; clock: Vivado 2"),
    ],
)
def test_joined_reports_say_which_tool_each_figure_is_from(reports, tool):
    (made,) = joined(reports)
    assert made.tool == tool
    assert made.luts == (8 if ROUTED in reports else 10 if CSYNTH in reports else None)
    assert made.latency_cycles == (6 if COSIM in reports else 5)
    assert made.urams == (1 if CSYNTH in reports else None)


def test_two_reports_of_a_kind_are_not_chosen_between():
    other = parsed("csynth", "Vitis 1", "b", luts=4)
    assert [report.design for report in joined([CSYNTH, other])] == ["a", "b"]
    with pytest.raises(ValueError, match="reports of a must be one of each kind, not two of kind csynth"):
        joined([CSYNTH, other, parsed("csynth", "Vitis 2", luts=11)])


def test_mistakes_are_one_sentence(exported, tmp_path, run):
    folder, estimate = exported
    strange = written(tmp_path, estimate, design="somebody_else")
    for arguments, said in (
        ((), "a report or an export must be named"),
        ((strange, "--export", folder), "a report must be of a layer"),
        ((strange, "--calibration", tmp_path / "x.json"), "calibration needs the export"),
        ((tmp_path / "none.xml",), "a report must be a file"),
        ((strange, "--clock", "0"), "clock must be above 0"),
        ((strange, "--export", tmp_path), "must be a folder that codesign export wrote"),
    ):
        code, _, err = run("hls-report", *arguments)
        assert code == 2, arguments
        assert said in " ".join(err.split()), (arguments, err)
    assert not (tmp_path / "x.json").exists()
    code, _, err = run("fpga", "-a", "bitmod", "--calibration", strange)
    assert code == 2 and "must be JSON" in " ".join(err.split())


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("estimate", "resources", "luts"), None, "the estimate of layer model.q must be as codesign export wrote it"),
        (("estimate", "resources", "luts"), "many", "which it is not (TypeError: "),
        (("estimate", "resources"), {}, "which it is not (KeyError: 'luts'): export it again"),
        (("estimate", "cycles"), [1], "the estimate of layer model.q must be as codesign export wrote it"),
        (("estimate", "cycles", "latency"), -1, "the estimate of layer model.q must be as codesign export wrote it"),
        (("estimate",), "none", "layer model.q must have an estimate in its manifest: export it again"),
        (None, {"part": "x"}, "must be an object with a name and a part, not {'part': 'x'}"),
        (None, {"name": "u250"}, "must be an object with a name and a part, not {'name': 'u250'}"),
        (None, None, "must be an object with a name and a part, not None"),
        (None, "", "must be an object with a name and a part, not None"),  # left out
    ],
)  # fmt: skip
def test_a_broken_manifest_is_one_sentence(exported, tmp_path, refused, place, value, message):
    folder, estimate = exported
    report = written(tmp_path, estimate)
    broken = shutil.copytree(folder, tmp_path / "broken")
    manifest = json.loads((broken / "manifest.json").read_text())
    at, place = (manifest, ("device",)) if place is None else (manifest["layers"][0], place)
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    if value == "":
        del at[place[-1]]
    (broken / "manifest.json").write_text(json.dumps(manifest))
    calibration = tmp_path / "mine.json"
    assert message in refused("hls-report", report, "--export", broken, "--calibration", calibration)
    assert not calibration.exists()


def test_a_report_of_another_part_corrects_nothing(exported, tmp_path, refused, run):
    folder, estimate = exported
    calibration = tmp_path / "mine.json"
    assert run("hls-report", written(tmp_path, estimate), "--export", folder, "--calibration", calibration)[0] == 0
    before = calibration.read_bytes()
    report = written(tmp_path, estimate, 0.5)
    report.write_text(report.read_text().replace("xcu250-figd2104-2L-e", "xczu7ev-ffvc1156-2-e"))
    said = refused("hls-report", report, "--export", folder, "--calibration", calibration)
    assert (
        f"report {report} must be of part xcu250-figd2104-2L-e, the device in {folder / 'manifest.json'}, "
        "not 'xczu7ev-ffvc1156-2-e'" in said
    )
    assert calibration.read_bytes() == before
