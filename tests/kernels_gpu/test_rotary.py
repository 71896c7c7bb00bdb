"""Rotary embedding and the append to the KV cache: equal, code by code, to ``quantize_tensor``."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datatypes.catalog import FP16, INTS_SYMMETRIC
from datatypes.granularity import PerChannel
from datatypes.layer_config import ScaleConfig, TensorConfig
from datatypes.packing import pack_tensor, unpack
from datatypes.quantize import quantize_tensor
from datatypes.rounding import decode
from kernels_gpu import ptx
from kernels_gpu.attention_launch import CacheSide
from kernels_gpu.rotary import RotarySpec, prepare, turned, turns

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")
CONFIGS = {
    bits: TensorConfig((INTS_SYMMETRIC[bits],), PerChannel(), ScaleConfig(FP16), dynamic=True) for bits in (4, 8)
}
POISON = 0x5A5A5A5A


def poisoned_side(bits, shape, device):
    b, heads, capacity, d = shape
    codes = torch.full((b * heads * capacity, d * bits // 32), POISON, dtype=torch.int32, device=device)
    rows = -(-b * heads * capacity // 2) * 2  # whole words
    scale = torch.full((rows,), 7.0, dtype=torch.float16, device=device)
    return CacheSide(CONFIGS[bits], shape, codes, scale)


def run(qkv, heads, shape, bits, lengths, device="cpu"):
    """Queries, and both sides of a poisoned cache after the append."""
    m, _, _, d = shape
    all_turns = turns(64, d, 1e4)
    turn = all_turns[[max(0, n - 1) for n in lengths]].contiguous()
    key, value = poisoned_side(bits[0], shape, device), poisoned_side(bits[1], shape, device)
    queries = torch.full((m, heads, d), float("nan"), dtype=qkv.dtype, device=device)
    counted = torch.tensor(lengths, dtype=torch.int32, device=device)
    prepare(qkv.to(device), turn.to(device), counted, queries, key, value)()
    return queries.cpu(), key, value, turn


def check(heads, shape, bits, lengths, dtype=torch.float16, device="cpu", seed=0):
    m, key_heads, capacity, d = shape
    generator = torch.Generator().manual_seed(seed)
    qkv = torch.randn((m, (heads + 2 * key_heads) * d), generator=generator)
    qkv *= torch.rand((m, 1), generator=generator) * 5 + 0.1
    qkv = qkv.to(dtype)
    qkv[0, heads * d : (heads + 1) * d] = 0  # a key of zeros has scale 1
    queries, key, value, turn = run(qkv, heads, shape, bits, lengths, device)
    by_head = qkv.view(m, heads + 2 * key_heads, d)
    rotated = turned(by_head[:, : heads + key_heads], turn)
    assert torch.equal(queries, rotated[:, :heads].to(dtype))
    for side, rows in ((key, rotated[:, heads:]), (value, by_head[:, heads + key_heads :].float())):
        wanted = quantize_tensor(rows.reshape(-1, d), side.config)
        arrays = pack_tensor(wanted)
        codes = side.codes.cpu().view(m, key_heads, capacity, -1)
        scale = side.scale.cpu()[: m * key_heads * capacity].view(m, key_heads, capacity)
        expected_codes, expected_scale = torch.full_like(codes, POISON), torch.full_like(scale, 7.0)
        for b, n in enumerate(lengths):
            if n:
                expected_codes[b, :, n - 1] = arrays["codes"].view(m, key_heads, -1)[b]
                expected_scale[b, :, n - 1] = arrays["scale"].view(-1)[: m * key_heads].view(m, key_heads)[b]
        assert torch.equal(codes, expected_codes) and torch.equal(scale, expected_scale)


@simulated
@pytest.mark.parametrize(
    ("heads", "shape", "bits", "lengths", "dtype"),
    [
        (1, (1, 1, 4, 128), (8, 8), [3], torch.float16),
        (2, (1, 1, 3, 128), (4, 4), [1], torch.bfloat16),
        (1, (2, 1, 5, 64), (8, 4), [5, 2], torch.float16),
        (1, (1, 2, 4, 64), (4, 8), [4], torch.bfloat16),
        (1, (2, 1, 2, 64), (8, 8), [0, 2], torch.float16),
    ],
    ids=["int8", "int4, grouped queries", "int8 keys, int4 values", "int4 keys, int8 values", "nothing for length 0"],
)
def test_the_cache_is_the_format_s(heads, shape, bits, lengths, dtype):
    check(heads, shape, bits, lengths, dtype)


@simulated
def test_large_and_small_bfloats_saturate_the_scale_as_datatypes_has_it():
    shape, d = (1, 1, 1, 64), 64
    for size in (2.0**-60, 2.0**100):
        qkv = (torch.randn((1, 3 * d), generator=torch.Generator().manual_seed(1)) * size).bfloat16()
        _, _, value, _ = run(qkv, 1, shape, (8, 8), [1])
        wanted = pack_tensor(quantize_tensor(qkv[:, 2 * d :].float(), CONFIGS[8]))
        assert torch.equal(value.codes, wanted["codes"].view_as(value.codes))
        assert value.scale[0] == wanted["scale"].view(-1)[0]


@simulated
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_infinity_make_the_scale_nan(bad):
    qkv = torch.ones((1, 3 * 64)).half()
    qkv[0, 64 + 3] = bad
    _, key, value, _ = run(qkv, 1, (1, 1, 1, 64), (8, 8), [1])
    assert key.scale[0].isnan() and value.scale[0].isfinite()


def test_pairs_turn_as_complex_numbers():
    heads = torch.randn((2, 3, 64), generator=torch.Generator().manual_seed(0))
    positions = np.array([9, 4])
    # RoFormer, section 3.2.2: pair i at position p is multiplied by exp(1j * p * theta**(-2 i / d))
    powers = np.exp(1j * positions[:, None] * 1e4 ** (-np.arange(32) / 32))[:, None]
    wide = heads.double().numpy()
    expected = (wide[..., :32] + 1j * wide[..., 32:]) * powers
    made = turned(heads, turns(10, 64, 1e4)[positions]).double().numpy()
    # cosine and sine, two products and a sum, each rounded to float32
    assert np.abs(made - np.concatenate([expected.real, expected.imag], axis=2)).max() < 4 * 2.0**-24 * wide.max() * 2


def test_a_packed_row_is_read_back():
    """The layout that the kernel writes is that of ``datatypes.packing``: nibbles and bytes in order."""
    codes = torch.arange(64, dtype=torch.int32)[None] % 16
    words = codes.view(1, -1, 8) << torch.arange(0, 32, 4, dtype=torch.int32)
    assert torch.equal(unpack(words.sum(2).to(torch.int32), 4, 64)[0].int(), codes[0])
    assert decode(torch.tensor([0xF], dtype=torch.uint8), INTS_SYMMETRIC[4]).item() == -1


def test_wrong_arguments_are_one_sentence():
    shape = (1, 1, 4, 64)
    side = poisoned_side(8, shape, "cpu")
    qkv, queries = torch.zeros(1, 192).half(), torch.zeros(1, 1, 64).half()
    turn, lengths = turns(1, 64, 1e4), torch.ones(1, dtype=torch.int32)
    with pytest.raises(TypeError, match="turns and lengths must be float32 and int32, not torch.float64 and"):
        prepare(qkv, turn.double(), lengths, queries, side, side)
    with pytest.raises(ValueError, match=r"must fit queries \[1, 1, 64\], not be \[1, 128\]"):
        prepare(qkv[:, :128].contiguous(), turn, lengths, queries, side, side)
    huge = SimpleNamespace(shape=shape, codes=SimpleNamespace(nbytes=1 << 33))
    with pytest.raises(
        NotImplementedError, match="16-bit words of a cache must be fewer than 4294967296, not 4294967296"
    ):
        prepare(qkv, turn, lengths, queries, huge, huge)
    with pytest.raises(NotImplementedError, match="head_dim of the rotary kernel must be 64 or 128, not 96"):
        RotarySpec(96, 1, 1, 8, 8, 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("bits", [(8, 8), (4, 4), (8, 4)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_on_a_device(bits, dtype):
    check(32, (3, 32, 50, 128), bits, [50, 1, 0], dtype, "cuda")
    check(8, (16, 2, 9, 64), bits, list(range(9)) + [9] * 7, dtype, "cuda")
