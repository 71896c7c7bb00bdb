"""Which kernel a cuBLASLt takes, and its time: ``python -m kernels_gpu.bench_cublaslt --library FILE --output FILE``.

For another generation of the library than torch brings along: ``libcublasLt.so.12`` of nvidia-cublas-cu12 12.1.3.1,
the one of torch's builds for CUDA 12.1, is behind ``hwmodel/data/gpu_measured_h100_cublas12.csv`` (taken with the same
calls and a list of shapes of its own, before this file was written). 16-bit products summed in 32 bits,
``y[m, n] = x[m, k] @ w[n, k].T``, 32 MiB of workspace as torch gives it on Hopper, random data, weights taken in turn
from 4 GiB. A time is the median of three replays of a CUDA graph of eight products, so that what lies between two
kernels of a graph counts. Names of tiles and clusters are those of ``cublasLt.h``; outputs come first, then tokens.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from kernels_gpu.bench_library import SHAPES, write_table
from kernels_gpu.bench_record import exit_without_cuda

TOKENS = (1, 8, 64, 128, 136, 192, 256, 264, 320, 384, 392, 512, 520, 576, 640, 648, 768, 896, 904, 1024, 1040, 1280,
          1536, 1792, 2048, 3072, 4096)  # fmt: skip
# cublasMatmulTile_t and cublasLtClusterShape_t of cublasLt.h, CUDA 12.1: the number is the place in the list
TILES = (
    "none", "8x8", "8x16", "16x8", "8x32", "16x16", "32x8", "8x64", "16x32", "32x16", "64x8", "32x32", "32x64",
    "64x32", "32x128", "64x64", "128x32", "64x128", "128x64", "64x256", "128x128", "256x64", "64x512", "128x256",
    "256x128", "512x64", "64x96", "96x64", "96x128", "128x160", "160x128", "192x128", "128x192", "128x96", "32x256",
    "256x32",
)  # fmt: skip
CLUSTERS = (
    "auto", "none", "1x1", "2x1", "4x1", "1x2", "2x2", "4x2", "1x4", "2x4", "4x4", "8x1", "1x8", "8x2", "2x8", "16x1",
    "1x16", "3x1", "5x1", "6x1", "7x1", "9x1", "10x1", "11x1", "12x1", "13x1", "14x1", "15x1", "3x2", "5x2", "6x2",
    "7x2", "1x3", "2x3", "3x3", "4x3", "5x3", "3x4", "1x5", "2x5", "3x5", "1x6", "2x6", "1x7", "2x7", "1x9", "1x10",
    "1x11", "1x12", "1x13", "1x14", "1x15",
)  # fmt: skip
_HALF, _FLOAT, _COMPUTE_FLOAT, _TRANSPOSED = 2, 0, 68, 1  # cudaDataType_t, cublasComputeType_t, cublasOperation_t
_TRANSPOSE_A, _MOST_WORKSPACE = 3, 1  # cublasLtMatmulDescAttributes_t, cublasLtMatmulPreferenceAttributes_t
_ALGORITHM, _TILE, _SPLIT, _CLUSTER = 0, 1, 2, 8  # cublasLtMatmulAlgoConfigAttributes_t
_WORKSPACE_BYTES = 32 << 20
_POOL = 1 << 31  # 16-bit weights to take in turn
_MOST_INPUTS, _MOST_OUTPUTS = 4096 * 32768, 4096 * 65536
_CALLS, _REPLAYS = 8, 3
_DRAWN_N = (768, 1024, 1280, 1792, 2304, 3072, 3584, 4608, 5120, 6144, 7168, 8192, 9216, 10240, 12288, 14336, 16384,
            20480, 28672, 36864, 57344)  # fmt: skip
_DRAWN_K = (512, 1024, 1792, 2048, 2560, 3584, 4096, 5120, 6144, 7168, 8192, 10240, 12288, 14336, 18432, 24576, 28672)
_DRAWN_TOKENS = (1, 2, 4, 8, 16, 32, 48, 64, 80, 96, 128)
_FROM_128 = 12 / 23  # share of products of 128 tokens and more


class _Heuristic(ctypes.Structure):  # cublasLtMatmulHeuristicResult_t
    _fields_ = (
        ("algorithm", ctypes.c_uint64 * 8), ("workspace", ctypes.c_size_t), ("state", ctypes.c_int),
        ("waves", ctypes.c_float), ("reserved", ctypes.c_int * 4),
    )  # fmt: skip


class Library:
    """A cuBLASLt, loaded from a file, that is asked for 16-bit products.

    Raises:
        ValueError: the file is no such library, or it refuses a call.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._calls = ctypes.CDLL(str(path))
        except OSError as error:
            raise ValueError(f"library must be a libcublasLt.so, not {str(path)!r} ({error})") from None
        self._handle, self._product, self._preference = (ctypes.c_void_p() for _ in range(3))
        self._call("cublasLtCreate", ctypes.byref(self._handle))
        self._call("cublasLtMatmulDescCreate", ctypes.byref(self._product), _COMPUTE_FLOAT, _FLOAT)
        transposed, most = ctypes.c_int(_TRANSPOSED), ctypes.c_size_t(_WORKSPACE_BYTES)
        self._set("cublasLtMatmulDescSetAttribute", self._product, _TRANSPOSE_A, transposed)
        self._call("cublasLtMatmulPreferenceCreate", ctypes.byref(self._preference))
        self._set("cublasLtMatmulPreferenceSetAttribute", self._preference, _MOST_WORKSPACE, most)

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._calls, name)(*arguments)
        if status:
            raise ValueError(f"{name} must succeed, not return status {status}")

    def _set(self, name: str, of: ctypes.c_void_p, attribute: int, value: ctypes._SimpleCData[int]) -> None:
        self._call(name, of, attribute, ctypes.byref(value), ctypes.c_size_t(ctypes.sizeof(value)))

    def _layout(self, rows: int, columns: int) -> ctypes.c_void_p:
        made = ctypes.c_void_p()
        sizes = (ctypes.c_uint64(rows), ctypes.c_uint64(columns), ctypes.c_int64(rows))
        self._call("cublasLtMatrixLayoutCreate", ctypes.byref(made), _HALF, *sizes)
        return made

    def layouts(self, m: int, n: int, k: int) -> tuple[ctypes.c_void_p, ...]:
        """Of weights, inputs and outputs, as the library counts: columns first."""
        return self._layout(k, n), self._layout(k, m), self._layout(n, m)

    def choice(self, layouts: Sequence[ctypes.c_void_p]) -> _Heuristic:
        """The kernel that the library would take."""
        found, count = (_Heuristic * 1)(), ctypes.c_int()
        weights, inputs, outputs = layouts
        self._call(
            "cublasLtMatmulAlgoGetHeuristic", self._handle, self._product, weights, inputs, outputs, outputs,
            self._preference, 1, found, ctypes.byref(count),
        )  # fmt: skip
        chosen: _Heuristic = found[0]
        return chosen

    def name(self, chosen: _Heuristic) -> str:
        """Tile, cluster, parts of k (-1: left to the kernel) and number of the algorithm."""
        return kernel_name(*(self._setting(chosen, which) for which in (_TILE, _CLUSTER, _SPLIT, _ALGORITHM)))

    def _setting(self, chosen: _Heuristic, attribute: int) -> int:
        value, written = ctypes.c_int32(), ctypes.c_size_t()
        size = ctypes.c_size_t(2 if attribute == _CLUSTER else 4)
        place = (ctypes.byref(value), size, ctypes.byref(written))
        self._call("cublasLtMatmulAlgoConfigGetAttribute", chosen.algorithm, attribute, *place)
        return value.value

    def launch(self, chosen: _Heuristic, layouts: Sequence[ctypes.c_void_p], places: Sequence[int]) -> None:
        """One product on torch's stream; places of weights, inputs, outputs and workspace on the device."""
        weights, inputs, outputs, workspace = map(ctypes.c_void_p, places)
        one, none = ctypes.c_float(1), ctypes.c_float(0)
        self._call(
            "cublasLtMatmul", self._handle, self._product, ctypes.byref(one), weights, layouts[0], inputs, layouts[1],
            ctypes.byref(none), outputs, layouts[2], outputs, layouts[2], chosen.algorithm, workspace,
            ctypes.c_size_t(_WORKSPACE_BYTES), ctypes.c_void_p(torch.cuda.current_stream().cuda_stream),
        )  # fmt: skip

    def release(self, layouts: Sequence[ctypes.c_void_p]) -> None:
        """Give layouts back."""
        for layout in layouts:
            self._call("cublasLtMatrixLayoutDestroy", layout)


