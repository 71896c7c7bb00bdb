"""Layers with inputs in channel groups (Tender): C++ against the reference, and both against shifted integer sums.

Needs ``ap_int.h`` (extra ``hls``) and g++ where it compiles.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from codesign.algorithms.tender import Tender, tender_activation
from codesign.apply import QuantizedLinear
from codesign.calibration import InputStatistics, LayerCalibration, Statistic
from codesign.recipes import recipe
from datatypes.catalog import FP16, FP32, INTS_SYMMETRIC
from datatypes.channel_groups import EncodedChannels, shift_accumulate
from datatypes.channel_groups_config import ChannelGroupsConfig
from datatypes.granularity import PerChannel
from datatypes.layer_config import LayerConfig, Part, PartitionedConfig, ScaleConfig, TensorConfig
from datatypes.quantized_layer import QuantizedLayer
from hls.channel_slabs import slab_sum_bits, slabs
from hls.estimate import estimate_layer
from hls.layer_csim import compile_plans, simulate_plan
from hls.layer_loops import iterations_by_label, layer_loops
from hls.layer_options import IntMapping, LayerOptions
from hls.layer_planning import plan_layer
from hls.layer_reference import layer_reference
from hls.loop_counter import count_loops
from hwmodel.fpga import DEVICES
from hwmodel.unit_cost_design import Arithmetic

TOKENS = 5  # two calls of three tokens


def inputs(k: int) -> torch.Tensor:
    """Tokens whose channels differ in size by about e**6 and have a mean."""
    draw = torch.Generator().manual_seed(k)
    spread = torch.exp(1.5 * torch.randn(k, generator=draw))
    return (torch.randn(60, k, generator=draw) + torch.randn(k, generator=draw)) * spread


def calibrated(x: torch.Tensor) -> LayerCalibration:
    statistics = InputStatistics(x.shape[1], frozenset({Statistic.CHUNK_RANGE}))
    statistics.update(x)
    return statistics.finish("layer")


def quantized(config: LayerConfig, n: int, k: int) -> QuantizedLayer:
    weight = torch.randn(n, k, generator=torch.Generator().manual_seed(n))
    return Tender().quantize(weight, calibrated(inputs(k)), config)


def of_recipe(name: str, n: int, k: int) -> QuantizedLayer:
    return quantized(recipe(name).linear, n, k)


def case(layer: QuantizedLayer, lanes: int, rows: int, *, bias: bool, **options: Any) -> tuple:
    n, k = layer.shape
    how = LayerOptions(tokens=3, lanes=lanes, tile_rows=rows, **options)
    x = (inputs(k)[:TOKENS] * torch.tensor([1, 0.01, 3, 0, 1])[:, None]).numpy().astype(np.float16)  # some saturate
    return layer, how, x, np.linspace(-1, 1, n).astype(np.float32) if bias else None


def quick_cases() -> dict[str, tuple]:
    """Layers of the session's common program: empty groups, ragged ones, without biases and with."""
    plain = replace(tender_activation(4, chunk_tokens=None), bias=None, groups=20)
    row8 = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), ScaleConfig(FP32))
    return {
        "tender4": case(of_recipe("tender4_tensor", 21, 70), 8, 4, bias=True),
        "tender_w8a4_no_bias": case(
            quantized(LayerConfig(row8, plain), 13, 33), 5, 3, bias=False, tile_blocks=2, mapping=IntMapping.DSP
        ),
    }


def test_cpp_equals_the_reference(quick_layers: Callable) -> None:
    for one in quick_layers(sys.modules[__name__]):
        np.testing.assert_array_equal(one.found.values, one.expected.values, err_msg=one.name)
        assert np.isfinite(one.expected.values).all() and len(np.unique(one.expected.values)) > TOKENS
        assert "tender_arithmetic" in one.plan.parts[0].arithmetic.type
        assert 0 in one.layer.channel_groups.sizes  # an empty group was shifted over


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [1, 4, 16])
@pytest.mark.parametrize("name", ["tender4_tensor", "tender8_tensor"])
def test_cpp_equals_the_reference_whatever_the_lanes(needs_compiler, name: str, lanes: int, tmp_path) -> None:
    layer, how, x, bias = case(of_recipe(name, 37, 96), lanes, 4, bias=True)
    plan = plan_layer(layer, bias=bias, options=how)
    compile_plans({"layer": plan}, tmp_path / "program")
    found = simulate_plan(tmp_path / "program", "layer", plan, x)
    np.testing.assert_array_equal(found.values, layer_reference(layer, x, bias, how).values)


@pytest.mark.parametrize("name", ["tender4_tensor", "tender8_tensor"])
def test_the_reference_scales_shifted_integer_sums_once(name: str) -> None:
    """float32 of the integer, times the weight's scale, times the last group's, then the biases: no other rounding."""
    layer, how, x, bias = case(of_recipe(name, 21, 70), 8, 4, bias=True)
    groups, activation = layer.channel_groups, layer.config.activation
    assert groups is not None and isinstance(activation, ChannelGroupsConfig) and bias is not None
    codes = EncodedChannels(activation, groups).codes(torch.from_numpy(x.astype(np.float32))).long()
    weight_scale = layer.weight.effective_scale()
    whole = torch.round(layer.weight.dequantize() / weight_scale).long()
    total = shift_accumulate(codes, whole, groups.order[0], groups.sizes[0])
    scaled = total.numpy().astype(np.float32) * weight_scale.numpy().reshape(1, -1)
    scaled = scaled * groups.group_scales()[0, -1].numpy()
    expected = scaled + (bias + groups.correction[0].numpy())
    np.testing.assert_array_equal(layer_reference(layer, x, bias, how).values, expected)


