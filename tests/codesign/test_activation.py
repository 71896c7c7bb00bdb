"""Rounding of activations and the Hadamard rotation."""

import pytest
import torch
from scipy.linalg import hadamard

from codesign.activation import fake_quantize, hadamard_rotate, rows_are_independent
from datatypes.block_formats import MXFP4, NVFP4
from datatypes.catalog import FP16, FP32, INTS_SYMMETRIC
from datatypes.granularity import PerBlock, PerChannel, PerGroup, PerInputChannel, PerTensor
from datatypes.layer_config import ScaleConfig, TensorConfig


def int8(granularity, dynamic=True):
    return TensorConfig((INTS_SYMMETRIC[8],), granularity, ScaleConfig(FP32), dynamic=dynamic)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_int8_per_token_by_hand():
    # row 0: scale 127 / 127 = 1, so 1.4 -> 1, -2.6 -> -3; row 1: scale 254 / 127 = 2, so 5 -> round(2.5) = 2 -> 4
    x = torch.tensor([[127.0, 1.4, -2.6], [254.0, 5.0, 3.0]])
    assert fake_quantize(x, int8(PerChannel())).tolist() == [[127.0, 1.0, -3.0], [254.0, 4.0, 4.0]]


def test_static_scale_saturates():
    # scale 0.5: 1.3 -> 2.6 -> 3 -> 1.5; 100 -> 200 -> 127 -> 63.5
    x = torch.tensor([[1.3, 100.0]])
    assert fake_quantize(x, int8(PerTensor(), dynamic=False), scale=0.5).tolist() == [[1.5, 63.5]]


@pytest.mark.parametrize(
    "granularity", [PerChannel(), PerGroup(16), PerTensor(), PerInputChannel(), PerBlock(4, 16)], ids=repr
)
def test_a_sequence_is_rounded_the_same_alone_and_in_a_batch(granularity):
    x = random(3, 10, 48)
    together = fake_quantize(x, int8(granularity))
    alone = torch.stack([fake_quantize(sequence, int8(granularity)) for sequence in x])
    assert torch.equal(together, alone)


def test_one_token_sequences_share_no_scale():
    x = torch.tensor([[[127.0, 1.4]], [[254.0, 5.0]]])
    assert fake_quantize(x, int8(PerTensor())).flatten().tolist() == [127.0, 1.0, 254.0, 4.0]


@pytest.mark.parametrize(
    ("config", "independent"),
    [
        (int8(PerChannel()), True),
        (int8(PerGroup(8)), True),
        (int8(PerGroup(8, along_output=True)), False),
        (int8(PerTensor()), False),
        (MXFP4, True),
        (NVFP4, False),  # second-level scale of the whole tensor
        (TensorConfig((FP16,), scale=None), True),
    ],
)
def test_which_configs_share_scales_between_tokens(config, independent):
    assert rows_are_independent(config, 5) is independent


def test_empty_input_stays_empty():
    assert fake_quantize(torch.empty(0, 8), int8(PerChannel())).shape == (0, 8)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="must be finite"):
        fake_quantize(torch.tensor([[float("nan")]]), int8(PerChannel()))


@pytest.mark.parametrize("block", [1, 2, 8, 64])
def test_rotation_is_sylvesters_matrix(block):
    x = random(5, 64)
    matrix = torch.tensor(hadamard(block), dtype=torch.float64) / block**0.5
    expected = (x.to(torch.float64).reshape(5, -1, block) @ matrix).reshape(5, 64)
    # log2(block) additions of float32: error at most their number times epsilon times the row's size
    torch.testing.assert_close(hadamard_rotate(x, block).to(torch.float64), expected, rtol=0, atol=7 * 1.2e-7 * 40)


def test_rotating_twice_gives_the_input_back():
    x = random(2, 3, 32)
    torch.testing.assert_close(hadamard_rotate(hadamard_rotate(x, 32), 32), x, rtol=0, atol=10 * 1.2e-7 * 20)


def test_a_block_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="hadamard must divide in_features 48, not 32"):
        hadamard_rotate(random(1, 48), 32)
