"""The designs that fronts are timed on are what the figures say they are."""

import re

import numpy as np
import pytest

from codesign.pareto import pareto_mask
from codesign.pareto_bench import main, random_designs


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_none_on_a_sphere_dominates_another(objectives):
    costs = random_designs(400, objectives, sphere=True)
    assert np.allclose((costs**2).sum(axis=1), 1) and (costs <= 0).all()
    assert pareto_mask(costs).all()


def test_uniform_designs_have_few_on_the_front():
    """n designs in two objectives: 1 + 1/2 + ... + 1/n on average (Bentley et al., J. ACM 25(4), 1978)."""
    costs = random_designs(20_000, 2, sphere=False)
    assert costs.min() >= 0 and costs.max() < 1
    fronts = [pareto_mask(part).sum() for part in np.split(costs, 200)]  # of 100 designs each
    mean, harmonic = np.mean(fronts), sum(1 / i for i in range(1, 101))
    assert abs(mean - harmonic) < 3 * np.std(fronts) / np.sqrt(len(fronts))


def test_the_same_designs_each_time():
    assert np.array_equal(random_designs(10, 3, sphere=True), random_designs(10, 3, sphere=True))


def test_the_benchmark_prints_both_kinds_for_each_number_of_objectives(capsys):
    main(20_000)
    lines = capsys.readouterr().out.splitlines()
    found = [
        re.match(r"(\d) objectives, ([\d,]+) designs, ([\d,]+) on the front: [\d.]+ CPU s$", line) for line in lines
    ]
    assert [match[1] + " " + match[2] for match in found if match] == [
        f"{objectives} {count}" for objectives in (2, 3, 4) for count in ("20,000", "2,000")
    ]
    assert all(match[3] == "2,000" for match in found[1::2] if match)
