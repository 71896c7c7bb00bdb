"""Counts against plain Python on small matrices, and against closed forms of random codes."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datatypes.bit_stats import BitStats, bit_stats, bit_stats_of_codes, mean_of
from datatypes.block_formats import BLOCK_FORMATS
from datatypes.catalog import BITMOD_FP4, FP4, INTS, UINTS
from datatypes.format import Format
from datatypes.granularity import PerChannel, PerTensor
from datatypes.layer_config import TensorConfig
from datatypes.quantize import quantize_tensor
from datatypes.recoding import Recoding, fixed_point, term_count


def plain_counts(values: list[list[int]], planes: int, lanes: int, rows: int, group: int) -> dict[str, object]:
    """Everything again, one number at a time."""
    n, k = len(values), len(values[0])
    found: dict[str, object] = {}
    for recoding in Recoding:
        terms = [[term_count(v, planes, recoding) for v in row] for row in values]
        found[f"terms {recoding.value}"] = sorted(t for row in terms for t in row)
        found[f"steps {recoding.value}"] = sorted(
            max(t for row in terms[r : r + rows] for t in row[c : c + lanes])
            for r in range(0, n, rows)
            for c in range(0, k, lanes)
        )
    for recoding in (Recoding.TWOS_COMPLEMENT, Recoding.SIGN_MAGNITUDE):
        busiest, smaller, worst = [], [], []
        ones, empty = [0] * planes, [0] * planes
        for row in values:
            for start in range(0, k, group):
                part = [v & ((1 << planes) - 1) if recoding is Recoding.TWOS_COMPLEMENT else abs(v) for v in
                        row[start : start + group]]  # fmt: skip
                columns = [[v >> p & 1 for v in part] for p in range(planes)]
                sums = [sum(column) for column in columns]
                fewer = [min(s, len(part) - s) for s in sums]
                for plane, s in enumerate(sums):
                    ones[plane] += s
                    empty[plane] += s == 0
                busiest.append(max(sums))
                smaller += fewer
                worst.append(max(fewer))
        found[f"columns {recoding.value}"] = (ones, empty, sorted(busiest), sorted(smaller), sorted(worst))
    return found


def spread_out(histogram: tuple[int, ...]) -> list[int]:
    return [i for i, count in enumerate(histogram) for _ in range(count)]


def as_plain(stats: BitStats) -> dict[str, object]:
    found: dict[str, object] = {f"terms {c.recoding.value}": spread_out(c.histogram) for c in stats.terms}
    found |= {f"steps {c.recoding.value}": spread_out(c.histogram) for c in stats.steps}
    for c in stats.columns:
        lists = (spread_out(h) for h in (c.busiest, c.smaller, c.busiest_smaller))
        found[f"columns {c.recoding.value}"] = (list(c.ones), list(c.empty), *lists)
    return found


@settings(max_examples=60, deadline=None)
@given(
    fmt=st.sampled_from([(INTS[8],), (INTS[3],), (UINTS[8],), (FP4,), BITMOD_FP4]),
    n=st.integers(1, 5),
    k=st.integers(1, 23),
    lanes=st.integers(1, 9),
    rows=st.integers(1, 6),
    group=st.integers(1, 30),
    run=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_count(
    fmt: tuple[Format, ...], n: int, k: int, lanes: int, rows: int, group: int, run: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    codes = random.integers(0, 1 << fmt[0].bits, (n, k), dtype=np.uint8)
    selector = random.integers(0, len(fmt), (n, -(-k // run)), dtype=np.uint8)
    stats = bit_stats_of_codes(
        codes, fmt, selector=selector, run=run, lanes=(lanes,), rows=(rows,), groups=(group,)
    )  # fmt: skip
    # halves at the finest, as FP4 has them: BitMoD's formats share a unit
    points = [fixed_point(f) for f in fmt]
    assert len({point.unit_exponent for point in points}) == 1
    values = [[points[selector[r, c // run]].integers[codes[r, c]] for c in range(k)] for r in range(n)]
    assert as_plain(stats) == plain_counts(values, stats.planes, lanes, rows, group)
    assert stats.weights == n * k


def random_stats(fmt: Format, **tiles: tuple[int, ...]) -> BitStats:
    codes = np.random.default_rng(7).integers(0, 1 << fmt.bits, (512, 4096), dtype=np.uint8)
    return bit_stats_of_codes(codes, (fmt,), **tiles)  # type: ignore[arg-type]


def binomial(n: int) -> np.ndarray:
    return np.array([math.comb(n, i) for i in range(n + 1)]) / 2.0**n


def of_maximum(probabilities: np.ndarray, draws: int) -> np.ndarray:
    """Distribution of the largest of independent draws."""
    return np.diff(np.cumsum(probabilities) ** draws, prepend=0.0)


def assert_distributed(histogram: tuple[int, ...], probabilities: np.ndarray) -> None:
    """The mean lies within five standard errors of what ``probabilities`` say."""
    values, draws = np.arange(len(probabilities)), sum(histogram)
    mean = float(values @ probabilities)
    error = math.sqrt(float((values - mean) ** 2 @ probabilities) / draws)
    assert abs(mean_of(histogram) - mean) <= 5 * error


def test_terms_of_random_codes() -> None:
    stats = random_stats(INTS[8])
    by_form = {counts.recoding: counts.histogram for counts in stats.terms}
    assert_distributed(by_form[Recoding.TWOS_COMPLEMENT], binomial(8))
    # four digits, each zero a quarter of the time: mean 3, variance 4 * 3/16
    assert abs(stats.mean_terms(Recoding.BOOTH) - 3.0) <= 5 / math.sqrt(stats.weights)
    exact = [term_count(v, 8, Recoding.NAF) for v in range(-128, 128)]
    error = np.std(exact) / math.sqrt(stats.weights)
    assert abs(stats.mean_terms(Recoding.NAF) - np.mean(exact)) <= 5 * error


@pytest.mark.parametrize(("lanes", "rows"), [(4, 1), (16, 1), (4, 32)])
def test_steps_of_random_codes_are_maxima(lanes: int, rows: int) -> None:
    stats = random_stats(INTS[8], lanes=(lanes,), rows=(rows,), groups=())
    (counts,) = (c for c in stats.steps if c.recoding is Recoding.TWOS_COMPLEMENT)
    assert_distributed(counts.histogram, of_maximum(binomial(8), lanes * rows))
    assert stats.step_cycles(Recoding.TWOS_COMPLEMENT, lanes, rows=rows) == mean_of(counts.histogram, 1)


@pytest.mark.parametrize("group", [8, 64])
def test_planes_of_random_codes(group: int) -> None:
    stats = random_stats(UINTS[8], groups=(group,), lanes=())
    columns = stats.columns_of(Recoding.SIGN_MAGNITUDE, group)
    assert_distributed(columns.busiest, of_maximum(binomial(group), 8))
    assert stats.planes == 9 and columns.ones[8] == 0 and columns.empty[8] == stats.weights // group


@pytest.mark.parametrize("group", [8, 64])
def test_smaller_side_of_random_codes(group: int) -> None:
    stats = random_stats(INTS[8], groups=(group,), lanes=())
    smaller = np.minimum(np.arange(group + 1), group - np.arange(group + 1))
    expected = np.zeros(group + 1)
    np.add.at(expected, smaller, binomial(group))
    assert_distributed(stats.columns_of(Recoding.TWOS_COMPLEMENT, group).smaller, expected)
    assert stats.smaller_share(group) <= 0.5
    assert stats.bidirectional_cycles(group, adders=group // 2) == 8.0  # one cycle for each plane, always


def test_waits_never_shorten() -> None:
    stats = random_stats(INTS[6], lanes=(4, 8, 16), rows=(1, 8))
    for recoding in Recoding:
        cycles = [stats.step_cycles(recoding, lanes, minimum=0) for lanes in (4, 8, 16)]
        assert stats.mean_terms(recoding) <= cycles[0] <= cycles[1] <= cycles[2]
        assert cycles[2] <= stats.step_cycles(recoding, 16, rows=8)


def test_zeros() -> None:
    stats = bit_stats_of_codes(np.zeros((3, 10), np.uint8), (INTS[8],), lanes=(4,), rows=(1,), groups=(8,))
    assert stats.mean_terms(Recoding.NAF) == 0
    assert stats.step_cycles(Recoding.NAF, 4) == 1 and stats.step_cycles(Recoding.NAF, 4, minimum=0) == 0
    assert stats.interleaved_cycles(8, minimum=0) == 0 and stats.empty_planes(8) == 8
    assert stats.columns[0].busiest[0] == 6


def test_nothing_at_all() -> None:
    stats = bit_stats_of_codes(np.zeros((0, 10), np.uint8), (INTS[8],))
    assert stats.weights == 0 and math.isnan(stats.mean_terms(Recoding.BOOTH))


@pytest.mark.parametrize("name", ["int8_channel_fp16", "bitmod4_g128_uint8", "mxfp4", "int4_asym_g128_fp16"])
def test_of_quantized_tensor(name: str) -> None:
    tensor = quantize_tensor(torch.randn(20, 300, generator=torch.Generator().manual_seed(1)), BLOCK_FORMATS[name])
    stats = bit_stats(tensor)
    points = [fixed_point(fmt) for fmt in tensor.config.formats]
    unit = 2.0 ** points[0].unit_exponent
    integers = (tensor.values() / unit).to(torch.int64).flatten().tolist()
    assert all(v * unit == w for v, w in zip(integers, tensor.values().flatten().tolist(), strict=True))
    for recoding in Recoding:
        mean = sum(term_count(v, stats.planes, recoding) for v in integers) / len(integers)
        assert stats.mean_terms(recoding) == pytest.approx(mean, rel=1e-12)  # a quotient of the same two integers


def test_selector_for_the_whole_tensor() -> None:
    config = TensorConfig(BITMOD_FP4, PerChannel(), selector=PerTensor())
    tensor = quantize_tensor(torch.randn(6, 40, generator=torch.Generator().manual_seed(2)), config)
    assert tensor.selector is not None and tensor.selector.shape == (1, 1)
    chosen = (BITMOD_FP4[int(tensor.selector[0, 0])],)
    alone = bit_stats_of_codes(tensor.codes.numpy(), chosen)
    for recoding in (Recoding.SIGN_MAGNITUDE, Recoding.NAF):
        assert bit_stats(tensor).mean_terms(recoding) == alone.mean_terms(recoding)


def test_json_and_sum() -> None:
    codes = np.random.default_rng(3).integers(0, 16, (8, 96), dtype=np.uint8)
    whole = bit_stats_of_codes(codes, (INTS[4],), rows=(1, 4))
    parts = [bit_stats_of_codes(codes[i : i + 4], (INTS[4],), rows=(1, 4)) for i in (0, 4)]
    assert parts[0] + parts[1] == whole
    assert BitStats.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole


def test_refusals() -> None:
    codes = np.zeros((2, 8), np.uint8)
    stats = bit_stats_of_codes(codes, (INTS[4],))
    with pytest.raises(ValueError, match="steps of these statistics must be one of 1 x 4, 1 x 8, .* not 2 x 4"):
        stats.step_cycles(Recoding.NAF, 4, rows=2)
    with pytest.raises(ValueError, match="group of these statistics must be one of 8, 16, 32, 64 in bits, not 5"):
        stats.interleaved_cycles(5)
    with pytest.raises(ValueError, match="to add must be of the same formats and tiles"):
        stats + bit_stats_of_codes(codes, (INTS[5],))
    with pytest.raises(ValueError, match="at least 1, groups at most 255, not .*256"):
        bit_stats_of_codes(codes, (INTS[4],), groups=(256,))
    with pytest.raises(ValueError, match="bit statistics must be a dictionary as BitStats.to_dict makes it"):
        BitStats.from_dict({"formats": ["int4"]})


def test_matrices_that_are_not_counted() -> None:
    tensor = quantize_tensor(torch.ones(2, 8), BLOCK_FORMATS["int4_g128_fp16"])
    with pytest.raises(NotImplementedError, match="without mask and without residual"):
        bit_stats(replace(tensor, mask=torch.ones(2, 8, dtype=torch.bool)))
    sparse = replace(tensor, codes=tensor.codes.to(torch.int32), config=replace(tensor.config, formats=(INTS[8],)))
    with pytest.raises(NotImplementedError, match="codes of up to 8 bits with one value each, not of int8"):
        bit_stats(sparse)
