"""Prices of prefill on this project's kernels: as measured, never less for more tokens, others' where they are not."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from codesign.gpu_records import RECORDED, read_measurements, recorded_files
from codesign.gpu_rows import of_earlier_kernel
from datatypes.layer_config import LayerConfig
from hwmodel.gpu import GpuKernels
from hwmodel.gpu_gemv_cut import LAUNCHED
from hwmodel.gpu_gemv_encoding import encoding_of
from hwmodel.gpu_operands import operands_of
from hwmodel.gpu_prefill import project_prefill
from hwmodel.gpu_presets import GPUS, H100
from hwmodel.gpu_price import gpu_price
from hwmodel.gpu_tiles_decode import LOOKED_UP, in_halves
from hwmodel.options import HONEST
from hwmodel.units import cycles_to_s
from hwmodel.workload import LayerKind, LayerSpec
from kernels_gpu.gemm_launch import choose_cut
from kernels_gpu.gemv_recipes import RECIPES

H100_13 = GPUS["h100_cublas13"]


def spec_of(m, n=4096, k=4096, copies=1):
    return LayerSpec("x", LayerKind.LINEAR, m, k, n, copies)


def seconds(spec, name, gpu=H100_13):
    return cycles_to_s(gpu_price(spec, LayerConfig(weight=RECIPES[name]), gpu, HONEST).cycles, gpu.frequency_hz)


def prefill(spec, name, gpu=H100_13):
    return project_prefill(spec, operands_of(spec, LayerConfig(weight=RECIPES[name]), gpu, HONEST), gpu)


def measured_ways():
    """Seconds of each product of many tokens by way: the library, and the cuts of today's tile kernel.

    Products of which only an earlier kernel was measured are left out.
    """
    found, earlier = {}, set()
    for file in ("gemm_h100.json", "gemm_cuts_h100.json"):
        for record in read_measurements(recorded_files()[RECORDED.index(file)]):
            name, _, way = record.name.partition(" ")
            otherwise = name in RECIPES and in_halves(encoding_of(RECIPES[name]), LOOKED_UP)
            anew = name in RECIPES and of_earlier_kernel(record, name)
            otherwise = otherwise and record.conditions.get("lookup") != LOOKED_UP.value
            if way == "tiles" and (anew or otherwise):
                earlier.add((name, record.shape))
            elif way == "library" or (way == "tiles" and record.conditions.get("ring") == LAUNCHED.value):
                cut = record.conditions["way or cut"] or "library"
                found.setdefault((name, record.shape), {}).setdefault(cut, record.seconds)
    return {key: ways for key, ways in found.items() if len(ways) > 1 or key not in earlier}


def test_the_presets_price_is_that_of_the_faster_measured_way():
    errors = []
    for (name, (m, k, n)), ways in measured_ways().items():
        cut = "x".join(map(str, choose_cut(RECIPES[name], m, (n, k))))
        if cut in ways or len(ways) == 1:  # else the launcher has taken another cut since
            timed = min(ways["library"], ways.get(cut, 1.0))
            errors.append(seconds(spec_of(m, n, k), name) / timed - 1)
    # before this project's kernels were priced: 26 % in the mean, 66 % too fast at worst
    # E2M3 at 17 tokens and 28672 x 8192 alone is beyond 0.15: nothing of it was fitted
    assert len(errors) >= 110 and np.abs(errors).mean() < 0.037 and sorted(np.abs(errors))[-2] < 0.15


@pytest.mark.parametrize("name", ["int4_g128", "bitmod3_g128", "nvfp4", "learned4", "e4m3_g128"])
def test_more_tokens_never_take_less(name):
    for n, k in ((4096, 4096), (11008, 4096), (1000, 5000)):
        times = [seconds(spec_of(m, n, k), name) for m in (1, 8, 15, 16, 17, 24, 25, 64, 65, 128, 129, 512, 4096)]
        assert all(a <= b for a, b in pairwise(times))


def test_dequantized_weights_move_in_sixteen_bits_too():
    assert prefill(spec_of(64), "int4_g128").wide_bits == 0
    many = prefill(spec_of(2048), "int4_g128")
    assert many.wide_bits == 4096 * 4096 * 16  # written; read again from L2
    assert prefill(spec_of(2048, 28672, 8192), "int4_g128").wide_bits == 2 * 28672 * 8192 * 16
    assert prefill(spec_of(17), "learned4").wide_bits > 0  # no tile kernel
    price = gpu_price(spec_of(2048), LayerConfig(weight=RECIPES["int4_g128"]), H100_13, HONEST)
    stored = RECIPES["int4_g128"].storage_bits((4096, 4096)).total
    assert price.weight_bits == stored + many.wide_bits
    assert price.compulsory_bits == stored + 2 * 2048 * 4096 * 16


def test_copies_are_launched_one_after_another_or_by_others_in_one():
    assert prefill(spec_of(64, copies=3), "int4_g128").seconds == pytest.approx(
        3 * prefill(spec_of(64), "int4_g128").seconds
    )
    assert seconds(spec_of(20, 1024, 1024, copies=64), "int4_g128") < 64 * seconds(spec_of(20, 1024, 1024), "int4_g128")


def test_other_kernels_where_these_are_not_chosen_or_do_not_run():
    spec = spec_of(64)
    assert prefill(spec, "int4_g128", replace(H100, kernels=GpuKernels.PUBLIC)) is None
    assert prefill(spec, "e4m3_g128", GPUS["a100"]) is None  # conversions came with 8.9
    # without programmatic launches each of one or two is as much later
    assert prefill(spec, "int4_g128", replace(H100_13, compute_capability=(8, 0))).seconds == pytest.approx(
        prefill(spec, "int4_g128").seconds + 2.7e-6
    )
