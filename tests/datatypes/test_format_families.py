"""Construction of formats, what it refuses, and single facts from the specifications."""

import math

import numpy as np
import pytest
import torch

from datatypes import rounding
from datatypes.catalog import BF16, E8M0, FORMATS, FP4, FP16, MINIFLOATS, UE4M3, minifloat
from datatypes.format import CodebookFormat, FloatFormat, FloatVariant, IntFormat, LearnedFormat, Tie, VectorFormat


def test_fp16_and_bf16_tables_are_those_of_numpy_and_torch():
    codes = np.arange(1 << 16, dtype=np.uint16)
    np.testing.assert_array_equal(FP16.code_values, codes.view(np.float16).astype(np.float64))
    with np.errstate(invalid="ignore"):  # signalling NaNs become quiet ones
        as_float = (codes.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    np.testing.assert_array_equal(BF16.code_values, as_float)


@pytest.mark.parametrize("fmt", [FP16, BF16], ids=lambda fmt: fmt.name)
def test_wide_floats_round_like_torch(fmt):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4096, generator=generator) * 10.0 ** torch.randint(-7, 4, (4096,), generator=generator)
    expected = x.to(torch.float16 if fmt is FP16 else torch.bfloat16).to(torch.float32)
    np.testing.assert_array_equal(fmt.round(x.numpy()), expected.numpy())


def test_every_minifloat_of_3_to_8_bits_is_there_in_every_variant():
    for bits in range(3, 9):
        for exponent_bits in range(1, bits):
            mantissa_bits = bits - 1 - exponent_bits
            stem = f"e{exponent_bits}m{mantissa_bits}"
            assert {stem, f"{stem}_ieee", f"{stem}_fn", f"{stem}_fnuz"} <= set(MINIFLOATS)


@pytest.mark.parametrize("bias", [-3, 0, 5, 11, 20])
def test_a_bias_of_its_own_scales_the_values_by_powers_of_two(bias):
    plain, moved = minifloat(3, 2), minifloat(3, 2, bias=bias)
    np.testing.assert_array_equal(moved.code_values, plain.code_values * 2.0 ** (3 - bias))  # the plain bias is 3
    x = np.linspace(-40, 40, 777, dtype=np.float32) * np.float32(2.0 ** (3 - bias))
    np.testing.assert_array_equal(moved.encode(x), plain.encode(x * np.float32(2.0 ** (bias - 3))))


def test_a_bias_beyond_float32_is_refused():
    with pytest.raises(ValueError, match="bias of format e4m3_b200 must keep its values within those of float32"):
        minifloat(4, 3, bias=200)
    with pytest.raises(ValueError, match="within those of float32, not -130"):
        minifloat(4, 3, bias=-130)


@pytest.mark.parametrize(
    ("variant", "maximum", "specials"),
    [  # E4M3 by hand: top exponent 15 - 7 = 8 (15 - 8 = 7 for FNUZ), largest mantissa 1.875 or 1.75
        (FloatVariant.IEEE, 2.0**7 * 1.875, 16),  # top exponent: 2 infinities, 14 NaNs
        (FloatVariant.FN, 2.0**8 * 1.75, 2),
        (FloatVariant.FNUZ, 2.0**7 * 1.875, 1),
        (FloatVariant.FINITE, 2.0**8 * 1.875, 0),
    ],
)
def test_variants_differ_in_range_and_special_codes(variant, maximum, specials):
    fmt = minifloat(4, 3, variant=variant)
    assert fmt.maximum == maximum
    assert int((~np.isfinite(fmt.code_values)).sum()) == specials


def test_scale_formats():
    assert (E8M0.minimum, E8M0.maximum, E8M0.nan_code) == (2.0**-127, 2.0**127, 255)
    assert len(UE4M3.levels) == 127 and UE4M3.maximum == 448.0  # 126 positive values and zero
    assert UE4M3.levels[1] == 2.0**-9 and not UE4M3.signed


