"""The truncated decomposition against the full one, on a flat spectrum (the hard case) and a falling one."""

from __future__ import annotations

import pytest
import torch

from codesign.algorithms.truncated_svd import truncated_svd


def matrix(kind: str, n: int = 512, k: int = 320) -> torch.Tensor:
    x = torch.randn(n, k, generator=torch.Generator().manual_seed(0))
    return x if kind == "flat" else x * torch.logspace(0, -2, k)


@pytest.mark.parametrize("kind", ["flat", "falling"])
@pytest.mark.parametrize("wide", [False, True], ids=["tall", "wide"])
def test_captures_the_energy_of_the_full_decomposition(kind: str, wide: bool) -> None:
    """Eckart and Young: the optimum is the sum of the largest squared singular values."""
    x = matrix(kind).T if wide else matrix(kind)
    u, s, v = truncated_svd(x, 32)
    best = float(torch.linalg.svdvals(x.double())[:32].square().sum())
    captured = float(x.double().square().sum() - (x.double() - ((u * s) @ v.T).double()).square().sum())
    assert captured <= best * (1 + 1e-6)
    assert captured >= best * (1 - (2e-3 if kind == "flat" else 1e-6))


@pytest.mark.parametrize("shape", [(512, 320), (40, 320), (3, 5)], ids=str)
def test_factors_are_orthonormal(shape: tuple[int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = truncated_svd(x, 32)
    rank = min(32, *shape)
    assert u.shape == (shape[0], rank) and s.shape == (rank,) and v.shape == (shape[1], rank)
    torch.testing.assert_close(u.T @ u, torch.eye(rank), rtol=0, atol=1e-5)
    torch.testing.assert_close(v.T @ v, torch.eye(rank), rtol=0, atol=1e-5)
    assert (s.diff() <= 1e-5).all()


def test_low_rank_is_found_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 5, generator=generator) @ torch.randn(5, 200, generator=generator)
    u, s, v = truncated_svd(x, 8)
    torch.testing.assert_close((u * s) @ v.T, x, rtol=1e-4, atol=1e-4)


def test_seed_decides_and_the_global_one_does_not() -> None:
    x = matrix("flat")
    torch.manual_seed(1)
    first = truncated_svd(x, 16)[0]
    torch.manual_seed(2)
    assert torch.equal(first, truncated_svd(x, 16)[0])
    assert not torch.equal(first, truncated_svd(x, 16, seed=1)[0])


def test_rank_must_be_positive() -> None:
    with pytest.raises(ValueError, match="rank must be at least 1, not 0"):
        truncated_svd(torch.ones(2, 2), 0)
