"""One token whose lanes have groups of 32 or 16 inputs: scales from words, sums, ragged rows, and NaN."""

import numpy as np
import pytest
import torch

from datatypes.catalog import BITMOD_FP4, E8M0, FP4, FP16, INTS_SYMMETRIC, UE4M3, UINT8, UINTS
from datatypes.granularity import PerGroup
from datatypes.layer_config import ScaleConfig, ScaleRule, TensorConfig
from hwmodel.gpu_gemv_cut import GemvCut
from kernels_gpu import ptx
from kernels_gpu.gemv_launch import allocate_result, from_quantized, prepare, spec_of
from kernels_gpu.gemv_plan import ScaleKind, plan_of
from kernels_gpu.gemv_recipes import RECIPES, quantize_randomly
from kernels_gpu.gemv_short_groups import UE4M3_AS_HALF, in_words, make_byte_of_word, make_holds_nan
from tests.kernels_gpu.test_gemv import check

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")
slow = pytest.mark.slow  # NUMBA_ENABLE_CUDASIM=1 pytest -m slow tests/kernels_gpu
GATHERED, BY_RUNS = GemvCut(1, 4, 1), GemvCut(1, 2, 1)
CONFIGS = {
    **{name: RECIPES[name] for name in ("mxfp4", "nvfp4", "mxfp6")},
    "fp4_g32_fp16": TensorConfig((FP4,), PerGroup(32), ScaleConfig(FP16)),
    "fp4_g16_uint8": TensorConfig((FP4,), PerGroup(16), ScaleConfig(UINT8)),
    "int3_g32": TensorConfig((INTS_SYMMETRIC[3],), PerGroup(32), ScaleConfig(UINT8, outer=FP16)),
    "uint4_g16": TensorConfig((UINTS[4],), PerGroup(16), ScaleConfig(FP16, rule=ScaleRule.RANGE), zero_point=UINTS[4]),
    "bitmod4_g16": TensorConfig(BITMOD_FP4, PerGroup(16), ScaleConfig(FP16)),
    "bitmod4_g32": TensorConfig(BITMOD_FP4, PerGroup(32), ScaleConfig(UINT8, outer=FP16)),
}
FORMATS = {ScaleKind.E8M0: E8M0, ScaleKind.UE4M3: UE4M3, ScaleKind.UINT8: UINT8}


def check_random(config, n, k, cut, tokens=1):
    generator = torch.Generator().manual_seed(k)
    tensor = quantize_randomly(torch.randn((n, k), generator=generator), config)
    x = torch.randn((tokens, k), generator=generator).half()
    check(tensor, x, cut)


@simulated
@pytest.mark.parametrize(
    ("name", "k"),
    [
        ("mxfp4", 640), ("nvfp4", 640), ("nvfp4", 72),  # a second stage of one run; scales one by one
        ("bitmod4_g16", 136),  # mixtures go by runs
        *(pytest.param(name, k, marks=slow) for name in CONFIGS for k in (128, 332, 640)),
    ],
)  # fmt: skip
def test_products_are_those_of_decoded_weights(name, k):
    check_random(CONFIGS[name], 18, k, GATHERED)


@simulated
@pytest.mark.parametrize("name", ["bitmod4_g16", pytest.param("bitmod4_g32", marks=slow)])
@pytest.mark.parametrize("tokens", [1, 2])
def test_halves_of_a_block_have_candidates_of_their_own(name, tokens):
    check_random(CONFIGS[name], 9, 72, BY_RUNS, tokens)


@simulated
@pytest.mark.parametrize("kind", FORMATS)
def test_every_byte_of_a_word_is_its_scale_or_is_found_to_be_nan(kind):
    values = np.asarray(FORMATS[kind].code_values, np.float64)
    values = values[:128] if kind is ScaleKind.UE4M3 else values  # it has no sign: the top bit is not looked at
    factor = UE4M3_AS_HALF if kind is ScaleKind.UE4M3 else 1.0
    scales, holds_nan = [make_byte_of_word(kind, index) for index in range(4)], make_holds_nan(kind)
    for code in range(len(values)):
        for index, scale in enumerate(scales):
            word = np.uint32(code << 8 * index | 0x5A5A5A5A & ~(0xFF << 8 * index))
            assert bool(holds_nan(word)) == bool(np.isnan(values[code]))
            if not np.isnan(values[code]):
                assert float(scale(word)) * factor == values[code]


@simulated
@pytest.mark.parametrize(("name", "nan"), [("mxfp4", 0xFF), ("nvfp4", 0x7F)])  # as stored
@pytest.mark.parametrize("place", [(3, 5), (12, -1)])
def test_a_nan_scale_spoils_its_row_alone(name, nan, place):
    config, (n, k) = CONFIGS[name], (16, 640)
    tensor = quantize_randomly(torch.randn((n, k), generator=torch.Generator().manual_seed(1)), config)
    tensor.scale[place] = nan
    x = torch.randn((1, k), generator=torch.Generator().manual_seed(2)).half()
    out = allocate_result(1, n, x).fill_(0)
    prepare(from_quantized(tensor, "cpu"), x, out, shape=GATHERED)()
    assert torch.equal(out.isnan()[0], torch.arange(n) == place[0])


def test_scales_are_words_where_a_lane_s_inputs_are_whole_groups():
    specs = {
        (name, k): spec_of(plan_of(CONFIGS[name]), 1, (64, k), GATHERED)
        for name in ("mxfp4", "nvfp4", "fp4_g32_fp16", "bitmod4_g32")
        for k in (512, 640, 332)
    }
    assert all(spec.gathered == (name != "bitmod4_g32") for (name, _), spec in specs.items())
    found = {key for key, spec in specs.items() if spec.gathered and in_words(spec)}
    assert found == {(name, k) for name in ("mxfp4", "nvfp4") for k in (512, 640)}
