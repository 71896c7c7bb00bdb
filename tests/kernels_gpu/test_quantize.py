"""The device quantizers against ``quantize_tensor`` and the float64 reference, at every launch shape.

Needs a CUDA device or numba's simulator: without either the tests skip here, and ``test_simulator.py`` runs them in a
process of its own.
"""

import numpy as np
import pytest
import torch

from datatypes.catalog import BITMOD_FP3, BITMOD_FP4, FP4, FP16, INTS_SYMMETRIC, UINT8
from datatypes.format import IntFormat
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import ScaleConfig, TensorConfig
from datatypes.packing import pack
from datatypes.quantize import quantize_tensor
from kernels_gpu.quantize import PackedWeights, allocate, prepare, quantize_packed
from kernels_gpu.quantize_reference import quantize_reference

ONE, TWO = ScaleConfig(FP16), ScaleConfig(UINT8, outer=FP16)
# Float32 sums: up to 32 terms in sequence and about ten roundings in each and in the tree; each of two candidates, and
# twice that because a gain can halve the sum it is taken from.
SAME_ERROR = 2 * 2 * (32 + 10) * 2.0**-24


def random_weights(n, k, seed=0, heavy=False):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, k, generator=generator)
    if heavy:  # a ratio of normals has the tails of Student's t with few degrees of freedom
        x = x / (torch.randn(n, k, generator=generator).abs() + 0.5)
    return x * 0.02


def assert_equals_quantize_tensor(weights, config, made):
    expected = quantize_tensor(weights.float().cpu(), config)
    got = made.to_quantized_tensor().to("cpu")
    k = made.shape[1]
    size = config.granularity.group_size
    differs = torch.zeros(got.scale.shape, dtype=torch.bool)
    if expected.selector is not None:
        differs = got.selector != expected.selector
        errors = quantize_reference(weights.float().cpu().numpy(), config).errors
        for i, j in differs.nonzero().tolist():
            ours, theirs = errors[got.selector[i, j], i, j], errors[expected.selector[i, j], i, j]
            assert abs(ours - theirs) <= SAME_ERROR * theirs, f"group {i}, {j}: another candidate with another error"
    assert differs.float().mean() <= 3e-3  # bfloat16 weights of opposite sign make one exact tie in about 2000 groups
    if made.outer_scales is not None:
        differs = differs.any(1, keepdim=True).expand_as(differs)
        assert torch.equal(got.outer_scale[~differs[:, :1]], expected.outer_scale[~differs[:, :1]])
    assert torch.equal(got.scale[~differs], expected.scale[~differs])
    same = ~differs.repeat_interleave(size, 1)[:, :k]
    assert torch.equal(got.codes[same], expected.codes[same])
    if not differs.any():
        assert torch.equal(made.words.cpu(), pack(expected.codes, config.formats[0].bits))
    return expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scale", [ONE, TWO], ids=["one level", "two levels"])
@pytest.mark.parametrize("formats", [BITMOD_FP3, BITMOD_FP4], ids=["bitmod3", "bitmod4"])
def test_codes_scales_and_selectors_equal_quantize_tensor(device, formats, scale, dtype):
    config = TensorConfig(formats, PerGroup(128), scale)
    weights = random_weights(3, 512, heavy=True).to(dtype)
    weights[1, :128] = 0
    made = quantize_packed(weights.to(device), config)
    expected = assert_equals_quantize_tensor(weights, config, made)
    assert len(expected.selector.unique()) >= 3  # the inputs exercise the choice


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_symmetric_integers_equal_quantize_tensor(device, bits, dtype):
    config = TensorConfig((INTS_SYMMETRIC[bits],), PerGroup(128), ONE)
    weights = random_weights(3, 256).to(dtype)
    made = quantize_packed(weights.to(device), config)
    assert made.selectors is None
    assert_equals_quantize_tensor(weights, config, made)


@pytest.mark.parametrize("scale", [ONE, TWO], ids=["one level", "two levels"])
@pytest.mark.parametrize(("n", "k"), [(2, 200), (2, 203), (1, 1), (1, 136), (3, 31)])
def test_ragged_rows(device, n, k, scale):
    config = TensorConfig(BITMOD_FP4, PerGroup(128), scale)
    weights = random_weights(n, k)
    assert_equals_quantize_tensor(weights, config, quantize_packed(weights.to(device), config))


