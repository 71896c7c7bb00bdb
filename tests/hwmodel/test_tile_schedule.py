"""The closed form with blocks that are filled first, against hand counts and against the simulator."""

import math
from dataclasses import replace

import pytest

from datatypes.layer_config import LayerConfig
from hwmodel.event_grid import CLOSE, QUICK, grid, summary
from hwmodel.event_options import BANDWIDTH
from hwmodel.event_simulator import simulate
from hwmodel.presets import ANT, BITMOD, FIGNA, FP16_BASELINE, OLIVE
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
