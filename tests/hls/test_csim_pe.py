"""C++ PEs equal their references: those of the RTL twins on every design, arithmetics on the formats' own values.

A quick set always, every design of every sweep under ``slow``. Needs ``ap_int.h`` (extra ``hls``) and g++.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datatypes.catalog import INTS, MINIFLOATS, MX_INT8, UINTS
from datatypes.format import FloatFormat, Format
from hls import rtl_constructors as make
from hls.ap_types import INCLUDE, CompileError, compile_program
from hls.csim_pe import compare, run, unit_of
from hls.pe_program import Unit, arithmetic_unit, compiled
from hls.rtl_designs import BF16_OPERAND, FP16_OPERAND, designs, finite_minifloats
from hls.rtl_reference import REFERENCES
from hls.rtl_simulation import lanes_of
from hls.rtl_vectors import Vectors, flag, random_codes, random_restarts, steps_of
from hls.rtl_vectors_float import accumulated, finite, lowest_place, round_float, smallest_step

E2M1, E4M3, E3M0, E5M2, E3M2 = (MINIFLOATS[name] for name in ("e2m1", "e4m3", "e3m0", "e5m2", "e3m2"))
pytestmark = pytest.mark.usefixtures("needs_compiler")
PAIR = ("codesign::int_mapping::dsp_pair",)
QUICK = (
    make.int_multiplier(3, 5),
    make.int_multiplier(4, 4, unsigned=True),
    make.int_dot(8, 8),
    make.int_dot(5, 3, lanes=7),
    make.int_pair_dot(3, 8, lanes=5, unsigned=True),
    make.minifloat_unit("minifloat_product", E2M1, E4M3),
    make.minifloat_unit("minifloat_multiplier", E3M0, E4M3),
    make.minifloat_dot(E4M3, E4M3),
    make.float_mac(FP16_OPERAND, FP16_OPERAND, exponent_bits=5, mantissa_bits=10),
    make.mx_block_dot("mx_int8", lanes=4),
)
QUICK_PAIRED = (make.int_dot(4, 8, lanes=5), make.int_dot(4, 8, unsigned=True, lanes=2))
OURS = ("block_dot", "float_accumulate", "integer", "minifloat")


# --- rendering -------------------------------------------------------------------------------------------------------


def test_a_design_becomes_a_type_with_the_parameters_up_to_its_last_override():
    unit = unit_of(make.int_dot(4, 8, lanes=16))
    assert unit.cpp == "codesign::int_dot<4, 8, 0, 16, 22>"  # 22 = 4 + 8 + 10 guard bits
    assert unit.header == "codesign/integer.h"
    assert (unit.inputs, unit.outputs) == (("clear", "weight", "activation"), ("accumulator",))


def test_parameters_that_a_design_leaves_out_have_the_defaults_of_the_rtl():
    # SERIAL_SIGNED = 1 stands between SERIAL_BITS and LANES in serial.sv; the accumulator has 8 + 3 + 10 bits.
    assert unit_of(make.bit_serial_dot(8, 3, lanes=4)).cpp == "codesign::bit_serial_dot<8, 3, 1, 4, 21, 1>"


def test_a_table_becomes_a_type():
    cpp = unit_of(make.codebook_dot(programmable=False, entry_bits=4)).cpp
    # NF4 in sevenths, two's complement of 4 bits: -7 (9) to 7, the zero at code 7.
    assert cpp.startswith("codesign::codebook_dot<4, 4, 8, 1, 0, codesign::fixed_table<9, ")
    assert cpp.endswith(", 7>>")


def test_modules_without_parameters_are_plain_types():
    assert unit_of(make.bitmod_part("bitmod_term_encoder")).cpp == "codesign::bitmod_term_encoder"


def test_a_design_with_registers_inside_is_refused():
    with pytest.raises(ValueError, match=r"no registers inside.*not as int_dot\.w4a4\.x1rr has"):
        unit_of(make.int_dot(4, 4, stages=2))


def test_every_referenced_module_has_its_struct():
    found = {module: (INCLUDE / unit_of(design).header) for module, design in one_design_a_module().items()}
    assert set(found) == set(REFERENCES)
    for module, header in found.items():
        if header.stem in OURS:
            assert f"struct {module} " in header.read_text()


def one_design_a_module() -> dict:
    return {design.module: design for design in designs("all") if not registered(design)}


def registered(design) -> bool:
    return design.registered_inputs or design.pipeline_stages > 1


# --- arithmetics: what they must compute -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """An arithmetic and the formats that it is for; ``accumulator`` are a float's exponent and mantissa bits."""

    cpp: str
    header: str
    weight: Format
    activation: Format
    lanes: int
    accumulator: tuple[int, int] | None = None

    @property
    def unit(self) -> Unit:
        return arithmetic_unit(f"codesign::{self.cpp}", f"codesign/{self.header}.h")

    def stimulus(self, w: np.ndarray, a: np.ndarray, clear: np.ndarray) -> dict[str, np.ndarray]:
        """Ports for codes ``[cycles, cases, lanes]``."""
        bits = {"weight": lanes_of(w, self.weight.bits), "activation": lanes_of(a, self.activation.bits)}
        return {**bits, "clear": flag(clear), "selector": np.zeros((*clear.shape, 1), bool)}

    def expected(self, w: np.ndarray, a: np.ndarray, clear: np.ndarray) -> dict[str, np.ndarray]:
        """``sum`` and the bits of ``value`` from the values of the codes."""
        if self.accumulator is not None:
            return self._rounded(w, a, clear)
        products = steps(self.weight)[w] * steps(self.activation)[a]
        total = np.zeros(w.shape[1], dtype=object)
        sums = []
        for row, again in zip(products.sum(axis=2), clear, strict=True):
            total = np.where(again, 0, total) + row
            sums.append(total)
        unit = np.float32(2.0 ** (unit_place(self.weight) + unit_place(self.activation)))
        floats = [[np.uint32(round_float(int(s), 149, 8, 23)).view(np.float32) * unit for s in row] for row in sums]
        return {"sum": np.stack(sums), "value": np.array(floats, np.float32).view(np.uint32).astype(np.int64)}

    def _rounded(self, w: np.ndarray, a: np.ndarray, clear: np.ndarray) -> dict[str, np.ndarray]:
        assert self.accumulator is not None
        cycles, cases, lanes = w.shape
        products = steps(self.weight)[w] * steps(self.activation)[a]
        addends = np.moveaxis(products, 2, 1).reshape(cycles * lanes, cases)  # a lane after the other
        again = np.zeros((cycles, lanes, cases), bool)
        again[:, 0] = clear
        place = unit_place(self.weight) + unit_place(self.activation) - lowest_place(self.accumulator)
        codes = accumulated(
            addends, np.full(addends.shape, place), again.reshape(cycles * lanes, cases), self.accumulator
        )[lanes - 1 :: lanes]
        return {"sum": codes, "value": np.vectorize(self._float_bits)(codes)}

    def _float_bits(self, code: int) -> int:
        """The float32 of an accumulator code, exactly."""
        assert self.accumulator is not None
        exponent_bits, mantissa_bits = self.accumulator
        field, fraction = (code >> mantissa_bits) & ((1 << exponent_bits) - 1), code & ((1 << mantissa_bits) - 1)
        significand = fraction + ((1 << mantissa_bits) if field else 0)
        place = max(field - 1, 0) + lowest_place(self.accumulator)
        magnitude = np.float32(float(Fraction(significand) * Fraction(2) ** place))
        return int(magnitude.view(np.uint32)) | (code >> (exponent_bits + mantissa_bits)) << 31

    @property
    def signed(self) -> bool:
        return self.accumulator is None


