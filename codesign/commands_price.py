"""Commands on the shapes of a model: estimate, simulate, serving, effects, explore."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from codesign.commands import (
    Accelerator,
    Batch,
    EveryLayer,
    FillAndDrain,
    Json,
    Model,
    OwnRecipe,
    Prompt,
    Recipe,
    ShapesOf,
    WholeTiles,
    work,
)
from hwmodel.event_options import Arbiter, Refill
from hwmodel.link import LINKS
from hwmodel.options import HONEST
from hwmodel.pe import WIDE_BITS


def estimate(
    model: ShapesOf,
    accelerator: Accelerator = "bitmod",
    recipe: OwnRecipe = None,
    batch: Batch = 1,
    prompt: Prompt = 256,
    generate: Annotated[int, typer.Option(min=1, help="Tokens generated after it.")] = 256,
    whole_tiles: WholeTiles = False,
    fill_and_drain: FillAndDrain = False,
    bits: Annotated[
        Path | None, typer.Option(help="Counts of its weights (codesign bits --out), for machines that skip zeros.")
    ] = None,
    layers: EveryLayer = False,
    as_json: Json = False,
) -> None:
    """Price a model on an accelerator from its shapes alone: cycles, seconds, energy, area, bits, bounds."""
    work("cli_work").estimate(
        model, accelerator=accelerator, recipe_name=recipe, batch=batch, prompt=prompt, generate=generate,
        options=replace(HONEST, whole_tiles=whole_tiles, fill_and_drain=fill_and_drain), every_layer=layers,
        as_json=as_json, bits=bits,
    )  # fmt: skip


def simulate(
    model: ShapesOf,
    accelerator: Accelerator = "bitmod",
    recipe: OwnRecipe = None,
    batch: Batch = 1,
    prompt: Prompt = 256,
    generate: Annotated[int, typer.Option(min=1, help="Tokens generated after it; their middle is simulated.")] = 256,
    dram_timing: Annotated[bool, typer.Option(help="Simulate DRAM rows, refresh and turnaround.")] = False,
    prefetch: Annotated[bool, typer.Option(help="Fetch weights of the next layers as soon as there is room.")] = False,
    systolic: Annotated[bool, typer.Option(help="Operands go from PE to PE: fill and drain for each tile.")] = False,
    arbiter: Annotated[Arbiter, typer.Option(help="Stream that a DRAM channel serves next.")] = Arbiter.EARLIEST,
    refill: Annotated[Refill, typer.Option(help="When freed room of a buffer is filled again.")] = Refill.SLOT,
    bank_conflicts: Annotated[
        int | None, typer.Option(min=1, help="Banks of single-ported buffers; two ports by default.")
    ] = None,
    whole_tiles: WholeTiles = False,
    fill_and_drain: FillAndDrain = False,
    layers: EveryLayer = False,
    as_json: Json = False,
) -> None:
    """Simulate a model tile by tile, event by event, beside the closed form: cycles, and where they went."""
    machine = work("cli_simulate").Machine(
        dram_timing, prefetch, systolic, whole_tiles, fill_and_drain, arbiter, refill, bank_conflicts
    )  # fmt: skip
    work("cli_simulate").simulate_model(
        model, accelerator=accelerator, recipe_name=recipe, batch=batch, prompt=prompt, generate=generate,
        machine=machine, every_layer=layers, as_json=as_json,
    )  # fmt: skip


def serving(
    model: Annotated[str, typer.Argument(help="Model, or just a folder with config.json.")],
    accelerator: Annotated[str, typer.Option("--accelerator", "-a", help="GPU or preset, or a YAML file.")] = "h100",
    recipe_name: Annotated[str, typer.Option("--recipe", "-r", help="A recipe (codesign recipes).")] = "fp16",
    rate: Annotated[float, typer.Option(help="Requests a second.")] = 1.0,
    prompt: Annotated[int, typer.Option(min=1, help="Mean tokens of a prompt.")] = 512,
    generate: Annotated[int, typer.Option(min=1, help="Mean tokens of an answer.")] = 128,
    variation: Annotated[float, typer.Option(min=0.0, help="Spread of both over their mean (log-normal).")] = 0.0,
    requests: Annotated[int, typer.Option(min=1, help="Requests that are simulated.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Of arrivals and lengths.")] = 0,
    trace: Annotated[Path | None, typer.Option(help="CSV of arrival_s, prompt, generate instead.")] = None,
    max_sequences: Annotated[int, typer.Option(min=1, help="Sequences in the engine at once.")] = 256,
    token_budget: Annotated[int, typer.Option(min=1, help="Tokens of an iteration (chunks of prompts).")] = 2048,
    tensor_parallel: Annotated[int, typer.Option(min=1, help="Chips that share every layer.")] = 1,
    pipeline_parallel: Annotated[int, typer.Option(min=1, help="Stages one after another.")] = 1,
    expert_parallel: Annotated[
        int, typer.Option(min=1, help="Chips that whole experts are spread over, each with a share of the users.")
    ] = 1,
    dispatch_bits: Annotated[
        float, typer.Option(min=1, max=WIDE_BITS, help="Of a number sent to an expert; sums come back in 16.")
    ] = WIDE_BITS,
    link: Annotated[str | None, typer.Option(help=f"Between chips: {', '.join(LINKS)}; the GPU's own.")] = None,
    memory_gb: Annotated[float | None, typer.Option(help="Memory of a chip in GB; the GPU's own.")] = None,
    draft: Annotated[str | None, typer.Option(help="A draft model for speculative decoding.")] = None,
    acceptance: Annotated[float, typer.Option(help="Probability that a drafted token is accepted.")] = 0.7,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Serve a model to many users: does it fit, how long do they wait, what do more chips and drafts bring."""
    users = work("cli_serving").Users(rate, prompt, generate, variation, requests, seed, trace)
    work("cli_serving").serving(
        model, users, accelerator=accelerator, recipe_name=recipe_name, max_sequences=max_sequences,
        token_budget=token_budget, parallel=(tensor_parallel, pipeline_parallel, expert_parallel),
        dispatch_bits=dispatch_bits, link=link, memory_gb=memory_gb, draft=draft, acceptance=acceptance,
        as_json=as_json,
    )  # fmt: skip


