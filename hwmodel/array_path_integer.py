"""Paths of integer weights and integer activations through arrays that multiply both.

Laws, with weights of ``w`` and activations of ``a`` bits:
    * fused bricks: each width is rounded up to ``brick_bits`` times a power of two; a product takes
      (w / brick) (a / brick) bricks, a PE has ``lanes`` (8 / brick)**2, and products that need more take several
      cycles (Sharma et al., BitFusion, ISCA 2018, section III);
    * activation-serial: ceil(a / serial_bits) cycles (Judd et al., Stripes, MICRO 2016);
    * both serial: ceil(a / serial_bits) w cycles (Sharify et al., Loom, DAC 2018; Umuroglu et al., BISMO, FPL 2018);
    * term skipping: ``hwmodel.term_skipping``;
    * a plain multiplier: one cycle.
Signs are flags beside the operands, so that unsigned codes need no extra bit, except where weights go by terms.
"""

from __future__ import annotations

import math
from functools import cache

from datatypes.format import Format, IntFormat
from hwmodel.pe import PE, ArrayPath, PeKind, integer_bits
from hwmodel.term_skipping import CountedBits, skipping_cycles


def brick_width(bits: float, pe: PE) -> int:
    """``bits`` rounded up to ``brick_bits`` times a power of two.

    >>> from hwmodel.presets_fused import BITFUSION_PE
    >>> [brick_width(bits, BITFUSION_PE) for bits in (1, 2, 3, 4, 5, 8, 16)]
    [2, 2, 4, 4, 8, 8, 16]
    """
    width = pe.brick_bits
    while width < bits:
        width *= 2
    return width


@cache
def integer_path(
    weight_bits: float, activation_bits: float, pe: PE, *, one_column: bool, stats: CountedBits | None = None
) -> ArrayPath:
    """The path of a pair of widths; a fraction of a bit (metadata) takes no cycles.

    Args:
        weight_bits, activation_bits: widths.
        pe: an integer PE.
        one_column: the array has a single column (see ``PE.one_column_bits``).
        stats: of the weights, for term skipping; ``None`` for fair coins.

    Raises:
        ValueError: statistics of another width.
    """
    w, a = max(1, math.floor(weight_bits)), max(1, math.floor(activation_bits))
    streamed = max(a, pe.one_column_bits) if one_column else a
    if pe.kind is PeKind.FUSED_BRICKS:
        bricks = pe.lanes * (8 // pe.brick_bits) ** 2
        needed = (brick_width(w, pe) // pe.brick_bits) * (brick_width(a, pe) // pe.brick_bits)
        lanes, cycles = max(1, bricks // needed), max(1, -(-needed // bricks))
        return ArrayPath(cycles, weight_bits, lanes=lanes, input_bits=activation_bits)
    if pe.kind is PeKind.TERM_SKIPPING:
        return ArrayPath(skipping_cycles(w, pe, stats), weight_bits, input_bits=activation_bits)
    cycles = 1
    if pe.kind in (PeKind.ACTIVATION_SERIAL, PeKind.BOTH_SERIAL):
        cycles = math.ceil(streamed / pe.serial_bits) * (w if pe.kind is PeKind.BOTH_SERIAL else 1)
    return ArrayPath(cycles, weight_bits, input_bits=activation_bits)


def weight_width(fmt: Format, pe: PE) -> int | None:
    """Width of ``fmt`` as an integer weight of ``pe``, decoders included; ``None`` if it is not one."""
    if fmt in pe.decoders:
        return math.ceil(fmt.bits_per_element)
    if isinstance(fmt, IntFormat) and pe.kind is not PeKind.TERM_SKIPPING:
        return fmt.bits
    return integer_bits(fmt)


def activation_width(formats: tuple[Format, ...] | None, pe: PE) -> int:
    """Widest of the activation's ``formats``.

    Raises:
        NotImplementedError: not encoded, or not integers that ``pe`` takes; the message is the reason alone.
    """
    limit = pe.max_activation_bits
    if formats is None:
        raise NotImplementedError(
            f"its PEs multiply integer activations of up to {limit} bits, so the layer needs an activation config of "
            "integers (one scale for each token, say), and has none"
        )
    widest = 0
    for fmt in formats:
        width = fmt.bits if isinstance(fmt, IntFormat) else (weight_width(fmt, pe) or 0)
        if not 0 < width <= limit:
            raise NotImplementedError(
                f"its PEs multiply integer activations of up to {limit} bits, and the activation is {fmt.name}"
            )
        widest = max(widest, width)
    return widest
