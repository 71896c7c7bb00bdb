"""How launches of the decode GEMV are cut for the shared memory of a block."""

import sys
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from hwmodel.gpu_gemv_cut import GemvCut
from hwmodel.gpu_presets import H200
from kernels_gpu import bench_gemv, compile_ahead, gemv_launch, native, ptx
from kernels_gpu.decode_floor import StepCase
from kernels_gpu.decode_kernels import kernels_of as kernels_of_step
from kernels_gpu.decode_model import LLAMA_2_7B
from kernels_gpu.gemv_launch import PackedMatrix, choose_shape, prepare, spec_of, tokens_at_once
from kernels_gpu.gemv_plan import plan_of
from kernels_gpu.gemv_recipes import RECIPES
from kernels_gpu.layer import DeviceLayer
from kernels_gpu.layer_kernels import kernels_of as kernels_of_layer
from kernels_gpu.native import MAX_SHARED_BYTES, SHARED_BYTES, peak_memory_bytes_per_s

SHAPES = ((4096, 4096), (11008, 4096), (4096, 11008), (28672, 8192), (8192, 28672), (64, 96))


@pytest.mark.parametrize("limit", sorted({*SHARED_BYTES.values(), MAX_SHARED_BYTES}))
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_launch_fits_into_the_shared_memory_of_its_device(recipe, limit):
    plan = plan_of(RECIPES[recipe])
    for n, k in SHAPES:
        for tokens in (1, 3, 8, 16):
            at_once = tokens_at_once(plan, tokens, (n, k), limit)
            assert 1 <= at_once <= tokens
            spec = spec_of(plan, at_once, (n, k), choose_shape(plan, at_once, n, k, limit))
            assert spec.shared_bytes <= limit


def test_less_shared_memory_takes_fewer_tokens_at_once():
    plan = plan_of(RECIPES["int4_g128"])
    limits = sorted({*SHARED_BYTES.values(), MAX_SHARED_BYTES})
    found = [tokens_at_once(plan, 16, (28672, 8192), limit) for limit in limits]
    assert found == sorted(found) and found[0] < found[-1]


def test_a_row_too_long_for_one_token_is_refused():
    with pytest.raises(NotImplementedError, match="one token's inputs fit into shared memory, not 200000"):
        tokens_at_once(plan_of(RECIPES["int4_g128"]), 4, (64, 200000), min(SHARED_BYTES.values()))


def test_no_device_has_no_bandwidth():
    assert peak_memory_bytes_per_s() is None and peak_memory_bytes_per_s(torch.device("cpu")) is None


def test_bandwidth_is_the_drivers_clock_and_bus(monkeypatch):
    kinds = SimpleNamespace(CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE=36, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH=37)
    driver = SimpleNamespace(
        CUdevice_attribute=kinds,
        cuInit=lambda flags: (0,),
        cuDeviceGet=lambda ordinal: (0, f"device {ordinal}"),
        cuDeviceGetAttribute=lambda kind, device: (
            0,
            {(36, "device 3"): 3_201_000, (37, "device 3"): 6144}[kind, device],
        ),
    )
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace(bindings=SimpleNamespace(driver=driver)))
    monkeypatch.setitem(sys.modules, "cuda.bindings", SimpleNamespace(driver=driver))
    monkeypatch.setattr(native, "SIMULATED", False)
    native._peak_of.cache_clear()
    try:  # 6144 lines at 2 x 3201 MHz, in bytes
        assert peak_memory_bytes_per_s(torch.device("cuda", 3)) == 2 * 3.201e9 * 768
    finally:
        native._peak_of.cache_clear()


LARGE, FAST_CUT = (28672, 8192), GemvCut(4, 4, 3)  # NF3's where memory is as fast as an H200's (NOTES.md)


@pytest.fixture
def fast_memory(monkeypatch):
    """Devices are an H200's as to their memory; nothing is compiled."""
    for module in (gemv_launch, bench_gemv):
        monkeypatch.setattr(module, "peak_memory_bytes_per_s", lambda device: H200.dram.bytes_per_s)
    monkeypatch.setattr(gemv_launch, "load", lambda *given: native.NativeKernel(None, None, 0, 0))
    gemv_launch._kernel.cache_clear()
    yield
    gemv_launch._kernel.cache_clear()


@pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")
def test_a_launch_is_cut_for_the_memory_of_its_device(fast_memory):
    arrays = {name: torch.zeros(8) for name in ("codes", "scale")}  # enough to bind a launch, and not to run it
    plan = plan_of(RECIPES["nf3_g64"])
    weight = PackedMatrix(RECIPES["nf3_g64"], LARGE, arrays, plan)
    launch = prepare(weight, torch.zeros(1, LARGE[1]).half(), torch.zeros(1, LARGE[0]).half())
    assert launch.threads == 32 * FAST_CUT.warps
    assert launch.shared_bytes == spec_of(plan, 1, LARGE, FAST_CUT).shared_bytes
    assert choose_shape(plan, 1, *LARGE) != FAST_CUT  # without a device


@pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")
def test_the_benchmark_compiles_what_it_launches(fast_memory, monkeypatch):
    compiled = []
    pool = SimpleNamespace(map=lambda make, specs, chunksize: compiled.extend(specs))
    context = SimpleNamespace(Pool=lambda jobs: nullcontext(pool))
    monkeypatch.setattr(compile_ahead.multiprocessing, "get_context", lambda way: context)
    bench_gemv.compile_all(["nf3_g64"], [LARGE], [1], [None], 2)
    assert [kernel.spec for kernel in compiled] == [spec_of(plan_of(RECIPES["nf3_g64"]), 1, LARGE, FAST_CUT)]


@pytest.mark.skipif(ptx.SIMULATED, reason="a norm's row of 8192 takes more threads than the simulator's")
def test_the_kernels_of_a_step_are_cut_for_the_memory_of_their_device():
    config, fast = RECIPES["nf3_g64"], H200.dram.bytes_per_s
    shape = replace(LLAMA_2_7B, hidden=LARGE[1], intermediate=LARGE[0] // 2)
    step, wanted = StepCase(shape, config, 1, 256, 8), spec_of(plan_of(config), 1, LARGE, FAST_CUT)
    assert wanted in kernels_of_step(step, torch.float16, fast)
    assert wanted not in kernels_of_step(step, torch.float16)


def test_the_kernels_of_a_layer_are_cut_for_the_memory_of_their_device():
    config, fast = RECIPES["nf3_g64"], H200.dram.bytes_per_s
    few = 16, LARGE[1]
    layer = DeviceLayer(few, PackedMatrix(config, few, {}, plan_of(config)))
    told = kernels_of_layer(layer, LARGE[0], 1, memory_bytes_per_s=fast)
    assert [kernel.spec for kernel in told] == [spec_of(plan_of(config), 1, LARGE, FAST_CUT)]
