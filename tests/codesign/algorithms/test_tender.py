"""Tender's groups, scales and biases by the paper's rules in fractions; its layers against integer sums."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from codesign.algorithms.registry import algorithm
from codesign.algorithms.tender import Tender, channel_groups, tender_activation
from codesign.apply import QuantizedLinear
from codesign.calibration import InputStatistics, LayerCalibration, Statistic
from codesign.recipes import recipe
from datatypes.block_formats import integer_asymmetric
from datatypes.catalog import FP16, FP32, INTS_SYMMETRIC
from datatypes.channel_groups import EncodedChannels, shift_accumulate
from datatypes.channel_groups_config import ChannelGroupsConfig
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig
from datatypes.layer_packing import pack_layer, unpack_layer

N, K, T = 24, 80, 600
WEIGHT8 = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), ScaleConfig(FP32))


def inputs(seed: int = 0) -> torch.Tensor:
    """Two sequences ``[2, T, K]`` whose channels differ in size by about e**6 and have a mean."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.exp(1.5 * torch.randn(K, generator=generator))
    x = torch.randn(2, T, K, generator=generator) + torch.randn(K, generator=generator)
    return x * spread * (1 + torch.arange(T) / T)[:, None]  # later positions are larger: chunks differ


def weight() -> torch.Tensor:
    return torch.randn(N, K, generator=torch.Generator().manual_seed(1)) * 0.1


def calibrated(x: torch.Tensor) -> LayerCalibration:
    statistics = InputStatistics(K, frozenset({Statistic.CHUNK_RANGE}))
    statistics.update(x)
    return statistics.finish("layer")


def expected_group(largest: Fraction, most: Fraction, groups: int) -> int:
    """From 1, as the paper has it: TMax / 2**g < CMax <= TMax / 2**(g - 1), the last one takes all below."""
    for g in range(1, groups):
        if most / 2**g < largest <= most / 2 ** (g - 1):
            return g
    return groups


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("chunk_tokens", [256, 512, None], ids=str)
def test_groups_scales_and_biases_by_the_papers_rules(bits: int, chunk_tokens: int | None) -> None:
    x = inputs()
    activation = replace(tender_activation(bits, chunk_tokens=chunk_tokens), bias=FP32)
    made = Tender().quantize(weight(), calibrated(x), LayerConfig(WEIGHT8, activation))
    groups = made.channel_groups
    assert groups is not None and groups.bias is not None and groups.correction is not None
    length = T if chunk_tokens is None else chunk_tokens
    chunks = [x[:, start : start + length] for start in range(0, T, length)]
    assert isinstance(made.config.activation, ChannelGroupsConfig)
    assert made.config.activation.chunks == len(chunks) == len(groups.order)
    of_channel = groups.group_of_channel()
    for chunk, rows in enumerate(chunks):
        low, high = rows.amin((0, 1)), rows.amax((0, 1))
        bias = (low + high) / 2
        assert torch.equal(groups.bias[chunk], bias)
        largest = [Fraction(max(float(h - b), float(b - l))) for l, h, b in zip(low, high, bias, strict=True)]  # noqa: E741
        most = max(largest)
        wanted = [expected_group(value, most, activation.groups) for value in largest]
        assert (of_channel[chunk] + 1).tolist() == wanted
        assert len(set(wanted)) > 4  # the inputs really spread
        top = (1 << (bits - 1)) - 1
        assert float(groups.scale[chunk]) == float(torch.tensor(float(most)) / top)
        torch.testing.assert_close(groups.correction[chunk], made.weight.dequantize() @ bias, rtol=1e-5, atol=1e-5)


def test_nothing_saturates_and_every_channel_but_the_last_groups_uses_half_its_codes() -> None:
    x = inputs()
    made = Tender().quantize(weight(), calibrated(x), LayerConfig(WEIGHT8, replace(tender_activation(8), bias=FP32)))
    assert isinstance(made.config.activation, ChannelGroupsConfig) and made.channel_groups is not None
    encoded = EncodedChannels(made.config.activation, made.channel_groups)
    error = (encoded.values(x) + made.channel_groups.bias[encoded.chunk_of(T)] - x).abs()
    rounding = 4 * 2.0**-24 * x.abs().amax()  # of the subtraction, the division, the product and the sum here
    assert bool((error <= 0.5 * encoded.scales[encoded.chunk_of(T)] + rounding).all())
    codes = encoded.codes(x)
    of_channel = made.channel_groups.group_of_channel()
    for chunk in range(3):
        largest = codes[:, 256 * chunk : 256 * (chunk + 1)].abs().amax((0, 1))
        assert bool((largest[of_channel[chunk] < 7] >= 63).all())


