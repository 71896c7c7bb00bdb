"""Cycles and paths of formats, against BitMoD's cycle table (HPCA 2025, section III) and by value tables."""

import numpy as np
import pytest

from datatypes.catalog import (
    AF4,
    BF16,
    BINARY,
    BITMOD_FP3,
    BITMOD_FP4,
    E2M3,
    E8M0,
    FLINT4,
    FP3,
    FP4,
    FP16,
    FP32,
    INTS,
    INTS_SYMMETRIC,
    MX_INT8,
    NF4,
    OLIVE4_INT,
    POT3,
    POT4,
    TERNARY,
    UINTS,
    bitmod,
)  # fmt: skip
from datatypes.format import CodebookFormat, Format, LearnedFormat
from hwmodel.accelerator import Accelerator
from hwmodel.array_path import array_path
from hwmodel.pe import PE, PeKind, cycles_of_bits, integer_bits, scale_cycles, two_term, wide_float
from hwmodel.presets import ACCELERATORS, ANT_PE, BITMOD_PE, FIGNA_PE, FP16_PE, OLIVE_PE


@pytest.mark.parametrize(
    ("bits", "cycles"),
    # bitmod.md, table of section 2.2: FP3/FP4/INT4 2, INT5 and INT6 3, INT8 4; rule ceil(floor(bits) / 2)
    [(3, 2), (4, 2), (5, 3), (6, 3), (8, 4), (3.0625, 2), (4.0625, 2), (6.0625, 3), (16, 8), (1, 1)],
)
def test_bit_serial_cycles(bits: float, cycles: int) -> None:
    assert cycles_of_bits(bits, BITMOD_PE) == cycles


@pytest.mark.parametrize("pe", [FP16_PE, ANT_PE, OLIVE_PE, FIGNA_PE], ids=lambda pe: pe.name)
def test_parallel_multipliers_take_one_cycle(pe: PE) -> None:
    assert {cycles_of_bits(bits, pe) for bits in (2, 4, 5.25, 8)} == {1}


@pytest.mark.parametrize(
    ("fmt", "cycles"),
    [(INTS[2], 1), (INTS[3], 2), (INTS[4], 2), (INTS[6], 3), (INTS[8], 4), (MX_INT8, 4), (UINTS[4], 3), (TERNARY, 1)],
    ids=lambda value: getattr(value, "name", value),
)
def test_integers_go_by_booth_digits(fmt: Format, cycles: int) -> None:
    assert array_path((fmt,), BITMOD_PE).cycles == cycles  # one digit of radix 4 for each two bits; unsigned: one more


@pytest.mark.parametrize("formats", [BITMOD_FP3, BITMOD_FP4, (FP3,), (FP4,), (POT3,)], ids=lambda f: f[0].name)
def test_fp3_and_fp4_take_two_terms(formats: tuple[Format, ...]) -> None:
    path = array_path(formats, BITMOD_PE)
    assert (path.cycles, path.sram_bits) == (2, formats[0].bits)


@pytest.mark.parametrize("special", np.arange(0.5, 16, 0.5).tolist())
def test_special_value_must_be_two_powers_of_two(special: float) -> None:
    sums = {a + b for a in (0.5, 1, 2, 4, 8) for b in (0, 0.5, 1, 2, 4, 8) if a != b}
    assert two_term(bitmod(4, special)) == (special in sums)


@pytest.mark.parametrize("fmt", [NF4, AF4, FLINT4, POT4, E2M3, BINARY], ids=lambda fmt: fmt.name)
def test_term_encoder_has_no_table(fmt: Format) -> None:
    with pytest.raises(NotImplementedError, match=f"term encoder decodes .* and has no table for {fmt.name}"):
        array_path((fmt,), BITMOD_PE)


def test_integer_too_wide() -> None:
    with pytest.raises(NotImplementedError, match="integers of up to 8 bits and uint8 needs 9"):
        array_path((UINTS[8],), BITMOD_PE)


def test_every_small_format_decodes_to_fp16_on_the_baseline() -> None:
    for fmt in (NF4, FLINT4, *BITMOD_FP4, OLIVE4_INT, INTS[8], UINTS[8], FP16, LearnedFormat("learned", 4, "here")):
        path = array_path((fmt,), FP16_PE)
        assert (path.cycles, path.sram_bits, path.decoded) == (1, 16, True)


def test_fp32_is_too_wide_for_fp16() -> None:
    with pytest.raises(NotImplementedError, match="multiply FP16, and fp32 is wider"):
        array_path((FP32,), FP16_PE)


def test_decoders_of_ant_and_olive() -> None:
    assert array_path((INTS_SYMMETRIC[4], FLINT4, POT4), ANT_PE).sram_bits == 4
    assert array_path((OLIVE4_INT,), OLIVE_PE).sram_bits == 4  # a pair is 8 bits for two elements
    with pytest.raises(NotImplementedError, match="decodes flint3, flint4, flint5, pot3, pot4, and olive4_int is none"):
        array_path((OLIVE4_INT,), ANT_PE)
    with pytest.raises(NotImplementedError, match="multiplies integers of up to 8 bits, and flint4 is none of these"):
        array_path((FLINT4,), FIGNA_PE)


def test_learned_codebook_needs_a_decoder() -> None:
    with pytest.raises(NotImplementedError, match="hold no table for a learned codebook"):
        array_path((LearnedFormat("learned", 4, "here"),), ANT_PE)


@pytest.mark.parametrize("bits", range(2, 9))
def test_integer_bits_hold_every_value(bits: int) -> None:
    for fmt in (INTS[bits], INTS_SYMMETRIC[bits], UINTS[bits]):
        width = integer_bits(fmt)
        assert width is not None
        assert -(1 << (width - 1)) <= fmt.minimum and fmt.maximum < 1 << (width - 1)


def test_codebook_of_fractions_is_no_integer() -> None:
    assert integer_bits(CodebookFormat("half", 1, "here", values=(0.0, 0.5))) is None


def test_wide_floats() -> None:
    assert wide_float((FP16,)) and wide_float((BF16,))
    assert not wide_float((FP4,)) and not wide_float((FP16, FP32))


def test_scale_takes_a_cycle_for_each_significant_bit() -> None:
    assert scale_cycles(UINTS[8]) == 8  # HPCA 2025, section IV-B: 8 cycles for the 8-bit group scale
    assert scale_cycles(E8M0) == 1
    assert scale_cycles(BF16) == 8


@pytest.mark.parametrize("accelerator", ACCELERATORS.values(), ids=lambda a: a.name)
def test_every_pe_runs_int8(accelerator: Accelerator) -> None:
    assert array_path((INTS_SYMMETRIC[8],), accelerator.pe, (INTS_SYMMETRIC[8],)).cycles >= 1


def test_pe_of_impossible_figures() -> None:
    with pytest.raises(ValueError, match="lanes of PE x must be at least 1, not 0"):
        PE("x", PeKind.FP16_MAC, 0, 1.0, 1.0, 0, "here")
    with pytest.raises(ValueError, match="energy_pj_per_cycle and area_um2 of PE x must be"):
        PE("x", PeKind.FP16_MAC, 1, 1.0, 0.0, 0, "here")
