"""Corrections of estimates by a user's own synthesis: measured over estimated, resource by resource and family.

A file of calibration is JSON: for each device family and resource the geometric mean of the ratios, their spread and
the designs behind it. It is made of reports of designs that were exported (``codesign hls-report``) and applied to
later estimates; the source of every corrected figure says so. No file is part of the project: there is nothing in it
that was not measured by its user.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hwmodel.fpga import FpgaResources
from hwmodel.report import ResourceReport

KIND, VERSION = "codesign fpga calibration", 1
# fields of a report, and of resources, that are compared
RESOURCES: Mapping[str, str] = {
    "luts": "luts", "flip_flops": "flip_flops", "dsps": "dsps", "brams": "bram36", "urams": "uram288",
}  # fmt: skip
_MAX_BYTES = 1 << 20
_LARGEST_RATIO = 1000.0


@dataclass(frozen=True)
class ResourceRatio:
    """Measured over estimated of one resource on one family.

    Args:
        family: of the devices.
        resource: of ``FpgaResources``.
        ratio: geometric mean.
        spread: largest ratio of any design to the mean, either way; 1 for a single design.
        designs: names of the designs, in order.
        tool: that measured.
    """

    family: str
    resource: str
    ratio: float
    spread: float
    designs: tuple[str, ...]
    tool: str

    def __post_init__(self) -> None:
        for name, least in (("ratio", 1 / _LARGEST_RATIO), ("spread", 1)):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and least <= value <= _LARGEST_RATIO):
                raise ValueError(f"{name} of a calibration must be {least:g} to {_LARGEST_RATIO:g}, not {value!r:.40}")
        for name in ("family", "tool"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} of a calibration must be a text, not {getattr(self, name)!r}")
        if self.resource not in RESOURCES.values():
            raise ValueError(
                f"resource of a calibration must be one of {', '.join(RESOURCES.values())}, not {self.resource!r}"
            )
        if not self.designs or not all(isinstance(name, str) for name in self.designs):
            raise ValueError(f"designs of a calibration must be named, not {self.designs!r}")


@dataclass(frozen=True)
class FpgaCalibration:
    """Ratios of all families and resources that were measured.

    Args:
        ratios: one for each pair of them.
        name: what the source of a corrected figure says: the file.
    """

    ratios: tuple[ResourceRatio, ...]
    name: str = ""

    def of(self, family: str) -> Mapping[str, ResourceRatio]:
        """Ratios of a family, by resource."""
        return {ratio.resource: ratio for ratio in self.ratios if ratio.family == family}


def calibrate(pairs: Sequence[tuple[ResourceReport, ResourceReport]], family: str) -> tuple[ResourceRatio, ...]:
    """Ratios from measured and estimated reports of the same designs on devices of one family.

    A resource that a report does not state, or that either side has none of, says nothing.

    Raises:
        ValueError: two reports of a pair are of different designs, or a design comes twice.
    """
    names = [measured.design for measured, _ in pairs]
    for measured, estimated in pairs:
        if measured.design != estimated.design:
            raise ValueError(
                f"reports to be compared must be of one design, not {measured.design!r} and {estimated.design!r}"
            )
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"a calibration must have one report for each design, not two of {name!r}")
    made = []
    for field, resource in RESOURCES.items():
        found = []
        for measured, estimated in pairs:
            real, guess = getattr(measured, field), getattr(estimated, field)
            if real and guess:
                found.append((measured.design, real / guess))
        if found:
            mean = math.exp(sum(math.log(ratio) for _, ratio in found) / len(found))
            spread = max(max(ratio / mean, mean / ratio) for _, ratio in found)
            designs = tuple(sorted(name for name, _ in found))
            tools = ", ".join(sorted({measured.tool for measured, _ in pairs}))
            made.append(ResourceRatio(family, resource, mean, spread, designs, tools))
    return tuple(made)


def merged(old: FpgaCalibration, new: Sequence[ResourceRatio]) -> FpgaCalibration:
    """``old`` with ``new`` ratios in the place of those of the same family and resource."""
    kept = {(ratio.family, ratio.resource): ratio for ratio in (*old.ratios, *new)}
    return FpgaCalibration(tuple(kept[key] for key in sorted(kept)), old.name)


def calibrated(resources: FpgaResources, calibration: FpgaCalibration, family: str) -> tuple[FpgaResources, str]:
    """Corrected resources, and a sentence that says by what; unchanged and a sentence that says so without ratios."""
    ratios = calibration.of(family)
    if not ratios:
        return resources, f"not calibrated: {calibration.name or 'the calibration'} has no design of family {family}"
    values = asdict(resources)
    for resource, ratio in ratios.items():
        values[resource] *= ratio.ratio
    said = ", ".join(
        f"{name} x {ratio.ratio:.2f} (spread {ratio.spread:.2f}, {len(ratio.designs)} designs)"
        for name, ratio in ratios.items()
    )
    return FpgaResources(**values), f"calibrated by {calibration.name or 'reports'} on {family}: {said}"


def save_calibration(calibration: FpgaCalibration, path: Path) -> None:
    """Write a file, whole or not at all."""
    content = {"kind": KIND, "version": VERSION, "ratios": [asdict(ratio) for ratio in calibration.ratios]}
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def load_calibration(path: Path | str) -> FpgaCalibration:
    """Read a file that ``save_calibration`` wrote.

    Raises:
        ValueError: no such file, too large, or not such a file.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"calibration must be a file that codesign hls-report wrote, not {str(path)!r}")
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"calibration {path} must be at most {_MAX_BYTES} bytes")
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"calibration {path} must be JSON ({error})") from None
    if not isinstance(content, dict) or content.get("kind") != KIND or content.get("version") != VERSION:
        raise ValueError(f"calibration {path} must be of kind {KIND!r}, version {VERSION}")
    entries = content.get("ratios")
    fields = set(ResourceRatio.__dataclass_fields__)
    if not isinstance(entries, list) or not all(isinstance(one, dict) and set(one) == fields for one in entries):
        raise ValueError(f"ratios of calibration {path} must each have {', '.join(sorted(fields))}")
    if not all(isinstance(one["designs"], list) for one in entries):
        raise ValueError(f"designs of calibration {path} must be a list of names")
    try:
        ratios = tuple(ResourceRatio(**{**one, "designs": tuple(one["designs"])}) for one in entries)
    except ValueError as error:
        raise ValueError(f"calibration {path}: {error}") from None
    measured = [(ratio.family, ratio.resource) for ratio in ratios]
    for family, resource in measured:
        if measured.count((family, resource)) > 1:
            raise ValueError(f"calibration {path} must have one ratio of {resource} on {family}, not two")
    return FpgaCalibration(ratios, path.name)
