"""What names say, and what is said about names that say nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from codesign.activation import fake_quantize
from codesign.algorithms.registry import ALGORITHMS
from codesign.recipe_names import parse_recipe_name
from datatypes.block_formats import BLOCK_FORMATS, bilevel, double_quantized
from datatypes.catalog import BITMOD_FP3, E8M0, FP16, FP32, INTS_SYMMETRIC, MINIFLOATS, NF4, UINT8, UINTS
from datatypes.granularity import PerChannel, PerGroup, PerTensor
from datatypes.layer_config import LayerConfig, ScaleRule
from datatypes.quantize import quantize_tensor


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("int4_g128_fp16", "int4_g128_fp16"),
        ("int4_g128", "int4_g128_fp16"),
        ("int3_asym_g128", "int3_asym_g128_fp16"),
        ("int8_channel", "int8_channel_fp16"),
        ("nf4_g64_fp32", "nf4_g64_fp32"),
        ("bitmod4_g128", "bitmod4_g128_fp16"),
        ("bitmod3_g128_uint8", "bitmod3_g128_uint8"),
        ("bitmod_fp4_g128", "bitmod4_g128_fp16"),
        ("mxfp4", "mxfp4"),
        ("e2m1_g32_e8m0", "mxfp4"),
        ("nvfp4", "nvfp4"),
        ("ant4", "ant4_channel_fp16"),
        ("olive4", "olive4_channel_fp16"),
    ],
)
def test_names_of_known_encodings(name: str, same_as: str) -> None:
    assert parse_recipe_name(name)[1] == LayerConfig(weight=BLOCK_FORMATS[same_as])


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("group", [1, 32, 576])
def test_any_integer_and_group(bits: int, group: int) -> None:
    symmetric = parse_recipe_name(f"int{bits}_g{group}")[1].weight
    assert symmetric.formats == (INTS_SYMMETRIC[bits],) and symmetric.granularity == PerGroup(group)
    asymmetric = parse_recipe_name(f"int{bits}_asym_g{group}")[1].weight
    assert asymmetric.formats == (UINTS[bits],) and asymmetric.zero_point == UINTS[bits]
    assert asymmetric.scale.rule is ScaleRule.RANGE and asymmetric.granularity == PerGroup(group)


@pytest.mark.parametrize("name", [name for name, fmt in MINIFLOATS.items()])
def test_any_minifloat(name: str) -> None:
    weight = parse_recipe_name(f"{name}_channel_fp32")[1].weight
    assert weight.formats == (MINIFLOATS[name],) and weight.scale.format == FP32
    assert weight.granularity == PerChannel()


def test_granularities_and_scales() -> None:
    assert parse_recipe_name("e2m3_tensor")[1].weight.granularity == PerTensor()
    scale = parse_recipe_name("e2m3_g32_e8m0")[1].weight.scale
    assert scale.format == E8M0 and scale.rule is ScaleRule.POW2_FLOOR
    two_levels = parse_recipe_name("bitmod3_g64_uint8")[1].weight
    assert two_levels.formats == BITMOD_FP3 and two_levels.granularity == PerGroup(64)
    assert (two_levels.scale.format, two_levels.scale.outer) == (UINT8, FP16)


def test_scales_that_are_codes_themselves() -> None:
    assert parse_recipe_name("nf4_g64_dq")[1].weight == BLOCK_FORMATS["nf4_g64_dq"] == double_quantized((NF4,))
    chosen, config = parse_recipe_name("gptq_bitmod3_g128_dq_a8")
    assert chosen is ALGORITHMS["gptq"] and config.weight == double_quantized(BITMOD_FP3, 128)
    assert parse_recipe_name("int3_asym_g16_uint3")[1].weight == bilevel(3)
    assert parse_recipe_name("int4_asym_g32_uint3")[1].weight == bilevel(4, 32)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nf4_channel_dq", "must have groups and not asym to have scales of dq"),
        ("int4_asym_g64_dq", "must have groups and not asym to have scales of dq"),
        ("int4_g16_uint3", "must have asym with groups to have scales of uint3"),
        ("int4_asym_channel_uint3", "must have asym with groups to have scales of uint3"),
        ("nf4_asym_g16_uint3", "must have integers to be asym"),
    ],
)
def test_second_levels_that_do_not_fit(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_recipe_name(name)


def test_activations_and_cache() -> None:
    config = parse_recipe_name("bitmod4_g128_a8_kv4")[1]
    assert config.activation.formats == (INTS_SYMMETRIC[8],) and config.activation.dynamic
    assert config.activation.granularity == PerChannel()  # of [tokens, features]: a scale for each token
    assert config.key == config.value and config.key.formats == (UINTS[4],) and config.key.dynamic
    chosen, cache_only = parse_recipe_name("fp16_kv8")
    assert chosen is None and cache_only.weight is None
    assert cache_only.key.formats == (INTS_SYMMETRIC[8],) and cache_only.key.zero_point is None


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_may_stand_in_front(name: str) -> None:
    assert parse_recipe_name(f"{name}_int4_g64")[0] is ALGORITHMS[name]


def test_elements_bring_their_own_algorithm() -> None:
    expected = {
        "bitmod3_g128": "bitmod",
        "bitmod_fp4_g128": "bitmod",
        "ant4": "ant",
        "olive4": "olive",
        "int4_g8": "rtn",
        "nvfp4": "rtn",
        "nvfp4_nvfp4": "nvfp4",
    }
    assert {name: parse_recipe_name(name)[0].name for name in expected} == expected
    assert parse_recipe_name("gptq_bitmod3_g128")[0].name == "gptq"


def test_algorithms_get_what_they_keep_beside_the_weight() -> None:
    low_rank = parse_recipe_name("qera_exact_int3_asym_g64")[1].low_rank
    assert low_rank.rank == 32 and low_rank.a.formats == (INTS_SYMMETRIC[8],)
    assert low_rank.a.granularity == PerGroup(64) and low_rank.a.zero_point is None
    assert parse_recipe_name("gwq_int4_asym_g128")[1].outliers.fraction == 0.01
    assert parse_recipe_name("awq_int4_asym_g128")[1].smoothing == FP16
    assert parse_recipe_name("gptq_int4_asym_g128")[1] == parse_recipe_name("int4_asym_g128")[1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("int4", "recipe 'int4' must say its granularity: int4_g128, int4_channel, int4_tensor"),
        ("int9_g64", r"recipe must be one of the list \(codesign recipes\) or .*, not 'int9_g64'"),
        ("int4_g128_fp61", "not 'int4_g128_fp61'"),
        ("bitmd4_g128", "not 'bitmd4_g128'; nearest: bitmod4"),
        ("mxfp4_g16", "recipe 'mxfp4_g16' must not say a granularity or asym: mxfp4 has its own"),
        ("e2m1_asym_g16", "must have integers in groups or channels with fp16 scales to be asym"),
        ("int4_asym_g16_uint8", "must have integers in groups or channels with fp16 scales to be asym"),
        ("int4_asym_tensor", "must have integers in groups or channels with fp16 scales to be asym"),
        ("gptq_fp16", "recipe 'gptq_fp16' must name a weight format for gptq, not fp16"),
        ("int4_g0", "group_size must be at least 1, not 0"),
        ("int4_g128_a9", "bits behind 'a' must be 2 to 8, not 9"),
        ("int4_g128_kv1", "bits behind 'kv' must be 2 to 8, not 1"),
        ("", "not ''"),
        ("_", "not '_'"),
        ("fp16_g128", "must have elements of at most 8 bits where they are scaled"),
    ],
)
def test_names_that_say_nothing(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_recipe_name(name)


@pytest.mark.parametrize("block", ["mxfp4", "mxfp6_e2m3", "mxfp8_e4m3", "mxint8", "nvfp4"])
def test_inputs_in_blocks_are_those_of_the_block_format(block: str) -> None:
    """What the MX machine multiplies: weights and inputs in blocks, those of inputs scaled at run time."""
    algorithm, linear = parse_recipe_name(f"mxfp4_a{block}_kv8")
    assert algorithm is not None and linear.weight == BLOCK_FORMATS["mxfp4"] and linear.key is not None
    assert linear.activation == replace(BLOCK_FORMATS[block], dynamic=True)
    x = torch.randn(3, 5, 96, generator=torch.Generator().manual_seed(0))
    wanted = torch.stack([quantize_tensor(row, BLOCK_FORMATS[block]).dequantize() for row in x])
    assert torch.equal(fake_quantize(x, linear.activation), wanted)


def test_inputs_in_unknown_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="recipe must be one of the list .* not 'mxfp4_amxfp9'"):
        parse_recipe_name("mxfp4_amxfp9")
