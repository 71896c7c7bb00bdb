"""Every code of every format of at most 8 bits; a new format joins through the catalogue."""

import math

import numpy as np
import pytest
import torch

from datatypes import rounding
from datatypes.catalog import FORMATS
from datatypes.format import FloatFormat, Format, IntFormat, Tie

SMALL = [fmt for fmt in FORMATS.values() if fmt.bits <= 8 and fmt.dim == 1]
pytestmark = pytest.mark.parametrize("fmt", SMALL, ids=lambda fmt: fmt.name)


def probes(fmt: Format) -> np.ndarray:
    """Levels, midpoints, both float32 neighbours of each, thresholds and theirs, zeros, infinities, subnormals."""
    middles = (fmt.levels[1:] + fmt.levels[:-1]) / 2
    points = np.concatenate([fmt.levels, middles, fmt.thresholds.astype(np.float64)]).astype(np.float32)
    around = [points, np.nextafter(points, np.float32(np.inf)), np.nextafter(points, np.float32(-np.inf))]
    edges = [0.0, -0.0, np.inf, -np.inf, 3e38, -3e38, 1e-45, -1e-45, 2 * fmt.maximum, 2 * fmt.minimum]
    with np.errstate(over="ignore"):
        return np.concatenate([*around, np.array(edges).astype(np.float32)])


def test_every_used_code_survives_a_round_trip(fmt):
    codes = np.array(
        [c for c in range(1 << fmt.bits) if math.isfinite(fmt.code_values[c]) and c not in fmt.unused_codes]
    )
    back = fmt.encode(fmt.decode(codes))
    same_value = [c for c, b in zip(codes, back, strict=True) if c != b]
    # codes may differ only where two used codes mean the same value: the lower one is written
    assert all(fmt.code_values[c] == fmt.code_values[fmt.encode(fmt.code_values[[c]])[0]] for c in same_value)
    if isinstance(fmt, FloatFormat | IntFormat):
        assert not same_value
    np.testing.assert_array_equal(fmt.decode(back), fmt.decode(codes))


def test_unused_codes_are_never_written(fmt):
    assert not set(fmt.encode(probes(fmt)).tolist()) & fmt.unused_codes


def test_codes_match_exact_rational_rounding_and_the_tensor_code(fmt):
    values = probes(fmt)
    exact = [fmt.encode_scalar(float(v)) for v in values]
    np.testing.assert_array_equal(fmt.encode(values), exact)
    np.testing.assert_array_equal(rounding.encode(torch.from_numpy(values), fmt).numpy(), exact)
    np.testing.assert_array_equal(rounding.nearest_value(torch.from_numpy(values), fmt).numpy(), fmt.round(values))


def test_decoding_tensors_matches_the_table(fmt):
    codes = np.arange(1 << fmt.bits)
    np.testing.assert_array_equal(rounding.decode(torch.from_numpy(codes), fmt).numpy(), fmt.decode(codes))


def test_rounding_is_idempotent_and_monotone(fmt):
    values = np.sort(
        np.concatenate([probes(fmt), np.linspace(1.5 * fmt.minimum, 1.5 * fmt.maximum, 999, dtype=np.float32)])
    )
    rounded = fmt.round(values)
    np.testing.assert_array_equal(fmt.round(rounded), rounded)
    assert (np.diff(rounded) >= 0).all()


def test_rounding_errs_by_at_most_half_a_step_and_saturates(fmt):
    values = np.linspace(fmt.minimum, fmt.maximum, 997).astype(np.float32).clip(fmt.minimum, fmt.maximum)
    half_steps = np.diff(fmt.levels) / 2
    gap = np.clip(np.searchsorted(fmt.levels, values, side="right") - 1, 0, len(half_steps) - 1)
    assert (np.abs(fmt.round(values).astype(np.float64) - values) <= half_steps[gap]).all()
    np.testing.assert_array_equal(fmt.round(np.array([np.inf, -np.inf])), np.float32([fmt.maximum, fmt.minimum]))


def test_nan_becomes_the_nan_code_or_is_refused(fmt):
    if fmt.nan_code is None:
        with pytest.raises(ValueError, match=f"no NaN for format {fmt.name}"):
            fmt.encode(np.array([1.0, np.nan]))
        with pytest.raises(ValueError, match="must not be NaN"):
            fmt.encode_scalar(math.nan)
    else:
        assert math.isnan(fmt.code_values[fmt.encode(np.array([np.nan]))[0]])
        assert fmt.encode_scalar(math.nan) == fmt.encode(np.array([np.nan]))[0]
        assert rounding.encode(torch.tensor([torch.nan]), fmt).item() == fmt.nan_code


def test_zero_keeps_its_sign_where_the_format_has_one(fmt):
    codes = fmt.encode(np.array([0.0, -0.0], dtype=np.float32))
    if fmt.negative_zero_code is None:
        assert codes[0] == codes[1]
    else:
        assert codes[1] == fmt.negative_zero_code != codes[0]
        assert math.copysign(1, fmt.code_values[codes[1]]) == -1


def test_ties_go_where_the_format_says(fmt):
    for low, high in zip(fmt.levels[:-1], fmt.levels[1:], strict=True):
        middle = (low + high) / 2
        if float(np.float32(middle)) != middle:
            continue
        rounded, code = float(fmt.round(np.array([middle]))[0]), int(fmt.encode(np.array([middle]))[0])
        if fmt.tie is Tie.EVEN:
            assert code % 2 == 0
        elif fmt.tie is Tie.LOWER:
            assert rounded == low
        elif fmt.tie is Tie.UPPER:
            assert rounded == high
        else:
            assert abs(rounded) == (max if fmt.tie is Tie.AWAY else min)(abs(low), abs(high))


def test_tables_are_read_only(fmt):
    for table in (fmt.code_values, fmt.levels, fmt.level_codes, fmt.thresholds):
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 0
