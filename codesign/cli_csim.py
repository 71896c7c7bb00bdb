"""The command that compiles an export, runs it, and compares every output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from codesign.console import show_json, show_table
from codesign.messages import say
from codesign.steps import progress
from hls.csim import LayerResult, edited_sources, open_export, simulate


def csim(
    folder: Path, *, layers: Sequence[str], workers: int, mismatches: int, ap_types: Path | None, as_json: bool
) -> int:
    """Simulate an export; 1 if any output differs, else 0."""
    export_ = open_export(folder, layers)
    for name in edited_sources(export_):
        say(f"{name} was edited after its export: simulated as it is now")
    with progress("csim", len(export_.layers)) as bars:

        def finished(result: LayerResult, done: int, total: int) -> None:
            bars.update(bars.task_ids[0], description=result.layer, completed=done, total=total)
            if not bars.console.is_terminal and not as_json:
                say(f"{done} of {total}: {result.layer}, {_verdict(result)}")

        results = simulate(export_, workers=workers, most=mismatches, ap_types=ap_types, finished=finished)
    wrong = [result for result in results if result.mismatch_count]
    if as_json:
        show_json({"layers": [_as_json(result) for result in results], "equal": not wrong})
        return int(bool(wrong))
    rows = [
        {"layer": r.layer, "outputs": r.compared, "mismatches": r.mismatch_count, "compile_s": r.compile_s,
         "run_s": r.run_s}
        for r in results
    ]  # fmt: skip
    show_table(pd.DataFrame(rows), title="C simulation", as_json=False, highlight=lambda row: bool(row["mismatches"]))
    for result in wrong:
        for mismatch in result.mismatches:
            say(str(mismatch))
    outputs = sum(result.compared for result in results)
    different = sum(result.mismatch_count for result in results)
    say(f"{different} of {outputs} outputs differ" if wrong else f"all {outputs} outputs are as expected")
    return int(bool(wrong))


def _verdict(result: LayerResult) -> str:
    if result.mismatch_count:
        return f"{result.mismatch_count} of {result.compared} outputs differ"
    return f"{result.compared} outputs as expected"


def _as_json(result: LayerResult) -> dict[str, Any]:
    return {
        "layer": result.layer, "outputs": result.compared, "mismatches": result.mismatch_count,
        "compile_s": result.compile_s, "run_s": result.run_s,
        "first": [
            {"row": m.row, "token": m.token, "expected": m.value(m.expected), "found": m.value(m.found),
             "expected_bits": m.expected, "found_bits": m.found, **({"format": m.format} if m.format else {})}
            for m in result.mismatches
        ],
    }  # fmt: skip
