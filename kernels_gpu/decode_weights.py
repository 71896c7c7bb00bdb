"""Matrices of a decode step, each with what multiplies it: this package's GEMV, torch's library, torch's int4 kernel.

A weight binds launches for given buffers. ``OwnWeight`` holds packed codes, ``HalfWeight`` 16-bit floats (cuBLAS on a
GPU), ``TinygemmWeight`` the codes of ``torch._weight_int4pack_mm``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from datatypes.layer_config import TensorConfig
from datatypes.packing import unpack_tensor
from datatypes.tensor import QuantizedTensor
from kernels_gpu.gemv_launch import PackedMatrix, from_quantized, prepare_all
from kernels_gpu.gemv_plan import Plan
from kernels_gpu.gemv_recipes import quantize_randomly

Call = Callable[[], object]
TINYGEMM_GROUP, TINYGEMM_TILES = 128, 8  # group of the scales; inner k tiles of its layout


class Weight(Protocol):
    """One matrix ``[n, k]`` of a product."""

    @property
    def nbytes(self) -> int:
        """Bytes that a product reads of it."""

    @property
    def own(self) -> bool:
        """Whether its kernels are this package's: the next may then start while they run."""

    @property
    def late(self) -> bool:
        """Whether its result is allocated by the product itself, so that binding it computes it."""

    @property
    def plan(self) -> Plan | None:
        """What sets its tolerance; ``None`` for products of 16-bit floats."""

    def dense(self) -> Tensor | None:
        """Its values, float32 ``[n, k]``, where they can be compared."""

    def bind(self, x: Tensor, out: Tensor, *, overlapped: bool) -> tuple[Sequence[Call], Tensor]:
        """Launches that compute ``x @ weight.T``, and where the result is: ``out`` unless the weight is late."""


@dataclass(frozen=True, eq=False)
class OwnWeight:
    """Packed codes, multiplied by ``kernels_gpu.gemv``."""

    matrix: PackedMatrix
    own = True
    late = False

    @property
    def nbytes(self) -> int:
        return self.matrix.nbytes

    @property
    def plan(self) -> Plan | None:
        return self.matrix.plan

    def dense(self) -> Tensor | None:
        return unpack_tensor(self.matrix.arrays, self.matrix.config, self.matrix.shape).dequantize().float()

    def bind(self, x: Tensor, out: Tensor, *, overlapped: bool) -> tuple[Sequence[Call], Tensor]:
        return prepare_all(self.matrix, x, out, overlapped=overlapped), out


@dataclass(frozen=True, eq=False)
class HalfWeight:
    """16-bit floats, multiplied by torch's library (cuBLAS on a GPU)."""

    weight: Tensor
    own = False
    late = False
    plan = None

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes

    def dense(self) -> Tensor | None:
        return self.weight.float()

    def bind(self, x: Tensor, out: Tensor, *, overlapped: bool) -> tuple[Sequence[Call], Tensor]:
        return (partial(torch.mm, x, self.weight.T, out=out),), out


@dataclass(frozen=True, eq=False)
class TinygemmWeight:
    """Codes and scales of torch's int4 kernel, which takes bfloat16 and allocates its result."""

    codes: Tensor
    scales: Tensor
    own = False
    late = True
    plan = None

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.scales.nbytes

    def dense(self) -> Tensor | None:
        return None

    def bind(self, x: Tensor, out: Tensor, *, overlapped: bool) -> tuple[Sequence[Call], Tensor]:
        return (), torch.ops.aten._weight_int4pack_mm(x, self.codes, TINYGEMM_GROUP, self.scales)


def weight_of(dense: Tensor, config: TensorConfig | None) -> Weight:
    """A matrix in an encoding, on its device; ``None`` for its 16-bit floats as they are.

    Raises:
        NotImplementedError: an encoding without a kernel.
    """
    if config is None:
        return HalfWeight(dense.contiguous())
    return OwnWeight(from_quantized(quantize_randomly(dense.float(), config), dense.device))


_ROW_FIELDS = ("codes", "scale", "outer_scale", "zero_point", "selector", "codebook")


def joined(parts: Sequence[QuantizedTensor]) -> QuantizedTensor:
    """Quantized matrices of the same inputs as one, rows after rows: queries, keys and values, or gate and up.

    Raises:
        ValueError: encodings or inputs differ.
        NotImplementedError: something is shared by all rows of a part, such as a scale for a whole matrix.
    """
    config, k = parts[0].config, parts[0].shape[1]
    if any(part.config != config or part.shape[1] != k for part in parts):
        raise ValueError(
            f"matrices to be joined must have one encoding and {k} inputs, not "
            f"{[(part.config.formats[0].name, part.shape[1]) for part in parts]!r}"
        )
    by_row = {name: [getattr(part, name) for part in parts] for name in _ROW_FIELDS}
    others = {f.name for f in fields(QuantizedTensor)} - {"config", "shape", *_ROW_FIELDS}
    beside = sorted(name for name in others if getattr(parts[0], name) is not None)
    shared = sorted(
        name
        for name, tensors in by_row.items()
        if tensors[0] is not None and any(len(t) != part.shape[0] for t, part in zip(tensors, parts, strict=True))
    )
    if beside or shared:
        raise NotImplementedError(f"matrices to be joined must have rows of their own alone, not {beside + shared!r}")
    rows = {name: None if tensors[0] is None else torch.cat(tensors) for name, tensors in by_row.items()}
    made = replace(parts[0], **rows)  # type: ignore[arg-type]
    return replace(made, shape=(sum(part.shape[0] for part in parts), k))


def random_tinygemm(n: int, k: int, device: torch.device | str) -> Weight:
    """A random weight of torch's int4 kernel.

    Raises:
        ValueError: sizes that it does not take.
    """
    if k % TINYGEMM_GROUP or n % 8:
        raise ValueError(f"n and k of tinygemm must be multiples of 8 and {TINYGEMM_GROUP}, not {n!r} and {k!r}")
    codes = torch.randint(0, 256, (n, k // 2), dtype=torch.uint8, device=device)
    scales = torch.rand((k // TINYGEMM_GROUP, n, 2), device=device) * (0.02 / 8)
    scales[..., 1] = 0
    packed = torch.ops.aten._convert_weight_to_int4pack(codes, TINYGEMM_TILES)
    return TinygemmWeight(packed, scales.bfloat16())
