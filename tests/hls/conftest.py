"""What the tests of C++ share: vectors for arithmetics and the PE that drives one, layers beside their reference."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from datatypes.quantized_layer import QuantizedLayer
from hls.ap_types import WARNINGS, ap_types_folder, compiler
from hls.csim_pe import UNITS_PER_PROGRAM, Comparison, compare, unit_of
from hls.layer_csim import SimulatedOutput, compile_plans, simulate_plan
from hls.layer_options import LayerOptions
from hls.layer_plan import LayerPlan
from hls.layer_planning import plan_layer
from hls.layer_reference import LayerOutput, layer_reference
from hls.pe_program import Unit, compiled
from hls.rtl_design import Design
from hls.rtl_reference import REFERENCES
from hls.rtl_simulation import bits_of, lanes_of
from hls.rtl_vectors import Vectors, flag
from hls.rtl_vectors_float import round_float

BENCH = Path(__file__).with_name("csim_bench.h")
PORTS = ("clear", "rescale", "write", "index", "entry", "weight", "activation", "selector")
"""Inputs of ``loaded_pe`` in csim_bench.h."""


class ArithmeticBench:
    """Vectors for arithmetics: codes in, the bits of float32 values out."""

    def unit(self, cpp: str) -> Unit:
        """The PE of an arithmetic, given as a C++ type."""
        return Unit(cpp, f"loaded_pe<{cpp}>", str(BENCH), PORTS, ("value", "cycles"))

    def stimulus(
        self, weight: np.ndarray, activation: np.ndarray, clear: np.ndarray, *, weight_bits: int, activation_bits: int,
        rescale: np.ndarray | None = None, entries: Sequence[int] = (), entry_bits: int = 1,
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """Ports for codes ``[cycles, cases, codes]``; ``entries`` are written first, one a cycle, in every case."""
        shape = clear.shape
        nothing = np.zeros(shape, np.int64)

        def led(values: np.ndarray) -> np.ndarray:  # cycles of writing in front
            return np.concatenate([np.zeros((len(entries), *values.shape[1:]), values.dtype), values])

        words = np.array([*entries, *([0] * shape[0])], dtype=object)[:, None]
        count = len(entries) + shape[0]
        writing = np.arange(count)[:, None] < len(entries)
        everywhere = np.zeros((count, shape[1]), np.int64)
        return {
            "clear": flag(led(clear)),
            "rescale": flag(led(nothing if rescale is None else rescale)),
            "write": flag(np.broadcast_to(writing, everywhere.shape)),
            "index": bits_of(np.where(writing, np.arange(count)[:, None], 0) + everywhere, 16),
            "entry": bits_of(words + everywhere, entry_bits),
            "weight": led(lanes_of(weight, weight_bits)),
            "activation": led(lanes_of(activation, activation_bits)),
            "selector": flag(everywhere),
        }

    def running(self, sums: np.ndarray, clear: np.ndarray) -> np.ndarray:
        """Sums after each cycle, ``[cycles, cases]`` or ``[cycles, cases, outputs]``, of those of each cycle."""
        total, rows = np.zeros(sums.shape[1:], dtype=object), []
        for row, again in zip(sums, clear, strict=True):
            total = np.where(again.reshape(-1, *[1] * (row.ndim - 1)), 0, total) + row
            rows.append(total)
        return np.stack(rows)

    def vectors(self, stimulus: dict[str, np.ndarray], sums: np.ndarray, unit_exponent: int) -> Vectors:
        """What ``value`` must be for exact sums, Python integers ``[cycles, cases]`` or ``[cycles, cases, outputs]``:
        ``float32(sum) * 2**unit_exponent``, output 0 in the low bits."""
        bits = self.float_bits(sums, unit_exponent)
        return self.value_vectors(stimulus, bits)

    def value_vectors(self, stimulus: dict[str, np.ndarray], bits: np.ndarray) -> Vectors:
        """As ``vectors``, with the bits themselves."""
        if bits.ndim == 3:
            bits = sum(bits[..., i] << (32 * i) for i in range(bits.shape[2]))
        lead = len(stimulus["clear"]) - len(bits)
        expected = np.concatenate([np.zeros((lead, bits.shape[1]), object), bits])
        compared = np.broadcast_to(np.arange(len(expected))[:, None] >= lead, expected.shape)
        return Vectors(stimulus, {"value": expected}, signed=False, compared=compared)

    def float_bits(self, sums: np.ndarray, unit_exponent: int) -> np.ndarray:
        """Bits of ``float32(sum) * 2**unit_exponent``, which must be normal or zero."""
        if np.abs(sums).max() < 1 << 53:  # float64 holds them, so that there is one rounding
            values = np.ldexp(sums.astype(np.float64).astype(np.float32), unit_exponent)
            return values.view(np.uint32).astype(object)
        codes = np.vectorize(lambda total: round_float(int(total), 149, 8, 23), otypes=[object])(
            sums
        )  # 1 = 2**149 steps
        return np.where(codes & 0x7FFFFFFF, codes + (unit_exponent << 23), codes)

    def check(self, work: Sequence[tuple[Unit, Vectors]]) -> int:
        """Compiles the units into programs, compares all outputs, and counts them."""
        found = []
        for first in range(0, len(work), UNITS_PER_PROGRAM):
            batch = work[first : first + UNITS_PER_PROGRAM]
            with compiled([unit for unit, _ in batch]) as program:
                found += [compare(unit, vectors, program.drive(unit, vectors.stimulus)) for unit, vectors in batch]
        return self.count(found)

    def twins(self, designs: Iterable[Design]) -> list[tuple[Unit, Vectors]]:
        """The C++ structs of designs, and the vectors of their RTL check."""
        return [(unit_of(design), REFERENCES[design.module](design, np.random.default_rng(7))) for design in designs]

    def count(self, found: Sequence[Comparison]) -> int:
        """How many outputs were compared; none may differ."""
        assert [str(mismatch) for one in found for mismatch in one.mismatches] == []
        return sum(one.compared for one in found)


def modules_with(session: pytest.Session, name: str) -> list[ModuleType]:
    """Test modules of a session that define ``name``."""
    found = (getattr(item, "module", None) for item in session.items)  # a doctest has none
    return list(dict.fromkeys(module for module in found if hasattr(module, name)))


@pytest.fixture(scope="session")
def needs_compiler():
    """Skips where ``ap_int.h`` or g++ is missing."""
    try:
        ap_types_folder()
        compiler()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def arithmetic_bench(needs_compiler):
    return ArithmeticBench()


@pytest.fixture(scope="session")
def quick_check(request, arithmetic_bench):
    """Counts compared outputs of a test module's ``quick(bench)``. One program serves all modules of the session that
    have one, since a compiler run costs more than all of their vectors."""
    work = {module: module.quick(arithmetic_bench) for module in modules_with(request.session, "quick")}
    with compiled(list({unit: None for batch in work.values() for unit, _ in batch})) as program:
        yield lambda module: arithmetic_bench.count(
            [compare(unit, vectors, program.drive(unit, vectors.stimulus)) for unit, vectors in work[module]]
        )


# --- layers ----------------------------------------------------------------------------------------------------------

LayerCase = tuple[QuantizedLayer, LayerOptions, np.ndarray, np.ndarray | None]
"""A layer, how it is computed, its float16 inputs ``[m, k]``, and its bias."""
LAYER_FLAGS = ("-O0", *WARNINGS)  # -O0 compiles fastest


@dataclass(frozen=True, eq=False)
class SimulatedLayer:
    """What the golden reference and C++ make of the inputs of a layer."""

    name: str
    layer: QuantizedLayer
    plan: LayerPlan
    inputs: np.ndarray
    expected: LayerOutput
    found: SimulatedOutput


@pytest.fixture(scope="session")
def simulate_layers(needs_compiler) -> Callable[[Path, Mapping[str, LayerCase]], list[SimulatedLayer]]:
    """A function: compiles layers, by name, into one program in a folder, and runs each."""

    def simulate(folder: Path, cases: Mapping[str, LayerCase]) -> list[SimulatedLayer]:
        plans = {name: plan_layer(layer, bias=bias, options=how) for name, (layer, how, _, bias) in cases.items()}
        program = folder / "layers"
        compile_plans(plans, program, flags=LAYER_FLAGS)
        return [
            SimulatedLayer(
                name, layer, plans[name], x, layer_reference(layer, x, bias, how),
                simulate_plan(program, name, plans[name], x),
            )
            for name, (layer, how, x, bias) in cases.items()
        ]  # fmt: skip

    return simulate


@pytest.fixture(scope="session")
def quick_layers(request, simulate_layers, tmp_path_factory) -> Callable[[ModuleType], list[SimulatedLayer]]:
    """The simulated layers of a test module's ``quick_cases()``: as with ``quick_check``, one program serves all."""
    cases = {module: module.quick_cases() for module in modules_with(request.session, "quick_cases")}
    together = {name: case for batch in cases.values() for name, case in batch.items()}
    assert len(together) == sum(len(batch) for batch in cases.values())  # no name twice
    made = {one.name: one for one in simulate_layers(tmp_path_factory.mktemp("layers"), together)}
    return lambda module: [made[name] for name in cases[module]]
