"""Columns of the decode step's benchmark: whose products the layers have, how they are made, what memory they take."""

from __future__ import annotations

from dataclasses import replace

import torch

from datatypes.layer_config import TensorConfig
from kernels_gpu.decode_floor import StepCase
from kernels_gpu.decode_model import LAYER_MATRICES, Decoder, Matrix, encoded_weights, random_decoder
from kernels_gpu.decode_weights import Weight, random_tinygemm
from kernels_gpu.gemv_recipes import RECIPES

CUBLAS, TINYGEMM = "fp16 cuBLAS", "tinygemm int4 g128"
TEMPORARIES = 8  # float32 copies of the largest matrix while it is quantized, at most
SEED = 0


def case_of(column: str, base: StepCase) -> StepCase:
    """The step of a column: an encoding's, or another library's."""
    if column == TINYGEMM:
        return replace(base, tinygemm=True)
    return replace(base, weights=None if column == CUBLAS else RECIPES[column])


def type_of(column: str) -> torch.dtype:
    """What activations are: torch's int4 kernel takes bfloat16 alone."""
    return torch.bfloat16 if column == TINYGEMM else torch.float16


def bytes_needed(case: StepCase, distinct: int) -> float:
    """Device memory of a step with weights for ``distinct`` layers, its making included."""
    layers = distinct * sum(case.matrix_bytes(which) for which in LAYER_MATRICES)
    largest = max(n * k for n, k in map(case.shape.matrix, Matrix))
    table = case.shape.vocabulary * case.shape.hidden * 2
    cache = (case.shape.layers + 2) * case.layer_cache_bytes  # one is copied to be compared
    return layers + case.matrix_bytes(Matrix.HEAD) + table + cache + 4 * TEMPORARIES * largest


def choose_distinct(case: StepCase, most: int, free_bytes: float, l2_bytes: int) -> int:
    """Layers with weights of their own: ``most`` where they fit, else as many as do.

    Raises:
        RuntimeError: not enough fit that a layer's weights have left L2 when it is their turn again.
    """
    distinct = min(most, case.shape.layers)
    while distinct > 1 and bytes_needed(case, distinct) > free_bytes:
        distinct -= 1
    layer = sum(case.matrix_bytes(which) for which in LAYER_MATRICES)
    cold = distinct == case.shape.layers or distinct * layer >= 4 * l2_bytes
    if bytes_needed(case, distinct) > free_bytes or not cold:
        least = next(i for i in range(1, case.shape.layers + 1) if i * layer >= 4 * l2_bytes or i == case.shape.layers)
        raise RuntimeError(
            f"free device memory must be at least {bytes_needed(case, least) / 1e9:.1f} GB for a step of "
            f"{case.shape.name} at {case.context} tokens, not {free_bytes / 1e9:.1f}"
        )
    return distinct


def build(case: StepCase, dtype: torch.dtype, distinct: int, device: str) -> Decoder:
    """A decoder of random weights."""
    generator = torch.Generator(device).manual_seed(SEED)

    def config_of(layer: int, which: Matrix) -> TensorConfig | None:
        return case.head if which is Matrix.HEAD else case.weights

    encoded = encoded_weights(config_of, dtype, generator)

    def make(layer: int, which: Matrix, size: tuple[int, int]) -> Weight:
        if case.tinygemm and which is not Matrix.HEAD:
            return random_tinygemm(*size, device)
        return encoded(layer, which, size)

    return random_decoder(case.shape, make, dtype=dtype, generator=generator, distinct=distinct)