def kernel_name(tile: int, cluster: int, split: int, algorithm: int) -> str:
    """What the table calls a kernel: tile, cluster, parts of k, algorithm.

    >>> kernel_name(20, 7, -1, 39)
    '128x128 4x2 -1 39'
    """
    return f"{TILES[tile]} {CLUSTERS[cluster]} {split} {algorithm}"


def products(seed: int) -> Iterator[tuple[int, int, int]]:
    """(m, n, k): known shapes at ``TOKENS``, then drawn ones without an end."""
    yield from ((m, n, k) for n, k in SHAPES for m in TOKENS)
    draw = np.random.default_rng(seed)
    while True:
        many = draw.random() < _FROM_128
        m = 8 * int(2 ** draw.uniform(4, 9)) if many else int(draw.choice(_DRAWN_TOKENS))
        yield m, int(draw.choice(_DRAWN_N)), int(draw.choice(_DRAWN_K))


def times(library: Library, seconds: float, seed: int = 0) -> Iterator[dict[str, object]]:
    """Rows of the table until ``seconds`` have passed; needs a CUDA device with 8 GiB."""
    pool, inputs = (torch.randn(size, dtype=torch.float16, device="cuda") for size in (_POOL, _MOST_INPUTS))
    outputs = torch.empty(_MOST_OUTPUTS, dtype=torch.float16, device="cuda")
    workspace = torch.empty(_WORKSPACE_BYTES, dtype=torch.uint8, device="cuda")
    end = time.monotonic() + seconds
    for m, n, k in products(seed):
        if time.monotonic() > end:
            return
        layouts = library.layouts(m, n, k)
        chosen = library.choice(layouts)
        turns, others = _POOL // (n * k), (inputs.data_ptr(), outputs.data_ptr(), workspace.data_ptr())
        library.launch(chosen, layouts, (pool.data_ptr(), *others))  # loads the kernel, which a capture must not
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for i in range(_CALLS):
                library.launch(chosen, layouts, (pool.data_ptr() + i % turns * n * k * 2, *others))
        found = []
        for _ in range(_REPLAYS):
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            graph.replay()
            stop.record()
            stop.synchronize()
            found.append(start.elapsed_time(stop) / _CALLS * 1e3)
        middle = statistics.median(found)
        yield {
            "kind": "gemm", "m": m, "n": n, "k": k, "us": round(middle, 2),
            "spread": round((middle - min(found)) / middle, 4), "calls": _CALLS * _REPLAYS,
            "kernels": library.name(chosen),
        }  # fmt: skip
        library.release(layouts)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", type=Path, required=True, help="libcublasLt.so of the generation to be timed")
    parser.add_argument("--output", type=Path, required=True, help="table to be written")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long to go on with random shapes")
    arguments = parser.parse_args()
    exit_without_cuda()
    try:
        rows = list(times(Library(arguments.library), arguments.seconds))
    except ValueError as error:
        parser.error(str(error))
    write_table(arguments.output, rows)


if __name__ == "__main__":
    main()
