"""Compares the recorded tables with reference measurements: ``python -m hls.synthesis_compare FOLDER``.

The folder holds ``fpga_lut_int.csv``, ``fpga_lut_minifloat.csv``, ``fpga_asic_area.csv``, ``fpga_asic_sta.csv`` and
``fpga_ecp5_pnr.csv``: syntheses of other RTL of the same function, by somebody else, with the same version of Yosys.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwmodel.synthesis_table import SynthesisRow, recorded_targets, synthesis_rows

# Names of cell libraries in the reference files, and of the targets that hold the same library here
LIBRARIES = {"sky130hd": "sky130hd", "sky130hd_tt": "sky130hd", "osu018": "osu018", "ihp_sg13g2_typ_1p20V": "sg13g2"}
FLOWS = {"synth": "plain", "synth_booth": "booth"}
LARGE = 0.05  # a difference that the documentation explains


@dataclass(frozen=True)
class Comparison:
    """One figure, here and there.

    Args:
        what: quantity and target, which the summary groups by.
        design, flow: ours.
        ours, theirs: the figures.
    """

    what: str
    design: str
    flow: str
    ours: float
    theirs: float

    @property
    def difference(self) -> float:
        """Relative to the reference."""
        return self.ours / self.theirs - 1


@dataclass(frozen=True)
class Summary:
    """Of one quantity.

    Args:
        rows: figures compared.
        equal: of these, equal ones.
        mean_error: mean of the differences' magnitudes.
        worst: the largest, with its design.
    """

    rows: int
    equal: int
    mean_error: float
    worst: Comparison


def compare(folder: Path) -> list[Comparison]:
    """Every figure that is in both."""
    ours = {row.key: row for target in recorded_targets() for row in synthesis_rows(target)}
    found = [
        *_luts(folder / "fpga_lut_int.csv", ours),
        *_luts(folder / "fpga_lut_minifloat.csv", ours),
        *_areas(folder / "fpga_asic_area.csv", ours),
        *_timings(folder / "fpga_asic_sta.csv", ours),
        *_frequencies(folder / "fpga_ecp5_pnr.csv", ours),
    ]
    return found


def summary(comparisons: Iterable[Comparison]) -> dict[str, Summary]:
    """By quantity."""
    groups: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        groups.setdefault(comparison.what, []).append(comparison)
    return {
        what: Summary(
            len(group),
            sum(c.ours == c.theirs for c in group),
            sum(abs(c.difference) for c in group) / len(group),
            max(group, key=lambda c: abs(c.difference)),
        )
        for what, group in groups.items()
    }


def _records(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def design_name(module: str, config: str, lanes: str = "1", product_register: bool = False) -> str | None:
    """Our name of a reference design, or ``None`` where there is none.

    >>> design_name("int_mac", "W4A8"), design_name("mf_mac_r", "E2M1xE2M1")
    ('int_dot.w4a8.x1', 'minifloat_dot.e2m1.e2m1.x1r')
    """
    stages = ("r" if module.endswith("_r") else "") + ("r" if product_register else "")
    base = module.removesuffix("_r")
    if found := re.fullmatch(r"W(\d)([AU])(\d)", config):
        w, sign, a = found.groups()
        if sign == "A" and w > a:
            return None  # recorded once: the wider operand is the activation
        pair = f"w{w}{sign.lower()}{a}"
        return {"int_mult": f"int_multiplier.{pair}"}.get(base, f"int_dot.{pair}.x{lanes}{stages}")
    if found := re.fullmatch(r"(E\dM\d)x(E\dM\d)", config):
        pair = ".".join(found.groups()).lower()
        known = {"mf_mult": f"minifloat_multiplier.{pair}", "mf_mult_fx": f"minifloat_product.{pair}"}
        known |= dict.fromkeys(("mf_mac", "mf_dot"), f"minifloat_dot.{pair}.x{lanes}{stages}")
        return known.get(base)
    if base == "term_pe":
        lanes = found[1] if (found := re.search(r"N(\d+)", config)) else lanes
        return f"term_serial_dot.a8.s3.x{lanes}{stages}"
    if base == "bitserial_pe":
        return f"bit_serial_dot.w8a8.x{lanes}.single"
    return None


def _matched(ours: Mapping, name: str | None, target: str, flow: str) -> SynthesisRow | None:
    return None if name is None else ours.get((name, target, flow))


def _luts(path: Path, ours: Mapping) -> Iterator[Comparison]:
    for record in _records(path):
        if "w_fmt" in record:
            name = design_name(record["module"], f"{record['w_fmt']}x{record['a_fmt']}")
        else:
            sign = "A" if record["act"] == "signed" else "U"
            name = design_name(record["module"], f"W{record['w_bits']}{sign}{record['a_bits']}")
        row = _matched(ours, name, "lut6", record["flow"])
        if row is not None and row.luts is not None:
            yield Comparison("lut6 LUTs", row.design, row.flow, row.luts, float(record["lut_packed"]))


def _cell_rows(
    path: Path, ours: Mapping, name_of: Callable[[dict[str, str]], str | None]
) -> Iterator[tuple[dict[str, str], SynthesisRow, float]]:
    """Records of cell libraries with our row and its area, where there is one."""
    for record in _records(path):
        target = LIBRARIES.get(record["lib"])
        if target is None:
            continue
        row = _matched(ours, name_of(record), target, FLOWS[record["flow"]])
        if row is not None and row.area_um2 is not None:
            yield record, row, row.area_um2


def _areas(path: Path, ours: Mapping) -> Iterator[Comparison]:
    for record, row, area in _cell_rows(path, ours, lambda r: design_name(r["module"], r["config"], r["lanes"])):
        yield Comparison(f"{row.target} area", row.design, row.flow, area, float(record["area_lib_units"]))


def _timings(path: Path, ours: Mapping) -> Iterator[Comparison]:
    for record, row, area in _cell_rows(path, ours, lambda r: design_name(r["module"], r["config"])):
        target = row.target
        yield Comparison(f"{target} area, registered", row.design, row.flow, area, float(record["area_um2"]))
        if row.delay_ps is not None and row.power_mw is not None:
            delay, power = float(record["critical_path_ns"]) * 1e3, float(record["power_w_vectorless"]) * 1e3
            yield Comparison(f"{target} delay", row.design, row.flow, row.delay_ps, delay)
            yield Comparison(f"{target} power", row.design, row.flow, row.power_mw, power)


def _frequencies(path: Path, ours: Mapping) -> Iterator[Comparison]:
    for record in _records(path):
        name = design_name(record["module"], record["config"], record["lanes"], record["product_register"] == "1")
        row = _matched(ours, name, "ecp5", record["flow"])
        if row is not None and row.max_frequency_hz is not None:
            yield Comparison(
                "ecp5 Fmax", row.design, row.flow, row.max_frequency_hz, float(record["fmax_mhz_med"]) * 1e6
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the summary and every difference above 5 %."""
    parser = argparse.ArgumentParser(prog="python -m hls.synthesis_compare", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the reference files")
    options = parser.parse_args(arguments)
    try:
        comparisons = compare(options.folder)
    except OSError as error:
        print(f"error: folder must hold the reference files: {error}", file=sys.stderr)
        return 2
    print("| quantity | compared | equal | mean difference | worst | of |\n|---|---|---|---|---|---|")
    for what, row in summary(comparisons).items():
        worst = row.worst
        print(
            f"| {what} | {row.rows} | {row.equal} | {row.mean_error:.2%} | {worst.difference:+.1%} | {worst.design} "
            f"({worst.flow}) |"
        )
    for c in sorted((c for c in comparisons if abs(c.difference) > LARGE), key=lambda c: -abs(c.difference)):
        print(f"{c.what}: {c.design} ({c.flow}) {c.ours:g} against {c.theirs:g}, {c.difference:+.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
