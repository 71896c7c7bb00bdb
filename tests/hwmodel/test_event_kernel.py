"""The compiled loop against the plain one, event for event, on random small schedules, and against hand counts."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwmodel.accelerator import Accelerator, Array
from hwmodel.event_kernel import COMPUTE, CONFLICTS, WAIT_OUTPUTS
from hwmodel.event_options import BANDWIDTH, Arbiter, DramChannels, Feed, Refill, SimulationOptions
from hwmodel.event_reference import run_reference
from hwmodel.event_schedule import TICKS, LayerPlan, Schedule, schedule
from hwmodel.event_simulator import execute, settings_of
from hwmodel.event_tiles import Pieces, cut
from hwmodel.memory import Dram
from hwmodel.options import PAPER
from hwmodel.presets import BITMOD
from hwmodel.tile_plan import dense_shape, tile_plan
from hwmodel.traffic import Product, Stream

# one channel, 64 bytes in 4 cycles at 1 GHz, no latency: every figure below can be counted on paper
PLAIN = DramChannels(
    channels=1, burst_bytes=64, row_bytes=256, banks=2, latency_s=0.0, activate_s=10e-9, precharge_s=5e-9,
    write_to_read_s=7e-9, read_to_write_s=3e-9, refresh_interval_s=100e-9, refresh_s=20e-9, source="test",
)  # fmt: skip
BUS = Dram("test", bytes_per_s=16e9, energy_pj_per_bit=1.0, efficiency=1.0, source="test")
MACHINE = replace(BITMOD, prefill_array=Array(2, 2), decode_array=Array(4, 1), dram=BUS)
ARRAY = Array(2, 2)


def _pieces(cycles: list[int], weights: list[int], inputs: list[int], outputs: list[int], **more: object) -> Pieces:
    """Pieces of a tile each, of so many cycles, that need so many more bytes each and write so many."""
    bytes_in = [np.cumsum(np.array(x, np.int64)) for x in (weights, inputs)]
    made = Pieces(
        cycles=np.array(cycles), steps=np.array(cycles), weight_bits=bytes_in[0] * 8, input_bits=bytes_in[1] * 8,
        weight_bytes=bytes_in[0], input_bytes=bytes_in[1], weight_freed=bytes_in[0], input_freed=bytes_in[1],
        tile=np.arange(len(cycles)), vector_cycles=np.zeros(len(cycles), np.int64),
        output_bits=np.cumsum(np.array(outputs)) * 8, macs=np.arange(len(cycles)), on_vector=False, held_weights=False,
        blocks=1,
    )  # fmt: skip
    return replace(made, **more)


def _time(parts: Pieces, options: SimulationOptions, machine: Accelerator = MACHINE) -> tuple[float, np.ndarray]:
    """Cycles, and the array's ticks by what they went into."""
    made = schedule([LayerPlan((parts,), 0, 0)], machine, ARRAY, options)
    run = execute(made, machine, options, PAPER)
    return run.layer_time[-1] / TICKS, run.where[0] / TICKS


BARE = SimulationOptions(dram=PLAIN, quantum_bursts=1)


def test_one_burst_each_way_is_fetched_computed_and_written() -> None:
    # weights 4 cycles, inputs 4 more, 10 of computing, 4 of writing
    cycles, where = _time(_pieces([10], [64], [64], [64]), BARE)
    assert cycles == 4 + 4 + 10 + 4
    assert where[COMPUTE] == 10


def test_fetching_runs_beside_computing() -> None:
    # weights of three pieces come at 4, 8 and 12; each computes for 10: 4 + 30
    assert _time(_pieces([10] * 3, [64] * 3, [0] * 3, [0] * 3), BARE)[0] == 4 + 30
    # and where computing takes 1 it waits for the last: 12 + 1
    assert _time(_pieces([1] * 3, [64] * 3, [0] * 3, [0] * 3), BARE)[0] == 12 + 1


def test_without_a_second_buffer_fetching_and_computing_take_turns() -> None:
    # (4 + 10) three times
    options = replace(BARE, refill=Refill.SINGLE)
    assert _time(_pieces([10] * 3, [64] * 3, [0] * 3, [0] * 3), options)[0] == 3 * 14


