"""Records of measured GPU kernels: the project's files and others', and the data sheet that a device's name means."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from hwmodel.gpu import Gpu
from hwmodel.gpu_presets import GPUS
from hwmodel.report import Measurement

_FOLDER = resources.files("kernels_gpu") / "measurements"
# In this order, so that a kernel that was measured twice counts where it was measured first; others follow by name
_FIRST = ("gemv_h100.json", "gemv_h200.json", "gemv_tokens_h100.json")
_NOT_COMPARED = "quantize"  # quantizers are no kernels of the model


# Of benchmarks before they timed graphs of 2 ms (``start_share_s``)
_SHORT_REPLAYS, _SHORT_CALLS, _SHORT_L2_TIMES = "rotated beyond L2,", 24, 4
REPLAY_START_S = 10e-6


def _recorded() -> tuple[str, ...]:
    there = {entry.name for entry in _FOLDER.iterdir() if entry.name.endswith(".json")}
    others = sorted(name for name in there if name not in _FIRST and not name.startswith(_NOT_COMPARED))
    return (*(name for name in _FIRST if name in there), *others)


RECORDED = _recorded()
# Words of a driver's device name, and the data sheet they stand for; libraries of the records are CUDA 13's
DEVICES: Mapping[str, str] = {
    "H100": "h100_cublas13", "H200": "h200_cublas13", "A100": "a100", "A40": "a40", "4090": "rtx4090", "L40S": "l40s",
    "Orin": "jetson_agx_orin",
}  # fmt: skip
# Words of boards with the same chip and fewer multiprocessors, another clock or memory: NVIDIA's data sheets
_OTHER_BOARDS: Mapping[str, tuple[str, ...]] = {
    "H100": ("PCIe", "NVL"), "H200": ("NVL",), "4090": ("Laptop", "D"), "Orin": ("NX", "Nano"),
}  # fmt: skip
_PARTS = ("MIG",)  # of a GPU


def recorded_files() -> tuple[Path, ...]:
    """The project's own records."""
    return tuple(Path(str(_FOLDER / name)) for name in RECORDED)


def read_measurements(path: Path) -> tuple[Measurement, ...]:
    """Records of a file.

    Raises:
        ValueError: no JSON list of measurements, or an empty one; or an entry that is none.
    """
    wanted = f"{path} must be a JSON list of measurements, as codesign bench writes it"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{wanted}, not {type(error).__name__}: {error}") from None
    if not isinstance(found, list) or not found:
        raise ValueError(f"{wanted}, not {'an empty one' if found == [] else type(found).__name__}")
    made = []
    for place, entry in enumerate(found, 1):
        try:
            made.append(_measurement(entry))
        except ValueError as error:
            raise ValueError(f"{wanted}; of entry {place} {error}") from None
    return tuple(made)


_SHAPE, _FIELDS = 3, ("name", "shape", "device", "seconds", "repeats", "conditions", "source")


def _measurement(entry: Any) -> Measurement:
    """A record.

    Raises:
        ValueError: a field is not there, or not what it must be.
    """
    if not isinstance(entry, dict) or not set(_FIELDS) <= entry.keys():
        there = list(entry) if isinstance(entry, dict) else type(entry).__name__
        raise ValueError(f"the fields must be {', '.join(_FIELDS)}, not {there}")
    shape, seconds, repeats, conditions = (entry[name] for name in _FIELDS[1:] if name not in ("device", "source"))
    if not isinstance(shape, list) or len(shape) != _SHAPE or not all(_is_count(size, 0) for size in shape):
        raise ValueError(f"shape must be the three whole numbers m, k and n, not {shape!r}")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise ValueError(f"seconds must be a finite number above 0, not {seconds!r}")
    if not _is_count(repeats, 1):
        raise ValueError(f"repeats must be a whole number above 0, not {repeats!r}")
    if not isinstance(conditions, dict):
        raise ValueError(f"conditions must be names and values, not {type(conditions).__name__}")
    return Measurement(
        str(entry["name"]), (shape[0], shape[1], shape[2]), str(entry["device"]), float(seconds), repeats,
        {str(key): str(value) for key, value in conditions.items()}, str(entry["source"]),
    )  # fmt: skip


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def gpu_of(device: str) -> Gpu:
    """The data sheet of a device, by the driver's name.

    Raises:
        ValueError: a device without a preset.

    >>> gpu_of("NVIDIA H100 80GB HBM3").name
    'h100_cublas13'
    """
    words = set(re.split(r"[^A-Za-z0-9]+", device))
    for word, name in DEVICES.items():
        if word in words and not words & {*_PARTS, *_OTHER_BOARDS.get(word, ())}:
            return GPUS[name]
    raise ValueError(
        f"device of a measurement must be one of {', '.join(DEVICES)}, or its data sheet be given by --sheet, not "
        f"{device!r}"
    )


def sheet_name(gpu: Gpu) -> str:
    """A GPU's name without its library's."""
    return gpu.name.removesuffix("_cublas13")


def start_share_s(record: Measurement, gpu: Gpu) -> float:
    """What of a launch's time is the start of the CUDA graph it was timed in, and the filling of its first kernel.

    Benchmarks timed graphs of some 24 launches, over buffers of four times L2, until they took ``replay_s``: 2 ms, of
    which a start is half a per cent. ASSUMPTION: 10 us; six encodings at up to three shapes had 5 to 17
    (kernels_gpu/NOTES.md, "The start of a replay").

    Raises:
        ValueError: the record does not say how many bytes there were.
    """
    if _SHORT_REPLAYS not in record.conditions.get("method", ""):
        return 0.0
    buffers = max(2, math.ceil(_SHORT_L2_TIMES * gpu.l2_bytes / condition(record, "bytes")))
    return REPLAY_START_S / (buffers * max(1, _SHORT_CALLS // buffers))


def condition(record: Measurement, name: str) -> float:
    """A number among the conditions of a record.

    Raises:
        ValueError: it is not there, not above zero, or infinite.
    """
    try:
        value = float(record.conditions[name])
    except (KeyError, ValueError):
        value = float("nan")
    if not 0 < value < math.inf:
        raise ValueError(f"conditions of measurement {record.name} must have {name}, a number above 0, not "
                         f"{record.conditions.get(name)!r}")  # fmt: skip
    return value
