"""The device quantizer of integers against ``pack_tensor`` of ``quantize_tensor``, array by array and bit for bit.

Needs a CUDA device or numba's simulator: without either the tests skip here, and ``test_simulator.py`` runs them in a
process of its own.
"""

import pytest
import torch

from datatypes.catalog import FP16, INTS, INTS_SYMMETRIC, UINT8, UINTS
from datatypes.granularity import PerGroup
from datatypes.layer_config import ScaleConfig, ScaleRule, TensorConfig
from datatypes.packing import pack_tensor
from datatypes.quantize import quantize_tensor
from kernels_gpu.quantize import allocate, prepare, quantize_packed
from kernels_gpu.quantize_reference import HALF_MAX

ONE, RANGE = ScaleConfig(FP16), ScaleConfig(FP16, rule=ScaleRule.RANGE)
TYPES = (torch.float32, torch.float16, torch.bfloat16)


def unsigned(bits, group_size):
    return TensorConfig((UINTS[bits],), PerGroup(group_size), RANGE, zero_point=UINTS[bits])


def symmetric(bits, group_size):
    return TensorConfig((INTS_SYMMETRIC[bits],), PerGroup(group_size), ONE)


def random_weights(n, k, dtype=torch.float32, seed=0):
    weights = torch.randn(n, k, generator=torch.Generator().manual_seed(seed)) * 0.02
    return (weights + torch.linspace(0.06, -0.06, n)[:, None]).to(dtype)  # zero points from 0 to the largest


def assert_packs_as_quantize_tensor(weights, config, device):
    made = quantize_packed(weights.to(device), config)
    expected = quantize_tensor(weights, config)
    packed = pack_tensor(expected)
    assert torch.equal(made.scales.cpu(), expected.scale)
    assert torch.equal(made.words.cpu().reshape(-1), packed["codes"].reshape(-1))
    assert made.selectors is None and made.outer_scales is None
    back = made.to_quantized_tensor().to("cpu")
    assert torch.equal(back.codes, expected.codes)
    if config.zero_point is None:
        assert made.zero_points is None
    else:
        assert torch.equal(made.zero_points.cpu(), packed["zero_point"])
        assert torch.equal(back.zero_point, expected.zero_point)
    return expected


@pytest.mark.parametrize(
    ("bits", "group_size"), [(2, 64), (3, 128), (4, 128), (5, 64), (6, 32), (7, 128), (8, 128)], ids=str
)
def test_unsigned_integers_with_zero_points(device, bits, group_size):
    weights = random_weights(5, 256, TYPES[bits % 3])  # at g128 ten groups, of two warps
    weights[1, :128] = 0
    expected = assert_packs_as_quantize_tensor(weights, unsigned(bits, group_size), device)
    assert {0, 2**bits - 1} <= set(expected.zero_point.flatten().tolist())


@pytest.mark.parametrize(("bits", "group_size"), [(2, 64), (5, 128), (6, 128), (7, 32), (8, 128)], ids=str)
def test_symmetric_integers(device, bits, group_size):
    weights = random_weights(3, 256, TYPES[bits % 3])
    weights[1, :128] = 0
    assert_packs_as_quantize_tensor(weights, symmetric(bits, group_size), device)


def test_zero_points_of_many_blocks_and_odd_rows_share_words(device):
    # 33 groups: two blocks; rows of three groups end within bytes of all three planes
    assert_packs_as_quantize_tensor(random_weights(11, 384), unsigned(7, 128), device)


@pytest.mark.parametrize(("n", "k"), [(2, 203), (1, 1)])
def test_ragged_rows(device, n, k):
    for config, dtype in ((unsigned(3, 64), torch.bfloat16), (symmetric(8, 128), torch.float32)):
        assert_packs_as_quantize_tensor(random_weights(n, k, dtype), config, device)


def test_weights_that_begin_between_16_bytes(device):
    weights = random_weights(1, 129)[:, 1:].contiguous()
    storage = torch.zeros(136, device=device)
    start = next(i for i in range(8) if (storage.data_ptr() + 4 * i) % 16 == 4)
    storage[start : start + 128] = weights[0]
    made = quantize_packed(storage[start : start + 128].view(1, 128), unsigned(4, 128))
    assert torch.equal(made.words.cpu(), pack_tensor(quantize_tensor(weights, unsigned(4, 128)))["codes"].cpu())


def around_ties(first, last, unit, end):
    """Rows of 128: every half-integer of units from ``first`` to ``last``, its neighbours, and what sets the scale."""
    ties = (torch.arange(first, last) + 0.5) * unit
    values = torch.cat([ties, torch.nextafter(ties, ties + 1), torch.nextafter(ties, ties - 1)])
    values = torch.cat([values, values.new_zeros(-len(values) % (128 - len(end)))]).reshape(-1, 128 - len(end))
    return torch.cat([torch.tensor(end).expand(len(values), len(end)) * unit, values], 1).contiguous()


