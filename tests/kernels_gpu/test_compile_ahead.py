"""Kernels compiled before a run: the folder they are kept in, and that they are the ones that launchers ask for."""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kernels_gpu import (
    compile_ahead,
    dequantize_launch,
    gemm_launch,
    gemv_launch,
    layer,
    low_rank_launch,
    native,
    outliers_launch,
    ptx,
)
from kernels_gpu.bench_gemm import kernels_of as kernels_of_products
from kernels_gpu.bench_layer import ROWS_TO_TELL
from kernels_gpu.compile_ahead import Ahead, compile_all, kept_ptx
from kernels_gpu.decode_floor import StepCase
from kernels_gpu.decode_kernels import ahead
from kernels_gpu.decode_kernels import kernels_of as kernels_of_step
from kernels_gpu.decode_model import LLAMA_2_7B
from kernels_gpu.dequantize_launch import prepare_dequantize
from kernels_gpu.gemm_launch import padded_inputs, prepare_gemm
from kernels_gpu.gemv_launch import allocate_result, from_quantized
from kernels_gpu.gemv_recipes import RECIPES, quantize_randomly
from kernels_gpu.gemv_spec import GemvSpec
from kernels_gpu.layer import device_layer, prepare_layer
from kernels_gpu.layer_kernels import kernels_of
from kernels_gpu.layer_recipes import LAYERS

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")
MODULES = (dequantize_launch, gemm_launch, gemv_launch, layer, low_rank_launch, outliers_launch)


def no_kernel(spec):
    return lambda: None


@pytest.fixture
def asked(monkeypatch):
    """Keys and register caps of the kernels that launchers ask for; nothing is compiled."""
    keys = set()

    def load(body, kinds, key, registers=0):
        keys.add((key, registers))
        return native.NativeKernel(None, None, 0, 0)

    for module in MODULES:
        module._kernel.cache_clear()
        monkeypatch.setattr(module, "load", load)
    yield keys
    for module in MODULES:
        module._kernel.cache_clear()


def test_a_folder_for_compiled_kernels_lasts_as_long_as_the_run(monkeypatch, tmp_path):
    monkeypatch.delenv(native.PTX_FOLDER, raising=False)
    with kept_ptx():
        folder = Path(os.environ[native.PTX_FOLDER])
        assert folder.is_dir()
    assert native.PTX_FOLDER not in os.environ and not folder.exists()
    monkeypatch.setenv(native.PTX_FOLDER, str(tmp_path))
    with kept_ptx():
        assert os.environ[native.PTX_FOLDER] == str(tmp_path)
    assert tmp_path.is_dir()


def test_every_kernel_is_compiled_once(monkeypatch):
    given = []

    class Pool:
        def __init__(self, jobs):
            given.append(jobs)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def map(self, function, kernels, chunksize):
            given.extend(kernel.key for kernel in kernels)

    monkeypatch.setattr(compile_ahead.multiprocessing, "get_context", lambda kind: argparse.Namespace(Pool=Pool))
    kernels = [Ahead(no_kernel, "p", spec, what) for spec, what in (("b", ""), ("a", ""), ("b", ""), ("a", "merge"))]
    compile_all(kernels, 8)
    assert given == [3, "'a'", "'b'", "merge 'a'"]
    compile_all(kernels, 1)
    compile_all([], 8)
    assert len(given) == 4


@simulated
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", list(LAYERS))
def test_the_kernels_of_a_layer_are_those_that_are_launched(name, fused, asked):
    told = set()
    for n, k in ((80, 256), (200, 1100)):
        placed = device_layer(LAYERS[name]((n, k), "cpu"), "cpu")
        few = device_layer(LAYERS[name]((ROWS_TO_TELL, k), "cpu"), "cpu")
        for m in (1, 16):
            x = torch.zeros(m, k).half()
            prepare_layer(placed, x, allocate_result(m, n, x), fused=fused)
            told |= {(kernel.key, kernel.registers) for kernel in kernels_of(few, n, m, fused=fused)}
    assert asked == told


@simulated
def test_the_kernels_of_a_layer_with_smoothing_too(asked):
    made = replace(LAYERS["columns1"]((80, 256), "cpu"), smoothing=torch.ones(256))
    placed, x = device_layer(made, "cpu"), torch.zeros(3, 256).half()
    prepare_layer(placed, x, allocate_result(3, 80, x))
    assert asked == {(kernel.key, kernel.registers) for kernel in kernels_of(placed, 80, 3)} and len(asked) == 4


@simulated
def test_the_kernels_of_products_are_those_that_are_launched(asked, monkeypatch):
    (n, k), tokens, recipes = (48, 200), [17, 130], ["int4_g128", "learned4"]
    given = argparse.Namespace(recipes=recipes, shapes=[(n, k)], tokens=tokens, explore=False)
    monkeypatch.setattr("kernels_gpu.bench_gemm.shared_limit", lambda device: native.MAX_SHARED_BYTES)
    told = {(kernel.key, kernel.registers) for kernel in kernels_of_products(given)}
    for recipe in recipes:
        generator = torch.Generator().manual_seed(0)
        weight = from_quantized(quantize_randomly(torch.randn((n, k), generator=generator), RECIPES[recipe]), "cpu")
        prepare_dequantize(weight, torch.zeros(n, k).half())
        for m in tokens if recipe == "int4_g128" else ():
            x = padded_inputs(torch.zeros(m, k).half())
            prepare_gemm(weight, x, allocate_result(m, n, x))
    assert asked == told


def test_only_cuts_cap_the_registers_of_a_step():
    shape = replace(LLAMA_2_7B, hidden=256, intermediate=512, heads=2, key_heads=2)
    step = StepCase(shape, RECIPES["bitmod3_g128"], 1, 256, 8)
    kernels = list(ahead(kernels_of_step(step, torch.float16)))
    assert {kernel.registers for kernel in kernels if not isinstance(kernel.spec, GemvSpec)} == {0}
    assert all(kernel.registers == kernel.spec.registers for kernel in kernels if isinstance(kernel.spec, GemvSpec))
