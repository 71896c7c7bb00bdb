"""Recorded results of synthesis: what each PE takes on each target. Read here, written by ``python -m hls.synthesis``.

One row is one design in one flow on one target. Files are ``hwmodel/data/synthesis_<target>.csv``; nothing here runs
a tool. A field that a target does not have, or that was not measured, is ``None``.

Targets: ``lut6`` (AMD UltraScale+ fabric, LUT6 sites counted by ``hls.lut_packing``), ``ecp5`` (LUT4, placed and routed
out of context: its frequency is good for ratios), and cell libraries by name.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class SynthesisRow:
    """One design on one target.

    Args:
        design: unique name of module and parameters.
        family: the SystemVerilog module (``hls/rtl``), which says what is computed.
        parameters: ``NAME=value`` by spaces, as synthesised.
        weight_format, activation_format: names of ``datatypes.catalog``, or a description where the operand is none.
        accumulator_kind: ``none`` (combinational), ``integer``, ``kulisch``, ``float``, or BitMoD's ``block_float``.
        accumulator_bits: of the register, sign included.
        lanes: weights taken at once.
        serial: whether weights arrive by bits or terms.
        cycles: for ``lanes`` products.
        pipeline_stages: clock edges from operands to the accumulator.
        registered_inputs: whether operands are registered (their flip-flops are then counted).
        target, flow: ``flow`` names the synthesis script; several flows of one design may be recorded.
        luts: packed LUT6 sites; on ECP5 the placer's TRELLIS_COMB cells.
        lut_cells_raw: LUT cells (and inverters) in the netlist.
        carry: carry cells.
        muxes: wide multiplexers.
        flip_flops, dsps: as named.
        area_um2: of all cells; in the library's own unit if that is no um2.
        area_sequential_um2: of these, flip-flops.
        cells: standard cells.
        delay_ps: critical path, setup included.
        power_mw: vectorless, at ``power_clock_hz`` with ``power_activity`` transitions of each input a cycle.
        max_frequency_hz: of the target; median of the seeds on ECP5.
        tool: names and versions.
        rtl: first 12 hex digits of the SHA-256 of the design's source files.
        checked: output values of this very netlist that were compared with their reference, all equal.
    """

    design: str
    family: str
    parameters: str
    weight_format: str
    activation_format: str
    accumulator_kind: str
    accumulator_bits: int
    lanes: int
    serial: bool
    cycles: int
    pipeline_stages: int
    registered_inputs: bool
    target: str
    flow: str
    luts: int | None = None
    lut_cells_raw: int | None = None
    carry: int | None = None
    muxes: int | None = None
    flip_flops: int | None = None
    dsps: int | None = None
    area_um2: float | None = None
    area_sequential_um2: float | None = None
    cells: int | None = None
    delay_ps: float | None = None
    power_mw: float | None = None
    power_clock_hz: float | None = None
    power_activity: float | None = None
    max_frequency_hz: float | None = None
    tool: str = ""
    rtl: str = ""
    checked: int | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies a row: design, target, flow."""
        return self.design, self.target, self.flow


COLUMNS = tuple(field.name for field in fields(SynthesisRow))


def table_path(target: str, folder: Path = DATA) -> Path:
    """The file of one target."""
    return folder / f"synthesis_{target}.csv"


def recorded_targets(folder: Path = DATA) -> tuple[str, ...]:
    """Targets that have a file, by name."""
    return tuple(sorted(path.stem.removeprefix("synthesis_") for path in folder.glob("synthesis_*.csv")))


def read_rows(path: Path) -> tuple[SynthesisRow, ...]:
    """All rows of one file.

    Raises:
        ValueError: the columns are not ``COLUMNS``, a value has the wrong type, or a row stands twice.
    """
    kinds = get_type_hints(SynthesisRow)
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"columns of {path.name} must be {', '.join(COLUMNS)}, not {reader.fieldnames!r}")
        rows = []
        for number, record in enumerate(reader, start=2):
            try:
                values: dict[str, Any] = {name: _value(record[name], kinds[name]) for name in COLUMNS}
                rows.append(SynthesisRow(**values))
            except (TypeError, ValueError) as error:
                raise ValueError(f"line {number} of {path.name} must be a row of the table: {error}") from None
    if len({row.key for row in rows}) != len(rows):
        raise ValueError(f"rows of {path.name} must differ in design, target or flow")
    return tuple(rows)


@cache
def synthesis_rows(target: str, folder: Path = DATA) -> tuple[SynthesisRow, ...]:
    """Recorded rows of ``target``, every flow.

    Raises:
        ValueError: nothing is recorded for it.
    """
    path = table_path(target, folder)
    if not path.is_file():
        raise ValueError(f"target must be one of {', '.join(recorded_targets(folder)) or 'none'}, not {target!r}")
    return read_rows(path)


@cache
def best_rows(target: str, folder: Path = DATA) -> dict[str, SynthesisRow]:
    """The smallest row of each design: fewest LUTs among flows without DSPs, or least area; the first of equals."""
    best: dict[str, SynthesisRow] = {}
    for row in synthesis_rows(target, folder):
        size = _size(row)
        if row.dsps or size is None:
            continue
        known = best.get(row.design)
        if known is None or size < (_size(known) or 0.0):
            best[row.design] = row
    return best


def rows_text(rows: Iterable[SynthesisRow]) -> str:
    """The file's text: one line a row, sorted by design and flow."""
    lines = [",".join(COLUMNS)]
    for row in sorted(rows, key=lambda row: row.key):
        lines.append(",".join(_text(value) for value in asdict(row).values()))
    return "\n".join(lines) + "\n"


def _size(row: SynthesisRow) -> float | None:
    return row.area_um2 if row.luts is None else float(row.luts)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    if "," in text or '"' in text or "\n" in text:
        raise ValueError(f"text in the table must be free of commas, quotes and line breaks, not {text!r}")
    return text


def _value(text: str | None, kind: object) -> object:
    if text is None:
        raise ValueError("a column is missing")
    if isinstance(kind, UnionType):
        if text == "":
            return None
        kind = get_args(kind)[0]
    if kind is bool:
        if text not in ("0", "1"):
            raise ValueError(f"a flag must be 0 or 1, not {text!r}")
        return text == "1"
    if kind is int:
        return int(text)
    if kind is float:
        return float(text)
    return text
