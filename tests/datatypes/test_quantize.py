"""Laws of quantization over every granularity and ragged shapes, and what bad input is told."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datatypes.block_formats import BITMOD4_G128, BLOCK_FORMATS, MXFP4
from datatypes.catalog import (
    BINARY,
    E4M3,
    E8M0,
    FP4,
    FP16,
    FP32,
    INTS_SYMMETRIC,
    MIXTURES,
    OLIVE4_INT,
    TERNARY,
    UINTS,
)
from datatypes.format import LearnedFormat
from datatypes.granularity import PerBlock, PerChannel, PerGroup, PerInputChannel, PerTensor
from datatypes.layer_config import CodebookConfig, ScaleConfig, ScaleRule, SparsityConfig, TensorConfig
from datatypes.quantize import encode_with_scale, quantize_tensor
from datatypes.scale import reduce_tiles, store_one_level, sum_tiles
from datatypes.tensor import expand_tiles

GRANULARITIES = st.one_of(
    st.just(PerTensor()),
    st.just(PerChannel()),
    st.just(PerInputChannel()),
    st.builds(PerGroup, st.integers(1, 40)),
    st.builds(PerGroup, st.integers(1, 40), st.just(True)),
    st.builds(PerBlock, st.integers(1, 9), st.integers(1, 40)),
)
SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 70))


def matrix(shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tile_of(row: int, column: int, granularity, shape) -> tuple[int, int]:
    rows, columns = granularity.tile(shape)
    return row // rows, column // columns


@given(SHAPES, GRANULARITIES)
@settings(max_examples=60, deadline=None)
def test_tiles_cover_every_element_once(shape, granularity):
    x = matrix(shape)
    amax, total = reduce_tiles(x, granularity, "amax"), sum_tiles(x.double(), granularity)
    assert amax.shape == granularity.scale_shape(shape)
    expected_max = np.full(amax.shape, -np.inf)
    expected_sum = np.zeros(amax.shape)
    for row in range(shape[0]):
        for column in range(shape[1]):
            tile = tile_of(row, column, granularity, shape)
            expected_max[tile] = max(expected_max[tile], float(x[row, column]))
            expected_sum[tile] += float(x[row, column])
    np.testing.assert_array_equal(amax, expected_max)
    np.testing.assert_allclose(total, expected_sum, atol=1e-12 * x.numel())
    spread = expand_tiles(amax, granularity, shape)
    assert spread.shape == shape and (spread >= x).all()


@given(SHAPES, GRANULARITIES, st.sampled_from([FP4, INTS_SYMMETRIC[4], E4M3]))
@settings(max_examples=60, deadline=None)
def test_errors_stay_within_half_a_step_of_the_tile_for_every_granularity(shape, granularity, fmt):
    x = matrix(shape, 1)
    made = quantize_tensor(x, TensorConfig((fmt,), granularity, ScaleConfig(FP32)))
    scale = made.effective_scale()
    assert scale is not None and scale.shape == granularity.scale_shape(shape)
    widest = float(np.diff(fmt.levels).max())
    # half the widest step of the tile, and the roundings of a division and a product of float32
    bound = expand_tiles(scale, granularity, shape) * (widest / 2) + x.abs() * 2.0**-22
    assert ((made.dequantize() - x).abs() <= bound).all()
    again = quantize_tensor(made.dequantize(), made.config)
    torch.testing.assert_close(again.dequantize(), made.dequantize(), rtol=2.0**-21, atol=0)


@given(SHAPES, st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_asymmetric_integers_reach_both_ends(shape, group):
    x = matrix(shape, 2) + 0.7
    config = TensorConfig((UINTS[4],), PerGroup(group), ScaleConfig(FP32, ScaleRule.RANGE), zero_point=UINTS[4])
    made = quantize_tensor(x, config)
    scale = expand_tiles(made.effective_scale(), config.granularity, shape)
    # the zero point is rounded: one step more than half; ends included
    assert ((made.dequantize() - x).abs() <= scale * 1.001).all()
    assert made.zero_point.min() >= 0 and made.zero_point.max() <= 15


@given(SHAPES, st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_a_mixture_is_never_worse_than_its_members(shape, group):
    x = matrix(shape, 3)
    formats = MIXTURES["bitmod_fp4"]

    def error_of_tiles(candidates):
        config = TensorConfig(candidates, PerGroup(group))
        return sum_tiles((quantize_tensor(x, config).dequantize() - x).square(), config.granularity)

    mixed = error_of_tiles(formats)
    alone = torch.stack([error_of_tiles((fmt,)) for fmt in formats])
    assert torch.equal(mixed, alone.amin(0))


def test_clip_search_never_hurts_and_ties_keep_the_first():
    x, config = matrix((8, 256), 4) ** 3, BLOCK_FORMATS["int4_g128_fp16"]

    def tile_errors(clip):
        return sum_tiles((quantize_tensor(x, config, clip=clip).dequantize() - x).square(), config.granularity)

    assert (tile_errors((1.0, 0.9, 0.8, 0.7)) <= tile_errors((1.0,))).all()
    assert (tile_errors((1.0, 0.9, 0.8, 0.7)) < tile_errors((1.0,))).any()
    assert torch.equal(quantize_tensor(x, config, clip=(1.0, 1.0)).scale, quantize_tensor(x, config).scale)


def test_equal_errors_keep_the_earlier_candidate():
    symmetric = torch.cat([torch.arange(-3.0, 4.0), torch.tensor([6.0, -6.0])])[
        None
    ]  # on the basic grid: no error at all
    assert quantize_tensor(symmetric, TensorConfig(MIXTURES["bitmod_fp4"], PerChannel())).selector.tolist() == [[0]]


def test_importance_moves_the_choice():
    x = torch.tensor([[6.0, 5.0, -5.0, 0.5]])
    config = TensorConfig(MIXTURES["fp4_er"], PerChannel(), ScaleConfig(FP32))
    towards = [torch.tensor([[1.0, 9.0, 1.0, 1.0]]), torch.tensor([[1.0, 1.0, 9.0, 1.0]])]
    assert [int(quantize_tensor(x, config, importance=w).selector) for w in towards] == [0, 1]  # +5 kept, then -5


def test_a_selector_of_a_whole_tensor_sums_its_tiles():
    x = matrix((4, 96), 5)
    config = TensorConfig(MIXTURES["ant4"], PerChannel(), selector=PerTensor())
    chosen = int(quantize_tensor(x, config).selector)
    errors = [
        float((quantize_tensor(x, TensorConfig((fmt,), PerChannel())).dequantize() - x).square().sum())
        for fmt in MIXTURES["ant4"]
    ]
    assert chosen == int(np.argmin(errors))


def test_binary_and_ternary_scales_are_mean_magnitudes():
    x = torch.tensor([[0.5, -1.5, 1.0, -1.0]])
    binary = quantize_tensor(x, TensorConfig((BINARY,), PerChannel(), ScaleConfig(FP32, ScaleRule.MEAN_ABS)))
    assert binary.dequantize().tolist() == [[1.0, -1.0, 1.0, -1.0]]  # XNOR-Net: mean |x| = 1
    ternary = quantize_tensor(x * 2, TensorConfig((TERNARY,), PerTensor(), ScaleConfig(FP32, ScaleRule.MEAN_ABS)))
    assert ternary.dequantize().tolist() == [[0.0, -2.0, 2.0, -2.0]]  # 1 / 2 is a tie and goes to the even code, 0


def test_root_mean_square_and_lqer_scales_by_hand():
    x = torch.tensor([[3.0, -4.0, 0.0, 5.0]])
    norm = quantize_tensor(x, TensorConfig((FP4,), PerChannel(), ScaleConfig(FP32, ScaleRule.NORM)))
    assert float(norm.scale) == np.float32(np.sqrt(np.float32(12.5)))
    config = TensorConfig((INTS_SYMMETRIC[4],), PerChannel(), ScaleConfig(E8M0, ScaleRule.LQER_CEIL))
    assert float(quantize_tensor(x, config).effective_scale()) == 2.0**3 / 2**3  # 2**ceil(log2 5) / 2**(bits - 1)
    assert float(quantize_tensor(x * 0.8, config).effective_scale()) == 2.0**2 / 2**3  # 4 is a power of two itself


def test_scales_that_would_vanish_become_the_smallest_and_large_ones_saturate():
    tiny = quantize_tensor(torch.full((1, 8), 1e-12), TensorConfig((FP4,), PerChannel()))
    assert float(tiny.scale) == 2.0**-24 and (tiny.dequantize() == 0).all()
    large = quantize_tensor(torch.full((1, 8), 1e9), TensorConfig((FP4,), PerChannel()))
    assert float(large.scale) == 65504.0 and (large.dequantize() == 6 * 65504.0).all()
    assert store_one_level(torch.tensor([1e9]), FP16).item() == 65504.0


def test_olive_starts_from_three_sigma():
    x = matrix((2, 512), 6)
    made = quantize_tensor(x, TensorConfig((OLIVE4_INT,), PerChannel(), ScaleConfig(FP32)))
    sigma = x.numpy().astype(np.float64).std(axis=1)
    np.testing.assert_allclose(made.scale.numpy()[:, 0], 3 * sigma / 7, rtol=1e-5)


def test_given_scales_are_stored_then_used():
    x, config = matrix((2, 256), 7), BLOCK_FORMATS["int4_g128_fp16"]
    made = encode_with_scale(x, config, torch.full((2, 2), 0.1))
    assert (made.scale == torch.tensor(0.1).half()).all()
    expected = (x / torch.tensor(0.1).half().float()).round().clamp(-7, 7) * torch.tensor(0.1).half().float()
    assert torch.equal(made.dequantize(), expected)


LEARNED = TensorConfig((LearnedFormat("k", 2, "k-means"),), scale=None, codebook=CodebookConfig())
SPARSE = TensorConfig((FP4,), PerChannel(), sparsity=SparsityConfig())


@pytest.mark.parametrize(
    ("x", "config", "error", "message"),
    [
        (torch.tensor([[1.0, torch.nan]]), MXFP4, ValueError, "x must be finite, not hold 1 NaN or infinite"),
        (torch.tensor([[torch.inf, -torch.inf]]), MXFP4, ValueError, "not hold 2 NaN or infinite"),
        (torch.zeros(4), MXFP4, ValueError, r"x must be a matrix \[n, k\], not \(4,\)"),
        (torch.zeros(1, 4), LEARNED, NotImplementedError, "fits no codebook and no mask"),
        (torch.zeros(1, 4), SPARSE, NotImplementedError, "fits no codebook and no mask"),
        (
            torch.zeros(1, 4),
            TensorConfig((UINTS[4],), PerChannel(), ScaleConfig(FP16, ScaleRule.RANGE)),
            ValueError,
            "zero_point must be given for scale rule range",
        ),
        (
            torch.zeros(2, 64),
            TensorConfig((FP4,), PerGroup(24), ScaleConfig(E4M3, outer=FP32, outer_granularity=PerGroup(32))),
            ValueError,
            "must be made of whole tiles",
        ),
    ],
)
def test_bad_input_is_refused(x, config, error, message):
    with pytest.raises(error, match=message):
        quantize_tensor(x, config)


def test_empty_matrices_are_encoded_to_nothing():
    for shape in ((0, 128), (0, 5)):
        made = quantize_tensor(torch.zeros(shape), MXFP4)
        assert made.dequantize().shape == shape


def test_tensors_move_and_keep_their_values():
    made = quantize_tensor(matrix((3, 256), 8), BITMOD4_G128)
    assert torch.equal(made.to("cpu").dequantize(), made.dequantize())
