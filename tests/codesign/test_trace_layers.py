"""``codesign.trace_layers``: records of a pass, made by hand, in the convention of a workload."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from torch import nn

from codesign.trace_layers import generates, layers_of
from codesign.trace_ledger import Record, storage_of
from hwmodel.workload import LayerKind, Phase

BATCH, CONTEXT = 2, 8


class Model(nn.Module):
    """A vocabulary of 16 over a width of 4, and what a config says."""

    def __init__(self, **config):
        super().__init__()
        self.config = SimpleNamespace(**config)
        self.lm_head = nn.Linear(4, 16, bias=False)

    def get_output_embeddings(self):
        return self.lm_head


DECODER = {"is_decoder": True}


def record(kind, m, k, n, name="a", **more):
    return Record(0, name, "", kind, m, k, n, **more)


def layers(*records, model=None, phase=Phase.PREFILL, batch=BATCH, context=CONTEXT):
    return layers_of(records, Model(**DECODER) if model is None else model, phase=phase, batch=batch, context=context)


def layer(made, **more):
    (one,) = layers(made, **more)
    return one


def test_rows_of_a_prompt_are_copies_of_one_weight():
    made = layer(record(LayerKind.LINEAR, BATCH * CONTEXT, 4, 6, weight=1, weight_elements=24))
    assert (made.m, made.k, made.n, made.copies, made.shared_weight) == (CONTEXT, 4, 6, BATCH, True)
    assert made.macs == BATCH * CONTEXT * 4 * 6 and made.weights == 24


def test_rows_that_no_batch_divides_stay_together():
    # one token of five: not of two sequences
    made = layer(record(LayerKind.LINEAR, 5, 4, 6, weight=1, weight_elements=24))
    assert (made.m, made.copies, made.shared_weight) == (5, 1, True)


def test_a_decode_step_is_one_product_for_all_sequences():
    made = layer(record(LayerKind.LINEAR, BATCH, 4, 6, weight=1, weight_elements=24), phase=Phase.DECODE)
    assert (made.m, made.copies) == (BATCH, 1)


def test_calls_one_after_another_are_copies_but_rows_of_a_convolution():
    linear = layer(record(LayerKind.LINEAR, BATCH * CONTEXT, 4, 6, calls=3, weight=1, weight_elements=24))
    assert (linear.m, linear.copies, linear.shared_weight, linear.weights) == (CONTEXT, 3 * BATCH, True, 24)
    conv = layer(record(LayerKind.CONV, 10, 9, 2, copies=4, calls=3, weight=1, weight_elements=72))
    assert (conv.m, conv.copies, conv.shared_weight, conv.weights) == (30, 4, False, 4 * 9 * 2)
    product = layer(record(LayerKind.ATTENTION_QK, CONTEXT, 4, CONTEXT, copies=6, calls=3))
    assert (product.m, product.copies) == (CONTEXT, 18)


def test_a_weight_that_is_used_again_belongs_to_its_first_layer():
    shape = {"weight": 1, "weight_elements": 64}
    embedding, head = layers(
        record(LayerKind.EMBEDDING, 16, 16, 4, "embed", **shape), record(LayerKind.LINEAR, 16, 4, 16, "head", **shape)
    )
    assert (embedding.weight_of, head.weight_of) == (None, "embed")
    assert embedding.weights + head.weights == 64


def test_slices_of_a_weight_are_stored_once_each_until_it_is_all_there():
    # rows 0 to 11 and 12 to 15 of a 16 x 4 weight, then all of it again
    shape = {"weight": 1, "weight_elements": 64}
    parts = [record(LayerKind.LINEAR, 16, 4, n, f"rows_{n}", **shape) for n in (12, 4, 16)]
    assert [one.weight_of for one in layers(*parts)] == [None, None, "rows_12"]
    assert sum(one.weights for one in layers(*parts)) == 64


@pytest.mark.parametrize(
    ("by_hand", "copies", "heads", "kv_heads", "m", "products"),
    [
        (True, BATCH * 4, 4, 2, 2 * CONTEXT, BATCH * 2),  # repeated keys: two query heads share each
        (True, BATCH * 4, 4, 1, 4 * CONTEXT, BATCH),
        (True, BATCH * 4, 4, 4, CONTEXT, BATCH * 4),  # nothing is shared
        (True, 3, 4, 2, CONTEXT, 3),  # no product of all heads
        (True, BATCH * 6, 6, 4, CONTEXT, BATCH * 6),  # four key heads cannot be shared by six alike
        (False, BATCH * 4, 4, 2, CONTEXT, BATCH * 4),  # attention called by name has its keys once already
    ],
)
def test_heads_that_share_keys_are_rows_of_one_product(by_hand, copies, heads, kv_heads, m, products):
    model = Model(**DECODER, num_attention_heads=heads, num_key_value_heads=kv_heads)
    for kind, k, n in ((LayerKind.ATTENTION_QK, 4, CONTEXT), (LayerKind.ATTENTION_PV, CONTEXT, 4)):
        made = layer(record(kind, CONTEXT, k, n, copies=copies, by_hand=by_hand), model=model)
        assert (made.m, made.copies) == (m, products)
        assert made.macs == layer(record(kind, CONTEXT, k, n, copies=copies), model=Model(**DECODER)).macs


def test_a_config_whose_layers_differ_says_nothing_of_heads():
    class Raises:
        is_decoder = True

        @property
        def num_attention_heads(self):
            raise RuntimeError("layers differ")

    model = Model()
    model.config = Raises()
    assert layer(record(LayerKind.ATTENTION_QK, CONTEXT, 4, CONTEXT, copies=8, by_hand=True), model=model).copies == 8


@pytest.mark.parametrize(
    ("kind", "k", "n"),
    [(LayerKind.ATTENTION_QK, 4, CONTEXT), (LayerKind.SOFTMAX, 1, CONTEXT), (LayerKind.ATTENTION_PV, CONTEXT, 4)],
)
def test_attention_by_hand_over_the_whole_context_of_a_decoder_is_causal(kind, k, n):
    whole = {"kind": kind, "m": CONTEXT, "k": k, "n": n, "by_hand": True}
    assert layer(record(**whole)).causal
    # a decode step sees all; an encoder too, and the encoder of a pair; keys of elsewhere have another length
    assert not layer(record(**{**whole, "m": 1}), phase=Phase.DECODE).causal
    assert not layer(record(**whole), model=Model(is_decoder=False)).causal
    assert not layer(record(**whole), model=Model(**DECODER, is_encoder_decoder=True)).causal
    other = {key: 3 if value == CONTEXT and key != "m" else value for key, value in whole.items()}
    assert not layer(record(**other)).causal
    assert not layer(record(**{**whole, "m": CONTEXT + 1})).causal
    # what was called by name says so itself
    assert not layer(record(**{**whole, "by_hand": False})).causal
    assert layer(record(**{**whole, "by_hand": False}, causal=True)).causal


def test_one_token_has_nothing_to_mask():
    assert not layer(record(LayerKind.ATTENTION_QK, 1, 4, 1, by_hand=True), context=1).causal


@pytest.mark.parametrize(
    ("kind", "m", "keys", "phase", "written"),
    [
        (LayerKind.ATTENTION_QK, CONTEXT, CONTEXT, Phase.PREFILL, CONTEXT),
        (LayerKind.ATTENTION_PV, CONTEXT, CONTEXT, Phase.PREFILL, CONTEXT),
        (LayerKind.ATTENTION_QK, CONTEXT, 3, Phase.PREFILL, CONTEXT),  # a window of 3: all are written, 3 are seen
        (LayerKind.ATTENTION_QK, 5, 3 * CONTEXT, Phase.PREFILL, 3 * CONTEXT),  # keys of an image or an encoder
        (LayerKind.ATTENTION_QK, 1, CONTEXT, Phase.DECODE, 1),
        (LayerKind.ATTENTION_PV, 4, CONTEXT, Phase.DECODE, 1),  # four query heads of one token
    ],
)
def test_keys_and_values_are_written_once_for_each_token_of_the_step(kind, m, keys, phase, written):
    k, n = (4, keys) if kind is LayerKind.ATTENTION_QK else (keys, 4)
    assert layer(record(kind, m, k, n), phase=phase).written == written


def test_rows_of_shared_keys_are_not_written_more_than_once():
    model = Model(**DECODER, num_attention_heads=4, num_key_value_heads=1)
    made = layer(record(LayerKind.ATTENTION_QK, CONTEXT, 4, CONTEXT, copies=BATCH * 4, by_hand=True), model=model)
    assert (made.m, made.written) == (4 * CONTEXT, CONTEXT)


def test_a_product_that_no_softmax_joined_multiplies_by_a_state():
    made = layer(record(None, CONTEXT, 4, 6))
    assert (made.kind, made.state, made.written) == (LayerKind.ATTENTION_PV, True, None)
    grown = layer(record(None, 4, CONTEXT, 6))  # as long as the context: no state of fixed size
    assert (grown.kind, grown.state, grown.written) == (LayerKind.ATTENTION_PV, False, 4)
    assert not layer(record(LayerKind.ATTENTION_PV, CONTEXT, 4, 6)).state
    heads = Model(**DECODER, num_attention_heads=4, num_key_value_heads=2)
    own = layer(record(None, CONTEXT, 4, 6, copies=BATCH * 4, by_hand=True), model=heads)
    assert (own.m, own.copies) == (CONTEXT, BATCH * 4)  # each head has a state of its own


def test_only_the_product_with_the_vocabulary_is_the_head():
    model = Model(**DECODER)
    weight = {"weight": storage_of(model.lm_head.weight), "weight_elements": 64}
    embedding, head, other = layers(
        record(LayerKind.EMBEDDING, 16, 16, 4, "embed", **weight),
        record(LayerKind.LINEAR, 16, 4, 16, "lm_head", **weight),
        record(LayerKind.LINEAR, 16, 4, 16, "other", weight=1, weight_elements=64),
        model=model,
    )
    assert [one.head for one in (embedding, head, other)] == [False, True, False]
    assert not layer(record(LayerKind.LINEAR, 16, 4, 16, **weight), model=nn.Linear(4, 16)).head


def test_products_of_every_expert_become_those_that_routing_keeps():
    model = Model(**DECODER, num_local_experts=8, num_experts_per_tok=1)
    every = {"copies": 8, "weight": 1, "weight_elements": 8 * 4 * 6}
    made = layer(record(LayerKind.LINEAR, 2, 4, 6, **every), model=model, phase=Phase.DECODE)
    # two tokens, an expert each: 8 (1 - (7/8)**2) = 1.9 experts are touched, all eight stored
    assert (made.m, made.copies, made.weight_copies, made.weights) == (1, 2, 8, 8 * 4 * 6)
    dense = layer(record(LayerKind.LINEAR, 2, 4, 6, **every), model=Model(**DECODER), phase=Phase.DECODE)
    assert (dense.m, dense.copies, dense.weight_copies) == (2, 8, None)


@pytest.mark.parametrize(
    ("config", "can_generate", "writes"),
    [
        ({"is_decoder": True}, None, True),
        ({"is_decoder": False}, True, True),
        ({"is_decoder": False}, False, False),
        ({}, None, False),
    ],
)
def test_a_model_writes_tokens_where_it_or_its_config_says_so(config, can_generate, writes):
    model = Model(**config)
    if can_generate is not None:
        model.can_generate = lambda: can_generate
    assert generates(model) is writes
    assert not generates(nn.Linear(2, 2))
