"""Estimates of decoder blocks: parts and memories by hand, the timeline of a token by hand and by laws."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")

from datatypes.catalog import FP16, INTS  # noqa: E402
from datatypes.granularity import PerGroup  # noqa: E402
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig  # noqa: E402
from hls.block_estimate import BlockEstimate, estimate_block  # noqa: E402
from hls.block_estimate_buffers import block_buffers, block_streams, stream_memories  # noqa: E402
from hls.block_estimate_cycles import Clock, attention_cycles, token_cycles  # noqa: E402
from hls.block_estimate_logic import block_parts  # noqa: E402
from hls.block_export import layer_estimates  # noqa: E402
from hls.block_plan import BlockPlan, plan_block  # noqa: E402
from hls.decoder_block import LAYERS  # noqa: E402
from hls.estimate import LayerEstimate  # noqa: E402
from hls.estimate_cycles import AXI_LATENCY  # noqa: E402
from hls.export import ExportTarget  # noqa: E402
from hls.hls_operators import ADDER, AXI_MASTER, MULTIPLIER  # noqa: E402
from hwmodel.fpga import DEVICES, FpgaResources  # noqa: E402
from hwmodel.fpga_calibration import FpgaCalibration, ResourceRatio  # noqa: E402
from tests.hls.block_cases import BLOCKS, TOKEN_INT8, made_block  # noqa: E402
from tests.hls.block_events import token_events  # noqa: E402

NAME = "biases_groups_in_the_cache"
CLOCK = Clock(300e6, 77e9, on_chip=False)


def plan_of(name: str = NAME, positions: int = 5) -> BlockPlan:
    block, options = BLOCKS[name]()
    if positions != 5:
        layer = block.layers["q"].config
        block = made_block(layer, block.key, block.value, heads=2, kv_heads=2, biased=True, positions=positions)
    return plan_block(block, options)


def layers_of(plan: BlockPlan, *, device: str = "u250", on_chip: bool = False) -> dict[str, LayerEstimate]:
    target = ExportTarget(DEVICES[device], 300.0, plan.layers["q"].options)
    return layer_estimates(plan, target, on_chip=on_chip)


def estimated(name: str = NAME, *, positions: int = 5, on_chip: bool = False, **more: object) -> BlockEstimate:
    plan = plan_of(name, positions)
    return estimate_block(plan, layers_of(plan, on_chip=on_chip), on_chip=on_chip, **more)


# --- logic and memories ----------------------------------------------------------------------------------------------


def test_operators_by_hand() -> None:
    parts, _ = block_parts(plan_of(), on_chip=False)
    count = {part.name: part.count for part in parts}
    # two heads: a product and a sum each; eight partial sums of a head one behind another, and its tiles
    assert count["float multipliers of scores"] == count["float adders of scores"] == 2
    assert count["float adders of totals of scores"] == 8 and count["float multipliers of totals of scores"] == 2
    assert count["float multipliers of weighted values"] == 4  # power * scale, times code
    assert count["float adders of the rotation"] == 2 and count["float multipliers of the rotation"] == 4
    assert count["codes of keys to float"] == 2  # one for each key head, for all query heads that share it
    assert count["AXI masters of 512 bits"] == 4
    assert {part.name: part.count for part in block_parts(plan_of(), on_chip=True)[0]}["AXI masters of 512 bits"] == 3
    (scores,) = [part for part in parts if part.name == "float multipliers of scores"]
    assert scores.resources.dsps == 2 * MULTIPLIER.dsps.value and ADDER.dsps.value == 2


def test_formats_that_are_wires_take_no_converters() -> None:
    names = {part.name for part in block_parts(plan_of("int8_fp16_cache_fp16"), on_chip=False)[0]}
    assert not any("to float" in name for name in names)
    assert not any("encoded" in name for name in names)  # FP16 has no scales


def test_memories_by_hand() -> None:
    made = {one.name: one for one in block_buffers(plan_of(), on_chip=False)}
    assert (made["scores"].banks, made["scores"].width_bits, made["scores"].depth) == (2, 32, 5)
    # values of 3 bits less zero points are 4 bits; 10 codes a head, each its own bank; one record is multiplied while
    # the next one is unpacked
    codes = made["values: codes"]
    assert (codes.banks, codes.width_bits, codes.depth, codes.copies) == (2 * 10, 4, 1, 2)
    assert codes.resources(ultra_at_hand=True) == FpgaResources(flip_flops=2 * 10 * 4 * 2)
    record = made["values: records"]
    assert (record.banks, record.depth, record.copies) == (3, 6, 2)  # 16 words in a bank for each bit
    assert made["activated"].depth == 50 and made["attention norm: row"].depth == 40


def test_streams_are_those_of_the_header() -> None:
    streams = {one.name: one for one in block_streams(plan_of())}
    # 40 halves are two beats; residuals hold a row
    assert streams["q_in"].depth == streams["up_in"].depth == 2 and streams["residual"].depth == 40
    assert streams["q.to_multiply"].depth == 64 and streams["q_out"].width_bits == 32
    assert len(streams) == 3 + 14 + 5 + 4 + 2 + 5 + 7
    shallow, deep = stream_memories([replace(streams["residual"], depth=65), streams["x"]])
    assert [one.name for one in shallow] == ["x"] and (deep[0].width_bits, deep[0].depth) == (32, 65)


def test_a_layer_has_no_port_and_no_output_row_in_a_block() -> None:
    plan = plan_of()
    layers = layers_of(plan)
    made = estimate_block(plan, layers)
    alone = layers["q"]
    assert any(part.luts == AXI_MASTER.luts for part in alone.parts)
    assert any(buffer.name == "output floats" for buffer, _ in alone.arrays)
    assert not any(part.luts == AXI_MASTER.luts for part in made.layer_parts)
    assert made.layers["q"].luts < alone.resources.luts - 3 * AXI_MASTER.luts.value


def test_the_whole_is_the_sum_of_all_that_is_listed() -> None:
    made = estimated()
    shallow, _ = stream_memories(block_streams(plan_of()))
    total = sum(one.luts for one in made.layers.values())
    total += sum(part.resources.luts for part in made.parts) + sum(taken.luts for _, taken in made.arrays)
    assert made.resources.luts == pytest.approx(total + sum(one.resources.luts for one in shallow))
    assert made.budget.fits and set(made.layers) == set(LAYERS)


def test_a_table_on_the_chip_is_one_for_all_layers() -> None:
    plan = plan_of()
    made = estimate_block(plan, layers_of(plan, on_chip=True), on_chip=True)
    tables = [buffer for buffer, _ in made.arrays if buffer.name == "weight image"]
    assert [(one.width_bits, one.depth, one.constant) for one in tables] == [(64, plan.beats * 8, True)]


# --- cycles ----------------------------------------------------------------------------------------------------------


def test_positions_by_hand() -> None:
    plan = plan_of("int8_fp16_cache_fp16")  # three heads over one, 10 elements, FP16 as it is
    made = attention_cycles(plan, 4, CLOCK)
    # values: read 2, picked 1, times 4, sum 7: 14 and the loop's 1; ten elements: 15 + 9. Unpacking: 4 + 1 for one
    # block, and for one scale. Reading: 64 to the first beat, one beat, 1. So a position every 66 + 1 cycles.
    assert made.value_interval == AXI_LATENCY + 1 + 1 + 1
    # four in memory, then the newest: 66 + (5 + 5) + 24, three more, and the newest behind them
    assert made.values == 66 + 10 + 24 + 3 * 67 + 67
    # keys: 24 likewise, beside totals of three heads: 1, seven sums, no scale, a sum, times 4, compared 2: 63 + 1 + 2
    assert made.key_interval == 66 + 1
    assert made.keys == 66 + 10 + 24 + 66 + 3 * 67 + 67


def test_a_first_token_reads_no_memory() -> None:
    plan = plan_of("int8_fp16_cache_fp16")
    # a record of 16 words copied on the chip: read 2, the loop's 1, 15 more; then as above
    assert attention_cycles(plan, 0, CLOCK).values == 18 + 10 + 24


def test_a_token_is_neither_the_sum_of_its_processes_nor_the_longest() -> None:
    plan = plan_of()
    layers = layers_of(plan)
    made = token_cycles(plan, layers, 4, CLOCK)
    assert made.latency == max(made.ends.values()) == made.ends["output"]
    # the layers share one reader, so none starts before the weights of the one before are read
    assert made.latency > max(*made.work.values(), made.attention.latency)
    assert made.latency > sum(made.work[name] for name in ("q", "o", "gate", "down")) + made.attention.latency
    alone = sum(layer.cycles.latency for layer in layers.values())
    assert sum(made.work.values()) < alone
    order = ["norm", "q", "k", "v", "attend", "o", "mlp_norm", "gate", "up", "silu", "down", "output"]
    assert [made.ends[name] for name in order] == sorted(made.ends[name] for name in order)
    assert made.weights < made.ends["down"] and made.ends["cache"] < made.latency


def test_only_attention_grows_with_the_position() -> None:
    plan = plan_of()
    layers = layers_of(plan)
    tokens = [token_cycles(plan, layers, position, CLOCK) for position in range(5)]
    grown = [b.latency - a.latency for a, b in pairwise(tokens[1:])]
    of_attention = tokens[3].attention.latency - tokens[2].attention.latency
    assert grown == [of_attention] * 3
    # a position more in each pipeline, and a power of each head
    assert of_attention == tokens[4].attention.key_interval + tokens[4].attention.value_interval + 2
    assert tokens[1].latency > tokens[0].latency and tokens[0].work == tokens[4].work


@pytest.mark.parametrize("name", BLOCKS)
def test_ports_and_slow_memories_never_make_it_faster(name: str) -> None:
    plan = plan_of(name)
    layers = layers_of(plan)
    position = plan.block.positions - 1
    made = token_cycles(plan, layers, position, CLOCK)
    assert token_cycles(plan, layers, position, replace(CLOCK, ports=True)).latency >= made.latency
    assert token_cycles(plan, layers, position, replace(CLOCK, bytes_per_s=1e8)).latency > made.latency


def test_smoothed_layers_wait_for_their_divisors() -> None:
    """With smoothing a layer's inputs are divided by what only the reader brings; k's comes behind q's weights."""
    plan = plan_of("bitmod_smoothed_fp8_cache")
    layers = layers_of(plan)
    made = token_cycles(plan, layers, 0, CLOCK)
    plain = {name: replace(layer, smoothing=None) for name, layer in plan.layers.items()}
    assert made.ends["k"] > token_cycles(replace(plan, layers=plain), layers, 0, CLOCK).ends["k"]


