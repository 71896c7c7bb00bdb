"""Measured GPU kernels beside what the cost model says of them: ``comparison``, one row for each record.

Records are files of ``Measurement`` as ``codesign bench`` writes them; those of the project lie in
``kernels_gpu/measurements``. The project's own GEMVs are predicted by ``hwmodel.gpu_gemv``, cut as recorded, its decode
attention (m: sequences, k: query heads, n: context) by ``hwmodel.gpu_attention``, kernels of others (cuBLAS, tinygemm,
bitsandbytes, torch's attention) by the GPU preset's general price. ``python -m codesign.gpu_truth --fit`` fits the
constants of ``gpu_gemv`` again.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datatypes.catalog import FP16, INTS_SYMMETRIC, NF4
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig
from hwmodel.gpu import Gpu, GpuKernels
from hwmodel.gpu_gemv import CONSTANTS
from hwmodel.gpu_gemv_cut import GemvCut
from hwmodel.gpu_gemv_encoding import encoding_of
from hwmodel.gpu_gemv_fit import FITTED_GPU, GemvCase, fit, use_of, write_constants
from hwmodel.gpu_presets import GPUS
from hwmodel.gpu_price import gpu_price
from hwmodel.options import HONEST
from hwmodel.report import Measurement
from hwmodel.units import cycles_to_s
from hwmodel.workload import LayerKind, LayerSpec
from kernels_gpu.gemv_recipes import RECIPES

RECORDED = ("gemv_h100.json", "gemv_h200.json", "gemv_formats_h100.json", "attention_h100.json")
# Words of a driver's device name, and the data sheet they stand for; libraries of the records are CUDA 13's
DEVICES: Mapping[str, str] = {
    "H100": "h100_cublas13", "H200": "h200_cublas13", "A100": "a100", "A40": "a40", "4090": "rtx4090", "L40S": "l40s",
    "Orin": "jetson_agx_orin",
}  # fmt: skip
# Kernels of others, by their name in the records, as configs of the cost model
OTHERS: Mapping[str, LayerConfig] = {
    "fp16 cuBLAS": LayerConfig(),
    "tinygemm int4 g128": LayerConfig(weight=TensorConfig((INTS_SYMMETRIC[4],), PerGroup(128), ScaleConfig(FP16))),
    "bitsandbytes nf4 g64": LayerConfig(weight=TensorConfig((NF4,), PerGroup(64), ScaleConfig(FP16))),
}
OWN, OWN_ATTENTION = OWNS = "decode GEMV", "decode attention"


def _cache(bits: int) -> LayerConfig:
    tensor = TensorConfig((INTS_SYMMETRIC[bits],), PerChannel(), ScaleConfig(FP16), dynamic=True)
    return LayerConfig(key=tensor, value=tensor)


# Decode attention by its name in the records: the cache, and what the row was to ``hwmodel.gpu_attention``
ATTENTIONS: Mapping[str, tuple[LayerConfig, str]] = {
    "attention int8": (_cache(8), "fitted"), "attention int4": (_cache(4), "format held out"),
    "torch cudnn fp16": (LayerConfig(), "not fitted"), "torch flash fp16": (LayerConfig(), "not fitted"),
}  # fmt: skip
_NOT_CUT = "torch efficient fp16"  # 137 us where cuDNN takes 29: it leaves most SMs idle
_HEAD_DIM = 128  # kernels_gpu/bench_attention.py
_CASE = re.compile(r"(\d+)x(\d+)x(\d+) at (\d+)")
_CASE_CONDITION = "sequences x key heads x query heads of each at context"
BAND = 0.15  # errors within it are counted, and drawn as good
COLUMNS = (
    "kernel", "format", "gpu", "m", "n", "k", "use", "model", "measured_us", "predicted_us", "error", "roofline_us",
    "roofline_error", "bound", "spread", "device",
)  # fmt: skip
_US = 1e-6
_CUT = re.compile(r"(\d+)x(\d+)x(\d+)x(\d+)")


@dataclass(frozen=True)
class Comparison:
    """Rows, and why some records have none."""

    rows: pd.DataFrame
    left_out: tuple[str, ...]


def recorded_files() -> tuple[Path, ...]:
    """The project's own records."""
    folder = resources.files("kernels_gpu") / "measurements"
    return tuple(Path(str(folder / name)) for name in RECORDED)


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


