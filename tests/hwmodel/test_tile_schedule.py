"""Tile schedules: what comes again, and filling and draining, against hand counts and against the simulator."""

import math
from dataclasses import replace

import pytest

from datatypes.layer_config import LayerConfig
from hwmodel.event_grid import CLOSE, QUICK, grid, summary
from hwmodel.event_options import BANDWIDTH
from hwmodel.event_simulator import simulate
from hwmodel.operands import products_of
from hwmodel.options import SCHEDULED
from hwmodel.presets import ACCELERATORS, ANT, BITMOD, FIGNA, FP16_BASELINE, OLIVE
from hwmodel.tile_plan import shape_of, tile_plan
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload

pd = pytest.importorskip("pandas")


def test_a_compute_bound_layer_waits_for_its_first_block() -> None:
    """FP16 baseline, 24 tokens: one token tile; its inputs, 24 x 1000 x 2 bytes, are held, and 10 output tiles of 32.

    The first pass wants 48,000 bytes of inputs and 64,000 of weights at 29.44 bytes a cycle: 3804 cycles, against 1000
    of computing. The other nine take 64,000 / 29.44 = 2174 each, as fetching takes longer, and 24 x 32 x 2 bytes of
    results 52. Everything at one after another: the DRAM never rests.
    """
    layer = LayerSpec("linear", LayerKind.LINEAR, 24, 1000, 320)
    made = simulate(Workload("one", Phase.PREFILL, (layer,)), LayerConfig(), FP16_BASELINE).layers[0]
    dram = (48_000 + 640_000 + 24 * 320 * 2) / 29.44
    assert made.filled_cycles == pytest.approx(dram, rel=0.02)
    assert made.cycles == pytest.approx(dram, rel=0.02)


def test_a_look_up_reads_and_writes_in_turn() -> None:
    layer = LayerSpec("embedding", LayerKind.EMBEDDING, 4, 1000, 2048)
    made = simulate(Workload("one", Phase.PREFILL, (layer,)), LayerConfig(), FP16_BASELINE).layers[0]
    assert made.filled_cycles == math.ceil(2 * 4 * 2048 * 2 / 29.44 + 16 * 0.94)
    assert made.filled_cycles == pytest.approx(made.cycles, rel=0.01)


def test_both_closed_forms_stay_near_the_simulator_on_the_small_grid() -> None:
    """Two models at batch 1 on BitMoD's machines; the published differences are in docs/event_simulator.md."""
    machines = (FP16_BASELINE, BITMOD, ANT, OLIVE, FIGNA)
    rows = grid(("OPT-1.3B",), QUICK, machines, ("fp16", "int4_g128_kv8"), replace(BANDWIDTH, slice_bytes=8192))
    table = pd.DataFrame([row.record() for row in rows])
    table = table[table["kind"] != "embedding"]
    made = summary(table.assign(all="all"), ["all"]).iloc[0]
    assert made["within_2_percent"] > 90
    assert made["filled_within_2"] == 100
    assert made["filled_mean"] < 100 * CLOSE / 4
    assert abs(made["sum_percent"]) < 100 * CLOSE


def _priced(m: int, k: int, n: int) -> tuple[int, int]:
    """How often weights and inputs come for FP16 weights on the FP16 baseline, in tiles as large as the array."""
    layer = LayerSpec("linear", LayerKind.LINEAR, m, k, n)
    array = FP16_BASELINE.decode_array
    (product,) = products_of(layer, LayerConfig(), FP16_BASELINE, array, SCHEDULED)
    shape = shape_of(layer, product, 0, FP16_BASELINE, array, SCHEDULED)
    return tile_plan(product, shape, FP16_BASELINE, whole=True, passes=1).times


def test_whole_tiles_by_hand() -> None:
    """Decode on 64 rows x 12 columns, buffers of 512 KiB: a weight tile is 128 k bytes, an input tile 24 k."""
    assert (FP16_BASELINE.decode_array.rows, FP16_BASELINE.decode_array.columns) == (64, 12)
    assert _priced(12, 8192, 256) == (1, 1)  # one token tile: weights of 1 MiB a tile are used once
    assert _priced(24, 4096, 256) == (1, 1)  # a weight tile of 512 KiB fits, and inputs stay
    assert _priced(24, 8192, 256) == (2, 1)  # it does not: again for each of 2 token tiles, inputs of 384 KiB held
    # 60 tokens are 5 tiles of 192 KiB, 2 of which have room: 3 blocks, but a weight tile of 1 MiB comes at every visit
    assert _priced(60, 8192, 256) == (5, 1)
    # with weight tiles of 512 KiB it comes for each block: inputs of 64 x 4096 x 2 bytes just fit
    assert _priced(64, 4096, 256) == (1, 1)
    assert _priced(120, 4096, 640) == (2, 1)  # inputs of 960 KiB in tiles of 96: 5 in a block, 10 in all


def test_the_tile_schedule_is_within_two_percent_of_the_simulator() -> None:
    options = replace(BANDWIDTH, slice_bytes=8192)
    machines = (FP16_BASELINE, BITMOD, ACCELERATORS["stripes"])
    chosen = ("fp16", "int4_g128_kv8", "int8_channel_a8_kv8")
    rows = list(grid(("OPT-1.3B",), {Phase.PREFILL: (), Phase.DECODE: (1, 64)}, machines, chosen, options, SCHEDULED))
    assert len(rows) > 50
    assert max(abs(row.layer.difference) for row in rows) < CLOSE
    assert max(row.layer.excess_bytes for row in rows) == 0
