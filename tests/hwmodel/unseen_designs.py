"""Designs written down in lists: formats, widths, lanes and accumulators, each with what its netlist takes."""

from collections.abc import Iterable

from hwmodel.unit_cost_design import PeDesign, design, fixed_product_bits

_FLOAT_FIELDS = (
    "WEIGHT_EXPONENT_BITS", "WEIGHT_MANTISSA_BITS", "ACTIVATION_EXPONENT_BITS", "ACTIVATION_MANTISSA_BITS",
)  # fmt: skip


def float_design(family: str, fields: tuple[int, int, int, int], lanes: int = 1) -> PeDesign:
    """A minifloat unit; the accumulator of a dot product has ten guard bits."""
    bits = {**dict(zip(_FLOAT_FIELDS, fields, strict=True)), "ACCUMULATOR_BITS": 0}
    if family == "minifloat_dot":
        bits |= {"LANES": lanes, "ACCUMULATOR_BITS": fixed_product_bits(*fields) + 10}
    return design(family, **bits)


def int_design(w: int, a: int, lanes: int, *, unsigned: int = 0, accumulator: int | None = None) -> PeDesign:
    """A dot product of integers; its accumulator has ten guard bits, or as many bits as asked for."""
    bits = w + a + 10 if accumulator is None else accumulator
    return design("int_dot", WEIGHT_BITS=w, ACTIVATION_BITS=a, ACTIVATION_UNSIGNED=unsigned, LANES=lanes,
                  ACCUMULATOR_BITS=bits)  # fmt: skip


def listed(
    floats: Iterable[tuple[str, tuple[int, int, int, int], int, int]],
    integers: Iterable[tuple[int, int, int, int, int]],
) -> list[tuple[PeDesign, int]]:
    """Designs with what they take.

    Args:
        floats: family, exponent and mantissa bits of weight and activation, lanes, cost.
        integers: bits of weight and activation, lanes, bits of the accumulator (0: a multiplier), cost.
    """
    made = [(float_design(family, fields, lanes), cost) for family, fields, lanes, cost in floats]
    for w, a, lanes, bits, cost in integers:
        multiplier = design("int_multiplier", WEIGHT_BITS=w, ACTIVATION_BITS=a, ACCUMULATOR_BITS=0)
        made.append((int_design(w, a, lanes, accumulator=bits) if bits else multiplier, cost))
    return made
