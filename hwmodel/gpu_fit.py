"""Fits the constants of ``GpuLibrary``: ``python -m hwmodel.gpu_fit`` writes ``data/gpu_library.csv``.

Nelder-Mead on the mean absolute log error plus 0.3 times the root mean square, each constant kept in its bounds by a
logistic map. The defaults come from all Vidur rows of a GPU (Ampere: A100; Hopper: H100) at one token count in six, and
for CUDA 13 from one in three of our H100 rows. ``--cross`` prints instead what a fit on one part predicts of another.
Needs scipy (extra ``test``) and Vidur's table; takes two minutes.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize

from hwmodel.gpu import Gpu
from hwmodel.gpu_gemm import gemm_seconds, wide_work
from hwmodel.gpu_library import CONSTANTS, CUBLAS12_TILES, CUBLAS13_TILES, FITTED, GpuLibrary, Tiles, tiles_name
from hwmodel.gpu_presets import A100, H100
from hwmodel.gpu_truth import measured, vidur_gemms

# constant: (lowest, start, highest). Bounds keep shares physical and latencies near published microbenchmarks.
BOUNDS: Mapping[str, tuple[float, float, float]] = {
    "launch_s": (1e-6, 2.7e-6, 4e-6), "wave_s": (0.1e-6, 1.5e-6, 6e-6), "tensor_share": (0.6, 0.9, 1.0),
    "feed_bytes_per_mac": (0.012, 0.031, 0.15), "dram_share": (0.7, 0.88, 0.95),
    "dram_latency_s": (0.2e-6, 0.6e-6, 2.5e-6), "prefetch_depth": (48, 192, 600), "overlap_norm": (1.5, 6, 20),
    "feed_norm": (1.5, 8, 20), "lone_share": (0.5, 0.95, 1.0), "split_s": (0.8e-6, 2e-6, 5e-6),
    "throttle": (0, 0.2, 0.6), "throttle_s": (20e-6, 300e-6, 3000e-6), "choice_temperature": (0.003, 0.05, 0.4),
    "large_tile_bias": (-0.1, 0.03, 0.4), "split_bias": (-0.1, 0.05, 0.6),
}  # fmt: skip
_RMS_WEIGHT = 0.3
_EVALUATIONS = 350  # twice: Nelder-Mead restarts once from its own answer
_EVERY_TOKENS, _EVERY_ROW = 6, 3

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
    """Constants that suit the rows of all ``sets`` best, each set with equal weight."""

    def loss(z: npt.NDArray[np.float64]) -> float:
        library = GpuLibrary(name=name, tiles=tiles, source=source, **_unpack(z))
        errors = [log_errors(rows, library) for rows in sets]
        return float(np.mean([np.abs(e).mean() + _RMS_WEIGHT * np.sqrt((e**2).mean()) for e in errors]))

    z = _pack()
    for _ in range(2):
        steps = np.diag(np.where(z < 0, 0.8, -0.8))
        options = {"maxfev": _EVALUATIONS, "adaptive": True, "initial_simplex": np.vstack([z, z + steps])}
        z = minimize(loss, z, method="Nelder-Mead", options=options).x
    return GpuLibrary(name=name, tiles=tiles, source=source, **_unpack(z))


def thin(table: pd.DataFrame) -> pd.DataFrame:
    """Vidur's rows at one token count in six, and at 1 and 4 tokens."""
    tokens = sorted(table["m"].unique())
    return table[table["m"].isin({1, 4, *tokens[::_EVERY_TOKENS]})]


def errors_of(rows: Rows, library: GpuLibrary | None = None) -> dict[str, float]:
    """Mean, 95th percentile and worst absolute relative error of single products and of whole layers.

    A layer is one row of Vidur's table: its four projections together.
    """
    table = rows[1].assign(ours=rows[1]["seconds"] * np.exp(log_errors(rows, library)))
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
    """Errors on rows that had no part in the fit: the other model, and the other GPU."""
    table = vidur_gemms()
    found = []
    for gpu, other in ((A100, H100), (H100, A100)):
        for model, rest in (("Llama", "CodeLlama"), ("CodeLlama", "Llama")):
            library = fit([_thin(_vidur(gpu, table, model))], "cross", CUBLAS12_TILES, "cross validation")
            tests = {f"{gpu.name} {rest}": _vidur(gpu, table, rest), f"{other.name} both": _vidur(other, table)}
            for test, rows in tests.items():
                found.append({"fitted_on": f"{gpu.name} {model}", "tested_on": test, **errors_of(rows, library)})
        library = fit([_thin(_vidur(gpu, table))], "cross", CUBLAS12_TILES, "cross validation")
        rows = _vidur(other, table)
        found.append({"fitted_on": f"{gpu.name} both", "tested_on": f"{other.name} both", **errors_of(rows, library)})
    return pd.DataFrame(found)


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