def test_a_bias_moves_codes_and_no_output() -> None:
    """One channel is massive at the first position alone (Sun et al., arXiv 2402.17762): half of it is its bias."""
    x = torch.randn(2, T, K, generator=torch.Generator().manual_seed(3))
    x[:, 0, 7] = 3000
    config = LayerConfig(WEIGHT8, replace(tender_activation(8), groups=16, bias=FP32))
    errors = {}
    for unrounded in (False, True):
        layer = Tender(unrounded_bias=unrounded).quantize(weight(), calibrated(x), config)
        decoded = layer.weight.dequantize()
        encoded = EncodedChannels(layer.config.activation, layer.channel_groups)
        through = (encoded.values(x) + layer.channel_groups.bias[encoded.chunk_of(T)]) @ decoded.T
        found = QuantizedLinear(layer, None)(x)
        if not unrounded:  # float32 sums of K products of up to 3000 * 0.4
            torch.testing.assert_close(found, through, rtol=0, atol=4 * K * 2.0**-24 * 3000 * 0.4)
        errors[unrounded] = float((found - x @ decoded.T)[:, 1:256].abs().mean())
    # with the weight as it was, every position of the first chunk is off by 1500 times what rounding moved it
    off = float((1500 * (weight() - decoded)[:, 7]).abs().mean())
    assert errors[False] < off / 2 and errors[True] > off / 2
    assert algorithm("tender", {"unrounded_bias": True}) == Tender(unrounded_bias=True)


def test_finer_scales_are_half_as_large() -> None:
    x = inputs()
    config = LayerConfig(WEIGHT8, tender_activation(4))
    above, below = (Tender(finer).quantize(weight(), calibrated(x), config).channel_groups for finer in (False, True))
    assert above is not None and below is not None
    assert torch.equal(above.order, below.order) and torch.equal(above.scale, 2 * below.scale)
    assert algorithm("tender", {"finer": True}) == Tender(finer=True)


def test_groups_with_scales_of_their_own_take_their_largest_channels() -> None:
    x = inputs()
    activation = replace(tender_activation(8), halved=False, bias=None)
    made = Tender().quantize(weight(), calibrated(x), LayerConfig(WEIGHT8, activation)).channel_groups
    assert made is not None and made.bias is None and made.scale.shape == (3, 8)
    largest = torch.stack([rows.abs().amax((0, 1)) for rows in x.split(256, dim=1)])
    of_channel = made.group_of_channel()
    for chunk in range(3):
        for g in range(8):
            members = largest[chunk, of_channel[chunk] == g]
            wanted = float(members.max() / 127) if len(members) else 1.0
            assert float(made.scale[chunk, g]) == pytest.approx(wanted, rel=1e-6)


def test_channels_that_never_change_are_all_bias() -> None:
    ranges = torch.tensor([[[1.0, 3.0], [1.0, 3.0]]])  # both constant
    made = channel_groups(ranges, replace(tender_activation(4, chunk_tokens=None), bias=FP32), torch.ones(1, 2))
    assert made.sizes[0].tolist() == [0] * 13 + [2] and float(made.scale[0]) == 1
    assert made.bias is not None and made.bias.tolist() == [[1, 3]]
    assert made.correction is not None and made.correction.tolist() == [[4]]


@pytest.mark.parametrize("name", ["tender4", "tender8", "tender4_tensor", "tender8_tensor"])
def test_a_layer_computes_what_the_shifts_add_up(name: str) -> None:
    """The float32 sum of the evaluation against integers, scaled once: within the rounding of K products."""
    x, made_by = inputs(3), recipe(name)
    layer = made_by.algorithm.quantize(weight(), calibrated(x), made_by.linear)
    groups, activation = layer.channel_groups, layer.config.activation
    assert groups is not None and isinstance(activation, ChannelGroupsConfig)
    encoded = EncodedChannels(activation, groups)
    codes, chunk = encoded.codes(x[0]).long(), encoded.chunk_of(T)
    whole = torch.round(layer.weight.dequantize() / layer.weight.effective_scale()).long()
    last = groups.group_scales()[:, -1].double()
    expected = torch.zeros(T, N, dtype=torch.float64)
    for c in range(len(groups.order)):
        rows = chunk == c
        total = shift_accumulate(codes[rows], whole, groups.order[c], groups.sizes[c])
        scaled = total.double() * last[c] * layer.weight.effective_scale().double().flatten()
        expected[rows] = scaled + groups.correction[c].double()
    made = QuantizedLinear(layer, None)(x)[0].double()
    terms = encoded.values(x[0]).abs().double() @ layer.weight.dequantize().abs().double().T
    assert bool(((made - expected).abs() <= (K + 3) * 2.0**-24 * (terms + expected.abs()) * 2).all())


