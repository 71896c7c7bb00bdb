"""Decode attention over quantized caches: fitted constants, held-out rows, the choice of kernel."""

import math
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
    reading_slowdown,
    resident_blocks,
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
            case, blocks = stated.split(", ")
            sequences, heads, queries = (int(part) for part in case.split(" at ")[0].split("x"))
            parts = int(blocks.split()[0])
            moved, rate = (float(record.conditions[name]) for name in ("bytes", "copy_bytes_per_s"))
            assert float(record.conditions["replay_s"]) > 0  # no start of a replay in it
            rows.append((moved, parts, rate, (sequences * heads * parts, queries, 128), record.seconds))
    assert len(rows) == 12
    scale = np.array([1e-6, 1e-6, 1e-9, 1.0, 1.0])

    def errors(z):
        constants, made = DecodeAttention(*(z * scale)), []
        for moved, parts, rate, shape, seconds in rows:
            # a step: 32 keys and values of 128 bytes and a scale of two
            slowdown = reading_slowdown(shape, 2 * 32 * 130, 8, H100, rate, constants)
            made.append(np.log(decode_attention_s(moved, parts, rate, constants, slowdown, shape[1]) / seconds))
        return made

    start = np.array([4.0, 2.0, 50.0, 0.95, 4.0])
    found = least_squares(
        errors, start, bounds=(1e-3, [20, 20, 1000, 1.1, 50]), loss="soft_l1", f_scale=0.05, x_scale=start
    )
    assert astuple(DECODE_ATTENTION) == pytest.approx(tuple(found.x * scale), rel=5e-3)


def test_four_bits_are_held_out_and_another_gpu_too():
    rows = comparison().rows
    own = rows[rows["kernel"] == "decode attention"]
    held, other = own[own["use"] == "format held out"], own[own["use"] == "other GPU"]
    assert set(held["format"]) == {"attention int4"} and len(held) == 12 and len(other) == 14
    # the goals of issue 5: 0.05 in the mean, and 0.15 at worst
    assert held["error"].abs().mean() <= 0.05 and held["error"].abs().max() <= 0.15
    # 0.15 is missed by one sequence of 4,096 tokens: docs/gpu_kernels.md
    assert other["error"].abs().mean() <= 0.05 and (other["error"].abs() > 0.15).sum() <= 1
    assert other["error"].abs().max() <= 0.17


def test_both_halves_by_hand():
    total = sum(gpu_price(half, INT8, H100, HONEST).cycles for half in (SCORES, VALUES))
    # keys and values of 128 bytes and a scale of two; 264 resident blocks share 128 heads two by two
    rate = 3350e9 * COPY_SHARE * 0.980
    # sixteen warps an SM: each waits for 32 tokens, then takes 5.984 cycles for each of 256 x 1.66 instructions
    load_s, think_s = 2 * 32 * 130 * 132 / rate, 5.984 * 256 * 1.66 / 1.98e9
    ways = [math.perm(16, waiting) * (load_s / think_s) ** waiting for waiting in range(17)]
    busy = 1 - 1 / sum(ways)
    # four queries of a key head
    wanted = 4.785e-6 + 2.21e-6 + 2 * 4 * 15.07e-9 + 128 * 2 * 8192 * 130 / rate / busy
    assert cycles_to_s(total, H100.frequency_hz) == pytest.approx(wanted, rel=1e-4)


def test_an_sm_with_few_warps_cannot_take_what_memory_brings():
    def slowdown(queries, copy=4.2e12, blocks=512, bits=8):
        return reading_slowdown((blocks, queries, 128), 2 * 32 * 130 * bits / 8, bits, H100, copy)

    assert 1 < slowdown(1) < slowdown(8) < 1.5  # 16 warps an SM, and 8 (134 registers)
    assert slowdown(8, copy=3e12) < slowdown(8) < slowdown(8, copy=8e12)
    assert slowdown(8, copy=1e11) == pytest.approx(1, abs=1e-3)
    assert slowdown(4, blocks=396, bits=4) < slowdown(4, blocks=512, bits=4)  # 116 of them find 132 SMs empty
    assert [resident_blocks(bits, queries) for bits in (8, 4) for queries in (4, 5)] == [2, 1, 3, 2]


@pytest.mark.parametrize(("pairs", "tokens"), [(32, 4096), (512, 4096), (8, 100), (8, 8192), (8, 131072), (128, 8192)])
def test_parts_are_the_launchers(pairs, tokens):
    # blocks of 8 warps on each of 132 SMs
    for blocks in (1, 2, 3):
        theirs = choose_splits(pairs, tokens, 132 * blocks, warps=8 if WARPS == 1 else WARPS)
        assert parts_of_context(pairs, tokens, H100, blocks) == theirs


def test_parts_are_the_recorded_ones():
    for record in read_measurements(recorded_files()[RECORDED.index("attention_h100.json")]):
        name, _, bits = record.name.partition(" int")
        if name == "attention":
            stated = record.conditions["sequences x key heads x query heads of each at context, blocks"]
            case, blocks = stated.split(", ")
            sequences, heads, queries = (int(part) for part in case.split(" at ")[0].split("x"))
            parts = parts_of_context(
                sequences * heads, int(case.split(" at ")[1]), H100, resident_blocks(int(bits), queries)
            )
            assert parts == int(blocks.split()[0]), stated


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
