"""Floats of four bits, and NF4, in the tile kernel: every code with every scale, bit for bit, and whole products."""

import numpy as np
import pytest
import torch

from datatypes.catalog import BNB_FP4, E8M0, FP4, FP16, MINIFLOATS, NF4, UE4M3, UINT8
from datatypes.granularity import PerGroup
from datatypes.layer_config import ScaleConfig, TensorConfig
from kernels_gpu import gemm_signed, ptx
from kernels_gpu.gemm_halves import half_block, half_table
from kernels_gpu.gemm_launch import padded_inputs, prepare_gemm
from kernels_gpu.gemm_signed import magnitudes, make_factors, powers_of
from kernels_gpu.gemv_launch import allocate_result, from_quantized
from kernels_gpu.gemv_plan import LARGEST_TWO_DIGITS, plan_of
from kernels_gpu.gemv_recipes import RECIPES, quantize_randomly

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")
WORDS = tuple(np.uint32(word) for word in (0x76543210, 0xFEDCBA98) * 2)  # all codes, in both halves of a block
E2M1 = np.array(FP4.code_values)
SIGNED = [name for name in RECIPES if name.startswith(("fp4", "mxfp4", "nvfp4"))]


def plan_with(scale, group, fmt=FP4):
    return plan_of(TensorConfig((fmt,), PerGroup(group), ScaleConfig(scale)))


def blocks_of(plan, scales):
    """Halves of a block of all codes, twice, for each pair of arguments."""
    factors, words, made = make_factors(plan), gemm_signed.signed_words(plan), []
    for scale in scales:
        (f, t), (s, u) = factors(*map(np.uint32, scale))
        made.append(gemm_signed.signed_block(WORDS, f, words[2:] if t else words[:2], s, words[2:] if u else words[:2]))
    return np.array(made, np.uint32).view(np.float16).reshape(len(scales), 2, 16)


def assert_same(made, expected):
    """Bit for bit, but for NaN, and the sign of zero."""
    with np.errstate(over="ignore"):
        expected = np.asarray(expected, np.float64).astype(np.float16)
    assert np.array_equal(made, expected, equal_nan=True)


@simulated
@pytest.mark.parametrize("group", [16, 32])
def test_products_with_all_e4m3_scales_are_exact(group):
    codes = np.arange(256)
    values = np.array([*UE4M3.code_values[:128]] * 2)  # the sign's bit is not looked at
    if group == 16:  # two different scales in a block
        made = blocks_of(plan_with(UE4M3, 16), [(code | (code * 7 + 1 & 0xFF) << 8, 0) for code in codes])
        scales = np.stack([values, values[codes * 7 + 1 & 0xFF]], 1)
    else:
        made = blocks_of(plan_with(UE4M3, 32), [(code, 0) for code in codes])
        scales = np.stack([values, values], 1)
    exact = scales[:, :, None] * E2M1
    finite = np.isfinite(scales)
    assert (made[finite].astype(np.float64) == exact[finite]).all()
    assert np.isnan(made[~finite]).all() and (~finite).sum() == 4
    assert np.abs(exact[finite]).max() == 2688


@simulated
@pytest.mark.parametrize("name", ["e2m1", "e3m0", "e1m2"])
def test_products_with_all_e8m0_scales_round_once(name):
    fmt = MINIFLOATS[name]
    plan = plan_with(E8M0, 32, fmt)
    assert magnitudes(plan) == tuple(fmt.code_values[:8])
    made = blocks_of(plan, [(code, 0) for code in range(256)])
    powers = np.append(2.0 ** (np.arange(255) - 127.0), np.nan)
    assert_same(made, np.broadcast_to(powers[:, None, None] * np.array(fmt.code_values), made.shape))
    two = blocks_of(plan_with(E8M0, 16, fmt), [(code | (255 - code) << 8, 0) for code in range(256)])
    assert np.array_equal(two[:, 0], made[:, 0], equal_nan=True)
    assert np.array_equal(two[:, 1], made[::-1, 0], equal_nan=True)


