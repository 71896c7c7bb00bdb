"""Prices of physical parts from the recorded netlists.

For each group of families and each target, non-negative least squares of the relative error; nothing is stored, so
the prices follow the tables. ``hwmodel.unit_cost_errors`` says how wrong they are.

Source of the solver: Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from hwmodel.synthesis_table import SynthesisRow, best_rows, recorded_targets
from hwmodel.unit_cost_design import PeDesign, design_of_row
from hwmodel.unit_cost_parts import GROUPS, RECORDED_ONLY, group_of, parts_of

LUT_TARGETS = frozenset({"lut6"})  # counted in LUTs; every other target in cell area
# Groups that follow from architecture alone on LUTs: no netlists are needed
CLOSED_ON_LUTS = frozenset({"integer multiplier", "integer", "bit-serial"})
NOT_FITTED = frozenset({"ecp5"})  # few rows, for ratios of frequency
# Area of a two-input AND, the gate that clears a bit of an accumulator: sky130_fd_sc_hd__and2_0, sg13g2_and2_1 (um2),
# OSU's AND2X1 (its own unit), from the liberty files that docs/synthesis.md names
AND_AREA: Mapping[str, float] = {"sky130hd": 6.256, "sg13g2": 9.072, "osu018": 32.0}
# Area of a bit that a register keeps unless it is enabled: a mux before it, sg13g2_mux2_1 and OSU's MUX2X1, or what
# sky130_fd_sc_hd__edfxtp_1 has more than dfxtp_1, from the same files
ENABLE_AREA: Mapping[str, float] = {"sky130hd": 10.0096, "sg13g2": 18.144, "osu018": 48.0}
FEW_ROWS = 3  # fewer recorded rows give no prices
# Designs below so many LUTs or gates are small: one LUT is more than 5 % of them, so their errors count as of this size
SMALL_LUTS = 20.0
SMALL_GATES = 100.0
# Area of a two-input NAND of strength 1: sky130_fd_sc_hd__nand2_1, sg13g2_nand2_1 (um2) and OSU's NAND2X1 (its own
# unit), from the liberty files that docs/synthesis.md names
GATE_AREA: Mapping[str, float] = {"sky130hd": 3.7536, "sg13g2": 7.2576, "osu018": 24.0}


@dataclass(frozen=True)
class PartPrices:
    """Prices of the parts of a group on a target.

    Args:
        group, target: what was fitted.
        prices: LUTs, or um2 of combinational area, for a unit of each part.
        rows: recorded netlists fitted.
    """

    group: str
    target: str
    prices: Mapping[str, float]
    rows: int

    def price(self, parts: Mapping[str, float]) -> float:
        """Of a design's parts."""
        return sum(self.prices.get(name, 0.0) * amount for name, amount in parts.items())


