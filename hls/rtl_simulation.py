"""Simulates a synthesised netlist: what the measured gates compute, for thousands of cases at once.

The netlist that is counted is the netlist that is checked: Yosys' JSON of a module mapped to LUTs, carry chains and
flip-flops (or to plain gates) is put in topological order and evaluated with 64 cases to a machine word. No simulator
has to be installed. Cells: LUT1 to LUT6, INV, CARRY4, CARRY8, MUXF7 to MUXF9, FDRE, FDSE, DSP48E2 as a multiplier (AMD
UG953, UG974 and UG579 describe them), and Yosys' one-bit gates. One clock domain; flip-flops start at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

Words = np.ndarray  # uint64 [words]: bit j of word i is case 64 i + j
ONES = np.uint64(0xFFFFFFFFFFFFFFFF)


def bits_of(values: np.ndarray, width: int) -> np.ndarray:
    """The low ``width`` bits of integers ``[...]`` (any integer or object type), two's complement: bool."""
    values = np.asarray(values)
    if values.dtype != object:
        if width > 63:
            values = values.astype(object)
        else:
            return ((values.astype(np.int64)[..., None] >> np.arange(width)) & 1).astype(bool)
    return np.stack([((values >> i) & 1).astype(bool) for i in range(width)], axis=-1)


