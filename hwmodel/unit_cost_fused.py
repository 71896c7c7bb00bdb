"""Fused bricks (BitFusion, and ANT's and Tender's slots): no module of ``hls/rtl`` computes them, so they are composed.

Bricks are multipliers of one bit more than their width, signed or not; three adders join four units into one of twice
the width, until 8 x 8 bits are reached; a 32-bit accumulator ends each PE. Bricks are priced as recorded netlists,
adders as bits of integer adders. Source of the structure: Sharma et al., BitFusion, ISCA 2018, section III.
"""

from __future__ import annotations

from datatypes.catalog import INTS
from hwmodel.unit_cost import Figure, Origin, UnitCost, price_pe
from hwmodel.unit_cost_design import Arithmetic, design, pe_design
from hwmodel.unit_cost_integers import multiplier_luts
from hwmodel.unit_cost_libraries import SCALED_LIBRARIES, library_ratio
from hwmodel.unit_cost_prices import is_lut, part_prices, register_um2

PRODUCT_BITS = 8  # of each side of the fused product
ACCUMULATOR_BITS = 32  # Sharma et al., ISCA 2018: 32-bit partial sums


def fused_bricks(brick_bits: int) -> int:
    """Bricks of an 8 x 8 product.

    >>> fused_bricks(2), fused_bricks(4)
    (16, 4)
    """
    if brick_bits not in (1, 2, 4, 8):
        raise ValueError(f"brick_bits must divide {PRODUCT_BITS}, not {brick_bits!r}")
    return (PRODUCT_BITS // brick_bits) ** 2


def fused_adder_bits(brick_bits: int) -> int:
    """Bits of the adders that join them: a sum of two halves overlaps by half of their width.

    >>> fused_adder_bits(2)
    108
    """
    width, units, bits = 2 * brick_bits, fused_bricks(brick_bits), 0
    while units > 1:
        units //= 4
        bits += units * 3 * (width * 3 // 2)
        width *= 2
    return bits


def price_fused_bricks(brick_bits: int, lanes: int = 1, target: str = "lut6") -> UnitCost:
    """What ``lanes`` fused products and an accumulator take; its error is unknown, since nothing like it was recorded.

    Raises:
        ValueError: bricks that do not divide 8 bits, or nothing is recorded for the target.
    """
    one = design("fused_bricks", BRICK_BITS=brick_bits, LANES=lanes, ACCUMULATOR_BITS=ACCUMULATOR_BITS)
    bricks, adders = lanes * fused_bricks(brick_bits), lanes * fused_adder_bits(brick_bits)
    source = "bricks and shift-add trees by parts; 32-bit accumulator"
    flip_flops = Figure(float(ACCUMULATOR_BITS), Origin.COMPOSED, None, None, "accumulator")
    if is_lut(target):
        luts = bricks * multiplier_luts(brick_bits + 1, brick_bits + 1) + adders + ACCUMULATOR_BITS
        none = Figure(0.0, Origin.COMPOSED, None, None, "no DSPs")
        return UnitCost(one, target, Figure(float(luts), Origin.COMPOSED, None, None, source), flip_flops, none, None)
    base = SCALED_LIBRARIES.get(target, target)
    ratio = library_ratio(target).value if target in SCALED_LIBRARIES else 1.0
    brick = price_pe(pe_design(INTS[brick_bits + 1], INTS[brick_bits + 1], arithmetic=Arithmetic.MULTIPLIER), base)
    assert brick.area_um2 is not None
    prices = part_prices("integer", base).prices
    area = bricks * brick.area_um2.value + (adders + ACCUMULATOR_BITS) * prices["adder_bits"]
    area += ACCUMULATOR_BITS * (prices["clear_bits"] + register_um2(base))
    return UnitCost(one, target, None, flip_flops, None, Figure(area * ratio, Origin.COMPOSED, None, None, source))
