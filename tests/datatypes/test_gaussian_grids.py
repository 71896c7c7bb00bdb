"""Grids for normal numbers: as good as the published ones, and fixed points of their own algorithm."""

import numpy as np
import pytest

from datatypes import gaussian_grids
from datatypes.gaussian_grids import SIZES, cells, higgs_format, lloyd, mean_squared_error

# mean squared error of the grids that HIGGS' authors publish, on N(0, 1): measured on these grids
PUBLISHED = {16: 0.1072, 64: 0.0297, 88: 0.0219, 256: 0.0078}


@pytest.mark.parametrize("size", SIZES)
def test_errors_are_those_of_the_published_grids(size):
    grid = higgs_format(size).point_table[:size]
    assert len(np.unique(grid, axis=0)) == size
    assert mean_squared_error(grid, 240) == pytest.approx(PUBLISHED[size], rel=0.01)


@pytest.mark.parametrize("size", SIZES)
def test_an_error_on_drawn_numbers(size):
    """Independent of the cells: nearest points by the format itself, 200,000 numbers."""
    fmt = higgs_format(size)
    x = np.random.default_rng(0).standard_normal((400, 500)).astype(np.float32)
    codes = fmt.encode(x)
    assert codes.max() < size  # codes that only fill the table up are never chosen
    assert float(((x - fmt.decode(codes)) ** 2).mean()) == pytest.approx(PUBLISHED[size], rel=0.015)


def test_points_are_the_means_of_their_cells():
    grid = higgs_format(16).point_table
    assert np.abs(lloyd(grid, 240, 1) - grid).max() < 0.01
    assert np.abs(grid.mean(0)).max() < 0.1  # as many to one side as to the other


def test_one_and_two_points_by_hand():
    # E[x^2] is 1; of two halves the means are +- sqrt(2 / pi) on one axis, which takes 2 / pi off its error
    assert mean_squared_error(np.zeros((1, 2)), 240) == pytest.approx(1.0, rel=1e-4)
    halves = lloyd(np.array([[-0.3, 0.0], [0.3, 0.0]]), 240, 200)
    assert np.abs(np.abs(halves[:, 0]) - np.sqrt(2 / np.pi)).max() < 1e-3
    assert mean_squared_error(halves, 240) == pytest.approx((1 + 1 - 2 / np.pi) / 2, rel=1e-3)
    points, weights = cells(240)
    assert weights.sum() == pytest.approx(1.0) and points.shape == (240**2, 2)


def test_whole_bits_and_unknown_sizes():
    assert [higgs_format(size).bits for size in SIZES] == [4, 6, 7, 8]
    with pytest.raises(ValueError, match="n of a HIGGS grid of pairs must be one of 16, 64, 88, 256 points, not 32"):
        higgs_format(32)


def test_the_file_is_written_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(gaussian_grids, "DATA", tmp_path / "data" / "grids.csv")
    monkeypatch.setattr(gaussian_grids, "SIZES", (2,))
    monkeypatch.setattr(gaussian_grids, "_CELLS", 120)
    gaussian_grids.main()
    lines = (tmp_path / "data" / "grids.csv").read_text().splitlines()
    assert lines[0] == "points,x,y" and [line.split(",")[0] for line in lines[1:]] == ["2", "2"]
    # two halves, in whatever direction they lie
    assert np.hypot(*map(float, lines[1].split(",")[1:])) == pytest.approx(np.sqrt(2 / np.pi), abs=0.01)
