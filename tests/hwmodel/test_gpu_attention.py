"""Decode attention over quantized caches: fitted constants, held-out rows, the choice of kernel."""

from dataclasses import astuple, replace

import numpy as np
import pytest
from scipy.optimize import least_squares

from codesign.gpu_records import RECORDED, read_measurements, recorded_files
from codesign.gpu_rows import ATTENTIONS
from codesign.gpu_truth import comparison
from codesign.recipes import recipe
from datatypes.catalog import FP16, INTS_SYMMETRIC, UINT8, UINTS
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig
from hwmodel.gpu import GpuKernels
from hwmodel.gpu_attention import (
    DECODE_ATTENTION,
    DecodeAttention,
    decode_attention_s,
    has_decode_kernel,
    parts_of_context,
)
from hwmodel.gpu_narrow import COPY_SHARE
from hwmodel.gpu_presets import A100, GPUS, H100
from hwmodel.gpu_price import gpu_price
from hwmodel.options import HONEST
from hwmodel.units import cycles_to_s
from hwmodel.workload import LayerKind, LayerSpec
from kernels_gpu.attention_launch import WARPS, choose_splits
from kernels_gpu.attention_spec import cache_format

INT8 = ATTENTIONS["attention int8"][0]
SCORES = LayerSpec("qk", LayerKind.ATTENTION_QK, 4, 128, 8192, 16 * 8)
VALUES = replace(SCORES, kind=LayerKind.ATTENTION_PV, k=8192, n=128)


def test_constants_are_those_of_a_fit_to_the_int8_rows():
    rows = []
    for record in read_measurements(recorded_files()[RECORDED.index("attention_h100.json")]):
        if record.name == "attention int8":
            stated = record.conditions["sequences x key heads x query heads of each at context, blocks"]
            parts = int(stated.split(", ")[1].split()[0])
            moved, rate = (float(record.conditions[name]) for name in ("bytes", "copy_bytes_per_s"))
            rows.append((moved, parts, rate, record.seconds))
    assert len(rows) == 7
    scale = np.array([1e-6, 1e-9, 1.0])

    def errors(z):
        constants = DecodeAttention(*(z * scale))
        return [np.log(decode_attention_s(*row[:3], constants) / row[3]) for row in rows]

    start = np.array([3.0, 50.0, 0.9])
    found = least_squares(errors, start, bounds=(0, [20, 1000, 1.1]), loss="soft_l1", f_scale=0.05, x_scale=start)
    assert astuple(DECODE_ATTENTION) == pytest.approx(tuple(found.x * scale), rel=5e-3)


def test_four_bits_are_held_out_and_within_the_goal():
    rows = comparison().rows
    held = rows[(rows["kernel"] == "decode attention") & (rows["use"] == "format held out")]
    assert set(held["format"]) == {"attention int4"} and len(held) == 7
    assert held["error"].abs().mean() <= 0.05 and held["error"].abs().max() <= 0.15  # issue 5


def test_both_halves_by_hand():
    total = sum(gpu_price(half, INT8, H100, HONEST).cycles for half in (SCORES, VALUES))
    # keys and values of 128 bytes and a scale of two, queries and results of 4 x 128 halves; 264 resident blocks share
    # 128 heads two by two
    moved = 128 * (2 * 8192 * 130 + 2 * 4 * 128 * 2)
    wanted = 6.34e-6 + 2 * 71e-9 + moved / (3350e9 * COPY_SHARE * 0.959)
    assert cycles_to_s(total, H100.frequency_hz) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(("pairs", "tokens"), [(32, 4096), (512, 4096), (8, 100), (8, 8192), (8, 131072), (128, 8192)])
def test_parts_are_the_launchers(pairs, tokens):
    # two blocks of 8 warps on each of 132 SMs
    theirs = choose_splits(pairs, tokens, 264, warps=8 if WARPS == 1 else WARPS)
    assert parts_of_context(pairs, tokens, H100) == theirs


def test_the_kernel_is_chosen_where_there_is_one():
    row = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), ScaleConfig(FP16), dynamic=True)
    caches = [
        row,
        replace(row, formats=(INTS_SYMMETRIC[4],)),
        replace(row, formats=(INTS_SYMMETRIC[6],)),
        replace(row, formats=(UINTS[8],)),
        replace(row, zero_point=UINTS[8]),
        replace(row, scale=ScaleConfig(UINT8, outer=FP16)),
        replace(row, scale=ScaleConfig(UINT8)),
        replace(row, granularity=PerGroup(32)),
        replace(row, hadamard=128),
    ]
    for cache in caches:
        try:
            cache_format(cache)
            there = True
        except NotImplementedError:
            there = False
        assert has_decode_kernel(SCORES, LayerConfig(key=cache, value=cache), H100) == there, cache
    kv8 = recipe("int4_g128_fp16_kv8").linear
    assert has_decode_kernel(VALUES, LayerConfig(key=kv8.key, value=kv8.value), A100)
    assert not has_decode_kernel(SCORES, LayerConfig(key=row), H100)  # values stay FP16
    assert not has_decode_kernel(SCORES, INT8, GPUS["h100_public"])
    assert not has_decode_kernel(SCORES, INT8, replace(A100, compute_capability=(7, 5)))
    for other in ({"m": 16}, {"k": 192}, {"causal": True}, {"state": True}):
        assert not has_decode_kernel(replace(SCORES, **other), INT8, H100)


def test_a_cache_of_fewer_bits_is_read_sooner():
    times = {
        name: cycles_to_s(gpu_price(SCORES, config, H100, HONEST).cycles, H100.frequency_hz)
        for name, (config, _) in ATTENTIONS.items()
    }
    assert times["attention int4"] < times["attention int8"] < times["torch cudnn fp16"]
    public = replace(H100, kernels=GpuKernels.PUBLIC)
    assert gpu_price(SCORES, LayerConfig(), H100, HONEST) == gpu_price(SCORES, LayerConfig(), public, HONEST)
