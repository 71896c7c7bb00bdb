"""ANT: the type with the least error for the whole tensor, with the best clip of each channel."""

from __future__ import annotations

import pytest
import torch

from codesign.algorithms.ant import Ant
from codesign.calibration import NO_CALIBRATION
from datatypes.block_formats import BLOCK_FORMATS
from datatypes.catalog import ANT4_WEIGHT, E4M3, FP16, INTS
from datatypes.granularity import PerChannel, PerTensor
from datatypes.layer_config import LayerConfig, TensorConfig
from datatypes.scale import store_one_level

CONFIG = LayerConfig(weight=BLOCK_FORMATS["ant4_channel_fp16"])


def samples(kind: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand((32, 256), generator=generator) * 2 - 1
    if kind == "uniform":
        return uniform
    if kind == "laplace":  # inverse distribution function
        return -uniform.sign() * torch.log1p(-uniform.abs())
    return torch.randn((32, 256), generator=generator)


@pytest.mark.parametrize("kind", ["uniform", "normal", "laplace"])
def test_type_and_clip_are_the_best_of_all(kind: str) -> None:
    """Brute force in float64 over types, 51 clip ratios and channels."""
    x = samples(kind)
    made = Ant().quantize(x, NO_CALIBRATION, CONFIG)
    totals = []
    for fmt in ANT4_WEIGHT:
        best = torch.full((32,), torch.inf, dtype=torch.float64)
        for ratio in Ant().clip:
            scale = x.abs().amax(1) / fmt.absmax * torch.tensor(ratio, dtype=torch.float32)
            scale = store_one_level(scale, FP16).double()[:, None, None]
            error = (x.double()[:, :, None] - torch.tensor(fmt.levels) * scale).abs().amin(2).square().sum(1)
            best = torch.minimum(best, error)
        totals.append(float(best.sum()))
    error = float((made.dequantize_weight().double() - x.double()).square().sum())
    assert error == pytest.approx(min(totals), rel=1e-6)
    assert made.notes["type"] == ANT4_WEIGHT[totals.index(min(totals))].name


def test_uniform_data_takes_integers() -> None:
    """Equal steps are optimal for a uniform distribution (ANT, section 2)."""
    assert Ant().quantize(samples("uniform"), NO_CALIBRATION, CONFIG).notes["type"] == "int4"


def test_ratios_are_in_steps_of_one_percent() -> None:
    clip = Ant(lowest_clip=0.9).clip
    assert clip == pytest.approx((1.0, 0.99, 0.98, 0.97, 0.96, 0.95, 0.94, 0.93, 0.92, 0.91, 0.9))


def test_wide_types_are_integers_only() -> None:
    both = TensorConfig((E4M3, INTS[8]), PerChannel(), selector=PerTensor())
    made = Ant().quantize(samples("normal"), NO_CALIBRATION, LayerConfig(weight=both))
    assert made.config.weight.formats == (INTS[8],)
    with pytest.raises(ValueError, match="formats of ANT must hold an integer type from 7 bits, not none"):
        Ant().quantize(samples("normal"), NO_CALIBRATION, LayerConfig(weight=TensorConfig((E4M3,))))


def test_bad_search_range() -> None:
    with pytest.raises(ValueError, match=r"lowest_clip and step must be above 0 and at most 1, not 0 and 0\.01"):
        Ant(lowest_clip=0)
