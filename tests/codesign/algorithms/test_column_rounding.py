"""Column by column gives what the whole matrix gives."""

from __future__ import annotations

import pytest
import torch

from codesign.algorithms.column_rounding import ColumnRounding, block_bounds
from datatypes.block_formats import BLOCK_FORMATS, bilevel, double_quantized
from datatypes.catalog import FP4, FP16, UINTS
from datatypes.granularity import PerGroup, PerInputChannel
from datatypes.layer_config import ScaleConfig, ScaleRule, SecondLevel, TensorConfig
from datatypes.quantize import quantize_tensor

SCALAR = {name: config for name, config in BLOCK_FORMATS.items() if config.formats[0].dim == 1}
ZERO_CODES = TensorConfig(
    (UINTS[4],), PerGroup(16), ScaleConfig(FP16, ScaleRule.RANGE), zero_point=UINTS[8], zero_point_level=SecondLevel()
)
SECOND_LEVELS = {
    "bilevel": bilevel(3),
    "bilevel, ragged rows": bilevel(4, 32, 4),
    "double quantization of an element": double_quantized((FP4,), 1, 2),
}


@pytest.mark.parametrize("name", [*SCALAR, *SECOND_LEVELS])
@pytest.mark.parametrize("static", [False, True], ids=["when reached", "static"])
def test_equals_the_whole_matrix(name: str, static: bool) -> None:
    config = {**SCALAR, **SECOND_LEVELS}[name]
    x = torch.randn(10, 300, generator=torch.Generator().manual_seed(0))
    rounding = ColumnRounding(x, config, static=static)
    decoded = torch.empty_like(x)
    for column in range(300):
        if rounding.starts_group(column):
            rounding.fit(column, x[:, column : column + rounding.group])
        decoded[:, column] = rounding.round(column, x[:, column])
    made, permutation = rounding.finish(None)
    whole = quantize_tensor(x, config)
    assert permutation is None
    assert torch.equal(made.codes, whole.codes) and torch.equal(made.scale, whole.scale)
    assert torch.equal(made.dequantize(), whole.dequantize()) and torch.equal(decoded, whole.dequantize())


@pytest.mark.parametrize("columns", [1, 5, 128, 300])
@pytest.mark.parametrize("group", [1, 3, 16, 128, 200, 300])
@pytest.mark.parametrize("block", [1, 7, 128])
def test_blocks_cover_all_columns_and_split_no_group(columns: int, group: int, block: int) -> None:
    bounds = list(block_bounds(columns, group, block))
    assert [b for pair in bounds for b in pair][1:-1:2] == [start for start, _ in bounds[1:]]
    assert bounds[0][0] == 0 and bounds[-1][1] == columns
    starts = {start for start, _ in bounds}
    if group > block:
        assert all(first in starts for first in range(0, columns, group))
        assert all(end - start <= block for start, end in bounds)
    else:
        assert all(start % group == 0 for start in starts)
        assert all(end - start <= block for start, end in bounds)


def test_second_levels_that_span_groups() -> None:
    """Outer scales are fixed before the loop; zero points under one scale for several groups need static groups."""
    x = torch.randn(10, 64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(NotImplementedError, match="zero_point_level over several groups needs static_groups"):
        ColumnRounding(x, ZERO_CODES)
    rounding = ColumnRounding(x, ZERO_CODES, static=True)
    decoded = torch.stack([rounding.round(column, x[:, column]) for column in range(64)], 1)
    assert torch.equal(decoded, quantize_tensor(x, ZERO_CODES).dequantize())


def test_second_levels_of_columns_go_back_with_their_columns() -> None:
    scale = ScaleConfig(UINTS[8], outer=FP16, outer_granularity=PerInputChannel(), outer_offset=FP16)
    config = TensorConfig((FP4,), PerInputChannel(), scale)
    x = torch.randn(6, 9, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 10)
    order = torch.tensor([3, 1, 8, 0, 2, 7, 4, 6, 5])
    rounding = ColumnRounding(x[:, order], config)
    for column in range(9):
        rounding.fit(column, x[:, order[column], None])
        rounding.round(column, x[:, order[column]])
    made, permutation = rounding.finish(order)
    assert permutation is None
    assert torch.equal(made.dequantize(), quantize_tensor(x, config).dequantize())
