"""Grids of points with the least mean squared error for independent standard normal numbers: HIGGS' code books.

Malinovskii et al., HIGGS, arXiv 2411.17525: after a Hadamard rotation weights are close to normal, so one grid of ``n``
points in ``p`` dimensions serves every layer. The authors take grids by CLVQ; ours are fixed points of Lloyd's
algorithm (1982) for the same problem, kept in ``data/higgs_grids.csv``; their errors are those of the published grids
within 1 % (``tests/datatypes/test_gaussian_grids.py``).

``python -m datatypes.gaussian_grids`` computes the file again, in minutes. Only pairs (``p = 2``) are held: those that
the published kernels take.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import numpy as np

from datatypes.format import VectorFormat

DATA = Path(__file__).parent / "data" / "higgs_grids.csv"
SIZES = (16, 64, 88, 256)  # points of the paper's grids of pairs: 2, 3, 3.23 and 4 bits
_DIMENSION = 2
_RANGE, _CELLS = 6.0, 960  # of the midpoint rule on each axis: the mass outside is 4e-9
_STARTS, _COARSE, _ROUNDS = 6, 60, 3000
_SOURCE = "Malinovskii et al., HIGGS, arXiv 2411.17525; points by Lloyd's algorithm"


def cells(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Midpoints ``[count**2, 2]`` of square cells and their share of the normal density, which sums to 1."""
    axis = (np.arange(count) + 0.5) / count * 2 * _RANGE - _RANGE
    density = np.exp(-(axis**2) / 2)
    weights = np.outer(density, density).ravel()
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    return points, weights / weights.sum()


def nearest(points: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Index of the nearest point of ``grid`` ``[n, 2]`` to each of ``points`` ``[c, 2]``."""
    found = np.empty(len(points), dtype=np.int64)
    squared = (grid**2).sum(1)
    for start in range(0, len(points), 1 << 14):  # bounds the distance matrix
        part = points[start : start + (1 << 14)]
        found[start : start + len(part)] = (squared - 2 * part @ grid.T).argmin(1)
    return found


def mean_squared_error(grid: np.ndarray, count: int = _CELLS) -> float:
    """Of an element: squared distance to the nearest point over the normal density, by dimension."""
    points, weights = cells(count)
    return float((((points - grid[nearest(points, grid)]) ** 2).sum(1) * weights).sum() / grid.shape[1])


def lloyd(grid: np.ndarray, count: int, rounds: int, tolerance: float = 1e-9) -> np.ndarray:
    """Moves points to the means of their cells until the error falls by less than ``tolerance`` of itself."""
    points, weights = cells(count)
    last = np.inf
    for _ in range(rounds):
        owner = nearest(points, grid)
        error = float((((points - grid[owner]) ** 2).sum(1) * weights).sum())
        if last - error <= tolerance * error:
            break
        last = error
        mass = np.bincount(owner, weights, len(grid))
        sums = np.stack([np.bincount(owner, weights * points[:, d], len(grid)) for d in range(_DIMENSION)], axis=1)
        grid = np.where(mass[:, None] > 0, sums / np.where(mass > 0, mass, 1)[:, None], grid)
    return grid


def computed(size: int) -> np.ndarray:
    """The best of a few starts, on finer and finer cells; points in the order of their coordinates."""
    rng = np.random.default_rng(size)
    coarse = [lloyd(rng.standard_normal((size, _DIMENSION)), _CELLS // 4, _COARSE) for _ in range(_STARTS)]
    best = min(coarse, key=lambda grid: mean_squared_error(grid, _CELLS // 4))
    best = lloyd(best, _CELLS // 4, _ROUNDS, 1e-7)
    best = lloyd(best, _CELLS, _ROUNDS // 20, 1e-7)
    return best[np.lexsort((best[:, 1], best[:, 0]))]


@cache
def _recorded() -> dict[int, tuple[tuple[float, float], ...]]:
    found: dict[int, list[tuple[float, float]]] = {size: [] for size in SIZES}
    with DATA.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[int(row["points"])].append((float(row["x"]), float(row["y"])))
    return {size: tuple(points) for size, points in found.items()}


@cache
def higgs_format(size: int) -> VectorFormat:
    """The grid of ``size`` points as a format of pairs; codes have whole bits, and what is over repeats the last point.

    Raises:
        ValueError: no such grid.

    >>> higgs_format(256).bits, higgs_format(88).bits
    (8, 7)
    """
    if size not in SIZES:
        known = ", ".join(map(str, SIZES))
        raise ValueError(f"n of a HIGGS grid of pairs must be one of {known} points, not {size}")
    points = _recorded()[size]
    bits = (size - 1).bit_length()
    return VectorFormat(
        f"higgs_p2_n{size}", bits, _SOURCE, dimension=_DIMENSION, points=points + points[-1:] * ((1 << bits) - size)
    )


def main() -> None:
    """Computes the file of grids."""
    lines = ["points,x,y"]
    for size in SIZES:
        lines += [f"{size},{x:.7f},{y:.7f}" for x, y in computed(size)]
    temporary = DATA.with_suffix(".tmp")
    DATA.parent.mkdir(exist_ok=True)
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    temporary.rename(DATA)


if __name__ == "__main__":
    main()
