"""Matrices joined by rows, and what each kind of weight says of itself."""

import pytest
import torch

from datatypes.packing import pack_tensor
from kernels_gpu.decode_weights import HalfWeight, OwnWeight, TinygemmWeight, joined, weight_of
from kernels_gpu.gemv_launch import from_quantized
from kernels_gpu.gemv_recipes import RECIPES, quantize_randomly


def parts_of(name, rows=(5, 3, 4), k=160):
    generator = torch.Generator().manual_seed(0)
    return [quantize_randomly(torch.randn((n, k), generator=generator), RECIPES[name]) for n in rows]


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "nvfp4"])
def test_joined_matrices_decode_to_their_rows(name):
    parts = parts_of(name)
    made = joined(parts)
    assert made.shape == (12, 160)
    assert torch.equal(made.dequantize(), torch.cat([part.dequantize() for part in parts]))
    # and pack and unpack as any matrix does
    assert torch.equal(OwnWeight(from_quantized(made, "cpu")).dense(), made.dequantize())
    assert made.config == parts[0].config and pack_tensor(made)


def test_what_cannot_be_joined_is_one_sentence():
    with pytest.raises(NotImplementedError, match=r"must have rows of their own alone, not \['outer_scale'\]"):
        joined(parts_of("nvfp4"))
    with pytest.raises(
        ValueError, match=r"must have one encoding and 160 inputs, not \[\('int4_sym', 160\), \('int8_sym"
    ):
        joined([*parts_of("int4_g128", (2,)), *parts_of("int8", (2,))])
    with pytest.raises(ValueError, match="and 160 inputs, not"):
        joined([*parts_of("int8", (2,)), *parts_of("int8", (2,), 128)])


def test_weights_say_what_they_are():
    dense = torch.randn((8, 64), generator=torch.Generator().manual_seed(0)).half()
    half = weight_of(dense, None)
    assert isinstance(half, HalfWeight) and torch.equal(half.dense(), dense.float())
    assert (half.nbytes, half.own, half.late, half.plan) == (1024, False, False, None)
    own = weight_of(dense, RECIPES["int8"])
    assert own.own and not own.late and own.plan.bits == 8 and own.nbytes == 8 * 64 + 8 * 2
    assert (own.dense() - dense.float()).abs().max() <= dense.float().abs().max() / 127  # half a step, and the scale's
    other = TinygemmWeight(torch.zeros(4, dtype=torch.int32), torch.zeros(2).bfloat16())
    assert other.late and not other.own and other.dense() is None and other.nbytes == 20
