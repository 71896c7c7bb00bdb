"""MX and NVFP4 rules by hand and from their specifications; bits per weight of the published schemes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from datatypes.block_formats import (
    BITMOD3_G128,
    BITMOD4_G128,
    BLOCK_FORMATS,
    MXFP4,
    MXFP4_CEIL,
    MXFP6_E2M3,
    MXFP6_E3M2,
    MXFP8_E4M3,
    MXFP8_E5M2,
    MXINT8,
    NVFP4,
    mx,
)
from datatypes.catalog import E4M3, FP4
from datatypes.layer_config import ScaleRule
from datatypes.quantize import quantize_tensor

MX_ALL = {"e2m1": MXFP4, "e2m3": MXFP6_E2M3, "e3m2": MXFP6_E3M2, "e4m3": MXFP8_E4M3, "e5m2": MXFP8_E5M2, "int8": MXINT8}
# OCP MX 1.0: exponent of the largest normal value of each element type
EMAX = {"e2m1": 2, "e2m3": 2, "e3m2": 4, "e4m3": 8, "e5m2": 15, "int8": 0}
# worst clipping of a block's largest element, just below a power of two: 1 - maximum / 2**(emax + 1)
WORST_CLIPPING = {"e2m1": 0.25, "e2m3": 0.0625, "e3m2": 0.125, "e4m3": 0.125, "e5m2": 0.125, "int8": 0.0078125}


@pytest.mark.parametrize("name", MX_ALL)
def test_mx_scale_is_the_floor_of_log2(name):
    exponents = np.arange(-40, 41)
    largest = np.exp2(exponents) * 1.37
    x = np.outer(largest, np.linspace(-1, 1, 32)).astype(np.float32)
    scale = quantize_tensor(torch.from_numpy(x), MX_ALL[name]).scale
    assert scale is not None
    assert (scale[:, 0].numpy().astype(int) - 127).tolist() == (exponents - EMAX[name]).tolist()


@pytest.mark.parametrize("name", MX_ALL)
def test_mx_clips_as_much_as_computed_and_ceil_never_does(name):
    config = MX_ALL[name]
    x = torch.zeros((1, 32))
    x[0, 3] = float(np.nextafter(np.float32(2), np.float32(0)))
    clipped = 1 - float(quantize_tensor(x, config).dequantize()[0, 3]) / 2
    assert clipped == pytest.approx(WORST_CLIPPING[name], abs=1e-6)
    generator = torch.Generator().manual_seed(1)
    many = torch.randn((64, 32), generator=generator) * torch.exp2(torch.randint(-20, 20, (64, 1), generator=generator))
    ceil = mx(config.formats[0], rule=ScaleRule.POW2_CEIL)
    made = quantize_tensor(many, ceil)
    scale = made.effective_scale()
    assert scale is not None
    assert (many.abs().amax(1, keepdim=True) <= scale * config.formats[0].absmax).all()
    smaller = many.abs().amax(1, keepdim=True) > scale / 2 * config.formats[0].absmax
    assert smaller.all()  # and half of it would clip


def test_ceil_is_exact_where_the_maximum_fits():
    x = torch.zeros((2, 32))
    x[0, 0], x[1, 0] = 6.0, float(np.nextafter(np.float32(6), np.float32(7)))  # E2M1's maximum, and one step beyond
    assert quantize_tensor(x, MXFP4_CEIL).scale.tolist() == [[127], [128]]


def test_a_nan_scale_makes_the_block_nan():
    made = quantize_tensor(torch.randn(2, 64), MXFP4)
    scale = made.scale.clone()
    scale[1, 0] = 255
    decoded = replace(made, scale=scale).dequantize()
    assert decoded[1, :32].isnan().all() and decoded[1, 32:].isfinite().all() and decoded[0].isfinite().all()


def test_zero_and_vanishing_blocks():
    x = torch.zeros((1, 96))
    x[0, 32], x[0, 64] = 1e-44, 3e38  # a subnormal block and one near the top
    for config in MX_ALL.values():
        made = quantize_tensor(x, config)
        assert made.dequantize().isfinite().all() and (made.dequantize()[0, :32] == 0).all()


def reference_nvfp4(x: np.ndarray) -> np.ndarray:
    """NVFP4 of one tensor written out step by step: s_t = amax / (6 * 448), s_b = E4M3(amax_b / 6 / s_t)."""
    blocks = x.reshape(-1, 16)
    tensor_scale = np.float32(np.float32(np.abs(x).max() / np.float32(6)) / np.float32(448))
    amax = np.abs(blocks).max(1)
    block_scale = E4M3.round((amax / np.float32(6) / tensor_scale).clip(2.0**-9))
    scale = (block_scale * tensor_scale).astype(np.float32)[:, None]
    return (FP4.round(blocks / scale) * scale).reshape(x.shape)


def test_nvfp4_follows_its_two_levels():
    rng = np.random.default_rng(4)
    x = (rng.standard_normal((8, 128)) * np.exp2(rng.integers(-6, 3, (8, 1)))).astype(np.float32)
    x[2, 16:32] = 0  # a zero block
    x[3, :16] *= 1e-6  # a block whose scale would vanish: it gets the smallest scale, 2**-9
    made = quantize_tensor(torch.from_numpy(x), NVFP4)
    np.testing.assert_array_equal(made.dequantize().numpy(), reference_nvfp4(x))
    assert (made.scale[2, 1], made.scale[3, 0]) == (1, 1)
    assert made.outer_scale.shape == (1, 1) and int(made.scale.max()) == 0x7E  # 448


def test_a_zero_block_does_not_move_its_neighbours():
    x = torch.randn((4, 256), generator=torch.Generator().manual_seed(5)) * 1e-3
    alone = quantize_tensor(x, BITMOD4_G128).dequantize()
    with_zeros = torch.cat([x, torch.zeros(4, 128)], dim=1)
    assert torch.equal(quantize_tensor(with_zeros, BITMOD4_G128).dequantize()[:, :256], alone)
    assert torch.equal(quantize_tensor(torch.zeros(4, 256), BITMOD4_G128).dequantize(), torch.zeros(4, 256))


@pytest.mark.parametrize(
    ("config", "bits"),
    [  # MX: code bits + 8 / 32. NVFP4: 4 + 8 / 16 + 32 / all. BitMoD: b + 10 / 128 + 16 / k. GPTQ: b + (16 + b) / 128
        (MXFP4, 4.25),
        (MXFP6_E2M3, 6.25),
        (MXFP6_E3M2, 6.25),
        (MXFP8_E4M3, 8.25),
        (MXFP8_E5M2, 8.25),
        (MXINT8, 8.25),
        (NVFP4, 4.5 + 32 / 4096**2),
        (BITMOD3_G128, 3.078125 + 16 / 4096),
        (BITMOD4_G128, 4.078125 + 16 / 4096),
        (BLOCK_FORMATS["int4_asym_g128_fp16"], 4.15625),
        (BLOCK_FORMATS["nf4_g64_fp32"], 4.5),
    ],
)
def test_bits_per_weight_are_the_published_ones(config, bits):
    assert config.storage_bits((4096, 4096)).bits_per_weight((4096, 4096)) == bits
