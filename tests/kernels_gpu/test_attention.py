"""The decode attention in the simulator (and, marked gpu, on a device) against float64 softmax and products."""

import numpy as np
import pytest
import torch

from datatypes.catalog import FP16, FP32, INTS_SYMMETRIC, NF4, UINTS
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import ScaleConfig, TensorConfig
from datatypes.quantize import quantize_tensor
from kernels_gpu import ptx
from kernels_gpu.attention_launch import CacheSide, cache_side, choose_splits, decode_attention, prepare
from kernels_gpu.attention_reference import attend, tolerance
from kernels_gpu.attention_spec import AttentionSpec, cache_format
from kernels_gpu.gemv_reference import HALF_STEP

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")
CONFIGS = {
    bits: TensorConfig((INTS_SYMMETRIC[bits],), PerChannel(), ScaleConfig(FP16), dynamic=True) for bits in (4, 8)
}


def quantized_side(bits, shape, seed):
    """Random rows of different magnitudes: the quantized matrix and its values."""
    b, heads, capacity, d = shape
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn((b * heads * capacity, d), generator=generator)
    rows *= torch.rand((len(rows), 1), generator=generator) + 0.2
    return quantize_tensor(rows, CONFIGS[bits])


def check(shape, group, lengths, bits=(8, 8), splits=None, warps=4, dtype=torch.float16, device="cpu"):
    """Run on poisoned results and partial ones; every element must be within its tolerance."""
    b, heads, _, d = shape
    key, value = quantized_side(bits[0], shape, 1), quantized_side(bits[1], shape, 2)
    query = torch.randn((b, heads * group, d), generator=torch.Generator().manual_seed(3)).to(dtype)
    out = torch.full_like(query, float("nan")).to(device)
    counted = torch.tensor(lengths, dtype=torch.int32)
    sides = cache_side(key, shape, device), cache_side(value, shape, device)
    launches = prepare(query.to(device), *sides, counted.to(device), out, splits=splits, warps=warps)
    launches[0].arguments[6].fill_(float("nan"))
    for launch in launches:
        launch()
    dense = [t.dequantize().float().numpy().reshape(shape) for t in (key, value)]
    scales = value.scale.float().numpy().reshape(shape[:3])
    given = {"lengths": np.array(lengths), "scale": d**-0.5}
    expected, _ = attend(query.float().numpy(), *dense, **given)
    allowed = tolerance(
        query.float().numpy(), *dense, scales, **given, parts=4 * (splits or 64), half_step=HALF_STEP[dtype]
    )
    error = np.abs(out.double().cpu().numpy() - expected)
    assert (error <= allowed).all(), (error / allowed).max()
    assert (allowed < 0.1 * np.abs(expected).mean()).all()  # a wrong code, scale or token would be seen


@simulated
@pytest.mark.parametrize(
    ("shape", "group", "lengths", "bits", "splits", "warps"),
    [
        ((1, 1, 40, 128), 1, [37], (8, 8), 1, 2),
        ((1, 1, 70, 64), 5, [70], (4, 4), 2, 1),
        ((1, 1, 20, 128), 2, [20], (4, 8), 1, 1),
        ((1, 1, 20, 64), 1, [20], (8, 4), 1, 1),
    ],
    ids=["int8 ragged", "int4, two tiles of queries, split", "int4 keys, int8 values", "int8 keys, int4 values"],
)
def test_every_encoding(shape, group, lengths, bits, splits, warps):
    check(shape, group, lengths, bits, splits, warps)


