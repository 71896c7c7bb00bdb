"""Cuts of the tile kernel: bytes as the kernel takes them, and the least predicted time of those that fit."""

import pytest

from hwmodel.gpu_gemv_encoding import encoding_of
from hwmodel.gpu_presets import H100
from hwmodel.gpu_tiles import tile_time
from hwmodel.gpu_tiles_cut import TILE_CUTS, choose_tile_cut, shared_bytes
from kernels_gpu.gemm_decode import tile_kernel_obstacle
from kernels_gpu.gemm_launch import CUTS, choose_cut, spec_of
from kernels_gpu.gemv_plan import plan_of
from kernels_gpu.gemv_recipes import RECIPES
from kernels_gpu.native import MAX_SHARED_BYTES

COPY = 2.99e12  # kernels_gpu/NOTES.md: H100


@pytest.mark.parametrize("name", RECIPES)
def test_bytes_are_those_of_the_kernel(name):
    encoding, plan = encoding_of(RECIPES[name]), plan_of(RECIPES[name])
    assert encoding.tiled == (tile_kernel_obstacle(plan) is None)
    if encoding.tiled:
        for k in (131, 4096, 11008):
            for cut, ours in zip(CUTS, TILE_CUTS, strict=True):
                assert shared_bytes(encoding, k, ours) == spec_of(plan, (4096, k), cut).shared_bytes


def test_the_launcher_takes_the_least_of_those_that_fit():
    config, shape = RECIPES["int8"], (512, 28672, 8192)
    encoding, stored = encoding_of(config), config.storage_bits(shape[1:]).total / 8

    def chosen(limit):
        return choose_tile_cut(
            encoding, shape, weight_bytes=stored, shared_limit=limit, gpu=H100, copy_bytes_per_s=COPY
        )

    cut, seconds = chosen(MAX_SHARED_BYTES)
    times = {
        one: tile_time(encoding, shape, one, weight_bytes=stored, gpu=H100, copy_bytes_per_s=COPY).seconds
        for one in TILE_CUTS
        if shared_bytes(encoding, shape[2], one) <= MAX_SHARED_BYTES
    }
    assert seconds == min(times.values()) == times[cut]
    assert choose_cut(config, 512, shape[1:]) == (cut.token_tiles, cut.row_warps, cut.k_warps, cut.depth)
    small, slower = chosen(100_000)
    assert slower > seconds and shared_bytes(encoding, 8192, small) <= 100_000
    assert chosen(1000) is None
