"""The float64 reference of a decode step against transformers' Llama, and what the comparison of stages sees."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datatypes.packing import unpack_tensor
from kernels_gpu import decode_reference, ptx
from kernels_gpu.decode_model import Decoder, DecoderLayer, DecoderShape, Matrix, empty_cache, random_cache
from kernels_gpu.decode_reference import compare, logits_in_float64, poison
from kernels_gpu.decode_step import Stage, StageKind, make_state
from kernels_gpu.decode_weights import HalfWeight

SHAPE = DecoderShape("tiny", 128, 4, 2, 64, 96, 2, 50, theta=500.0, epsilon=1e-4)
PAST = 5


class Exact(HalfWeight):
    """A weight of float64, which the reference decodes as it is."""

    def dense(self):
        return self.weight


def decoder_like(model):
    """The weights of transformers' model as a decoder's; queries, keys and values joined, and gate and up."""

    def layer(found):
        attention, feed = found.self_attn, found.mlp
        return DecoderLayer(
            {
                Matrix.QKV: Exact(
                    torch.cat([p.weight for p in (attention.q_proj, attention.k_proj, attention.v_proj)])
                ),
                Matrix.OUT: Exact(attention.o_proj.weight),
                Matrix.GATE_UP: Exact(torch.cat([feed.gate_proj.weight, feed.up_proj.weight])),
                Matrix.DOWN: Exact(feed.down_proj.weight),
            },
            found.input_layernorm.weight,
            found.post_attention_layernorm.weight,
        )

    layers = tuple(map(layer, model.model.layers))
    return Decoder(SHAPE, layers, model.model.embed_tokens.weight, Exact(model.lm_head.weight), model.model.norm.weight)


@pytest.mark.skipif(ptx.SIMULATED, reason="runs no kernel; once is enough")
def test_the_step_is_that_of_transformers(monkeypatch):
    """The cache is transformers' own, so that nothing is rounded: what is left is the wiring."""
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=SHAPE.hidden, intermediate_size=SHAPE.intermediate, num_hidden_layers=SHAPE.layers,
        num_attention_heads=SHAPE.heads, num_key_value_heads=SHAPE.key_heads, head_dim=SHAPE.head_dim,
        vocab_size=SHAPE.vocabulary, rope_parameters={"rope_type": "default", "rope_theta": SHAPE.theta},
        rms_norm_eps=SHAPE.epsilon, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).double().eval()
    for name, parameter in model.named_parameters():
        parameter.data = torch.randn_like(parameter) * (0.3 if "norm" not in name else 1.0)
    tokens = torch.tensor([[3, 9, 4, 1, 7, 20], [8, 8, 30, 2, 49, 0]])
    with torch.no_grad():
        made = model(tokens, use_cache=True)
        decoder = decoder_like(model)
        # one marker a side: which layer, keys or values
        exact = {}
        caches = [empty_cache(SHAPE, 2, PAST + 1, 8, "cpu") for _ in range(SHAPE.layers)]
        for cache, layer in zip(caches, made.past_key_values.layers, strict=True):
            exact[id(cache[0])], exact[id(cache[1])] = layer.keys, layer.values
        monkeypatch.setattr(decode_reference, "decoded", lambda side: exact[id(side)])
        state = make_state(decoder, caches, tokens[:, -1].tolist(), [PAST + 1] * 2)
        logits = logits_in_float64(decoder, state.tokens.tolist(), [PAST] * 2, state, lambda result: result)
    # both tables of angles are float32, off by some 2**-22 of an angle; a wrong wire moves logits by what they are
    expected = made.logits[:, -1]
    assert (logits - expected).abs().max() < 1e-4 * expected.abs().max()
    assert (logits.argmax(1) == expected.argmax(1)).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_a_cache_decodes_as_datatypes_has_it(bits):
    generator = torch.Generator().manual_seed(0)
    key, _ = random_cache(SHAPE, 3, 5, bits, generator)
    rows = 3 * SHAPE.key_heads * 5
    arrays = {"codes": key.codes, "scale": key.scale}
    expected = unpack_tensor(arrays, key.config, (rows, SHAPE.head_dim)).dequantize().view(key.shape)
    assert torch.equal(decode_reference.decoded(key), expected)
    assert torch.equal(decode_reference.decoded(key, 2), expected[:2])


def test_a_stage_that_wrote_nothing_is_seen():
    """Poison stays where a kernel did not write, and a poisoned result is beyond every tolerance."""
    both, out = torch.randn((1, 16)).half(), torch.zeros((1, 8)).half()
    stage = Stage(StageKind.GATE, 0, (), {"both": both}, {"out": out})
    before = poison(stage)
    assert out.isnan().all() and torch.equal(before["both"], both) and before["both"] is not both
    shape = SimpleNamespace(shape=SHAPE)
    assert compare(stage, before, shape, None).worst == np.inf
    gate, up = both.double().chunk(2, dim=1)
    out.copy_(torch.nn.functional.silu(gate) * up)
    assert compare(stage, before, shape, None).worst <= 1
    out[0, 3] *= 1.01
    assert compare(stage, before, shape, None).worst > 1


def test_what_a_stage_reads_and_writes_is_not_spoilt():
    residual = torch.ones((1, 8)).half()
    out = torch.zeros((1, 8)).half()
    stage = Stage(StageKind.NORM, 0, (), {"residual": residual}, {"residual": residual, "out": out})
    poison(stage)
    assert residual.isfinite().all() and out.isnan().all()
