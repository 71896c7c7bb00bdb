"""Round-to-nearest: by hand, with a clip grid, weighted, with a residual."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from codesign.algorithms.rtn import RoundToNearest, clip_grid
from codesign.calibration import NO_CALIBRATION, LayerCalibration, Statistic
from datatypes.block_formats import BLOCK_FORMATS, MXFP4, MXFP4_CEIL
from datatypes.catalog import FP32, INTS_SYMMETRIC
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig


def config(bits: int = 4, group: int = 4) -> LayerConfig:
    return LayerConfig(weight=TensorConfig((INTS_SYMMETRIC[bits],), PerGroup(group), ScaleConfig(FP32)))


def test_by_hand() -> None:
    """Groups of 4, symmetric INT4. First: scale 7/7 = 1, ties to even. Second (ragged): scale 3.5/7 = 0.5."""
    weight = torch.tensor([[7.0, -2.4, 0.5, 1.5, 3.5, -1.1]])
    made = RoundToNearest().quantize(weight, NO_CALIBRATION, config())
    assert made.weight.scale.tolist() == [[1.0, 0.5]]
    assert made.dequantize_weight().tolist() == [[7.0, -2.0, 0.0, 2.0, 3.5, -1.0]]


def test_mx_floor_clips_and_ceil_does_not() -> None:
    """max 7: floor(log2 7) - 2 = 0 gives scale 1, and 7 saturates to 6; the next power of two, 2, holds it as 8 -> 3.5.

    7 / 2 = 3.5 lies between 3 and 4 of E2M1, and the tie goes to the even code, 4 (OCP MX 1.0, RNE): 8.
    """
    weight = torch.zeros(1, 32)
    weight[0, 0] = 7.0
    floor = RoundToNearest().quantize(weight, NO_CALIBRATION, LayerConfig(weight=MXFP4)).dequantize_weight()
    ceil = RoundToNearest().quantize(weight, NO_CALIBRATION, LayerConfig(weight=MXFP4_CEIL)).dequantize_weight()
    assert (float(floor[0, 0]), float(ceil[0, 0])) == (6.0, 8.0)


@pytest.mark.parametrize("name", ["int4_g128_fp16", "int3_asym_g128_fp16", "nf4_g64_fp32", "mxfp4"])
def test_clip_search_never_loses(name: str, layer) -> None:
    encoding = LayerConfig(weight=BLOCK_FORMATS[name])
    plain = RoundToNearest().quantize(layer.weight, layer.calibration, encoding)
    searched = RoundToNearest(clip=clip_grid(10)).quantize(layer.weight, layer.calibration, encoding)
    assert layer.weight_error(searched.dequantize_weight()) <= layer.weight_error(plain.dequantize_weight())


def test_weighting_lowers_the_error_it_weighs(layer) -> None:
    square = layer.calibration[Statistic.SQUARE_MEAN].double()

    def weighted_error(weighted: bool) -> float:
        made = RoundToNearest(clip=clip_grid(20), weighted=weighted).quantize(
            layer.weight, layer.calibration, LayerConfig(weight=TensorConfig((INTS_SYMMETRIC[3],), PerChannel()))
        )
        return float(((made.dequantize_weight() - layer.weight).double().square() * square).sum())

    assert weighted_error(True) < weighted_error(False)


def test_weighted_needs_the_mean_square() -> None:
    assert RoundToNearest(weighted=True).needs == {Statistic.SQUARE_MEAN}
    with pytest.raises(ValueError, match="calibration of layer must hold square_mean, not only nothing"):
        RoundToNearest(weighted=True).quantize(torch.ones(2, 4), LayerCalibration("layer"), config())


def test_residual_encodes_what_is_left() -> None:
    """Two INT4 stages: the second sees only the rest, so its step is the first's over 14 at most (rest <= step / 2)."""
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    one = config(group=64)
    two = replace(one, weight=replace(one.weight, residual=one.weight))
    first = RoundToNearest().quantize(weight, NO_CALIBRATION, one)
    both = RoundToNearest().quantize(weight, NO_CALIBRATION, two)
    step = first.weight.scale.double()
    assert torch.equal(both.weight.codes, first.weight.codes)
    assert ((both.dequantize_weight() - weight).double().abs() <= step / 2 / 7 / 2 * (1 + 1e-5)).all()
    assert both.bits_per_weight == 2 * first.bits_per_weight