def nonnegative_least_squares(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The ``x >= 0`` that minimises ``|matrix x - target|``, by active sets.

    Args:
        matrix: [rows, unknowns].
        target: [rows].

    >>> nonnegative_least_squares(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([2.0, -1.0]))
    array([2., 0.])
    """
    unknowns = matrix.shape[1]
    x = np.zeros(unknowns)
    free = np.zeros(unknowns, dtype=bool)
    scale = np.linalg.norm(matrix, axis=0)
    tolerance = 1e-10 * max(float(np.linalg.norm(target)), 1.0)
    for _ in range(30 * unknowns + 30):
        gain = np.where(free | (scale == 0), -np.inf, matrix.T @ (target - matrix @ x) / np.where(scale == 0, 1, scale))
        if gain.max(initial=-np.inf) <= tolerance:
            break
        free[int(gain.argmax())] = True
        while True:
            trial = np.zeros(unknowns)
            trial[free] = np.linalg.lstsq(matrix[:, free], target, rcond=None)[0]
            if (trial[free] > 0).all():
                x = trial
                break
            sinking = free & (trial <= 0)
            step = (x[sinking] / np.where(x[sinking] == trial[sinking], 1.0, x[sinking] - trial[sinking])).min()
            x = x + step * (trial - x)
            free &= x > tolerance
            x[~free] = 0.0
            if not free.any():
                break
    return x


# --- fits ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """A recorded netlist as it is fitted.

    Args:
        row, design: the netlist.
        parts: amounts.
        value: fitted: LUTs, or combinational area.
        whole: what errors are relative to: LUTs, or area.
        scale: what the fit's errors are relative to: the same, but for small designs the size below which they are.
    """

    row: SynthesisRow
    design: PeDesign
    parts: Mapping[str, float]
    value: float
    whole: float
    scale: float


def small_size(target: str) -> float:
    """LUTs or area below which a PE is a small one."""
    return SMALL_LUTS if is_lut(target) else SMALL_GATES * GATE_AREA.get(target, 0.0)


def is_lut(target: str) -> bool:
    """Whether a target's PEs are counted in LUTs."""
    return target in LUT_TARGETS


def closed_form(group: str, target: str) -> bool:
    """Whether prices of a group are known, not fitted."""
    return is_lut(target) and group in CLOSED_ON_LUTS


@cache
def register_um2(target: str) -> float:
    """Area of one flip-flop: the smallest of the recorded ones (some have an enable)."""
    found = [r.area_sequential_um2 / r.flip_flops for r in best_rows(target).values()
             if r.flip_flops and r.area_sequential_um2]  # fmt: skip
    if not found:
        raise ValueError(f"target must be recorded with flip-flops to be priced, which {target} is not")
    return min(found)


@cache
def _recorded_alone(target: str) -> Mapping[PeDesign, float]:
    """LUTs, or combinational area, of the modules that are priced as recorded."""
    found = {}
    for row in best_rows(target).values():
        if row.family in RECORDED_ONLY:
            area = (row.area_um2 or 0.0) - (row.area_sequential_um2 or 0.0)
            found[design_of_row(row)] = area if row.luts is None else float(row.luts)
    return found


def part_price(one: PeDesign, target: str) -> float:
    """LUTs, or combinational area, of a design by its group's prices; of a decoder as recorded.

    Raises:
        ValueError: a decoder of this size, or too few netlists of the kind, are recorded.
    """
    if one.family in RECORDED_ONLY:
        known = _recorded_alone(target)
        if one not in known:
            raise ValueError(f"{one.name} must be recorded in {target} to price what holds it")
        return known[one]
    prices = part_prices(group_of(one.family), target)
    return prices.price(parts_of(one, lut=is_lut(target), price=lambda part: part_price(part, target)))


@cache
def samples(group: str, target: str) -> tuple[Sample, ...]:
    """Recorded designs of a group without pipeline registers, with their parts."""
    found = []
    for row in best_rows(target).values():
        if row.family not in GROUPS[group] or row.registered_inputs:
            continue
        one = design_of_row(row)
        parts = parts_of(one, lut=is_lut(target), price=lambda part: part_price(part, target))
        if is_lut(target):
            assert row.luts is not None
            value = whole = float(row.luts)
        else:
            assert row.area_um2 is not None
            whole = row.area_um2
            # plain flip-flops alone: what enabled ones have more, sky130's cells hold, others have muxes for
            value = whole - (row.flip_flops * register_um2(target) if row.flip_flops else 0.0)
        if value > 0:
            found.append(Sample(row, one, parts, value, whole, max(whole, small_size(target))))
    return tuple(found)


def known_prices(group: str, target: str) -> dict[str, float]:
    """Prices that are not fitted: a bit of a carry chain is a LUT; what another group prices costs what it says there.

    In cells a bit of an adder is that of integers, and a register that can be cleared has an AND gate more: recorded
    accumulators follow the width of the product, so a fit could not tell them apart. Tables of floats cost what they do
    in code books, OliVe's products what flint's do. On LUTs nothing of a pair of flints is fitted to such pairs.
    """
    known = {"products": 1.0, "dot": 1.0, "group": 1.0, "enabled": ENABLE_AREA.get(target, 0.0)}
    if is_lut(target):
        known |= {"closed_form": 1.0, "accumulator": 1.0, "tree": 1.0}
        if group == "bit-serial":
            known |= {"gates": 1.0, "negation": 1.0}
        if group in ("mixture", "vector book"):
            known |= {"constant": 1.0}
    elif group == "integer":
        known["clear_bits"] = AND_AREA.get(target, 0.0)
    elif group != "integer multiplier":
        known |= _borrowed("integer", target, ("adder_bits", "clear_bits"))
    if group == "float accumulator":
        known |= _borrowed("code book", target, ("constant", "muxes", "write"))
    if not is_lut(target):
        known |= _borrowed_in_cells(group, target)
    if group == "flint pair" and is_lut(target):
        known |= _borrowed("Kulisch", target, ("levels", "shift_muxes", "reach"))
    if is_lut(target) and group in ("flint", "flint pair"):
        known |= {"plain": 1.0}
        if group == "flint pair":
            known |= {"product": 1.0, "decoders": 1.0}
    return known


def _borrowed_in_cells(group: str, target: str) -> dict[str, float]:
    """Prices of kinds of few netlists that are those of another kind of the same products."""
    if group == "float accumulator":
        return _borrowed("mixture", target, ("constant",))
    if group == "mixture":
        return _borrowed("code book", target, ("entry_products", "padded", "tree_rows"))
    if group == "OliVe":
        return _borrowed("flint", target, ("product",))
    return {}


def _borrowed(group: str, target: str, names: Sequence[str]) -> dict[str, float]:
    """Prices that another group has on this target; none where too few of its netlists are recorded."""
    try:
        prices = part_prices(group, target).prices
    except ValueError:
        return {}
    return {name: prices[name] for name in names if name in prices}


def solve(chosen: Sequence[Sample], known: Mapping[str, float]) -> dict[str, float]:
    """Prices of all parts: the known ones as they are, the others by least squares of the relative error."""
    names = sorted({name for sample in chosen for name in sample.parts} - known.keys())
    if not names:
        return dict(known)
    matrix = np.array([[sample.parts.get(name, 0.0) for name in names] for sample in chosen])
    given = np.array([sum(known.get(name, 0.0) * amount for name, amount in s.parts.items()) for s in chosen])
    values = np.array([sample.value for sample in chosen]) - given
    scale = np.array([sample.scale for sample in chosen])
    found = nonnegative_least_squares(matrix / scale[:, None], values / scale)
    return {**known, **dict(zip(names, (float(x) for x in found), strict=True))}


@cache
def part_prices(group: str, target: str) -> PartPrices:
    """Prices of a group's parts on a target, from all of its recorded rows.

    Raises:
        ValueError: too few rows are recorded.
    """
    chosen = samples(group, target)
    if not closed_form(group, target) and len(chosen) < FEW_ROWS:
        raise ValueError(
            f"target {target} must have {FEW_ROWS} recorded designs of kind {group} or more to price others, "
            f"not {len(chosen)} (python -m hls.synthesis records them)"
        )
    prices = solve(chosen, known_prices(group, target))
    return PartPrices(group, target, prices, len(chosen))


def fitted_targets() -> tuple[str, ...]:
    """Recorded targets whose parts are priced."""
    return tuple(target for target in recorded_targets() if target not in NOT_FITTED)


def fitted(targets: Iterable[str]) -> Iterator[PartPrices]:
    """The prices of every kind on each target that has rows enough."""
    for target in targets:
        for group in GROUPS:
            try:
                prices = part_prices(group, target)
            except ValueError:
                continue
            yield prices
