"""The golden reference of a layer against exact arithmetic, torch, and numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.activation import hadamard_rotate
from codesign.apply import QuantizedLinear
from datatypes.catalog import (
    ANT4_WEIGHT,
    BITMOD_FP4,
    E2M3,
    E4M3,
    E5M2,
    E8M0,
    FP4,
    FP16,
    FP32,
    INTS,
    NF4,
    OLIVE4_INT,
    UE4M3,
    UINT8,
    UINTS,
)
from datatypes.format import Format
from datatypes.granularity import PerChannel, PerGroup, PerTensor
from datatypes.layer_config import (
    LayerConfig,
    LowRankConfig,
    OutlierConfig,
    OutlierLayout,
    Part,
    PartitionedConfig,
    ScaleConfig,
    ScaleRule,
    SecondLevel,
    SparsityConfig,
    TensorConfig,
)
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import Outliers, QuantizedLayer
from datatypes.tensor import QuantizedTensor
from hls.exact_numbers import exact_product, float32_of, in_units, rounded_sum
from hls.input_reference import hadamard_rows
from hls.layer_options import LayerOptions
from hls.layer_reference import interleaved_products, layer_reference
from hls.rtl_vectors_float import round_float
from hwmodel.unit_cost_design import Arithmetic

N, K, M = 11, 90, 6
MX = ScaleConfig(E8M0, ScaleRule.POW2_FLOOR)
FLOAT32_UNIT = 2.0**-24


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs(seed: int = 1) -> np.ndarray:
    return normal(M, K, seed=seed).numpy().astype(np.float16)


def tokens(fmt: Format, scale: ScaleConfig | None = None) -> TensorConfig:
    return TensorConfig((fmt,), PerChannel(), scale or ScaleConfig(FP32), dynamic=True)


def groups(fmt: Format, size: int, scale: ScaleConfig) -> TensorConfig:
    return TensorConfig((fmt,), PerGroup(size), scale, dynamic=True)


def quantized(weight: TensorConfig, activation: TensorConfig | None = None, **more: object) -> QuantizedLayer:
    return QuantizedLayer(
        LayerConfig(weight=weight, activation=activation), quantize_tensor(normal(N, K), weight), (N, K)
    )


ZERO = ScaleConfig(FP16, ScaleRule.RANGE)
SPQR_ZERO = SecondLevel(FP16, PerGroup(45), offset=FP16, rule=ScaleRule.RANGE)
SPQR_SCALE = ScaleConfig(UINTS[3], ScaleRule.RANGE, FP16, PerGroup(45), outer_offset=FP16, outer_rule=ScaleRule.RANGE)
NVFP4 = ScaleConfig(UE4M3, outer=FP32, outer_granularity=PerTensor())
CONFIGS = {
    "int4_int8": (TensorConfig((INTS[4],), PerGroup(32)), tokens(INTS[8])),
    "int4_fp16": (TensorConfig((INTS[4],), PerGroup(32)), None),
    "mxfp8": (TensorConfig((E4M3,), PerGroup(32), MX), groups(E5M2, 32, MX)),
    "mxfp6": (TensorConfig((E2M3,), PerGroup(32), MX), groups(E2M3, 32, MX)),
    "nvfp4": (TensorConfig((FP4,), PerGroup(16), NVFP4), groups(FP4, 16, NVFP4)),
    "uint4_zero_uint8": (
        TensorConfig((UINTS[4],), PerGroup(24), ZERO, zero_point=UINTS[4]),
        TensorConfig((UINT8,), PerChannel(), ScaleConfig(FP32, ScaleRule.RANGE), zero_point=UINT8, dynamic=True),
    ),
    "uint3_real_zero": (TensorConfig((UINTS[3],), PerGroup(16), ZERO, zero_point=FP16), tokens(INTS[8])),
    "spqr": (
        TensorConfig((UINTS[3],), PerGroup(15), SPQR_SCALE, zero_point=UINTS[3], zero_point_level=SPQR_ZERO), None
    ),
    "nf4": (TensorConfig((NF4,), PerGroup(30)), tokens(INTS[8])),
    "ant4": (TensorConfig(ANT4_WEIGHT, PerGroup(30)), tokens(INTS[8])),
    "olive": (TensorConfig((OLIVE4_INT,), PerChannel()), tokens(INTS[8])),
    "bitmod_int8": (TensorConfig(BITMOD_FP4, PerGroup(30), ScaleConfig(UINT8, outer=FP16)), tokens(INTS[8])),
    "fp16": (TensorConfig((FP16,), scale=None), None),
}  # fmt: skip


def exact(layer: QuantizedLayer, x: np.ndarray) -> np.ndarray:
    """What the codes mean, multiplied in float64 (53 bits: far below the bounds in question)."""
    activation = layer.config.activation
    numbers = torch.from_numpy(x.astype(np.float32))
    if activation is not None:
        numbers = quantize_tensor(numbers, activation).dequantize()
    return (numbers.double() @ layer.dense_weight().double().T).numpy()


@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_lie_within_the_bound_of_exact_arithmetic(name: str) -> None:
    layer = quantized(*CONFIGS[name])
    made = layer_reference(layer, inputs())
    error = np.abs(made.values - exact(layer, inputs()))
    assert (error <= made.bound).all()
    # the bound is of float32's size, not a licence: 110 roundings of 2**-24 are 6.6e-6 of the sum of magnitudes
    size = np.abs(inputs().astype(np.float64)) @ np.abs(layer.dense_weight().double().numpy()).T
    assert made.bound.max() < 1e-4 * size.max()


def test_bitmod_lies_within_the_bound_of_its_pe() -> None:
    layer = quantized(TensorConfig(BITMOD_FP4, PerGroup(30), ScaleConfig(UINT8, outer=FP16)))
    made = layer_reference(layer, inputs(), options=LayerOptions(arithmetic=Arithmetic.BITMOD))
    error = np.abs(made.values - exact(layer, inputs()))
    assert (error <= made.bound).all() and error.max() > 0  # the PE truncates


def test_a_narrow_accumulator_has_a_wider_bound_and_needs_it() -> None:
    layer = quantized(*CONFIGS["int4_fp16"])
    made = layer_reference(layer, inputs(), options=LayerOptions(accumulator=(5, 7)))
    error = np.abs(made.values - exact(layer, inputs()))
    assert (error <= made.bound).all()
    assert (error > layer_reference(layer, inputs()).bound).any()


@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_are_those_of_the_models_forward(name: str) -> None:
    layer, x, bias = quantized(*CONFIGS[name]), inputs(), normal(N, seed=2)
    made = layer_reference(layer, x, bias.numpy())
    if layer.config.activation is None:
        forward = torch.nn.functional.linear(torch.from_numpy(x.astype(np.float32)), layer.dense_weight(), bias)
    else:
        forward = QuantizedLinear(layer, bias)(torch.from_numpy(x.astype(np.float32))).detach()
    size = np.abs(x.astype(np.float64)) @ np.abs(layer.dense_weight().double().numpy()).T + 1 + np.abs(bias.numpy())
    assert (np.abs(made.values - forward.numpy()) <= made.bound + 2 * K * FLOAT32_UNIT * size).all()


def test_a_small_layer_by_hand() -> None:
    # codes 1..4 and -1, one scale of 0.5 for each pair; tokens 2, 1, -1, 3, 1 in units of 1/8
    weight = TensorConfig((INTS[4],), PerGroup(2), ScaleConfig(FP16))
    tensor = quantize_tensor(torch.tensor([[1.0, 2.0, 3.0, 4.0, -1.0]]), weight)
    tensor.scale[:] = 0.5
    tensor.codes[:] = torch.tensor([[1, 2, 3, 4, 15]])
    layer = QuantizedLayer(LayerConfig(weight=weight), tensor, (1, 5))
    x = np.array([[2, 1, -1, 3, 1]], np.float16) / 8
    # (1*2 + 2*1) / 16 + (-3 + 12) / 16 - 1 / 16 = 12 / 16
    assert layer_reference(layer, x, np.array([0.25], np.float32)).values.tolist() == [[1.0]]


def test_integer_scales_are_exact_until_the_row_is_summed() -> None:
    """Groups of 2**24 + 1 and 1: float32 groups would lose both ones, the integer sum keeps 2**24 + 2."""
    weight = TensorConfig((INTS[8],), PerGroup(2), ScaleConfig(UINT8, outer=FP16))
    tensor = quantize_tensor(torch.ones(1, 4), weight)
    tensor.codes[:] = torch.tensor([[127, 127, 1, 0]])
    tensor.scale[:], tensor.outer_scale[:] = 1, 1.0
    activation = TensorConfig((INTS[8],), PerTensor(), ScaleConfig(FP32))
    layer = QuantizedLayer(
        LayerConfig(weight=weight, activation=activation), tensor, (1, 4), notes={"input_scale": 1.0}
    )
    values = layer_reference(layer, np.array([[100, 27, 1, 0]], np.float16)).values
    assert values.tolist() == [[127 * 127 + 1]]


def test_low_rank_and_outliers_are_added_after_the_dense_part() -> None:
    weight, factor = TensorConfig((INTS[4],), PerGroup(30)), TensorConfig((INTS[8],), PerChannel())
    columns = torch.tensor([3, 50])
    outliers = Outliers(normal(N, 2, seed=4).to(torch.float16) * 10, columns)
    a, b = normal(4, K, seed=5), normal(N, 4, seed=6)
    config = LayerConfig(
        weight=weight,
        low_rank=LowRankConfig(4, factor, factor),
        outliers=OutlierConfig(OutlierLayout.COLUMNS, 2 / K),
    )
    layer = QuantizedLayer(
        config,
        quantize_tensor(normal(N, K), weight),
        (N, K),
        low_rank_a=quantize_tensor(a, factor),
        low_rank_b=quantize_tensor(b, factor),
        outliers=outliers,
    )
    x = inputs()
    made = layer_reference(layer, x)
    effective = (
        layer.dense_weight().double() + layer.low_rank_b.dequantize().double() @ layer.low_rank_a.dequantize().double()
    )
    assert (np.abs(made.values - x.astype(np.float64) @ effective.numpy().T) <= made.bound).all()


def test_element_outliers_replace_their_codes() -> None:
    weight = TensorConfig((INTS[4],), PerGroup(30))
    rows = torch.tensor([0, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3])
    outliers = Outliers(torch.tensor([5.0, -6.0, 7.0], dtype=torch.float16), torch.tensor([1, 0, 89]), rows)
    config = LayerConfig(weight=weight, outliers=OutlierConfig(fraction=3 / (N * K)))
    layer = QuantizedLayer(config, quantize_tensor(normal(N, K), weight), (N, K), outliers=outliers)
    made = layer_reference(layer, inputs())
    assert (np.abs(made.values - exact(layer, inputs())) <= made.bound).all()


def test_slabs_in_another_order_multiply_their_own_inputs() -> None:
    place = torch.tensor([0, 1, 1, 0, 0, 1, 0, 1, 0]).repeat_interleave(10)
    parts = tuple(Part(int((place == i).sum()), TensorConfig((INTS[b],), PerGroup(16))) for i, b in enumerate((3, 6)))
    weight = normal(N, K)
    tensors = tuple(quantize_tensor(weight[:, place == i], part.config) for i, part in enumerate(parts))
    order = torch.randperm(K, generator=torch.Generator().manual_seed(1))
    config = LayerConfig(weight=PartitionedConfig(parts, 10), activation=tokens(INTS[8]), permuted=True)
    layer = QuantizedLayer(config, tensors, (N, K), part_of_column=place, permutation=order)
    made = layer_reference(layer, inputs())
    assert (np.abs(made.values - exact(layer, inputs())) <= made.bound).all()


def test_a_residual_is_added() -> None:
    second = TensorConfig((INTS[3],), PerGroup(45))
    config = TensorConfig((INTS[4],), PerGroup(16), residual=second)
    first = quantize_tensor(normal(N, K), TensorConfig((INTS[4],), PerGroup(16)))
    rest = quantize_tensor(normal(N, K) - first.dequantize(), second)
    tensor = QuantizedTensor(config, (N, K), first.codes, scale=first.scale, residual=rest)
    layer = QuantizedLayer(LayerConfig(weight=config, activation=tokens(INTS[8])), tensor, (N, K))
    made = layer_reference(layer, inputs())
    assert (np.abs(made.values - exact(layer, inputs())) <= made.bound).all()


@pytest.mark.parametrize("keep", [True, False])
def test_outlier_columns_take_the_place_of_theirs(keep: bool) -> None:
    columns, weight = torch.tensor([0, 44, 89]), TensorConfig((INTS[4],), PerGroup(16))
    dense = normal(N, K)
    if not keep:
        dense = dense[:, [c for c in range(K) if c not in columns.tolist()]]
    outliers = Outliers(normal(N, 3, seed=4).to(torch.float16) * 10, columns)
    config = LayerConfig(weight=weight, outliers=OutlierConfig(OutlierLayout.COLUMNS, 3 / K, keep_dense_slot=keep))
    layer = QuantizedLayer(config, quantize_tensor(dense, weight), (N, K), outliers=outliers)
    made = layer_reference(layer, inputs())
    assert (np.abs(made.values - exact(layer, inputs())) <= made.bound).all()


def test_smoothing_divides_and_rotation_rotates_before_anything_else() -> None:
    weight = TensorConfig((INTS[8],), PerChannel(), ScaleConfig(FP32), hadamard=2)
    smoothing = normal(K, seed=8).abs() + 0.5
    config = LayerConfig(weight=weight, activation=tokens(INTS[8]), smoothing=FP32)
    layer = QuantizedLayer(config, quantize_tensor(normal(N, K), weight), (N, K), smoothing=smoothing)
    x = inputs()
    forward = QuantizedLinear(layer, None)(torch.from_numpy(x.astype(np.float32))).detach().numpy()
    made = layer_reference(layer, x)
    size = np.abs(made.values).max() + 4 * float(np.abs(x).astype(np.float64).sum(1).max())
    assert np.abs(made.values - forward).max() <= made.bound.max() + 2 * K * FLOAT32_UNIT * size


def test_masked_weights_are_zeros_by_hand() -> None:
    config = TensorConfig((INTS[4],), PerTensor(), None, sparsity=SparsityConfig(2, 4))
    codes = torch.tensor([[1, 2, 3, 4, 5]], dtype=torch.uint8)
    mask = torch.tensor([[True, False, False, True, True]])
    layer = QuantizedLayer(LayerConfig(weight=config), QuantizedTensor(config, (1, 5), codes, mask=mask), (1, 5))
    x = np.array([[1, 10, 100, 1000, 10000]], np.float16)
    assert layer_reference(layer, x).values.tolist() == [[1 + 4000 + 50000]]


def test_column_scales_multiply_inputs_before_they_are_rounded_by_hand() -> None:
    config = TensorConfig((INTS[4],), PerTensor(), None, column_scale=FP32)
    scale = torch.tensor([2.0**-20, 1 + 2.0**-11 + 2.0**-20, -3.0])
    codes = torch.tensor([[1, 2, 3]], dtype=torch.uint8)
    tensor = QuantizedTensor(config, (1, 3), codes, column_scale=scale)
    layer = QuantizedLayer(LayerConfig(weight=config), tensor, (1, 3))
    # 2**-20 is a subnormal of FP16; 1 + 2**-11 would be a tie, what is beyond it goes up to 1 + 2**-10; -3 is exact
    x = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float16)
    assert layer_reference(layer, x).values.tolist() == [[2.0**-20], [2 * (1 + 2.0**-10)], [-9.0]]


def test_a_norm_stands_between_product_and_bias() -> None:
    weight = TensorConfig((INTS[4],), PerGroup(32))
    config = LayerConfig(weight=weight, activation=tokens(INTS[8]), output_norm=True)
    layer = QuantizedLayer(config, quantize_tensor(normal(N, K), weight), (N, K))
    bias = normal(N, seed=3)
    made = layer_reference(layer, inputs(), bias.numpy())
    forward = QuantizedLinear(layer, bias)(torch.from_numpy(inputs().astype(np.float32))).detach().numpy()
    plain = exact(replace(layer, config=replace(config, output_norm=False)), inputs())
    centred = plain - plain.mean(1, keepdims=True)
    wanted = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5) + bias.double().numpy()
    assert (np.abs(made.values - wanted) <= made.bound).all() and made.bound.max() < 1e-4
    assert np.abs(made.values - forward).max() < 2 * made.bound.max()  # torch rounds about as often


@pytest.mark.parametrize("block", [2, 8, 32])
def test_the_rotation_is_that_of_the_model(block: int) -> None:
    x = normal(5, 64, seed=3)
    np.testing.assert_array_equal(hadamard_rows(x.numpy(), block), hadamard_rotate(x, block).numpy())


def test_calls_of_fewer_tokens_give_the_same_where_tokens_stand_alone() -> None:
    layer = quantized(*CONFIGS["int4_int8"])
    whole, cut = (layer_reference(layer, inputs(), options=LayerOptions(tokens=count)) for count in (8, 4))
    np.testing.assert_array_equal(whole.values, cut.values)


# --- sums ------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.integers(-(2**30), 2**30), st.integers(-40, 10), st.integers(-(2**24), 2**24), st.integers(-40, 10),
    st.sampled_from([(8, 23), (5, 10), (4, 3), (8, 7)]),
)  # fmt: skip
def test_a_sum_is_rounded_once(a: int, at: int, b: int, bt: int, widths: tuple[int, int]) -> None:
    """Against integer arithmetic without any floating point."""
    lowest = 2 - (1 << (widths[0] - 1)) - widths[1]  # the place of the last bit of subnormals
    held = rounded_sum(np.zeros(1), np.ldexp(np.array([float(a)]), at), widths)
    made = rounded_sum(held, np.ldexp(np.array([float(b)]), bt), widths)
    total = Fraction(float(held[0])) + Fraction(b) * Fraction(2) ** bt
    scale = 200
    code = round_float(int(total * 2**scale), -scale - lowest, *widths)
    significand, field = code & ((1 << widths[1]) - 1), (code >> widths[1]) & ((1 << widths[0]) - 1)
    magnitude = (significand + (1 << widths[1] if field else 0)) * 2.0 ** (max(field - 1, 0) + lowest)
    assert abs(float(made[0])) == magnitude and (made[0] < 0) == (total < 0 and magnitude > 0)


def test_large_integers_round_once_to_float32() -> None:
    # 2**60 + 2**36 lies halfway between neighbours (spacing 2**37): to even, down; one more: up. float64 would lose it.
    values = np.array([2**60 + 2**36, 2**60 + 2**36 + 1, -(2**100) - 2**77], dtype=object)
    assert float32_of(values).tolist() == [2.0**60, 2.0**60 + 2.0**37, -(2.0**100) - 2.0**77]


def test_products_are_exact_beyond_64_bits() -> None:
    a = in_units(np.array([[2.0**40, 1.0]]), -30)
    assert exact_product(a, a).tolist() == [[2**140 + 2**60]]


def test_partial_sums_take_every_eighth_product() -> None:
    # products 2**24, then eight ones and eight ones: 2**24 + 1 is a tie and falls back, but the ones gather elsewhere
    a = np.ones((1, 17), np.float32)
    w = np.array([[2.0**24, *([1.0] * 16)]], np.float32)
    # sum 0: 2**24 + 1 (tie, even: 2**24) + 1 (likewise); sums 1..7: 2 each, 14 added one after the other, exactly
    assert interleaved_products(a, w).tolist() == [[2.0**24 + 14]]


# --- what is refused -------------------------------------------------------------------------------------------------


def test_wrong_inputs_are_refused() -> None:
    layer = quantized(*CONFIGS["int4_int8"])
    with pytest.raises(TypeError, match="x must be float16, not float32"):
        layer_reference(layer, inputs().astype(np.float32))
    with pytest.raises(ValueError, match=r"x must have the shape \[m, 90\], not \[6, 5\]"):
        layer_reference(layer, inputs()[:, :5])
    with pytest.raises(ValueError, match=r"bias must have the shape \[11\], not \[3\]"):
        layer_reference(layer, inputs(), np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="finite"):
        layer_reference(layer, np.full((1, K), np.inf, np.float16))


def test_a_static_scale_must_be_noted() -> None:
    static = TensorConfig((INTS[8],), PerTensor(), ScaleConfig(FP32))
    with pytest.raises(ValueError, match="input_scale"):
        layer_reference(quantized(TensorConfig((INTS[4],), PerGroup(32)), static), inputs())
