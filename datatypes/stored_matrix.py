"""What can be read of an encoded matrix without torch: the view that hardware models take of a ``QuantizedTensor``.

A ``QuantizedTensor`` satisfies ``StoredMatrix`` as it is, and numpy reads its CPU tensors; so this file, and whoever
imports it, loads no torch.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from datatypes.granularity import Granularity
from datatypes.layer_config import TensorConfig


class StoredMatrix(Protocol):
    """Codes and metadata of one encoded matrix ``[n, k]``; arrays or CPU tensors, as ``QuantizedTensor`` has them."""

    @property
    def config(self) -> TensorConfig: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def codes(self) -> Any: ...
    @property
    def scale(self) -> Any: ...
    @property
    def outer_scale(self) -> Any: ...
    @property
    def zero_point(self) -> Any: ...
    @property
    def selector(self) -> Any: ...
    @property
    def mask(self) -> Any: ...


def codes_of(matrix: StoredMatrix) -> np.ndarray:
    """Codes, uint8 ``[n, k]``.

    Raises:
        NotImplementedError: codes wider than a byte or of several elements, values instead of codes, masks, residuals.
    """
    config = matrix.config
    codes = np.asarray(matrix.codes)
    if codes.dtype != np.uint8 or config.formats[0].dim != 1 or config.codebook is not None:
        raise NotImplementedError(
            f"terms exist of codes of up to 8 bits with one value each, not of {config.formats[0].name}"
        )
    if matrix.mask is not None or config.residual is not None:
        raise NotImplementedError("terms exist of matrices without mask and without residual")
    return np.ascontiguousarray(codes)


def along_rows(per_tile: np.ndarray, granularity: Granularity, shape: tuple[int, int]) -> tuple[np.ndarray, int]:
    """One value per tile ``[gn, gk]`` as one for each row and run of columns: ``[n, gk]``, and the run's length.

    >>> from datatypes.granularity import PerBlock
    >>> values, run = along_rows(np.array([[1, 2], [3, 4]]), PerBlock(2, 8), (3, 12))
    >>> values.tolist(), run
    ([[1, 2], [1, 2], [3, 4]], 8)
    """
    rows, columns = granularity.tile(shape)
    return np.repeat(per_tile, rows, axis=0)[: shape[0]], max(1, min(columns, shape[1]))


def selector_of(matrix: StoredMatrix) -> tuple[np.ndarray, int]:
    """Which candidate format each row's runs use: uint8 ``[n, runs]``, and the run's length."""
    n, k = matrix.shape
    if matrix.selector is None:
        return np.zeros((n, 1), dtype=np.uint8), max(1, k)
    values, run = along_rows(np.asarray(matrix.selector), matrix.config.selector_granularity, matrix.shape)
    return np.ascontiguousarray(values.astype(np.uint8)), run
