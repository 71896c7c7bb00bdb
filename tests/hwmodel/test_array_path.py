"""Paths of integer, block-scaled and table machines: laws of their papers, by hand, and reasons why not."""

import numpy as np
import pytest

from datatypes.bit_stats import bit_stats_of_codes
from datatypes.catalog import (
    E2M3,
    E3M2,
    E4M3,
    FLINT4,
    FP4,
    FP16,
    FP32,
    INT16,
    INTS,
    INTS_SYMMETRIC,
    MX_INT8,
    NF4,
    OLIVE4_INT,
    POT4,
    UINTS,
)  # fmt: skip
from datatypes.format import IntFormat, LearnedFormat
from datatypes.recoding import Recoding
from hwmodel.array_path import array_path, bare_path, runnable
from hwmodel.array_path_integer import brick_width
from hwmodel.pe import PE, Mode, PeKind, Skipping
from hwmodel.presets import ACCELERATORS
from hwmodel.term_skipping import skipping_cycles

BITFUSION, TENDER, STRIPES, LOOM, BISMO = (
    ACCELERATORS[name].pe for name in ("bitfusion", "tender", "stripes", "loom", "bismo_ultra96")
)
BITLET, PRAGMATIC, BITVERT = (ACCELERATORS[name].pe for name in ("bitlet", "pragmatic", "bitvert"))
MX, LUT, ANT_INT, OLIVE_INT = (ACCELERATORS[name].pe for name in ("mx_dot", "table_lookup", "ant_int", "olive_int"))
INT8 = (INTS[8],)


@pytest.mark.parametrize(
    ("w", "a", "lanes"),
    # BitFusion, ISCA 2018, section III: products of a unit in a cycle; 3 bits run as 4
    [(8, 8, 1), (8, 4, 2), (4, 4, 4), (8, 2, 4), (4, 2, 8), (2, 2, 16), (3, 3, 4), (5, 2, 4)],
)
def test_bricks_are_fused_for_the_widths(w: int, a: int, lanes: int) -> None:
    path = array_path((INTS[w],), BITFUSION, (INTS[a],))
    assert (path.cycles, path.lanes, path.sram_bits, path.input_bits) == (1, lanes, w, a)
    assert array_path((INTS[a],), BITFUSION, (INTS[w],)).lanes == lanes


def test_wider_operands_take_several_passes() -> None:
    assert bare_path(16, 16, BITFUSION).cycles == 4 and bare_path(16, 8, BITFUSION).cycles == 2
    assert [brick_width(bits, TENDER) for bits in (2, 4, 5, 8, 9)] == [4, 4, 8, 8, 16]


def test_four_bit_machines_need_four_pes_for_eight_bits() -> None:
    for pe in (TENDER, ANT_INT, OLIVE_INT):
        assert array_path((INTS[4],), pe, (INTS[4],)).lanes == 4 * (array_path((INTS[8],), pe, INT8).lanes or 0)


@pytest.mark.parametrize("w", range(2, 9))
@pytest.mark.parametrize("a", range(2, 9))
def test_serial_cycles(w: int, a: int) -> None:
    assert array_path((INTS[w],), STRIPES, (INTS[a],)).cycles == a  # MICRO 2016: P_a cycles
    assert array_path((INTS[w],), LOOM, (INTS[a],)).cycles == w * a  # DAC 2018: P_a P_w cycles
    assert array_path((INTS[w],), BISMO, (INTS[a],)).cycles == w * a
    one = array_path((INTS[w],), LOOM, (INTS[a],), one_column=True)
    assert one.cycles == 16 * w  # fully connected: weights alone
    assert array_path((INTS[w],), BISMO, (INTS[a],), one_column=True).cycles == w * a


def test_several_bits_in_a_cycle() -> None:
    pe = PE("loom4", PeKind.BOTH_SERIAL, 16, 1.0, 1.0, 16, "here", max_activation_bits=16, serial_bits=4)
    assert array_path((INTS[3],), pe, (INTS[5],)).cycles == 2 * 3


def test_signs_are_flags() -> None:
    assert array_path((UINTS[4],), LOOM, (UINTS[8],)).cycles == 32
    assert array_path((UINTS[4],), BITFUSION, (UINTS[8],)).lanes == 2
    # terms are of two's complement, where an unsigned code needs one bit more
    assert array_path((UINTS[4],), BITVERT, INT8).cycles == 5


