"""The clip search by prefix sums equals trying each factor in turn."""

from __future__ import annotations

import pytest
import torch

from codesign.algorithms.clip_search import MIN_TILE, clip_errors, quantize_with_clip, rank
from datatypes.block_formats import BLOCK_FORMATS
from datatypes.catalog import FORMATS, FP4, INTS_SYMMETRIC, NF4
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import ScaleConfig, ScaleRule, TensorConfig
from datatypes.quantize import quantize_tensor

GRID = tuple(1 - i / 20 for i in range(10))
LONG = MIN_TILE + 64


def heavy(n: int, k: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((n, k), generator=generator)
    x[torch.rand((n, k), generator=generator) < 0.01] *= 6
    return x


def test_error_of_a_hand_made_row() -> None:
    """Levels -1, 0, 1; scale 2 rounds (0.4, 1.5, -3) to (0, 2, -2): 0.16 + 0.25 + 1. Scale 1: 0.16 + 0.25 + 4."""
    row = torch.tensor([[0.4, 1.5, -3.0]])
    levels = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    errors = clip_errors(rank(row), levels, torch.tensor([[2.0, 1.0]]))
    torch.testing.assert_close(errors, torch.tensor([[1.41, 4.41]], dtype=torch.float64), rtol=1e-6, atol=0)


def test_weighted_error_of_a_hand_made_row() -> None:
    """The same with weights 1, 2, 10: 0.16 + 0.5 + 10."""
    row = torch.tensor([[0.4, 1.5, -3.0]])
    levels = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    errors = clip_errors(rank(row, torch.tensor([[1.0, 2.0, 10.0]])), levels, torch.tensor([[2.0]]))
    torch.testing.assert_close(errors, torch.tensor([[10.66]], dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["int4_sym", "int4", "e2m1", "e3m0", "nf4", "flint4", "pot4", "e4m3_fn", "int8_sym"])
def test_errors_equal_rounding_element_by_element(name: str) -> None:
    fmt = FORMATS[name]
    rows = heavy(7, 50)
    scales = rows.abs().amax(1, keepdim=True) / fmt.absmax * torch.tensor([[1.0, 0.8, 0.3]])
    levels = torch.tensor(fmt.levels)
    got = clip_errors(rank(rows), levels, scales)
    for column in range(3):
        scale = scales[:, column : column + 1].double()
        distance = (rows.double()[:, :, None] - levels * scale[:, :, None]).abs().amin(2)
        torch.testing.assert_close(got[:, column], distance.square().sum(1), rtol=1e-6, atol=1e-9)


CONFIGS = {
    "int4 per channel": TensorConfig((INTS_SYMMETRIC[4],), PerChannel()),
    "e2m1 in long groups": TensorConfig((FP4,), PerGroup(LONG)),
    "nf4 per channel": TensorConfig((NF4,), PerChannel()),
    "ant": BLOCK_FORMATS["ant4_channel_fp16"],
    "olive": BLOCK_FORMATS["olive4_channel_fp16"],
    "olive in long groups": TensorConfig(BLOCK_FORMATS["olive4_channel_fp16"].formats, PerGroup(LONG)),
    "types per row": TensorConfig((INTS_SYMMETRIC[4], FORMATS["flint4"]), PerChannel()),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_same_encoding_as_trying_each_factor(config: TensorConfig, weighted: bool) -> None:
    x = heavy(12, 2 * LONG)
    importance = torch.rand(1, 2 * LONG, generator=torch.Generator().manual_seed(1)) if weighted else None
    fast = quantize_with_clip(x, config, GRID, importance=importance)
    slow = quantize_tensor(x, config, clip=GRID, importance=importance)
    assert torch.equal(fast.scale, slow.scale) and torch.equal(fast.codes, slow.codes)
    assert (fast.selector is None) == (slow.selector is None)
    assert fast.selector is None or torch.equal(fast.selector, slow.selector)


OUT_OF_REACH = {
    "zero points": BLOCK_FORMATS["int4_asym_g128_fp16"],
    "powers of two": TensorConfig((FP4,), PerChannel(), ScaleConfig(rule=ScaleRule.POW2_FLOOR)),
    "two-level scales": BLOCK_FORMATS["bitmod4_g128_uint8"],
    "short groups": TensorConfig((FP4,), PerGroup(16)),
    "ragged groups": TensorConfig((FP4,), PerGroup(LONG - 1)),
    "groups down a column": TensorConfig((FP4,), PerGroup(4, along_output=True)),
}


@pytest.mark.parametrize("config", OUT_OF_REACH.values(), ids=list(OUT_OF_REACH))
def test_other_encodings_are_searched_too(config: TensorConfig) -> None:
    x = heavy(8, LONG)
    made, plain = quantize_with_clip(x, config, GRID), quantize_tensor(x, config)
    assert torch.equal(made.codes, quantize_tensor(x, config, clip=GRID).codes)
    assert (made.dequantize() - x).square().sum() <= (plain.dequantize() - x).square().sum()


@pytest.mark.parametrize("clip", [(), (1.0, 0.0), (-0.5,)], ids=str)
def test_factors_must_be_positive(clip: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="clip factors must be positive and at least one, not"):
        quantize_with_clip(heavy(2, 4), TensorConfig((FP4,)), clip)