def test_positions_choose_the_chunk_whatever_the_batch() -> None:
    x, made_by = inputs(4), recipe("tender8")
    module = QuantizedLinear(made_by.algorithm.quantize(weight(), calibrated(x), made_by.linear), None)
    both = module(x)
    torch.testing.assert_close(both[1], module(x[1:])[0], rtol=1e-5, atol=1e-4)
    shifted = module(x[:, 256:])  # the same rows at other positions are encoded otherwise
    assert float((shifted - both[:, 256:]).abs().max()) > 0


def test_groups_are_better_than_one_scale_for_a_token() -> None:
    """The paper's promise, on inputs whose channels differ."""
    x, w = inputs(5), weight()
    exact = x @ w.T

    def error(name: str) -> float:
        made_by = recipe(name)
        made = QuantizedLinear(made_by.algorithm.quantize(w, calibrated(x), made_by.linear), None)(x)
        return float((made - exact).square().sum() / exact.square().sum())

    assert error("tender4") < error("int4_channel_a4")
    assert error("tender8") < error("int8_channel_a8")


@pytest.mark.parametrize(
    "change", [{}, {"halved": False}, {"bias": None}, {"chunk_tokens": None, "chunks": 1}], ids=str
)
def test_packed_to_the_bit_and_back(change: dict[str, object]) -> None:
    x = inputs()
    activation = replace(tender_activation(4), **change)  # type: ignore[arg-type]
    layer = Tender().quantize(weight(), calibrated(x), LayerConfig(WEIGHT8, activation))
    arrays = pack_layer(layer)
    assert sum(8 * a.numel() * a.element_size() for a in arrays.values()) == layer.config.storage_bits((N, K)).total
    back = unpack_layer(arrays, layer.config, (N, K))
    assert torch.equal(QuantizedLinear(back, None)(x), QuantizedLinear(layer, None)(x))
    with pytest.raises(ValueError, match="channel_groups of a layer must be there exactly when its config says so"):
        pack_layer(replace(layer, channel_groups=None))
    wrong = replace(layer.config.activation, groups=5)
    with pytest.raises(ValueError, match=r"sizes of channel groups must have the shape \(., 5\) by the config"):
        pack_layer(replace(layer, config=replace(layer.config, activation=wrong)))


def test_recipes_say_both_widths() -> None:
    assert recipe("tender4").linear.activation == ChannelGroupsConfig(INTS_SYMMETRIC[4], 14, 256, 8)
    assert recipe("tender_int4_channel_a8").linear.activation == ChannelGroupsConfig(INTS_SYMMETRIC[8], 8, 256, 8)
    assert recipe("tender8_tensor").linear.activation == ChannelGroupsConfig(INTS_SYMMETRIC[8], 8, None)


def test_inputs_are_as_wide_as_integers_are() -> None:
    with pytest.raises(ValueError, match="bits of an input in channel groups must be 2 to 8, not 1"):
        recipe("tender_binary_channel")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LayerConfig(WEIGHT8), "config must hold an activation in channel groups for tender, not None"),
        (
            LayerConfig(replace(WEIGHT8, granularity=PerGroup(16)), tender_activation(8)),
            "weight of tender must have one scale along a row and no zero point",
        ),
        (
            LayerConfig(replace(integer_asymmetric(4, 1), granularity=PerChannel()), tender_activation(8)),
            "weight of tender must have one scale along a row and no zero point",
        ),
        (
            LayerConfig(WEIGHT8, tender_activation(8, chunk_tokens=100)),
            "chunk_tokens of tender must be a multiple of 256 or None, not 100",
        ),
    ],
    ids=["no groups", "weight groups", "zero point", "chunks"],
)
def test_refuses(config: LayerConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tender().quantize(weight(), calibrated(inputs()), config)


def test_a_bias_beyond_its_format_is_refused() -> None:
    x = inputs() * 1e5
    with pytest.raises(ValueError, match=r"bias of channel groups must hold every bias .* not be fp16"):
        Tender().quantize(weight(), calibrated(x), LayerConfig(WEIGHT8, replace(tender_activation(8), bias=FP16)))


def test_a_layer_without_its_groups_does_not_run() -> None:
    made_by = recipe("tender8")
    layer = made_by.algorithm.quantize(weight(), calibrated(inputs()), made_by.linear)
    with pytest.raises(ValueError, match="an activation in channel groups must have them in its layer, not None"):
        QuantizedLinear(replace(layer, channel_groups=None), None)
