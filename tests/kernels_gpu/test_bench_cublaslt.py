"""What the library is asked for, and how its numbers are read; the calls themselves need a GPU."""

from itertools import islice
from pathlib import Path

import pytest

from hwmodel.gpu_truth import measured
from kernels_gpu.bench_cublaslt import CLUSTERS, TILES, TOKENS, Library, kernel_name, products
from kernels_gpu.bench_library import SHAPES


def test_numbers_are_those_of_the_header() -> None:
    # cublasLt.h of CUDA 12.1: CUBLASLT_MATMUL_TILE_128x128 = 20, _128x96 = 33;
    # CUBLASLT_CLUSTER_SHAPE_4x2x1 = 7, _1x15x1 = 51
    assert (TILES[20], TILES[33], CLUSTERS[7], CLUSTERS[51]) == ("128x128", "128x96", "4x2", "1x15")
    assert (len(TILES), len(CLUSTERS)) == (36, 52)
    assert kernel_name(23, 3, 1, 39) == "128x256 2x1 1 39"


def test_known_shapes_come_first_and_drawn_ones_repeat_with_the_seed() -> None:
    known = len(SHAPES) * len(TOKENS)
    asked = list(islice(products(seed=1), known + 500))
    assert asked[:known] == [(m, n, k) for n, k in SHAPES for m in TOKENS]
    assert asked == list(islice(products(seed=1), known + 500))
    assert all(1 <= m <= 4096 and n % 256 == k % 256 == 0 for m, n, k in asked[known:])


def test_recorded_kernels_have_names_of_the_header() -> None:
    for kernel in measured("h100_cublas12")["kernels"]:
        tile, cluster, _, _ = kernel.split()
        assert tile in TILES
        assert cluster in CLUSTERS


def test_a_file_that_is_no_library_is_named(tmp_path: Path) -> None:
    other = tmp_path / "libother.so"
    other.write_text("no library")
    with pytest.raises(ValueError, match=r"library must be a libcublasLt.so, not '.*libother.so'"):
        Library(other)