def test_decoders_of_both_edges() -> None:
    path = array_path((INTS[4], POT4, FLINT4), ANT_INT, (FLINT4,))
    assert (path.lanes, path.sram_bits, path.input_bits) == (4, 4, 4)
    assert array_path((OLIVE4_INT,), OLIVE_INT, (OLIVE4_INT,)).lanes == 4


@pytest.mark.parametrize("name", ["bitfusion", "tender", "stripes", "loom", "bitlet", "bismo_pynq_z1"])
def test_integer_machines_need_encoded_activations(name: str) -> None:
    pe = ACCELERATORS[name].pe
    with pytest.raises(NotImplementedError, match=r"integer activations of up to \d+ bits, so the layer needs an act"):
        array_path((INTS[4],), pe)
    with pytest.raises(NotImplementedError, match=r"integer activations of up to \d+ bits, and the activation is nf4"):
        array_path((INTS[4],), pe, (NF4,))
    with pytest.raises(NotImplementedError, match="and nf4 is none of these"):
        array_path((NF4,), pe, INT8)


def test_operands_too_wide() -> None:
    with pytest.raises(NotImplementedError, match="integers of up to 8 bits and int16 needs 16"):
        array_path((INT16,), BITFUSION, INT8)
    with pytest.raises(NotImplementedError, match="activations of up to 8 bits, and the activation is int16"):
        array_path((INTS[4],), BITFUSION, (INT16,))
    assert array_path((INT16,), STRIPES, (INT16,)).cycles == 16
    with pytest.raises(NotImplementedError, match="hold no table for a learned codebook"):
        array_path((LearnedFormat("learned", 4, "here"),), LOOM, INT8)


@pytest.mark.parametrize(
    ("pe", "weights", "rows"), [(BITLET, 8, 1), (PRAGMATIC, 8, 2)], ids=["busiest position", "busiest weight"]
)
def test_fair_coins_by_all_cases(pe: PE, weights: int, rows: int) -> None:
    # two bits, few weights: the mean over every matrix of codes
    small = PE("x", pe.kind, 3, 1.0, 1.0, 8, "here", max_activation_bits=8, skipping=pe.skipping, skip_rows=rows)
    count = 3 * rows
    cases = np.arange(4**count)[:, None] >> (2 * np.arange(count)) & 3
    bits = np.stack([cases & 1, cases >> 1], axis=-1).reshape(-1, rows, 3, 2)
    ones = bits.sum(2) if pe.skipping is Skipping.COLUMN else bits.sum(3)
    mean = np.maximum(ones.reshape(len(bits), -1).max(1), 1).mean()
    assert skipping_cycles(2, small) == pytest.approx(mean)


def test_statistics_of_real_weights_replace_the_coins() -> None:
    rng = np.random.default_rng(5)
    values = np.clip(np.rint(rng.normal(0, 20, (64, 256))), -127, 127).astype(int)
    stats = bit_stats_of_codes((values & 255).astype(np.uint8), (INTS[8],))
    planes = (values[..., None] & 255) >> np.arange(8) & 1
    steps = planes.reshape(2, 32, 32, 8, 8)  # blocks of 32 rows, steps of 8 weights
    measured = steps.sum(-1).max((1, 3)).mean()
    path = array_path((INTS[8],), PRAGMATIC, INT8, stats=stats)
    assert path.cycles == pytest.approx(measured) and measured <= 8
    groups = planes.reshape(64, 8, 32, 8).sum(2).max(-1)  # busiest position of each row's groups of 32
    blocks = groups.reshape(2, 32, 8).max(1).mean()
    assert array_path((INTS[8],), BITLET, INT8, stats=stats).cycles == pytest.approx(blocks, rel=0.03)  # independence
    assert array_path((INTS[8],), BITVERT, INT8, stats=stats).cycles == 8
    assert stats.columns_of(Recoding.TWOS_COMPLEMENT, 16).group == BITVERT.lanes
    with pytest.raises(ValueError, match="bit statistics must be of weights of 4 bits, not 8"):
        array_path((INTS[4],), BITLET, INT8, stats=stats)


