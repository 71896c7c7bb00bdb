"""Layers run as they were quantized, against the same arithmetic written out here."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from codesign.accuracy import run_blocks
from codesign.activation import hadamard_rotate
from codesign.apply import KVFormats, QuantizedLinear, RoundingCache, effective_weight, install, kv_formats
from codesign.blocks import BlockModel
from codesign.models import resolve_model
from datatypes.catalog import FP16, FP32, INTS_SYMMETRIC
from datatypes.granularity import PerChannel, PerGroup, PerTensor
from datatypes.layer_config import LayerConfig, LowRankConfig, ScaleConfig, TensorConfig
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import QuantizedLayer

N, K, M = 24, 32, 10
WEIGHT4 = TensorConfig((INTS_SYMMETRIC[4],), PerGroup(16), ScaleConfig(FP32))
TOKEN8 = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), ScaleConfig(FP32), dynamic=True)
EPSILON = 2.0**-23


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def quantized(config, *, weight=None, **parts):
    weight = random(N, K) if weight is None else weight
    return QuantizedLayer(config, quantize_tensor(weight, config.weight), (N, K), **parts)


def int8_rows(x):
    """Symmetric int8, one scale a row, in float32 as any implementation would write it."""
    x = np.asarray(x, dtype=np.float32)
    scale = np.abs(x).max(-1, keepdims=True) / np.float32(127)
    return np.clip(np.rint(x / scale), -127, 127).astype(np.float32) * scale


def close(made, expected):
    """Within the rounding of a float32 sum of K products."""
    bound = K * EPSILON * float(np.abs(expected).max() + 10)
    np.testing.assert_allclose(made.detach().numpy(), expected, rtol=0, atol=bound)


def test_weight_only_runs_on_the_decoded_weight():
    layer = quantized(LayerConfig(weight=WEIGHT4))
    x = random(M, K, seed=1)
    close(QuantizedLinear(layer, None)(x), x.numpy() @ layer.weight.dequantize().numpy().T)


def test_activation_is_rounded_before_the_product():
    layer = quantized(LayerConfig(weight=WEIGHT4, activation=TOKEN8))
    x, bias = random(M, K, seed=1), random(N, seed=2)
    expected = int8_rows(x) @ layer.weight.dequantize().numpy().T + bias.numpy()
    close(QuantizedLinear(layer, bias)(x), expected)


def test_low_rank_branch_is_rounded_twice():
    # LQER (arXiv 2402.02446), code: Y = Xq Wq + Q(Q(Xq A) B)
    factor = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), ScaleConfig(FP32))
    config = LayerConfig(weight=WEIGHT4, activation=TOKEN8, low_rank=LowRankConfig(4, factor, factor))
    a, b = quantize_tensor(random(4, K, seed=3), factor), quantize_tensor(random(N, 4, seed=4), factor)
    layer = quantized(config, low_rank_a=a, low_rank_b=b)
    x = random(M, K, seed=1)
    xq = int8_rows(x)
    branch = int8_rows(int8_rows(xq @ a.dequantize().numpy().T) @ b.dequantize().numpy().T)
    made = QuantizedLinear(layer, None)(x).numpy()
    expected = xq @ layer.weight.dequantize().numpy().T + branch
    # sums in another order may move a value over a rounding boundary: one step of the branch's int8 at most
    step = np.abs(branch).max(-1, keepdims=True) / 127
    assert (np.abs(made - expected) <= 1.01 * step + K * EPSILON * 50).all()
    assert (np.abs(made - expected) <= K * EPSILON * 50).mean() > 0.9


def test_smoothing_divides_the_input():
    smoothing = random(K, seed=5).abs() + 0.5
    config = LayerConfig(weight=WEIGHT4, activation=TOKEN8, smoothing=FP32)
    layer = quantized(config, weight=random(N, K) * smoothing, smoothing=smoothing)
    x = random(M, K, seed=1)
    close(QuantizedLinear(layer, None)(x), int8_rows(x / smoothing) @ layer.weight.dequantize().numpy().T)
    only = quantized(LayerConfig(weight=WEIGHT4, smoothing=FP32), weight=random(N, K) * smoothing, smoothing=smoothing)
    close(F.linear(x, effective_weight(only)), (x / smoothing).numpy() @ only.weight.dequantize().numpy().T)


def test_rotated_weight_meets_a_rotated_input():
    rotated = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), ScaleConfig(FP32), hadamard=16)
    weight = random(N, K)
    layer = quantized(LayerConfig(weight=rotated, output=None), weight=hadamard_rotate(weight, 16))
    x = random(M, K, seed=1)
    with_step = QuantizedLinear(layer, None)(x)
    folded = F.linear(x, effective_weight(layer))
    torch.testing.assert_close(with_step, folded, rtol=0, atol=4 * K * EPSILON * 20)
    # and both are near the original product: int8 of a row errs by at most half a step in each of K terms
    half_step = float(hadamard_rotate(weight, 16).abs().max()) / 127 / 2
    bound = half_step * float(hadamard_rotate(x, 16).abs().sum(-1).max())
    assert float((folded - F.linear(x, weight)).abs().max()) <= bound + 1e-4


def test_static_scale_comes_from_the_notes():
    static = TensorConfig((INTS_SYMMETRIC[8],), PerTensor(), ScaleConfig(FP32))
    config = LayerConfig(weight=WEIGHT4, activation=static)
    layer = quantized(config, notes={"input_scale": 0.25})
    x = random(M, K, seed=1) * 20
    expected = np.clip(np.rint(x.numpy() / np.float32(0.25)), -127, 127) * np.float32(0.25)
    close(QuantizedLinear(layer, None)(x), expected @ layer.weight.dequantize().numpy().T)
    with pytest.raises(ValueError, match="static activation scale must be in the layer's notes as input_scale"):
        QuantizedLinear(quantized(config), None)


def test_output_norm_and_output_format():
    layer = quantized(LayerConfig(weight=WEIGHT4, output=TOKEN8, output_norm=True))
    x = random(M, K, seed=1)
    y = x.numpy().astype(np.float64) @ layer.weight.dequantize().numpy().T.astype(np.float64)
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-5)  # 1e-5: torch's layer_norm default
    made = QuantizedLinear(layer, None)(x).numpy()
    step = np.abs(y).max(-1, keepdims=True) / 127
    assert (np.abs(made - y) <= 0.51 * step).all()


def test_layers_with_one_input_share_its_rounding(tiny_gqa_dir):
    model = BlockModel(resolve_model(tiny_gqa_dir))
    config = LayerConfig(weight=WEIGHT4, activation=TOKEN8)
    names = ["q", "k", "v"]
    with model.block(0) as block:
        layers = {}
        for slot in model.slots(0):
            if slot.name.split(".")[-1][0] in names and "self_attn" in slot.name:
                tensor = quantize_tensor(slot.matrix(), WEIGHT4)
                layers[slot.name] = QuantizedLayer(config, tensor, slot.shape)
        install(block, model.paths[0], layers)
        attention = block.self_attn
        assert attention.q_proj.memo is attention.v_proj.memo
        x = random(2, 5, 64)
        assert torch.equal(attention.q_proj(x), QuantizedLinear(layers["model.layers.0.self_attn.q_proj"], None)(x))
        assert torch.equal(attention.v_proj(x), QuantizedLinear(layers["model.layers.0.self_attn.v_proj"], None)(x))
        y = random(2, 5, 64, seed=9)  # another input: the memo must not answer with the first one's
        assert torch.equal(attention.k_proj(y), QuantizedLinear(layers["model.layers.0.self_attn.k_proj"], None)(y))


def test_a_layer_of_another_shape_is_refused(tiny_gqa_dir):
    model = BlockModel(resolve_model(tiny_gqa_dir))
    layer = quantized(LayerConfig(weight=WEIGHT4))
    with (
        model.block(0) as block,
        pytest.raises(ValueError, match=r"q_proj must have shape \(64, 64\), not \(24, 32\)"),
    ):
        install(block, model.paths[0], {"model.layers.0.self_attn.q_proj": layer})


def test_activation_formats_inside_fused_experts_are_refused(tiny_moe_dir):
    model = BlockModel(resolve_model(tiny_moe_dir))
    name = "model.layers.0.mlp.experts.down_proj"
    config = LayerConfig(weight=WEIGHT4, activation=TOKEN8)
    with model.block(0) as block:
        slot = next(slot for slot in model.slots(0) if slot.name == name)
        layer = QuantizedLayer(config, quantize_tensor(slot.matrix(), WEIGHT4), slot.shape)
        with pytest.raises(NotImplementedError, match="can be quantized in weight only"):
            install(block, model.paths[0], {name: layer})


@pytest.mark.parametrize("fixture", ["tiny_llama_dir", "tiny_gqa_dir", "tiny_gpt2_dir", "tiny_moe_dir"])
def test_kv_formats_are_those_of_a_real_cache(fixture, request):
    """Rounding what transformers' own cache hands back gives the same hidden states."""
    transformers = pytest.importorskip("transformers")
    from transformers.cache_utils import DynamicCache

    folder = request.getfixturevalue(fixture)
    coarse = TensorConfig((INTS_SYMMETRIC[4],), PerChannel(), ScaleConfig(FP32), dynamic=True)

    class Rounded(DynamicCache):
        def update(self, key, value, *args, **kwargs):
            key, value = super().update(key, value, *args, **kwargs)
            flat = key.reshape(-1, key.shape[-1])
            key = quantize_tensor(flat, coarse).dequantize().reshape(key.shape)
            flat = value.reshape(-1, value.shape[-1])
            return key, quantize_tensor(flat, coarse).dequantize().reshape(value.shape)

    whole = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.randint(0, 320, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = whole(ids, past_key_values=Rounded(), use_cache=True).logits
        plain = whole(ids, use_cache=False).logits
    model = BlockModel(resolve_model(folder))
    stream = run_blocks(model, [ids], kv=KVFormats(coarse, coarse))
    with torch.no_grad():
        made = model.logits(stream.hidden[0])
    torch.testing.assert_close(made, expected, rtol=0, atol=160 * EPSILON)
    assert not torch.allclose(made, plain, rtol=0, atol=1e-4)


def test_a_block_without_a_cache_is_refused():
    cache = RoundingCache(KVFormats(TOKEN8), "model.layers.3")
    with pytest.raises(NotImplementedError, match=r"block model\.layers\.3 writes no KV cache"):
        cache.check_used()
    with pytest.raises(NotImplementedError, match=r"keeps more than keys and values \(get_conv_state\)"):
        cache.get_conv_state(0)


def test_kv_formats_of_configs():
    assert not kv_formats([LayerConfig(weight=WEIGHT4)])
    assert kv_formats([LayerConfig(weight=WEIGHT4), LayerConfig(key=TOKEN8)]) == KVFormats(TOKEN8, None)
    with pytest.raises(ValueError, match="key and value formats must be the same in every layer of a block"):
        kv_formats([LayerConfig(key=TOKEN8), LayerConfig(key=TensorConfig((FP16,), scale=None))])
