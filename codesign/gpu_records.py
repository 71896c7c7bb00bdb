"""Records of measured GPU kernels: the project's files and others', and the data sheet that a device's name means."""

from __future__ import annotations

import json
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


def recorded_files() -> tuple[Path, ...]:
    """The project's own records."""
    return tuple(Path(str(_FOLDER / name)) for name in RECORDED)


def read_measurements(path: Path) -> tuple[Measurement, ...]:
    """Records of a file.

    Raises:
        ValueError: no JSON list of measurements.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return tuple(_measurement(entry) for entry in found)
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} must be a JSON list of measurements, as codesign bench writes it, not {error!r}"
        ) from None


def _measurement(entry: Mapping[str, Any]) -> Measurement:
    m, k, n = entry["shape"]
    return Measurement(
        str(entry["name"]), (int(m), int(k), int(n)), str(entry["device"]), float(entry["seconds"]),
        int(entry["repeats"]), {str(key): str(value) for key, value in entry["conditions"].items()},
        str(entry["source"]),
    )  # fmt: skip


def gpu_of(device: str) -> Gpu:
    """The data sheet of a device, by the driver's name.

    Raises:
        ValueError: a device without a preset.

    >>> gpu_of("NVIDIA H100 80GB HBM3").name
    'h100_cublas13'
    """
    words = re.split(r"[^A-Za-z0-9]+", device)
    for word, name in DEVICES.items():
        if word in words:
            return GPUS[name]
    raise ValueError(f"device of a measurement must be one of {', '.join(DEVICES)}, not {device!r}")


def sheet_name(gpu: Gpu) -> str:
    """A GPU's name without its library's."""
    return gpu.name.removesuffix("_cublas13")


def condition(record: Measurement, name: str) -> float:
    """A number among the conditions of a record.

    Raises:
        ValueError: it is not there, or not above zero.
    """
    try:
        value = float(record.conditions[name])
    except (KeyError, ValueError):
        value = float("nan")
    if not value > 0:
        raise ValueError(f"conditions of measurement {record.name} must have {name}, a number above 0, not "
                         f"{record.conditions.get(name)!r}")  # fmt: skip
    return value
