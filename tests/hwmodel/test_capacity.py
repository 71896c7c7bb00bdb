"""Memory by hand: published cache sizes, what fits, and the largest batch and context."""

import pytest

from datatypes.catalog import INTS
from datatypes.granularity import PerGroup
from datatypes.layer_config import LayerConfig, TensorConfig
from hwmodel.capacity import (
    activation_bits,
    cache_bits,
    cache_elements_per_token,
    capacity_of,
    memory_bytes_of,
    weight_bits,
)
from hwmodel.gpu_presets import A100
from hwmodel.latent_attention import absorb_latent
from hwmodel.presets import BITMOD
from hwmodel.workload import ATTENTION_KINDS, Phase


@pytest.mark.parametrize(
    ("name", "elements"),
    [
        ("llama2_7b", 2 * 32 * 128),  # MHA: keys and values of 32 heads
        ("llama3_8b", 2 * 8 * 128),  # GQA: of 8
        ("falcon_7b", 2 * 1 * 64),  # MQA: of one
        ("deepseek_v3", 512 + 64),  # MLA: latent and rotary key
        ("mistral_7b", 0),  # beyond its window nothing is added
    ],
)
def test_numbers_cached_for_each_token_and_layer(traced, name, elements):
    for layers in (1, 2):
        step = absorb_latent(traced(name, Phase.DECODE, context=512, layers=layers))
        assert cache_elements_per_token(step) == elements * layers
        if elements:
            assert cache_bits(step, {}) == 512 * elements * layers * 16
            assert cache_bits(step, {}, 100) == 100 * elements * layers * 16


def test_a_window_is_all_that_is_kept(traced):
    assert cache_bits(traced("mistral_7b", Phase.DECODE, context=512), {}) == 128 * 2 * 8 * 128 * 16


def test_batches_do_not_change_what_a_sequence_keeps(traced):
    assert cache_bits(traced("llama3_8b", Phase.DECODE, batch=4, context=64), {}) == 64 * 2048 * 16


def test_scales_of_an_encoded_cache_count(traced):
    step = traced("llama3_8b", Phase.DECODE, context=64)
    tensor = TensorConfig((INTS[8],), PerGroup(128))
    config = LayerConfig(key=tensor, value=tensor)
    configs = {layer.name: config for layer in step.layers if layer.kind in ATTENTION_KINDS}
    groups = 64 * 2048 // 128
    scales = 16  # FP16, the default of ScaleConfig
    assert cache_bits(step, configs) == 64 * 2048 * 8 + groups * scales


def test_llama_2_7b_on_80_gb_by_hand(traced):
    step = traced("llama2_7b", Phase.DECODE, context=4096, layers=2)
    blocks = 4 * 4096 * 4096 + 3 * 4096 * 11008
    assert weight_bits(step, {}) == (2 * 32000 * 4096 + 2 * blocks) * 16
    held = capacity_of(step, step, {}, A100.memory_bytes)
    room = 80e9 * 0.9 * 8 - (2 * 32000 * 4096 + 2 * blocks) * 16 - (4096 + 11008) * 16
    assert held.cache_room_bits == room
    each = 4096 * 2 * 8192 * 16
    assert held.largest_batch(4096) == room // each
    assert held.fits(int(room // each), 4096)
    assert not held.fits(int(room // each) + 1, 4096)


def test_largest_context_is_where_it_stops_fitting(traced):
    step = traced("llama2_7b", Phase.DECODE, context=4096)
    held = capacity_of(step, step, {}, 1.2e9, usable=1.0)
    batch = 8
    context = held.largest_context(batch)
    assert 0 < context < 4096
    assert held.fits(batch, context)
    assert not held.fits(batch, context + 1)


def test_a_model_that_does_not_fit(traced):
    step = traced("llama2_7b", Phase.DECODE, context=64)
    held = capacity_of(step, step, {}, 1e8)
    assert held.cache_room_bits < 0
    assert held.largest_batch(64) == held.largest_context() == 0


def test_activations_are_of_the_widest_layer(traced):
    assert activation_bits(traced("llama2_7b")) == 256 * (4096 + 11008) * 16


def test_bad_limits_are_named(traced):
    step = traced("llama2_7b", Phase.DECODE, context=64)
    with pytest.raises(ValueError, match="usable must be above 0 and at most 1, not 0"):
        capacity_of(step, step, {}, 1e9, usable=0)
    with pytest.raises(ValueError, match="decode must be a decode step of one sequence, not prefill of 1"):
        capacity_of(step, traced("llama2_7b"), {}, 1e9)
    with pytest.raises(ValueError, match="batch must be at least 1, not 0"):
        capacity_of(step, step, {}, 1e12).largest_context(0)
    with pytest.raises(ValueError, match="memory of accelerator bitmod must be given and above 0 bytes, not None"):
        memory_bytes_of(BITMOD)
    assert memory_bytes_of(A100) == 80e9
    assert memory_bytes_of(BITMOD, 16e9) == 16e9
