"""Numpy references of what is added to a GEMV's result, and how far float32 sums may be from exact ones.

All products and sums here are float64.
"""

from __future__ import annotations

import itertools
from typing import TypeVar

import numpy as np
from torch import Tensor

from kernels_gpu.gemv_reference import FLOAT_STEP

Magnitudes = TypeVar("Magnitudes", np.ndarray, Tensor)


def low_rank(a: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``(x A^T) B^T`` for factors ``[rank, k]``, ``[n, rank]`` and inputs ``[m, k]``: ``[m, n]`` float64."""
    return (x.astype(np.float64) @ a.astype(np.float64).T) @ b.astype(np.float64).T


def columns_product(values: np.ndarray, columns: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``x[:, columns] @ values.T`` for values ``[n, count]``: ``[m, n]`` float64."""
    return x.astype(np.float64)[:, columns] @ values.astype(np.float64).T


def csr_product(values: np.ndarray, columns: np.ndarray, pointers: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Sums over the elements of each row, ``[m, n]`` float64; rows without elements give 0."""
    terms = x.astype(np.float64)[:, columns] * values.astype(np.float64)
    made = [terms[:, start:end].sum(1) for start, end in itertools.pairwise(pointers)]
    return np.stack(made, 1) if made else np.zeros((len(x), 0))


def sums_tolerance(absolute: Magnitudes, terms: int) -> Magnitudes:
    """Largest distance of a float32 sum from the exact one, whatever its order.

    Args:
        absolute: sums of the magnitudes of all products.
        terms: roundings that a product and its sums may meet: one a product, one an addition, one for each scale.
    """
    # Higham, Accuracy and Stability of Numerical Algorithms, lemma 3.1: (1 + u)**terms - 1
    return absolute * (terms * FLOAT_STEP / (1 - terms * FLOAT_STEP))
