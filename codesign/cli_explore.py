"""The command that prices a whole design space and shows its fronts."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from codesign.console import records, say, show_json, show_table
from codesign.explore import Explored, ExploreSpec, explore, spec_from
from codesign.steps import progress
from codesign.store import write_atomic
from hwmodel.yaml_file import read_yaml

_SHOWN = 30  # rows that people see of a front


def _list(text: str) -> Any:
    return typer.Option(help=f"{text}, with commas.")


def explore_space(
    model: Annotated[str, typer.Argument(help="Folder with config.json, GGUF file, or name of a packaged model.")],
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
    threads: Annotated[int | None, typer.Option(min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Price every design of a space (millions a second) and show the exact front of each workload."""
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise ValueError(f"file for the fronts must end in .csv or .parquet, not {str(out)!r}")
    given = {
        "recipes": recipes, "accelerators": accelerators, "arrays": arrays,
        "weight_buffers_kib": weight_buffers or buffers, "activation_buffers_kib": activation_buffers or buffers,
        "memories": memories, "bandwidths_gb_s": bandwidths, "frequencies_ghz": frequencies, "batches": batches,
        "prompts": prompts, "tokens": generate, "objectives": objectives, "losses": losses,
        "whole_tiles": whole_tiles, "fill_and_drain": fill_and_drain,
    }  # fmt: skip
    if losses is not None and objectives is None:
        given["objectives"] = ",".join(("loss", *ExploreSpec().objectives))
    values = {} if file is None else read_yaml(file)
    values |= {key: value for key, value in given.items() if value is not None}
    spec = spec_from(values, "options" if file is None else str(file))
    with progress("designs", 1) as bars:
        found = explore(
            model,
            spec,
            threads=threads,
            progress=lambda done, whole: bars.update(bars.task_ids[0], completed=done, total=whole),
        )
    if out is not None:
        write_atomic(out, _file(found.fronts, out.suffix))
    _show(found, spec, as_json=as_json)
    if out is not None:
        say(f"{len(found.fronts)} designs written to {out}")


def _file(table: pd.DataFrame, suffix: str) -> bytes:
    if suffix == ".csv":
        return table.to_csv(index=False).encode()
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _show(found: Explored, spec: ExploreSpec, *, as_json: bool) -> None:
    if as_json:
        show_json(
            {
                "model": found.model, "designs": found.designs, "runnable": found.runnable,
                "objectives": list(spec.objectives), "not_runnable": list(found.reasons),
                "front": records(found.fronts),
            }
        )  # fmt: skip
        return
    for reason in found.reasons:
        say(f"not run: {reason}")
    for (batch, prompt, tokens), front in found.fronts.groupby(["batch", "prompt", "tokens"], sort=False):
        step = max(1, -(-len(front) // _SHOWN))
        title = (
            f"{found.model}, batch {batch}, {prompt} + {tokens} tokens: front of {len(front)} designs in "
            f"{', '.join(spec.objectives)}, of {found.designs:,} in all workloads"
        )
        if step > 1:
            title += f"; every {step}th shown"
        show_table(_short(front.iloc[::step], spec), title=title, as_json=False)


def _size(kib: float | None) -> str:
    """Of a buffer; a GPU has none."""
    return "-" if kib is None or pd.isna(kib) else f"{kib:g}"


def _short(front: pd.DataFrame, spec: ExploreSpec) -> pd.DataFrame:
    """What people see of a front: the design, and the objectives."""
    buffers = [front[f"{which}_buffer_kib"].map(_size) for which in ("weight", "activation")]
    arrays = [front[f"{which}_array"].fillna("-") for which in ("prefill", "decode")]
    design = {
        "recipe": front["recipe"],
        "accelerator": front["accelerator"],
        "array": arrays[0] + " / " + arrays[1],
        "buffers_kib": buffers[0] + " / " + buffers[1],
        "memory": front["memory"],
        "bandwidth_gb_s": front["bandwidth_gb_s"],
        "frequency_ghz": front["frequency_ghz"],
    }
    return pd.DataFrame({**design, **{name: front[name] for name in spec.objectives}})
