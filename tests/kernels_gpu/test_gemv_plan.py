"""How encodings become tables of signed bytes, against the formats' own values."""

import numpy as np
import pytest

from datatypes.catalog import BITMOD_FP3, BITMOD_FP4, FORMATS, FP16, FP32, INTS_SYMMETRIC, NF4, UINTS
from datatypes.format import LearnedFormat
from datatypes.granularity import PerBlock, PerChannel, PerGroup, PerTensor
from datatypes.layer_config import CodebookConfig, ScaleConfig, SecondLevel, SparsityConfig, TensorConfig
from kernels_gpu.gemv_plan import DIGIT_BASE, Decoding, digit_tables, integer_step, plan_of, signed_tables, top
from kernels_gpu.gemv_recipes import LEARNED, RECIPES


def bytes_of(words):
    return np.array(words, np.uint32).view(np.int8).astype(int)


def looked_up(words, bits, reverse=False):
    """Values of all codes by the definition of the permutation, from one digit's table words."""
    table = bytes_of(words)
    if bits == 2:
        return table[:4]
    if bits == 3:  # the high two bits of a code are the low ones of its index
        return np.array([table[code >> 1 | (code & 1) << 2] for code in range(8)])
    t, u = table[:8], table[:7:-1] if reverse else table[8:]  # in reverse where all bits of its codes are turned over
    low = [t[c] + top(u[c]) for c in range(8)]
    return np.array(low + [top(t[c]) + u[c] for c in range(8)])


def test_any_sixteen_values_have_tables():
    generator = np.random.default_rng(0)
    for values in [*generator.integers(-127, 127, (300, 16)), [-127] * 16, [126] * 16, [0] * 16, [-127, 126] * 8]:
        t, u = signed_tables(list(values))
        assert looked_up_of_bytes(t, u) == list(values)


def looked_up_of_bytes(t, u):
    return [t[c] + top(u[c]) for c in range(8)] + [top(t[c]) + u[c] for c in range(8)]


def test_a_value_beyond_a_byte_is_one_sentence():
    with pytest.raises(ValueError, match=r"values must be -127 to 126 for a table of signed bytes, not 0 and 200"):
        signed_tables([0] * 8 + [200] * 8)


@pytest.mark.parametrize("name", list(RECIPES))
def test_tables_hold_every_code_s_value(name):
    config = RECIPES[name]
    plan = plan_of(config)
    if plan.decoding is not Decoding.TABLE or plan.learned:
        assert not plan.tables
        return
    words = {2: 1, 3: 2, 4: 4}[plan.bits]
    for table, fmt in zip(plan.tables, config.formats, strict=True):
        digits = [
            looked_up(table[i * words : (i + 1) * words], plan.bits, plan.digits == 2) for i in range(plan.digits)
        ]
        units = digits[0] if plan.digits == 1 else DIGIT_BASE * digits[0] + digits[1]
        # exact with one digit; half a unit of the two-digit grid otherwise
        assert np.abs(units * plan.step - fmt.code_values).max() <= (0 if plan.digits == 1 else plan.step / 2)


def test_two_digits_stay_within_a_byte():
    for unit in (-32130, -127, 127, 32130):
        high, low = (bytes_of(words) for words in np.split(np.array(digit_tables([unit] * 8, 3, 2)), 2))
        assert high[0] * DIGIT_BASE + low[0] == unit


def test_the_largest_step_is_found():
    assert integer_step(np.array([0.0, 0.5, 1.5, 6.0])) == 0.5
    assert integer_step(np.array([1.0, 2.0, 64.0])) == 1.0
    assert integer_step(np.array([1.0, 0.3])) is None
    assert integer_step(np.array([1.0, 200.0])) is None


def test_candidates_of_bitmod_differ_in_one_byte_of_a_word():
    # FP4: the special value is code 8, entry 0 of both tables; FP3: code 4, whose high bits are 2 and low bit 0
    assert plan_of(TensorConfig(BITMOD_FP4, PerGroup(128))).patched_bytes == (0, None, 0, None)
    assert plan_of(TensorConfig(BITMOD_FP3, PerGroup(128))).patched_bytes == (2, None)


@pytest.mark.parametrize(("group", "parts"), [(128, 1), (256, 1), (64, 2), (192, 2), (32, 4), (96, 4), (16, 4)])
def test_parts_of_a_run(group, parts):
    assert plan_of(TensorConfig((NF4,), PerGroup(group))).parts == parts


def test_a_row_is_one_part():
    plan = plan_of(TensorConfig((INTS_SYMMETRIC[8],), PerChannel()))
    assert plan.parts == 1 and plan.group == 0 and plan.decoding is Decoding.BYTES


REFUSED = {
    "group of 48": (TensorConfig((NF4,), PerGroup(48)), "scales of a GPU kernel must be for rows or for groups"),
    "block": (TensorConfig((NF4,), PerBlock(4, 64)), "scales of a GPU kernel must be for rows or for groups"),
    "infinities": (
        TensorConfig((FORMATS["e3m2_ieee"],), PerGroup(128)),
        "floats above 4 bits must be finite with at most 4",
    ),
    "five exponent bits, finite": (
        TensorConfig((FORMATS["e5m1"],), PerGroup(128)),
        "floats above 4 bits must be finite with at most 4",
    ),
    "six exponent bits": (
        TensorConfig((FORMATS["e6m1"],), PerGroup(128)),
        "floats above 4 bits must be finite with at most 4",
    ),
    "float mixture": (
        TensorConfig((FORMATS["e3m2"], FORMATS["e2m3"]), PerGroup(128)),
        "formats must be one, without zero points, for floats above 4 bits",
    ),
    "sixteen bits": (TensorConfig((FORMATS["int16"],), PerGroup(128)), "bits of IntFormat must be 2, 3, 4, 5, 6, 7, 8"),
    "learned with 6 bits": (
        TensorConfig((LearnedFormat("six", 6, "here"),), PerChannel(), None, codebook=CodebookConfig()),
        "bits of LearnedFormat must be 3, 4 for the GPU kernels, not 6",
    ),
    "one codebook in all": (
        TensorConfig((LEARNED[4],), PerChannel(), None, codebook=CodebookConfig(FP16, PerTensor())),
        r"codebook of a GPU kernel must be fp16, one for each row, not fp16 for PerTensor\(\)",
    ),
    "learned with scales": (
        TensorConfig((LEARNED[4],), PerGroup(64), codebook=CodebookConfig()),
        "scale and zero_point must be left out for learned formats",
    ),
    "sparse": (TensorConfig((NF4,), PerGroup(64), sparsity=SparsityConfig()), "sparsity must be left out"),
    "real offset": (TensorConfig((UINTS[4],), PerGroup(64), zero_point=FP16), "zero_point must be left out"),
    "scale": (TensorConfig((NF4,), PerGroup(64), ScaleConfig(FORMATS["int16"])), "scales of a GPU kernel must be fp16"),
    "row scale": (TensorConfig((NF4,), PerGroup(64), row_scale=FP32), "row_scale must be left out"),
    "outer offset": (
        TensorConfig((NF4,), PerGroup(64), ScaleConfig(UINTS[8], outer=FP16, outer_offset=FP16)),
        "zero_point_level and outer_offset must be left out",
    ),
    "codes of zero points": (
        TensorConfig((UINTS[4],), PerGroup(64), zero_point=UINTS[4], zero_point_level=SecondLevel()),
        "zero_point_level and outer_offset must be left out",
    ),
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_what_has_no_kernel_is_refused(what):
    config, message = REFUSED[what]
    with pytest.raises(NotImplementedError, match=message):
        plan_of(config)