@simulated
def test_products_with_halves_and_integers_round_once():
    bits = np.random.default_rng(0).integers(0, 1 << 16, 300)
    scales = bits.astype(np.uint16).view(np.float16).astype(np.float64)
    with np.errstate(invalid="ignore"):
        wanted = scales[:, None, None] * E2M1
    assert_same(blocks_of(plan_with(FP16, 64), [(b, 0) for b in bits]), np.broadcast_to(wanted, (300, 2, 16)))
    pairs = blocks_of(plan_with(FP16, 16), list(zip(bits, bits[::-1], strict=True)))
    assert_same(pairs[:, 0], wanted[:, 0])
    assert_same(pairs[:, 1], wanted[::-1, 0])
    integers = blocks_of(plan_with(UINT8, 32), [(b, 0) for b in range(256)])
    assert_same(integers, np.broadcast_to(np.arange(256.0)[:, None, None] * E2M1, integers.shape))


def test_which_encodings_have_signs_and_magnitudes():
    assert [name for name in RECIPES if magnitudes(plan_of(RECIPES[name])) is not None] == SIGNED
    assert powers_of((0.0, 0.25, 16.0)) == (3, -5)
    with pytest.raises(ValueError, match="magnitudes must be bytes of halves"):
        gemm_signed.magnitude_words((1.001, 0.0), 0)


@simulated
@pytest.mark.parametrize(("recipe", "k"), [*((recipe, 96) for recipe in SIGNED), ("nvfp4", 272)])  # half a block more
def test_products_with_unit_inputs_are_the_decoded_weight(recipe, k):
    generator = torch.Generator().manual_seed(k)
    tensor = quantize_randomly(torch.randn((5, k), generator=generator), RECIPES[recipe])
    if tensor.outer_scale is not None:
        tensor.outer_scale.fill_(2.0**-9)  # results are then exact
    chosen = torch.tensor([0, 1, 17, 31, 32, k - 16, k - 2, k - 1])
    x = torch.zeros((8, k), dtype=torch.float16)
    x[torch.arange(8), chosen] = 1
    out = allocate_result(8, 5, x).fill_(float("nan"))
    prepare_gemm(from_quantized(tensor, "cpu"), padded_inputs(x), out, cut=(1, 1, 1, 2))()
    assert torch.equal(out, tensor.dequantize().half().T[chosen])


@simulated
@pytest.mark.parametrize("fmt", [NF4, BNB_FP4])
@pytest.mark.parametrize("group", [16, 64])
def test_values_of_two_digits_are_rounded_twice(fmt, group):
    plan = plan_with(FP16, group, fmt)
    table, factors, made = half_table(plan), make_factors(plan), []
    bits = np.random.default_rng(1).uniform(2.0**-12, 2.0**5, 100).astype(np.float16).view(np.uint16)
    for b, other in zip(bits, bits[::-1], strict=True):
        (f, _), (s, _) = factors(np.uint32(b), np.uint32(other))
        made.append(half_block(WORDS, f, s, table.low + table.high))
    halves = np.array(made, np.uint32).view(np.float16).reshape(-1, 2, 16).astype(np.float64) * table.factor
    scales = np.stack([bits, bits[::-1] if group == 16 else bits], 1).view(np.float16).astype(np.float64)
    exact = scales[:, :, None] * np.array(fmt.code_values)
    # two roundings of 11 bits, and one to two digits; u times the scale and the result below the smallest normal half
    allowed = np.abs(exact) * (2.0**-10 + 2.0**-16) + scales[:, :, None] * 0.5 / LARGEST_TWO_DIGITS
    assert (np.abs(halves - exact) <= allowed + abs(table.factor) * 2.0**-24).all()
    assert (halves[exact == 0] == 0).all()


@simulated
def test_a_nan_scale_of_sixteen_weights_spoils_its_row():
    tensor = quantize_randomly(torch.randn((9, 64), generator=torch.Generator().manual_seed(0)), RECIPES["nvfp4"])
    tensor.scale[5, 3] = 0x7F
    x = torch.ones((3, 64), dtype=torch.float16)
    out = allocate_result(3, 9, x).fill_(0)
    prepare_gemm(from_quantized(tensor, "cpu"), x, out, cut=(1, 1, 1, 2))()
    assert out.isnan().nonzero().tolist() == [[token, 5] for token in range(3)]
