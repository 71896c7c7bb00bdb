"""Event-driven simulation of a workload, tile by tile: cycles of each layer, and where they went.

The machine is the cost model's (``traffic``): an output-stationary array, two buffers, a vector unit, DRAM. Where the
closed form takes the slowest resource of a layer, here every piece of a tile waits for its own data, buffers are
refilled as they are used up, and streams compete for DRAM channels. Bits and multiply-accumulates are those of the
closed form, to the bit; ``docs/event_simulator.md`` says what follows and what is left out.

Left out: energy (the closed form's holds, as traffic and work are equal), GPUs, instruction and control overheads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hwmodel import event_kernel as kernel
from hwmodel.accelerator import Accelerator, Array
from hwmodel.evaluate import Configs, Pricer, copies_in_turn, layer_products, with_last_tokens
from hwmodel.event_options import BANDWIDTH, Arbiter, SimulationOptions
from hwmodel.event_report import SimulatedLayer, SimulationReport
from hwmodel.event_schedule import TICKS, LayerPlan, Schedule, schedule
from hwmodel.event_tiles import Pieces, cut
from hwmodel.operands import FP16_LAYER, Config
from hwmodel.options import HONEST, ModelOptions
from hwmodel.report import LayerCost
from hwmodel.term_skipping import CountedBits
from hwmodel.tile_choice import schedule_layer
from hwmodel.tile_plan import TilePlan, TileShape, filled_cycles, look_up_cycles, plans_of, tile_plan
from hwmodel.traffic import NOTHING, Product, Stream
from hwmodel.units import BYTE_BITS, ceil_div
from hwmodel.workload import ATTENTION_KINDS, GEMM_KINDS, LayerKind, LayerSpec, Phase, Workload

_ARBITERS = {
    Arbiter.EARLIEST: kernel.EARLIEST,
    Arbiter.ROUND_ROBIN: kernel.ROUND_ROBIN,
    Arbiter.PRIORITY: kernel.PRIORITY,
}


Known = dict[tuple[object, ...], SimulatedLayer]


def simulate(
    workload: Workload,
    configs: Configs,
    accelerator: Accelerator,
    options: SimulationOptions = BANDWIDTH,
    model_options: ModelOptions = HONEST,
    *,
    bit_stats: Mapping[str, CountedBits] | None = None,
    known: Known | None = None,
) -> SimulationReport:
    """Simulate every layer of a workload.

    Args:
        workload: one phase of a model.
        configs: as in ``evaluate``.
        accelerator: what it runs on.
        options: how the machine behaves in time.
        model_options: which effects count, as in ``evaluate``.
        bit_stats: as in ``evaluate``.
        known: layers simulated before on the same accelerator with the same ``model_options``; new ones are added.

    Returns:
        One record for each layer, in order. Layers with equal plans (the same tiles, bits and cycles, of whatever shape
        and config) are simulated once, unless weights are fetched ahead across layers.

    Raises:
        TypeError, ValueError, NotImplementedError: as in ``evaluate``; ``NotImplementedError`` also for a GPU.
    """
    if not isinstance(accelerator, Accelerator):
        name = getattr(accelerator, "name", repr(accelerator))
        raise NotImplementedError(
            f"the event simulator runs arrays of PEs with two buffers, not {name}; price it with evaluate instead"
        )
    pricer = Pricer(configs, accelerator, model_options, bit_stats=bit_stats)
    costs = pricer.evaluate(workload).layers
    chosen = _configs_of(configs, workload)
    planner = Planner(workload, accelerator, options, model_options, bit_stats or {})
    if options.prefetch:
        layers = planner.together(costs, chosen)
    else:
        known = {} if known is None else known
        here: dict[tuple[object, ...], SimulatedLayer] = {}
        made = []
        for spec, config, cost in zip(workload.layers, chosen, costs, strict=True):
            key = planner.key(spec, config)
            if key not in here:
                here[key] = planner.alone(spec, config, cost, known)
            made.append(here[key].named(spec.name))
        layers = tuple(made)
    return SimulationReport(
        model=workload.model,
        accelerator=accelerator.name,
        phase=workload.phase.value,
        batch=workload.batch,
        context=workload.context,
        layers=layers,
        frequency_hz=accelerator.frequency_hz,
    )


def _configs_of(configs: Configs, workload: Workload) -> list[Config]:
    """The config of each layer, as ``Pricer`` takes it."""
    if isinstance(configs, Mapping):
        return [configs.get(layer.name, FP16_LAYER) for layer in workload.layers]
    return [FP16_LAYER if layer.kind is LayerKind.EMBEDDING else configs for layer in workload.layers]


class Planner:
    """Plans and runs the layers of one workload on one machine."""

    def __init__(
        self,
        workload: Workload,
        accelerator: Accelerator,
        options: SimulationOptions,
        model_options: ModelOptions,
        bit_stats: Mapping[str, CountedBits],
    ) -> None:
        self.workload, self.accelerator = workload, accelerator
        self.options, self.model_options, self.bit_stats = options, model_options, bit_stats
        self.array: Array = accelerator.array(workload.phase)

    def key(self, spec: LayerSpec, config: Config) -> tuple[object, ...]:
        """Layers of equal key take the same time."""
        return (spec.shape_key, id(config), id(self.bit_stats.get(spec.name)))

    def alone(self, spec: LayerSpec, config: Config, cost: LayerCost, known: Known) -> SimulatedLayer:
        """One layer on a machine that has nothing else to do."""
        plans = self.plans(spec, config, cost)
        if not plans:
            return _simulated([cost], [0], None, None)[0]
        options = self._grain(cost)
        key = (plans, self.array, options)
        if key not in known:
            made = schedule([LayerPlan(self.pieces(plans, options), 0, 0)], self.accelerator, self.array, options)
            run = execute(made, self.accelerator, options, self.model_options)
            known[key] = _simulated([cost], [0], made, run, [self.filled(plans)])[0]
        return replace(known[key], layer=cost.layer, kind=cost.kind, closed_cycles=cost.cycles)

    def together(self, costs: Sequence[LayerCost], configs: Sequence[Config]) -> tuple[SimulatedLayer, ...]:
        """All layers on one time line; weights of later layers are fetched as soon as there is room."""
        plans: list[LayerPlan] = []
        at = []
        ended = self._producers()
        memory: dict[tuple[object, ...], tuple[tuple[Pieces, ...], float]] = {}
        filled = []
        for index, (spec, config, cost) in enumerate(zip(self.workload.layers, configs, costs, strict=True)):
            key = self.key(spec, config)
            if key not in memory:
                made_plans = self.plans(spec, config, cost)
                pieces = self.pieces(made_plans, self._grain(cost))
                memory[key] = pieces, self.filled(made_plans) if made_plans else 0.0
            parts, cycles = memory[key]
            filled.append(cycles)
            at.append(len(plans) if parts else -1)
            if parts:
                last = ended[index]
                while last >= 0 and at[last] < 0:  # a layer that takes no time
                    last -= 1
                after = at[last] + 1 if last >= 0 else 0
                fresh = spec.kind in ATTENTION_KINDS and self.workload.phase is Phase.PREFILL
                plans.append(LayerPlan(parts, after, after if fresh else 0))
        if not plans:
            return tuple(_simulated([cost], [-1], None, None)[0] for cost in costs)
        made = schedule(plans, self.accelerator, self.array, self.options)
        run = execute(made, self.accelerator, self.options, self.model_options)
        return _simulated(costs, at, made, run, filled)

    def filled(self, plans: Sequence[TilePlan]) -> float:
        """The closed form with blocks that are filled first."""
        first = plans[0].product
        if first.compute_cycles == 0 and first.vector_operations == 0:  # a look-up
            moved = sum(stream.dram_bits for stream in (first.weight, first.output))
            return float(look_up_cycles(moved, self.accelerator, self.model_options))
        return float(filled_cycles(plans, self.accelerator, self.model_options))

    def _producers(self) -> list[int]:
        """Index of the last layer that each layer needs the results of; the one before it where there are no edges."""
        index = {layer.name: i for i, layer in enumerate(self.workload.layers)}
        if not self.workload.edges:
            return list(range(-1, len(index) - 1))
        last = [-1] * len(index)
        for source, target in self.workload.edges:
            last[index[target]] = max(last[index[target]], index[source])
        return last

    def plans(self, spec: LayerSpec, config: Config, cost: LayerCost) -> tuple[TilePlan, ...]:
        """The products of a layer and how their tiles take turns; none for a layer that takes no time."""
        if spec.kind not in GEMM_KINDS:
            return self._other(spec, cost)
        options = self.model_options
        device, array = self.accelerator, self.array
        stats = self.bit_stats.get(spec.name)
        spec = with_last_tokens(spec, self.workload, options)
        products = partial(layer_products, spec, config, device, options, stats)
        passes = copies_in_turn(spec, options)
        if options.scheduled:
            return tuple(schedule_layer(spec, products, device, array, options, passes).plans)
        made = plans_of(spec, products(array), device, array, options, passes, holds=(-1,))
        return tuple(plan for (plan,) in made)

    def _grain(self, cost: LayerCost) -> SimulationOptions:
        """Options with slices for a layer of this price."""
        return self.options.grain(ceil_div(cost.price.dram_bits, BYTE_BITS))

    def pieces(self, plans: Sequence[TilePlan], options: SimulationOptions) -> tuple[Pieces, ...]:
        """Products cut as these options say."""
        sizes = {"slice_bytes": options.slice_bytes, "piece_limit": options.piece_limit}
        return tuple(cut(plan, self.accelerator, **sizes) for plan in plans)

    def _other(self, spec: LayerSpec, cost: LayerCost) -> tuple[TilePlan, ...]:
        """A look-up or a vector operation, row tile by row tile."""
        price = cost.price
        if price.cycles == 0:
            return ()
        read, written = price.weight_bits + price.input_bits, price.output_bits
        product = Product(
            macs=0,
            tile_steps=0,
            compute_cycles=0,
            weight=Stream(read, 0, ceil_div(read, BYTE_BITS)) if read else NOTHING,
            input=NOTHING,
            output=Stream(written, 0, 0),
            weight_port_bits=price.weight_port_bits,
            input_port_bits=price.input_port_bits,
            vector_operations=price.vector_cycles * self.accelerator.vector.lanes,
        )
        shape = TileShape(spec.m * spec.copies, 1, 1, 1, 1, self.array.rows, self.array.columns)
        return (tile_plan(product, shape, self.accelerator, whole=False, passes=1),)


@dataclass(frozen=True)
class Run:
    """What the loop hands back; arrays as in ``event_kernel.run``."""

    layer_time: np.ndarray
    where: np.ndarray
    moved: np.ndarray
    totals: np.ndarray
    trace: np.ndarray
    burst_ticks: int
    channels: int


def settings_of(accelerator: Accelerator, options: SimulationOptions, model_options: ModelOptions) -> np.ndarray:
    """The numbers of the loop, ``event_kernel``'s names.

    With rows, refresh or turnaround simulated, bursts run at peak bandwidth; else at what ``model_options`` says.
    """
    dram, clock = options.dram, accelerator.frequency_hz
    sustained = model_options.dram_efficiency and not options.timed_dram
    bits_per_cycle = accelerator.dram.bits_per_cycle(clock, sustained=sustained)

    def ticks(seconds: float) -> int:
        return round(seconds * clock * TICKS)

    made = np.zeros(kernel.SETTINGS, np.int64)
    made[kernel.CHANNELS] = dram.channels
    made[kernel.BURST] = max(1, round(dram.burst_bytes * BYTE_BITS * dram.channels / bits_per_cycle * TICKS))
    made[kernel.QUANTUM] = options.quantum_bursts
    made[kernel.ARBITER] = _ARBITERS[options.arbiter]
    made[kernel.LATENCY] = ticks(dram.latency_s)
    made[kernel.BANKS] = dram.banks
    made[kernel.ACTIVATE], made[kernel.PRECHARGE] = ticks(dram.activate_s), ticks(dram.precharge_s)
    made[kernel.REFRESH_INTERVAL] = max(1, ticks(dram.refresh_interval_s))
    made[kernel.RESULT_TILES] = options.result_tiles
    if options.rows:
        made[kernel.ROW_BURSTS] = dram.row_bytes // dram.burst_bytes
    if options.turnaround:
        made[kernel.WRITE_TO_READ], made[kernel.READ_TO_WRITE] = (
            ticks(dram.write_to_read_s),
            ticks(dram.read_to_write_s),
        )
    if options.refresh:
        made[kernel.REFRESH] = ticks(dram.refresh_s)
    if options.bank_conflicts is not None:
        made[kernel.CONFLICT_BANKS], made[kernel.CONFLICT] = options.bank_conflicts, TICKS
    return made


def execute(
    made: Schedule,
    accelerator: Accelerator,
    options: SimulationOptions,
    model_options: ModelOptions = HONEST,
    *,
    trace: int = 0,
) -> Run:
    """Run a schedule.

    Args:
        made: the schedule.
        accelerator, options, model_options: as in ``simulate``.
        trace: events to keep.
    """
    layers = len(made.after)
    settings = settings_of(accelerator, options, model_options)
    layer_time, totals = np.zeros(layers, np.int64), np.zeros(7, np.int64)
    where, moved = np.zeros((layers, 7), np.int64), np.zeros((layers, 4), np.int64)
    traced = np.full((trace, 4), -1, np.int64)
    end = kernel.run(
        made.ticks, made.overhead_ticks, made.steps, made.tile, made.weight_need, made.input_need, made.output_need,
        made.weight_limit, made.input_limit, made.vector_ticks, made.output_ready, made.piece_end, made.tile_end,
        made.weight_end, made.input_end, made.output_end, made.after, made.weights_after, settings,
        layer_time, where, moved, totals, traced,
    )  # fmt: skip
    assert end >= 0, "a schedule must be able to go on"
    return Run(layer_time, where, moved, totals, traced, int(settings[kernel.BURST]), options.dram.channels)


def _simulated(
    costs: Sequence[LayerCost],
    at: Sequence[int],
    made: Schedule | None,
    run: Run | None,
    filled: Sequence[float] = (),
) -> tuple[SimulatedLayer, ...]:
    """The records of layers.

    Args:
        costs: their closed forms.
        at: position of each in the schedule, -1 for a layer that takes no time.
        made, run: the schedule and its run; ``None`` where nothing was to be done.
        filled: the other closed form.
    """
    layers = []
    for position, (cost, index) in enumerate(zip(costs, at, strict=True)):
        if made is None or run is None or index < 0:
            layers.append(SimulatedLayer(cost.layer, cost.kind, 0.0, cost.cycles, *(0.0,) * 11, 0, 0, 0, 0, 0, 0))
            continue
        moved = run.moved[index] - (run.moved[index - 1] if index else 0)
        for stream, ends in enumerate((made.weight_end, made.input_end, made.output_end)):
            assert run.moved[index, stream] >= ends[index], "a layer must have moved all its bursts when it ends"
        where = run.where[index] / TICKS
        began = int(run.layer_time[index - 1]) if index else 0
        cycles = (int(run.layer_time[index]) - began) / TICKS
        tiles = made.vector_ticks[made.tile_end[index - 1] if index else 0 : made.tile_end[index]]
        layers.append(
            SimulatedLayer(
                layer=cost.layer,
                kind=cost.kind,
                cycles=cycles,
                closed_cycles=cost.cycles,
                filled_cycles=filled[position],
                compute_cycles=float(where[kernel.COMPUTE]),
                fill_drain_cycles=float(where[kernel.FILL_DRAIN]),
                conflict_cycles=float(where[kernel.CONFLICTS]),
                weight_wait_cycles=float(where[kernel.WAIT_WEIGHTS]),
                input_wait_cycles=float(where[kernel.WAIT_INPUTS]),
                output_wait_cycles=float(where[kernel.WAIT_OUTPUTS]),
                layer_wait_cycles=float(where[kernel.WAIT_LAYERS]),
                tail_cycles=cycles - float(where.sum()),
                vector_cycles=float(tiles.sum()) / TICKS,
                dram_cycles=float(moved[:3].sum()) * run.burst_ticks / TICKS / run.channels,
                weight_bits=int(made.weight_bits[index]),
                input_bits=int(made.input_bits[index]),
                output_bits=int(made.output_bits[index]),
                macs=int(made.macs[index]),
                events=int(moved[3]),
                excess_bytes=int(made.excess_bytes[index]),
            )
        )
    return tuple(layers)
