"""LUTs, flip-flops, DSPs and cell area of any PE: from a recorded netlist, a closed form or a fit, and how wrong it is.

``price_pe(pe_design(weight, activation, ...), target)`` looks for the very netlist in the recorded tables; then for
one that differs in the accumulator's width alone; integers on LUTs outside the tables follow a closed form; the rest is
priced by its physical parts (``hwmodel.unit_cost_prices``). Targets are ``lut6``, the recorded cell libraries, and
``nangate45``, whose liberty file may not be passed on: areas there are those of another library times a ratio.

Sources: recorded tables (``docs/synthesis.md``); DSP rules by AMD's DSP48E2 (UG579: 27 x 18 bits, 48-bit accumulator).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache

from hwmodel.synthesis_table import SynthesisRow, best_rows
from hwmodel.unit_cost_design import PeDesign, design_of_row
from hwmodel.unit_cost_dsp import (
    DSP_ACCUMULATOR_BITS,
    DSP_NARROW_BITS,
    DSP_WIDE_BITS,
    dsp_count,
    dsp_errors,
    fits_dsp,
    luts_beside,
)
from hwmodel.unit_cost_errors import held_out, is_small
from hwmodel.unit_cost_libraries import SCALED_LIBRARIES, library_ratio
from hwmodel.unit_cost_parts import DSP_FAMILIES, group_of, parts_of
from hwmodel.unit_cost_prices import closed_form, is_lut, part_price, part_prices, register_um2, samples
from hwmodel.unit_cost_registers import registers


class Origin(Enum):
    """What a number is."""

    RECORDED = "recorded"  # this very netlist
    ADJUSTED = "recorded, adjusted"  # a netlist with another accumulator width, and the price of the difference
    CLOSED_FORM = "closed form"  # architecture alone
    FIT = "fit"  # prices of physical parts
    SCALED = "scaled"  # of another library, by the ratio of the two
    PUBLISHED = "published"  # somebody else's figure
    COMPOSED = "composed"  # a sum of priced parts whose glue was never synthesised


@dataclass(frozen=True)
class Figure:
    """A number with what it is.

    Args:
        value: in the unit of its field.
        origin: what it is.
        mean_error, worst_error: relative, on designs left out of the fit; 0 for a recorded netlist, ``None`` if nothing
            was compared.
        source: the netlist, or how it was made.
    """

    value: float
    origin: Origin
    mean_error: float | None
    worst_error: float | None
    source: str

    def scaled(self, factor: float) -> Figure:
        """So many of it."""
        return replace(self, value=self.value * factor)


@dataclass(frozen=True)
class UnitCost:
    """What one PE takes on one target; ``None`` where a target has no such resource.

    Args:
        design: the PE.
        target: fabric or cell library.
        luts, flip_flops, dsps: of a fabric; flip-flops of cells as well.
        area_um2: of cells; in the library's own unit if that is no um2.
        outside: whether some part is larger than in any recorded netlist: an extrapolation.
    """

    design: PeDesign
    target: str
    luts: Figure | None
    flip_flops: Figure | None
    dsps: Figure | None
    area_um2: Figure | None
    outside: bool = False


def price_pe(one: PeDesign, target: str = "lut6", *, dsp: bool = False, table: bool = True) -> UnitCost:
    """What ``one`` takes on ``target``.

    Args:
        one: from ``pe_design``.
        target: ``lut6``, a recorded cell library, or ``nangate45``.
        dsp: put integer multiply-adds into DSP48E2s, one each, or products in pairs (``int_pair_dot``).
        table: look for recorded netlists; without it, what the model says of a design it has not seen.

    Raises:
        ValueError: nothing is recorded for the target, or too few netlists of this kind.
        NotImplementedError: DSPs for something that is no integer multiply-add of their width.
    """
    if target in SCALED_LIBRARIES:
        return _scaled(one, target, table=table)
    if dsp:
        return _on_dsps(one, target)
    row = recorded(one, target) if table else None
    if row is not None:
        figure = f"netlist {row.design}, {row.flow}, {row.tool}"
        return _of_row(one, target, row, Origin.RECORDED, figure, 0.0)
    row = _nearest(one, target) if table else None
    group = group_of(one.family)
    prices = part_prices(group, target)
    if row is not None:
        difference = part_price(one, target) - part_price(design_of_row(row), target)
        source = f"netlist {row.design}, its accumulator adjusted"
        return _of_row(one, target, row, Origin.ADJUSTED, source, difference)
    count = registers(one)
    flip_flops = None if count is None else Figure(float(count), Origin.CLOSED_FORM, 0.0, 0.0, "registers of the RTL")
    logic = part_price(_bare(one), target)
    closed = closed_form(group, target)
    origin = Origin.CLOSED_FORM if closed else Origin.FIT
    source = "sites of carry chains" if closed else f"{prices.rows} netlists of kind {group}"
    outside = not closed and _outside(one, target)
    held = 0.0 if count is None or is_lut(target) else count * register_um2(target)
    errors = held_out(group, target, small=is_small(logic + held, target))
    mean, worst = (None, None) if errors is None else (errors.mean, errors.worst)
    if is_lut(target):
        none = Figure(0.0, origin, 0.0, 0.0, "no DSPs allowed")
        return UnitCost(one, target, Figure(logic, origin, mean, worst, source), flip_flops, none, None, outside)
    return UnitCost(one, target, None, flip_flops, None, Figure(logic + held, origin, mean, worst, source), outside)


def _bare(one: PeDesign) -> PeDesign:
    return one.replaced(INPUT_REGISTER=0, PRODUCT_REGISTER=0)


@cache
def _recorded(target: str) -> Mapping[PeDesign, SynthesisRow]:
    return {design_of_row(row): row for row in best_rows(target).values()}


def recorded(one: PeDesign, target: str) -> SynthesisRow | None:
    """The recorded netlist of exactly this design, the smallest of its flows; ``None`` if there is none."""
    return _recorded(target).get(one)


def _nearest(one: PeDesign, target: str) -> SynthesisRow | None:
    """A netlist of the same design with another accumulator width, the nearest that is recorded."""
    if not one.get("ACCUMULATOR_BITS") or one.get("ACCUMULATOR_EXPONENT_BITS") or registers(one) is None:
        return None
    same = _other_widths(target).get(one.replaced(ACCUMULATOR_BITS=0), ())
    return min(same, key=lambda row: abs(row.accumulator_bits - one.get("ACCUMULATOR_BITS")), default=None)


@cache
def _other_widths(target: str) -> Mapping[PeDesign, tuple[SynthesisRow, ...]]:
    """Netlists with fixed accumulators by their design without its width."""
    found: dict[PeDesign, tuple[SynthesisRow, ...]] = {}
    for known, row in _recorded(target).items():
        if row.accumulator_kind in ("integer", "kulisch"):
            key = known.replaced(ACCUMULATOR_BITS=0)
            found[key] = (*found.get(key, ()), row)
    return found


def _of_row(one: PeDesign, target: str, row: SynthesisRow, origin: Origin, source: str, more: float) -> UnitCost:
    """The figures of a row, and ``more`` LUTs or combinational area."""

    def figure(value: float | None) -> Figure | None:
        return None if value is None else Figure(float(value), origin, 0.0, 0.0, source)

    count = row.flip_flops
    if origin is Origin.ADJUSTED and count is not None:
        count += one.get("ACCUMULATOR_BITS") - row.accumulator_bits
    if is_lut(target):
        luts = None if row.luts is None else row.luts + more
        return UnitCost(one, target, figure(luts), figure(count), figure(row.dsps or 0), None)
    area = row.area_um2
    if area is not None and count is not None and row.flip_flops is not None:
        area += more + (count - row.flip_flops) * (register_um2(target) if row.flip_flops else 0.0)
    return UnitCost(one, target, None, figure(count), None, figure(area))


def _outside(one: PeDesign, target: str) -> bool:
    """Whether a part is larger than in every netlist of its group, altogether or in a lane."""
    parts = parts_of(_bare(one), lut=is_lut(target), price=lambda part: part_price(part, target))
    largest, in_lane = _largest_parts(group_of(one.family), target)
    return any(
        amount > largest.get(name, 0.0) or amount / one.lanes > in_lane.get(name, 0.0) for name, amount in parts.items()
    )


@cache
def _largest_parts(group: str, target: str) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """The most of each part in the netlists of a group, altogether and in a lane."""
    largest: dict[str, float] = {}
    in_lane: dict[str, float] = {}
    for sample in samples(group, target):
        for name, amount in sample.parts.items():
            largest[name] = max(largest.get(name, 0.0), amount)
            in_lane[name] = max(in_lane.get(name, 0.0), amount / sample.design.lanes)
    return largest, in_lane


def _on_dsps(one: PeDesign, target: str) -> UnitCost:
    """DSP48E2s of an integer dot product: product, cascade and accumulator are inside; of pairs the product alone.

    The sums of pairs are fields of their products: they are added in LUTs.
    """
    if not is_lut(target):
        raise NotImplementedError(f"DSPs are on FPGAs, not in {target}")
    if not fits_dsp(one):
        raise NotImplementedError(
            f"a DSP48E2 multiplies integers of up to {DSP_WIDE_BITS} x {DSP_NARROW_BITS} bits into "
            f"{DSP_ACCUMULATOR_BITS}, not {one.name}"
        )
    if one.family in DSP_FAMILIES:
        source, errors = "AMD UG579: two products a DSP48E2, sums in LUTs", dsp_errors()
        known = errors.loc[errors["family"] == one.family, "error"].abs()
        mean, worst = (None, None) if known.empty else (float(known.mean()), float(known.max()))
        luts = Figure(float(luts_beside(one)), Origin.CLOSED_FORM, mean, worst, source)
        flip_flops = Figure(float(one.get("ACCUMULATOR_BITS")), Origin.CLOSED_FORM, 0.0, 0.0, "registers of the RTL")
    else:
        source = "AMD UG579: one DSP48E2 a multiply-add, sums in the cascade"
        luts = flip_flops = Figure(0.0, Origin.CLOSED_FORM, None, None, source)
    dsps = Figure(float(dsp_count(one)), Origin.CLOSED_FORM, 0.0, 0.0, source)
    return UnitCost(one, target, luts, flip_flops, dsps, None)


def _scaled(one: PeDesign, target: str, *, table: bool) -> UnitCost:
    """Area in a library that is not recorded."""
    base, ratio = SCALED_LIBRARIES[target], library_ratio(target)
    cost = price_pe(one, base, table=table)
    assert cost.area_um2 is not None
    known = cost.area_um2
    mean, worst = (known.mean_error or 0.0) + ratio.mean_error, (known.worst_error or 0.0) + ratio.worst_error
    source = f"{ratio.value:.4f} of {base} ({known.origin.value}: {known.source})"
    figure = Figure(known.value * ratio.value, Origin.SCALED, mean, worst, source)
    return replace(cost, target=target, area_um2=figure)
