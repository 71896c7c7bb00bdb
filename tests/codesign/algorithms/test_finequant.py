"""FineQuant: which group size a matrix gets, by hand."""

from __future__ import annotations

import pytest
import torch

from codesign.algorithms.finequant import FineQuant, mean_range
from codesign.algorithms.rtn import RoundToNearest
from codesign.calibration import NO_CALIBRATION
from datatypes.catalog import INTS_SYMMETRIC
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig, TensorConfig

CONFIG = LayerConfig(weight=TensorConfig((INTS_SYMMETRIC[4],), PerChannel()))


def stepped(ranges: list[float], width: int) -> torch.Tensor:
    """Two rows in which each run of ``width`` weights has the range 2 r: +r and -r in turn."""
    signs = torch.tensor([1.0, -1.0]).repeat(width // 2)
    return torch.cat([signs * r for r in ranges]).repeat(2, 1)


def test_mean_range_by_hand() -> None:
    x = torch.tensor([[1.0, -1.0, 5.0, 0.0, 2.0]])
    assert mean_range(x, 5) == 6.0
    assert mean_range(x, 2) == pytest.approx((2 + 5 + 0) / 3)  # the ragged last group has one weight: range 0


@pytest.mark.parametrize(
    ("ranges", "width", "group"),
    [
        ([1, 1, 1, 1], 64, 256),  # nothing shrinks
        ([4, 4, 1, 1], 64, 128),  # 8 -> 5, then 5 -> 5
        ([4, 1, 4, 1], 64, 256),  # 8 -> 8: the first halving gains nothing, so the second is never tried
        ([4, 1, 1, 1], 64, 64),  # 8 -> 5 -> 3.5
        ([4, 1, 1, 1], 32, 64),  # 8 -> 5 at 64; 32 lies below the smallest
    ],
    ids=["flat", "two halves", "alternating", "one quarter", "stops at 64"],
)
def test_group_by_hand(ranges: list[float], width: int, group: int) -> None:
    made = FineQuant().quantize(stepped(ranges, width), NO_CALIBRATION, CONFIG)
    assert made.notes["group_size"] == group
    whole = PerChannel() if group == width * len(ranges) else PerGroup(group)
    assert made.config.weight.granularity == whole


def test_alpha_decides_what_is_worth_halving() -> None:
    """8 -> 7.2 is a gain of 10 %: worth it for alpha 0.05, not for 0.2."""
    x = stepped([4, 3.2], 128)
    assert FineQuant(alpha=0.05).group_size(x) == 128
    assert FineQuant(alpha=0.2).group_size(x) == 256


def test_odd_widths_are_halved_upwards() -> None:
    x = torch.cat([torch.full((3, 101), 4.0), torch.full((3, 100), 1.0)], 1)
    x[:, ::2] *= -1
    assert FineQuant(smallest=64).group_size(x) == 101


def test_finer_groups_lower_the_error_where_they_are_chosen() -> None:
    x = torch.randn(32, 512, generator=torch.Generator().manual_seed(0))
    x[:, :64] *= 20
    made = FineQuant().quantize(x, NO_CALIBRATION, CONFIG)
    rows = RoundToNearest().quantize(x, NO_CALIBRATION, CONFIG)
    assert made.notes["group_size"] < 512
    assert (made.dequantize_weight() - x).square().sum() < (rows.dequantize_weight() - x).square().sum() / 2
    assert made.bits_per_weight > rows.bits_per_weight


def test_bits_at_64() -> None:
    """Reference sheet, section 15.3: 4.25 at g64, 4.004 for one group in each row of 4096."""
    four = LayerConfig(weight=TensorConfig((INTS_SYMMETRIC[4],), PerGroup(64)))
    assert four.storage_bits((4096, 4096)).bits_per_weight((4096, 4096)) == 4.25
    assert CONFIG.storage_bits((4096, 4096)).bits_per_weight((4096, 4096)) == pytest.approx(4.004, abs=1e-4)


@pytest.mark.parametrize(("alpha", "smallest"), [(0.0, 64), (1.0, 64), (0.1, 0)])
def test_bad_hyper_parameters(alpha: float, smallest: int) -> None:
    with pytest.raises(ValueError, match="alpha must lie between 0 and 1 and smallest be at least 1, not"):
        FineQuant(alpha=alpha, smallest=smallest)
