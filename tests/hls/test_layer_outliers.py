"""Outliers over codes with and without a value of zero: what is stored of either, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from datatypes.catalog import BINARY, FP16, INTS, NF4, UINTS
from datatypes.format import LearnedFormat
from datatypes.granularity import PerChannel, PerGroup, PerTensor
from datatypes.layer_config import (
    CodebookConfig,
    LayerConfig,
    OutlierConfig,
    OutlierLayout,
    ScaleConfig,
    ScaleRule,
    TensorConfig,
)
from datatypes.quantized_layer import Outliers, QuantizedLayer
from datatypes.tensor import QuantizedTensor
from hls.layer_outliers import codes_are_cleared, outlier_values, without_outliers, zero_codes
from hls.layer_reference import layer_reference

RANGE = ScaleConfig(FP16, ScaleRule.RANGE)
INT4 = TensorConfig((INTS[4],), PerChannel())
REAL = TensorConfig((UINTS[2],), PerChannel(), RANGE, zero_point=FP16)


def half(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float16)


def two_by_four(config: TensorConfig, **more: torch.Tensor) -> QuantizedTensor:
    codes = torch.tensor([[1, 2, 3, 0], [3, 2, 1, 0]], dtype=torch.uint8)
    return QuantizedTensor(config, (2, 4), codes, scale=half(0.5, 2).reshape(2, 1), **more)


def layer(tensor: QuantizedTensor, layout: OutlierLayout = OutlierLayout.CSR) -> QuantizedLayer:
    """6 in place of row 0's weight of input 2, 7 and 8 of row 1's of inputs 0 and 1; or the two first columns."""
    if layout is OutlierLayout.COLUMNS:
        outliers = Outliers(torch.tensor([[6, 6], [7, 8]], dtype=torch.float16), torch.tensor([0, 1]))
        config = OutlierConfig(layout, 2 / 4)
    else:
        outliers = Outliers(half(6, 7, 8), torch.tensor([2, 0, 1]), torch.tensor([0, 1, 3]))
        config = OutlierConfig(layout, 3 / 8)
    return QuantizedLayer(LayerConfig(weight=tensor.config, outliers=config), tensor, (2, 4), outliers=outliers)


def test_the_zero_of_a_code_is_its_zero_point() -> None:
    asymmetric = TensorConfig((UINTS[2],), PerGroup(2), RANGE, zero_point=UINTS[2])
    points = torch.tensor([[1, 2], [3, 0]], dtype=torch.int32)
    made = zero_codes(two_by_four(asymmetric, zero_point=points))
    assert made is not None and made.tolist() == [[1, 1, 2, 2], [3, 3, 0, 0]]
    nf4 = zero_codes(two_by_four(TensorConfig((NF4,), PerChannel())))
    assert nf4 is not None and nf4.unique().tolist() == [7]  # QLoRA's table has its zero there


@pytest.mark.parametrize(
    "config",
    [
        REAL,
        TensorConfig((BINARY,), PerChannel()),
        TensorConfig((LearnedFormat("t", 2, "test"),), PerTensor(), None, codebook=CodebookConfig(FP16, PerTensor())),
    ],
    ids=["real_zero_points", "binary", "learned"],
)
def test_some_codes_have_no_zero(config: TensorConfig) -> None:
    assert zero_codes(two_by_four(config, zero_point=half(1, 1).reshape(2, 1))) is None


def test_outliers_take_the_place_of_cleared_codes() -> None:
    made = layer(two_by_four(INT4))
    assert codes_are_cleared(made) and outlier_values(made).tolist() == [6, 7, 8]
    assert isinstance(made.weight, QuantizedTensor)
    cleared = without_outliers(made.weight, np.arange(4), made)
    assert cleared.codes.tolist() == [[1, 2, 0, 0], [0, 0, 1, 0]]
    # a part that multiplies inputs 2 and 0 alone has two of them
    part = replace(made.weight, shape=(2, 2), codes=made.weight.codes[:, [2, 0]])
    assert without_outliers(part, np.array([2, 0]), made).codes.tolist() == [[0, 1], [1, 0]]


def test_outliers_are_differences_where_codes_stay() -> None:
    # row 0: codes 1 2 3 0 times 0.5 plus 1: 1.5 2 2.5 1; row 1: codes 3 2 1 0 times 2 minus 4: 2 0 -2 -4
    made = layer(two_by_four(REAL, zero_point=half(1, -4).reshape(2, 1)))
    assert outlier_values(made).tolist() == [6 - 2.5, 7 - 2.0, 8 - 0.0]
    columns = layer(made.weight, OutlierLayout.COLUMNS)  # type: ignore[arg-type]
    assert outlier_values(columns).tolist() == [[6 - 1.5, 6 - 2.0], [7 - 2.0, 8 - 0.0]]
    x = np.array([[1, 10, 100, 1000]], np.float16)
    assert layer_reference(made, x).values.tolist() == [[1.5 + 20 + 600 + 1000, 7 + 80 - 200 - 4000]]
