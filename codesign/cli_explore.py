"""The command that prices a whole design space and shows its fronts."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from codesign.console import records, show_json, show_table
from codesign.explore import Explored, ExploreSpec, explore, spec_from
from codesign.messages import say
from codesign.outputs import check_output_file
from codesign.steps import progress
from codesign.store import write_atomic
from hwmodel.yaml_file import read_yaml

_SHOWN = 30  # rows that people see of a front


def explore_space(
    model: str, file: Path | None, given: Mapping[str, Any], *, out: Path | None, threads: int | None, as_json: bool
) -> None:
    """Price the designs of a space: of ``file``, and of what is ``given`` on the command line, which goes first."""
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise ValueError(f"file for the fronts must end in .csv or .parquet, not {str(out)!r}")
    if out is not None:
        check_output_file(out)
    values = {} if file is None else read_yaml(file)
    values |= {key: value for key, value in given.items() if value is not None}
    if given["losses"] is not None and given["objectives"] is None:
        values["objectives"] = ",".join(("loss", *ExploreSpec().objectives))
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
    if not found.runnable:
        say(f"none of the {found.designs:,} designs can run, so there is no front")
    for (batch, prompt, tokens), front in found.fronts.groupby(["batch", "prompt", "tokens"], sort=False):
        step = max(1, -(-len(front) // _SHOWN))
        title = (
            f"{found.model}, batch {batch}, {prompt} + {tokens} tokens: front of {len(front)} designs in "
            f"{', '.join(spec.objectives)}, of {found.designs:,} in all workloads"
        )
        if step > 1:
            title += f"; one of every {step} shown"
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
