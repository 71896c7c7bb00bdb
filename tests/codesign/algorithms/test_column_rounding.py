"""Column by column gives what the whole matrix gives."""

from __future__ import annotations

import pytest
import torch

from codesign.algorithms.column_rounding import ColumnRounding, block_bounds
from datatypes.block_formats import BLOCK_FORMATS
from datatypes.quantize import quantize_tensor

SCALAR = [name for name, config in BLOCK_FORMATS.items() if config.formats[0].dim == 1]


@pytest.mark.parametrize("name", SCALAR)
@pytest.mark.parametrize("static", [False, True], ids=["when reached", "static"])
def test_equals_the_whole_matrix(name: str, static: bool) -> None:
    config = BLOCK_FORMATS[name]
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