def smollm2_sized() -> BlockPlan:
    """Nine heads over three of 64, 576 wide, 1,536 in the MLP: SmolLM2-135M's, INT4 in groups of 64."""
    int4 = TensorConfig((INTS[4],), PerGroup(64), ScaleConfig(FP16))
    layer = LayerConfig(weight=int4, activation=TOKEN_INT8)
    sizes = {"heads": 9, "kv_heads": 3, "head_dim": 64, "hidden": 576, "mlp": 1536, "positions": 256}
    return plan_block(made_block(layer, TOKEN_INT8, TOKEN_INT8, **sizes))


@pytest.mark.parametrize("position", [0, 255], ids=["first", "last"])
def test_a_token_lasts_as_long_as_its_events(position: int) -> None:
    """Every beat and every float through streams of their depths. The closed form lets no weight wait in a stream: 64
    beats for each of seven layers are that share of the image, and as much of the time at most."""
    plan = smollm2_sized()
    made = token_cycles(plan, layers_of(plan), position, CLOCK).latency
    events = token_events(plan, position, CLOCK)["output"]
    assert events <= made <= events * (1 + 7 * 64 / plan.beats)


@pytest.mark.parametrize("name", BLOCKS)
def test_small_blocks_never_last_longer_than_said(name: str) -> None:
    """Where a stream holds a whole layer, weights are there before it starts: the closed form is an upper bound."""
    plan = plan_of(name)
    made = token_cycles(plan, layers_of(plan), 3, CLOCK)
    events = token_events(plan, 3, CLOCK)
    for process in ("q", "k", "v", "attend", "o", "gate", "up", "silu", "down", "output"):
        assert events[process] <= made.ends[process], process


