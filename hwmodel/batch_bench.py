"""How fast design spaces are priced: ``python -m hwmodel.batch_bench [--peer PYTHON]``.

One evaluation is a whole Llama-2-7B (all layers, prompt of 256 tokens, and decode steps) in one design. Three spaces:
one decode step and 256 of them with a growing context over all axes, and 256 in which every design has an array of its
own; designs scattered over the first two, as a search asks for them; and tile schedules. CPU seconds are of all
threads, tables worked out anew in every run. In the same run: our own scalar path (``hwmodel.evaluate``) on designs of
the first two spaces, and ZigZag (``hwmodel.batch_peer``) where there is one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from datatypes.catalog import BITMOD_FP3, BITMOD_FP4, FP16, INTS_SYMMETRIC, UINT8
from datatypes.format import Format
from datatypes.granularity import PerGroup
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig
from hwmodel.accelerator import Array
from hwmodel.batch_axes import Arrays, DesignAxes, DesignPoint, DesignSpace, paper_scenarios
from hwmodel.batch_evaluate import BatchPricer
from hwmodel.batch_peer import run_zigzag
from hwmodel.bench import MODEL, bitmod4_config
from hwmodel.evaluate import Pricer
from hwmodel.options import HONEST, SCHEDULED, ModelOptions
from hwmodel.paper import paper_model
from hwmodel.presets import BITMOD
from hwmodel.price import Price, sum_prices
from hwmodel.units import KIB
from hwmodel.workload import shape_counts

_FORMATS: dict[str, tuple[Format, ...]] = {
    "int4": (INTS_SYMMETRIC[4],), "int6": (INTS_SYMMETRIC[6],), "bitmod3": BITMOD_FP3, "bitmod4": BITMOD_FP4,
}  # fmt: skip
_GROUPS = (32, 64, 128)
_ROWS, _COLUMNS = (16, 32, 48, 64, 96, 128), (8, 16, 32, 64)
_CAPACITIES_KIB = (64, 128, 256, 384, 512, 768, 1024, 2048)
_GBYTES_PER_S = (8, 16, 32, 64, 128, 256, 512, 1024)
_CLOCKS_HZ = (0.5e9, 1e9, 2e9)
SCATTERED = 20_000  # designs of those that are scattered


@dataclass(frozen=True)
class BatchBench:
    """One figure.

    Args:
        name: what was timed.
        evaluations: designs priced (layers, for a peer).
        cpu_s, wall_s: seconds taken; wall is NaN where only CPU time is known.
    """

    name: str
    evaluations: int
    cpu_s: float
    wall_s: float

    @property
    def per_cpu_s(self) -> float:
        """Evaluations for each CPU second."""
        return self.evaluations / self.cpu_s

    @property
    def per_s(self) -> float:
        """Evaluations for each second."""
        return self.evaluations / self.wall_s


def configs() -> dict[str, LayerConfig]:
    """Four formats in three group sizes, with and without an 8-bit KV cache."""
    kv = bitmod4_config().key
    return {
        f"{name}_g{group}{'_kv8' if cache is not None else ''}": LayerConfig(
            TensorConfig(formats, PerGroup(group), ScaleConfig(UINT8, outer=FP16)), key=cache, value=cache
        )
        for name, formats in _FORMATS.items()
        for group in _GROUPS
        for cache in (None, kv)
    }


def arrays(rows: tuple[int, ...], columns: tuple[int, ...]) -> tuple[Arrays, ...]:
    """Arrays that halve their columns in decode."""
    return tuple((Array(r, c), Array(2 * r, c // 2)) for r in rows for c in columns)


def space(tokens: int) -> DesignSpace:
    """2.65 million: 2 batches x 2 prompts x 24 configs x 24 arrays x 8 x 6 buffers x 8 bandwidths x 3 clocks."""
    axes = DesignAxes(
        (BITMOD,),
        arrays(_ROWS, _COLUMNS),
        tuple(size * KIB for size in _CAPACITIES_KIB),
        tuple(size * KIB for size in _CAPACITIES_KIB if size not in (384, 768)),
        tuple(rate * 1e9 for rate in _GBYTES_PER_S),
        _CLOCKS_HZ,
    )
    return DesignSpace(paper_scenarios(MODEL, batches=(1, 4), prompts=(256, 1024), tokens=(tokens,)), configs(), axes)


def space_of_arrays(tokens: int) -> DesignSpace:
    """12,288 designs, each with an array of its own: nothing to share but the formats."""
    axes = DesignAxes((BITMOD,), arrays(tuple(range(8, 136, 4)), tuple(range(4, 68, 4))))
    return DesignSpace(paper_scenarios(MODEL, tokens=(tokens,)), configs(), axes)


def time_batch(name: str, designs: DesignSpace, threads: int | None) -> BatchBench:
    """Price a space, tables and all."""
    cpu, wall = time.process_time(), time.perf_counter()
    count = sum(len(part) for part in BatchPricer(designs).chunks(threads=threads))
    return BatchBench(name, count, time.process_time() - cpu, time.perf_counter() - wall)


def time_points(
    name: str, designs: DesignSpace, count: int, threads: int | None, options: ModelOptions = HONEST
) -> BatchBench:
    """Price ``count`` designs scattered over a space, tables and all."""
    chosen = np.random.default_rng(1).integers(0, len(designs), count)
    cpu, wall = time.process_time(), time.perf_counter()
    made = BatchPricer(designs, options).points(chosen, threads=threads)
    return BatchBench(name, len(made), time.process_time() - cpu, time.perf_counter() - wall)


def scalar_price(point: DesignPoint, options: ModelOptions = HONEST) -> Price:
    """One design by ``hwmodel.evaluate``, with as much remembered as it can: each decode step prices what changed."""
    pricer = Pricer(point.configs, point.accelerator, options)
    scenario = point.scenario
    contexts = scenario.contexts(options)
    steps = [pricer.evaluate(scenario.step(context)).total.times(times) for context, times in contexts]
    return sum_prices([pricer.evaluate(scenario.prefill).total, *steps])


def time_scalar(name: str, designs: DesignSpace, cpu_s: float, options: ModelOptions = HONEST) -> BatchBench:
    """Price designs spread over a space one by one for about ``cpu_s`` CPU seconds."""
    count, cpu, wall = 0, time.process_time(), time.perf_counter()
    while (spent := time.process_time() - cpu) < cpu_s:
        scalar_price(designs.design(count * 104729 % len(designs)), options)  # a prime: a new place on every axis
        count += 1
    return BatchBench(name, count, spent, time.perf_counter() - wall)


def bench(threads: int | None = None, cpu_s: float = 2.0) -> list[BatchBench]:
    """Time every space, and the scalar path."""
    for part in BatchPricer(replace(space(1), scenarios=space(1).scenarios[:1])).chunks(threads=threads):
        del part  # the kernels are compiled, or read from numba's cache
    time_points("compiled", space(1), 1, threads, SCHEDULED)
    return [
        time_batch("one decode step", space(1), threads),
        time_batch("256 decode steps", space(256), threads),
        time_batch("256 decode steps, an array for each design", space_of_arrays(256), threads),
        time_points("one decode step, scattered", space(1), SCATTERED, threads),
        time_points("256 decode steps, scattered", space(256), SCATTERED, threads),
        time_points("one decode step, scattered, tile schedules", space(1), SCATTERED // 10, threads, SCHEDULED),
        time_scalar("scalar path, one decode step", space(1), cpu_s),
        time_scalar("scalar path, 256 decode steps", space(256), cpu_s),
        time_scalar("scalar path, one decode step, tile schedules", space(1), cpu_s, SCHEDULED),
    ]


def main(arguments: list[str] | None = None, out: Callable[[str], None] = print) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m hwmodel.batch_bench", description="Speed of batch_evaluate.")
    parser.add_argument("--peer", metavar="PYTHON", help="Python of an environment with zigzag-dse and six")
    parser.add_argument("--threads", type=int, help="threads that price; as many as there are cores by default")
    given = parser.parse_args(arguments)
    results = {result.name: result for result in bench(given.threads)}
    for result in results.values():
        out(
            f"{result.name}: {result.evaluations:,} whole models in {result.wall_s:.2f} s ({result.cpu_s:.2f} CPU s): "
            f"{result.per_s:,.4g} a second, {result.per_cpu_s:,.4g} for each CPU second"
        )
    for steps in ("one decode step", "256 decode steps"):
        for name in (steps, f"{steps}, scattered"):
            ratio = results[name].per_cpu_s / results[f"scalar path, {steps}"].per_cpu_s
            out(f"batch over scalar path, {name}, by CPU time: {ratio:,.0f}")
    schedules = [results[name].per_cpu_s for name in results if name.endswith("tile schedules")]
    out(f"batch over scalar path, tile schedules, by CPU time: {schedules[0] / schedules[1]:,.0f}")
    if given.peer is not None:
        first = space(1).scenarios[0]
        layers = len(shape_counts(first.prefill.layers)) + len(shape_counts(first.step(257).layers))
        ours = results["one decode step"].per_cpu_s * layers
        for tokens in (1, 256):
            peer = run_zigzag(given.peer, paper_model(MODEL).linears, tokens=tokens)
            out(
                f"ZigZag, seven products of {tokens} rows, loop limit {peer.limit}: {peer.layers_per_cpu_s:.3g} layers "
                f"for each CPU second; ours {ours:,.3g} distinct layers: {ours / peer.layers_per_cpu_s:,.2g} times "
                "(it searches mappings, which ours takes from a closed form)"
            )


if __name__ == "__main__":
    main()
