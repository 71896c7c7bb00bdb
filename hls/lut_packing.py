"""Counts the LUT6 sites that a Yosys netlist would take on a fabric of AMD slices.

Yosys prints cells. Two small functions fit one LUT6 (outputs O5 and O6, at most five inputs together), and a carry
chain takes one LUT6 for each of its bits, so cells mislead in both directions. The rule:

    * every carry bit up to the last one in use, whose sum input is not a constant, takes one site, and the LUT that
      drives that input is inside;
    * the LUT that drives the bit's data input is inside as well, if both together read at most five signals: either
      nothing else reads it, or nothing but this sum LUT, which then holds a copy of it;
    * LUTs that remain and read at most five signals are paired, largest first, each with the partner that shares most
      signals, as long as a pair reads at most five;
    * a LUT of six inputs takes a site alone; inverters take none.

It models the count after placement and was not compared with Vivado.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

SHARED_INPUTS = 5  # of a LUT6 used as two LUTs, outputs O5 and O6 (AMD UG574, section "Look-Up Table")


@dataclass(frozen=True)
class LutCount:
    """What a module takes.

    Args:
        luts: LUT6 sites by the rule of this file.
        carry_sites: of these, sites of carry bits.
        pairs: sites that hold two LUTs which are not on a carry chain.
        lut_cells: LUT cells and inverters as Yosys writes them.
        carry_cells, muxes, flip_flops, dsps: cells.
    """

    luts: int
    carry_sites: int
    pairs: int
    lut_cells: int
    carry_cells: int
    muxes: int
    flip_flops: int
    dsps: int


@dataclass(frozen=True)
class _Wiring:
    """Who drives a bit, how many read it, and the signals each LUT reads."""

    driver: Mapping[int, str]
    readers: Mapping[int, int]
    inputs: Mapping[str, frozenset[int]]  # by LUT cell; inverters too


def count_luts(module: Mapping) -> LutCount:
    """The count of one module of a Yosys JSON file, mapped by ``synth_xilinx``.

    Raises:
        NotImplementedError: a cell is not of the fabric.
    """
    cells = module["cells"]
    kinds = Counter(cell["type"] for cell in cells.values())
    wiring = _wiring(module)
    inside: set[str] = set()
    carry_sites = 0
    for cell in cells.values():
        if cell["type"].startswith("CARRY"):
            carry_sites += _absorb_carry(cell["connections"], wiring, inside)
    rest = [n for n, cell in cells.items() if cell["type"].startswith("LUT") and n not in inside]
    wide = sum(1 for name in rest if len(wiring.inputs[name]) > SHARED_INPUTS)
    small = {name: wiring.inputs[name] for name in rest if len(wiring.inputs[name]) <= SHARED_INPUTS}
    pairs = _pairs(small)
    return LutCount(
        luts=carry_sites + wide + len(small) - pairs,
        carry_sites=carry_sites,
        pairs=pairs,
        lut_cells=sum(n for kind, n in kinds.items() if kind.startswith("LUT") or kind == "INV"),
        carry_cells=sum(n for kind, n in kinds.items() if kind.startswith("CARRY")),
        muxes=sum(n for kind, n in kinds.items() if kind.startswith("MUXF")),
        flip_flops=sum(n for kind, n in kinds.items() if kind.startswith("FD")),
        dsps=sum(n for kind, n in kinds.items() if kind.startswith("DSP")),
    )


def _wiring(module: Mapping) -> _Wiring:
    driver: dict[int, str] = {}
    readers: Counter[int] = Counter()
    inputs: dict[str, frozenset[int]] = {}
    for name, cell in module["cells"].items():
        reads: list[int] = []
        if cell["connections"] and "port_directions" not in cell:
            raise NotImplementedError(f"cells must be mapped to the fabric, not of type {cell['type']}")
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "output":
                driver.update(dict.fromkeys(bits, name))
            else:
                reads.extend(bit for bit in bits if not isinstance(bit, str))
        readers.update(reads)
        if cell["type"].startswith("LUT") or cell["type"] == "INV":
            inputs[name] = frozenset(reads)
    for port in module["ports"].values():
        if port["direction"] == "output":
            readers.update(bit for bit in port["bits"] if not isinstance(bit, str))
    return _Wiring(driver, readers, inputs)


def _absorb_carry(pins: Mapping, wiring: _Wiring, inside: set[str]) -> int:
    """Sites of one carry cell; the LUTs that go into them are added to ``inside``."""
    outputs = zip(pins.get("O", []), pins.get("CO", []), strict=False)
    used = [i for i, bits in enumerate(outputs) if any(wiring.readers[bit] for bit in bits)]
    sites = 0
    for select, data in list(zip(pins["S"], pins["DI"], strict=True))[: max(used, default=-1) + 1]:
        if isinstance(select, str):
            continue
        sites += 1
        reads = frozenset([select])
        sum_lut = wiring.driver.get(select)
        if sum_lut is not None and sum_lut in wiring.inputs and sum_lut not in inside:
            inside.add(sum_lut)
            reads = wiring.inputs[sum_lut]
        data_lut = None if isinstance(data, str) else wiring.driver.get(data)
        if data_lut is None or data_lut not in wiring.inputs or data_lut in inside:
            continue
        alone = wiring.readers[data] == 1
        copied = wiring.readers[data] == 2 and data in reads and select != data
        together = (reads if alone else reads - {data}) | wiring.inputs[data_lut]
        if (alone or copied) and len(together) <= SHARED_INPUTS:
            inside.add(data_lut)
    return sites


def _pairs(small: Mapping[str, frozenset[int]]) -> int:
    """How many disjoint pairs of LUTs share a site, greedily."""
    order = sorted(small, key=lambda name: -len(small[name]))
    rank = {name: i for i, name in enumerate(order)}
    by_signal: dict[int, list[str]] = {}
    for name in order:
        for signal in small[name]:
            by_signal.setdefault(signal, []).append(name)
    free = dict.fromkeys(order)  # ordered set
    pairs = 0
    while free:
        name = next(iter(free))
        del free[name]
        partner = _partner(name, small, by_signal, free, rank)
        if partner is not None:
            del free[partner]
            pairs += 1
    return pairs


def _partner(
    name: str,
    small: Mapping[str, frozenset[int]],
    by_signal: Mapping[int, list[str]],
    free: Mapping[str, None],
    rank: Mapping[str, int],
) -> str | None:
    """The free LUT that shares most signals with ``name`` and fits beside it; the earliest of equals."""
    shared: Counter[str] = Counter()
    for signal in small[name]:
        shared.update(other for other in by_signal[signal] if other in free)
    fitting = [k for k in shared if len(small[name] | small[k]) <= SHARED_INPUTS]
    if fitting:
        return min(fitting, key=lambda k: (-shared[k], rank[k]))
    space = SHARED_INPUTS - len(small[name])
    return next((k for k in free if len(small[k]) <= space), None)
