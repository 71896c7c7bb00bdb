"""Fits the constants of ``GpuLibrary``: ``python -m hwmodel.gpu_fit`` writes ``data/gpu_library.csv``.

Least squares with a robust (pseudo-Huber) loss on the log errors of single products and of whole layers; each constant
is kept in its bounds by a logistic map and drawn weakly to its start. The defaults come from all Vidur rows of a GPU
(Ampere: A100; Hopper: H100) at one token count in six, and for CUDA 13 from one in three of our H100 rows. ``--cross``
prints instead what a fit on one part predicts of another: the other model, the other GPU, shapes (a quarter each),
tensor-parallel sizes and token ranges that had no part in it.
Needs scipy (extra ``test``) and Vidur's table; takes half a minute, ``--cross`` four.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import least_squares

from hwmodel.gpu import Gpu
from hwmodel.gpu_gemm import gemm_seconds, wide_work
from hwmodel.gpu_library import CONSTANTS, CUBLAS12_TILES, CUBLAS13_TILES, FITTED, GpuLibrary, Tiles, tiles_name
from hwmodel.gpu_presets import A100, H100
from hwmodel.gpu_truth import measured, vidur_gemms

# constant: (lowest, start, highest). Bounds keep shares physical and latencies near published microbenchmarks.
BOUNDS: Mapping[str, tuple[float, float, float]] = {
    "launch_s": (1e-6, 2.7e-6, 4e-6), "wave_s": (0.1e-6, 1.5e-6, 6e-6), "tensor_share": (0.6, 0.9, 1.0),
    "feed_bytes_per_mac": (0.012, 0.031, 0.15), "dram_share": (0.7, 0.88, 0.95),
    "dram_latency_s": (0.2e-6, 0.6e-6, 2.5e-6), "overlap_norm": (1.5, 6, 20), "store_over_dram": (0.3, 2, 20),
    "drift": (0, 0.1, 0.8), "split_s": (0.8e-6, 2e-6, 5e-6), "throttle": (0, 0.2, 0.6),
    "throttle_s": (20e-6, 300e-6, 3000e-6), "choice_temperature": (0.003, 0.05, 0.4), "choice_loss": (0, 0.05, 0.4),
    "large_tile_bias": (-0.1, 0.03, 0.4), "split_bias": (-0.1, 0.05, 0.6),
}  # fmt: skip
_HUBER = 0.05  # log errors above count linearly
_LAYER_WEIGHT = 1.0
_RIDGE = 0.003  # weight of the squared distance from the start, in units of the logistic map
_EVALUATIONS = 25
_EVERY_TOKENS, _EVERY_ROW = 6, 3
_FOLDS = 4
_TOKEN_RANGES = (128, 512, 1024, 4096)

Rows = tuple[Gpu, pd.DataFrame]


def _unpack(z: npt.NDArray[np.float64]) -> dict[str, float]:
    low, high = (np.array([BOUNDS[name][i] for name in FITTED]) for i in (0, 2))
    return dict(zip(FITTED, (low + (high - low) / (1 + np.exp(-z))).tolist(), strict=True))


def _pack() -> npt.NDArray[np.float64]:
    low, start, high = np.array([BOUNDS[name] for name in FITTED]).T
    share = np.clip((start - low) / (high - low), 0.001, 0.999)
    packed: npt.NDArray[np.float64] = np.log(share / (1 - share))
    return packed


def log_errors(rows: Rows, library: GpuLibrary | None = None) -> npt.NDArray[np.float64]:
    """Natural logarithm of predicted over measured seconds for every row."""
    gpu, table = rows
    predicted = gemm_seconds(wide_work(table["m"], table["n"], table["k"]), gpu, library)
    errors: npt.NDArray[np.float64] = np.log(predicted / table["seconds"].to_numpy())
    return errors


def fit(sets: list[Rows], name: str, tiles: Tiles, source: str) -> GpuLibrary:
    """Constants that suit the rows of all ``sets`` best, each set with equal weight.

    Rows of a set with the columns model and tensor_parallel are also compared layer by layer.
    """
    start = _pack()
    groups = [_layers(table) for _, table in sets]

    def residuals(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        library = GpuLibrary(name=name, tiles=tiles, source=source, **_unpack(z))
        found = [math.sqrt(_RIDGE) * (z - start)]
        for rows, layer in zip(sets, groups, strict=True):
            errors, seconds = log_errors(rows, library), rows[1]["seconds"].to_numpy()
            found.append(_robust(errors) / math.sqrt(len(sets)))
            if layer is not None:
                whole = np.log(np.bincount(layer, seconds * np.exp(errors)) / np.bincount(layer, seconds))
                found.append(_LAYER_WEIGHT * _robust(whole) / math.sqrt(len(sets)))
        return np.concatenate(found)

    # 6: within a quarter of a percent of a bound
    answer = least_squares(residuals, start, diff_step=1e-3, max_nfev=_EVALUATIONS, bounds=(-6, 6))
    return GpuLibrary(name=name, tiles=tiles, source=source, **_unpack(answer.x))


def _robust(errors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Residuals whose sum of squares is the mean pseudo-Huber loss."""
    loss: npt.NDArray[np.float64] = np.sqrt(2 * (np.hypot(1.0, errors / _HUBER) - 1) / len(errors))
    return loss


