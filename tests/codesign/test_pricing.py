"""Generation costs: the arithmetic shortcuts against tracing and pricing every step."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from transformers import BertConfig, CLIPTextConfig, LlamaConfig, Mamba2Config, MistralConfig, T5Config

from codesign.models import resolve_model
from codesign.pricing import configs_by_layer, configs_of, layer_rows, machine_rows, price_generation, trace_generation
from codesign.recipes import recipe
from codesign.study import LAYER_COLUMNS, MACHINE_COLUMNS
from codesign.trace import trace
from datatypes.catalog import BITMOD_FP4, INTS_SYMMETRIC
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig, TensorConfig
from hwmodel.evaluate import evaluate
from hwmodel.presets import ACCELERATORS
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload

TINY = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
}
WEIGHT = LayerConfig(TensorConfig(BITMOD_FP4, PerGroup(32)))
KV8 = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), dynamic=True)


def source(config):
    return SimpleNamespace(config=config, name="tiny")


def linear_configs(generation, config=WEIGHT):
    return {layer.name: config for layer in generation.prefill.layers if layer.kind is LayerKind.LINEAR}


@pytest.mark.parametrize(
    "config", [LlamaConfig(**TINY), MistralConfig(**TINY, sliding_window=20)], ids=["full", "window"]
)
@pytest.mark.parametrize("context", [9, 17, 24])
def test_a_step_at_another_context_equals_a_fresh_trace(config, context):
    generation = trace_generation(source(config), prompt=8, tokens=16)
    fresh = trace(config, phase=Phase.DECODE, context=context, name="tiny")
    assert generation.at(Phase.DECODE, context).layers == fresh.layers


def test_a_prompt_beyond_the_positions_of_a_text_encoder_is_said_by_its_option():
    """CLIP's own forward refuses it, with a message that knows no ``--prompt``."""
    small = {key: TINY[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")}
    clip = source(CLIPTextConfig(**small, max_position_embeddings=20))
    assert trace_generation(clip, prompt=20).prefill.context == 20
    with pytest.raises(ValueError, match=r"^prompt must be at most the 20 positions of tiny \(--prompt 20\), not 21$"):
        trace_generation(clip, prompt=21)


def test_another_reason_is_not_taken_for_the_positions(monkeypatch):
    def fails(*_args, **_kwargs):
        raise NotImplementedError("the forward must run on shapes alone")

    monkeypatch.setattr("codesign.pricing.trace", fails)
    with pytest.raises(NotImplementedError, match="must run on shapes alone"):
        trace_generation(source(CLIPTextConfig(max_position_embeddings=20)), prompt=21)


@pytest.mark.parametrize("accelerator", ["fp16_baseline", "bitmod"])
def test_alike_layers_priced_once_give_the_sum_over_every_layer_and_step(accelerator):
    machine = ACCELERATORS[accelerator]
    generation = trace_generation(source(LlamaConfig(**TINY)), batch=2, prompt=8, tokens=5)
    configs = linear_configs(generation)
    priced = price_generation(generation, configs, machine)
    steps = [evaluate(generation.at(Phase.DECODE, 8 + i), configs, machine) for i in range(1, 6)]
    prompt = evaluate(generation.prefill, configs, machine)
    assert priced.whole.cycles == prompt.cycles + sum(step.cycles for step in steps)
    assert priced.whole.dram_bits == prompt.total.dram_bits + sum(step.total.dram_bits for step in steps)
    assert priced.whole.energy_pj == pytest.approx(prompt.energy_pj + sum(s.energy_pj for s in steps), rel=1e-12)
    objectives = priced.objectives()
    assert objectives["total_s"] == pytest.approx(objectives["prefill_s"] + 5 * objectives["decode_s"], rel=1e-12)


ENCODER_DECODER = {"d_model": 64, "d_ff": 128, "num_layers": 2, "num_heads": 4, "d_kv": 16, "vocab_size": 512}
UNLIKE_PHASES = {
    # a prompt is scanned in chunks, a token by itself
    "state space": Mamba2Config(hidden_size=64, num_heads=8, head_dim=16, num_hidden_layers=2, vocab_size=512),
    "encoder and decoder": T5Config(**ENCODER_DECODER, architectures=["T5ForConditionalGeneration"]),
}


@pytest.mark.parametrize("name", UNLIKE_PHASES)
def test_phases_may_differ_in_their_layers(name):
    machine = ACCELERATORS["bitmod"]
    generation = trace_generation(source(UNLIKE_PHASES[name]), prompt=8, tokens=3)
    assert {s.name for s in generation.prefill.layers} != {s.name for s in generation.last_step.layers}
    configs = linear_configs(generation)
    priced = price_generation(generation, configs, machine)
    by_step = {s.name: configs[s.name] for s in generation.last_step.layers if s.name in configs}
    steps = [evaluate(generation.at(Phase.DECODE, 8 + i), by_step, machine) for i in range(1, 4)]
    prompt = evaluate(generation.prefill, configs, machine)
    assert priced.whole.cycles == prompt.cycles + sum(step.cycles for step in steps)
    assert priced.whole.dram_bits == prompt.total.dram_bits + sum(step.total.dram_bits for step in steps)
    assert priced.middle_report.context == 8 + 2
    assert [cost.layer for cost in priced.middle_report.layers] == [s.name for s in generation.last_step.layers]


@pytest.mark.parametrize("context", [9, 11])
def test_cross_attention_reads_the_prompt_however_much_is_written(context):
    generation = trace_generation(source(UNLIKE_PHASES["encoder and decoder"]), prompt=8, tokens=3)
    read = {layer.name: layer.n for layer in generation.at(Phase.DECODE, context).layers if layer.name.endswith(".qk")}
    assert {n for name, n in read.items() if ".EncDecAttention." in name} == {8}
    assert {n for name, n in read.items() if ".SelfAttention." in name} == {context}


def test_an_encoder_is_one_pass_without_steps():
    sizes = {key: value for key, value in TINY.items() if key != "num_key_value_heads"}
    generation = trace_generation(source(BertConfig(**sizes, architectures=["BertForMaskedLM"])), prompt=8, tokens=4)
    assert (generation.last_step, generation.tokens) == (None, 0)
    with pytest.raises(ValueError, match="phase must be prefill for tiny, which writes no tokens, not 'decode'"):
        generation.at(Phase.DECODE, 8)
    priced = price_generation(generation, {}, ACCELERATORS["fp16_baseline"])
    assert priced.middle_report is None
    assert priced.whole == priced.prefill
    objectives = priced.objectives()
    assert objectives["total_s"] == objectives["prefill_s"]
    assert math.isnan(objectives["decode_s"]) and math.isnan(objectives["decode_energy_j"])
    head = next(cost for cost in priced.prefill_report.layers if cost.layer == "cls.predictions.decoder")
    assert head.price.macs == 8 * 64 * 512  # words are predicted in every place, not after the last token alone


def test_kv_formats_reach_every_attention_product():
    generation = trace_generation(source(LlamaConfig(**TINY, head_dim=64)), prompt=8, tokens=4)
    configs = linear_configs(generation, LayerConfig(WEIGHT.weight, key=KV8, value=KV8))
    joined = configs_by_layer(generation.prefill, configs)
    attention = [layer for layer in generation.prefill.layers if layer.kind.value.startswith("attention")]
    assert len(attention) == 6
    assert all(joined[layer.name].key == KV8 for layer in attention)
    fewer = price_generation(generation, configs, ACCELERATORS["fp16_baseline"])
    more = price_generation(generation, linear_configs(generation), ACCELERATORS["fp16_baseline"])
    assert fewer.whole.dram_bits < more.whole.dram_bits


def test_a_recurrent_state_is_no_kv_cache():
    linear = LayerSpec("proj", LayerKind.LINEAR, m=1, k=64, n=64)
    cache = LayerSpec("scores", LayerKind.ATTENTION_QK, m=1, k=16, n=32)
    state = LayerSpec("recurrence", LayerKind.ATTENTION_PV, m=1, k=16, n=16, state=True)
    workload = Workload("mixed", Phase.DECODE, (linear, cache, state), context=32)
    joined = configs_by_layer(workload, {"proj": replace(WEIGHT, key=KV8, value=KV8)})
    assert joined["scores"].key == KV8
    assert "recurrence" not in joined


def test_a_config_for_no_layer_is_refused():
    generation = trace_generation(source(LlamaConfig(**TINY)), prompt=4, tokens=2)
    with pytest.raises(ValueError, match="configs must name layers of tiny, not model.layers.9.mlp"):
        configs_by_layer(generation.prefill, {"model.layers.9.mlp": WEIGHT})


def test_rows_have_the_columns_of_the_study_tables():
    generation = trace_generation(source(LlamaConfig(**TINY)), prompt=8, tokens=4)
    configs = linear_configs(generation)
    priced = price_generation(generation, configs, ACCELERATORS["bitmod"])
    rows = layer_rows(priced.prefill_report, generation.prefill, recipe="bitmod4_g32", configs=configs)
    assert len(rows) == len(generation.prefill.layers)
    assert rows[0].keys() == LAYER_COLUMNS.keys()
    down = next(row for row in rows if row["layer"] == "model.layers.0.mlp.down_proj")
    # 160 columns in groups of 32: 4 code bits, 16 scale bits and 2 selector bits for each group
    assert down["weight_bits"] == 4 + 18 / 32
    assert sum(row["cycles"] for row in rows) == priced.prefill.cycles
    assert list(machine_rows(ACCELERATORS).columns) == list(MACHINE_COLUMNS)


def test_a_recipe_configures_layers_with_weights_and_the_head_only_if_it_says_so(tiny_llama_dir):
    generation = trace_generation(resolve_model(tiny_llama_dir), prompt=4, tokens=1)
    linear = {layer.name for layer in generation.prefill.layers if layer.kind is LayerKind.LINEAR}
    made = configs_of(recipe("int4_g32_fp16"), generation)
    assert set(made) == linear - {"lm_head"} and "lm_head" in linear


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"batch": 10**14}, "batch must be 1 to 16,777,216, not 100000000000000"),
        ({"prompt": 0}, "prompt must be 1 to 1,073,741,824, not 0"),
        ({"tokens": 10**8}, "tokens must be 1 to 1,048,576, not 100000000"),
    ],
)
def test_sizes_that_no_machine_holds_are_refused(tiny_llama_dir, size, message):
    with pytest.raises(ValueError, match=message):
        trace_generation(resolve_model(str(tiny_llama_dir)), **size)
