"""How weight and activation formats go through an array: cycles, lanes, widths in the buffers, or why they cannot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

from datatypes.format import Format, LearnedFormat
from hwmodel.array_path_blocks import block_mode, block_path, table_path, with_tables
from hwmodel.array_path_integer import activation_width, integer_path, weight_width
from hwmodel.pe import PE, WIDE_BITS, ArrayPath, PeKind, cycles_of_bits, integer_bits, two_term
from hwmodel.term_skipping import CountedBits


def array_path(
    formats: Iterable[Format],
    pe: PE,
    activation: tuple[Format, ...] | None = None,
    *,
    one_column: bool = False,
    stats: CountedBits | None = None,
) -> ArrayPath:
    """How weights that may be of any of ``formats`` (of equal width) go through ``pe``.

    The slowest candidate sets the pace: lanes of a column share their control. Tables of all candidates are held.

    Args:
        formats: of the weight.
        pe: the processing element.
        activation: formats of the activation; ``None`` for FP16. Arrays that multiply FP16 decode others on the way in.
        one_column: the array has a single column.
        stats: bits of the weights, for term skipping; ``None`` for fair coins.

    Raises:
        NotImplementedError: the PE cannot take a format; the message is the reason alone.
    """
    paths = [_path_of(fmt, pe, activation if pe.encoded_activations else None, one_column, stats) for fmt in formats]
    if len(paths) == 1:
        return paths[0]
    slowest = max(paths, key=lambda path: path.cycles / (path.lanes or pe.lanes))
    mixed = replace(slowest, sram_bits=max(path.sram_bits for path in paths), decoded=paths[0].decoded)
    return mixed if pe.kind is not PeKind.TABLE_LOOKUP else with_tables(mixed, paths, pe)


def bare_path(
    weight_bits: float, activation_bits: float, pe: PE, *, sram_bits: float | None = None, one_column: bool = False
) -> ArrayPath:
    """The path of bare widths, taken as integers, whatever the PE's limits.

    Args:
        weight_bits, activation_bits: widths; a fraction takes no cycles.
        pe: the processing element.
        sram_bits: of one weight in the weight buffer; ``None`` for ``weight_bits``.
        one_column: the array has a single column.
    """
    if pe.kind is PeKind.BLOCK_DOT:
        widest = max(mode.bits for mode in pe.modes)
        integer = any(mode.integer for mode in pe.modes)
        path = block_mode(min(max(weight_bits, activation_bits), widest), integer, weight_bits, pe)
    elif pe.max_activation_bits:
        path = integer_path(weight_bits, activation_bits, pe, one_column=one_column)
    else:
        path = ArrayPath(cycles_of_bits(weight_bits, pe), weight_bits)
    return path if sram_bits is None else replace(path, sram_bits=sram_bits)


@cache
def _path_of(
    fmt: Format, pe: PE, activation: tuple[Format, ...] | None, one_column: bool, stats: CountedBits | None
) -> ArrayPath:
    """``array_path`` of one format."""
    if pe.kind is PeKind.FP16_MAC:
        if fmt.bits_per_element > WIDE_BITS:
            raise NotImplementedError(f"its PEs multiply FP16, and {fmt.name} is wider")
        return ArrayPath(1, WIDE_BITS, decoded=True)
    if pe.kind is PeKind.TABLE_LOOKUP:
        return table_path(fmt, pe)
    if pe.kind is PeKind.BLOCK_DOT:
        return block_path(fmt, activation, pe)
    if isinstance(fmt, LearnedFormat):
        raise NotImplementedError("its PEs hold no table for a learned codebook")
    width = weight_width(fmt, pe) if pe.max_activation_bits else integer_bits(fmt)
    if width is not None and fmt not in pe.decoders:
        if width > pe.max_integer_bits:
            raise NotImplementedError(
                f"its PEs take two's complement integers of up to {pe.max_integer_bits} bits "
                f"and {fmt.name} needs {width}"
            )
        if not pe.max_activation_bits:
            return ArrayPath(cycles_of_bits(width, pe), fmt.bits)
    if width is not None and pe.max_activation_bits:
        wide = activation_width(activation, pe)
        path = integer_path(width, wide, pe, one_column=one_column, stats=stats)
        return replace(path, sram_bits=fmt.bits_per_element)
    if pe.kind is PeKind.BIT_SERIAL:
        if two_term(fmt):
            return ArrayPath(2, fmt.bits)  # HPCA 2025, section IV-A: at most two terms
        raise NotImplementedError(
            f"its term encoder decodes integers of up to {pe.max_integer_bits} bits and FP3/FP4 with one special "
            f"value, and has no table for {fmt.name}"
        )
    if fmt in pe.decoders:
        return ArrayPath(1, fmt.bits_per_element)
    known = ", ".join(decoder.name for decoder in pe.decoders)
    also = f" and decodes {known}" if known else ""
    raise NotImplementedError(
        f"it multiplies integers of up to {pe.max_integer_bits} bits{also}, and {fmt.name} is none of these"
    )


def runnable(formats: Iterable[Format], pe: PE, activation: tuple[Format, ...] | None = None) -> tuple[Format, ...]:
    """Those of ``formats`` that the array takes, in order (for lists of what an accelerator runs).

    >>> from datatypes.catalog import FP4, FP16, INTS, NF4
    >>> from hwmodel.presets import BITMOD_PE
    >>> [fmt.name for fmt in runnable((FP4, NF4, INTS[8], FP16), BITMOD_PE)]
    ['e2m1', 'int8']
    """
    taken = []
    for fmt in formats:
        try:
            array_path((fmt,), pe, activation)
        except NotImplementedError:
            continue
        taken.append(fmt)
    return tuple(taken)
