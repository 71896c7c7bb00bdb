"""The fit of small all-reduces: constants that made a table, a second state left aside, and those recorded."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hwmodel.gpu_truth import shared_file
from hwmodel.link import NVLINK4, all_reduce_s
from hwmodel.link_fit import SYSTEMS, AllReduces, fit_small, small_all_reduces

TRUE = replace(NVLINK4, small_start_s=8e-6, small_step_s=0.7e-6, small_share=0.2)


def _made() -> AllReduces:
    """Rows of ``TRUE``; two of three wait until 40 us."""
    sizes = np.tile(np.arange(2048, 2_000_000, 32768), 3)
    gpus = np.repeat([2, 4, 8], len(sizes) // 3)
    seconds = np.array([all_reduce_s(s, g, TRUE) for s, g in zip(sizes.tolist(), gpus.tolist(), strict=True)])
    waits = np.random.default_rng(0).random(len(sizes)) < 2 / 3
    return AllReduces(sizes, gpus, np.where(waits, np.maximum(seconds, 40e-6), seconds))


def test_constants_of_the_lower_state_are_found() -> None:
    rows = _made()
    found = fit_small(rows, NVLINK4)
    for size, gpus in ((4096, 2), (65536, 8), (524288, 4)):
        assert all_reduce_s(size, gpus, found) == pytest.approx(all_reduce_s(size, gpus, TRUE), rel=0.05)


def test_the_lowest_tenth_is_of_each_size_and_number_of_gpus() -> None:
    sizes = np.array([1024] * 10 + [4096] * 10)
    seconds = np.concatenate([np.arange(1.0, 11.0), np.arange(101.0, 111.0)])
    lowest = AllReduces(sizes, np.full(20, 2), seconds).lowest()
    assert np.flatnonzero(lowest).tolist() == [0, 10]


@pytest.mark.parametrize(("system", "link"), SYSTEMS)
def test_recorded_constants_are_those_of_the_fit(system, link) -> None:  # type: ignore[no-untyped-def]
    path = shared_file("vidur_network.csv")
    if path is None:
        pytest.skip("Vidur's network table is not part of the project")
    found = fit_small(small_all_reduces(pd.read_csv(path), system), link)
    for name in ("small_start_s", "small_step_s", "small_share"):
        assert getattr(found, name) == pytest.approx(getattr(link, name), rel=0.02)