def _condition(record: Measurement, name: str) -> float:
    try:
        value = float(record.conditions[name])
    except (KeyError, ValueError):
        value = float("nan")
    if not value > 0:
        raise ValueError(f"conditions of measurement {record.name} must have {name}, a number above 0, not "
                         f"{record.conditions.get(name)!r}")  # fmt: skip
    return value


def cut_of(record: Measurement) -> GemvCut:
    """How the work of a record was cut.

    Raises:
        ValueError: the record does not say.
    """
    found = _CUT.match(record.conditions.get("cut", ""))
    if found is None:
        raise ValueError(
            f"conditions of measurement {record.name} must have cut, as 16x2x2x1, not {record.conditions.get('cut')!r}"
        )
    warps, runs, depth, blocks = (int(number) for number in found.groups())
    return GemvCut(warps, runs, depth, blocks)


def case_of(record: Measurement) -> GemvCase:
    """A record of the project's own kernel as the model takes it.

    Raises:
        NotImplementedError: an encoding that the model does not know.
        ValueError: no such recipe, or a condition is missing.
    """
    if record.name not in RECIPES:
        raise ValueError(f"name of a measured GEMV must be one of {', '.join(RECIPES)}, not {record.name!r}")
    m, k, n = record.shape
    return GemvCase(
        record.name, encoding_of(RECIPES[record.name]), (m, n, k), cut_of(record), round(_condition(record, "bytes")),
        gpu_of(record.device), _condition(record, "copy_bytes_per_s"), record.seconds,
    )  # fmt: skip


def _check_comparable(record: Measurement) -> None:
    """Refuse a kernel that was timed alone, and one that no launcher would take."""
    if record.name == _NOT_CUT:
        raise NotImplementedError("the model must have kernels that cut a context among SMs")
    if record.conditions.get("cut", "").endswith("alone"):
        raise NotImplementedError("the model must have overlapped kernels, not ones timed alone")


def comparison(files: Sequence[Path] = ()) -> Comparison:
    """The project's records and those of ``files`` against the model.

    Returns:
        Rows of ``COLUMNS``: errors are predicted over measured less one; the roofline is the bytes at the copy rate;
        ``use`` says whether the row had a part in the fit. Records of encodings that the model does not know, and those
        taken without overlap of consecutive kernels, are left out and named.

    Raises:
        ValueError: a file that holds no measurements, or a record that lacks something.
    """
    rows, left_out = [], Counter[str]()
    for path in (*recorded_files(), *files):
        extra = path in files
        for record in read_measurements(path):
            try:
                _check_comparable(record)
                rows.append(_row(record, "not fitted" if extra else None))
            except NotImplementedError as error:
                left_out[f"{record.name}: {error}"] += 1
    sentences = tuple(f"{count} records of {reason}" for reason, count in left_out.items())
    return Comparison(pd.DataFrame(rows, columns=list(COLUMNS)), sentences)


