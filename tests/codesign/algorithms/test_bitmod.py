"""BitMoD: each group's special value is the best of the four, and the mean square errors are the reference sheet's."""

from __future__ import annotations

import pytest
import torch

from codesign.algorithms.bitmod import BitMoD
from codesign.calibration import NO_CALIBRATION
from datatypes.block_formats import BITMOD3_G128, BITMOD4_G128, BLOCK_FORMATS
from datatypes.catalog import BITMOD_FP3, BITMOD_FP4, FP4
from datatypes.granularity import PerGroup
from datatypes.layer_config import LayerConfig, TensorConfig


@pytest.mark.parametrize("formats", [BITMOD_FP3, BITMOD_FP4], ids=["3 bits", "4 bits"])
def test_choice_is_the_best_candidate_of_each_group(formats) -> None:
    """Independent: each candidate alone, over distances to its levels in float64."""
    x = torch.randn(20, 64, generator=torch.Generator().manual_seed(0))
    made = BitMoD().quantize(x, NO_CALIBRATION, LayerConfig(weight=TensorConfig(formats, PerGroup(32)))).weight
    groups = x.reshape(-1, 32)
    errors = []
    for fmt in formats:
        scale = (groups.abs().amax(1, keepdim=True) / fmt.absmax).to(torch.float16).double()
        levels = torch.tensor(fmt.levels) * scale[:, :, None]
        errors.append((groups.double()[:, :, None] - levels).abs().amin(2).square().sum(1))
    table = torch.stack(errors)
    chosen = table.gather(0, made.selector.flatten().to(torch.int64)[None])[0]
    assert (chosen <= table.amin(0) * (1 + 1e-6)).all()
    assert len(made.selector.unique()) == 4


def test_special_value_is_used() -> None:
    """A group whose largest magnitude is negative and alone: the special value -8 of FP4-EA takes it, exactly."""
    x = torch.tensor([[-8.0] + [0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0] * 4 + [0.0] * 3])
    made = BitMoD().quantize(x, NO_CALIBRATION, LayerConfig(weight=TensorConfig(BITMOD_FP4, PerGroup(32))))
    assert torch.equal(made.dequantize_weight(), x)
    assert made.notes == {"groups_bitmod_fp4_p5": 0, "groups_bitmod_fp4_n5": 0} | {
        "groups_bitmod_fp4_p8": 0,
        "groups_bitmod_fp4_n8": 1,
    }


@pytest.mark.parametrize(("bits", "config"), [(3, BITMOD3_G128), (4, BITMOD4_G128)])
def test_eight_bit_scales_cost_next_to_nothing(bits: int, config: TensorConfig) -> None:
    """Reference sheet, section 1.3: with INT8 scales the squared error changes by less than 0.01 % ... on 8192 groups.

    Here 4096 groups; a bound of 0.1 % leaves room for the sample.
    """
    x = torch.randn(256, 2048, generator=torch.Generator().manual_seed(bits))
    half = LayerConfig(weight=BLOCK_FORMATS[f"bitmod{bits}_g128_fp16"])
    with_half = BitMoD().quantize(x, NO_CALIBRATION, half).dequantize_weight()
    with_byte = BitMoD().quantize(x, NO_CALIBRATION, LayerConfig(weight=config)).dequantize_weight()
    ratio = (with_byte - x).square().sum() / (with_half - x).square().sum()
    assert abs(float(ratio) - 1) < 1e-3


def test_refuses_other_formats() -> None:
    with pytest.raises(ValueError, match="formats of a BitMoD config must be special-value FP3 or FP4, not e2m1"):
        BitMoD().quantize(torch.ones(2, 4), NO_CALIBRATION, LayerConfig(weight=TensorConfig((FP4,))))