def _layers(table: pd.DataFrame) -> npt.NDArray[np.int64] | None:
    """The layer that each row belongs to; ``None`` where the table names none."""
    if "tensor_parallel" not in table.columns:
        return None
    numbers: npt.NDArray[np.int64] = table.groupby(["model", "tensor_parallel", "m"]).ngroup().to_numpy()
    return numbers


def thin(table: pd.DataFrame) -> pd.DataFrame:
    """Vidur's rows at one token count in six, and at 1 and 4 tokens."""
    tokens = sorted(table["m"].unique())
    return table[table["m"].isin({1, 4, *tokens[::_EVERY_TOKENS]})]


def errors_of(rows: Rows, library: GpuLibrary | None = None) -> dict[str, float]:
    """Mean, 95th percentile and worst absolute relative error of single products and of whole layers.

    A layer is one row of Vidur's table: its four projections together.
    """
    return _figures(rows[1].assign(ours=rows[1]["seconds"] * np.exp(log_errors(rows, library))))


def _figures(table: pd.DataFrame) -> dict[str, float]:
    single = (table["ours"] / table["seconds"] - 1).abs()
    figures = {"rows": len(table), "mean": single.mean(), "p95": single.quantile(0.95), "worst": single.max()}
    if "tensor_parallel" in table:
        layers = table.groupby(["gpu", "model", "tensor_parallel", "m"])[["seconds", "ours"]].sum()
        whole = (layers["ours"] / layers["seconds"] - 1).abs()
        figures |= {"layer_mean": whole.mean(), "layer_p95": whole.quantile(0.95), "layer_worst": whole.max()}
    return figures


def _vidur(gpu: Gpu, table: pd.DataFrame, model: str = "") -> Rows:
    return gpu, table[(table["gpu"] == gpu.name) & table["model"].str.startswith(model)]


def _thin(rows: Rows) -> Rows:
    return rows[0], thin(rows[1])


def defaults() -> Iterator[GpuLibrary]:
    """The sets that are recorded."""
    table = vidur_gemms()
    for family, gpu in (("ampere", A100), ("hopper", H100)):
        source = f"microsoft/vidur, {gpu.name} rows, one token count in {_EVERY_TOKENS}"
        yield fit([_thin(_vidur(gpu, table))], f"{family}_cublas12", CUBLAS12_TILES, source)
    ours = measured("h100").iloc[::_EVERY_ROW]
    source = f"data/gpu_measured_h100.csv, one row in {_EVERY_ROW}"
    yield fit([(H100, ours)], "hopper_cublas13", CUBLAS13_TILES, source)


def cross_validation() -> pd.DataFrame:
    """Errors on rows that had no part in the fit: the other model and GPU, shapes, parallel sizes, token counts."""
    table = vidur_gemms()
    found = []

    def add(trained: str, tested: str, rows: Rows, library: GpuLibrary | None = None) -> None:
        found.append({"fitted_on": trained, "tested_on": tested, **errors_of(rows, library)})

    for gpu, other in ((A100, H100), (H100, A100)):
        for model, rest in (("Llama", "CodeLlama"), ("CodeLlama", "Llama")):
            library = _cross_fit(_vidur(gpu, table, model))
            add(f"{gpu.name} {model}", f"{gpu.name} {rest}", _vidur(gpu, table, rest), library)
            add(f"{gpu.name} {model}", f"{other.name} both", _vidur(other, table), library)
        add(f"{gpu.name} both", f"{other.name} both", _vidur(other, table), _cross_fit(_vidur(gpu, table)))
        rows = _vidur(gpu, table)[1]
        for part, fold in _parts(rows).items():
            ours = pd.Series(0.0, index=rows.index)
            for held_out in sorted(fold.unique()):
                test = rows[fold == held_out]
                errors = log_errors((gpu, test), _cross_fit((gpu, rows[fold != held_out])))
                ours[test.index] = test["seconds"] * np.exp(errors)
            found.append(
                {"fitted_on": f"{gpu.name}, {part}", "tested_on": "those left out", **_figures(rows.assign(ours=ours))}
            )
    return pd.DataFrame(found)


def _cross_fit(rows: Rows) -> GpuLibrary:
    return fit([_thin(rows)], "cross", CUBLAS12_TILES, "cross validation")


def _parts(rows: pd.DataFrame) -> dict[str, pd.Series[int]]:
    """Ways to cut the rows into parts, each left out in turn."""
    shapes = rows.groupby(["n", "k"]).ngroup()
    order = np.random.default_rng(1).permutation(shapes.max() + 1)
    return {
        "three quarters of the shapes": pd.Series(order[shapes] % _FOLDS, index=rows.index),
        "three of four parallel sizes": rows["tensor_parallel"],
        "three of four ranges of tokens": pd.cut(rows["m"], [0, *_TOKEN_RANGES], labels=False),
    }


def write(libraries: Iterator[GpuLibrary], path: Path) -> None:
    """Record sets of constants as a CSV table."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "tiles", *FITTED, "source"])
        for library in libraries:
            values = [f"{getattr(library, name):.4g}" for name in FITTED]
            writer.writerow([library.name, tiles_name(library.tiles), *values, library.source])
    temporary.replace(path)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cross", action="store_true", help="print the cross validation and write nothing")
    parser.add_argument("--output", type=Path, default=CONSTANTS)
    arguments = parser.parse_args()
    if arguments.cross:
        print(cross_validation().round(3).to_string(index=False))
    else:
        write(defaults(), arguments.output)


if __name__ == "__main__":
    main()
