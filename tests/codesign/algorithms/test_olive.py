"""OliVe: pairs by hand, the search of the threshold against brute force."""

from __future__ import annotations

import pytest
import torch

from codesign.algorithms.olive import Olive
from codesign.calibration import NO_CALIBRATION
from datatypes.block_formats import BLOCK_FORMATS
from datatypes.catalog import FP4, FP32, OLIVE4_FLINT, OLIVE4_INT
from datatypes.granularity import PerChannel
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig

CONFIG = LayerConfig(weight=BLOCK_FORMATS["olive4_channel_fp16"])


def pairs_error(x: torch.Tensor, fmt, scale: torch.Tensor) -> float:
    """Squared error of one row, pair by pair, from the definition (sections 3.1 to 3.3); float64."""
    normal = [float(v) for v in fmt.normal.levels]
    outliers = [float(v) for v in fmt.outlier.levels]
    limit = (max(normal) + min(v for v in outliers if v > 0)) / 2
    total = 0.0
    for a, b in (x.double() / scale.double()).reshape(-1, 2).tolist():
        large, small = (a, b) if abs(a) >= abs(b) else (b, a)
        if abs(large) > limit:
            total += min((large - v) ** 2 for v in outliers) + small**2
        else:
            total += sum(min((value - v) ** 2 for v in normal) for value in (a, b))
    return total * float(scale) ** 2


def test_threshold_and_type_are_the_best_of_all() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((3, 256), generator=generator)
    x[torch.rand((3, 256), generator=generator) < 0.01] *= 8
    made = Olive(step=0.25).quantize(x, NO_CALIBRATION, CONFIG)
    totals = []
    for fmt in (OLIVE4_INT, OLIVE4_FLINT):
        total = 0.0
        for row in x:
            sigma = row.double().var(unbiased=False).sqrt()
            scales = [(3 * sigma * f / fmt.threshold).float().half().float() for f in Olive(step=0.25).factors]
            total += min(pairs_error(row, fmt, scale) for scale in scales)
        totals.append(total)
    error = float((made.dequantize_weight().double() - x.double()).square().sum())
    assert error == pytest.approx(min(totals), rel=1e-5)
    assert made.notes["type"] == ("olive4_int", "olive4_flint")[totals.index(min(totals))]


def test_victims_become_zero_and_the_larger_outlier_stays() -> None:
    """In code units with scale 1: (40, -200) keeps -96 (the largest abfloat) and drops 40 (paper, not code)."""
    config = LayerConfig(weight=TensorConfig((OLIVE4_INT,), PerChannel(), ScaleConfig(FP32)))
    x = torch.tensor([[40.0, -200.0, 3.0, 4.0, 16.0, 5.0]])
    sigma = float(x.double().var(unbiased=False).sqrt())
    unit = Olive(lowest=7 / (3 * sigma), highest=7 / (3 * sigma), step=1.0)  # makes the scale 1
    made = unit.quantize(x, NO_CALIBRATION, config)
    torch.testing.assert_close(made.dequantize_weight(), torch.tensor([[0.0, -96.0, 3.0, 4.0, 16.0, 0.0]]))


def test_four_bits_and_no_index() -> None:
    """Reference sheet, section 20: exactly 4 bits and scales: 4 + 16/256 with one FP16 scale for each channel."""
    made = Olive().quantize(torch.randn(64, 256), NO_CALIBRATION, CONFIG)
    assert made.config.storage_bits((64, 256)).codes == 4 * 64 * 256
    assert made.config.storage_bits((64, 256)).scales == 16 * 64


def test_factors_are_the_papers() -> None:
    """0.75 to 2.5 in steps of 0.02: 88 factors, 0.75 + 87 * 0.02 = 2.49 the last."""
    assert len(Olive().factors) == 88 and Olive().factors[-1] == pytest.approx(2.49)


def test_refuses_other_formats() -> None:
    with pytest.raises(ValueError, match="formats of an OliVe config must be outlier-victim pairs, not e2m1"):
        Olive().quantize(torch.ones(2, 4), NO_CALIBRATION, LayerConfig(weight=TensorConfig((FP4,))))


def test_bad_search_range() -> None:
    with pytest.raises(ValueError, match="must be positive with lowest <= highest, not 2"):
        Olive(lowest=2, highest=1)
