"""Flip-flops of a PE, counted from the registers of its architecture (a test compares every recorded netlist)."""

from __future__ import annotations

from hwmodel.unit_cost_books import outputs_of, table_entries
from hwmodel.unit_cost_design import PeDesign, float_range
from hwmodel.unit_cost_floats import float_fields


def registers(one: PeDesign) -> int | None:
    """Flip-flops by architecture; ``None`` where only a netlist says."""
    bits, lanes, family = one.get("ACCUMULATOR_BITS"), one.lanes, one.family
    if family in ("int_multiplier", "minifloat_multiplier", "minifloat_product"):
        return 0
    if family in ("int_dot", "minifloat_dot"):
        we, wm, ae, am = float_fields(one)
        if family == "int_dot":
            operands = one.get("WEIGHT_BITS") + one.get("ACTIVATION_BITS")
            product = operands
        else:
            operands, product = we + wm + ae + am + 2, wm + am + 3 + float_range(we) + float_range(ae)
        stage = (lanes * operands + 1) * one.get("INPUT_REGISTER")
        return bits + stage + (lanes * product + 1) * one.get("PRODUCT_REGISTER")
    if family == "bit_serial_dot":
        total = one.get("PARALLEL_BITS") + (lanes - 1).bit_length()
        # the running sum's top bit is shifted out before it is read
        return bits + total + one.get("SERIAL_BITS") - 1 if one.get("ACCUMULATE", 1) else bits
    if family in ("codebook_dot", "codebook_float_mac"):
        entry = one.get("ENTRY_BITS", 16)
        return bits + one.get("PROGRAMMABLE") * (entry << one.get("CODE_BITS", 4))
    if family in ("vector_dot", "vector_codebook_dot"):
        return outputs_of(one) * bits + one.get("PROGRAMMABLE") * one.get("ENTRY_BITS") * table_entries(one)
    if family in ("mx_block_dot", "nvfp4_block_dot"):
        we, wm, _, _ = float_fields(one)
        block = one.get("BLOCK", 16)
        integer = family == "mx_block_dot" and we == 0
        product = 2 * (wm + 1) if integer else 2 * wm + 3 + 2 * float_range(we)
        return bits + (product + (block - 1).bit_length() if block > lanes else 0)
    if family == "term_serial_dot":
        operands = 1 + lanes * (2 + one.get("SHIFT_BITS") + one.get("ACTIVATION_BITS"))
        return bits + operands * one.get("INPUT_REGISTER")
    if family in ("float_mac", "float_int_mac", "bit_bit_dot", "tender_dot", "flint_int_dot", "flint_flint_dot",
                  "mixture_dot", "mixture_float_mac", "int_pair_dot", "olive_dot", "bitmod_int_accumulator",
                  "bitmod_group_accumulator"):  # fmt: skip
        return bits
    return None
