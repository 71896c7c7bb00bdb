"""How fast exact fronts are found: ``python -m codesign.pareto_bench``.

CPU seconds for ten million random designs, of which few are on the front, and for a million on a sphere, of which all
are.
"""

from __future__ import annotations

import time

import numpy as np

from codesign.pareto import pareto_mask


def random_designs(designs: int, objectives: int, *, sphere: bool) -> np.ndarray:
    """Costs ``[designs, objectives]``: uniform, or on a sphere, where none dominates another."""
    draw = np.random.default_rng(0)
    if not sphere:
        return draw.random((designs, objectives))
    costs = -np.abs(draw.normal(size=(designs, objectives)))
    on_sphere: np.ndarray = costs / np.linalg.norm(costs, axis=1, keepdims=True)
    return on_sphere


def main(designs: int = 10_000_000) -> None:
    """Print the figures."""
    for objectives in (2, 3, 4):
        pareto_mask(random_designs(10_000, objectives, sphere=False))  # compiled, or read from numba's cache
        for sphere, count in ((False, designs), (True, designs // 10)):
            costs = random_designs(count, objectives, sphere=sphere)
            start = time.process_time()
            front = int(pareto_mask(costs).sum())
            spent = time.process_time() - start
            print(f"{objectives} objectives, {count:,} designs, {front:,} on the front: {spent:.2f} CPU s")


if __name__ == "__main__":
    main()
