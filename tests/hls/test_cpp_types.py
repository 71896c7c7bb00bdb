"""C++ types taken apart."""

import pytest

from hls.cpp_types import CppType, parse_type, value_bits


def test_nested_arguments():
    made = parse_type(
        "codesign::codebook_arithmetic<codesign::fixed_book<4, codesign::int_number<8, false, -3>>, true, 16>"
    )
    number = CppType("int_number", (8, False, -3))
    assert made == CppType("codebook_arithmetic", (CppType("fixed_book", (4, number)), True, 16))
    assert made.type(0).type(1).number(2) == -3
    assert made.number(1) == 1 and made.number(2) == 16 and made.number(7, 5) == 5


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("codesign::fp16_value", 16), ("codesign::fp32_value", 32), ("codesign::exponent_value<8, 127>", 8),
        ("codesign::minifloat_value<4, 3, 7>", 8), ("codesign::minifloat_value<4, 3, 7, false, 8>", 8),
        ("codesign::raw_value<16>", 16), ("codesign::integer_value<12, true, -3>", 12),
    ],
)  # fmt: skip
def test_bits_of_values(text, bits):
    assert value_bits(text) == bits


@pytest.mark.parametrize(
    "text", ["", "a<", "a<1", "a>", "a b", "1", "a<1,>", "a<,1>", "<1>", "a<1>>", "a; system()", "a,b"]
)
def test_what_is_no_type_is_refused(text):
    with pytest.raises(ValueError, match=r"C\+\+ type"):
        parse_type(text)


def test_arguments_of_the_wrong_kind_are_refused():
    made = parse_type("a<b, 1>")
    with pytest.raises(ValueError, match="argument 0 of a must be a number"):
        made.number(0)
    with pytest.raises(ValueError, match="argument 1 of a must be a type"):
        made.type(1)