def effects(
    model: Annotated[str, typer.Argument(help="One of the published models (Llama-2-7B, ...).")] = "Llama-2-7B",
    accelerator: Annotated[str, typer.Option("--accelerator", "-a", help="Preset, or a YAML file.")] = "bitmod",
    recipe: Recipe = "bitmod4_g128",
    as_json: Json = False,
) -> None:
    """What each omission of the published simulator is worth, switched on one by one."""
    work("cli_effects").effects(model, accelerator, as_json=as_json, recipe_name=recipe)


def _list(text: str) -> Any:
    return typer.Option(help=f"{text}, with commas.")


def explore(
    model: Model,
    file: Annotated[
        Path | None, typer.Option("--space", help="YAML file with the same lists; options go first.")
    ] = None,
    recipes: Annotated[str | None, _list("Recipes")] = None,
    accelerators: Annotated[str | None, _list("Accelerators that designs start from")] = None,
    arrays: Annotated[str | None, _list("Arrays, 32x32 or 32x32/64x16 (prefill/decode)")] = None,
    buffers: Annotated[str | None, _list("Capacities in KiB of both buffers, in all pairs")] = None,
    weight_buffers: Annotated[str | None, _list("Capacities in KiB")] = None,
    activation_buffers: Annotated[str | None, _list("Capacities in KiB")] = None,
    memories: Annotated[str | None, _list("Memories by name")] = None,
    bandwidths: Annotated[str | None, _list("Bandwidths in GB/s of the accelerator's own memory")] = None,
    frequencies: Annotated[str | None, _list("Clocks in GHz")] = None,
    batches: Annotated[str | None, _list("Batch sizes")] = None,
    prompts: Annotated[str | None, _list("Lengths of the prompt")] = None,
    generate: Annotated[str | None, _list("Numbers of generated tokens")] = None,
    objectives: Annotated[str | None, _list("What to minimise")] = None,
    losses: Annotated[
        str | None, typer.Option(help="Trials table of a study of this model: makes loss an objective.")
    ] = None,
    whole_tiles: Annotated[
        bool | None, typer.Option("--whole-tiles", help="A tile without room is fetched again at every use.")
    ] = None,
    fill_and_drain: Annotated[
        bool | None, typer.Option("--fill-and-drain", help="Waits where tiles and blocks begin and end.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File for the fronts: .csv or .parquet.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads that price; as many as the process may use by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Price every design of a space (millions a second) and show the exact front of each workload."""
    given = {
        "recipes": recipes, "accelerators": accelerators, "arrays": arrays,
        "weight_buffers_kib": weight_buffers or buffers, "activation_buffers_kib": activation_buffers or buffers,
        "memories": memories, "bandwidths_gb_s": bandwidths, "frequencies_ghz": frequencies, "batches": batches,
        "prompts": prompts, "tokens": generate, "objectives": objectives, "losses": losses,
        "whole_tiles": whole_tiles, "fill_and_drain": fill_and_drain,
    }  # fmt: skip
    work("cli_explore").explore_space(model, file, given, out=out, threads=threads, as_json=as_json)
