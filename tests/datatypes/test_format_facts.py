"""The catalogue's table against the specifications."""

import pytest

from datatypes.catalog import (
    BITMOD_FP4,
    E2M3,
    E3M2,
    E4M3,
    E5M2,
    E8M0,
    FORMATS,
    FP4,
    FP32,
    INT32,
    MX_INT8,
    OLIVE4_INT,
)
from datatypes.format import LearnedFormat
from datatypes.format_facts import describe


@pytest.mark.parametrize(
    ("fmt", "maximum", "min_normal", "min_subnormal", "nans", "infinities"),
    [  # OFP8 1.0 table 1 and OCP MX 1.0 tables 2 to 7
        (E5M2, 57344.0, 2.0**-14, 2.0**-16, 6, 2),
        (E4M3, 448.0, 2.0**-6, 2.0**-9, 2, 0),
        (E3M2, 28.0, 0.25, 0.0625, 0, 0),
        (E2M3, 7.5, 1.0, 0.125, 0, 0),
        (FP4, 6.0, 1.0, 0.5, 0, 0),
        (E8M0, 2.0**127, 2.0**-127, None, 1, 0),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_floats_of_the_specifications(fmt, maximum, min_normal, min_subnormal, nans, infinities):
    facts = describe(fmt)
    assert (facts.maximum, facts.min_normal, facts.min_subnormal) == (maximum, min_normal, min_subnormal)
    assert (facts.nan_codes, facts.infinity_codes) == (nans, infinities)


def test_integers_and_codebooks():
    facts = describe(MX_INT8)
    assert (facts.maximum, facts.min_positive, facts.min_normal) == (127 / 64, 1 / 64, None)
    assert facts.unused_codes == (0x80,)
    assert describe(BITMOD_FP4[0]).tie == "lower value" and describe(BITMOD_FP4[0]).levels == 16
    assert describe(FP4).negative_zero_code == 8 and describe(BITMOD_FP4[0]).negative_zero_code is None


def test_wide_and_pair_and_learned_formats():
    facts = describe(FP32)
    assert (facts.maximum, facts.min_normal, facts.min_subnormal) == ((2 - 2.0**-23) * 2.0**127, 2.0**-126, 2.0**-149)
    assert describe(INT32).maximum == 2.0**31 - 1
    assert (describe(OLIVE4_INT).dim, describe(OLIVE4_INT).maximum) == (2, 96.0)
    assert describe(LearnedFormat("k", 3, "k-means")).maximum is None


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)
def test_every_format_can_be_described(fmt):
    facts = describe(fmt)
    assert (facts.name, facts.bits, facts.source) == (fmt.name, fmt.bits, fmt.source)
    assert facts.overflow == "saturates" and facts.tie
    assert facts.maximum is not None and facts.minimum is not None and facts.maximum >= facts.minimum
