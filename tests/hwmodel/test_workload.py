"""Workloads at other contexts: what follows the KV cache, and what does not."""

from dataclasses import replace

import pytest

from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload, at_context, shape_counts

PV = LayerSpec("a.pv", LayerKind.ATTENTION_PV, 2, 512, 64, copies=4)
QK = LayerSpec("a.qk", LayerKind.ATTENTION_QK, 2, 64, 512, copies=4)
SOFTMAX = LayerSpec("a.softmax", LayerKind.SOFTMAX, 2, 1, 512, copies=4)
WINDOW = LayerSpec("b.pv", LayerKind.ATTENTION_PV, 2, 128, 64, copies=4)
STATE = LayerSpec("c.product", LayerKind.ATTENTION_PV, 2, 128, 64, copies=4, state=True)
READ = LayerSpec("c.read", LayerKind.ATTENTION_QK, 2, 64, 128, copies=4, state=True)
LINEAR = LayerSpec("a.q_proj", LayerKind.LINEAR, 1, 512, 512)


def decode(*layers, context=512):
    return Workload("m", Phase.DECODE, layers, context=context)


def lengths(workload):
    return {layer.name: layer.k if layer.kind is LayerKind.ATTENTION_PV else layer.n for layer in workload.layers}


def test_caches_follow_the_context_and_windows_are_cut_but_states_and_weights_stay():
    traced = decode(PV, QK, SOFTMAX, WINDOW, STATE, READ, LINEAR)
    made = at_context(traced, 100)
    assert made.context == 100
    assert lengths(made) == {
        "a.pv": 100, "a.qk": 100, "a.softmax": 100, "b.pv": 100, "c.product": 128, "c.read": 128, "a.q_proj": 512,
    }  # fmt: skip
    assert lengths(at_context(traced, 300))["b.pv"] == 128, "a window is cut, not stretched"
    assert at_context(traced, 512).layers == traced.layers


def test_a_state_larger_than_the_traced_context_keeps_its_size():
    assert lengths(at_context(decode(STATE, context=64), 10)) == {"c.product": 128}


def test_keys_of_an_encoder_longer_than_the_context_are_always_there():
    # Whisper's decoder attends to the 1500 frames of its encoder in every step (Radford et al., 2022, section 2.2)
    frames = replace(QK, name="encoder_attn.qk", n=1500)
    after, values = replace(SOFTMAX, name="encoder_attn.softmax", n=1500), replace(PV, name="encoder_attn.pv", k=1500)
    assert set(lengths(at_context(decode(frames, after, values), 10)).values()) == {1500}


def test_a_window_and_a_state_of_one_size_are_not_alike():
    assert len(shape_counts([WINDOW, STATE])) == 2


def test_only_attention_products_have_a_state():
    with pytest.raises(ValueError, match="layer x with a state must be an attention product, not linear"):
        LayerSpec("x", LayerKind.LINEAR, 1, 1, 1, state=True)


@pytest.mark.parametrize(("kind", "count"), [(LayerKind.LINEAR, 1), (LayerKind.ATTENTION_QK, -1)])
def test_only_attention_products_write_to_a_cache(kind, count):
    with pytest.raises(ValueError, match=f"written of layer x must be .* of an attention product, not {count} of"):
        LayerSpec("x", kind, 1, 1, 1, written=count)


@pytest.mark.parametrize(("workload", "context"), [(decode(PV), 513), (decode(PV), 0)])
def test_a_context_outside_the_traced_one_is_refused(workload, context):
    with pytest.raises(ValueError, match=f"context must be 1 to the traced 512 of a decode workload, not {context}"):
        at_context(workload, context)


def test_a_prompt_has_no_other_context():
    with pytest.raises(ValueError, match="of a decode workload, not 5 of a prefill workload"):
        at_context(Workload("m", Phase.PREFILL, (PV,), context=512), 5)


def test_sizes_and_names_are_checked():
    with pytest.raises(ValueError, match="k of layer x must be an integer of at least 1, not 0"):
        LayerSpec("x", LayerKind.LINEAR, 1, 0, 1)
    with pytest.raises(ValueError, match=r"layer names of workload m must be unique, not repeated: a\.pv"):
        decode(PV, PV)
    with pytest.raises(ValueError, match="edges of workload m must join its layers, not b"):
        Workload("m", Phase.DECODE, (PV,), edges=(("a.pv", "b"),))
