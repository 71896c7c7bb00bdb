"""Measured times of 16-bit kernels on GPUs, as flat tables: the ground truth of ``gpu_gemm``.

Two laboratories: Vidur's profiles (microsoft/vidur, MIT; medians of Llama-2-7B and CodeLlama-34B layers on an A100 and
an H100, cuBLAS of CUDA 12; not part of the project, looked for in ``CODESIGN_SHARED`` or ``../shared``), and the
project's own (``data/gpu_measured_<gpu>.csv``, written by ``python -m kernels_gpu.bench_library``: H100 and H200 SXM of
700 W, driver 580.159, torch 2.11, CUDA 13.0, random data, cold L2). ``h100_cublas12`` holds products of the H100 with
Vidur's library, and the kernel it took for each (``python -m kernels_gpu.bench_cublaslt``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from hwmodel.gpu_library import DATA

_US = 1e-6
_MS = 1e-3
MEASURED_GPUS = ("h100", "h200")
# Fused projections of a layer in Vidur's columns.
PROJECTIONS: Mapping[str, str] = {
    "qkv": "attn_pre_proj", "output": "attn_post_proj", "up": "mlp_up_proj", "down": "mlp_down_proj",
}  # fmt: skip


def shared_file(name: str) -> Path | None:
    """A reference table that is not part of the project, or ``None`` where there is none."""
    root = Path(os.environ.get("CODESIGN_SHARED", Path(__file__).resolve().parents[1].parent / "shared"))
    path = root / "reference" / "data" / name
    return path if path.exists() else None


def vidur_gemms(path: Path | None = None) -> pd.DataFrame:
    """Vidur's projections: gpu, model, tensor_parallel, projection, m, n, k, seconds; repeated rows averaged.

    Args:
        path: a CSV with Vidur's columns; by default the shared one.

    Raises:
        ValueError: there is no such file, or a column is missing.
    """
    table = _read(path)
    heads = table["n_embd"] // table["n_head"]
    parallel = table["tensor_parallel"]
    query = table["n_head"] * heads // parallel
    cache = (table["n_kv_head"] // parallel).clip(lower=1) * heads
    ffn = table["n_ffn"] // parallel
    up = ffn * (1 + table["gated"].astype(int))
    shapes = {
        "qkv": (query + 2 * cache, table["n_embd"]), "output": (table["n_embd"], query),
        "up": (up, table["n_embd"]), "down": (table["n_embd"], ffn),
    }  # fmt: skip
    parts = [
        pd.DataFrame({
            "gpu": table["gpu"], "model": table["model"], "tensor_parallel": parallel, "projection": projection,
            "m": table["num_tokens"], "n": n, "k": k, "seconds": table[f"{PROJECTIONS[projection]}_ms"] * _MS,
        })
        for projection, (n, k) in shapes.items()
    ]  # fmt: skip
    keys = ["gpu", "model", "tensor_parallel", "projection", "m", "n", "k"]
    return pd.concat(parts).groupby(keys, as_index=False, sort=False)["seconds"].mean()


def _read(path: Path | None) -> pd.DataFrame:
    found = shared_file("vidur_gemm.csv") if path is None else path
    if found is None:
        raise ValueError("vidur_gemm.csv must lie in reference/data of CODESIGN_SHARED or ../shared")
    try:
        table = pd.read_csv(found)
    except (OSError, ValueError) as error:
        raise ValueError(f"Vidur's table must be a readable CSV, not {str(found)!r} ({error})") from None
    needed = ["gpu", "model", "num_tokens", "tensor_parallel", "n_head", "n_kv_head", "n_embd", "n_ffn", "gated"]
    needed += [f"{column}_ms" for column in PROJECTIONS.values()]
    missing = [column for column in needed if column not in table.columns]
    if missing:
        raise ValueError(f"Vidur's table {found} must have the columns {', '.join(missing)}")
    return table


def measured(gpu: str, kind: str = "gemm") -> pd.DataFrame:
    """The project's own rows of one kind: m, n, k, batch, kv_heads, seconds, spread.

    Raises:
        ValueError: no rows of that GPU or kind.
    """
    path = DATA / f"gpu_measured_{gpu}.csv"
    if not path.exists():
        raise ValueError(f"measured GPU must be one of {', '.join(MEASURED_GPUS)}, not {gpu!r}")
    table = pd.read_csv(path)
    rows = table[table["kind"] == kind]
    if rows.empty:
        raise ValueError(f"kind of measured rows must be one of {', '.join(table['kind'].unique())}, not {kind!r}")
    return rows.assign(gpu=gpu, seconds=rows["us"] * _US).reset_index(drop=True)
