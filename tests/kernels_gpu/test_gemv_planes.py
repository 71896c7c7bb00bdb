"""Codes put together from their planes: every code of every width, by the values of its format."""

import numpy as np
import pytest

from datatypes.catalog import FORMATS
from datatypes.granularity import PerGroup
from datatypes.layer_config import TensorConfig
from datatypes.packing import pack
from kernels_gpu import ptx
from kernels_gpu.gemv_halves import make_pairs
from kernels_gpu.gemv_plan import plan_of
from kernels_gpu.gemv_planes import make_joined

EVEN_ODD = np.array([0, 2, 4, 6, 1, 3, 5, 7])
FLOATS = [
    "e2m2",
    "e3m1",
    "e1m3",
    "e2m3",
    "e3m2",
    "e4m1",
    "e3m3",
    "e4m2",
    "e4m3",
    "e3m4",
    "e4m3_fn",
    "e5m2_ieee",
]
simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")


def blocks_of_all_codes(bits):
    """Codes of blocks of 32 and their words, each code at some place, in an order that is no period of a register's."""
    codes = np.random.default_rng(bits).permutation(np.arange(max(32, 1 << bits)) % (1 << bits)).reshape(-1, 32)
    return zip(codes, pack(codes, bits).reshape(len(codes), bits), strict=True)


@simulated
@pytest.mark.parametrize("bits", [5, 6, 7])
def test_integers_stand_in_the_upper_bits_of_bytes(bits):
    joined = make_joined(bits)
    for codes, words in blocks_of_all_codes(bits):
        made = np.array(joined(tuple(words), None), np.uint32).view(np.uint8)
        assert (made == codes.reshape(4, 8)[:, EVEN_ODD].reshape(-1) << 8 - bits).all()


@simulated
@pytest.mark.parametrize("name", FLOATS)
def test_floats_become_halves_exactly(name):
    fmt = FORMATS[name]
    plan = plan_of(TensorConfig((fmt,), PerGroup(128)))
    pairs = make_pairs(plan)
    order = np.arange(8) if fmt.bits == 8 else EVEN_ODD
    for codes, words in blocks_of_all_codes(fmt.bits):
        made = np.array(pairs(tuple(words)), np.uint32).view(np.float16).astype(np.float64) * plan.step
        expected = np.asarray(fmt.code_values, np.float64)[codes.reshape(4, 8)[:, order].reshape(-1)]
        assert np.array_equal(made, expected, equal_nan=True)
