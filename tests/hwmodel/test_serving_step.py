"""Iterations are sums of what ``evaluate`` says, and interpolation stays within its bound."""

from dataclasses import replace

import pytest

from datatypes.catalog import INTS_SYMMETRIC
from datatypes.granularity import PerChannel
from datatypes.layer_config import LayerConfig, TensorConfig
from hwmodel.evaluate import evaluate
from hwmodel.gpu_presets import H100
from hwmodel.latent_attention import absorb_latent
from hwmodel.link import NVLINK4
from hwmodel.operands import OperandBits
from hwmodel.options import HONEST
from hwmodel.parallel import tensor_parallel
from hwmodel.parallel_experts import expert_parallel
from hwmodel.presets import BITMOD
from hwmodel.serving_chunks import chunked_prefill_cost
from hwmodel.serving_step import NOTHING, Chunk, StepPricer
from hwmodel.workload import ATTENTION_KINDS, LayerKind, Phase, at_context

BITS = OperandBits(weight=4, kv=8)
MACHINES = pytest.mark.parametrize("machine", [BITMOD, H100], ids=lambda machine: machine.name)


def pricer(traced, name, machine, **more):
    prefill, decode = traced(name), traced(name, Phase.DECODE, context=4096)
    configs = {layer.name: BITS for layer in prefill.layers}
    return StepPricer(prefill, decode, configs, machine, **more)


def configs_of(workload):
    return {layer.name: BITS for layer in workload.layers}


@MACHINES
@pytest.mark.parametrize("name", ["llama3_8b", "mixtral_8x7b", "falcon_7b", "deepseek_v3", "mistral_7b"])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_decode_step_is_evaluates(traced, machine, name, batch):
    steps = pricer(traced, name, machine)
    traced_batch = absorb_latent(traced(name, Phase.DECODE, batch=batch, context=4096))
    for context in (64, 1024, 4096):  # knots
        step = at_context(traced_batch, context)
        truth = evaluate(step, configs_of(step), machine)
        ours = steps.step(batch, batch * context, ())
        # vector operations and experts' activations of a batch are rounded up once, not for each sequence
        assert ours.seconds == pytest.approx(truth.seconds, rel=2e-3)
        assert ours.energy_j == pytest.approx(truth.energy_pj * 1e-12, rel=2e-3)


@pytest.mark.parametrize("name", ["mixtral_8x7b", "deepseek_v3"])
def test_experts_over_chips_are_the_busiest_chips_share_and_its_exchanges(traced, name):
    steps = pricer(traced, name, H100, experts=8, dispatch_bits=8, link=NVLINK4)
    whole = absorb_latent(traced(name, Phase.DECODE, batch=16, context=4096))
    share = expert_parallel(whole, 8, dispatch_bits=8)
    truth = evaluate(share.workload, configs_of(whole), H100)
    ours = steps.step(16, 16 * 4096, ())
    # the exchanges are exact, vector operations rounded up as above
    priced_s = ours.seconds - share.link_s(NVLINK4)
    assert priced_s == pytest.approx(truth.seconds, rel=2e-3)
    assert ours.energy_j == pytest.approx(truth.energy_pj * 1e-12, rel=2e-3)
    assert share.link_s(NVLINK4) > 0.01 * ours.seconds


def test_experts_are_whole_or_cut(traced):
    with pytest.raises(ValueError, match="expert_parallel must be 1 where tensor_parallel cuts each .* 2 chips, not 4"):
        pricer(traced, "mixtral_8x7b", H100, chips=2, experts=4, link=NVLINK4)
    with pytest.raises(ValueError, match="4 chips must have a link between them"):
        pricer(traced, "mixtral_8x7b", H100, experts=4)
    with pytest.raises(ValueError, match="must have routed experts to spread over chips, not none"):
        pricer(traced, "llama3_8b", H100, experts=4, link=NVLINK4)


@MACHINES
@pytest.mark.parametrize("name", ["llama3_8b", "mixtral_8x7b", "mistral_7b"])
@pytest.mark.parametrize("chunk", [256, 64])
def test_a_prompt_alone_is_evaluates(traced, machine, name, chunk):
    steps = pricer(traced, name, machine)
    ours = sum((steps.step(0, 0, [Chunk(chunk, p, p + chunk == 256)]) for p in range(0, 256, chunk)), NOTHING)
    truth = chunked_prefill_cost(traced(name), chunk, configs_of(traced(name)), machine, HONEST)
    assert ours.seconds == pytest.approx(truth.seconds, rel=1e-6)