# --- the whole -------------------------------------------------------------------------------------------------------


def test_bytes_of_a_token_by_hand() -> None:
    made, cached = estimated(positions=5), estimated(positions=5, on_chip=True)
    # records of keys: 10 codes of 8 bits are 8 words, three FP16 scales a head: 2 * (8 + 3) = 22 words, two beats; of
    # values one beat; five of each, and 40 floats in and out, three beats each
    assert cached.bytes_moved == 64 * (5 * 3 + 2 * 3)
    # the image once: some beats hold the ends of two tiles and are read twice
    assert made.bytes_moved - cached.bytes_moved >= 64 * sum(plan.beats for plan in plan_of().layers.values())
    assert made.bytes_per_s == pytest.approx(made.bytes_moved * 300e6 / made.last.latency)


def test_products_of_a_token_by_hand() -> None:
    # q, k, v: 20 x 40 each; o: 40 x 20; gate, up: 50 x 40; down: 40 x 50; two heads of 10 with five positions, twice
    assert estimated().macs == 4 * 800 + 3 * 2000 + 2 * 5 * 2 * 10


def test_more_positions_take_more_memory_and_time() -> None:
    few, many = estimated(positions=64), estimated(positions=1024)
    assert many.last.latency > few.last.latency and many.first.latency == few.first.latency
    # scores of 64 positions are LUT RAM; of 1,024: two banks of 32 x 1,024, two BRAM18s each (FINN-R)
    assert many.resources.bram36 - few.resources.bram36 == pytest.approx(2 * 2 / 2)
    assert few.cycles_a_position == pytest.approx(many.cycles_a_position, rel=0.05)


