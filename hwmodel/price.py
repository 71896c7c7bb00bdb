"""What some work costs: cycles, bits and energy by resource, additive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from operator import add, attrgetter
from typing import Any


class Bound(Enum):
    """What a layer waits for."""

    COMPUTE = "compute"
    DRAM = "dram"
    VECTOR = "vector"


@dataclass(frozen=True)
class Price:
    """Cost of some work. Array, DRAM and vector unit overlap inside a layer; prices of layers add up.

    Args:
        macs: multiply-accumulates wanted.
        compute_cycles, dram_cycles, vector_cycles: of each resource alone.
        weight_bits, input_bits, output_bits: moved over the DRAM bus, refetching included.
        compulsory_bits: the same with everything fetched once.
        pe_pj, encoder_pj, vector_pj, sram_read_pj, sram_write_pj, dram_pj, leakage_pj, idle_pj: energy by
            consumer; ``idle_pj`` is the clock of PEs that wait.
        total_cycles: from start to end in a sum; ``None`` for one layer, which takes as long as its slowest resource.
        weight_port_bits, input_port_bits: widths of the buffers' ports (of the last part, in a sum).
    """

    macs: int = 0
    compute_cycles: int = 0
    dram_cycles: int = 0
    vector_cycles: int = 0
    weight_bits: int = 0
    input_bits: int = 0
    output_bits: int = 0
    compulsory_bits: int = 0
    pe_pj: float = 0.0
    encoder_pj: float = 0.0
    vector_pj: float = 0.0
    sram_read_pj: float = 0.0
    sram_write_pj: float = 0.0
    dram_pj: float = 0.0
    leakage_pj: float = 0.0
    idle_pj: float = 0.0
    total_cycles: int | None = None
    weight_port_bits: float = 0.0
    input_port_bits: float = 0.0

    @property
    def cycles(self) -> int:
        """Cycles from start to end."""
        if self.total_cycles is not None:
            return self.total_cycles
        return max(self.compute_cycles, self.dram_cycles, self.vector_cycles)

    @property
    def dram_bits(self) -> int:
        """Bits over the DRAM bus."""
        return self.weight_bits + self.input_bits + self.output_bits

    @property
    def onchip_pj(self) -> float:
        """Energy of everything but the DRAM."""
        logic_pj = self.pe_pj + self.encoder_pj + self.vector_pj
        return logic_pj + self.sram_read_pj + self.sram_write_pj + self.leakage_pj + self.idle_pj

    @property
    def energy_pj(self) -> float:
        """All energy."""
        return self.onchip_pj + self.dram_pj

    @property
    def bound(self) -> Bound:
        """What most of the time is waited for; compute where equal."""
        if self.compute_cycles >= max(self.dram_cycles, self.vector_cycles):
            return Bound.COMPUTE
        return Bound.DRAM if self.dram_cycles >= self.vector_cycles else Bound.VECTOR

    def times(self, count: int) -> Price:
        """``count`` of these, one after another."""
        if count == 1:
            return self
        scaled: list[Any] = [value * count for value in _values(self)]
        scaled += [self.cycles * count, self.weight_port_bits, self.input_port_bits]
        return Price(*scaled)

    def __add__(self, other: Price) -> Price:
        added: list[Any] = list(map(add, _values(self), _values(other)))
        added += [self.cycles + other.cycles, other.weight_port_bits, other.input_port_bits]
        return Price(*added)


_PORTS = ("total_cycles", "weight_port_bits", "input_port_bits")  # the last fields, in this order
_ADDITIVE = tuple(f.name for f in fields(Price))[: -len(_PORTS)]
_values = attrgetter(*_ADDITIVE)
assert tuple(f.name for f in fields(Price)) == (*_ADDITIVE, *_PORTS)


def sum_prices(prices: Iterable[Price]) -> Price:
    """Sum of prices; equal objects are counted and added once."""
    counts: dict[int, tuple[Price, int]] = {}
    for price in prices:  # kept alive by counts, so that ids stay distinct
        known = counts.get(id(price))
        counts[id(price)] = (price, 1 if known is None else known[1] + 1)
    total = Price(total_cycles=0)
    for price, count in counts.values():
        total += price.times(count)
    return total


def overlap(prices: Sequence[Price]) -> Price:
    """Prices of the parts of one layer that run together: each resource's work adds up, the slowest sets the time."""
    if len(prices) == 1:
        return prices[0]
    return replace(sum_prices(prices), total_cycles=None)
