"""Other bit-serial PEs on integers, one dot product at a time: what they add up, and how many cycles that takes.

Every function steps through the machine's cycles and returns ``SerialDot``; values are exact, so what is worth
comparing is the cycles: with the laws of the cost model, and with the means that ``datatypes.bit_stats`` predicts.

    stripes    bits of the activation, one a cycle, times whole weights (Judd et al., MICRO 2016): P_a cycles a step
    loom       bits of both (Sharify et al., DAC 2018): ceil(P_a / s) P_w cycles a step with s activation bits a cycle;
               trimmed, P_a is what the activations of the step need
    pragmatic  terms of the weight, zero terms skipped, lanes waiting for one another (Albericio et al., MICRO 2017,
               who skip those of the activation)
    bitlet     ones of the weights' magnitudes, each bit position with an adder of its own that takes the next weight
               with a one there (Lu et al., MICRO 2021)
    bbs        bit positions one after another; ones added, or zeros taken from the sum of all, whichever are fewer
               (Chen et al., MICRO 2024, without its pruning)

ASSUMPTIONS: a step or group takes a cycle even without any term; BBS's sum of all activations is free (it is shared by
all rows of the array); Bitlet's distillation keeps pace.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from datatypes.recoding import Recoding, booth_digits, naf_digits, twos_complement_bits

SERIAL_LANES = 16  # Stripes (MICRO 2016) and Loom (DAC 2018): 16 products in an adder tree


@dataclass(frozen=True)
class SerialDot:
    """A dot product and the cycles it took."""

    value: int
    cycles: int


def stripes_dot(
    activations: Sequence[int], weights: Sequence[int], *, activation_bits: int, lanes: int = SERIAL_LANES
) -> SerialDot:
    """Activation bits serially.

    Raises:
        ValueError: lengths differ, or an activation does not fit ``activation_bits``.

    >>> stripes_dot([3, -2], [5, 7], activation_bits=4)
    SerialDot(value=1, cycles=4)
    """
    value = cycles = 0
    for a, w in _steps(activations, weights, lanes):
        _check_width(a, activation_bits, "activations")
        for bit in range(activation_bits):
            partial = sum(weight for activation, weight in zip(a, w, strict=True) if activation >> bit & 1)
            value += _plane_weight(bit, activation_bits) * partial
            cycles += 1
    return SerialDot(value, cycles)


def loom_dot(
    activations: Sequence[int], weights: Sequence[int], *, activation_bits: int, weight_bits: int,
    bits_per_cycle: int = 1, lanes: int = SERIAL_LANES, trimmed: bool = False,
) -> SerialDot:  # fmt: skip
    """Both serially, ``bits_per_cycle`` bits of the activation and one of the weight in a cycle.

    Args:
        trimmed: each step takes only the activation bits that its largest magnitude needs.

    Raises:
        ValueError: lengths differ, or an operand does not fit its bits.

    >>> loom_dot([3, -2], [5, 7], activation_bits=8, weight_bits=4, trimmed=True)
    SerialDot(value=1, cycles=12)
    """
    if bits_per_cycle < 1:
        raise ValueError(f"bits_per_cycle must be at least 1, not {bits_per_cycle!r}")
    value = cycles = 0
    for a, w in _steps(activations, weights, lanes):
        _check_width(a, activation_bits, "activations")
        _check_width(w, weight_bits, "weights")
        width = max(map(twos_complement_bits, a)) if trimmed else activation_bits
        for weight_bit in range(weight_bits):
            for first in range(0, width, bits_per_cycle):
                for bit in range(first, min(first + bits_per_cycle, width)):
                    ones = sum(x >> bit & y >> weight_bit & 1 for x, y in zip(a, w, strict=True))
                    value += _plane_weight(bit, width) * _plane_weight(weight_bit, weight_bits) * ones
                cycles += 1
    return SerialDot(value, cycles)


def pragmatic_dot(
    activations: Sequence[int], weights: Sequence[int], *, weight_bits: int, recoding: Recoding, lanes: int
) -> SerialDot:
    """Terms of the weights serially, zero terms skipped; a step ends with its slowest lane.

    >>> pragmatic_dot([3, -2], [7, 8], weight_bits=5, recoding=Recoding.NAF, lanes=2)  # 8 - 1, 8
    SerialDot(value=5, cycles=2)
    """
    value = cycles = 0
    for a, w in _steps(activations, weights, lanes):
        _check_width(w, weight_bits, "weights")
        queues = [_terms(weight, weight_bits, recoding) for weight in w]
        spent = 0
        while spent == 0 or any(queues):
            value += sum(x * queue.pop() for x, queue in zip(a, queues, strict=True) if queue)
            spent += 1
        cycles += spent
    return SerialDot(value, cycles)


def bitlet_dot(activations: Sequence[int], weights: Sequence[int], *, weight_bits: int, group: int) -> SerialDot:
    """Bit interleaving: each bit position eats its own ones, one a cycle; a group ends with its busiest position.

    >>> bitlet_dot([1, 1, 1], [1, 3, -2], weight_bits=4, group=3)  # two ones at either of the two positions
    SerialDot(value=2, cycles=2)
    """
    value = cycles = 0
    for a, w in _steps(activations, weights, group):
        _check_width(w, weight_bits, "weights")
        queues = [[(x if y > 0 else -x) << p for x, y in zip(a, w, strict=True) if abs(y) >> p & 1]
                  for p in range(weight_bits)]  # fmt: skip
        spent = 0
        while spent == 0 or any(queues):
            value += sum(queue.pop() for queue in queues if queue)
            spent += 1
        cycles += spent
    return SerialDot(value, cycles)


def bbs_dot(
    activations: Sequence[int], weights: Sequence[int], *, weight_bits: int, group: int, adders: int
) -> SerialDot:
    """Bidirectional bit sparsity: the ones of a bit position, or its zeros, ``adders`` of them a cycle.

    >>> bbs_dot([1, 2, 3, 4], [-1, -1, -1, 0], weight_bits=2, group=4, adders=2)  # one zero at either position
    SerialDot(value=-6, cycles=2)
    """
    if adders < 1:
        raise ValueError(f"adders must be at least 1, not {adders!r}")
    value = cycles = 0
    for a, w in _steps(activations, weights, group):
        _check_width(w, weight_bits, "weights")
        for bit in range(weight_bits):
            ones = [x for x, y in zip(a, w, strict=True) if y >> bit & 1]
            zeros = [x for x, y in zip(a, w, strict=True) if not y >> bit & 1]
            few, held, sign = (ones, 0, 1) if len(ones) <= len(zeros) else (zeros, sum(a), -1)
            spent = 0
            while spent == 0 or few:
                held += sign * sum(few[:adders])
                few = few[adders:]
                spent += 1
            value += _plane_weight(bit, weight_bits) * held
            cycles += spent
    return SerialDot(value, cycles)


def _plane_weight(bit: int, bits: int) -> int:
    """What a one of that bit of two's complement is worth."""
    return -(1 << bit) if bit == bits - 1 else 1 << bit


