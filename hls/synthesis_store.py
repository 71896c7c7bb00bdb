"""Keeps synthesis results as they come: a table that several runs may add to, and that survives a kill.

A row is written by replacing the file, under a lock, after every batch; a later run skips what is there and was made
from the same RTL.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hls.rtl_design import Design
from hwmodel.synthesis_table import SynthesisRow, read_rows, rows_text, table_path


def row_of(design: Design, *, target: str, flow: str, tool: str) -> SynthesisRow:
    """The row of ``design`` before anything is measured."""
    return SynthesisRow(
        design=design.name,
        family=design.module,
        parameters=design.parameter_text,
        weight_format=design.weight_format,
        activation_format=design.activation_format,
        accumulator_kind=design.accumulator_kind,
        accumulator_bits=design.accumulator_bits,
        lanes=design.lanes,
        serial=design.serial,
        cycles=design.cycles,
        pipeline_stages=design.pipeline_stages,
        registered_inputs=design.registered_inputs,
        target=target,
        flow=flow,
        tool=tool,
        rtl=design.rtl,
    )


def missing(designs: Iterable[Design], *, target: str, flow: str, folder: Path) -> list[Design]:
    """Designs that have no row of this flow yet, or one from other RTL."""
    known = _recorded(table_path(target, folder))
    return [d for d in designs if (row := known.get((d.name, target, flow))) is None or row.rtl != d.rtl]


def add_rows(rows: Iterable[SynthesisRow], folder: Path) -> None:
    """Adds ``rows`` to the tables of their targets; rows of the same key are replaced."""
    by_target: dict[str, list[SynthesisRow]] = {}
    for row in rows:
        by_target.setdefault(row.target, []).append(row)
    for target, fresh in by_target.items():
        path = table_path(target, folder)
        with _locked(path):
            known = _recorded(path)
            known.update((row.key, row) for row in fresh)
            temporary = path.with_suffix(f".{os.getpid()}.part")
            temporary.write_text(rows_text(known.values()), encoding="utf-8")
            temporary.replace(path)


def _recorded(path: Path) -> dict[tuple[str, str, str], SynthesisRow]:
    """The rows of a table by key; none where there is no table yet."""
    return {row.key: row for row in read_rows(path)} if path.is_file() else {}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Exclusive among processes; the lock file goes away with the last of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_suffix(".lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