@pytest.mark.parametrize("group_size", [32, 64])
def test_smaller_groups(device, group_size):
    for formats in (BITMOD_FP3, BITMOD_FP4):
        config = TensorConfig(formats, PerGroup(group_size), ONE)
        weights = random_weights(3, 192).to(torch.float16)
        assert_equals_quantize_tensor(weights, config, quantize_packed(weights.to(device), config))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("formats", [BITMOD_FP3, BITMOD_FP4, (INTS_SYMMETRIC[4],)], ids=["bitmod3", "bitmod4", "int4"])
def test_exact_midpoints_go_where_the_format_says(device, formats, dtype):
    # The largest magnitude is absmax * 2**-6, so the scale is 2**-6 exactly and every threshold a tie in all types.
    unit = 2.0**-6
    middles = {abs(float(m)) for fmt in formats for m in (fmt.levels[1:] + fmt.levels[:-1]) / 2}
    fine = {torch.float32: 2.0**-23, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}[dtype]
    weights = torch.zeros(1, 128 * len(formats))
    for i, fmt in enumerate(formats):
        ties = torch.tensor([sign * m for m in sorted(middles) if m < fmt.absmax for sign in (1, -1)]) * unit
        around = torch.cat([ties * (1 + sign * fine) for sign in (-1, 0, 1)])
        rest = fmt.maximum if isinstance(fmt, IntFormat) else fmt.values[fmt.special]
        basic = min(fmt.maximum, -fmt.minimum)
        weights[0, 128 * i : 128 * i + 128 : 2] = rest * unit  # without error for this candidate alone,
        weights[0, 128 * i + 1 : 128 * i + 128 : 2] = basic * unit  # so it is chosen
        weights[0, 128 * i] = (fmt.maximum if fmt.maximum == fmt.absmax else fmt.minimum) * unit
        weights[0, 128 * i + 1 : 128 * i + 1 + len(around)] = around
    weights = weights.to(dtype)
    config = TensorConfig(formats, PerGroup(128), ONE)
    made = quantize_packed(weights.to(device), config)
    expected = assert_equals_quantize_tensor(weights, config, made)
    assert (expected.scale == unit).all()
    assert expected.selector is None or expected.selector.tolist() == [[0, 1, 2, 3]]


def test_values_just_below_a_power_of_two_of_the_scale(device):
    # 8 and 4 less an ulp: here u + max(u, 1) * 2**22 would leave the binade (module docstring of quantize_bitmod).
    config = TensorConfig(BITMOD_FP4, PerGroup(128), TWO)
    weights = random_weights(2, 256)
    weights[:, 0] = 0.08
    for column, level in ((1, 8.0), (2, 4.0), (3, 2.0), (4, 1.0)):
        weights[:, column] = float(np.nextafter(np.float32(0.08 * level / 8), np.float32(0)))
    assert_equals_quantize_tensor(weights, config, quantize_packed(weights.to(device), config))


@pytest.mark.parametrize("magnitude", [1e-9, 1e-6, 3e4])
def test_small_and_large_magnitudes(device, magnitude):
    for scale in (ONE, TWO):
        config = TensorConfig(BITMOD_FP4, PerGroup(128), scale)
        weights = random_weights(2, 256) * (magnitude / 0.02)
        assert_equals_quantize_tensor(weights, config, quantize_packed(weights.to(device), config))


@pytest.mark.parametrize("formats", [BITMOD_FP3, BITMOD_FP4], ids=["bitmod3", "bitmod4"])
def test_scales_of_a_few_smallest_steps(device, formats):
    # 2**-19 is 8 * 4 * 2**-24: the widest candidate, four subnormal steps (quantize_packed says why not below)
    config = TensorConfig(formats, PerGroup(32), ONE)
    weights = random_weights(48, 32, seed=3)
    largest = 2.0**-19 * (1 + torch.rand(48, 1, generator=torch.Generator().manual_seed(4)))
    weights *= largest / weights.abs().amax(1, keepdim=True)
    expected = assert_equals_quantize_tensor(weights, config, quantize_packed(weights.to(device), config))
    assert expected.scale.min() < 6e-7 and len(expected.selector.unique()) == 4


def test_groups_of_zeros(device):
    for scale in (ONE, TWO):
        config = TensorConfig(BITMOD_FP4, PerGroup(128), scale)
        made = quantize_packed(torch.zeros(2, 256, device=device), config)
        assert not made.words.any() and not made.selectors.any()
        assert (made.scales == 1).all()  # FP16 1.0, or code 1
        assert_equals_quantize_tensor(torch.zeros(2, 256), config, made)


