"""The compiled kernels against the torch code: the same bits in every array, for every config that has a kernel."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from datatypes import quantize, quantize_cpu, tensor
from datatypes.block_formats import BLOCK_FORMATS, mx
from datatypes.catalog import BITMOD_FP4, BNB_FP4, FLINT4, FORMATS, FP4_ER, FP16, FP32, MINIFLOATS, POT3, UINTS, bitmod
from datatypes.granularity import PerBlock, PerChannel, PerGroup
from datatypes.layer_config import ScaleConfig, ScaleRule, TensorConfig
from datatypes.quantize import quantize_tensor
from datatypes.tensor import QuantizedTensor

T = TypeVar("T")
REAL_OFFSET = TensorConfig((UINTS[4],), PerGroup(32), ScaleConfig(FP16, ScaleRule.RANGE), zero_point=FP16)
MORE = {
    "real_offset_g32": REAL_OFFSET,
    "fp4_er_g100": TensorConfig(FP4_ER, PerGroup(100)),
    "fp3_channel": TensorConfig((bitmod(3, 6.0),), PerChannel()),
    "odd_specials_g64": TensorConfig((bitmod(4, 5.0), bitmod(4, -8.0), bitmod(4, 7.0)), PerGroup(64)),
    "mixed_codebooks": TensorConfig((FLINT4, BNB_FP4, FORMATS["int4"]), PerGroup(64), ScaleConfig(FP32)),
    "pot3_mx": TensorConfig((POT3,), PerBlock(1, 16), ScaleConfig(FORMATS["e8m0"], ScaleRule.POW2_CEIL)),
    "shared_selector": TensorConfig(BITMOD_FP4, PerGroup(32), selector=PerGroup(128)),
    "int8_range_two_levels": TensorConfig(
        (UINTS[8],), PerGroup(64), ScaleConfig(UINTS[8], ScaleRule.RANGE, outer=FP32), zero_point=UINTS[8]
    ),
    "lqer_mxint4": TensorConfig(
        (FORMATS["int4_sym"],), PerGroup(16), ScaleConfig(FORMATS["e8m0"], ScaleRule.LQER_CEIL)
    ),
    **{f"mx_{name}": mx(fmt) for name, fmt in MINIFLOATS.items() if fmt.bits in (3, 4, 8)},
}
CONFIGS = {name: config for name, config in (BLOCK_FORMATS | MORE).items() if quantize_cpu.supports(config)}


def without_kernels(run: Callable[[], T], monkeypatch: pytest.MonkeyPatch) -> T:
    """``run()`` with the plain torch code alone."""
    with monkeypatch.context() as patch:
        patch.setattr(quantize, "_is_fast", lambda x, config: False)
        patch.setattr(tensor.QuantizedTensor, "_decoded_rows", lambda self: None)
        return run()


def matrices() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(11)
    plain = torch.randn((6, 384), generator=generator)
    holes = plain[:4].clone()
    holes[0], holes[1, :128], holes[2, 1::2], holes[3] = 0, 0, 0, -0.0
    constant = torch.full((3, 384), 0.7)
    constant[1], constant[2, :100] = -0.7, 0.3
    powers = torch.exp2(torch.randint(-30, 30, (3, 384), generator=generator).float())
    powers *= torch.randn((3, 384), generator=generator).sign()
    grid = torch.tensor([-6.0, -5.5, -4.5, -2.5, -0.25, 0.0, 0.25, 0.75, 1.25, 2.5, 4.5, 5.5, 7.0, 8.0, -8.0, 5.0])
    midpoints, one_sided = grid.repeat(2, 24), plain[:2].abs() + 0.1
    return {
        "ordinary": torch.cat([plain, plain**5, holes, constant, powers, midpoints, one_sided, -one_sided]),
        "ragged": torch.randn((3, 333), generator=generator),
        "one element": torch.tensor([[0.3]]),
        "huge": (plain * 1e38).clamp(-3e38, 3e38),
        "tiny": torch.cat([plain * 1e-38, plain * 1e-44]),
    }


def check_every_bit(config: TensorConfig, clip: tuple[float, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, x in matrices().items():
        fast = quantize_tensor(x, config, clip=clip)
        slow = without_kernels(lambda x=x: quantize_tensor(x, config, clip=clip), monkeypatch)
        for f in fields(QuantizedTensor):
            left, right = getattr(fast, f.name), getattr(slow, f.name)
            if isinstance(right, Tensor):
                assert left.dtype == right.dtype, (kind, f.name)
                assert torch.equal(left, right), (kind, f.name)
        decoded, expected = fast.dequantize(), without_kernels(slow.dequantize, monkeypatch)
        assert torch.equal(decoded.view(torch.int32), expected.view(torch.int32)), kind


@pytest.mark.parametrize("name", CONFIGS)
def test_kernels_and_torch_agree_in_every_bit_of_a_clip_search(name, monkeypatch):
    check_every_bit(CONFIGS[name], (1.0, 0.85), monkeypatch)


@pytest.mark.parametrize("name", [name for name in CONFIGS if not name.startswith("mx_")])
def test_kernels_and_torch_agree_in_every_bit(name, monkeypatch):
    check_every_bit(CONFIGS[name], (1.0,), monkeypatch)


def test_rows_are_shared_among_threads_without_changing_a_bit(monkeypatch):
    config, x = (
        BLOCK_FORMATS["bitmod4_g128_uint8"],
        torch.randn((1700, 512), generator=torch.Generator().manual_seed(12)),
    )
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    many = quantize_tensor(x, config)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    one = quantize_tensor(x, config)
    assert torch.equal(many.codes, one.codes) and torch.equal(many.selector, one.selector)
    assert torch.equal(many.dequantize(), one.dequantize())


def test_the_published_families_have_kernels():
    missing = {name for name, config in BLOCK_FORMATS.items() if not quantize_cpu.supports(config)}
    assert missing == {
        "int8_tensor_fp16",  # one tile spans rows
        "int8_input_channel_fp16",
        "fp8_e4m3_tensor_fp32",
        "olive4_channel_fp16",  # pairs
        "binary_channel_fp16",  # mean magnitudes
        "ternary_tensor_fp16",
    }


def test_a_weight_that_is_trained_or_strided_is_quantized_alike():
    config, x = BLOCK_FORMATS["bitmod4_g128_fp16"], torch.randn((8, 256))
    expected = quantize_tensor(x, config).codes
    assert torch.equal(quantize_tensor(x.clone().requires_grad_(), config).codes, expected)
    assert torch.equal(quantize_tensor(x.T.contiguous().T, config).codes, expected)
    assert torch.equal(quantize_tensor(x.double(), config).codes, expected)


def test_shared_grids_are_recognised_only_where_they_are():
    assert quantize_cpu._shared_grid(BITMOD_FP4) is not None
    assert quantize_cpu._shared_grid((FLINT4, BNB_FP4)) is None
    moved = replace(BITMOD_FP4[0], values=(0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 7.0, *BITMOD_FP4[0].values[8:]))
    assert quantize_cpu._shared_grid((BITMOD_FP4[0], moved)) is None
