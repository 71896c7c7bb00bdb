"""What every algorithm of the registry must do. A new member joins by its line in the registry."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from codesign.algorithms.base import Algorithm
from codesign.algorithms.registry import ALGORITHMS
from codesign.calibration import NO_CALIBRATION, LayerCalibration
from codesign.recipe_names import parse_recipe_name
from datatypes.catalog import FP16, INTS_SYMMETRIC, UINTS
from datatypes.channel_groups_config import ChannelGroupsConfig
from datatypes.granularity import PerChannel
from datatypes.layer_config import (
    LayerConfig,
    LowRankConfig,
    OutlierConfig,
    OutlierLayout,
    Part,
    PartitionedConfig,
    SparsityConfig,
    TensorConfig,
)
from datatypes.quantized_layer import QuantizedLayer
from datatypes.tensor import QuantizedTensor

# the family of formats an algorithm asks for; every other one takes groups of 32 with a zero point
FAMILY = {"bitmod": "bitmod4_g32", "ant": "ant4", "olive": "olive4", "nvfp4": "nvfp4", "tender": "int4_channel"}
NAMES = list(ALGORITHMS)


def example(name: str) -> tuple[Algorithm, LayerConfig]:
    """An algorithm with a config it supports, an 8-bit activation and a KV format beside it."""
    chosen, config = parse_recipe_name(f"{name}_{FAMILY.get(name, 'int4_asym_g32')}_a8_kv4")
    assert chosen is ALGORITHMS[name]
    return chosen, config


def tensors_in(made: object) -> Iterator[tuple[str, Tensor]]:
    """Every tensor inside a quantized layer, with its place."""
    for field in dataclasses.fields(made):  # type: ignore[arg-type]
        value = getattr(made, field.name)
        parts = value if isinstance(value, tuple) else (value,)
        for part in parts:
            if isinstance(part, Tensor):
                yield field.name, part
            elif dataclasses.is_dataclass(part) and field.name != "config":
                yield from ((f"{field.name}.{name}", tensor) for name, tensor in tensors_in(part))


def words(bits: int) -> int:
    return math.ceil(bits / 32) * 32


def counted_bits(t: QuantizedTensor) -> int:
    """Bits of what is really there: rows of codes in blocks of 32, every other field in whole words."""
    fmt = t.config.formats[0]
    bits = t.codes.shape[0] * math.ceil(t.codes.shape[1] / 32) * 32 * fmt.bits
    if t.scale is not None:
        bits += words(t.scale.numel() * t.config.scale.format.bits)
    if t.outer_scale is not None:
        bits += words(t.outer_scale.numel() * t.config.scale.outer.bits)
    if t.zero_point is not None:
        bits += words(t.zero_point.numel() * t.config.zero_point.bits)
    if t.selector is not None:
        bits += words(t.selector.numel() * math.ceil(math.log2(len(t.config.formats))))
    return bits


def counted_layer_bits(made: QuantizedLayer) -> int:
    bits = counted_bits(made.weight)
    bits += sum(counted_bits(t) for t in (made.low_rank_a, made.low_rank_b) if t is not None)
    if made.outliers is not None:
        bits += words(made.outliers.values.numel() * 16) + words(made.outliers.columns.numel() * 16)
        bits += made.outliers.row_pointers.numel() * 32
    if made.smoothing is not None:
        bits += words(made.smoothing.numel() * 16)
    if made.channel_groups is not None:
        groups = made.channel_groups
        bits += words(groups.order.numel() * 16) + words(groups.sizes.numel() * 16) + groups.scale.numel() * 32
        bits += words(groups.bias.numel() * 16) + words(groups.correction.numel() * 16)
    return bits


@pytest.mark.parametrize("name", NAMES)
def test_registered_under_its_own_name(name: str) -> None:
    chosen = ALGORITHMS[name]
    assert isinstance(chosen, Algorithm)
    assert chosen.name == name and chosen.source


@pytest.mark.parametrize("name", NAMES)
def test_is_frozen(name: str) -> None:
    chosen = ALGORITHMS[name]
    assert dataclasses.is_dataclass(chosen) and hash(chosen) == hash(dataclasses.replace(chosen))
    for field in dataclasses.fields(chosen):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(chosen, field.name, None)


@pytest.mark.parametrize("name", NAMES)
def test_changes_no_input(name: str, layer) -> None:
    chosen, config = example(name)
    weight = layer.weight.clone()
    before = {key: value.clone() for key, value in layer.calibration.statistics.items()}
    chosen.quantize(layer.weight, layer.calibration, config)
    assert torch.equal(layer.weight, weight)
    assert all(torch.equal(layer.calibration.statistics[key], value) for key, value in before.items())


@pytest.mark.parametrize("name", NAMES)
def test_second_call_gives_the_same(name: str, layer) -> None:
    chosen, config = example(name)
    torch.manual_seed(1)
    first = dict(tensors_in(chosen.quantize(layer.weight, layer.calibration, config)))
    torch.manual_seed(2)
    second = dict(tensors_in(chosen.quantize(layer.weight, layer.calibration, config)))
    assert first.keys() == second.keys() and first
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (5, 3), (3, 40), (16, 72), (40, 16)], ids=str)
def test_any_shape(name: str, shape: tuple[int, int], make_layer) -> None:
    """Tiny shapes and groups of 32 that do not divide the inputs."""
    chosen, config = example(name)
    made_layer = make_layer(*shape, tokens=100)
    made = chosen.quantize(made_layer.weight, made_layer.calibration, config)
    decoded = made.dequantize_weight()
    assert made.shape == shape and tuple(decoded.shape) == shape
    assert decoded.dtype == torch.float32 and torch.isfinite(decoded).all()
    assert made.config.storage_bits(shape).total == counted_layer_bits(made)


@pytest.mark.parametrize("name", NAMES)
def test_config_says_what_is_there(name: str, layer) -> None:
    chosen, config = example(name)
    made = chosen.quantize(layer.weight, layer.calibration, config)
    shape = tuple(layer.weight.shape)
    assert isinstance(made.weight, QuantizedTensor)
    assert made.weight.config == made.config.weight
    assert made.config.storage_bits(shape).total == counted_layer_bits(made)
    assert made.bits_per_weight == counted_layer_bits(made) / layer.weight.numel()
    assert (made.low_rank_a is None) == (made.config.low_rank is None)
    assert (made.outliers is None) == (made.config.outliers is None)
    assert (made.smoothing is None) == (made.config.smoothing is None)
    assert (made.permutation is None) == (not made.config.permuted)
    activation = made.config.activation
    if isinstance(activation, ChannelGroupsConfig):  # as many chunks as the calibration inputs were long enough for
        assert made.channel_groups is not None and activation.chunks == len(made.channel_groups.order)
        activation = dataclasses.replace(activation, chunks=config.activation.chunks)
    assert (activation, made.config.key, made.config.value) == (config.activation, config.key, config.value)


@pytest.mark.parametrize("name", NAMES)
def test_error_stays_below_four_bits_worth(name: str, layer) -> None:
    """A uniform 4-bit step over the whole range of a group errs by at most half a step: 1/15 of the range each way."""
    chosen, config = example(name)
    made = chosen.quantize(layer.weight, layer.calibration, config)
    error = layer.output_error(made.dequantize_weight())
    assert 0 < error < 1 / 15  # far above what any of them does, far below doing nothing (1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf], ids=str)
def test_refuses_weights_that_are_no_numbers(name: str, bad: float, layer) -> None:
    chosen, config = example(name)
    weight = layer.weight.clone()
    weight[3, 5] = bad
    with pytest.raises(ValueError, match="weight of layer must be finite, not hold 1 NaN or infinite values"):
        chosen.quantize(weight, layer.calibration, config)


@pytest.mark.parametrize("name", NAMES)
def test_refuses_what_is_no_matrix(name: str, layer) -> None:
    chosen, config = example(name)
    with pytest.raises(ValueError, match=r"must be a matrix \[n, k\], not of shape \[80\]"):
        chosen.quantize(layer.weight[0], layer.calibration, config)
    with pytest.raises(ValueError, match=r"must be a matrix \[n, k\], not of shape \[0, 80\]"):
        chosen.quantize(layer.weight[:0], layer.calibration, config)
    with pytest.raises(TypeError, match=r"must be a floating-point tensor, not torch\.int64"):
        chosen.quantize(layer.weight.long(), layer.calibration, config)


@pytest.mark.parametrize("name", NAMES)
def test_lower_precision_and_strides_are_fine(name: str, layer) -> None:
    chosen, config = example(name)
    half = layer.weight.to(torch.bfloat16)
    strided = torch.empty((half.shape[1], half.shape[0]), dtype=torch.bfloat16).T.copy_(half)
    assert not strided.is_contiguous()
    from_half = chosen.quantize(half, layer.calibration, config).dequantize_weight()
    assert torch.equal(from_half, chosen.quantize(half.float(), layer.calibration, config).dequantize_weight())
    assert torch.equal(from_half, chosen.quantize(strided, layer.calibration, config).dequantize_weight())


@pytest.mark.parametrize("name", [n for n in NAMES if ALGORITHMS[n].needs])
def test_missing_statistic_is_named(name: str, layer) -> None:
    chosen, config = example(name)
    for statistic in sorted(chosen.needs, key=lambda s: s.value):
        rest = {key: value for key, value in layer.calibration.statistics.items() if key is not statistic}
        with pytest.raises(ValueError, match=f"calibration of layer must hold {statistic.value}, not only"):
            chosen.quantize(layer.weight, LayerCalibration("layer", 1, rest), config)


@pytest.mark.parametrize("name", [n for n in NAMES if ALGORITHMS[n].needs])
def test_statistic_of_another_layer_is_refused(name: str, layer, make_layer) -> None:
    chosen, config = example(name)
    with pytest.raises(ValueError, match="of layer must have the shape"):
        chosen.quantize(layer.weight, make_layer(24, 64).calibration, config)


@pytest.mark.parametrize("name", [n for n in NAMES if not ALGORITHMS[n].needs])
def test_data_free_algorithms_need_no_calibration(name: str, layer) -> None:
    chosen, config = example(name)
    without = chosen.quantize(layer.weight, NO_CALIBRATION, config).dequantize_weight()
    assert torch.equal(without, chosen.quantize(layer.weight, layer.calibration, config).dequantize_weight())


@pytest.mark.parametrize("name", NAMES)
def test_zero_weights_stay_zero(name: str, layer) -> None:
    chosen, config = example(name)
    made = chosen.quantize(torch.zeros_like(layer.weight), layer.calibration, config)
    assert not made.dequantize_weight().any()


FACTOR = TensorConfig((INTS_SYMMETRIC[8],), PerChannel())
BESIDE = {
    "low_rank": {"low_rank": LowRankConfig(4, FACTOR, FACTOR)},
    "outliers": {"outliers": OutlierConfig(OutlierLayout.CSR, 0.01)},
    "smoothing": {"smoothing": FP16},
    "output_norm": {"output_norm": True},
}
INSIDE = {
    "sparsity": {"sparsity": SparsityConfig()},
    "row_scale": {"row_scale": FP16},
    "column_scale": {"column_scale": FP16},
    "hadamard": {"hadamard": 16},
    "dynamic": {"dynamic": True},
}


@pytest.mark.parametrize("name", NAMES)
def test_no_part_of_a_config_is_passed_over(name: str, layer) -> None:
    """Whatever an algorithm does not fill in itself it refuses by name."""
    chosen, config = example(name)
    for field, change in BESIDE.items():
        if isinstance(config.activation, ChannelGroupsConfig) and field == "low_rank":
            continue  # the config itself refuses it
        if getattr(config, field) in (None, False):
            with pytest.raises(NotImplementedError, match=f"{name} does not support {field}"):
                chosen.quantize(layer.weight, layer.calibration, dataclasses.replace(config, **change))
    for field, change in INSIDE.items():
        inside = dataclasses.replace(config, weight=dataclasses.replace(config.weight, **change))
        with pytest.raises(NotImplementedError, match=f"{name} does not support {field}"):
            chosen.quantize(layer.weight, layer.calibration, inside)


@pytest.mark.parametrize("name", NAMES)
def test_needs_one_weight_encoding(name: str, layer) -> None:
    chosen, config = example(name)
    with pytest.raises(ValueError, match=f"config must hold a weight encoding for {name}, not None"):
        chosen.quantize(layer.weight, layer.calibration, dataclasses.replace(config, weight=None))
    parts = PartitionedConfig((Part(80, TensorConfig((UINTS[4],))),))
    with pytest.raises(NotImplementedError, match=f"{name} does not support a weight in parts"):
        chosen.quantize(layer.weight, layer.calibration, dataclasses.replace(config, weight=parts))


PROMISES = ["gptq", "awq", "lqer", "l2qer", "qera_approximate", "qera_exact", "gwq"]


@pytest.mark.parametrize("name", PROMISES)
def test_output_error_is_below_round_to_nearest(name: str, layer) -> None:
    """The papers' common promise, on the same dense encoding."""
    chosen, config = example(name)
    nearest = ALGORITHMS["rtn"].quantize(layer.weight, layer.calibration, LayerConfig(weight=config.weight))
    made = chosen.quantize(layer.weight, layer.calibration, config)
    assert layer.output_error(made.dequantize_weight()) < layer.output_error(nearest.dequantize_weight())


@pytest.mark.parametrize("name", ["bitmod", "ant", "olive", "nvfp4"])
def test_weight_error_is_not_above_the_plain_encoding(name: str, layer) -> None:
    """Choosing by squared error cannot lose against the first candidate without a search."""
    chosen, config = example(name)
    first = dataclasses.replace(config.weight, formats=config.weight.formats[:1], selector=None)
    nearest = ALGORITHMS["rtn"].quantize(layer.weight, layer.calibration, LayerConfig(weight=first))
    made = chosen.quantize(layer.weight, layer.calibration, config)
    assert layer.weight_error(made.dequantize_weight()) <= layer.weight_error(nearest.dequantize_weight())
