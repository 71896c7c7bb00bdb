"""What stands beside the DSP48E2s of a PE: a closed form, and how far recorded netlists with DSPs are from it.

A DSP48E2 multiplies 27 x 18 bits (AMD UG579). Two products of a dot product fit one where their fields do
(``hls/rtl/int_pair.sv``). Yosys infers the multiplier alone: sums and accumulators are LUTs in the recorded netlists,
where a vendor's tool uses the slice's own adder.
"""

from __future__ import annotations

import pandas as pd

from hwmodel.synthesis_table import SynthesisRow, synthesis_rows
from hwmodel.unit_cost_design import PeDesign, design_of_row
from hwmodel.unit_cost_integers import multiplier_luts, tree_bits

DSP_WIDE_BITS, DSP_NARROW_BITS, DSP_ACCUMULATOR_BITS = 27, 18, 48  # UG579: two's complement operands, accumulator
INFERRED_BITS = 9  # of a product: Yosys makes narrower ones in LUTs (synth_xilinx, DSP_Y_MINWIDTH)


def pair_ports(one: PeDesign) -> tuple[int, int]:
    """Bits of the wide and of the narrow operand of two products in one multiplier.

    Each holds two factors, the upper one shifted by the width of a sum of two products, and a bit to borrow.
    """
    w, a = one.get("WEIGHT_BITS"), one.get("ACTIVATION_BITS")
    field = w + a + 1
    ports = w + field + 1, a + one.get("ACTIVATION_UNSIGNED") + field + 1
    return max(ports), min(ports)


def fits_dsp(one: PeDesign) -> bool:
    """Whether the products of a dot product, or pairs of them, fit DSP48E2s."""
    if one.family == "int_pair_dot":
        wide, narrow = pair_ports(one)
    elif one.family == "int_dot":
        w, a = one.get("WEIGHT_BITS"), one.get("ACTIVATION_BITS") + one.get("ACTIVATION_UNSIGNED")
        wide, narrow = max(w, a), min(w, a)
    else:
        return False
    return narrow <= DSP_NARROW_BITS and wide <= DSP_WIDE_BITS and one.get("ACCUMULATOR_BITS") <= DSP_ACCUMULATOR_BITS


def dsp_count(one: PeDesign) -> int:
    """DSP48E2s of a dot product: one for each product, or for each pair and an odd last lane."""
    return -(-one.lanes // 2) if one.family == "int_pair_dot" else one.lanes


def packing_luts(one: PeDesign) -> int:
    """LUTs that make two operands into one port and give the middle field its borrow back: a bit of a carry chain each.

    A signed low factor takes one from the high factor; unsigned ones lie side by side. Nothing for a lane alone.
    """
    if one.family != "int_pair_dot":
        return 0
    w, a, signed = one.get("WEIGHT_BITS"), one.get("ACTIVATION_BITS"), not one.get("ACTIVATION_UNSIGNED")
    return one.lanes // 2 * ((w + 1) + (a + 1) * signed + (w + a + 1))


def luts_beside(one: PeDesign) -> int:
    """LUTs of a netlist whose DSPs multiply and do nothing else: packing, adder tree, accumulator."""
    terms, width = one.lanes, one.get("WEIGHT_BITS") + one.get("ACTIVATION_BITS")
    if one.family == "int_pair_dot":
        terms, width = dsp_count(one), width + 1
    return packing_luts(one) + tree_bits(width, terms) + one.get("ACCUMULATOR_BITS")


def _expected(row: SynthesisRow, one: PeDesign) -> tuple[int, int]:
    """LUTs and DSPs of a recorded netlist by the closed form; products too narrow to be inferred are LUTs."""
    w, a, unsigned = one.get("WEIGHT_BITS"), one.get("ACTIVATION_BITS"), one.get("ACTIVATION_UNSIGNED")
    alone = one.lanes if row.family == "int_dot" else one.lanes % 2
    small = alone if w + a + unsigned < INFERRED_BITS else 0
    return luts_beside(one) + small * multiplier_luts(w, a, unsigned=bool(unsigned)), dsp_count(one) - small


def dsp_errors() -> pd.DataFrame:
    """Every recorded design with DSPs, the smallest of its flows, beside the closed form.

    Columns: design, family, lanes, dsps, dsps_ours, truth (LUTs), ours, error (relative, of LUTs).
    """
    smallest: dict[str, tuple[int, SynthesisRow]] = {}
    for row in synthesis_rows("lut6"):
        if row.dsps and row.luts is not None and not row.registered_inputs:
            known = smallest.get(row.design)
            if known is None or row.luts < known[0]:
                smallest[row.design] = row.luts, row
    rows = []
    for truth, row in smallest.values():
        ours, dsps = _expected(row, design_of_row(row))
        rows.append((row.design, row.family, row.lanes, row.dsps, dsps, truth, ours, ours / truth - 1))
    columns = ["design", "family", "lanes", "dsps", "dsps_ours", "truth", "ours", "error"]
    return pd.DataFrame(rows, columns=columns)


def dsp_summary() -> pd.DataFrame:
    """Errors of the closed form by module and lanes: netlists, DSPs that differ, mean, worst, worst_design."""
    rows = []
    for (family, lanes), group in dsp_errors().groupby(["family", "lanes"]):
        magnitude = group["error"].abs()
        rows.append({
            "family": family, "lanes": lanes, "netlists": len(group),
            "other_dsps": int((group["dsps"] != group["dsps_ours"]).sum()), "mean": float(magnitude.mean()),
            "worst": float(magnitude.max()), "worst_design": group["design"].loc[magnitude.idxmax()],
        })  # fmt: skip
    return pd.DataFrame(rows)
