"""Paths through dot products of block-scaled vectors, and through tables.

A block dot product multiplies elements of one family, floats or integers, at the rate of the wider one, and scales once
for each step that a block covers: one exponent addition (OCP Microscaling Formats 1.0, section 6.2) or one FP8
multiplication (NVFP4). Blocks shorter than a step shorten the step.

A table at each row of the array turns codes into FP16 numbers beside the multipliers, so that codes stay codes in the
weight buffer. A table of ``2**bits`` entries of ``dim`` values must be loaded first. One that is larger than the row's
lies in the weight buffer, whose eight banks (``hwmodel.memory``) then yield eight entries a cycle for all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from datatypes.format import FloatFormat, Format, IntFormat
from hwmodel.pe import PE, WIDE_BITS, ArrayPath, wide_float

BANKS = 8  # of the weight buffer: hwmodel.memory, CACTI runs


def block_path(fmt: Format, activation: tuple[Format, ...] | None, pe: PE) -> ArrayPath:
    """The path of a weight element format and activation element formats.

    Raises:
        NotImplementedError: activations are not encoded, or the pair has no mode; the message is the reason alone.
    """
    if activation is None:
        raise NotImplementedError(
            "its PEs multiply block-scaled activations, so the layer needs an activation config with a scale for each "
            "block (MX or NVFP4, say), and has none"
        )
    elements = (fmt, *activation)
    for element in elements:
        if not isinstance(element, IntFormat | FloatFormat):
            raise NotImplementedError(f"its PEs multiply integers and small floats, and {element.name} is neither")
    integer = {isinstance(element, IntFormat) for element in elements}
    if len(integer) > 1:
        names = " x ".join(element.name for element in elements)
        raise NotImplementedError(f"its PEs multiply integers by integers or floats by floats, not {names}")
    return block_mode(max(element.bits for element in elements), integer.pop(), fmt.bits, pe)


def block_mode(bits: float, integer: bool, weight_bits: float, pe: PE) -> ArrayPath:
    """The path in the narrowest mode that holds elements of ``bits``.

    Raises:
        NotImplementedError: there is none.
    """
    modes = [mode for mode in pe.modes if mode.integer is integer and mode.bits >= bits]
    if not modes:
        kinds = ", ".join(f"{mode.bits}-bit {'integers' if mode.integer else 'floats'}" for mode in pe.modes)
        raise NotImplementedError(f"its PEs multiply elements of up to {kinds}, and {bits:g} bits are needed")
    mode = min(modes, key=lambda m: m.bits)
    energy = mode.energy_pj_per_cycle / pe.energy_pj_per_cycle if pe.energy_pj_per_cycle else 1.0
    return ArrayPath(1, weight_bits, lanes=mode.lanes, input_bits=float(mode.bits), energy=energy)


def table_path(fmt: Format, pe: PE) -> ArrayPath:
    """The path of a format through a table.

    Raises:
        NotImplementedError: an element is wider than FP16; the message is the reason alone.
    """
    if fmt.bits_per_element > WIDE_BITS:
        raise NotImplementedError(f"its PEs multiply FP16, and {fmt.name} is wider")
    if wide_float((fmt,)):
        return ArrayPath(1, WIDE_BITS)
    path = ArrayPath(1, fmt.bits_per_element, table_entries=(1 << fmt.bits) * fmt.dim, vector=fmt.dim)
    return with_tables(path, [path], pe)


def with_tables(path: ArrayPath, held: Sequence[ArrayPath], pe: PE) -> ArrayPath:
    """``path`` with the tables of all of ``held`` at once, at the rows or, where they are too large, in the buffer."""
    entries = sum(each.table_entries for each in held)
    beside = entries * WIDE_BITS > pe.table_bits
    return replace(path, table_entries=entries, buffer_lookup_bits=float(WIDE_BITS) if beside else 0.0)
