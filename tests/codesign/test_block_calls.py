"""How a block is called, on plain modules whose signatures are written here."""

import pytest
import torch
from torch import nn

from codesign.block_calls import Call, output_wrapper, share_tensors, split_call, with_cache


class WithCache(nn.Module):
    def forward(self, hidden_states, attention_mask=None, past_key_values=None, use_cache=False):
        return hidden_states


class OldName(nn.Module):
    def forward(self, hidden_states, layer_past=None):
        return hidden_states


class WithoutCache(nn.Module):
    def forward(self, hidden_states, attention_mask=None):
        return hidden_states


X = torch.zeros(1, 2, 3)


def test_hidden_states_come_first_or_by_name():
    hidden, call = split_call((X, "mask"), {"cache": None})
    assert hidden is X and call.args == ("mask",) and call.kwargs == {"cache": None}
    given = {"hidden_states": X, "mask": "m"}
    hidden, call = split_call((), given)
    assert hidden is X and call.args == () and call.kwargs == {"mask": "m"}
    assert "hidden_states" in given, "the caller's own is left alone"


def test_outputs_are_dressed_as_the_block_dresses_them():
    y = X + 1
    assert output_wrapper(X, "b")(y) is y
    # weights of attention, a second tensor, are not those of the new states
    assert output_wrapper((X, torch.ones(2), None, "kept"), "b")(y) == (y, None, None, "kept")


@pytest.mark.parametrize("output", [{"hidden": X}, (), (None, X), None], ids=["mapping", "empty", "not first", "none"])
def test_an_output_without_hidden_states_first_is_refused(output):
    with pytest.raises(NotImplementedError, match=r"block h\.0 must return its hidden states, alone or first in a tup"):
        output_wrapper(output, "h.0")


def test_a_cache_takes_its_place_by_position_or_by_name():
    assert with_cache(WithCache(), ("mask", None, True), {}, "cache") == (("mask", "cache", True), {})
    assert with_cache(WithCache(), ("mask",), {"use_cache": False}, "cache") == (
        ("mask",),
        {"use_cache": False, "past_key_values": "cache"},
    )
    assert with_cache(WithCache(), (), {"past_key_values": None}, "cache") == ((), {"past_key_values": "cache"})
    assert with_cache(OldName(), (), {}, "cache") == ((), {"layer_past": "cache"})


def test_a_block_without_a_cache_is_refused():
    with pytest.raises(NotImplementedError, match="WithoutCache takes no KV cache, so key and value formats cannot be"):
        with_cache(WithoutCache(), (), {}, "cache")


def test_equal_tensors_of_another_batch_are_shared_and_others_kept():
    mask, angles = torch.ones(4, 4), torch.arange(4.0)
    earlier = [Call((mask,), {"position": (angles, angles + 1), "flag": True})]
    new_angles = angles.clone()
    calls = [Call((mask.clone(),), {"position": (new_angles, angles + 2), "flag": False})]
    (shared,) = share_tensors(calls, earlier)
    assert shared.args[0] is mask
    assert shared.kwargs["position"][0] is angles
    assert torch.equal(shared.kwargs["position"][1], angles + 2), "another value stays"
    assert shared.kwargs["flag"] is False


def test_tensors_of_another_type_or_shape_are_not_shared():
    old = [Call((torch.zeros(2), torch.zeros(2, 1)), {})]
    new = [Call((torch.zeros(2, dtype=torch.float64), torch.zeros(2)), {})]
    (made,) = share_tensors(new, old)
    assert made.args[0].dtype is torch.float64 and made.args[1].shape == (2,)


def test_one_tensor_in_many_blocks_stays_one():
    mask = torch.ones(2)
    old = [Call((torch.zeros(2),), {}), Call((torch.zeros(2),), {})]
    first, second = share_tensors([Call((mask,), {}), Call((mask,), {})], old)
    assert first.args[0] is second.args[0] is mask