def _terms(value: int, bits: int, recoding: Recoding) -> list[int]:
    """Terms of ``value`` that are not zero, each a signed power of two."""
    if recoding is Recoding.TWOS_COMPLEMENT:
        found = [_plane_weight(bit, bits) * (value >> bit & 1) for bit in range(bits)]
    elif recoding is Recoding.SIGN_MAGNITUDE:
        found = [(1 if value > 0 else -1) * (abs(value) & 1 << bit) for bit in range(bits)]
    elif recoding is Recoding.BOOTH:
        found = [digit << 2 * i for i, digit in enumerate(booth_digits(value, (bits + 1) // 2))]
    else:
        found = [digit << i for i, digit in enumerate(naf_digits(value))]
    return [term for term in found if term]


def _steps(a: Sequence[int], w: Sequence[int], size: int) -> Iterator[tuple[list[int], list[int]]]:
    if len(a) != len(w):
        raise ValueError(f"activations and weights must be as many, not {len(a)} and {len(w)}")
    if size < 1:
        raise ValueError(f"lanes and group must be at least 1, not {size!r}")
    for first in range(0, len(a), size):
        yield [int(x) for x in a[first : first + size]], [int(x) for x in w[first : first + size]]


def _check_width(values: list[int], bits: int, what: str) -> None:
    widest = max(map(twos_complement_bits, values))
    if widest > bits:
        raise ValueError(f"{what} must fit {bits} bits of two's complement, not need {widest}")
