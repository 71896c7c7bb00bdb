"""The plain twins of PTX instructions, against exact rational arithmetic (they run in the simulator only)."""

import ast
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numba import cuda, uint32

from kernels_gpu import ptx

pytestmark = pytest.mark.skipif(not ptx.SIMULATED, reason="twins exist in the simulator (test_simulator.py)")


def random_floats(seed, count=300):
    generator = np.random.default_rng(seed)
    return (generator.standard_normal(count) * 2.0 ** generator.integers(-8, 8, count)).astype(np.float32)


def nearest(exact):
    """float32 nearest to a fraction, ties to even, by the definition."""
    guess = np.float32(float(exact))
    around = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    best = min(abs(Fraction(float(x)) - exact) for x in around)
    tied = [x for x in around if abs(Fraction(float(x)) - exact) == best]
    return min(tied, key=lambda x: int(x.view(np.uint32)) & 1)


def test_fma_rounds_once():
    for a, b, c in zip(random_floats(0), random_floats(1), random_floats(2), strict=True):
        assert ptx.fma(a, b, c) == nearest(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))


def test_add_up_is_the_smallest_float_not_below_the_sum():
    for a, b in zip(random_floats(3), random_floats(4), strict=True):
        exact, made = Fraction(float(a)) + Fraction(float(b)), ptx.add_up(a, b)
        assert Fraction(float(made)) >= exact > Fraction(float(np.nextafter(made, np.float32(-np.inf))))


def test_saturation():
    assert [float(ptx.add_saturated(a, 0.25)) for a in (-1.0, 0.5, 3.0, float("nan"))] == [0.0, 0.75, 1.0, 0.0]
    assert [float(ptx.tent(np.float32(u), np.float32(5))) for u in (4.0, 4.75, 5.0, 5.5, 9.0)] == [0, 0.25, 0.5, 0, 0]


@pytest.mark.parametrize(("significand", "mantissa_bits"), [(2.0**22, 1), (2.0**23, 0)], ids=["e2m1", "e2m0"])
def test_distance_to_level_is_that_of_the_grid(significand, mantissa_bits):
    grid = np.array([0.0, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12]) if mantissa_bits else np.array([0.0, 1, 2, 4, 8, 16])
    values = np.linspace(0, 8, 4097).astype(np.float32)
    edges = np.array([1, 2, 4, 8], np.float32)
    for u in np.concatenate([values, np.nextafter(edges, np.float32(0)), np.nextafter(edges, np.float32(9))]):
        assert abs(ptx.distance_to_level(u, np.float32(significand))) == np.abs(u - grid).min()


def test_bytes_are_picked_as_prmt_does():
    assert ptx.pick_bytes(0x33221100, 0x77665544, 0x7650) == 0x77665500
    assert ptx.pick_bytes(0x33221100, 0x77665544, 0x7652) == 0x77665522


def test_bit_3_of_a_nibble_asks_for_copies_of_the_top_bit():
    # PTX ISA 8.0, section 9.7.8.7 (prmt, default mode): byte 2 is 0x92, byte 5 is 0x15
    assert ptx.pick_bytes(0x00920000, 0x00001500, 0x00A2) == 0x0000FF92
    assert ptx.pick_bytes(0x00920000, 0x00001500, 0x00D5) == 0x00000015


def test_bits_are_selected_by_a_mask():
    assert ptx.select_bits(0b1100, 0b1010, 0b0110) == 0b1100


def test_the_upper_half_of_a_word():
    assert [int(ptx.upper_half(word)) for word in (0, 0x0000FFFF, 0x00010000, 0xFFFE8000)] == [0, 0, 1, 0xFFFE]


def test_all_bits_of_the_lower_half_are_turned_over():
    words = (0, 0x0000FFFF, 0x00010000, 0xFFFE8000, 0x12345678, 0xFFFFFFFF)
    assert [int(ptx.turned_half(word)) & 0xFFFF for word in words] == [~word & 0xFFFF for word in words]


def test_bfloat_rounds_to_even():
    # 1 + 2**-8 lies halfway between 1 (0x3F80) and 1 + 2**-7 (0x3F81); 1 + 3 * 2**-8 between 0x3F81 and 0x3F82
    assert [int(ptx.to_bfloat(np.float32(x))) for x in (1 + 2.0**-8, 1 + 3 * 2.0**-8)] == [0x3F80, 0x3F82]