def test_latency_is_waited_for_once() -> None:
    options = replace(BARE, dram=replace(PLAIN, latency_s=6e-9))
    assert _time(_pieces([1] * 3, [64] * 3, [0] * 3, [0] * 3), options)[0] == 12 + 6 + 1


def test_two_channels_share_the_bandwidth() -> None:
    # 16 GB/s over two channels: a burst takes 8 cycles on each; four bursts take 16
    options = replace(BARE, dram=replace(PLAIN, channels=2))
    assert _time(_pieces([1], [256], [0], [0]), options)[0] == 16 + 1


def test_an_open_row_costs_once_and_the_next_one_is_opened_ahead() -> None:
    # rows of 4 bursts: the first is opened in 10, the second while 16 cycles of data pass
    options = replace(BARE, rows=True)
    assert _time(_pieces([1], [512], [0], [0]), options)[0] == 10 + 32 + 1
    # with one bank nothing can be opened ahead: 5 to close and 10 to open again
    single = replace(options, dram=replace(PLAIN, banks=1))
    assert _time(_pieces([1], [512], [0], [0]), single)[0] == 10 + 16 + 15 + 16 + 1


def test_refresh_blocks_the_channel() -> None:
    # 30 bursts of 4: the refresh due at 100 begins there and takes 20
    options = replace(BARE, refresh=True)
    assert _time(_pieces([1], [30 * 64], [0], [0]), options)[0] == 120 + 20 + 1


def test_a_bus_that_turns_waits() -> None:
    # read 4, compute 1, wait 3 and write 4, wait 7 and read 4, compute 1, wait 3 and write 4
    options = replace(BARE, turnaround=True, refill=Refill.SINGLE)
    cycles, _ = _time(_pieces([1, 1], [64, 64], [0, 0], [64, 64]), options)
    # the second read is asked for when the first piece ends, before the write: 4 + 4 + 1, then both writes, one turn
    assert cycles == 4 + 1 + 4 + 3 + 4 + 4


def test_results_wait_for_room() -> None:
    # room for one burst: a tile starts when the result of the one before is written
    options = replace(BARE, output_room_bytes=64)
    made = _pieces([1] * 4, [0] * 4, [0] * 4, [64] * 4)
    assert _time(made, options)[0] == 4 * (1 + 4)
    assert _time(made, replace(BARE, output_room_bytes=4096))[0] == 1 + 4 * 4


def test_results_wait_for_the_vector_unit() -> None:
    made = _pieces([1] * 4, [0] * 4, [0] * 4, [0] * 4, vector_cycles=np.array([10] * 4))
    cycles, where = _time(made, BARE)
    assert cycles == 1 + 4 * 10
    assert where[COMPUTE] == 4
    assert where[WAIT_OUTPUTS] == 0
    # with room for the results of one tile the array works and waits in turn: 4 x (1 + 10)
    cycles, where = _time(made, replace(BARE, result_tiles=1))
    assert cycles == 4 * 11
    assert where[WAIT_OUTPUTS] == 3 * 10


@pytest.mark.parametrize(("steps", "array"), [(1, Array(4, 4)), (100, Array(32, 32)), (7, Array(3, 11))])
def test_systolic_fold_law(steps: int, array: Array) -> None:
    """2 R + C + T - 2 cycles for each fold (SCALE-Sim, output-stationary), as data are there."""
    rows, columns = 2 * array.rows, 3 * array.columns  # 6 folds
    shape = dense_shape(rows, columns, steps, array, lanes=1, copies=1, shared=False)
    nothing = Stream(0, 0, 0)
    product = Product(rows * columns * steps, 6 * steps, 6 * steps, nothing, nothing, nothing, 64, 64)
    plan = tile_plan(product, shape, MACHINE, whole=False, passes=1)
    parts = cut(plan, MACHINE, slice_bytes=64, piece_limit=1000)
    for feed, law in (
        (Feed.BROADCAST, 6 * steps),
        (Feed.SYSTOLIC, 6 * (2 * array.rows + array.columns + steps - 2)),
        (Feed.SYSTOLIC_OVERLAPPED, 6 * steps + 2 * array.rows + array.columns - 2),
    ):
        options = replace(BARE, feed=feed)
        made = schedule([LayerPlan((parts,), 0, 0)], MACHINE, array, options)
        assert execute(made, MACHINE, options, PAPER).layer_time[0] == law * TICKS