@pytest.mark.parametrize(
    ("weight", "activation", "lanes"),
    [(FP4, FP4, 32), (FP4, E4M3, 16), (E2M3, E3M2, 16), (MX_INT8, MX_INT8, 16), (INTS[4], MX_INT8, 16)],
    ids=lambda value: getattr(value, "name", value),
)
def test_block_dot_products_run_at_the_wider_element(weight: object, activation: object, lanes: int) -> None:
    path = array_path((weight,), MX, (activation,))  # type: ignore[arg-type]
    assert (path.cycles, path.lanes, path.sram_bits) == (1, lanes, weight.bits)  # type: ignore[attr-defined]


def test_modes_have_their_own_energy() -> None:
    four, eight, integer = (array_path((w,), MX, (a,)) for w, a in ((FP4, FP4), (E4M3, E4M3), (MX_INT8, MX_INT8)))
    assert eight.energy == 1
    for path, mode in ((four, MX.modes[0]), (integer, MX.modes[2])):
        assert path.energy * MX.energy_pj_per_cycle == pytest.approx(mode.energy_pj_per_cycle)


def test_what_a_block_dot_product_cannot_take() -> None:
    with pytest.raises(NotImplementedError, match="the layer needs an activation config with a scale for each block"):
        array_path((FP4,), MX)
    with pytest.raises(NotImplementedError, match="integers by integers or floats by floats, not e2m1 x mx_int8"):
        array_path((FP4,), MX, (MX_INT8,))
    with pytest.raises(NotImplementedError, match="elements of up to 4-bit floats, 8-bit floats, .*, and 16 bits"):
        array_path((FP16,), MX, (FP4,))
    with pytest.raises(NotImplementedError, match="integers and small floats, and nf4 is neither"):
        array_path((NF4,), MX, (FP4,))


def test_tables_at_the_edge_and_in_the_buffer() -> None:
    small = array_path((NF4,), LUT)
    assert (small.cycles, small.sram_bits, small.table_entries, small.buffer_lookup_bits) == (1, 4, 16, 0)
    large = array_path((LearnedFormat("v", 12, "here", dimension=4),), LUT)  # 4096 entries of 4 values
    assert (large.sram_bits, large.table_entries, large.buffer_lookup_bits, large.vector) == (3, 16384, 16, 4)
    assert array_path((FP16,), LUT).table_entries == 0
    with pytest.raises(NotImplementedError, match="multiply FP16, and fp32 is wider"):
        array_path((FP32,), LUT)


def test_what_runs() -> None:
    formats = (INTS[4], FP4, NF4, FP16)
    assert runnable(formats, MX, (FP4,)) == (FP4,)
    assert runnable(formats, LOOM, INT8) == (INTS[4],)
    assert runnable(formats, LUT) == formats


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (PeKind.FUSED_BRICKS, "max_activation_bits"),
        (PeKind.TERM_SKIPPING, "max_activation_bits"),
        (PeKind.TABLE_LOOKUP, "table_bits"),
        (PeKind.BLOCK_DOT, "modes"),
    ],
)
def test_kinds_need_their_figures(kind: PeKind, what: str) -> None:
    with pytest.raises(ValueError, match=f"{what} of PE x must be given for kind {kind.value}"):
        PE("x", kind, 1, 1.0, 1.0, 8, "here")


def test_impossible_figures() -> None:
    with pytest.raises(ValueError, match="serial_bits of PE x must be at least 1, not 0"):
        PE("x", PeKind.FP16_MAC, 1, 1.0, 1.0, 0, "here", serial_bits=0)
    with pytest.raises(ValueError, match="bits and lanes of a mode must be at least 1"):
        Mode(0, False, 1, 1.0)


def test_bare_widths_follow_the_formats() -> None:
    for name in ("bitfusion", "stripes", "loom", "pragmatic", "mx_dot"):
        pe = ACCELERATORS[name].pe
        ints = INTS_SYMMETRIC if name == "mx_dot" else INTS
        for bits in (2, 4, 8):
            fmt: IntFormat = ints[bits]
            bare, path = bare_path(bits, 8, pe), array_path((fmt,), pe, INT8)
            assert (bare.cycles, bare.lanes) == (path.cycles, path.lanes)