@MACHINES
@pytest.mark.parametrize("name", ["llama3_8b", "falcon_7b", "mistral_7b"])
@pytest.mark.parametrize("batch", [1, 16, 256])
def test_interpolation_stays_within_its_bound(traced, machine, name, batch):
    steps = pricer(traced, name, machine)
    worst = 0.0
    for context in [1, 2, 63, 64, 65, 100, 127, 1000, 1023, 1500, 2049, 3333, 4095, 4096]:
        exact = steps.decoding_cost_at(batch, context).seconds
        error = abs(steps.decoding_cost(batch, context).seconds - exact)
        assert error <= steps.interpolation_bound_s(batch, context) + 1e-15
        whole = steps.step(batch, batch * context, ()).seconds
        worst = max(worst, error / whole)
    assert worst < 0.01


@MACHINES
def test_prices_never_fall_with_the_context(traced, machine):
    steps = pricer(traced, "llama3_8b", machine)
    times = [steps.decoding_cost_at(3, context).seconds for context in range(1, 400, 7)]
    assert times == sorted(times)


def test_the_mean_context_prices_a_mixed_batch(traced):
    steps = pricer(traced, "llama3_8b", H100)
    mixed = [128, 640, 1920, 3328]
    apart = sum(steps.decoding_cost_at(1, context).seconds - steps.decoding_cost_at(1, 1).seconds for context in mixed)
    together = steps.decoding_cost(4, sum(mixed) / 4).seconds - steps.decoding_cost(4, 1).seconds
    assert together == pytest.approx(apart, rel=0.05)


def test_weights_are_read_once_for_decoding_and_prompt_together(traced):
    steps = pricer(traced, "llama3_8b", H100)
    apart = steps.step(8, 8 * 512, ()) + steps.step(0, 0, [Chunk(64, 0, True)])
    together = steps.step(8, 8 * 512, [Chunk(64, 0, True)])
    assert together.seconds < apart.seconds


def test_several_chips_by_hand(traced):
    steps = pricer(traced, "llama3_8b", H100, chips=4, link=NVLINK4)
    decode = traced("llama3_8b", Phase.DECODE, batch=4, context=4096)
    cut = tensor_parallel(decode, 4)
    truth = evaluate(cut.workload, configs_of(decode), H100)
    ours = steps.step(4, 4 * 4096, ())
    assert ours.seconds == pytest.approx(truth.seconds + cut.link_s(NVLINK4), rel=2e-3)
    assert ours.energy_j == pytest.approx(4 * truth.energy_pj * 1e-12, rel=2e-3)


def test_latents_before_a_chunk_are_expanded(traced):
    steps = pricer(traced, "deepseek_v3", H100)
    attention = steps.chunk_cost(64, 0).seconds
    assert steps.chunk_cost(64, 128).seconds > 1.5 * attention


@MACHINES
@pytest.mark.parametrize("name", ["llama3_8b", "deepseek_v3"])
def test_verifying_one_token_is_a_step_and_more_take_longer_but_less_than_each(traced, machine, name):
    steps = pricer(traced, name, machine)
    step = steps.step(1, 512, ())
    assert steps.verify_cost(1, 512) == step
    assert step.seconds <= steps.verify_cost(5, 512).seconds < 5 * step.seconds


def test_a_verification_writes_each_of_its_tokens(traced):
    """Attention of 5 proposals: 5 times the rows, and 5 new keys and values in each cache."""
    int8 = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), dynamic=True)
    prefill, decode = traced("llama3_8b"), traced("llama3_8b", Phase.DECODE, context=4096)
    configs = {layer.name: LayerConfig(key=int8, value=int8) for layer in prefill.layers}
    steps = StepPricer(prefill, decode, configs, BITMOD)
    attention = [layer for layer in at_context(decode, 512).layers if layer.kind in ATTENTION_KINDS]
    layers = [replace(layer, m=5 * layer.m, written=5) for layer in attention]
    layers += [replace(x, m=5 * x.m) for x in at_context(decode, 512).layers if x.kind is LayerKind.SOFTMAX]
    by_hand = evaluate(
        replace(decode, layers=tuple(layers), edges=()), {x.name: configs[x.name] for x in layers}, BITMOD
    )
    ours = steps.verify_cost(5, 512).energy_j - steps.tokens_cost(5, 5, decode_only=True).energy_j
    assert ours == pytest.approx(by_hand.energy_pj * 1e-12, rel=1e-9)


def test_nothing_to_do_takes_no_time(traced):
    assert pricer(traced, "llama3_8b", H100).step(0, 0, ()) == NOTHING


def test_bad_pricers_are_named(traced):
    prefill, decode = traced("llama3_8b"), traced("llama3_8b", Phase.DECODE)
    with pytest.raises(ValueError, match="must be made of a prefill and a decode workload of one sequence"):
        StepPricer(decode, prefill, {}, H100)
    with pytest.raises(ValueError, match="2 chips must have a link between them"):
        StepPricer(prefill, decode, {}, H100, chips=2)
    with pytest.raises(ValueError, match="knot must be at least 1 token, not 0"):
        StepPricer(prefill, decode, {}, H100, knot=0)
    with pytest.raises(ValueError, match="must be made of"):
        StepPricer(prefill, replace(decode, batch=2), {}, H100)
