"""What an attention is recorded as, by the convention of its file, and how far a query sees."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from codesign.trace import trace
from codesign.trace_attention import IMPLEMENTATION, _attention, _mask, attention_window, recorded_attention, register
from codesign.trace_config import config_from_dict
from codesign.trace_record import Recorder
from hwmodel.workload import LayerKind, Phase

BATCH, HEADS, KV_HEADS, TOKENS, WIDTH, VALUE_WIDTH = 2, 6, 2, 5, 8, 3


class Attention(nn.Module):
    """Projections, and an attention as transformers calls one."""

    def __init__(self, context: int, **options: object) -> None:
        super().__init__()
        self.context, self.options = context, options
        self.q = nn.Linear(4, HEADS * WIDTH)
        self.k = nn.Linear(4, KV_HEADS * WIDTH)
        self.v = nn.Linear(4, KV_HEADS * VALUE_WIDTH)

    def forward(self, x, cached):
        q = self.q(x).view(BATCH, -1, HEADS, WIDTH).transpose(1, 2)
        k = self.k(cached).view(BATCH, self.context, KV_HEADS, WIDTH).transpose(1, 2)
        v = self.v(cached).view(BATCH, self.context, KV_HEADS, VALUE_WIDTH).transpose(1, 2)
        return _attention(self, q, k, v, None, **self.options)[0]


def recorded(tokens, context, **options):
    """Products of one attention by kind, and its output."""
    with torch.device("meta"):
        module = Attention(context, **options)
        x, cached = torch.zeros(BATCH, tokens, 4), torch.zeros(BATCH, context, 4)
    recorder = Recorder(module, [x, cached])
    with recorder, recorded_attention(recorder):
        out = module(x, cached)
    return {r.kind: (r.copies, r.m, r.k, r.n, r.causal) for r in recorder.records}, out, recorder


@pytest.mark.parametrize(
    ("tokens", "context", "options", "seen", "causal"),
    [
        (TOKENS, TOKENS, {}, TOKENS, True),
        (TOKENS, TOKENS, {"is_causal": False}, TOKENS, False),
        (1, 9, {}, 9, False),
        (TOKENS, TOKENS, {"sliding_window": 3}, 3, False),
        (1, 9, {"sliding_window": 4}, 4, False),
        (TOKENS, TOKENS, {"sliding_window": 100}, TOKENS, True),
        (TOKENS, 9, {}, 9, False),
        (1, 1, {}, 1, False),
    ],
    ids=["prompt", "encoder", "decode step", "window", "window of a step", "wide window", "cross attention", "first"],
)
def test_products_by_the_convention(tokens, context, options, seen, causal):
    found, out, _ = recorded(tokens, context, **options)
    copies, rows = BATCH * KV_HEADS, HEADS // KV_HEADS * tokens
    assert found[LayerKind.ATTENTION_QK] == (copies, rows, WIDTH, seen, causal)
    assert found[LayerKind.ATTENTION_PV] == (copies, rows, seen, VALUE_WIDTH, causal)
    assert found[LayerKind.SOFTMAX][:2] == (copies, rows) and found[LayerKind.SOFTMAX][3:] == (seen, causal)
    # transformers wants heads behind tokens
    assert out.shape == (BATCH, tokens, HEADS, VALUE_WIDTH) and out.is_meta


def test_each_product_follows_its_sources():
    _, _, recorder = recorded(TOKENS, TOKENS)
    names = [record.name for record in recorder.records]
    sources = {record.name: {names[i] for i in record.sources} for record in recorder.records}
    assert sources["qk"] == {"q", "k"} and sources["softmax"] == {"qk"} and sources["pv"] == {"softmax", "v"}


def test_outside_of_a_trace_it_says_so():
    q = torch.zeros(1, 2, 3, 4, device="meta")
    with pytest.raises(RuntimeError, match=f"attention '{IMPLEMENTATION}' must be called while tracing"):
        _attention(nn.Identity(), q, q, q)


def test_a_trace_ends_where_its_block_does():
    with torch.device("meta"):
        module, x = Attention(TOKENS), torch.zeros(BATCH, TOKENS, 4)
    recorder = Recorder(module, [x])
    with recorder, recorded_attention(recorder):
        module(x, x)
    with pytest.raises(RuntimeError, match="must be called while tracing"):
        module(x, x)


def of(**attributes):
    config = {key: attributes.pop(key) for key in list(attributes) if key in CONFIG}
    return SimpleNamespace(config=SimpleNamespace(**config), **attributes)


CONFIG = ("layer_types", "attention_chunk_size", "index_topk")


@pytest.mark.parametrize(
    ("module", "given", "window"),
    [
        (of(), {}, None),
        (of(), {"sliding_window": 7}, 7),
        (of(sliding_window=5), {"sliding_window": 7}, 5),
        (of(sliding_window=9), {"sliding_window": None}, 9),
        (of(sliding_window=0), {}, None),
        (of(sliding_window=True), {}, None),
        (of(indexer=object(), index_topk=2048), {}, 2048),
        (of(index_topk=2048), {}, None),  # no indexer chooses
        (of(layer_idx=1, layer_types=["full_attention", "chunked_attention"], attention_chunk_size=64), {}, 64),
        (of(layer_idx=0, layer_types=["full_attention", "chunked_attention"], attention_chunk_size=64), {}, None),
        (of(layer_idx=5, layer_types=["chunked_attention"], attention_chunk_size=64), {}, None),
        (SimpleNamespace(), {}, None),
    ],
)
def test_how_far_a_query_sees(module, given, window):
    assert attention_window(module, given) == window


def test_masks_have_a_shape_and_say_nothing():
    mask = _mask(2, 3, 7, "anything", dtype=torch.float16)
    assert mask.shape == (2, 1, 3, 7) and mask.is_meta and mask.dtype == torch.bool


def test_transformers_knows_it_by_name():
    transformers = pytest.importorskip("transformers", reason="transformers is an optional dependency")
    register()
    assert transformers.AttentionInterface()[IMPLEMENTATION] is _attention


@pytest.mark.parametrize("phase", list(Phase))
def test_a_real_model_with_a_window(phase):
    """Mistral (Jiang et al., arXiv 2310.06825, section 2): a token attends to at most W before it."""
    pytest.importorskip("transformers", reason="transformers is an optional dependency")
    config = config_from_dict({
        "model_type": "mistral", "architectures": ["MistralForCausalLM"], "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 50,
        "sliding_window": 6, "head_dim": 16,
    })  # fmt: skip
    workload = trace(config, phase=phase, batch=3, context=10)
    (scores,) = workload.select([LayerKind.ATTENTION_QK]).layers
    rows = 2 * (10 if phase is Phase.PREFILL else 1)
    assert (scores.copies, scores.m, scores.k, scores.n) == (3 * 2, rows, 16, 6)


@pytest.mark.parametrize("kv_heads", [3, 8])
def test_heads_that_do_not_divide_are_refused(kv_heads):
    pytest.importorskip("transformers", reason="transformers is an optional dependency")
    config = config_from_dict({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": kv_heads, "vocab_size": 50,
    })  # fmt: skip
    message = f"self_attn .* heads of keys and values must divide the 4 of the query, not {kv_heads}"
    with pytest.raises(NotImplementedError, match=message):
        trace(config, context=10)