def test_symmetric_integers_do_not_write_their_most_negative_code():
    fmt = FORMATS["int4_sym"]
    assert fmt.encode(np.array([-9.0]))[0] == 0b1001  # -7, not the code of -8
    assert fmt.decode(np.array([0b1000]))[0] == -7.0  # which decodes all the same


def test_wide_formats_have_no_table():
    with pytest.raises(NotImplementedError, match="no code table beyond 16"):
        _ = FORMATS["fp32"].code_values


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IntFormat("i", 0, "s"), "bits of format i must be 1 to 32, not 0"),
        (lambda: IntFormat("i", 4, "s", step=0.3), "step of format i must be a power of two, not 0.3"),
        (lambda: IntFormat("i", 4, "s", signed_codes=False, symmetric=True), "to be symmetric"),
        (lambda: FloatFormat("f", 4, "s", exponent_bits=0, mantissa_bits=3), "must have exponent_bits >= 1"),
        (lambda: FloatFormat("f", 4, "s", exponent_bits=3, mantissa_bits=3), "must hold sign, exponent and mantissa"),
        (lambda: CodebookFormat("c", 2, "s", values=(0.0, 1.0)), r"values of format c must be 2\*\*2, not 2"),
        (lambda: CodebookFormat("c", 1, "s", values=(0.0, math.inf)), "values of format c must be finite"),
        (lambda: CodebookFormat("c", 1, "s", values=(0.0, 1.0), unused=(2,)), "must be codes, not"),
        (lambda: VectorFormat("v", 1, "s", dimension=2, points=((0.0,), (1.0,))), "points of format v must be 2 of 2"),
    ],
)
def test_bad_formats_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("tie", list(Tie), ids=lambda tie: tie.name.lower())
def test_tie_rules_on_a_grid_by_hand(tie):
    fmt = CodebookFormat("grid", 2, "by hand", tie=tie, values=(0.0, 1.0, -2.0, -1.0))
    # midpoints -1.5 (codes 2|3), -0.5 (3|0), 0.5 (0|1)
    expected = {
        Tie.EVEN: [-2.0, 0.0, 0.0],
        Tie.LOWER: [-2.0, -1.0, 0.0],
        Tie.UPPER: [-1.0, 0.0, 1.0],
        Tie.AWAY: [-2.0, -1.0, 1.0],
        Tie.ZERO: [-1.0, 0.0, 0.0],
    }[tie]
    middles = np.array([-1.5, -0.5, 0.5], dtype=np.float32)
    assert fmt.round(middles).tolist() == expected
    assert [fmt.code_values[fmt.encode_scalar(float(m))] for m in middles] == expected


def test_vectors_go_to_the_nearest_point():
    points = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
    fmt = VectorFormat("square", 2, "by hand", dimension=2, points=points)
    x = np.array([[0.1, 0.2, 0.9, -3.0, 0.4, 0.6, 5.0, 5.0]], dtype=np.float32)
    assert fmt.encode(x).tolist() == [[0, 1, 2, 3]]
    assert rounding.encode(torch.from_numpy(x), fmt).tolist() == [[0, 1, 2, 3]]
    assert fmt.decode(np.array([[3, 1]])).tolist() == [[1.0, 1.0, 1.0, 0.0]]
    assert fmt.encode(np.array([[0.5, 0.5]])).tolist() == [[0]]  # all four equally near: the lowest code
    with pytest.raises(ValueError, match="last axis must be a multiple of 2"):
        fmt.encode(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="must hold no NaN"):
        fmt.encode(np.full((1, 2), np.nan))
    with pytest.raises(NotImplementedError, match="2 elements at once"):
        fmt.encode_scalar(0.0)


def test_learned_formats_have_no_values():
    with pytest.raises(NotImplementedError, match="has no code table"):
        _ = LearnedFormat("k", 3, "k-means").code_values


def test_formats_are_hashable_and_equal_by_definition():
    assert minifloat(2, 1) == FP4 and hash(minifloat(2, 1)) == hash(FP4)
    assert FORMATS["e3m0"] != FP4
