"""Loops of a generated decoder block: what the closed form says is what a simulation with counters runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from datatypes.catalog import NF4  # noqa: E402
from hls.block_export import export_block  # noqa: E402
from hls.block_loop_counter import count_block_loops  # noqa: E402
from hls.block_loops import Record, Step, block_loops, records, token_loops  # noqa: E402
from hls.block_plan import BlockPlan, plan_block  # noqa: E402
from hls.block_reference import block_reference  # noqa: E402
from hls.export import ExportTarget  # noqa: E402
from hls.layer_loops import iterations_by_label  # noqa: E402
from hls.loop import Process  # noqa: E402
from hwmodel.fpga import DEVICES  # noqa: E402
from tests.hls.block_cases import BLOCKS  # noqa: E402

TOKENS = 3
QUICK = "biases_groups_in_the_cache"
AROUND = {  # loops around those that take cycles: their iterations are the entries of these
    "encoded_tokens", "heads_in", "heads_out", "heads_packed", "heads_summed", "heads_turned", "one_level_tokens",
    "plain_tokens", "planes", "positions_scored", "positions_weighed", "row_tiles", "rows_loaded", "scale_tokens",
    "tiles_scored", "tiles_totalled", "tokens_multiplied", "tokens_read", "tokens_run", "tokens_seen", "tokens_taken",
    "zero_heads", "zero_tiles",
}  # fmt: skip


def plan_of(name: str) -> BlockPlan:
    block, options = BLOCKS[name]()
    return plan_block(block, options)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == QUICK else pytest.mark.slow) for name in BLOCKS]
)
def test_every_loop_runs_as_often_as_in_the_simulation(needs_compiler: None, tmp_path: Path, name: str) -> None:
    """Three positions, in one call and then one by one: what depends on the position is counted at each."""
    block, options = BLOCKS[name]()
    x = np.random.default_rng(8).normal(size=(TOKENS, block.hidden)).astype(np.float32)
    target = ExportTarget(DEVICES["u250"], 300.0, options, on_chip_bytes=0)
    (entry,) = export_block(tmp_path / "out", block, x, target, {"model": "none"})["layers"]
    counted = count_block_loops(tmp_path / "out", entry, tmp_path)
    plan = plan_block(block, options)
    loops = [loop for position in range(TOKENS) for loop in token_loops(plan, position)]
    said = {label: 2 * count for label, count in iterations_by_label(loops).items()}
    assert {label: counted.get(label, 0) for label in said} == said
    assert set(counted) - set(said) <= AROUND


def test_loops_by_hand() -> None:
    # 2 heads over as many key heads of 10 elements, keys in tiles of 4, 4 and 2; the third token
    plan = plan_of(QUICK)
    found = {(loop.process, loop.label): loop for loop in block_loops(plan, 2)}
    scored, totalled = found[Step.SCORE, "elements_scored"], found[Step.TOTAL, "heads_totalled"]
    assert (scored.entries, scored.iterations) == (3 * 3, 3 * 10)
    assert (totalled.entries, totalled.iterations) == (3 * 3, 3 * 3 * 2)
    assert found[Step.SOFTMAX, "powers_added"].iterations == 2 * 3
    assert found[Step.ROTATE, "pairs"].iterations == (2 + 2) * 5
    # two positions are in memory, the newest is on the chip
    assert found[Step.READ_KEYS, "record_beats_in"].entries == 2


@pytest.mark.parametrize("name", BLOCKS)
def test_records_are_as_long_as_the_golden_cache(name: str) -> None:
    block, options = BLOCKS[name]()
    x = np.random.default_rng(8).normal(size=(1, block.hidden)).astype(np.float32)
    golden = block_reference(block, x, options)
    key, value = records(plan_block(block, options))
    assert (key.beats + value.beats, key.beats) == (golden.cache.shape[1] // 16, golden.key_words // 16)


def test_a_record_by_hand() -> None:
    # values: 3-bit codes of 10 elements are a block of three words; FP32 scales leave no room for zero points: two
    # words for each of two tiles a head; two heads: 6 + 8 words, one beat; 16 words into 3 banks of two ports
    (_, value) = records(plan_of(QUICK))
    assert (value.head_words, value.blocks, value.tiles, value.entry_words, value.beats) == (3, 2, 4, 2, 1)
    assert value.beat_interval == 3 and value.converted
    # FP16 as it is: 10 elements are a block of 16 words, no entries
    (key, _) = records(plan_of("int8_fp16_cache_fp16"))
    assert (key.head_words, key.entry_words, key.beats, key.beat_interval) == (16, 0, 1, 1)
    assert not key.converted and key.known


def test_only_attention_depends_on_the_position() -> None:
    plan = plan_of(QUICK)
    first, last = (set(block_loops(plan, position)) for position in (0, 4))
    changed = {loop.process for loop in first ^ last}
    assert changed == {
        Step.READ_KEYS, Step.UNPACK_KEYS, Step.SCORE, Step.TOTAL, Step.SOFTMAX, Step.READ_VALUES, Step.UNPACK_VALUES,
        Step.WEIGH,
    }  # fmt: skip


def test_layers_of_a_block_have_no_ports_of_their_own() -> None:
    plan = plan_of(QUICK)
    assert not {loop.process for loop in token_loops(plan, 0)} & {
        Process.READ_INPUT, Process.COLLECT_OUTPUT, Process.WRITE_OUTPUT
    }  # fmt: skip


def test_a_cache_without_a_position_is_refused() -> None:
    with pytest.raises(ValueError, match="position of a token must be 0 to 4, not 5"):
        block_loops(plan_of(QUICK), 5)


def test_tables_are_no_operators() -> None:
    block, _ = BLOCKS[QUICK]()
    plan = plan_of(QUICK)
    assert not Record(replace(plan.key, format=NF4), block.kv_heads).known
