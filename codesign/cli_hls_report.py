"""``codesign hls-report``: what Vitis HLS and Vivado said, beside what was estimated; and the calibration from it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pandas as pd

from codesign.console import records, show_json, show_table
from codesign.messages import say
from codesign.outputs import check_output_file
from hls.export_folder import BUILD, MANIFEST, read_manifest
from hls.report_figures import ParsedReport, same_part
from hls.vitis_report import read_report
from hwmodel.fpga import FpgaDevice, device_by_name
from hwmodel.fpga_calibration import (
    RESOURCES,
    FpgaCalibration,
    calibrate,
    load_calibration,
    merged,
    save_calibration,
)
from hwmodel.report import ResourceReport
from hwmodel.units import mhz_to_hz

_FIGURES = {
    "sites": tuple(RESOURCES), "cycles": ("latency_cycles", "interval_cycles"), "clock": ("max_frequency_hz",)
}  # fmt: skip
_COMPARED = tuple(name for names in _FIGURES.values() for name in names)
_KINDS = ("csynth", "cosim", "implementation", "utilization", "timing")  # in the order of which a later one replaces


def found_reports(folder: Path, identifiers: Sequence[str]) -> list[Path]:
    """The ``csynth.xml``, the co-simulation and the export report of each layer under the ``build/`` of an export, in
    order; the shortest path of several."""
    paths = []
    for identifier in identifiers:
        for name in ("csynth.xml", f"{identifier}_cosim.rpt", f"{identifier}_export.rpt"):
            there = sorted((folder / BUILD / identifier).rglob(name), key=lambda path: (len(path.parts), path))
            paths += there[:1]
    return paths


def joined(reports: Sequence[ParsedReport]) -> list[ResourceReport]:
    """One report for each design: what comes later fills in and replaces, so that place and route goes last.

    Raises:
        ValueError: two reports of one kind of a design.
    """
    of_design: dict[str, dict[str, ResourceReport]] = {}
    for parsed in reports:
        design = parsed.report.design
        if of_design.setdefault(design, {}).setdefault(parsed.kind, parsed.report) is not parsed.report:
            raise ValueError(f"reports of {design} must be one of each kind, not two of kind {parsed.kind}")
    return [_one([kinds[kind] for kind in _KINDS if kind in kinds]) for kinds in of_design.values()]


def _one(reports: Sequence[ResourceReport]) -> ResourceReport:
    """What several reports of a design state, the last of each figure; its tool says where sites, cycles and clock are
    from."""
    stated: dict[str, Any] = {}
    tools: dict[str, str] = {}
    for report in reports:
        for field in fields(report):
            value = getattr(report, field.name)
            if value not in (None, ""):
                stated[field.name] = value
                tools[field.name] = report.tool
    said = {
        what: " and ".join(dict.fromkeys(tools[name] for name in names if name in tools))
        for what, names in _FIGURES.items()
    }
    sites = said.pop("sites")
    others = [f"{what}: {tool}" for what, tool in said.items() if tool not in ("", sites)]
    return replace(reports[0], **{**stated, "tool": "; ".join([sites, *others] if sites else others) or stated["tool"]})


def estimated_report(layer: Mapping[str, Any], device: str) -> ResourceReport:
    """What a manifest's entry says, as a report; uncorrected by any calibration.

    Raises:
        ValueError: the entry has no estimate, a broken one, or a calibrated one.
    """
    made = layer.get("estimate")
    if not isinstance(made, dict) or not isinstance(made.get("resources"), dict):
        raise ValueError(f"layer {layer['name']} must have an estimate in its manifest: export it again")
    if made.get("calibration"):
        raise ValueError(
            f"layer {layer['name']} must have been exported without a calibration to be compared with reports"
        )
    try:
        taken, cycles = made["resources"], made["cycles"]
        return ResourceReport(
            layer["identifier"], device, "codesign estimate", luts=round(taken["luts"]),
            flip_flops=round(taken["flip_flops"]), dsps=round(taken["dsps"]), brams=taken["bram36"],
            urams=round(taken["uram288"]), max_frequency_hz=made["clock_hz"], latency_cycles=cycles["latency"],
            interval_cycles=cycles["interval_of_calls"],
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"the estimate of layer {layer['name']} must be as codesign export wrote it, which it is not "
            f"({type(error).__name__}: {error}): export it again"
        ) from None


def _board_of(manifest: Mapping[str, Any], export: Path) -> tuple[FpgaDevice, str]:
    """The device that an export was made for, and its part number."""
    device = manifest.get("device")
    if not isinstance(device, dict) or not all(isinstance(device.get(key), str) for key in ("name", "part")):
        raise ValueError(f"device in the manifest of {export} must be an object with a name and a part, not {device!r}")
    return device_by_name(device["name"]), device["part"]


def _check_part(parsed: ParsedReport, path: Path, part: str, export: Path) -> None:
    """Make sure that a report is of the part of an export, where it states one; a co-simulation has none."""
    target = parsed.report.target
    if target and not same_part(target, part):
        raise ValueError(
            f"report {path} must be of part {part}, the device in {export / MANIFEST}, not {target[:40]!r}: "
            "export for the device that was synthesised for"
        )


def compared(pairs: Sequence[tuple[ResourceReport, ResourceReport]]) -> pd.DataFrame:
    """One row for each design and figure that is measured: both values and their ratio."""
    rows = []
    for measured, estimated in pairs:
        for name in _COMPARED:
            real, guess = getattr(measured, name), getattr(estimated, name)
            if real is not None:
                ratio = real / guess if guess else None
                rows.append({"design": measured.design, "figure": name, "measured": real, "estimated": guess,
                             "ratio": ratio})  # fmt: skip
    return pd.DataFrame(rows, columns=["design", "figure", "measured", "estimated", "ratio"])


def hls_report(
    files: Sequence[Path], *, export: Path | None, calibration: Path | None, clock: float | None, as_json: bool
) -> None:
    """Reports beside the estimates of an export, and a calibration from them."""
    if clock is not None and not clock > 0:
        raise ValueError(f"clock must be above 0 MHz, not {clock!r}")
    if calibration is not None and export is None:
        raise ValueError("calibration needs the export whose estimates the reports are compared with: --export")
    if calibration is not None:
        check_output_file(calibration)
    manifest = None if export is None else read_manifest(export)
    paths = list(files)
    if manifest is not None and export is not None and not paths:
        paths = found_reports(export, [layer["identifier"] for layer in manifest["layers"]])
        if not paths:
            raise ValueError(f"{export}/{BUILD} must hold csynth.xml of a layer (make synth), or reports must be named")
    if not paths:
        raise ValueError("a report or an export must be named")
    hertz = None if clock is None else mhz_to_hz(clock)
    read = [read_report(path, clock_hz=hertz) for path in paths]
    reports = joined(read)
    if manifest is None:
        frame = pd.DataFrame([{f.name: getattr(one, f.name) for f in fields(one)} for one in reports])
        show_table(frame, title="Reports", as_json=as_json)
        return
    known = {layer["identifier"]: layer for layer in manifest["layers"]}
    strange = [report.design for report in reports if report.design not in known]
    if strange:
        raise ValueError(f"a report must be of a layer of {export} ({next(iter(known))}, ...), not of {strange[0]!r}")
    assert export is not None  # as there is a manifest
    board, part = _board_of(manifest, export)
    for parsed, path in zip(read, paths, strict=True):
        _check_part(parsed, path, part, export)
    pairs = [(report, estimated_report(known[report.design], board.name)) for report in reports]
    frame = compared(pairs)
    ratios = calibrate(pairs, board.family)
    if calibration is not None:
        old = load_calibration(calibration) if calibration.exists() else FpgaCalibration(())
        save_calibration(merged(old, ratios), calibration)
    if as_json:
        show_json({
            "figures": records(frame), "family": board.family,
            "ratios": [{"resource": r.resource, "ratio": r.ratio, "spread": r.spread, "designs": list(r.designs)}
                       for r in ratios],
        })  # fmt: skip
        return
    show_table(frame, title=f"Measured and estimated, {board.name}", as_json=False)
    for ratio in ratios:
        say(f"{ratio.resource} on {ratio.family}: {ratio.ratio:.2f} of the estimate, spread {ratio.spread:.2f}")
    if calibration is not None:
        file = shlex.quote(str(calibration))
        say(f"{calibration}: codesign export --calibration {file}, codesign fpga --calibration {file}")