@cache
def steps(fmt: Format) -> np.ndarray:
    """``steps_of``, once for each format: FP16 has 65,536 codes."""
    return steps_of(fmt)


@cache
def unit_place(fmt: Format) -> int:
    """``smallest_step``, likewise."""
    return smallest_step(fmt)


def usable(codes: np.ndarray, fmt: Format) -> np.ndarray:
    """Codes that are sent: finite floats, and not MXINT8's reserved -2, which the catalogue reads as its neighbour."""
    return np.where(codes == 128, 129, codes) if fmt is MX_INT8 else finite(codes, fmt)


def number(fmt: Format) -> str:
    """The C++ number of a format."""
    if isinstance(fmt, FloatFormat):
        signed = "true" if fmt.sign_bits else "false"
        return f"codesign::minifloat_number<{fmt.exponent_bits}, {fmt.mantissa_bits}, {fmt.exponent_bias}, {signed}>"
    return f"codesign::int_number<{fmt.bits}, {'true' if fmt.name.startswith('u') else 'false'}>"


def exact(weight: Format, activation: Format, lanes: int) -> Case:
    cpp = f"minifloat_arithmetic<{number(weight)}, {number(activation)}, {lanes}>"
    return Case(cpp, "minifloat", weight, activation, lanes)


def floating(weight: Format, activation: Format, lanes: int, exponent_bits: int = 8, mantissa_bits: int = 23) -> Case:
    cpp = f"float_arithmetic<{number(weight)}, {number(activation)}, {lanes}, {exponent_bits}, {mantissa_bits}>"
    return Case(cpp, "float_accumulate", weight, activation, lanes, (exponent_bits, mantissa_bits))


