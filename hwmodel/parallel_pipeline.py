"""A model over several chips, one after another: pipeline parallelism (Huang et al., GPipe, NeurIPS 2019).

A pipeline is cut where a single tensor crosses, so that neighbours exchange one activation; cuts are placed so that the
slowest stage is as fast as possible. A batch runs in equal micro-batches: the pipeline fills, runs at the pace of its
slowest stage, and drains. With ``P`` equal stages and ``M`` micro-batches the idle share is ``(P - 1) / (M + P - 1)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hwmodel.link import Link, send_s
from hwmodel.pe import WIDE_BITS
from hwmodel.report import CostReport
from hwmodel.units import BYTE_BITS, cycles_to_s
from hwmodel.workload import Workload


@dataclass(frozen=True)
class Cut:
    """A place between two layers where one tensor crosses.

    Args:
        position: index of the first layer after it.
        elements: of the tensor.
    """

    position: int
    elements: int


def cuts_of(workload: Workload) -> tuple[Cut, ...]:
    """All places where a pipeline can be cut, in order."""
    index = {layer.name: i for i, layer in enumerate(workload.layers)}
    last_use: dict[str, int] = {}
    for producer, consumer in workload.edges:
        last_use[producer] = max(last_use.get(producer, 0), index[consumer])
    found: list[Cut] = []
    crossing: set[str] = set()
    for position, layer in enumerate(workload.layers):
        crossing = {name for name in crossing if last_use[name] >= position}
        if position and len(crossing) == 1:
            only = workload.layers[index[next(iter(crossing))]]
            found.append(Cut(position, only.m * only.copies * only.n))
        if last_use.get(layer.name, 0) > position:
            crossing.add(layer.name)
    return tuple(found)


@dataclass(frozen=True)
class Pipeline:
    """Stages and the time of one micro-batch in each.

    Args:
        stages: each stage's share of the workload, in order.
        stage_s: seconds of one micro-batch in each.
        send_s: seconds to hand it on to each next stage.
    """

    stages: tuple[Workload, ...]
    stage_s: tuple[float, ...]
    send_s: tuple[float, ...]

    @property
    def pace_s(self) -> float:
        """Seconds between micro-batches once the pipeline is full; sending is not hidden."""
        sends = (*self.send_s, 0.0)
        return max(stage + send for stage, send in zip(self.stage_s, sends, strict=True))

    def seconds(self, micro_batches: int) -> float:
        """From the first micro-batch's start to the last one's end.

        Raises:
            ValueError: no micro-batch.
        """
        if micro_batches < 1:
            raise ValueError(f"micro_batches must be at least 1, not {micro_batches!r}")
        return sum(self.stage_s) + sum(self.send_s) + (micro_batches - 1) * self.pace_s

    def round_s(self, micro_batches: int) -> float:
        """Seconds in which every one of the micro-batches in flight takes one decode step, over and over.

        A micro-batch's next token waits for its last one, so few of them leave the pipeline idle.
        """
        return max(micro_batches * self.pace_s, self.seconds(1))

    def bubble_share(self, micro_batches: int) -> float:
        """Share of the stages' time in which they wait."""
        busy = micro_batches * sum(self.stage_s)
        return 1 - busy / (len(self.stages) * self.seconds(micro_batches))


def pipeline(workload: Workload, report: CostReport, stages: int, link: Link | None = None) -> Pipeline:
    """Cut a priced workload (of one micro-batch) into stages.

    Args:
        workload: with its edges.
        report: its price, layer by layer.
        stages: chips, one after another.
        link: between neighbours; may be ``None`` for one stage.

    Raises:
        ValueError: fewer than one stage, more than there are cuts for, or no link for several.
    """
    names = [cost.layer for cost in report.layers]
    if names != [layer.name for layer in workload.layers]:
        raise ValueError(f"report must have the layers of workload {workload.model}, not others")
    cuts = cuts_of(workload)
    if not 1 <= stages <= len(cuts) + 1:
        raise ValueError(
            f"pipeline_parallel must be 1 to the {len(cuts) + 1} pieces of {workload.model}, not {stages!r}"
        )
    if stages > 1 and link is None:
        raise ValueError(f"a pipeline of {stages} stages must have a link")
    seconds = [cycles_to_s(cost.cycles, report.frequency_hz) for cost in report.layers]
    chosen = _balanced([0, *(cut.position for cut in cuts), len(seconds)], seconds, stages)
    elements = {cut.position: cut.elements for cut in cuts}
    ends = [*chosen, len(seconds)]
    starts = [0, *chosen]
    sends = () if link is None else tuple(send_s(elements[p] * WIDE_BITS / BYTE_BITS, link) for p in chosen)
    return Pipeline(
        tuple(_slice(workload, a, b) for a, b in zip(starts, ends, strict=True)),
        tuple(sum(seconds[a:b]) for a, b in zip(starts, ends, strict=True)),
        sends,
    )


def _slice(workload: Workload, start: int, end: int) -> Workload:
    layers = workload.layers[start:end]
    names = {layer.name for layer in layers}
    own = tuple(
        replace(layer, weight_of=None)  # a tied weight in another stage is stored again
        if layer.weight_of is not None and layer.weight_of not in names
        else layer
        for layer in layers
    )
    edges = tuple((a, b) for a, b in workload.edges if a in names and b in names)
    return replace(workload, layers=own, edges=edges)


def _balanced(places: Sequence[int], seconds: Sequence[float], stages: int) -> list[int]:
    """Places of ``stages - 1`` cuts that make the slowest stage fastest.

    ``best[j]`` is the least slowest stage of ``places[: j + 1]`` in so many stages: dynamic programming over places.
    """
    sums = [0.0]
    for value in seconds:
        sums.append(sums[-1] + value)
    at = [sums[place] for place in places]
    best = at[:]
    choices: list[list[int]] = []
    for _ in range(stages - 1):
        made, chosen = [float("inf")] * len(places), [0] * len(places)
        for j in range(1, len(places)):
            for i in range(j - 1, 0, -1):
                last = at[j] - at[i]
                if max(best[i], last) < made[j]:
                    made[j], chosen[j] = max(best[i], last), i
                if last > best[i]:
                    break  # an earlier cut only makes the last stage longer
        best = made
        choices.append(chosen)
    cut, found = len(places) - 1, []
    for chosen in reversed(choices):
        cut = chosen[cut]
        found.append(places[cut])
    return found[::-1]
