"""How fast the event simulator is: ``python -m hwmodel.event_bench``.

Events (grants of DRAM channels, pieces of tiles on the array, tiles on the vector unit) for each CPU second of one
core, in the compiled loop alone and with cutting and scheduling; the plain-Python loop in the same run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from hwmodel.bench import bitmod4_config
from hwmodel.evaluate import Pricer
from hwmodel.event_options import BANDWIDTH, DRAM_TIMING, SimulationOptions
from hwmodel.event_reference import run_reference
from hwmodel.event_schedule import LayerPlan, Schedule, schedule
from hwmodel.event_simulator import Planner, execute, settings_of, simulate
from hwmodel.options import HONEST
from hwmodel.paper import paper_workload
from hwmodel.presets import BITMOD
from hwmodel.workload import Phase, Workload

MODEL, CONTEXT = "Llama-2-7B", 256
LAYERS = ("layers.0.q_proj", "layers.0.down_proj", "layers.0.attention_qk")


@dataclass(frozen=True)
class EventBench:
    """One figure.

    Args:
        name: what was timed.
        events: simulated.
        cpu_s: CPU seconds taken.
    """

    name: str
    events: int
    cpu_s: float

    @property
    def events_per_cpu_s(self) -> float:
        """The figure."""
        return self.events / self.cpu_s


def schedules(options: SimulationOptions, phase: Phase) -> list[Schedule]:
    """Three layers of one phase, each with a schedule of its own."""
    workload = paper_workload(MODEL, phase, context=CONTEXT)
    chosen = Workload(MODEL, phase, tuple(workload[name] for name in LAYERS), context=CONTEXT)
    config = bitmod4_config()
    planner = Planner(chosen, BITMOD, options, HONEST, {})
    costs = Pricer(config, BITMOD).evaluate(chosen).layers
    plans = [planner.plans(spec, config, cost) for spec, cost in zip(chosen.layers, costs, strict=True)]
    pieces = [planner.pieces(plan, options) for plan in plans]
    return [schedule([LayerPlan(parts, 0, 0)], BITMOD, planner.array, options) for parts in pieces]


def bench(cpu_s: float = 2.0) -> list[EventBench]:
    """Time the compiled loop with and without DRAM timing, the whole of ``simulate``, and the plain loop."""
    results = []
    single = replace(BANDWIDTH, quantum_bursts=1)
    for name, options in (
        ("compiled loop", BANDWIDTH),
        ("compiled loop, burst by burst", single),
        ("compiled loop, rows, refresh and turnaround", DRAM_TIMING),
    ):
        made = [one for phase in Phase for one in schedules(options, phase)]

        def run(made: list[Schedule] = made, options: SimulationOptions = options) -> int:
            return sum(int(execute(one, BITMOD, options).totals[0]) for one in made)

        results.append(_timed(name, run, cpu_s))
    workloads = [paper_workload(MODEL, phase, context=CONTEXT) for phase in Phase]
    config = bitmod4_config()

    def whole() -> int:
        reports = [simulate(workload, config, BITMOD) for workload in workloads]
        return sum(
            layer.events
            for report in reports
            for layer in {(x.kind, x.closed_cycles, x.events): x for x in report.layers}.values()
        )

    results.append(_timed("simulate, cutting and scheduling included", whole, cpu_s))
    (small,) = schedules(BANDWIDTH, Phase.DECODE)[2:]
    settings = settings_of(BITMOD, BANDWIDTH, HONEST)
    results.append(_timed("plain Python loop", lambda: len(run_reference(small, settings).events), cpu_s))
    return results


def _timed(name: str, run: Callable[[], int], cpu_s: float) -> EventBench:
    run()  # compiled, or read from the cache
    events, start = 0, time.process_time()
    while (spent := time.process_time() - start) < cpu_s:
        events += run()
    return EventBench(name, events, spent)


def main(cpu_s: float = 2.0) -> None:
    """Print the figures and each one's ratio to the plain loop."""
    results = bench(cpu_s)
    plain = results[-1].events_per_cpu_s
    for result in results:
        rate = result.events_per_cpu_s
        sys.stdout.write(
            f"{result.name}: {rate:,.0f} events per CPU second, {rate / plain:,.0f} times the plain loop\n"
        )


if __name__ == "__main__":
    main()
