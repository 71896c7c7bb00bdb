"""A quantized matrix as stored: codes, scales, zero points, selectors; and what it decodes to.

Decoding is one definition, in float32, that every other body (packed files, kernels, HLS) must equal bit for bit:

    scale  = decode(stored scale) * decode(stored outer scale)            (one rounding)
             + decode(stored outer offset)                                where there is one (a second rounding)
    zero   = decode(stored zero point), or as the scale where zero points have a second level
    weight = value(code) * scale                                          symmetric types
    weight = (value(code) - zero) * scale                                 integer zero points
    weight = value(code) * scale + zero                                   real offsets (two roundings)

followed by the stored column scale, then the row scale, then the residual, each one float32 operation.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from datatypes import kernels_cpu
from datatypes.format import FloatFormat, Format, IntFormat, LearnedFormat
from datatypes.granularity import Granularity, PerBlock
from datatypes.layer_config import SecondLevel, TensorConfig
from datatypes.row_threads import over_rows

TORCH_FLOATS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """One encoded matrix ``[n, k]``.

    Args:
        config: the encoding.
        shape: (n, k).
        codes: uint8 (int32 above 8 bits) ``config.code_shape(shape)``, which is ``[n, ceil(k / dim)]`` for vectors
            along rows; the values themselves where the config has no scale and a float format (FP16).
        scale: stored scales ``[gn, gk]``: a float tensor for FP16/BF16/FP32, uint8 codes otherwise; ``None`` for none.
        outer_scale: stored second-level scales, float tensor, shaped by ``config.scale.outer_granularity``.
        outer_offset: stored second-level offsets, shaped by ``config.scale.second_level.offset_tiles``.
        zero_point: ``[gn, gk]``: int32 for integer zero points, a float tensor for real offsets; codes of
            ``config.zero_point`` where zero points have a second level.
        zero_point_scale, zero_point_offset: that level, as ``outer_scale`` and ``outer_offset``.
        selector: uint8 ``[sn, sk]``, index into ``config.formats``.
        codebook: ``[tiles, 2**bits, dim]`` of ``config.codebook.format``, tiles in row-major order.
        residual: second encoding, added on decode.
        mask: bool ``[n, k]``, true where an element is stored (semi-structured sparsity).
        row_scale, column_scale: float tensors ``[n]`` and ``[k]``.
    """

    config: TensorConfig
    shape: tuple[int, int]
    codes: Tensor
    scale: Tensor | None = None
    outer_scale: Tensor | None = None
    zero_point: Tensor | None = None
    selector: Tensor | None = None
    codebook: Tensor | None = None
    residual: QuantizedTensor | None = None
    mask: Tensor | None = None
    row_scale: Tensor | None = None
    column_scale: Tensor | None = None
    outer_offset: Tensor | None = None
    zero_point_scale: Tensor | None = None
    zero_point_offset: Tensor | None = None

    def to(self, device: torch.device | str) -> QuantizedTensor:
        """The same on another device."""
        moved = {
            f.name: getattr(self, f.name).to(device)
            for f in fields(self)
            if isinstance(getattr(self, f.name), Tensor | QuantizedTensor)
        }
        return replace(self, **moved)

    def effective_scale(self) -> Tensor | None:
        """Scale of each tile, float32 ``[gn, gk]``, both levels put together; ``None`` where there is none."""
        if self.scale is None or self.config.scale is None:
            return None
        scale, level = decode_stored(self.scale, self.config.scale.format), self.config.scale.second_level
        if self.outer_scale is None or level is None:
            return scale
        return decode_second_level(
            scale, level, self.outer_scale, self.outer_offset, tiles=self.config.granularity, shape=self.shape
        )

    def effective_zero_point(self) -> Tensor | None:
        """Zero point of each tile, float32 ``[gn, gk]``, both levels put together; ``None`` where there is none."""
        if self.zero_point is None or self.config.zero_point is None:
            return None
        level = self.config.zero_point_level
        if level is None and isinstance(self.config.zero_point, IntFormat):
            return self.zero_point.to(torch.float32)  # the integers themselves, not codes
        zero = decode_stored(self.zero_point, self.config.zero_point)
        if level is None:
            return zero
        assert self.zero_point_scale is not None
        return decode_second_level(
            zero,
            level,
            self.zero_point_scale,
            self.zero_point_offset,
            tiles=self.config.granularity,
            shape=self.shape,
        )

    def values(self) -> Tensor:
        """Decoded elements before scaling, float32 ``[n, k]``."""
        if (
            self.config.scale is None
            and isinstance(self.config.formats[0], FloatFormat)
            and (self.codes.dtype.is_floating_point)
        ):
            return self.codes.to(torch.float32)
        if self.codebook is not None:
            return self._codebook_values()
        tables = torch.stack([value_table(f) for f in self.config.formats]).to(self.codes.device)
        index = self.codes.to(torch.int64)
        if len(self.config.formats) == 1:
            picked = tables[0][index]
        else:
            assert self.selector is not None
            selector = expand_tiles(self.selector, self.config.selector_granularity, self.shape)
            picked = tables.flatten(0, 1)[self._of_vectors(selector) * tables.shape[1] + index]
        return self._elements(picked)

    def _of_vectors(self, per_element: Tensor) -> Tensor:
        """What the first element of each code's vector has, int64, in the shape of the codes."""
        dim = self.config.formats[0].dim
        first = per_element[::dim] if self.config.vectors_along_output else per_element[:, ::dim]
        return first.to(torch.int64)

    def _elements(self, picked: Tensor) -> Tensor:
        """Values of each code, in the shape of the codes (and ``dim`` for vectors), as ``[n, k]``."""
        n, k = self.shape
        if self.config.vectors_along_output:
            return picked.transpose(1, 2).reshape(-1, k)[:n].contiguous()
        return picked.reshape(n, self.codes.shape[1] * self.config.formats[0].dim)[:, :k]

    def _codebook_values(self) -> Tensor:
        assert self.config.codebook is not None and self.codebook is not None
        granularity = self.config.codebook.granularity
        tiles = torch.arange(granularity.count(self.shape), device=self.codes.device)
        tiles = expand_tiles(tiles.reshape(granularity.scale_shape(self.shape)), granularity, self.shape)
        book = self.codebook.to(torch.float32)
        return self._elements(book[self._of_vectors(tiles), self.codes.to(torch.int64)])

    def _decoded_rows(self) -> Tensor | None:
        """Decoded and scaled elements by the compiled kernels, where those can do it: groups along rows, on the CPU."""
        n, k = self.shape
        scale = self.effective_scale()
        compiled = (
            scale is not None
            and self.codes.device.type == "cpu"
            and self.codes.dtype == torch.uint8
            and self.codebook is None
            and all(f.dim == 1 for f in self.config.formats)
            and self.config.granularity.tile(self.shape)[0] == 1
            and (self.zero_point is None or isinstance(self.config.zero_point, IntFormat))
            and (self.zero_point is None or len(self.config.formats) == 1)
        )
        if not compiled or scale is None or n * k == 0:
            return None
        out = torch.empty(self.shape)
        tables = _stacked_tables(self.config.formats)
        group = min(self.config.granularity.tile(self.shape)[1], k)
        codes, steps = self.codes.contiguous().numpy(), scale.contiguous().numpy()
        zero = self.effective_zero_point()
        if zero is not None:
            arguments = (codes, group, steps, zero.contiguous().numpy(), tables[0], out.numpy())
            over_rows(kernels_cpu.decode_rows_zero, n, k, *arguments)
            return out
        choice = np.zeros(steps.shape, np.uint8)
        if self.selector is not None:
            spread = spread_tiles(self.selector, self.config.selector_granularity, self.config.granularity, self.shape)
            choice = spread.contiguous().numpy()
        over_rows(kernels_cpu.decode_rows, n, k, codes, group, steps, choice, tables, out.numpy())
        return out

    def dequantize(self) -> Tensor:
        """The matrix that the codes stand for, float32 ``[n, k]`` (see the module docstring for the arithmetic)."""
        x = self._decoded_rows()
        scale = None if x is not None else self.effective_scale()
        if x is None:
            x = self.values()
        if scale is not None:
            scale = expand_tiles(scale, self.config.granularity, self.shape)
            zero = self.effective_zero_point()
            if zero is None:
                x = x * scale
            else:
                zero = expand_tiles(zero, self.config.granularity, self.shape)
                x = x * scale + zero if isinstance(self.config.zero_point, FloatFormat) else (x - zero) * scale
        if self.mask is not None:
            x = torch.where(self.mask, x, torch.zeros((), device=x.device))
        if self.column_scale is not None:
            x = x * decode_stored(self.column_scale, self.config.column_scale)
        if self.row_scale is not None:
            x = x * decode_stored(self.row_scale, self.config.row_scale)[:, None]
        if self.residual is not None:
            x = x + self.residual.dequantize()
        return x


