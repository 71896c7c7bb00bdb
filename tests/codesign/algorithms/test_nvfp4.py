"""NVFP4: two levels of scales, and the sweep of the block scale."""

from __future__ import annotations

import pytest
import torch

from codesign.algorithms.nvfp4 import Nvfp4
from codesign.algorithms.rtn import RoundToNearest
from codesign.calibration import NO_CALIBRATION
from datatypes.block_formats import MXFP4, NVFP4
from datatypes.catalog import FP4, UE4M3
from datatypes.layer_config import LayerConfig

CONFIG = LayerConfig(weight=NVFP4)


@pytest.mark.parametrize("freedom", [3.0, 30.0], ids=["heavy tails", "nearly normal"])
def test_default_window_finds_the_best_of_all_scales(freedom: float) -> None:
    """Brute force over the 126 positive E4M3 scales, in float64, on 256 blocks."""
    torch.manual_seed(0)
    x = torch.distributions.StudentT(freedom).sample((16, 256)) * 0.02
    made = Nvfp4().quantize(x, NO_CALIBRATION, CONFIG)
    outer = (x.abs().max() / (6 * 448)).double()
    blocks = x.double().reshape(-1, 16)
    scales = torch.tensor(UE4M3.code_values[1:127]) * outer
    levels = torch.tensor(FP4.levels)[None, None, :]
    best = torch.full((len(blocks),), torch.inf, dtype=torch.float64)
    for scale in scales:
        error = (blocks[:, :, None] - levels * scale).abs().amin(2).square().sum(1)
        best = torch.minimum(best, error)
    got = (made.dequantize_weight().double() - x.double()).square().reshape(-1, 16).sum(1)
    torch.testing.assert_close(got, best, rtol=1e-5, atol=1e-12)


def test_without_a_window_it_is_round_to_nearest() -> None:
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    swept = Nvfp4(codes_below=0, codes_above=0).quantize(x, NO_CALIBRATION, CONFIG)
    plain = RoundToNearest().quantize(x, NO_CALIBRATION, CONFIG)
    assert torch.equal(swept.weight.scale, plain.weight.scale)
    assert torch.equal(swept.dequantize_weight(), plain.dequantize_weight())


def test_bits() -> None:
    """Reference sheet, section 21.3: 4.5 bits and 32 for the tensor."""
    made = Nvfp4().quantize(torch.randn(32, 128), NO_CALIBRATION, CONFIG)
    assert made.config.storage_bits((32, 128)).total == 4.5 * 32 * 128 + 32


def test_refuses_other_scales() -> None:
    with pytest.raises(ValueError, match="config of nvfp4 must have one format and ue4m3 scales with an outer scale"):
        Nvfp4().quantize(torch.ones(2, 32), NO_CALIBRATION, LayerConfig(weight=MXFP4))
