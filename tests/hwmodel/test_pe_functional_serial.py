"""Exact values, the published laws of cycles, and the cycles that bit statistics predict."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datatypes.bit_stats import BitStats, bit_stats_of_codes
from datatypes.catalog import INTS
from datatypes.recoding import Recoding
from hwmodel.pe_functional_serial import SerialDot, bbs_dot, bitlet_dot, loom_dot, pragmatic_dot, stripes_dot

BITS, LANES, GROUP, ADDERS = 6, 4, 8, 2
Machine = Callable[[list[int], list[int]], SerialDot]
MACHINES: dict[str, Machine] = {
    "stripes": lambda a, w: stripes_dot(a, w, activation_bits=8, lanes=LANES),
    "loom": lambda a, w: loom_dot(a, w, activation_bits=8, weight_bits=BITS, bits_per_cycle=3, lanes=LANES),
    "loom, trimmed": lambda a, w: loom_dot(a, w, activation_bits=8, weight_bits=BITS, lanes=LANES, trimmed=True),
    **{f"pragmatic, {r.value}": lambda a, w, r=r: pragmatic_dot(a, w, weight_bits=BITS, recoding=r, lanes=LANES)  # type: ignore[misc]
       for r in Recoding},
    "bitlet": lambda a, w: bitlet_dot(a, w, weight_bits=BITS, group=GROUP),
    "bbs": lambda a, w: bbs_dot(a, w, weight_bits=BITS, group=GROUP, adders=ADDERS),
}  # fmt: skip


@pytest.mark.parametrize("name", MACHINES)
@settings(max_examples=25, deadline=None)
@given(
    pairs=st.lists(
        st.tuples(st.integers(-128, 127), st.integers(-32, 31)) | st.sampled_from([(-128, -32), (127, 31), (0, 0)]),
        min_size=1,
        max_size=40,
    )
)
def test_values_are_exact(name: str, pairs: list[tuple[int, int]]) -> None:
    a, w = [x for x, _ in pairs], [y for _, y in pairs]
    assert MACHINES[name](a, w).value == sum(x * y for x, y in pairs)


@pytest.mark.parametrize("bits", range(1, 17))
def test_ideal_laws(bits: int) -> None:
    """Speed-up over 16 bits: 16 / P_a (Stripes, MICRO 2016) and 256 / (P_a P_w) (Loom, DAC 2018, convolutions)."""
    zeros = [0] * 32
    assert 2 * 16 / stripes_dot(zeros, zeros, activation_bits=bits).cycles == 16 / bits
    for weight_bits in (1, 8, 16):
        cycles = loom_dot(zeros, zeros, activation_bits=bits, weight_bits=weight_bits).cycles
        assert 2 * 256 / cycles == 256 / (bits * weight_bits)
        two = loom_dot(zeros, zeros, activation_bits=bits, weight_bits=weight_bits, bits_per_cycle=2).cycles
        assert two == 2 * math.ceil(bits / 2) * weight_bits


def test_trimmed_by_hand() -> None:
    # 3 needs 011, -4 needs 100: three bits; 127 needs eight
    found = loom_dot([3, -4, 127, 0], [1, 1, 1, 1], activation_bits=8, weight_bits=2, lanes=2, trimmed=True)
    assert found.cycles == 3 * 2 + 8 * 2


def mean_cycles(codes: np.ndarray, machine: Machine, size: int) -> float:
    values = np.where(codes >= 1 << (BITS - 1), codes.astype(int) - (1 << BITS), codes)
    spent = sum(machine([1] * values.shape[1], row.tolist()).cycles for row in values)
    return spent / (len(values) * math.ceil(values.shape[1] / size))


def predicted(stats: BitStats) -> dict[str, tuple[float, int]]:
    return {
        **{f"pragmatic, {r.value}": (stats.step_cycles(r, LANES), LANES) for r in Recoding},
        "bitlet": (stats.interleaved_cycles(GROUP), GROUP),
        "bbs": (stats.bidirectional_cycles(GROUP, ADDERS), GROUP),
    }


@pytest.mark.parametrize("columns", [64, 61])
def test_statistics_predict_the_machines(columns: int) -> None:
    random = np.random.default_rng(11)
    codes = random.binomial(63, 0.5, (12, columns)).astype(np.uint8)
    codes[:, ::5] = 0
    stats = bit_stats_of_codes(codes, (INTS[BITS],), lanes=(LANES,), rows=(1,), groups=(GROUP,))
    for name, (cycles, size) in predicted(stats).items():
        assert cycles == pytest.approx(mean_cycles(codes, MACHINES[name], size), rel=1e-12), name


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="activations and weights must be as many, not 1 and 2"):
        stripes_dot([1], [1, 2], activation_bits=4)
    with pytest.raises(ValueError, match="activations must fit 4 bits of two's complement, not need 5"):
        stripes_dot([8], [1], activation_bits=4)
    with pytest.raises(ValueError, match="weights must fit 4 bits of two's complement, not need 5"):
        bitlet_dot([8], [8], weight_bits=4, group=2)
    with pytest.raises(ValueError, match="lanes and group must be at least 1, not 0"):
        bitlet_dot([8], [1], weight_bits=4, group=0)
    with pytest.raises(ValueError, match="adders must be at least 1, not 0"):
        bbs_dot([8], [1], weight_bits=4, group=2, adders=0)
    with pytest.raises(ValueError, match="bits_per_cycle must be at least 1, not 0"):
        loom_dot([1], [1], activation_bits=4, weight_bits=4, bits_per_cycle=0)