def expand_tiles(per_tile: Tensor, granularity: Granularity, shape: tuple[int, int]) -> Tensor:
    """One value per tile ``[gn, gk]`` spread over its elements ``[n, k]`` (a view where that is possible)."""
    n, k = shape
    rows, columns = granularity.tile(shape)
    if n * k == 0:
        return per_tile.new_empty(shape)
    if rows >= n and columns >= k:
        return per_tile.reshape(1, 1).expand(n, k)
    if rows == 1 and columns >= k:
        return per_tile.reshape(n, 1).expand(n, k)
    if columns == 1 and rows >= n:
        return per_tile.reshape(1, k).expand(n, k)
    gn, gk = per_tile.shape
    wide = per_tile[:, None, :, None].expand(gn, rows, gk, columns)
    return wide.reshape(gn * rows, gk * columns)[:n, :k]


def tiles_in_tile(fine: Granularity, coarse: Granularity, shape: tuple[int, int]) -> Granularity:
    """``coarse`` as a tiling of the array of ``fine`` tiles.

    Raises:
        ValueError: a coarse tile would cut a fine one.
    """
    steps = []
    for size, inner, outer in zip(shape, fine.tile(shape), coarse.tile(shape), strict=True):
        if outer < size and outer % inner:
            raise ValueError(f"tiles of {coarse!r} must be made of whole tiles of {fine!r}, for a matrix {shape!r}")
        steps.append(max(1, -(-min(outer, size) // inner)))
    return PerBlock(steps[0], steps[1])


def spread_tiles(per_tile: Tensor, coarse: Granularity, fine: Granularity, shape: tuple[int, int]) -> Tensor:
    """One value per coarse tile, given to each of the fine tiles inside it."""
    return expand_tiles(per_tile, tiles_in_tile(fine, coarse, shape), fine.scale_shape(shape))


def decode_second_level(
    values: Tensor,
    level: SecondLevel,
    scale: Tensor,
    offset: Tensor | None,
    *,
    tiles: Granularity,
    shape: tuple[int, int],
) -> Tensor:
    """``values * scale + offset``, float32 ``[gn, gk]``, one float32 operation each.

    Args:
        values: values of the codes, one for each of ``tiles`` of a matrix of ``shape``.
        scale, offset: stored, one for each of the level's tiles; ``offset`` is ``None`` where the level has none.
    """
    made = values * spread_tiles(decode_stored(scale, level.scale), level.granularity, tiles, shape)
    if level.offset is None or offset is None:
        return made
    return made + spread_tiles(decode_stored(offset, level.offset), level.offset_tiles, tiles, shape)


@lru_cache(maxsize=256)
def _stacked_tables(formats: tuple[Format, ...]) -> np.ndarray:
    """Values of every code of every candidate, float32 ``[F, 2**bits]``."""
    return np.stack([fmt.code_values.astype(np.float32) for fmt in formats])


def value_table(fmt: Format) -> Tensor:
    """Value of every code, float32 ``[2**bits]``, or ``[2**bits, dim]`` for pair and vector formats."""
    if isinstance(fmt, LearnedFormat):
        raise NotImplementedError(f"{fmt.name} keeps its values in QuantizedTensor.codebook")
    if fmt.dim > 1:
        return torch.from_numpy(fmt.decode(np.arange(1 << fmt.bits)[:, None]).copy())
    return torch.from_numpy(fmt.code_values.astype(np.float32))


def decode_stored(stored: Tensor, fmt: Format | None) -> Tensor:
    """Stored scales as float32: float tensors as they are, codes through the format's table."""
    if stored.dtype.is_floating_point:
        return stored.to(torch.float32)
    assert fmt is not None
    if isinstance(fmt, IntFormat) and not fmt.signed_codes and fmt.step == 1.0:
        return stored.to(torch.float32)
    return value_table(fmt).to(stored.device)[stored.to(torch.int64)]