def integer(weight_bits: int, activation_bits: int, lanes: int, *, unsigned: bool = False, mapping: str = "") -> Case:
    sum_bits = weight_bits + activation_bits + 16
    last = f", {sum_bits}, codesign::int_mapping::{mapping}" if mapping else ""
    return Case(
        f"int_arithmetic<{weight_bits}, {activation_bits}, {'true' if unsigned else 'false'}, {lanes}{last}>",
        "integer", INTS[weight_bits], (UINTS if unsigned else INTS)[activation_bits], lanes,
    )  # fmt: skip


QUICK_CASES = (
    integer(4, 8, 3),
    integer(4, 8, 5, unsigned=True, mapping="dsp_pair"),
    exact(E2M1, E4M3, 5),
    exact(E3M2, UINTS[8], 3),
    Case("mx_arithmetic<0, 7, 3>", "block_dot", MX_INT8, MX_INT8, 3),
    Case("nvfp4_arithmetic<7>", "block_dot", E2M1, E2M1, 7),
    floating(INTS[3], FP16_OPERAND, 3),
    floating(E2M1, BF16_OPERAND, 2, 8, 13),
)
MORE_CASES = (
    *(integer(w, a, 3, unsigned=u, mapping="lut") for w, a, u in ((2, 2, False), (8, 8, True), (3, 7, False))),
    *(integer(w, a, 4, unsigned=u, mapping="dsp") for w, a, u in ((2, 8, True), (6, 5, False))),
    *(
        integer(w, a, 7, unsigned=u, mapping="dsp_pair")
        for w, a in ((2, 2), (3, 8), (4, 4), (4, 8))
        for u in (False, True)
    ),
    *(exact(fmt, fmt, 1) for fmt in finite_minifloats() if 2 << fmt.exponent_bits <= 100),
    *(exact(fmt, INTS[8], 1) for fmt in finite_minifloats() if 1 << fmt.exponent_bits <= 100),
    exact(INTS[4], FP16_OPERAND, 3),
    exact(E2M1, FP16_OPERAND, 3),
    exact(FP16_OPERAND, FP16_OPERAND, 2),
    *(
        Case(
            f"mx_arithmetic<{MINIFLOATS[n].exponent_bits}, {MINIFLOATS[n].mantissa_bits}, 5>",
            "block_dot",
            MINIFLOATS[n],
            MINIFLOATS[n],
            5,
        )
        for n in ("e2m1", "e2m3", "e3m2", "e4m3", "e5m2")
    ),
    *(floating(INTS[bits], FP16_OPERAND, 2) for bits in (2, 4, 8)),
    *(floating(fmt, FP16_OPERAND, 3, 5, 10) for fmt in (E2M1, E3M0, E5M2)),
    floating(FP16_OPERAND, FP16_OPERAND, 2),
    floating(FP16_OPERAND, FP16_OPERAND, 2, 5, 10),  # small products round to -0
    floating(BF16_OPERAND, BF16_OPERAND, 2),
)