def _row(record: Measurement, use: str | None) -> dict[str, object]:
    m, k, n = record.shape
    gpu = gpu_of(record.device)
    name = gpu.name.removesuffix("_cublas13")
    if record.name in ATTENTIONS:
        config, relation = ATTENTIONS[record.name]
        own = relation != "not fitted"
        seconds = _attention_s(record, config, gpu)
        kernel, model, bound = OWN_ATTENTION if own else record.name, "attention", ""
        use = ("other GPU" if own and name != FITTED_GPU else relation) if use is None else use
    elif record.name in OTHERS:
        spec = LayerSpec("x", LayerKind.LINEAR, m, k, n)
        public = replace(gpu, kernels=GpuKernels.PUBLIC)
        seconds = cycles_to_s(gpu_price(spec, OTHERS[record.name], public, HONEST).cycles, gpu.frequency_hz)
        kernel, model, bound, use = record.name, "general", "", "not fitted"
    else:
        time = case_of(record).predicted()
        seconds, kernel, model, bound = time.seconds, OWN, "gemv", time.bound
        use = use_of(record.name, n, k, name) if use is None else use
    roofline = _condition(record, "bytes") / _condition(record, "copy_bytes_per_s")
    return {
        "kernel": kernel, "format": record.name, "gpu": name, "m": m, "n": n, "k": k, "use": use, "model": model,
        "measured_us": record.seconds / _US, "predicted_us": seconds / _US, "error": seconds / record.seconds - 1,
        "roofline_us": roofline / _US, "roofline_error": roofline / record.seconds - 1, "bound": bound,
        "spread": float(record.conditions.get("quartiles_over_median", "nan")), "device": record.device,
    }  # fmt: skip


def _attention_s(record: Measurement, config: LayerConfig, gpu: Gpu) -> float:
    """Predicted time of both products of a decode attention.

    Raises:
        ValueError: the record does not say how many heads there were.
    """
    stated = next((text for name, text in record.conditions.items() if name.startswith(_CASE_CONDITION)), "")
    found = _CASE.match(stated)
    if found is None:
        raise ValueError(f"conditions of measurement {record.name} must have {_CASE_CONDITION}, not {stated!r}")
    sequences, heads, queries, context = (int(number) for number in found.groups())
    copies = sequences * heads
    halves = (
        LayerSpec("qk", LayerKind.ATTENTION_QK, queries, _HEAD_DIM, context, copies),
        LayerSpec("pv", LayerKind.ATTENTION_PV, queries, context, _HEAD_DIM, copies),
    )
    return cycles_to_s(sum(gpu_price(half, config, gpu, HONEST).cycles for half in halves), gpu.frequency_hz)


def summary(rows: pd.DataFrame, by: Sequence[str] = ("kernel", "gpu", "use")) -> pd.DataFrame:
    """Mean and worst absolute error and bias of each group of rows, the model's and the roofline's."""
    made = []
    for key, part in rows.groupby(list(by), sort=False):
        error, roofline = part["error"], part["roofline_error"]
        made.append({
            **dict(zip(by, key, strict=True)), "rows": len(part), "mean_error": error.abs().mean(),
            "worst_error": error.abs().max(), "bias": error.mean(), "within_15_percent": (error.abs() <= BAND).mean(),
            "roofline_mean_error": roofline.abs().mean(), "roofline_worst_error": roofline.abs().max(),
        })  # fmt: skip
    return pd.DataFrame(made)


def fitted_cases(files: Sequence[Path] | None = None) -> Iterator[GemvCase]:
    """The rows that the constants are fitted to."""
    for path in recorded_files() if files is None else files:
        for record in read_measurements(path):
            if record.name not in RECIPES:
                continue
            try:
                _check_comparable(record)
                case = case_of(record)
            except NotImplementedError:
                continue
            name = case.gpu.name.removesuffix("_cublas13")
            if name == FITTED_GPU and use_of(case.name, *case.shape[1:], name) == "fitted":
                yield case


def main() -> int:
    """Print the errors; with ``--fit`` fit the constants and write them first."""
    parser = argparse.ArgumentParser(prog="python -m codesign.gpu_truth", description=__doc__.splitlines()[0])
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--output", type=Path, default=CONSTANTS)
    arguments = parser.parse_args()
    if arguments.fit:
        cases = list(fitted_cases())
        source = f"fitted to {len(cases)} rows of kernels_gpu/measurements/{RECORDED[0]} and {RECORDED[2]}"
        write_constants(fit(cases), arguments.output, source)
        print(arguments.output.read_text(encoding="utf-8"))
    found = summary(comparison().rows)
    number = found.select_dtypes(np.floating).columns
    print(found.assign(**{name: found[name].round(3) for name in number}).to_string(index=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
