"""Prices of inputs in channel groups, by hand; ``test_batch_evaluate`` has the same for whole design spaces."""

from dataclasses import replace

import pytest

from datatypes.catalog import FP32, INTS_SYMMETRIC
from datatypes.channel_groups_config import ChannelGroupsConfig
from datatypes.granularity import PerChannel, PerTensor
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig
from hwmodel.accelerator import Accelerator
from hwmodel.channel_groups import plain_activation
from hwmodel.evaluate import evaluate
from hwmodel.gpu_presets import GPUS
from hwmodel.operands import products_of
from hwmodel.options import HONEST, ModelOptions
from hwmodel.presets import ACCELERATORS, FP16_BASELINE
from hwmodel.traffic import Product
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload

M, K, N = 64, 512, 256
SPEC = LayerSpec("x", LayerKind.LINEAR, M, K, N)
TENDER, BITFUSION = ACCELERATORS["tender"], ACCELERATORS["bitfusion"]
INT4_ROW = TensorConfig((INTS_SYMMETRIC[4],), PerChannel())
GROUPS = ChannelGroupsConfig(INTS_SYMMETRIC[4], 14, chunks=8)
PLAIN = TensorConfig((INTS_SYMMETRIC[4],), PerTensor(), ScaleConfig(FP32))


def product(
    activation: ChannelGroupsConfig | TensorConfig | None,
    accelerator: Accelerator,
    options: ModelOptions = HONEST,
    spec: LayerSpec = SPEC,
) -> Product:
    (made,) = products_of(spec, LayerConfig(INT4_ROW, activation), accelerator, accelerator.prefill_array, options)
    return made


@pytest.mark.parametrize("groups", [2, 8, 14, 20])
def test_a_tile_waits_for_as_many_shifts_as_the_layer_has_groups(groups: int) -> None:
    """32 x 32 slots of four INT4 products in a cycle; one bubble after each group but the last."""
    tiles = (N // 32) * (M // 32)
    grouped = product(replace(GROUPS, groups=groups), TENDER)
    assert grouped.compute_cycles == tiles * (K // 4 + groups - 1)
    without = product(replace(GROUPS, groups=groups), TENDER, replace(HONEST, requantization_bubbles=False))
    assert without.compute_cycles == tiles * K // 4


def test_the_machines_number_holds_where_the_layer_says_none() -> None:
    tiles = (N // 32) * (M // 32)
    assert TENDER.pe.channel_groups == 8
    assert product(PLAIN, TENDER).compute_cycles == tiles * (K // 4 + 7)


def test_vector_operations_on_a_machine_that_shifts() -> None:
    """Over a plain static input: a bias for each input, what the biases add for each output."""
    plain = product(PLAIN, TENDER)
    assert product(GROUPS, TENDER).vector_operations == plain.vector_operations + M * K + M * N
    assert product(replace(GROUPS, bias=None), TENDER).vector_operations == plain.vector_operations


def test_partial_sums_leave_a_machine_that_does_not_shift() -> None:
    plain = product(PLAIN, BITFUSION)
    grouped = product(GROUPS, BITFUSION)
    assert grouped.compute_cycles == plain.compute_cycles
    assert grouped.vector_operations == plain.vector_operations + M * K + M * N + 13 * M * N


def test_scales_that_are_not_halved_are_multiplied_outside() -> None:
    own = product(replace(GROUPS, halved=False, bias=None), TENDER)
    assert own.compute_cycles == (N // 32) * (M // 32) * (K // 4)
    assert own.vector_operations == product(PLAIN, TENDER).vector_operations + 13 * M * N


def test_an_array_of_fp16_decodes_in_any_order() -> None:
    plain, grouped = product(PLAIN, FP16_BASELINE), product(GROUPS, FP16_BASELINE)
    assert grouped.compute_cycles == plain.compute_cycles
    assert grouped.vector_operations == plain.vector_operations + M * K + M * N


@pytest.mark.parametrize(("tokens", "chunks"), [(1, 1), (64, 1), (257, 2), (4096, 8)])
def test_chunks_that_the_tokens_fill_are_fetched(tokens: int, chunks: int) -> None:
    spec = replace(SPEC, m=tokens)
    one_chunk = 16 * K + 16 * K + 16 * N + 16 * 14 + 32  # order, bias, what they add, sizes, scale
    plain, grouped = product(PLAIN, TENDER, spec=spec), product(GROUPS, TENDER, spec=spec)
    assert grouped.weight.dram_bits == plain.weight.dram_bits + chunks * one_chunk
    assert grouped.input.dram_bits == tokens * K * 4 and grouped.input.buffer_words == plain.input.buffer_words


def test_the_order_is_read_in_each_pass_of_tokens() -> None:
    """64 tokens are two passes of the array's 32 columns, through the weight port of 32 rows of 4 bits and 4 lanes."""
    plain, grouped = product(PLAIN, TENDER), product(GROUPS, TENDER)
    port = grouped.weight_port_bits
    word_pj = TENDER.weight_buffer.at(port).read_pj
    assert grouped.side_read_pj - plain.side_read_pj == pytest.approx(2 * 16 * K / port * word_pj)


def test_more_groups_never_cost_less() -> None:
    workload = Workload("one", Phase.PREFILL, (LayerSpec("fc", LayerKind.LINEAR, 300, 2048, 2048),))
    costs = [
        evaluate(workload, LayerConfig(INT4_ROW, replace(GROUPS, groups=groups)), TENDER).total
        for groups in (2, 4, 14, 20)
    ]
    assert [c.compute_cycles for c in costs] == sorted({c.compute_cycles for c in costs})
    assert [c.energy_pj for c in costs] == sorted(c.energy_pj for c in costs)


def test_scores_wait_for_their_own_groups_too() -> None:
    """Tender on all products: 96 keys by 64 queries are 3 x 2 tiles of 128 / 4 steps."""
    scores = LayerSpec("s", LayerKind.ATTENTION_QK, 64, 128, 96)
    config = LayerConfig(activation=GROUPS, key=replace(INT4_ROW, dynamic=True))
    (made,) = products_of(scores, config, TENDER, TENDER.prefill_array, HONEST)
    assert made.compute_cycles == 6 * (128 // 4 + 13)


def test_a_gpu_multiplies_them_as_fp16() -> None:
    """Tensor cores shift no sums: the codes save traffic alone."""
    workload = Workload("one", Phase.PREFILL, (LayerSpec("fc", LayerKind.LINEAR, 2048, 4096, 4096),))
    gpu = GPUS["a100"]
    wide = evaluate(workload, LayerConfig(INT4_ROW), gpu).total
    grouped = evaluate(workload, LayerConfig(INT4_ROW, GROUPS), gpu).total
    integers = evaluate(workload, LayerConfig(INT4_ROW, replace(PLAIN, dynamic=True)), gpu).total
    assert integers.total_cycles < grouped.total_cycles <= wide.total_cycles * 1.01


def test_a_plain_activation_stays_what_it_is() -> None:
    assert plain_activation(PLAIN) is PLAIN and plain_activation(None) is None
    assert plain_activation(GROUPS) == PLAIN