def test_bank_conflicts_hold_the_array_up() -> None:
    # one bank: each of the 2 bursts that arrive in the first piece's 20 cycles (at 8, 12) costs one
    made = _pieces([20, 1], [64, 128], [0, 0], [0, 0])
    cycles, where = _time(made, replace(BARE, bank_conflicts=1))
    assert where[CONFLICTS] == 2
    assert cycles == 4 + 20 + 2 + 1


counts = st.lists(st.integers(0, 300), min_size=1, max_size=7)


@st.composite
def schedules(draw: st.DrawFn, options: SimulationOptions) -> Schedule:
    plans = []
    for index in range(draw(st.integers(1, 3))):
        parts = []
        for _ in range(draw(st.integers(1, 2))):
            size = draw(st.integers(1, 7))
            column = st.lists(st.integers(0, 300), min_size=size, max_size=size)
            tile = np.cumsum([0, *draw(st.lists(st.integers(0, 1), min_size=size - 1, max_size=size - 1))])
            tiles = int(tile[-1]) + 1
            outputs = draw(st.lists(st.integers(0, 300), min_size=tiles, max_size=tiles))
            vector = draw(st.lists(st.integers(0, 30), min_size=tiles, max_size=tiles))
            parts.append(
                replace(
                    _pieces(draw(column), draw(column), draw(column), [0] * size),
                    tile=tile,
                    vector_cycles=np.array(vector),
                    output_bits=np.cumsum(outputs) * 8,
                    macs=np.arange(tiles),
                )
            )
        after = draw(st.integers(0, index))
        plans.append(LayerPlan(tuple(parts), after, draw(st.integers(0, after))))
    return schedule(plans, MACHINE, ARRAY, options)


@st.composite
def machines(draw: st.DrawFn) -> SimulationOptions:
    dram = replace(PLAIN, channels=draw(st.integers(1, 3)), banks=draw(st.integers(1, 4)),
                   latency_s=draw(st.sampled_from([0.0, 5e-9])))  # fmt: skip
    return SimulationOptions(
        dram=dram, arbiter=draw(st.sampled_from(Arbiter)), quantum_bursts=draw(st.integers(1, 4)),
        rows=draw(st.booleans()), refresh=draw(st.booleans()), turnaround=draw(st.booleans()),
        feed=draw(st.sampled_from(Feed)), refill=draw(st.sampled_from(Refill)),
        bank_conflicts=draw(st.sampled_from([None, 1, 3])), output_room_bytes=draw(st.sampled_from([64, 1000])),
        result_tiles=draw(st.integers(1, 4)),
    )  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_compiled_loop_is_the_plain_loop_event_for_event(data: st.DataObject) -> None:
    options = data.draw(machines())
    made = data.draw(schedules(options))
    plain = run_reference(made, settings_of(MACHINE, options, PAPER))
    run = execute(made, MACHINE, options, PAPER, trace=len(plain.events) + 10)
    ours = [tuple(int(x) for x in row) for row in run.trace if row[0] >= 0]
    assert ours == plain.events
    assert run.layer_time.tolist() == plain.layer_time
    assert run.where.tolist() == plain.where


def test_an_unfinished_schedule_is_an_error_of_ours() -> None:
    made = schedule([LayerPlan((_pieces([1], [64], [0], [0]),), 0, 0)], MACHINE, ARRAY, BARE)
    stuck = replace(made, weight_limit=np.zeros(2, np.int64))
    with pytest.raises(AssertionError, match="must be able to go on"):
        execute(stuck, MACHINE, BANDWIDTH, PAPER)