def test_maxima_of_pairs_and_nan():
    one, two, nan = 0x3C00, 0x4000, 0x7E00  # binary16
    assert ptx.maximum_or_nan_halves(one | two << 16, two | one << 16) == two | two << 16
    assert np.isnan(ptx.from_half(ptx.maximum_or_nan_halves(nan, one)))
    assert ptx.maximum_or_nan_bfloats(0x3F80 | 0x4000 << 16, 0x4000 | 0x3F80 << 16) == 0x4000 | 0x4000 << 16
    assert np.isnan(ptx.maximum_or_nan(np.float32("nan"), np.float32(1)))
    assert ptx.maximum(np.float32("nan"), np.float32(1)) == 1


def test_the_reciprocal_root_is_within_its_step():
    for a in np.abs(random_floats(5)):
        exact = 1 / np.sqrt(np.float64(a))
        assert abs(float(ptx.reciprocal_root(a)) - exact) <= exact * 2.0**-24
    assert ptx.reciprocal_root(np.float32(0)) == np.inf and np.isnan(ptx.reciprocal_root(np.float32("nan")))


def test_every_twin_is_tested():
    """Each name of the simulator's branch stands in a test of these files; kernels would hide a wrong one."""
    folder = Path(__file__).parent
    for name in ("ptx", "ptx_tile", "gemm_ptx", "ptx_grid"):
        tree = ast.parse((folder.parents[1] / "kernels_gpu" / f"{name}.py").read_text(encoding="utf-8"))
        branch = next(n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "SIMULATED")
        defined = {n.name for n in branch.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")}
        defined |= {ast.unparse(n.targets[0]) for n in branch.body if isinstance(n, ast.Assign)} - {"_E4M3"}
        tested = (folder / f"test_{name}.py").read_text(encoding="utf-8")
        assert len(defined) >= 3
        assert not {one for one in defined if f"{name}.{one}" not in tested}, name


def test_sums_products_and_quotients_round_to_nearest():
    for a, b in zip(random_floats(6), random_floats(7), strict=True):
        x, y = Fraction(float(a)), Fraction(float(b))
        made = [ptx.mul(a, b), ptx.add(a, b), ptx.sub(a, b), ptx.div(a, b)]
        assert made == [nearest(x * y), nearest(x + y), nearest(x - y), nearest(x / y)]
        assert abs(Fraction(float(ptx.reciprocal(a))) * x - 1) <= Fraction(1, 1 << 23)
        assert ptx.absolute(a) == nearest(abs(x)) and ptx.round_even(a) == round(x)  # Fraction rounds halves to even


def test_half_way_rounds_to_even():
    assert [float(ptx.round_even(np.float32(x))) for x in (0.5, 1.5, 2.5, -0.5, -3.5)] == [0, 2, 2, 0, -4]


def test_saturated_and_limited_sums():
    third = np.float32(1 / 3)
    assert [float(ptx.fma_saturated(a, 2.0, 0.25)) for a in (-1.0, 0.125, 3.0, float("nan"))] == [0.0, 0.5, 1.0, 0.0]
    assert ptx.fma_saturated(third, third, third) == nearest(Fraction(float(third)) ** 2 + Fraction(float(third)))
    # levels of e2m1 up to 6: above 7 the nearest one would be 8
    limited = [float(ptx.distance_to_level_up_to(np.float32(u), np.float32(2.0**22), np.float32(6))) for u in (5.2, 9)]
    assert limited == [pytest.approx(-0.8), 3.0]


def test_the_smaller_of_two_and_nan():
    assert [float(ptx.minimum(np.float32(a), np.float32(b))) for a, b in ((1, 2), (2, 1))] == [1, 1]
    assert ptx.minimum(np.float32("nan"), np.float32(1)) == 1


def test_every_half_is_what_its_bits_say_and_rounding_finds_it():
    # IEEE 754-2019, section 3.4: 5 bits of exponent with bias 15, 10 of significand
    values = []
    for bits in range(0x7C00):
        exponent, significand = bits >> 10, bits & 0x3FF
        value = significand * 2.0**-24 if exponent == 0 else (1 + significand / 1024) * 2.0 ** (exponent - 15)
        assert ptx.from_half(bits | 0xABCD0000) == value and ptx.from_half(bits | 0x8000) == -value
        values.append(value)
    for bits in range(0, 0x7BFF, 7):
        low, high = values[bits], values[bits + 1]
        middle = np.float32((low + high) / 2)
        assert [int(ptx.to_half(np.float32(x))) for x in (low, high)] == [bits, bits + 1]
        assert int(ptx.to_half(middle)) == bits + bits % 2
        assert int(ptx.to_half(np.nextafter(middle, np.float32(np.inf)))) == bits + 1
        assert int(ptx.to_half(np.nextafter(middle, np.float32(0)))) == bits
    assert [int(ptx.to_half(np.float32(x))) for x in (65519.9, 65520, -np.inf)] == [0x7BFF, 0x7C00, 0xFC00]
    assert np.isnan(ptx.from_half(0x7E00)) and np.isnan(ptx.from_half(ptx.to_half(np.float32("nan"))))


def test_bfloats_are_the_nearest_of_their_kind():
    generator = np.random.default_rng(8)
    for upper in generator.integers(0, 0x7F7F, 500):  # positive and finite
        low = np.uint32(upper << 16).view(np.float32)
        middle = np.uint32(upper << 16 | 0x8000).view(np.float32)
        assert [int(ptx.to_bfloat(x)) for x in (low, -low)] == [upper, upper | 0x8000]
        assert int(ptx.to_bfloat(middle)) == upper + upper % 2
        assert int(ptx.to_bfloat(np.uint32(upper << 16 | 0x8001).view(np.float32))) == upper + 1
    assert ptx.to_bfloat(np.float32("inf")) == 0x7F80 and ptx.to_bfloat(np.float32("nan")) & 0x7FFF > 0x7F80


def test_bits_are_those_of_the_number():
    assert ptx.float_bits(np.float32(-1.5)) == 0xBFC00000 and ptx.bits_float(0xBFC00000) == -1.5
    assert ptx.signed(np.uint32(0xFFFFFFFE)) == -2 and ptx.unsigned(np.int32(-2)) == 0xFFFFFFFE
    assert ptx.opaque(np.uint32(7)) == 7


def test_logic_is_that_of_the_tables_of_lop3():
    # PTX ISA 8.0, section 9.7.7.6: a table is what the operation makes of 0xF0, 0xCC and 0xAA
    source = (Path(__file__).parents[2] / "kernels_gpu" / "ptx.py").read_text(encoding="utf-8")
    for name, twin in (("and_or", ptx.and_or), ("select_bits", ptx.select_bits)):
        a, b, c = 0xF0, 0xCC, 0xAA
        table = re.search(rf'{name} = _instruction\("lop3.b32 \$0, \$1, \$2, \$3, (0x\w\w);"', source)
        assert table is not None and int(twin(a, b, c)) & 0xFF == int(table[1], 16)


def test_bytes_by_every_selector_of_two_nibbles():
    low, high = 0x80, 0x7F05  # bytes 0, 4 and 5; the others are zero
    parts = [*low.to_bytes(4, "little"), *high.to_bytes(4, "little")]
    for first in range(16):
        for second in range(16):
            made = int(ptx.pick_bytes(low, high, first | second << 4)).to_bytes(4, "little")
            for nibble, byte in ((first, made[0]), (second, made[1])):
                chosen = parts[nibble & 7]
                assert byte == ((0xFF if chosen >= 0x80 else 0) if nibble & 8 else chosen)


def test_powers_of_two():
    assert [float(ptx.exp2(np.float32(a))) for a in (-149, -1, 0, 10, -np.inf, 128)] == [
        2.0**-149,
        0.5,
        1,
        1024,
        0,
        np.inf,
    ]
    for a in np.linspace(-3, 3, 61, dtype=np.float32):
        assert float(ptx.exp2(a)) ** 2 == pytest.approx(float(ptx.exp2(np.float32(2 * a))), rel=2.0**-21)


def test_four_words_are_loaded_and_stored():
    words = np.arange(8, dtype=np.uint32)
    assert ptx.load4(words, 4) == (4, 5, 6, 7)
    ptx.store4(words, 0, *ptx.load4(words, 4))
    assert words.tolist() == [4, 5, 6, 7, 4, 5, 6, 7]


@cuda.jit
def exchange(out):
    lane = cuda.threadIdx.x
    out[0, lane] = ptx.shuffle_xor(lane, 5)
    out[1, lane] = ptx.shuffle(uint32(lane + 100), uint32(lane // 8))
    ptx.sync_warp()
    out[2, lane] = out[1, 31 - lane]


def test_lanes_exchange():
    out = np.zeros((3, 32), np.int64)
    exchange[1, 32](out)
    assert out[0].tolist() == [lane ^ 5 for lane in range(32)]
    assert out[1].tolist() == [100 + lane // 8 for lane in range(32)] and out[2].tolist() == out[1, ::-1].tolist()
