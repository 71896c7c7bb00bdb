"""Configs to JSON and back, and what a mistyped one is told."""

import json
from dataclasses import replace

import pytest

from datatypes.block_formats import BITMOD4_G128, BLOCK_FORMATS, MXFP4
from datatypes.catalog import E4M3, FP16, FP32, INT32, INTS_SYMMETRIC, OLIVE4_INT, minifloat
from datatypes.config_json import config_from_dict, config_to_dict
from datatypes.format import CodebookFormat, ExponentFormat, IntFormat, LearnedFormat, Tie, VectorFormat
from datatypes.granularity import PerBlock, PerChannel, PerGroup, PerInputChannel, PerTensor
from datatypes.layer_config import (
    CodebookConfig,
    LayerConfig,
    LowRankConfig,
    OutlierConfig,
    OutlierLayout,
    Part,
    PartitionedConfig,
    ScaleConfig,
    SparsityConfig,
    TensorConfig,
)

OWN_FORMATS = (
    CodebookFormat("mine", 2, "by hand", tie=Tie.AWAY, values=(0.0, 1.0, -2.0, 0.0), unused=(3,)),
    VectorFormat("square", 1, "by hand", dimension=2, points=((0.0, 1.0), (1.0, 0.5))),
    IntFormat("thirds", 3, "by hand", step=0.25),
    minifloat(3, 2, bias=11),
    ExponentFormat("e5", 5, "by hand", bias=15),
    OLIVE4_INT,
)
CONFIGS = {
    "nothing": LayerConfig(),
    **{name: LayerConfig(config) for name, config in BLOCK_FORMATS.items()},
    **{fmt.name: LayerConfig(TensorConfig((fmt,), PerTensor(), None)) for fmt in OWN_FORMATS},
    "learned": LayerConfig(
        TensorConfig(
            (LearnedFormat("k", 3, "k-means", dimension=2),),
            scale=None,
            codebook=CodebookConfig(E4M3, PerGroup(64, along_output=True)),
            residual=MXFP4,
        )
    ),
    "everything": LayerConfig(
        weight=replace(BITMOD4_G128, sparsity=SparsityConfig(1, 2), hadamard=64, row_scale=FP16, column_scale=FP32),
        activation=TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), dynamic=True),
        output=TensorConfig((E4M3,), PerInputChannel(), ScaleConfig(FP32)),
        key=TensorConfig((INTS_SYMMETRIC[4],), PerBlock(2, 16), selector=PerChannel()),
        value=MXFP4,
        low_rank=LowRankConfig(32, MXFP4, MXFP4, fused=True),
        outliers=OutlierConfig(OutlierLayout.COLUMNS, 0.005, FP32, INT32, keep_dense_slot=False),
        permuted=True,
        output_norm=True,
        smoothing=FP16,
    ),
    "parts": LayerConfig(PartitionedConfig((Part(64, MXFP4), Part(32, BITMOD4_G128)), slab=32)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_survive_json(name):
    text = json.dumps(config_to_dict(CONFIGS[name]))
    back = config_from_dict(json.loads(text))
    assert back == CONFIGS[name]
    assert json.dumps(config_to_dict(back)) == text


def test_what_is_written_is_what_one_would_write_by_hand():
    assert config_to_dict(LayerConfig(BITMOD4_G128)) == {
        "weight": {
            "formats": "bitmod_fp4",
            "granularity": {"kind": "per_group", "group_size": 128},
            "scale": {"format": "uint8", "outer": "fp16"},
        }
    }
    by_hand = {
        "weight": {
            "formats": "nf4",
            "granularity": {"kind": "per_group", "group_size": 64},
            "scale": {"format": "fp32"},
        },
        "activation": {"formats": ["int8_sym"], "granularity": "per_channel", "dynamic": True},
    }
    config = config_from_dict(by_hand)
    assert config.weight == BLOCK_FORMATS["nf4_g64_fp32"]
    assert config.activation == TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), dynamic=True)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({"wieght": {}}, ValueError, "key wieght must be one of LayerConfig; nearest: weight"),
        ({"weight": {"formats": "int4", "scle": {}}}, ValueError, r"key weight\.scle .* nearest: scale"),
        ({"weight": {"formats": "nf5"}}, ValueError, r"weight\.formats: .*not 'nf5'; nearest: .*nf4"),
        ({"weight": {"formats": ["nf4", "nf5"]}}, ValueError, r"weight\.formats\[1\]: .*not 'nf5'"),
        ({"weight": {"granularity": "per_channel"}}, ValueError, "weight must hold formats"),
        ({"weight": {"formats": "int4", "granularity": "per_chanel"}}, ValueError, "nearest: per_channel"),
        ({"weight": {"formats": "int4", "granularity": "per_group"}}, ValueError, "granularity must hold group_size"),
        (
            {"weight": {"formats": "int4", "granularity": 128}},
            TypeError,
            "a name or a mapping with the key kind",
        ),
        (
            {"weight": {"formats": "int4", "granularity": {"kind": "per_group", "group_size": 0}}},
            ValueError,
            r"weight\.granularity: group_size must be at least 1, not 0",
        ),
        (
            {"weight": {"formats": "int4", "granularity": {"kind": "per_group", "group_size": "128"}}},
            TypeError,
            r"group_size must be of type int, not '128'",
        ),
        (
            {"weight": {"formats": "int4", "scale": {"rule": "absmx"}}},
            ValueError,
            r"rule must be .* nearest: absmax",
        ),
        ({"weight": {"formats": ["int4", "int8"]}}, ValueError, "weight: formats of one tensor must have equal bits"),
        ({"weight": {"formats": 4}}, TypeError, r"weight\.formats must be a list, not 4"),
        ({"weight": "int4"}, TypeError, "weight must be a mapping, not 'int4'"),
        ({"permuted": 1}, TypeError, "permuted must be of type bool, not 1"),
        ({"weight": {"formats": "int4", "granularity": None}}, TypeError, "granularity must be"),
        ([], TypeError, "a layer config must be a mapping"),
    ],
)
def test_mistakes_are_named_with_their_place(data, error, message):
    with pytest.raises(error, match=message):
        config_from_dict(data)