def test_every_output_is_written(device):
    for config, k in (
        (TensorConfig(BITMOD_FP3, PerGroup(128), TWO), 200),
        (TensorConfig(BITMOD_FP4, PerGroup(64)), 192),
    ):
        weights = random_weights(3, k).to(device)
        results = []
        for poison in (0x00, 0xFF):
            out = allocate((3, k), config, device)
            for array in (out.words, out.scales, out.selectors, out.outer_scales):
                if array is not None:
                    array.view(torch.uint8).fill_(poison)
            prepare(weights, out)()
            results.append(out)
        for name in ("words", "scales", "selectors", "outer_scales"):
            first, second = (getattr(out, name) for out in results)
            assert first is None or torch.equal(first.view(torch.uint8), second.view(torch.uint8)), name


def test_bytes_are_those_of_the_config(device):
    config = TensorConfig(BITMOD_FP4, PerGroup(128), TWO)
    made = quantize_packed(random_weights(4, 512).to(device), config)
    bits = config.storage_bits((4, 512))
    assert made.words.nbytes * 8 == bits.codes + bits.padding
    assert made.scales.nbytes * 8 == bits.scales and made.outer_scales.nbytes * 8 == bits.outer_scales


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 4e5])
def test_unusable_values_are_refused(device, bad):
    config = TensorConfig(BITMOD_FP4, PerGroup(128), ONE)
    weights = random_weights(2, 256)
    weights[1, 200] = bad
    with pytest.raises(ValueError, match="weights must be finite and of magnitude at most 393024"):
        quantize_packed(weights.to(device), config)
    unchecked = quantize_packed(weights.to(device), config, check=False)
    expected = quantize_tensor(random_weights(2, 256)[:1], config)
    assert torch.equal(unchecked.to_quantized_tensor().codes[:1].cpu(), expected.codes)  # other rows are unharmed


def test_an_empty_matrix(device):
    made = quantize_packed(torch.zeros(0, 256, device=device), TensorConfig(BITMOD_FP4, PerGroup(128), ONE))
    assert isinstance(made, PackedWeights) and made.words.shape == (0, 32)


def test_bad_tensors_are_refused(device):
    config = TensorConfig(BITMOD_FP4, PerGroup(128), ONE)
    with pytest.raises(TypeError, match="weights must be float32, float16 or bfloat16, not torch.float64"):
        quantize_packed(torch.zeros(2, 128, dtype=torch.float64, device=device), config)
    with pytest.raises(ValueError, match="weights must be a contiguous matrix"):
        quantize_packed(torch.zeros(128, 2, device=device).T, config)
    wide = TensorConfig(BITMOD_FP4, PerGroup(128), TWO)
    with pytest.raises(NotImplementedError, match="in_features must be at most 32768 for two-level scales"):
        quantize_packed(torch.zeros(1, 32768 + 8, device=device), wide)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TensorConfig((FP4,), PerGroup(128), ONE), "formats must be a BitMoD mixture or a symmetric or unsigned"),
        (TensorConfig(BITMOD_FP4, PerChannel(), ONE), "granularity must be groups along a row"),
        (TensorConfig(BITMOD_FP4, PerGroup(96), ONE), "group_size must be one of"),
        (TensorConfig(BITMOD_FP4, PerGroup(128), ScaleConfig(UINT8)), "scale must be fp16, or uint8 with fp16"),
        (
            TensorConfig(BITMOD_FP4, PerGroup(128), ONE, row_scale=FP16),
            "zero points of other formats, selectors of their own",
        ),
    ],
    ids=["format", "granularity", "group size", "scale", "extras"],
)
def test_encodings_without_a_kernel_are_named(config, message):
    with pytest.raises(NotImplementedError, match=message):
        quantize_packed(torch.zeros(2, 128), config)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("k", [4096, 4100, 11008])
@pytest.mark.parametrize("scale", [ONE, TWO], ids=["one level", "two levels"])
@pytest.mark.parametrize("formats", [BITMOD_FP3, BITMOD_FP4], ids=["bitmod3", "bitmod4"])
def test_large_matrices(device, formats, scale, k, dtype):
    config = TensorConfig(formats, PerGroup(128), scale)
    weights = random_weights(1000, k).to(dtype)
    assert_equals_quantize_tensor(weights, config, quantize_packed(weights.to(device), config))


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "k"), [(torch.float32, 32768), (torch.bfloat16, 65536), (torch.bfloat16, 53248)])
def test_the_widest_rows_of_two_levels(device, dtype, k):
    config = TensorConfig(BITMOD_FP4, PerGroup(128), TWO)
    weights = random_weights(20, k).to(dtype)
    assert_equals_quantize_tensor(weights, config, quantize_packed(weights.to(device), config))
