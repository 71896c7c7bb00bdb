"""Prices of layers with branches and outliers on GPU presets: what was measured is charged, and laws hold."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from codesign.gpu_layers import MEASURED_LAYERS, layer_case_of
from codesign.gpu_records import RECORDED, read_measurements, recorded_files
from datatypes.catalog import FP16, INTS_SYMMETRIC, NF4
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig, LowRankConfig, OutlierConfig, OutlierLayout, ScaleConfig, TensorConfig
from hwmodel.gpu import GpuKernels
from hwmodel.gpu_branches import Beside, branch_s, columns_s, joined_s, ring_s, rows_s
from hwmodel.gpu_gemv_cut import GemvCut
from hwmodel.gpu_gemv_encoding import encoding_of
from hwmodel.gpu_narrow import COPY_SHARE
from hwmodel.gpu_presets import GPUS, H100
from hwmodel.gpu_price import gpu_price
from hwmodel.options import HONEST
from hwmodel.workload import LayerKind, LayerSpec
from kernels_gpu.gemv_recipes import RECIPES

PUBLIC = replace(H100, kernels=GpuKernels.PUBLIC)
WHERE = Beside(H100, H100.dram.bytes_per_s * COPY_SHARE)
# INT4's ring of 16 warps with two stages of two runs of 1 KiB on 132 SMs holds 4096 x 4096 but a few groups' scales
RING_S = ring_s(encoding_of(RECIPES["int4_g128"]), GemvCut(16, 2, 2), 4096 * 4096 * (4 + 16 / 128) / 8, WHERE)
WIDE = TensorConfig((FP16,), scale=None)
LARGE = LayerConfig(weight=RECIPES["int4_g128"], low_rank=LowRankConfig(300, WIDE, WIDE))
INT4, ROWS, COLUMNS, BRANCH = (MEASURED_LAYERS[name] for name in ("int4_g128", "rows1", "columns1", "lqer32_fp16"))


def seconds(config, m=1, n=4096, k=4096, gpu=H100, **change):
    spec = LayerSpec("x", LayerKind.LINEAR, m, k, n, **change)
    return gpu_price(spec, config, gpu, HONEST).cycles / gpu.frequency_hz


def test_measured_layers_of_few_tokens_are_within_the_models_errors():
    errors = []
    for record in read_measurements(recorded_files()[RECORDED.index("layer_h100.json")]):
        case = layer_case_of(record)
        m, n, k = case.shape
        # beyond, the measured inputs lie in memory; with 16 tokens other ways are charged, and no branch in launches of
        # its own
        if m <= 4 and n < 20000 and case.fused:
            errors.append(seconds(case.config, m, n, k) / case.seconds - 1)
    assert len(errors) == 24
    assert np.abs(errors).mean() < 0.085 and np.abs(errors).max() < 0.2  # docs/gpu_kernels.md: columns, 20 % at worst


@pytest.mark.parametrize(
    ("config", "beside"),
    [
        (BRANCH, lambda shape: sum(joined_s(BRANCH.low_rank, shape, WHERE, 1))),
        (LARGE, lambda shape: sum(branch_s(LARGE.low_rank, shape, WHERE, RING_S))),
        (replace(COLUMNS, outliers=replace(COLUMNS.outliers, keep_dense_slot=True)),
         lambda shape: columns_s(replace(COLUMNS.outliers, keep_dense_slot=True), shape, WHERE)[1]),
        (ROWS, lambda shape: rows_s(ROWS.outliers, shape, WHERE)),
    ],
    ids=["branch", "branch of a large rank", "columns", "rows"],
)  # fmt: skip
def test_kernels_beside_a_product_are_charged_beside_it(config, beside):
    alone = seconds(replace(config, low_rank=None, outliers=None))
    assert seconds(config) - alone == pytest.approx(beside((1, 4096, 4096)), rel=1e-3)
    # experts one after another
    more = seconds(config, copies=2) - seconds(replace(config, low_rank=None, outliers=None), copies=2)
    assert more == pytest.approx(2 * beside((1, 4096, 4096)), rel=1e-3)


@pytest.mark.parametrize("gpu", GPUS.values(), ids=lambda gpu: gpu.name)
@pytest.mark.parametrize("name", ["lqer32_fp16", "lqer32_int8", "columns1", "rows1"])
def test_more_tokens_never_take_less(gpu, name):
    times = [seconds(MEASURED_LAYERS[name], m, gpu=gpu) for m in (1, 2, 4, 8, 15, 16, 17, 32, 100, 1000)]
    assert all(a <= b for a, b in pairwise(times))
    plain = [seconds(INT4, m, gpu=gpu) for m in (1, 16, 17, 1000)]
    assert all(a < b for a, b in zip(plain, [times[0], times[5], times[6], times[9]], strict=True))


def test_more_outliers_never_take_less():
    for layout in OutlierLayout:
        configs = [replace(INT4, outliers=OutlierConfig(layout, share)) for share in (0.0, 0.001, 0.01, 0.1)]
        for m in (1, 16, 100):
            assert all(seconds(a, m) <= seconds(b, m) for a, b in pairwise(configs))


def test_many_tokens_write_outliers_into_a_decoded_weight():
    # 168 k outliers of 2048 tokens gathered would be 2048 x 1.7 cycles for each of those of the fullest SM; written, at
    # most 64 bytes each
    alone, beside = seconds(replace(ROWS, outliers=None), 2048), seconds(ROWS, 2048)
    assert beside - alone < 60e-6 < 128 * rows_s(ROWS.outliers, (16, 4096, 4096), WHERE)


def test_layers_without_kernels_are_priced_by_the_library():
    narrow = TensorConfig((NF4,), PerGroup(64), ScaleConfig(FP16))
    config = replace(INT4, low_rank=LowRankConfig(32, narrow, narrow))
    assert seconds(config) > seconds(INT4) + 4e-6  # two kernels of others: 2.7 us each, gpu_narrow
    assert seconds(BRANCH, gpu=PUBLIC) - seconds(INT4, gpu=PUBLIC) > seconds(BRANCH) - seconds(INT4)
    # encoded inputs: kernels beside a product take 16-bit ones
    eight = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), ScaleConfig(FP16), dynamic=True)
    for config in (BRANCH, COLUMNS):
        encoded = replace(config, activation=eight)
        alone = replace(encoded, low_rank=None, outliers=None)
        assert seconds(encoded) - seconds(alone) > H100.library.launch_s
    bitmap = LayerConfig(weight=INT4.weight, outliers=OutlierConfig(OutlierLayout.BITMAP))
    moved = bitmap.outliers.storage_bits((4096, 4096)).total / 8 + 3 * 4096 * 2
    expected = moved / H100.streamed_bytes_per_s + H100.library.launch_s
    assert seconds(bitmap) - seconds(INT4) == pytest.approx(expected, rel=1e-3)


def test_wide_outliers_of_no_count_are_free_but_read():
    none = replace(COLUMNS, outliers=replace(COLUMNS.outliers, fraction=0.0))
    assert seconds(none) == pytest.approx(seconds(INT4), rel=1e-3)
    all_columns = LayerConfig(weight=INT4.weight, outliers=replace(COLUMNS.outliers, fraction=1.0, format=FP16))
    assert seconds(all_columns) > seconds(COLUMNS)
