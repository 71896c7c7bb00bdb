"""Codes in 32-bit words: the one layout of files, GPU kernels and HLS; and quantized tensors as named arrays.

A row of codes is cut into blocks of 32 codes, the last one filled with zeros. A block of ``b``-bit codes takes ``b``
words. Each code is split into planes, high bits first, whose widths are the powers of two that make up ``b``
(3 = 2 + 1, 5 = 4 + 1, 6 = 4 + 2, 7 = 4 + 2 + 1), so that no code crosses a word. The plane of width ``w`` takes ``w``
consecutive words of the block; in it, code ``j`` starts at bit ``(j * w) % 32`` of word ``j * w // 32``, bit 0 being
the least significant::

    3-bit codes, one block of 32:

    word 0   | c15[2:1] | ... | c2[2:1] | c1[2:1] | c0[2:1] |     plane of width 2: bits 2 and 1 of codes 0 to 15
    word 1   | c31[2:1] | ... | c17[2:1]           | c16[2:1] |                        of codes 16 to 31
    word 2   | c31[0] | c30[0] | ... | c1[0] | c0[0] |            plane of width 1: bit 0 of all 32 codes
             bit 31                              bit 0

Codes of 16 bits or more are stored as they are, one element each. Fields that are not rows of codes (scales, selectors,
indices, masks) are packed *flat*: the same planes over the whole array in row-major order, each plane padded to whole
words. Floats (FP16, BF16, FP32) stay floats, padded with zeros to whole words.

``pack_tensor`` and ``pack_layer`` turn the nouns into flat mappings of arrays, ready for safetensors; their bytes are
exactly ``TensorConfig.storage_bits`` / 8 and ``LayerConfig.storage_bits`` / 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import overload

import numpy as np
import torch
from torch import Tensor

from datatypes.format import FloatFormat, Format, IntFormat
from datatypes.layer_config import TensorConfig
from datatypes.planes import BLOCK_CODES, WORD_BITS, flat_words, plane_widths, row_words
from datatypes.rounding import code_dtype, decode, encode
from datatypes.tensor import TORCH_FLOATS, QuantizedTensor

_WORD_TYPES = {16: torch.int16, 32: torch.int32}


@overload
def pack(codes: np.ndarray, bits: int) -> np.ndarray: ...
@overload
def pack(codes: Tensor, bits: int) -> Tensor: ...
def pack(codes: np.ndarray | Tensor, bits: int) -> np.ndarray | Tensor:
    """Rows of codes ``[n, c]`` as words ``[n, ceil(c / 32) * bits]``: int32 for a tensor, uint32 for an array.

    >>> words = pack(np.array([[1, 2, 3, 4, 5]]), 3)
    >>> [f"{int(word):#x}" for word in words[0]]  # high bits 0,1,1,2,2 in pairs; nothing; low bits 1,0,1,0,1
    ['0x294', '0x0', '0x15']

    Raises:
        ValueError: not a matrix, or a code that does not fit.
    """
    if isinstance(codes, np.ndarray):
        return pack(torch.from_numpy(np.ascontiguousarray(codes).astype(np.int32)), bits).numpy().view(np.uint32)
    if codes.dim() != 2:
        raise ValueError(f"codes must be a matrix [n, c], not of shape {list(codes.shape)!r}")
    _check_range(codes, bits)
    n, c = codes.shape
    blocks = torch.nn.functional.pad(codes, (0, -c % BLOCK_CODES)).reshape(n, -1, BLOCK_CODES)
    planes = [_pack_plane(part, width) for part, width in _planes(blocks, bits)]
    return torch.cat(planes, dim=2).reshape(n, row_words(c, bits))


@overload
def unpack(words: np.ndarray, bits: int, columns: int) -> np.ndarray: ...
@overload
def unpack(words: Tensor, bits: int, columns: int) -> Tensor: ...
def unpack(words: np.ndarray | Tensor, bits: int, columns: int) -> np.ndarray | Tensor:
    """The inverse of ``pack``: codes ``[n, columns]``, uint8, or int32 above 8 bits.

    Raises:
        ValueError: the words are not as many as ``columns`` codes take.
    """
    if isinstance(words, np.ndarray):
        return unpack(torch.from_numpy(np.ascontiguousarray(words).view(np.int32)), bits, columns).numpy()
    if words.dim() != 2 or words.shape[1] != row_words(columns, bits):
        raise ValueError(
            f"words must be [n, {row_words(columns, bits)}] for {columns} codes of {bits} bits, "
            f"not of shape {list(words.shape)!r}"
        )
    n = len(words)
    blocks = words.reshape(n, -1, bits)
    codes = torch.zeros((n, blocks.shape[1], BLOCK_CODES), dtype=_unpacked_type(bits), device=words.device)
    first, below = 0, bits
    for width in plane_widths(bits):
        below -= width
        codes |= _unpack_plane(blocks[:, :, first : first + width], width).to(codes.dtype) << below
        first += width
    return codes.reshape(n, -1)[:, :columns].contiguous()


def pack_flat(values: Tensor, bits: int) -> Tensor:
    """Fields of any shape as int32 words ``[flat_words(count, bits)]``, in row-major order."""
    _check_range(values, bits)
    flat = values.reshape(-1)
    planes = []
    for part, width in _planes(flat, bits):
        padded = torch.nn.functional.pad(part, (0, -len(flat) % (WORD_BITS // width)))
        planes.append(_pack_plane(padded[None], width)[0])
    return torch.cat(planes)


def unpack_flat(words: Tensor, bits: int, count: int) -> Tensor:
    """The inverse of ``pack_flat``: ``[count]``, uint8, or int32 above 8 bits."""
    if words.shape != (flat_words(count, bits),):
        raise ValueError(
            f"words must be [{flat_words(count, bits)}] for {count} fields of {bits} bits, "
            f"not of shape {list(words.shape)!r}"
        )
    values = torch.zeros(count, dtype=_unpacked_type(bits), device=words.device)
    first, below = 0, bits
    for width in plane_widths(bits):
        below -= width
        size = -(-count * width // WORD_BITS)
        part = _unpack_plane(words[None, first : first + size], width)[0, :count]
        values |= part.to(values.dtype) << below
        first += size
    return values


def _check_range(codes: Tensor, bits: int) -> None:
    plane_widths(bits)  # refuses widths that cannot be packed
    if bits < 32 and codes.numel() and (int(codes.max()) >> bits or int(codes.min()) < 0):
        raise ValueError(f"codes must be 0 to {(1 << bits) - 1} to be packed in {bits} bits, not {int(codes.max())}")


def _unpacked_type(bits: int) -> torch.dtype:
    return torch.uint8 if bits <= 8 else torch.int32


def _planes(codes: Tensor, bits: int) -> list[tuple[Tensor, int]]:
    """The planes of ``codes`` with their widths, high bits first."""
    planes, below = [], bits
    if bits <= 8:
        codes = codes.to(torch.uint8)
    for width in plane_widths(bits):
        below -= width
        part = codes if width == bits else codes >> below & ((1 << width) - 1)
        planes.append((part, width))
    return planes


def _pack_plane(part: Tensor, width: int) -> Tensor:
    """Fields ``[..., c]`` of ``width`` bits, c * width a multiple of 32, as int32 words ``[..., c * width / 32]``."""
    if part.numel() == 0:
        return torch.empty(
            (*part.shape[:-1], part.shape[-1] * width // WORD_BITS), dtype=torch.int32, device=part.device
        )
    if width >= 16:
        return part.to(_WORD_TYPES[width]).contiguous().view(torch.int32)
    part = part.to(torch.uint8)
    per_byte = 8 // width
    fields = part.reshape(*part.shape[:-1], -1, per_byte)
    packed = fields[..., 0].clone()
    for i in range(1, per_byte):
        packed |= fields[..., i] << (i * width)
    return packed.contiguous().view(torch.int32)  # little-endian, like every machine torch runs on


def _unpack_plane(words: Tensor, width: int) -> Tensor:
    """Fields ``[..., c]`` out of int32 words ``[..., c * width / 32]``."""
    if words.numel() == 0:
        empty = (*words.shape[:-1], words.shape[-1] * WORD_BITS // width)
        return torch.empty(empty, dtype=torch.int32 if width >= 16 else torch.uint8, device=words.device)
    if width >= 16:
        fields = words.contiguous().view(_WORD_TYPES[width])
        return fields.to(torch.int32) & 0xFFFF if width == 16 else fields
    packed = words.contiguous().view(torch.uint8)
    if width == 8:
        return packed
    fields = torch.stack([packed >> shift for shift in range(0, 8, width)], dim=-1) & ((1 << width) - 1)
    return fields.reshape(*packed.shape[:-1], -1)


# --- fields ------------------------------------------------------------------------------------------------------


def pack_field(values: Tensor, fmt: Format) -> Tensor:
    """An array in its storage format: a flat float tensor padded to whole words, or int32 words of codes.

    Float tensors for a format that is not FP16, BF16 or FP32 are encoded (exactly where they are its values); integer
    tensors hold codes, or the integers themselves for an ``IntFormat``.
    """
    if fmt.name in TORCH_FLOATS:
        flat = values.reshape(-1).to(TORCH_FLOATS[fmt.name])
        return torch.nn.functional.pad(flat, (0, -len(flat) % max(1, WORD_BITS // fmt.bits)))
    if values.is_floating_point():
        values = encode(values.to(torch.float32), fmt)
    elif fmt.bits < 32:
        values = values.to(torch.int32) & ((1 << fmt.bits) - 1)
    return pack_flat(values, fmt.bits)


def unpack_field(stored: Tensor, fmt: Format, shape: tuple[int, ...]) -> Tensor:
    """The inverse of ``pack_field``: floats for FP16, BF16 and FP32, codes otherwise."""
    count = int(np.prod(shape))
    if fmt.name in TORCH_FLOATS:
        return stored[:count].reshape(shape)
    return unpack_flat(stored, fmt.bits, count).reshape(shape)


def unpack_values(stored: Tensor, fmt: Format, shape: tuple[int, ...]) -> Tensor:
    """Like ``unpack_field``, codes decoded: always floats."""
    field = unpack_field(stored, fmt, shape)
    return field if fmt.name in TORCH_FLOATS else decode(field, fmt)


def unpack_integers(stored: Tensor, fmt: Format, shape: tuple[int, ...]) -> Tensor:
    """Like ``unpack_field`` for integers: int32, sign extended where the format is signed."""
    codes = unpack_field(stored, fmt, shape).to(torch.int32)
    if isinstance(fmt, IntFormat) and fmt.signed_codes and fmt.bits < 32:
        return codes - ((codes >> (fmt.bits - 1)) << fmt.bits)
    return codes


# --- tensors -----------------------------------------------------------------------------------------------------


def pack_tensor(tensor: QuantizedTensor) -> dict[str, Tensor]:
    """Everything a quantized tensor stores, as named arrays.

    Keys: ``codes``, and where the config has them ``scale``, ``outer_scale``, ``outer_offset``, ``zero_point``,
    ``zero_point_scale``, ``zero_point_offset``, ``selector``, ``codebook``, ``mask``, ``row_scale``, ``column_scale``,
    ``residual.<key>``. Together they take
    ``config.storage_bits(shape).total / 8`` bytes (of a ``dynamic`` config, which stores no scales, more).
    """
    config = tensor.config
    made: dict[str, Tensor] = {}
    codes = tensor.codes
    if config.sparsity is not None:
        codes, made["mask"] = _pack_mask(tensor)
    made["codes"] = _pack_codes(codes, config.formats[0])
    for key, fmt in _field_formats(config).items():
        value = getattr(tensor, key)
        if value is None:
            raise ValueError(f"{key} must be there, as the config says, not None")
        made[key] = pack_field(value, fmt)
    if config.selector_bits:
        assert tensor.selector is not None
        made["selector"] = pack_flat(tensor.selector, config.selector_bits)
    if config.residual is not None:
        assert tensor.residual is not None
        made |= {f"residual.{key}": value for key, value in pack_tensor(tensor.residual).items()}
    return made


def unpack_tensor(tensors: Mapping[str, Tensor], config: TensorConfig, shape: tuple[int, int]) -> QuantizedTensor:
    """The inverse of ``pack_tensor``.

    Raises:
        ValueError: an array is missing, unknown, or not of the size the config asks for.
    """
    tensors = dict(tensors)
    rest = {key.removeprefix("residual."): tensors.pop(key) for key in list(tensors) if key.startswith("residual.")}
    fields = _field_formats(config)
    wanted = {"codes", *fields}
    wanted |= {"mask"} if config.sparsity is not None else set()
    wanted |= {"selector"} if config.selector_bits else set()
    if wanted != set(tensors):
        raise ValueError(f"arrays of a tensor must be {', '.join(sorted(wanted))}, not {', '.join(sorted(tensors))}")
    mask = None if config.sparsity is None else _unpack_mask(tensors["mask"], config, shape)
    codes = _unpack_codes(tensors["codes"], config.formats[0], *config.code_shape(shape))
    if mask is not None:
        dense = torch.zeros(shape, dtype=codes.dtype, device=codes.device)
        dense[mask] = codes.reshape(-1)
        codes = dense
    made: dict[str, Tensor] = {}
    for key, fmt in fields.items():
        unpacked = _UNPACKERS.get(key, unpack_field)
        if key == "zero_point" and isinstance(fmt, IntFormat) and config.zero_point_level is None:
            unpacked = unpack_integers
        made[key] = unpacked(tensors[key], fmt, _field_shape(key, config, shape))
    if config.selector_bits:
        selectors = config.selector_granularity.scale_shape(shape)
        flat = unpack_flat(tensors["selector"], config.selector_bits, selectors[0] * selectors[1])
        made["selector"] = flat.reshape(selectors)
    residual = None if config.residual is None else unpack_tensor(rest, config.residual, shape)
    return QuantizedTensor(config=config, shape=shape, codes=codes, mask=mask, residual=residual, **made)


_UNPACKERS = {"codebook": unpack_values, "row_scale": unpack_field, "column_scale": unpack_field}


def _field_formats(config: TensorConfig) -> dict[str, Format]:
    """The arrays beside the codes that are stored in a format, by field name."""
    zero_level = config.zero_point_level
    candidates = {
        "scale": None if config.scale is None else config.scale.format,
        "outer_scale": None if config.scale is None else config.scale.outer,
        "outer_offset": None if config.scale is None else config.scale.outer_offset,
        "zero_point": config.zero_point,
        "zero_point_scale": None if zero_level is None else zero_level.scale,
        "zero_point_offset": None if zero_level is None else zero_level.offset,
        "codebook": None if config.codebook is None else config.codebook.format,
        "row_scale": config.row_scale,
        "column_scale": config.column_scale,
    }
    return {key: fmt for key, fmt in candidates.items() if fmt is not None}


def _field_shape(key: str, config: TensorConfig, shape: tuple[int, int]) -> tuple[int, ...]:
    levels = {
        "outer": None if config.scale is None else config.scale.second_level,
        "zero_point": config.zero_point_level,
    }
    owner, _, what = key.rpartition("_")
    level = levels.get(owner)
    if level is not None:
        return (level.granularity if what == "scale" else level.offset_tiles).scale_shape(shape)
    if key == "codebook":
        assert config.codebook is not None
        fmt = config.formats[0]
        return config.codebook.granularity.count(shape), 1 << fmt.bits, fmt.dim
    if key == "row_scale":
        return (shape[0],)
    if key == "column_scale":
        return (shape[1],)
    return config.granularity.scale_shape(shape)


def _pack_codes(codes: Tensor, fmt: Format) -> Tensor:
    if fmt.bits < 16:
        return pack(codes, fmt.bits)
    if fmt.name in TORCH_FLOATS:
        return codes.to(TORCH_FLOATS[fmt.name])
    return codes.to(_WORD_TYPES[fmt.bits])


def _unpack_codes(stored: Tensor, fmt: Format, rows: int, columns: int) -> Tensor:
    if fmt.bits < 16:
        codes = unpack(stored, fmt.bits, columns)
        return codes.to(code_dtype(fmt))
    if stored.shape != (rows, columns):
        raise ValueError(f"codes must be of shape {[rows, columns]!r}, not {list(stored.shape)!r}")
    if isinstance(fmt, FloatFormat) and fmt.name in TORCH_FLOATS:
        return stored
    return stored.to(torch.int32) & 0xFFFF if fmt.bits == 16 else stored


def _pack_mask(tensor: QuantizedTensor) -> tuple[Tensor, Tensor]:
    """The codes that are kept ``[n, kept]``, and the packed position of each in its block."""
    sparsity, mask = tensor.config.sparsity, tensor.mask
    assert sparsity is not None
    if mask is None or tensor.config.formats[0].dim != 1:
        raise ValueError("a sparse tensor must have a mask and a format of one element for each code")
    n, k = tensor.shape
    blocks = torch.nn.functional.pad(mask, (0, -k % sparsity.block)).reshape(n, -1, sparsity.block).sum(2)
    wanted = torch.full_like(blocks, sparsity.kept)
    if k % sparsity.block:
        wanted[:, -1] = min(sparsity.kept, k % sparsity.block)
    if not torch.equal(blocks, wanted):
        raise ValueError(f"mask must keep {sparsity.kept} of every {sparsity.block} inputs, not another number")
    columns = mask.nonzero()[:, 1]
    position = (columns % sparsity.block).to(torch.uint8)
    bits = (sparsity.block - 1).bit_length()
    packed = pack_flat(position, bits) if bits else torch.empty(0, dtype=torch.int32)
    return tensor.codes[mask].reshape(n, sparsity.kept_columns(k)), packed


def _unpack_mask(stored: Tensor, config: TensorConfig, shape: tuple[int, int]) -> Tensor:
    sparsity = config.sparsity
    assert sparsity is not None
    n, k = shape
    kept = sparsity.kept_columns(k)
    bits = (sparsity.block - 1).bit_length()
    position = unpack_flat(stored, bits, n * kept) if bits else torch.zeros(n * kept, dtype=torch.uint8)
    block = torch.arange(kept, device=stored.device) // sparsity.kept
    columns = block * sparsity.block + position.reshape(n, kept).to(torch.int64)
    mask = torch.zeros(shape, dtype=torch.bool, device=stored.device)
    mask.scatter_(1, columns, torch.ones_like(columns, dtype=torch.bool))
    return mask
