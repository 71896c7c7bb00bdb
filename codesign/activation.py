"""What happens to activations and to the KV cache: rounding through a format and back, and the Hadamard rotation.

``fake_quantize`` encodes and decodes with ``datatypes.quantize``, so the values are exactly those that the stored
codes stand for. Scales of a dynamic config are computed from the values at hand: for each token (``PerChannel``), each
group of a token, or each whole matrix. The matrix of a ``PerTensor`` or block scale is one sequence (one head of one
sequence in the KV cache), never a batch: results do not depend on how sequences are batched.

A static config has one scale for the layer, measured at calibration (``QuantizedLayer.notes["input_scale"]``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from datatypes.layer_config import TensorConfig
from datatypes.quantize import encode_with_scale, quantize_tensor


def fake_quantize(x: Tensor, config: TensorConfig, *, scale: float | None = None) -> Tensor:
    """``x`` rounded to ``config``, float32.

    Args:
        x: ``[..., m, k]``; the last two axes are one matrix.
        config: its encoding.
        scale: the static scale; ``None`` for scales computed here.

    Raises:
        ValueError: NaN or infinity in ``x``.
    """
    shape = x.shape
    if x.numel() == 0:
        return x.to(torch.float32)
    if scale is not None:
        flat = x.reshape(-1, shape[-1]).to(torch.float32)
        tiles = torch.full(config.granularity.scale_shape((flat.shape[0], flat.shape[1])), scale, device=x.device)
        return encode_with_scale(flat, config, tiles).dequantize().reshape(shape)
    if x.dim() == 2 or rows_are_independent(config, shape[-2]):
        return quantize_tensor(x.reshape(-1, shape[-1]), config).dequantize().reshape(shape)
    matrices = x.reshape(-1, *shape[-2:])
    return torch.stack([quantize_tensor(matrix, config).dequantize() for matrix in matrices]).reshape(shape)


def rows_are_independent(config: TensorConfig, rows: int) -> bool:
    """Whether no scale, selector or codebook of ``config`` would be shared by two rows of a matrix of ``rows``."""
    shape = (max(rows, 2), 1 << 30)  # wider than any matrix: only the row count of a tile matters
    tiles = list(config.tilings)
    if config.codebook is not None:
        tiles.append(config.codebook.granularity)
    independent = config.scale is None or all(tile.tile(shape)[0] == 1 for tile in tiles)
    return independent and (config.residual is None or rows_are_independent(config.residual, rows))


def hadamard_rotate(x: Tensor, block: int) -> Tensor:
    """``x`` times the orthonormal Hadamard matrix, in blocks of ``block`` along the last axis, float32.

    Sylvester's matrix over the square root of ``block``: symmetric, so rotating twice gives ``x`` back (to rounding).
    Source: Sylvester, 1867; used for quantization by Ashkboos et al., QuaRot, 2024, and HIGGS, arXiv 2411.17525.

    Args:
        x: ``[..., k]``, ``k`` a multiple of ``block``.
        block: a power of two.

    Raises:
        ValueError: ``block`` does not divide ``k``.

    >>> hadamard_rotate(torch.tensor([1.0, 0.0, 0.0, 0.0]), 4)
    tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """
    if x.shape[-1] % block:
        raise ValueError(f"hadamard must divide in_features {x.shape[-1]}, not {block!r}")
    y = x.to(torch.float32).reshape(-1, block)
    half = 1
    while half < block:
        pairs = y.reshape(-1, block // (2 * half), 2, half)
        y = torch.stack((pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]), dim=2).reshape(-1, block)
        half *= 2
    return (y / block**0.5).reshape(x.shape)