def test_the_reference_stays_by_the_evaluation() -> None:
    """Its own bound, and the rounding of the evaluation's float32 sum of 70 products."""
    layer, how, x, bias = case(of_recipe("tender8_tensor", 21, 70), 8, 4, bias=True)
    expected = layer_reference(layer, x, bias, how)
    wide = torch.from_numpy(x.astype(np.float32))
    made = QuantizedLinear(layer, torch.from_numpy(bias))(wide).numpy()
    encoded = EncodedChannels(layer.config.activation, layer.channel_groups)
    terms = (encoded.values(wide).abs().double() @ layer.weight.dequantize().abs().double().T).numpy()
    rounding = 74 * 2.0**-24 * (terms + np.abs(layer.channel_groups.correction.numpy()) + 1)
    assert (np.abs(made - expected.values) <= expected.bound + rounding).all()


def test_slabs_by_hand() -> None:
    """Two groups of three and one channel around an empty one, in steps of two: 2 + 1 + 1 steps."""
    layer = of_recipe("tender8_tensor", 4, 4)
    groups = replace(
        layer.channel_groups, order=torch.tensor([[2, 0, 3, 1]]), sizes=torch.tensor([[3, 0, 1, 0, 0, 0, 0, 0]])
    )
    tensor, columns, starts = slabs(layer.weight, groups, 2)
    assert starts == (0, 2, 3, 4, 5, 6, 7, 8) and tensor.shape == (4, 18)
    assert columns[[0, 1, 2, 6]].tolist() == [2, 0, 3, 1]
    channels, idle = [0, 1, 2, 6], [i for i in range(18) if i not in (0, 1, 2, 6)]
    assert torch.equal(tensor.codes[:, channels], layer.weight.codes[:, [2, 0, 3, 1]])
    assert not tensor.codes[:, idle].any()
    # (3 * 2**7 + 1 * 2**5) * 127 * 127 = 6,709,664 < 2**23, and the sign
    assert slab_sum_bits(groups, 127, 127) == 24


def test_loops_run_as_often_as_said(needs_compiler, tmp_path) -> None:
    layer, how, x, bias = case(of_recipe("tender4_tensor", 21, 70), 8, 4, bias=True)
    plan = plan_layer(layer, bias=bias, options=how)
    counted = count_loops(plan, x[:3], tmp_path)
    said = iterations_by_label(layer_loops(plan, 3))
    assert {label: counted.get(label, 0) for label in said} == said
    assert said["offsets"] == 70 and said["divisors"] == 70


def test_an_estimate_has_the_shifting_pe() -> None:
    layer, how, _, _ = case(of_recipe("tender4_tensor", 21, 70), 8, 4, bias=True)
    made = estimate_layer(plan_layer(layer, options=how), DEVICES["u250"], 300e6)
    assert not [sentence for sentence in made.missing if "PEs of part" in sentence]


CHUNKED = LayerConfig(TensorConfig((INTS_SYMMETRIC[4],), PerChannel()), tender_activation(4))
WHOLE = replace(CHUNKED, activation=tender_activation(4, chunk_tokens=None))


def refused() -> dict[str, tuple[QuantizedLayer, str]]:
    made = quantized(WHOLE, 8, 16)
    long = Tender().quantize(torch.ones(8, 16), calibrated(inputs(16).repeat(10, 1)), CHUNKED)
    own = quantized(replace(WHOLE, activation=replace(WHOLE.activation, halved=False)), 8, 16)
    parts = PartitionedConfig((Part(16, WHOLE.weight),))
    return {
        "chunks": (long, r"holds one order of the channels, not one for each of 3 chunks .* \(recipe tender4_tensor\)"),
        "own scales": (own, "an exported kernel shifts between channel groups, so their scales must be halved"),
        "smoothing": (
            replace(made, config=replace(WHOLE, smoothing=FP16), smoothing=torch.ones(16)),
            "beside channel groups must be plain, without smoothing",
        ),
        "permutation": (
            replace(made, config=replace(made.config, permuted=True), permutation=torch.arange(16)),
            "beside channel groups must be plain, without a permutation",
        ),
        "parts": (
            replace(
                made, config=replace(made.config, weight=parts), weight=(made.weight,), part_of_column=torch.zeros(16)
            ),
            "beside channel groups must be plain, without parts",
        ),
    }


@pytest.mark.parametrize("name", list(refused()))
def test_refuses(name: str) -> None:
    layer, message = refused()[name]
    with pytest.raises(NotImplementedError, match=message):
        plan_layer(layer)
    with pytest.raises(NotImplementedError, match=message):
        layer_reference(layer, np.zeros((1, 16), np.float16))


def test_serial_multipliers_shift_no_groups() -> None:
    with pytest.raises(NotImplementedError, match="channel groups go with parallel integers without zero points"):
        plan_layer(quantized(WHOLE, 8, 16), options=LayerOptions(arithmetic=Arithmetic.WEIGHT_SERIAL))


def test_a_layer_must_have_its_groups() -> None:
    with pytest.raises(ValueError, match="an activation in channel groups must have them in its layer, not None"):
        plan_layer(replace(quantized(WHOLE, 8, 16), channel_groups=None))
