"""The list of recipes: bits by formula, dictionaries there and back, every one of them on a small layer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from codesign.calibration import InputStatistics, Statistic
from codesign.recipes import (
    RECIPES,
    Recipe,
    check_groups,
    check_quantizes,
    recipe,
    recipe_from_dict,
    recipe_to_dict,
)
from datatypes.channel_groups_config import ChannelGroupsConfig
from datatypes.layer_config import LayerConfig
from hwmodel.workload import LayerKind, LayerSpec

K = 4096
# bits for each weight of a 4096 x 4096 layer, from the formulas of the papers: code + scale/group + zero/group + ...
BITS = {
    "fp16": 16,
    "int8_channel": 8 + 16 / K,
    "int6_asym_g128": 6 + (16 + 6) / 128,
    "int5_asym_g128": 5 + (16 + 5) / 128,
    "int4_g128_fp16": 4 + 16 / 128,
    "int4_asym_g128": 4 + (16 + 4) / 128,  # GPTQ and AWQ: 4.156
    "int4_asym_g32": 4 + (16 + 4) / 32,
    "int3_asym_g128": 3 + (16 + 3) / 128,  # 3.148
    "fp4_g128": 4 + 16 / 128,
    "fp3_g128": 3 + 16 / 128,
    "bitmod4_g128": 4 + (16 + 2) / 128,
    "bitmod3_g128": 3 + (16 + 2) / 128,
    "bitmod4_g128_uint8": 4 + (8 + 2) / 128 + 16 / K,
    "ant4": 4 + 16 / K + 32 / K**2,  # the type: 2 bits, in a word of its own
    "flint4_g128": 4 + 16 / 128,
    "olive4": 4 + 16 / K + 32 / K**2,
    "mxfp4": 4.25,
    "mxfp6_e2m3": 6.25,
    "mxfp8_e4m3": 8.25,
    "nvfp4": 4.5 + 32 / K**2,
    "nf4_g64": 4 + 16 / 64,
    "gptq_int4_asym_g128": 4 + 20 / 128,
    "gptq_int3_asym_g128": 3 + 19 / 128,
    "gptq_bitmod3_g128": 3 + 18 / 128,
    "awq_int4_asym_g128": 4 + 20 / 128 + 16 / K,  # the factors are not folded
    "l2qer_w4a8_mxint": 4.5 + 8.5 * 32 * 2 * K / K**2,
    "l2qer_int4_g128": 4.125 + (8 * 2 * 32 * K + 16 * (32 * 32 + K)) / K**2,
    "gwq4_g128": 4 + 20 / 128 + 0.01 * 32 + (K + 1) * 32 / K**2,
    "gwq3_g128": 3 + 19 / 128 + 0.01 * 32 + (K + 1) * 32 / K**2,
    "finequant4": 4 + 16 / K,  # before it has chosen
    "int8_channel_a8": 8 + 16 / K,
    "smoothquant_int8_channel_a8": 8 + 32 / K,
    # each chunk: order, bias and what it adds to the outputs, 16 bits a channel; 16 a group's size, one FP32 scale
    "tender8": 8 + 16 / K + 8 * (3 * 16 * K + 8 * 16 + 32) / K**2,
    "tender4": 4 + 16 / K + 8 * (3 * 16 * K + 14 * 16 + 32) / K**2,
    "tender8_tensor": 8 + 16 / K + (3 * 16 * K + 8 * 16 + 32) / K**2,
    "tender4_tensor": 4 + 16 / K + (3 * 16 * K + 14 * 16 + 32) / K**2,
    "int4_g128_fp16_a8": 4 + 16 / 128,
    "bitmod4_g128_kv8": 4 + 18 / 128,
    "bitmod4_g128_kv4": 4 + 18 / 128,
    # a table of FP16 for each row; 48 bits for each outlier, and row pointers
    "squeezellm4": 4 + 16 * 16 / K,
    "squeezellm3": 3 + 8 * 16 / K,
    "squeezellm4_sparse": 4 + 16 * 16 / K + 0.0045 * 48 + (K + 1) * 32 / K**2,
    "squeezellm3_sparse": 3 + 8 * 16 / K + 0.0045 * 48 + (K + 1) * 32 / K**2,
    # an index for every v outputs, 4096 of which end in a short vector; a book of FP16 vectors
    "vptq_v6_k4096": 683 * 12 / K + 4096 * 6 * 16 / K**2,
    "vptq_v8_k65536": 16 / 8 + 65536 * 8 * 16 / K**2,
    "vptq_v8_k65536_r256": (16 + 8) / 8 + (65536 + 256) * 8 * 16 / K**2,
    "vptq_v12_k4096_r4096": 342 * (12 + 12) / K + 2 * 4096 * 12 * 16 / K**2,
    # one code for two weights, a scale for 1024; 88 points take codes of 7 bits
    "higgs_p2_n256": 8 / 2 + 16 / 1024,
    "higgs_p2_n88": 7 / 2 + 16 / 1024,
    "higgs_p2_n64": 6 / 2 + 16 / 1024,
    "higgs_p2_n16": 4 / 2 + 16 / 1024,
}


def test_every_recipe_has_its_formula() -> None:
    assert set(BITS) == set(RECIPES)


@pytest.mark.parametrize("name", BITS)
def test_bits_by_formula(name: str) -> None:
    stored = RECIPES[name].linear.storage_bits((K, K))
    assert stored.bits_per_weight((K, K)) == pytest.approx(BITS[name], rel=1e-6)


@pytest.mark.parametrize("name", BITS)
def test_name_note_and_dictionary(name: str) -> None:
    made = RECIPES[name]
    assert made.name == name and made.note and recipe(name) is made
    assert recipe_from_dict(recipe_to_dict(made)) == made


@pytest.mark.parametrize("name", [name for name in BITS if RECIPES[name].algorithm is not None])
def test_every_recipe_runs(name: str) -> None:
    """On a layer whose inputs no group size divides, with only the statistics that the recipe says it needs."""
    made = RECIPES[name]
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn((40, 200), generator=generator)
    x = torch.randn((100, 200), generator=generator)
    statistics = InputStatistics(200, made.needs)
    statistics.update(x)
    calibration = statistics.finish("layer")
    for gradient in made.needs & {Statistic.GRADIENT_ABS, Statistic.GRADIENT_SQUARE}:
        calibration.statistics[gradient] = torch.rand((40, 200), generator=generator)
    layer = made.algorithm.quantize(weight, calibration, made.linear)
    error = float((layer.dequantize_weight() - weight).square().mean() / weight.square().mean())
    assert 0 < error < 0.2  # 1 is the error of no weight at all; three bits of noise make about 0.1
    activation = made.linear.activation
    if isinstance(activation, ChannelGroupsConfig):  # as many chunks of positions as the calibration had
        activation = replace(activation, chunks=layer.config.activation.chunks)
    assert (layer.config.activation, layer.config.key) == (activation, made.linear.key)


def test_configs_of_a_workload() -> None:
    made = replace(recipe("bitmod4_g128_kv8"), head=recipe("int8_channel").linear)

    def config(kind: LayerKind, *, head: bool = False) -> LayerConfig:
        return made.config_of(LayerSpec("x", kind, 1, 8, 8, head=head))

    assert config(LayerKind.LINEAR) == made.linear == config(LayerKind.CONV)
    assert config(LayerKind.LINEAR, head=True) == made.head
    assert config(LayerKind.EMBEDDING) == LayerConfig() == config(LayerKind.NORM)
    assert config(LayerKind.ATTENTION_QK) == LayerConfig(key=made.linear.key, value=made.linear.value)
    assert recipe("int4_g128_fp16").config_of(LayerSpec("x", LayerKind.LINEAR, 1, 8, 8, head=True)) == LayerConfig()


def test_statistics_to_gather() -> None:
    assert recipe("fp16").needs == frozenset() == recipe("bitmod4_g128").needs
    assert recipe("gptq_int4_asym_g128").needs == {Statistic.HESSIAN}


def test_names_outside_the_list() -> None:
    made = recipe("int5_g64_fp16")
    assert made.name == "int5_g64_fp16" and made.algorithm.name == "rtn"
    with pytest.raises(ValueError, match=r"not 'bitmod5_g128'; nearest: bitmod4_g128"):
        recipe("bitmod5_g128")


def test_own_recipe_from_another_one() -> None:
    made = recipe_from_dict(
        {
            "name": "mine",
            "base": "gptq_int3_asym_g128",
            "options": {"act_order": False},
            "head": {"weight": {"formats": "int8_sym", "granularity": "per_channel"}},
        }
    )
    assert made.name == "mine" and not made.algorithm.act_order and made.head.weight.code_bits == 8
    assert made.linear == recipe("gptq_int3_asym_g128").linear
    assert recipe_from_dict({"name": "n", "base": "mxfp4", "algorithm": "gptq"}).algorithm.name == "gptq"


def test_own_recipe_in_full() -> None:
    made = recipe_from_dict({"name": "mine", "linear": {"weight": {"formats": "nf4", "granularity": "per_channel"}}})
    assert made.algorithm.name == "rtn" and made.linear.weight.formats[0].name == "nf4"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "x", "linaer": {}}, "key of a recipe must be one of name, .*, not 'linaer'; nearest: linear"),
        ({"linear": {}}, "name of a recipe must be a string, not None"),
        ({"name": "x"}, "recipe x must have one of base and linear, not both or none"),
        ({"name": "x", "base": "fp16", "linear": {}}, "recipe x must have one of base and linear, not both or none"),
        ({"name": "x", "base": "fp61"}, "recipe must be one of the list"),
        ({"name": "x", "base": "mxfp4", "algorithm": "gtpq"}, "nearest: gptq"),
        ({"name": "x", "base": "fp16", "options": {}}, "recipe x must name an algorithm for its options"),
        ({"name": "x", "base": "fp16", "algorithm": "rtn"}, "recipe x must have a weight encoding for its algorithm"),
    ],
)
def test_bad_dictionaries(data: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe_from_dict(data)


def test_an_encoding_without_an_algorithm_is_priced_alone() -> None:
    alone = Recipe("x", None, recipe("mxfp4").linear)
    assert alone.priced_alone and alone.needs == frozenset()
    with pytest.raises(ValueError, match="recipe must have an algorithm to encode weights, and x is an encoding alone"):
        check_quantizes(alone)
    for name in ("fp16", "mxfp4"):
        assert not recipe(name).priced_alone
        check_quantizes(recipe(name))
    # a base without an algorithm keeps to none; another may be named
    mine = recipe_from_dict({"name": "mine", "base": "squeezellm4"})
    assert mine.priced_alone and mine.linear == recipe("squeezellm4").linear
    assert recipe_from_dict({"name": "mine", "base": "mxfp4", "algorithm": "none"}).priced_alone
    assert recipe_from_dict({"name": "mine", "base": "squeezellm4", "algorithm": "rtn"}).algorithm.name == "rtn"


def test_groups_longer_than_every_row_are_refused():
    chosen = recipe("int4_g100_fp16")
    check_groups(chosen, [64, 100], "tiny")  # the rows of 64 are one ragged group each
    check_groups(recipe("int4_channel"), [64], "tiny")
    with pytest.raises(ValueError, match="group_size of recipe int4_g100_fp16 must be at most 99, the longest row"):
        check_groups(chosen, [64, 99], "tiny")