def test_a_record_is_json_and_the_same_every_time() -> None:
    made = estimated().to_dict()
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert made == estimated().to_dict()
    assert made["fits"] and made["device_bytes_per_s"] == 77e9 and made["tokens"] == 1
    assert made["cycles"]["latency"] == made["cycles"]["interval_of_calls"]
    assert made["cycles_with_two_ports"]["latency"] >= made["cycles"]["latency"]
    assert len(made["missing"]) == len(set(made["missing"]))


def test_a_calibration_corrects_the_whole_and_says_so() -> None:
    ratio = ResourceRatio("UltraScale+", "luts", 0.5, 1.1, ("fc",), "Vivado")
    made = estimated(calibration=FpgaCalibration((ratio,), "mine.json"))
    assert made.resources.luts == pytest.approx(estimated().resources.luts / 2)
    assert made.calibration.startswith("calibrated by mine.json on UltraScale+: luts x 0.50")


def test_a_block_for_many_values_a_head() -> None:
    """Grouped heads multiply side by side, but each key head is unpacked once."""
    layer = BLOCKS[NAME]()[0].layers["q"].config
    block = made_block(layer, TOKEN_INT8, TOKEN_INT8, heads=8, kv_heads=2, head_dim=8)
    count = {part.name: part.count for part in block_parts(plan_block(block), on_chip=False)[0]}
    assert count["float multipliers of scores"] == 8 and count["codes of keys to float"] == 2
