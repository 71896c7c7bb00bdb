"""The command that serves a model to many users: does it fit, what do they wait for, what do drafts and chips bring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from codesign.console import records, show_json, show_table, two_columns
from codesign.machines import accelerators_by_name
from codesign.messages import say
from codesign.recipes import Recipe, recipe
from codesign.serving_chips import GB, Chips, Shapes, cache_tokens, chips_of
from hwmodel.capacity import Capacity, cache_bits
from hwmodel.parallel_pipeline import Pipeline
from hwmodel.serving import Engine, serve
from hwmodel.serving_requests import Lengths, Request, poisson_requests, read_requests
from hwmodel.serving_step import check_whole_or_cut
from hwmodel.speculative import Speculation, best_speculation
from hwmodel.units import BYTE_BITS
from hwmodel.workload import Phase

_MOST_DRAFTS = 8
_LONGEST = 4  # times the mean: lengths are cut there, so that the cache has a size


@dataclass(frozen=True)
class Users:
    """What users ask, as given on the command line.

    Args:
        rate_per_s: requests a second.
        prompt, generate: mean tokens.
        variation: standard deviation over mean of both.
        requests: how many.
        seed: of arrivals and lengths.
        trace: a CSV of requests instead.
    """

    rate_per_s: float
    prompt: int
    generate: int
    variation: float
    requests: int
    seed: int
    trace: Path | None

    def of_one(self, engines: int) -> tuple[Request, ...]:
        """The requests of one of so many engines: of a trace every ``engines``-th."""
        if self.trace is not None:
            return read_requests(self.trace)[::engines]
        prompt, generate = (
            Lengths(mean, self.variation, 1, mean * _LONGEST if self.variation else mean)
            for mean in (self.prompt, self.generate)
        )
        return poisson_requests(self.rate_per_s / engines, self.requests, prompt, generate, self.seed)


@dataclass(frozen=True)
class Draft:
    """A draft model.

    Args:
        model: where its shapes are.
        acceptance: probability that the model accepts a token of it.
    """

    model: str
    acceptance: float


def serving(
    model: str, users: Users, *, accelerator: str, recipe_name: str, max_sequences: int, token_budget: int,
    parallel: tuple[int, int, int], dispatch_bits: float, link: str | None, memory_gb: float | None,
    draft: str | None, acceptance: float, as_json: bool,
) -> None:  # fmt: skip
    """Serve a model to many users, on so many chips: ``parallel`` by tensors, stages and experts."""
    if not 0 <= acceptance <= 1:  # said without a draft too
        raise ValueError(f"acceptance must be a probability from 0 to 1, not {acceptance!r}")
    tensor_parallel, pipeline_parallel, expert_parallel = parallel
    (machine,) = accelerators_by_name((accelerator,)).values()
    check_whole_or_cut(tensor_parallel, expert_parallel)
    chips = chips_of(machine, parallel, link, memory_gb, dispatch_bits)
    drafted = None if draft is None else Draft(draft, acceptance)
    made, asked = recipe(recipe_name), users.of_one(expert_parallel)
    longest = max(request.prompt for request in asked), max(request.generate for request in asked)
    shapes = Shapes.of(model, made, *longest)
    held = shapes.capacities(chips, max(token_budget, max_sequences))
    tables: dict[str, pd.DataFrame] = {"capacity": _capacity_table(held, shapes, chips)}
    tokens = cache_tokens(held, shapes)
    if tokens < sum(longest):
        reason = f"its weights and one sequence of {sum(longest)} tokens must fit into {chips.count} x {machine.name}"
        if as_json:
            show_json({"model": shapes.name, "fits": False, "reason": reason, **_as_records(tables)})
        else:
            _show(tables, shapes.name, made.name, chips)
            say(f"{shapes.name} is not served: {reason}")
        return
    if pipeline_parallel > 1:
        tables["pipeline"] = _pipeline_table(shapes, chips)
        notes = ["requests are simulated for one stage alone; the pipeline's table is for batches of equal sequences"]
    else:
        notes = []
        engine = Engine(max_sequences, max(token_budget, max_sequences), tokens)
        report = serve(asked, engine, shapes.steps(chips))
        tables["requests"] = two_columns({**report.summary(), "cache_tokens": tokens})
        if expert_parallel > 1:
            notes.append(
                f"the requests are those of one of {expert_parallel} chips: each has as many users, and as many tokens "
                "in every iteration"
            )
        if not report.keeps_up:
            notes.append(
                f"the engine does not keep up: {report.offered_per_s:.3g} requests a second arrive, "
                f"{report.served_per_s:.3g} are served, and waits grow with the number of requests"
            )
    if drafted is not None:
        tables["speculation"] = _speculation_table(shapes, made, chips, drafted, sum(longest))
    if as_json:
        show_json({
            "model": shapes.name, "recipe": made.name, "accelerator": machine.name, "chips": chips.count, "fits": True,
            "notes": notes, **_as_records(tables),
        })  # fmt: skip
        return
    _show(tables, shapes.name, made.name, chips)
    for note in notes:
        say(note)


def _capacity_table(held: list[Capacity], shapes: Shapes, chips: Chips) -> pd.DataFrame:
    context = shapes.last_step.context
    rows = []
    for index, capacity in enumerate(held):
        cached = cache_bits(capacity.decode, capacity.configs)
        rows.append({
            "stage": index,
            "memory_gb": chips.memory_bytes / GB,
            "usable_gb": capacity.memory_bits / BYTE_BITS / GB,
            "weights_gb": capacity.weight_bits / BYTE_BITS / GB,
            "activations_gb": capacity.activation_bits / BYTE_BITS / GB,
            "cache_bytes_per_token": cached / BYTE_BITS / context,
            "largest_batch": capacity.largest_batch(context) if cached else None,
            "context": context,
            "fits": capacity.fits(1, context),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _pipeline_table(shapes: Shapes, chips: Chips) -> pd.DataFrame:
    """Rounds of decode steps of one sequence each, and prompts, by micro-batches in flight."""
    rows = []
    for phase, workload in ((Phase.PREFILL, shapes.generation.prefill), (Phase.DECODE, shapes.last_step)):
        made = shapes.stages(workload, chips)
        whole = chips.share(workload)
        exchange_s = 0.0 if chips.link is None else whole.link_s(chips.link) / chips.stages  # spread over the stages
        made = Pipeline(made.stages, tuple(stage + exchange_s for stage in made.stage_s), made.send_s)
        for micro in sorted({1, chips.stages, 2 * chips.stages, 4 * chips.stages}):
            seconds = made.seconds(micro) if phase is Phase.PREFILL else made.round_s(micro)
            rows.append({
                "phase": phase.value,
                "micro_batches": micro,
                "slowest_stage_s": max(made.stage_s),
                "seconds": seconds,
                "per_s": micro / seconds,
                "idle_percent": 100 * (1 - micro * sum(made.stage_s) / (chips.stages * seconds)),
            })  # fmt: skip
    return pd.DataFrame(rows)


def _speculation_table(shapes: Shapes, made: Recipe, chips: Chips, draft: Draft, context: int) -> pd.DataFrame:
    """Speed-ups of one sequence by the number of drafted tokens; the draft model runs on one chip."""
    steps = shapes.steps(chips)
    small = Shapes.of(draft.model, made, shapes.generation.prompt, shapes.generation.tokens)
    alone = Chips(chips.machine, 1, 1, None, chips.memory_bytes)
    step_s = steps.step(1, context, ()).seconds
    draft_s = small.steps(alone).step(1, context, ()).seconds
    best = best_speculation(
        draft.acceptance, step_s, draft_s, lambda tokens: steps.verify_cost(tokens, context).seconds, most=_MOST_DRAFTS
    )
    rows = []
    for count in range(1, _MOST_DRAFTS + 1):
        verify_s = steps.verify_cost(count + 1, context).seconds
        found = Speculation(draft.acceptance, count, step_s, draft_s, verify_s)
        rows.append({
            **asdict(found), "tokens_per_verification": found.tokens, "token_s": found.token_s,
            "speedup": found.speedup, "best": best is not None and best.draft_tokens == count,
        })  # fmt: skip
    return pd.DataFrame(rows)


_TITLES = {
    "capacity": "Memory of one chip of each stage; 90 % of it is used",
    "requests": "Requests: totals, and percentiles without the first and last tenth",
    "pipeline": "Pipeline: prompts from start to end, decode steps in rounds",
    "speculation": "Speculative decoding of one sequence at the longest context",
}
_HEADINGS = {
    "memory_gb": "memory [GB]", "usable_gb": "usable [GB]", "weights_gb": "weights [GB]",
    "activations_gb": "activations [GB]", "cache_bytes_per_token": "KV cache [byte/token]",
    "largest_batch": "largest batch [sequences]", "context": "at context [tokens]",
    "slowest_stage_s": "slowest stage [s]", "seconds": "all [s]", "per_s": "sequences [1/s]",
    "idle_percent": "idle [%]", "step_s": "step [s]",
    "draft_s": "draft step [s]", "verify_s": "verification [s]", "token_s": "token [s]", "draft_tokens": "drafted",
    "tokens_per_verification": "tokens for each verification", "micro_batches": "micro-batches",
}  # fmt: skip


def _show(tables: Mapping[str, pd.DataFrame], name: str, made: str, chips: Chips) -> None:
    for what, table in tables.items():
        title = f"{name}, {made}, on {chips.count} x {chips.machine.name}. {_TITLES[what]}"
        marked = (lambda row: bool(row["best"])) if "best" in table else None
        columns = [c for c in table.columns if c != "best"]
        show_table(table, title=title, as_json=False, headings=_HEADINGS, columns=columns, highlight=marked)


def _as_records(tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    return {
        what: dict(zip(table["what"], table["value"], strict=True)) if what == "requests" else records(table)
        for what, table in tables.items()
    }