# scales are these units, and every threshold is a float32; times the reciprocal of the second a third of them and of
# their neighbours round wrongly
UNITS = [2.0**-6, 2021 * 2.0**-16]


@pytest.mark.parametrize("unit", UNITS)
def test_halves_go_to_even_before_the_zero_point_is_added(device, unit):
    weights = around_ties(-101, 154, unit, [-101.0, 154.0])  # an odd zero point: the order shows
    expected = assert_packs_as_quantize_tensor(weights, unsigned(8, 128), device)
    assert (expected.scale == unit).all() and (expected.zero_point == 101).all()


@pytest.mark.parametrize("unit", UNITS)
def test_halves_of_symmetric_integers_go_to_even(device, unit):
    expected = assert_packs_as_quantize_tensor(around_ties(-127, 127, unit, [-127.0]), symmetric(8, 128), device)
    assert (expected.scale == unit).all()


def test_scales_of_a_few_smallest_steps(device):
    # stored scales are up to a third smaller than real ones, and codes are cut at the ends of their range
    weights = random_weights(4, 64)
    steps = torch.tensor([1.1, 1.25, 1.45, 2.45])[:, None] * 2.0**-24
    for config, ends in (
        (unsigned(4, 64), weights.amax(1) - weights.amin(1)),
        (symmetric(5, 64), weights.abs().amax(1)),
    ):
        assert_packs_as_quantize_tensor(weights * (15 * steps / ends[:, None]), config, device)


@pytest.mark.parametrize("magnitude", [1e-9, 3e4])
def test_small_and_large_magnitudes(device, magnitude):
    weights = random_weights(3, 64) * (magnitude / 0.02)
    assert_packs_as_quantize_tensor(weights, unsigned(4, 64), device)


def test_every_output_is_written(device):
    for config, k in ((unsigned(3, 128), 640), (symmetric(5, 64), 200)):
        weights = random_weights(1, k).to(device)
        results = []
        for poison in (0x00, 0xFF):
            out = allocate((1, k), config, device)
            for array in (out.words, out.scales, out.zero_points):
                if array is not None:
                    array.view(torch.uint8).fill_(poison)
            prepare(weights, out)()
            results.append(out)
        for name in ("words", "scales", "zero_points"):
            first, second = (getattr(out, name) for out in results)
            assert first is None or torch.equal(first.view(torch.uint8), second.view(torch.uint8)), name


def test_bytes_are_those_of_the_config(device):
    config = unsigned(5, 128)
    bits = config.storage_bits((4, 1024))
    assert quantize_packed(random_weights(4, 1024).to(device), config).nbytes * 8 == bits.total


@pytest.mark.parametrize("bad", [float("nan"), -1e6])
def test_unusable_values_are_refused(device, bad):
    weights = random_weights(1, 128)
    weights[0, 77] = bad
    with pytest.raises(ValueError, match="weights must be finite and a group, with zero, span at most 982560"):
        quantize_packed(weights.to(device), unsigned(4, 128))
    with pytest.raises(ValueError, match="weights must be finite and of magnitude at most 982560"):
        quantize_packed(weights.to(device), symmetric(5, 128))


def test_the_widest_span_is_taken(device):
    weights = torch.zeros(1, 128)
    weights[0, 3], weights[0, 5] = -HALF_MAX * 8, HALF_MAX * 7
    assert_packs_as_quantize_tensor(weights, unsigned(4, 128), device)


def test_an_empty_matrix(device):
    made = quantize_packed(torch.zeros(0, 256, device=device), unsigned(4, 128))
    assert made.words.shape == (0, 32) and made.zero_points.shape == (0,)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TensorConfig((INTS[4],), PerGroup(128), ONE), "or a symmetric or unsigned integer of 2 to 8 bits on the GPU"),
        (TensorConfig((UINTS[4],), PerGroup(128), ONE), "scale must be fp16 by range for unsigned integers on the GPU"),
        (TensorConfig((UINTS[4],), PerGroup(128), RANGE, zero_point=FP16), "zero_point must be uint4, as the codes"),
        (TensorConfig((UINTS[4],), PerGroup(128), RANGE, zero_point=UINT8), "zero_point must be uint4, as the codes"),
        (TensorConfig((INTS_SYMMETRIC[8],), PerGroup(128), ScaleConfig(UINT8, outer=FP16)), "scale must be fp16 for"),
    ],
    ids=["full range", "no range", "real zero point", "wider zero point", "two levels"],
)
def test_encodings_without_a_kernel_are_named(config, message):
    with pytest.raises(NotImplementedError, match=message):
        quantize_packed(torch.zeros(2, 128), config)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("k", [4096, 4100, 11008])
@pytest.mark.parametrize("bits", range(2, 9))
def test_large_matrices(device, bits, k, dtype):
    weights = random_weights(1001, k, dtype, seed=bits)
    configs = [unsigned(bits, 64), unsigned(bits, 128)]
    for config in configs if bits in (3, 4) else [*configs, symmetric(bits, 32), symmetric(bits, 128)]:
        assert_packs_as_quantize_tensor(weights, config, device)
