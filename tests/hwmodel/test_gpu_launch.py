"""A launch that cannot start early takes more, in every model of this project's kernels, once for each launch."""

from dataclasses import replace

import pytest

from hwmodel.gpu_dequantize import dequantize_s, library_s
from hwmodel.gpu_gemv import gemv_time
from hwmodel.gpu_gemv_cut import GemvCut
from hwmodel.gpu_gemv_encoding import encoding_of
from hwmodel.gpu_launch import ALONE_S, alone_s
from hwmodel.gpu_presets import A100, GPUS, H100
from hwmodel.gpu_tiles import TileCut, tile_time
from kernels_gpu.gemv_recipes import RECIPES

EARLIER = replace(H100, compute_capability=(8, 9))  # all else alike
INT4 = encoding_of(RECIPES["int4_g128"])
COPY, BYTES = 3e12, 1e7


def test_capability_decides():
    assert alone_s(A100) == alone_s(GPUS["rtx4090"]) == ALONE_S
    assert alone_s(H100) == alone_s(GPUS["h200"]) == 0


@pytest.mark.parametrize(
    ("seconds", "launches"),
    [
        (lambda gpu: _gemv(gpu, 1, 4096), 1),
        (lambda gpu: _gemv(gpu, 16, 8192), 2),  # inputs of eight tokens at a time, as launched (NOTES.md)
        (lambda gpu: tile_time(INT4, (64, 4096, 4096), TileCut(8, 8, 1, 2), weight_bytes=BYTES, gpu=gpu,
                               copy_bytes_per_s=COPY).seconds, 1),
        (lambda gpu: dequantize_s(INT4, BYTES, (4096, 4096), gpu, COPY), 1),
        (lambda gpu: library_s(INT4, BYTES, (64, 4096, 4096), gpu, COPY), 2),
    ],
    ids=["gemv", "gemv in turns", "tiles", "dequantizer", "dequantizer and library"],
)  # fmt: skip
def test_each_launch_takes_more(seconds, launches):
    assert seconds(EARLIER) - seconds(H100) == pytest.approx(launches * ALONE_S)


def test_a_weight_is_not_read_ahead_where_kernels_do_not_overlap():
    assert _gemv(H100, 1, 4096, ahead_s=1e-6) < _gemv(H100, 1, 4096)
    assert _gemv(EARLIER, 1, 4096, ahead_s=1e-6) == _gemv(EARLIER, 1, 4096)


def _gemv(gpu, m, k, ahead_s=0.0):
    return gemv_time(INT4, (m, 4096, k), GemvCut(16, 2, 1), weight_bytes=BYTES, gpu=gpu, copy_bytes_per_s=COPY,
                     ahead_s=ahead_s).seconds  # fmt: skip
