"""Slots: which matrices of a model can be quantized, and under what names."""

import pytest
import torch
from torch import nn

from codesign.models import resolve_model
from codesign.weight_slots import slot_by_name, weight_slots


def test_llama_has_seven_linears_a_block_and_a_head(tiny_llama_dir):
    names = [slot.name for slot in weight_slots(resolve_model(tiny_llama_dir).skeleton())]
    block = [f"self_attn.{x}_proj" for x in "qkvo"] + [f"mlp.{x}_proj" for x in ("gate", "up", "down")]
    assert names == [f"model.layers.{i}.{name}" for i in range(2) for name in block] + ["lm_head"]


def test_conv1d_is_read_and_written_as_out_by_in(tiny_gpt2_dir):
    model = resolve_model(tiny_gpt2_dir).load()
    slot = slot_by_name(model, "transformer.h.1.attn.c_attn")
    assert slot.shape == (192, 64)  # fused q, k and v of hidden 64
    assert torch.equal(slot.matrix(), slot.module.weight.T)
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(192, 64, generator=torch.Generator().manual_seed(1))
    slot.set_matrix(weight)
    torch.testing.assert_close(slot.module(x), x @ weight.T + slot.bias)


def test_fused_experts_are_one_tall_matrix(tiny_moe_dir):
    model = resolve_model(tiny_moe_dir).load()
    slot = slot_by_name(model, "model.layers.0.mlp.experts.gate_up_proj")
    assert slot.experts == 4 and slot.shape == (4 * 2 * 96, 64)
    assert torch.equal(slot.matrix()[192:384], slot.stored[1])  # rows of expert 1
    doubled = slot.matrix() * 2
    slot.set_matrix(doubled)
    assert slot.stored.shape == (4, 192, 64) and torch.equal(slot.matrix(), doubled)


def test_transposed_experts_come_back_as_they_were():
    class Experts(nn.Module):
        is_transposed = True

        def __init__(self):
            super().__init__()
            self.num_experts = 2
            self.up = nn.Parameter(torch.arange(24.0).reshape(2, 3, 4))  # [experts, k, n]
            self.up_bias = nn.Parameter(torch.zeros(2, 4))

    experts = Experts()
    (slot,) = weight_slots(experts, "mlp")
    assert slot.name == "mlp.up" and slot.shape == (8, 3)
    assert slot.matrix()[4].tolist() == [12.0, 16.0, 20.0]  # first output of expert 1: its first column
    before = experts.up.detach().clone()
    slot.set_matrix(slot.matrix().clone())
    assert torch.equal(experts.up, before)


def test_unknown_layer_is_refused(tiny_llama_dir):
    with pytest.raises(ValueError, match=r"layer must be a linear layer of the model, not 'model\.norm'"):
        slot_by_name(resolve_model(tiny_llama_dir).skeleton(), "model.norm")