def vectors_of(case: Case, seed: int = 7) -> Vectors:
    """Every pair of codes for one lane, random ones otherwise; floats on fewer cases, for their slow reference."""
    rng = np.random.default_rng(seed)
    w, a = random_codes(rng, case.weight.bits, case.activation.bits, case.lanes)
    if not case.signed:
        w, a = w[:, :256], a[:, :256]
    w, a = usable(w, case.weight), usable(a, case.activation)
    clear = random_restarts(rng, w.shape[:2])
    return Vectors(case.stimulus(w, a, clear), case.expected(w, a, clear), case.signed, unsigned_ports=("value",))


# --- comparing -------------------------------------------------------------------------------------------------------


QUICK_UNITS = {
    **{unit_of(design): design for design in QUICK},
    **{unit_of(design, extra=PAIR): design for design in QUICK_PAIRED},
    **{case.unit: case for case in QUICK_CASES},
}


@pytest.fixture(scope="module")
def program(needs_compiler):
    """One program for the whole quick set: a compiler run costs more than all vectors."""
    with compiled(list(QUICK_UNITS)) as made:
        yield made


def reference(what) -> Vectors:
    if isinstance(what, Case):
        return vectors_of(what)
    return REFERENCES[what.module](what, np.random.default_rng(7))


@pytest.mark.parametrize("unit", QUICK_UNITS, ids=lambda unit: unit.name)
def test_quick_designs_and_arithmetics_equal_their_references(unit, program):
    vectors = reference(QUICK_UNITS[unit])
    found = compare(unit, vectors, program.drive(unit, vectors.stimulus))
    assert [str(mismatch) for mismatch in found.mismatches] == []
    assert found.compared >= 256  # 2**(3 + 5) code pairs, the fewest of a quick unit
    assert found.wrong == 0


def test_a_difference_is_counted_and_named(program):
    unit = unit_of(QUICK[0])
    vectors = reference(QUICK[0])
    wrong = vectors.expected["product"].copy()
    wrong[0, [5, 9]] += 1
    found = compare(unit, replace(vectors, expected={"product": wrong}), program.drive(unit, vectors.stimulus))
    assert (found.compared, found.wrong) == (wrong.size, 2)
    expected = int(wrong[0, 5])
    assert [str(mismatch) for mismatch in found.mismatches] == [
        f"product of int_multiplier.w3a5 must be {expected} in cycle 0, case 5, not {expected - 1}"
    ]


def test_a_port_of_another_width_is_refused(program):
    stimulus = {"weight": np.zeros((1, 1, 4), bool), "activation": np.zeros((1, 1, 5), bool)}
    with pytest.raises(ValueError, match=r"int_multiplier\.w3a5: inputs must have 3 5 bits, not 4 5"):
        program.drive(unit_of(QUICK[0]), stimulus)


def test_a_missing_input_is_named(program):
    with pytest.raises(ValueError, match=r"stimulus of int_multiplier\.w3a5 must have every input, not without"):
        program.drive(unit_of(QUICK[0]), {"weight": np.zeros((1, 1, 3), bool)})


