"""A model over chips: who shares what, which link, what each stage holds, tokens of cache that fit."""

import json

import pytest

from codesign.recipes import recipe
from codesign.serving_chips import Chips, Shapes, cache_tokens, chips_of
from hwmodel.capacity import Capacity
from hwmodel.gpu_presets import GPUS
from hwmodel.link import LINKS
from hwmodel.parallel import TensorParallel
from hwmodel.parallel_experts import ExpertParallel
from hwmodel.pe import WIDE_BITS
from hwmodel.presets import BITMOD

CONFIG = {
    "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320,
    "num_local_experts": 4, "num_experts_per_tok": 2,
}  # fmt: skip
PROMPT, ANSWER = 24, 8
ATTENTION = 2 * 64 * 64 + 2 * 64 * 32  # q and o; k and v of two heads of 16
EXPERT = 3 * 64 * 96
BLOCK = ATTENTION + 4 * EXPERT + 64 * 4  # and the router
TABLE = 320 * 64  # the embedding; the head is as large


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixtral")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return Shapes.of(str(folder), recipe("fp16"), PROMPT, ANSWER)


def chips(tensor=1, stages=1, experts=1, memory_bytes=1e9):
    several = tensor * stages * experts > 1
    return Chips(GPUS["h100"], tensor, stages, LINKS["nvlink4"] if several else None, memory_bytes, experts)


def test_chips_are_counted_in_all_three_directions():
    assert chips(2, 3, 4).count == 24 and chips().count == 1


def test_a_share_is_of_each_layer_or_of_the_experts(shapes):
    halves = chips(tensor=2).share(shapes.last_step)
    assert isinstance(halves, TensorParallel) and isinstance(chips(experts=2).share(shapes.last_step), ExpertParallel)
    whole = {layer.name: layer for layer in shapes.last_step.layers}
    q = next(layer for layer in halves.workload.layers if layer.name.endswith("0.self_attn.q_proj"))
    assert (q.n, q.k) == (whole[q.name].n // 2, whole[q.name].k)


@pytest.mark.parametrize(
    ("machine", "cut", "link", "found"),
    [
        (GPUS["h100"], (1, 1, 1), None, None),
        (GPUS["h100"], (1, 1, 1), "nvlink3", None),  # one chip has nobody to talk to
        (GPUS["h100"], (2, 1, 1), None, "nvlink4"),  # NVIDIA's data sheet of the H100 SXM: fourth-generation NVLink
        (GPUS["h100"], (1, 2, 1), "nvlink3", "nvlink3"),
        (BITMOD, (1, 1, 2), "nvlink3", "nvlink3"),
    ],
)
def test_several_chips_have_a_link(machine, cut, link, found):
    made = chips_of(machine, cut, link, 2.0, 8)
    assert made.link == (None if found is None else LINKS[found])
    assert (made.tensor, made.stages, made.experts, made.dispatch_bits) == (*cut, 8)
    assert made.memory_bytes == 2e9


def test_memory_is_the_gpu_s_own_unless_given():
    # NVIDIA's data sheet of the H100 SXM: 80 GB
    assert chips_of(GPUS["h100"], (1, 1, 1), None, None, WIDE_BITS).memory_bytes == 80e9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((GPUS["h100"], (1, 1, 1), "string", None), "link must be one of nvlink3, .* not 'string'"),
        ((BITMOD, (2, 1, 1), None, 1.0), "link between several bitmod must be given: nvlink3"),
        ((BITMOD, (1, 1, 1), None, None), "memory of bitmod must be given with --memory-gb"),
        ((GPUS["h100"], (1, 1, 1), None, 0.0), "h100 must be given and above 0 bytes, not 0.0"),
        ((GPUS["h100"], (1, 1, 1), None, -1.0), "h100 must be given and above 0 bytes, not -1000000000.0"),
        ((GPUS["h100"], (1, 1, 1), None, float("nan")), "h100 must be given and above 0 bytes, not nan"),
    ],
)
def test_what_chips_lack_is_said(arguments, message):
    with pytest.raises(ValueError, match=message):
        chips_of(*arguments, WIDE_BITS)


def test_shapes_are_of_the_longest_sequence(shapes):
    assert shapes.generation.prefill.context == PROMPT
    assert shapes.last_step.context == PROMPT + ANSWER


def test_one_chip_holds_all_and_nine_tenths_of_its_memory_are_used(shapes):
    (held,) = shapes.capacities(chips(), tokens=PROMPT)
    assert held.weight_bits == 16 * (4 * BLOCK + 2 * TABLE)
    assert held.memory_bits == 0.9 * 8e9
    # the widest layer of a prompt of 24 tokens: two experts of each, inputs and the outputs of gate and up
    assert held.activation_bits >= 16 * PROMPT * (64 + 96)
    (doubled,) = shapes.capacities(chips(), tokens=2 * PROMPT)
    assert doubled.activation_bits == 2 * held.activation_bits


def test_stages_hold_every_weight_once(shapes):
    held = shapes.capacities(chips(stages=2), tokens=PROMPT)
    assert len(held) == 2 and sum(one.weight_bits for one in held) == 16 * (4 * BLOCK + 2 * TABLE)


def test_weights_of_an_encoder_lie_on_the_first_stage(tmp_path):
    config = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_model": 64, "d_ff": 96,
              "d_kv": 16, "num_heads": 4, "num_layers": 2, "vocab_size": 320, "tie_word_embeddings": True}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    made = Shapes.of(str(tmp_path), recipe("fp16"), PROMPT, ANSWER)
    feed, attention, bias = 2 * 64 * 96, 4 * 64 * 64, 32 * 4  # a table of 32 distances for 4 heads in each stack
    encoder, decoder = 2 * (attention + feed) + bias, 2 * (2 * attention + feed) + bias
    (held,) = made.capacities(chips(), tokens=PROMPT)
    assert held.weight_bits == 16 * (encoder + decoder + TABLE), "its head is its embedding, and both stacks share it"
    first, second = made.capacities(chips(stages=2), tokens=PROMPT)
    assert first.weight_bits + second.weight_bits == 16 * (encoder + decoder + 2 * TABLE), "a head of its own"
    assert first.weight_bits > 16 * (encoder + TABLE)


def test_chips_of_experts_hold_their_experts_and_all_of_the_rest(shapes):
    (held,) = shapes.capacities(chips(experts=2), tokens=PROMPT)
    assert held.weight_bits == 16 * (4 * (BLOCK - 2 * EXPERT) + 2 * TABLE)


def test_cache_tokens_by_hand(shapes):
    each = 2 * 2 * 16 * 16 * 4  # bits: keys and values of two heads of 16 in FP16, four layers
    room = 1000 * each + each // 2
    held = Capacity(5000 + room, 3000, 2000, shapes.last_step, shapes.configs)
    assert cache_tokens([held], shapes) == 1000
    small = Capacity(5000 + 7 * each, 3000, 2000, shapes.last_step, shapes.configs)
    assert cache_tokens([held, small], shapes) == 7, "the stage with least room decides"
    assert cache_tokens([held, Capacity(4999, 3000, 2000, shapes.last_step, shapes.configs)], shapes) == 0


def test_a_model_that_writes_no_tokens_is_not_served(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({
        "model_type": "bert", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 50, "architectures": ["BertModel"],
    }))  # fmt: skip
    with pytest.raises(ValueError, match="must write tokens to be served, which it does not"):
        Shapes.of(str(tmp_path), recipe("fp16"), 8, 4)