def lanes_of(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes ``[..., lanes]`` side by side in one port, lane 0 lowest, bool ``[..., lanes * bits]``."""
    planes = bits_of(codes, bits)
    return planes.reshape(*planes.shape[:-2], -1)


def integers_of(bits: np.ndarray, signed: bool) -> np.ndarray:
    """The integers that bool ``[..., width]`` means: int64, or Python integers beyond 63 bits."""
    width = bits.shape[-1]
    kind = np.int64 if width <= 63 else object
    total = np.zeros(bits.shape[:-1], dtype=kind)
    for i in range(width):
        total = total + bits[..., i].astype(kind) * ((1 << i) if kind is object else np.int64(1 << i))
    if signed:
        total = total - bits[..., -1].astype(kind) * ((1 << width) if kind is object else np.int64(1) << width)
    return total


@dataclass
class Netlist:
    """One module ready to run.

    Args:
        inputs, outputs: bit numbers of each port, lowest first (an output bit may be the text ``0`` or ``1``).
        steps: in topological order, ``(output bit, function of the values so far)``; a DSP's product is one step.
        registers: ``(output bit, data bit, enable bit, reset bit, value after reset)`` of each flip-flop.
    """

    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int | str, ...]]
    steps: list[tuple[int | str, Callable[[dict], Words]]]
    registers: list[tuple[int, int | str, int | str, int | str, int]] = field(default_factory=list)

    @property
    def combinational(self) -> bool:
        """Whether there is no flip-flop."""
        return not self.registers

    def run(self, stimulus: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs for ``stimulus``.

        Args:
            stimulus: by input port (without the clock), bool ``[cycles, cases, width]``.

        Returns:
            by output port, bool ``[cycles, cases, width]``: in cycle t the value after the clock edge that ends it (of
            a module without flip-flops: the value for that cycle's inputs).
        """
        missing = sorted(set(self.inputs) - set(stimulus) - {"clk"})
        if missing:
            raise ValueError(f"stimulus must have every input, not without {missing!r}")
        cycles, cases = next(iter(stimulus.values())).shape[:2]
        packed = {name: _pack(stimulus[name]) for name in self.inputs if name != "clk"}
        words = -(-cases // 64)
        zero, one = np.zeros(words, np.uint64), np.full(words, ONES)
        state = {q: zero for q, *_ in self.registers}
        seen: dict[str, list[np.ndarray]] = {name: [] for name in self.outputs}
        for cycle in range(cycles):
            values: dict = {"0": zero, "1": one, "x": zero, **state}
            for name, numbers in self.inputs.items():
                if name != "clk":
                    values.update(zip(numbers, packed[name][cycle], strict=True))
            self._settle(values)
            if self.registers:
                state = {register[0]: _next(values, register) for register in self.registers}
                values.update(state)
                self._settle(values)
            for name, bits in self.outputs.items():
                seen[name].append(np.stack([values[bit] for bit in bits]))
        return {name: _unpack(np.stack(rows), cases) for name, rows in seen.items()}

    def _settle(self, values: dict) -> None:
        for bit, function in self.steps:
            values[bit] = function(values)


def _next(values: dict, register: tuple) -> Words:
    q, data, enable, reset, after_reset = register
    kept = (values[data] & values[enable]) | (values[q] & ~values[enable])
    return (kept | values[reset]) if after_reset else (kept & ~values[reset])


def _pack(bits: np.ndarray) -> np.ndarray:
    """bool ``[cycles, cases, width]`` to uint64 ``[cycles, width, words]``."""
    planes = np.moveaxis(bits, -1, 1)
    padding = -planes.shape[-1] % 64
    planes = np.pad(planes, ((0, 0), (0, 0), (0, padding)))
    return np.ascontiguousarray(np.packbits(planes, axis=-1, bitorder="little")).view(np.uint64)


def _unpack(words: np.ndarray, cases: int) -> np.ndarray:
    """uint64 ``[cycles, width, words]`` to bool ``[cycles, cases, width]``."""
    planes = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little", count=cases)
    return np.moveaxis(planes.astype(bool), 1, -1)


def netlist_of(module: Mapping) -> Netlist:
    """The netlist of one module of a Yosys JSON file.

    Raises:
        NotImplementedError: a cell that is not among those of the module docstring.
        ValueError: a combinational loop.
    """
    ports = module["ports"]
    steps: dict[int | str, tuple[tuple, Callable[[dict], Words]]] = {}
    registers = []
    for cell in module["cells"].values():
        pins = cell["connections"]
        parameters = cell.get("parameters", {})
        kind = cell["type"]
        if kind == "$scopeinfo":  # where a flattened module was: a note, no logic
            continue
        if kind in ("FDRE", "FDSE"):
            reset = pins["R" if kind == "FDRE" else "S"][0]
            registers.append((pins["Q"][0], pins["D"][0], pins["CE"][0], reset, int(kind == "FDSE")))
        else:
            for bit, needs, function in _cell_functions(kind, pins, parameters):
                steps[bit] = (needs, function)
    return Netlist(
        inputs={n: tuple(p["bits"]) for n, p in ports.items() if p["direction"] == "input"},
        outputs={n: tuple(p["bits"]) for n, p in ports.items() if p["direction"] == "output"},
        steps=_in_order(steps),
        registers=registers,
    )


def _in_order(steps: Mapping[int | str, tuple[tuple, Callable]]) -> list[tuple[int | str, Callable]]:
    """Topological order, iteratively (a carry chain is deeper than Python's stack)."""
    done: set[int | str] = set()
    open_: set[int | str] = set()
    order = []
    for root in steps:
        stack = [(root, False)]
        while stack:
            bit, expanded = stack.pop()
            if bit in done:
                continue
            if expanded:
                open_.discard(bit)
                done.add(bit)
                order.append((bit, steps[bit][1]))
                continue
            if bit in open_:
                raise ValueError(f"the netlist must have no combinational loop, not one through bit {bit!r}")
            open_.add(bit)
            stack.append((bit, True))
            stack.extend((need, False) for need in steps[bit][0] if need in steps and need not in done)
    return order


def _cell_functions(kind: str, pins: Mapping, parameters: Mapping) -> list[tuple[int | str, tuple, Callable]]:
    """``(output bit, input bits, function)`` of each output of a combinational cell."""
    if kind.startswith("LUT"):
        inputs = tuple(pins[f"I{i}"][0] for i in range(int(kind[3:])))
        table = int(parameters["INIT"], 2)
        return [(pins["O"][0], inputs, _lut(inputs, table))]
    if kind in ("CARRY4", "CARRY8"):
        return _carry(pins)
    if kind in ("MUXF7", "MUXF8", "MUXF9"):
        low, high, select = pins["I0"][0], pins["I1"][0], pins["S"][0]
        return [(pins["O"][0], (low, high, select), lambda v: (v[high] & v[select]) | (v[low] & ~v[select]))]
    if kind in ("INV", "BUFG"):
        data = pins["I"][0]
        invert = kind == "INV"
        return [(pins["O"][0], (data,), (lambda v: ~v[data]) if invert else (lambda v: v[data]))]
    if kind == "DSP48E2":
        return _dsp(pins, parameters)
    if kind in _GATES:
        names, function = _GATES[kind]
        inputs = tuple(pins[name][0] for name in names)
        return [(pins["Y"][0], inputs, lambda v: function(*(v[bit] for bit in inputs)))]
    raise NotImplementedError(f"netlists are simulated without cells of type {kind}")


_GATES: Mapping[str, tuple[str, Callable[..., Words]]] = {
    "$_NOT_": ("A", lambda a: ~a),
    "$_BUF_": ("A", lambda a: a),
    "$_AND_": ("AB", lambda a, b: a & b),
    "$_NAND_": ("AB", lambda a, b: ~(a & b)),
    "$_OR_": ("AB", lambda a, b: a | b),
    "$_NOR_": ("AB", lambda a, b: ~(a | b)),
    "$_XOR_": ("AB", lambda a, b: a ^ b),
    "$_XNOR_": ("AB", lambda a, b: ~(a ^ b)),
    "$_ANDNOT_": ("AB", lambda a, b: a & ~b),
    "$_ORNOT_": ("AB", lambda a, b: a | ~b),
    "$_MUX_": ("ABS", lambda a, b, s: (b & s) | (a & ~s)),
}


def _lut(inputs: tuple, table: int) -> Callable[[dict], Words]:
    """A look-up table as a tree of multiplexers; equal halves and constants cost nothing."""
    count = len(inputs)
    if count == 0:
        return lambda v: v["1" if table & 1 else "0"]
    half = 1 << (count - 1)
    low, high = table & ((1 << half) - 1), table >> half
    select, rest = inputs[-1], inputs[:-1]
    everything = (1 << half) - 1
    below = _lut(rest, low)
    if low == high:
        return below
    above = _lut(rest, high)
    if low ^ high == everything:
        return lambda v: v[select] ^ below(v)
    if low == 0:
        return lambda v: above(v) & v[select]
    if high == 0:
        return lambda v: below(v) & ~v[select]
    if low == everything:
        return lambda v: above(v) | ~v[select]
    if high == everything:
        return lambda v: below(v) | v[select]
    return lambda v: (above(v) & v[select]) | (below(v) & ~v[select])


def _carry(pins: Mapping) -> list[tuple[int | str, tuple, Callable]]:
    """A carry chain: O = S xor carry, CO = carry where S, else DI."""
    made: list[tuple[int | str, tuple, Callable]] = []
    start = pins.get("CYINIT", ["0"])[0]
    first = pins["CI"][0]

    def begin(v: dict) -> Words:
        return v[first] | v[start]  # one of the two is constant 0

    previous: Callable[[dict], Words] = begin
    needs: tuple = (first, start)
    carries, sums = pins.get("CO", []), pins.get("O", [])
    for i, (select, data) in enumerate(zip(pins["S"], pins["DI"], strict=True)):
        carry_in = previous

        def total(v: dict, select: object = select, carry_in: Callable = carry_in) -> Words:
            return v[select] ^ carry_in(v)

        def carry(v: dict, select: object = select, data: object = data, carry_in: Callable = carry_in) -> Words:
            return (v[select] & carry_in(v)) | (v[data] & ~v[select])

        if i < len(sums):
            made.append((sums[i], (*needs, select), total))
        if i < len(carries):
            made.append((carries[i], (*needs, select, data), carry))
            bit = carries[i]
            previous, needs = _reader(bit), (bit,)
        else:
            previous, needs = carry, (*needs, select, data)
    return made


_DSP_WIDE, _DSP_NARROW = 27, 18  # bits of the multiplier's ports A and B (UG579)
_DSP_MODES = {"OPMODE": 0b101, "ALUMODE": 0, "INMODE": 0, "CARRYIN": 0, "CARRYINSEL": 0}  # P = A * B


def _dsp(pins: Mapping, parameters: Mapping) -> list[tuple[int | str, tuple, Callable]]:
    """P = A * B of a DSP48E2, signed; registers, pre-adder and accumulator must be unused."""
    modes = {name: sum(int(bit == "1") << i for i, bit in enumerate(pins[name])) for name in _DSP_MODES}
    constant = all(isinstance(bit, str) for name in _DSP_MODES for bit in pins[name])
    registers = sorted(name for name, value in parameters.items() if name.endswith("REG") and int(str(value), 2))
    if not constant or modes != _DSP_MODES or registers or parameters.get("AMULTSEL", "A") != "A":
        raise NotImplementedError(f"DSP48E2s are simulated as multipliers, not with {modes} and {registers}")
    a, b = tuple(pins["A"][:_DSP_WIDE]), tuple(pins["B"][:_DSP_NARROW])
    whole = f"product {pins['P'][0]}"  # of all bits at once, [bits, words]

    def multiply(v: dict) -> Words:
        factors = [_unpack(np.stack([v[bit] for bit in bits])[None], 64 * len(v["0"]))[0] for bits in (a, b)]
        product = integers_of(factors[0], signed=True) * integers_of(factors[1], signed=True)  # 45 bits
        return _pack(bits_of(product, len(pins["P"]))[None])[0]

    def plane(place: int) -> Callable[[dict], Words]:
        return lambda v: v[whole][place]

    return [(whole, (*a, *b), multiply), *((bit, (whole,), plane(i)) for i, bit in enumerate(pins["P"]))]


def _reader(bit: int) -> Callable[[dict], Words]:
    return lambda v: v[bit]
