"""Inputs of a layer's dense product: taken in stored column order, and divided by the smoothing vector.

``out[t, j] = x[t, index[j]] / smoothing[index[j]]``, rounded to the type of ``x`` once. The order is that of a weight
whose columns are permuted (GPTQ act-order) or left out where outlier columns take their place (OWQ).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from numba import cuda, uint32

from kernels_gpu import ptx, ptx_tile
from kernels_gpu.pairs import pair_functions

ARGUMENTS = "pppp" + "ii"
THREADS = 128


@dataclass(frozen=True)
class InputsSpec:
    """One compiled kernel.

    Args:
        columns: of x.
        taken: columns of the result.
        indexed: they are given by an index; else ``taken`` is ``columns``.
        divided: by a smoothing vector of float32.
        bfloat: x is bfloat16 rather than float16.
    """

    columns: int
    taken: int
    indexed: bool
    divided: bool
    bfloat: bool = False

    def __post_init__(self) -> None:
        if not self.indexed and self.taken != self.columns:
            raise ValueError(f"taken must be all {self.columns} columns without an index, not {self.taken!r}")


def make_body(spec: InputsSpec) -> Callable[..., None]:
    """The kernel of one spec, to be compiled with ``ARGUMENTS``: x, index, smoothing, result, items, threads."""
    columns, taken, indexed, divided, bfloat = spec.columns, spec.taken, spec.indexed, spec.divided, spec.bfloat
    element = pair_functions(bfloat).low

    def kernel(x, index, smoothing, out, items, threads):
        item = uint32(uint32(cuda.blockIdx.x) * uint32(threads) + uint32(cuda.threadIdx.x))
        ptx_tile.start()
        token = uint32(item // uint32(taken))
        column = uint32(item - token * uint32(taken))
        there = item < uint32(items)
        if indexed and there:
            column = ptx_tile.load_word(index, column)
        ptx_tile.wait_for_previous()
        if there:
            value = element(ptx_tile.load_half(x, uint32(token * uint32(columns) + column)))
            if divided:
                value = ptx.div(value, ptx.bits_float(ptx_tile.load_word(smoothing, column)))
            ptx_tile.store_half(out, item, ptx.to_bfloat(value) if bfloat else ptx.to_half(value))

    return kernel