@simulated
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))])
def test_drawn_shapes(seed):
    draw = np.random.default_rng(seed)
    b, heads, capacity = int(draw.integers(1, 3)), int(draw.integers(1, 3)), int(draw.integers(1, 90))
    lengths = draw.integers(1, capacity + 1, b).tolist()
    bits = [(8, 8), (4, 4), (4, 8), (8, 4)][seed % 4]
    dtype = (torch.float16, torch.bfloat16)[seed // 4 % 2]
    shape, splits, warps = (b, heads, capacity, (64, 128)[seed % 2]), int(draw.integers(1, 4)), int(draw.integers(1, 3))
    check(shape, int(draw.integers(1, 9)), lengths, bits, splits, warps, dtype)


@simulated
def test_a_nan_scale_spoils_its_head_unless_its_token_does_not_count_and_no_tokens_give_zeros():
    shape = (3, 1, 8, 64)
    key, value = quantized_side(8, shape, 1), quantized_side(8, shape, 2)
    key.scale[3] = float("nan")  # token 3 of sequence 0
    value.scale[8 + 6] = float("nan")  # token 6 of sequence 1, which has 5 tokens
    query = torch.randn((3, 1, 64), generator=torch.Generator().manual_seed(3)).half()
    counted = torch.tensor([8, 5, 0], dtype=torch.int32)
    made = decode_attention(query, cache_side(key, shape, "cpu"), cache_side(value, shape, "cpu"), counted)
    assert made[0].isnan().all() and made[1].isfinite().all() and (made[1] != 0).any() and (made[2] == 0).all()


@simulated
def test_a_cache_without_room_gives_zeros():
    shape = (2, 1, 0, 64)
    side = CacheSide(CONFIGS[8], shape, torch.zeros((0, 16), dtype=torch.int32), torch.zeros(0).half())
    made = decode_attention(torch.ones(2, 1, 64).half(), side, side, torch.zeros(2, dtype=torch.int32))
    assert made.shape == (2, 1, 64) and not made.any()


def test_the_reference_is_the_softmax_of_torch():
    generator = torch.Generator().manual_seed(0)
    query, keys, values = (
        torch.randn(s, generator=generator).double() for s in ((2, 6, 8), (2, 3, 9, 8), (2, 3, 9, 8))
    )
    made, weights = attend(query.numpy(), keys.numpy(), values.numpy(), lengths=np.array([9, 4]), scale=0.3)
    for b, length in ((0, 9), (1, 4)):
        expected = torch.nn.functional.scaled_dot_product_attention(
            query[b][:, None], keys[b, :, :length], values[b, :, :length], scale=0.3, enable_gqa=True
        )
        assert np.allclose(made[b], expected[:, 0].numpy(), rtol=1e-12)
    assert np.allclose(weights.sum(2), 1) and (weights[1, :, 4:] == 0).all()


def test_splits_fill_the_device_and_leave_each_warp_two_steps():
    assert choose_splits(8, 1 << 17, 400, warps=8) == 50  # 8 * 50 = 400 blocks
    assert choose_splits(8, 2048, 400, warps=8) == 4  # 2048 tokens: four blocks of eight warps of two steps of 32
    assert choose_splits(1000, 1 << 17, 400, warps=8) == 1


REFUSED = {
    "codebook": TensorConfig((NF4,), PerChannel()),
    "unsigned": TensorConfig((UINTS[4],), PerChannel(), zero_point=UINTS[4]),
    "groups": TensorConfig((INTS_SYMMETRIC[4],), PerGroup(32)),
    "float32 scales": TensorConfig((INTS_SYMMETRIC[4],), PerChannel(), ScaleConfig(FP32)),
    "six bits": TensorConfig((INTS_SYMMETRIC[6],), PerChannel()),
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_what_has_no_kernel_is_refused(what):
    with pytest.raises(
        NotImplementedError, match="a KV cache of the attention kernel must be of signed integers of 4 or"
    ):
        cache_format(REFUSED[what])


def test_wrong_shapes_are_one_sentence():
    shape = (1, 2, 8, 64)
    side = cache_side(quantized_side(8, shape, 1), shape, "cpu")
    counted = torch.tensor([8], dtype=torch.int32)
    with pytest.raises(TypeError, match=r"query and lengths must be .*, not torch.float32 and torch.int32"):
        decode_attention(torch.zeros(1, 2, 64), side, side, counted)
    with pytest.raises(
        ValueError, match=r"query must be a contiguous \[1, multiple of 2, 64\], not of shape \[1, 3, 64\]"
    ):
        decode_attention(torch.zeros(1, 3, 64).half(), side, side, counted)
    none = CacheSide(side.config, (1, 0, 8, 64), side.codes[:0], side.scale[:0])
    with pytest.raises(ValueError, match=r"query must be a contiguous \[1, multiple of 0, 64\]"):
        decode_attention(torch.zeros(1, 2, 64).half(), none, none, counted)
    with pytest.raises(ValueError, match=r"lengths must be 0 to the capacity 8, not \[9\]"):
        decode_attention(torch.zeros(1, 2, 64).half(), side, side, counted + 1)
    with pytest.raises(ValueError, match="codes and scale of a cache .* must take 1024 bytes and 16 float16, not 512"):
        CacheSide(side.config, shape, side.codes[:8], side.scale)
    with pytest.raises(NotImplementedError, match="query heads of a key head must be 1 to 8, not 9"):
        AttentionSpec(64, 1, 9, 8, 8, 1.0, 1.0, 1.0, 4, False)
    with pytest.raises(NotImplementedError, match="head_dim of the attention kernel must be 64 or 128, not 80"):
        AttentionSpec(80, 1, 1, 8, 8, 1.0, 1.0, 1.0, 4, False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("bits", [(8, 8), (4, 4), (4, 8), (8, 4)])
@pytest.mark.parametrize("group", [1, 3, 4, 8])
def test_on_a_device(bits, group):
    for d, dtype in ((128, torch.float16), (64, torch.bfloat16)):
        check((3, 2, 1000, d), group, [1000, 517, 1], bits, None, 4, dtype, "cuda")
        check((2, 1, 300, d), group, [300, 33], bits, 1, 4, dtype, "cuda")
        check((2, 2, 4100, d), group, [4100, 100], bits, 7, 8, dtype, "cuda")