# --- properties ------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_codes_over_a_ragged_group_add_up(program, data):
    """k elements in sets of (odd) lanes, the last filled with zero codes: the sum over k, whatever the codes."""
    case = data.draw(st.sampled_from(QUICK_CASES))
    k = data.draw(st.integers(1, 4 * case.lanes))
    draw = [st.lists(st.integers(0, (1 << f.bits) - 1), min_size=k, max_size=k) for f in (case.weight, case.activation)]
    codes = np.zeros((2, -(-k // case.lanes) * case.lanes), np.int64)
    codes[0, :k], codes[1, :k] = data.draw(draw[0]), data.draw(draw[1])
    w, a = usable(codes[0], case.weight), usable(codes[1], case.activation)
    cycles = len(w) // case.lanes
    clear = (np.arange(cycles) == 0)[:, None]
    w, a = (part.reshape(cycles, 1, case.lanes) for part in (w, a))
    found = program.drive(case.unit, case.stimulus(w, a, clear))
    value = np.uint32(found["value"][0][-1, 0]).view(np.float32)
    assert int(np.float32(value).view(np.uint32)) == int(case.expected(w, a, clear)["value"][-1, 0])
    if case.accumulator is None:
        products = [
            Fraction(float(x)) * Fraction(float(y))
            for x, y in zip(
                case.weight.code_values[w.ravel()[:k]], case.activation.code_values[a.ravel()[:k]], strict=True
            )
        ]
        assert value == float(sum(products))  # below 2**24 steps: exact in float32


@pytest.mark.slow
def test_a_width_that_two_products_cannot_share_a_multiplier_for_does_not_compile():
    with (
        pytest.raises(CompileError, match="two products of these widths must fit the 27 x 18 bits"),
        compiled([unit_of(make.int_dot(8, 8, lanes=2), extra=PAIR)]),
    ):
        pass


# --- everything ------------------------------------------------------------------------------------------------------

EVERY = [design for design in designs("all") if not registered(design)]
MODULES = sorted({design.module for design in EVERY})


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_every_design_equals_its_reference(module):
    found = run([design for design in EVERY if design.module == module])
    assert [str(mismatch) for one in found for mismatch in one.mismatches] == []
    print(f"{module}: {len(found)} designs, {sum(one.compared for one in found)} outputs")


@pytest.mark.slow
@pytest.mark.parametrize("mapping", ["lut", "dsp", "dsp_pair"])
def test_every_mapping_of_integers_is_the_same_arithmetic(mapping):
    chosen = [make.int_dot(w, a, lanes=5, unsigned=u) for w in (2, 3, 4) for a in (2, 4, 8) for u in (False, True)]
    found = run(chosen, extra=(f"codesign::int_mapping::{mapping}",))
    assert [str(mismatch) for one in found for mismatch in one.mismatches] == []


@pytest.mark.slow
def test_every_arithmetic_equals_the_values_of_its_formats():
    count = 0
    for first in range(0, len(MORE_CASES), 16):
        units = {case.unit: case for case in MORE_CASES[first : first + 16]}
        with compiled(list(units)) as made:
            for unit, case in units.items():
                vectors = vectors_of(case)
                found = compare(unit, vectors, made.drive(unit, vectors.stimulus))
                assert [str(mismatch) for mismatch in found.mismatches] == []
                count += found.compared
    print(f"{len(MORE_CASES)} arithmetics, {count} outputs")


PAIR_PROOF = r"""
#include <cstdio>
#include "codesign/integer.h"

// Every four codes of WEIGHT_BITS and ACTIVATION_BITS: two weights, two activations.
template <int WEIGHT_BITS, int ACTIVATION_BITS, bool UNSIGNED>
void prove() {
  using pair = codesign::int_pair<WEIGHT_BITS, ACTIVATION_BITS, UNSIGNED>;
  static_assert(pair::fits_one_dsp, "");
  constexpr int weights = 1 << WEIGHT_BITS, activations = 1 << ACTIVATION_BITS;
  constexpr int lowest = UNSIGNED ? 0 : -activations / 2;
  long tried = 0, wrong = 0;
  for (int w0 = -weights / 2; w0 < weights / 2; ++w0)
    for (int w1 = -weights / 2; w1 < weights / 2; ++w1)
      for (int a0 = lowest; a0 < lowest + activations; ++a0)
        for (int a1 = lowest; a1 < lowest + activations; ++a1, ++tried)
          wrong += pair::sum(w0, w1, a0, a1).to_int() != w0 * a0 + w1 * a1;
  std::printf("%ld %ld\n", tried, wrong);
}

int main() {
  prove<2, 8, false>(); prove<2, 8, true>(); prove<3, 8, false>(); prove<3, 8, true>();
  prove<4, 8, false>(); prove<4, 8, true>(); prove<4, 4, false>(); prove<4, 4, true>(); prove<5, 5, true>();
}
"""


@pytest.mark.slow
def test_two_products_in_one_multiplier_are_exact_for_all_codes(tmp_path):
    (tmp_path / "pair.cpp").write_text(PAIR_PROOF)
    compile_program([tmp_path / "pair.cpp"], tmp_path / "pair", flags=("-O2",))
    text = subprocess.run([tmp_path / "pair"], capture_output=True, text=True, check=True).stdout
    widths = (10, 10, 11, 11, 12, 12, 8, 8, 10)  # of one weight and one activation
    assert [line.split() for line in text.splitlines()] == [[str(1 << 2 * bits), "0"] for bits in widths]
