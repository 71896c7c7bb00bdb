"""Least squares on log errors: values that made the rows are found, outliers count little."""

from dataclasses import dataclass

import pytest

from hwmodel.gpu_kernel_fit import fit_logs


@dataclass(frozen=True)
class Row:
    bytes: float
    seconds: float


BOUNDS = {"start_s": (0.0, 5e-6, 2e-5), "bytes_per_s": (1e11, 1e12, 1e13)}


def predicted(row, values):
    return values["start_s"] + row.bytes / values["bytes_per_s"]


def rows(sizes=(1e6, 1e7, 1e8, 1e9, 3e6, 3e7, 3e8)):
    return [Row(size, 2e-6 + size / 3e12) for size in sizes]


def test_values_that_made_the_rows_are_found():
    found = fit_logs(rows(), predicted, BOUNDS)
    assert found == pytest.approx({"start_s": 2e-6, "bytes_per_s": 3e12}, rel=1e-3)


def test_one_wrong_row_moves_little():
    wrong = [*rows(), Row(1e8, 3 * (2e-6 + 1e8 / 3e12))]
    found = fit_logs(wrong, predicted, BOUNDS)
    # squares of log errors would give an eighth of log 3 to every row, 15 %
    assert found["bytes_per_s"] == pytest.approx(3e12, rel=0.08)


def test_fewer_rows_than_values_are_refused():
    with pytest.raises(ValueError, match="rows to fit must be at least 2, one for each constant, not 1"):
        fit_logs(rows()[:1], predicted, BOUNDS)
