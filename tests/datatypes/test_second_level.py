"""Second levels of scales and zero points: against the definitions in plain arithmetic, and through files and back."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from datatypes.block_formats import BLOCK_FORMATS, bilevel, double_quantized
from datatypes.catalog import BITMOD_FP4, DYNAMIC8, FP4, FP16, FP32, INTS, NF4, UE4M3, UINT8, UINTS, minifloat
from datatypes.config_json import config_from_dict, config_to_dict
from datatypes.granularity import PerBlock, PerChannel, PerGroup, PerTensor
from datatypes.layer_config import (
    LayerConfig,
    OutlierConfig,
    OutlierLayout,
    ScaleConfig,
    ScaleRule,
    SecondLevel,
    TensorConfig,
)
from datatypes.layer_packing import pack_layer, unpack_layer
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import Outliers, QuantizedLayer

TILES = PerBlock(4, 32)
REAL_OFFSETS = TensorConfig(
    (UINTS[4],),
    PerGroup(16),
    ScaleConfig(UINT8, ScaleRule.RANGE, FP16, TILES, outer_offset=FP32, outer_offset_granularity=PerTensor()),
    zero_point=minifloat(4, 3),
    zero_point_level=SecondLevel(FP16, PerChannel(), FP16, PerTensor()),
)
CONFIGS = {
    "double quantization": double_quantized((NF4,)),
    "of a mixture": double_quantized(BITMOD_FP4, 32, 8),
    "bilevel 3": bilevel(3),
    "bilevel 4": bilevel(4),
    "signed scales": TensorConfig((FP4,), PerGroup(8), ScaleConfig(INTS[8], outer=FP16, outer_offset=FP16)),
    "float scales": TensorConfig((FP4,), PerGroup(8), ScaleConfig(FP16, outer=FP32, outer_offset=FP32)),
    "zero points alone": TensorConfig(
        (UINTS[4],),
        PerGroup(16),
        ScaleConfig(FP16, ScaleRule.RANGE),
        zero_point=INTS[8],
        zero_point_level=SecondLevel(),
    ),
    "real offsets": REAL_OFFSETS,
}
NAMES = pytest.mark.parametrize("name", CONFIGS)


def matrix(shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.05


# --- what is counted is what is written -----------------------------------------------------------------------------


@NAMES
@pytest.mark.parametrize("shape", [(32, 256), (5, 101), (1, 1)], ids=str)
def test_bytes_are_counted_and_come_back(name, shape):
    config = CONFIGS[name]
    layer = QuantizedLayer(LayerConfig(config), quantize_tensor(matrix(shape), config), shape)
    arrays = pack_layer(layer)
    assert sum(a.numel() * a.element_size() for a in arrays.values()) * 8 == layer.config.storage_bits(shape).total
    back = unpack_layer(arrays, layer.config, shape)
    assert torch.equal(back.dequantize_weight(), layer.dequantize_weight())
    assert torch.isfinite(layer.dequantize_weight()).all()


@NAMES
def test_configs_survive_json(name):
    config = LayerConfig(CONFIGS[name], key=replace(CONFIGS[name], dynamic=True))
    assert config_from_dict(config_to_dict(config)) == config


def test_json_written_before_there_were_offsets_reads_as_it_did():
    old = {"format": "uint8", "rule": "absmax", "outer": "fp16", "outer_granularity": "per_channel"}
    weight = {"formats": "fp4", "granularity": {"kind": "per_group", "group_size": 128}, "scale": old}
    assert config_from_dict({"weight": weight}).weight == TensorConfig(
        (FP4,), PerGroup(128), ScaleConfig(UINT8, outer=FP16)
    )
    new = config_to_dict(LayerConfig(bilevel(3)))["weight"]
    tiles = {"kind": "per_block", "rows": 16, "columns": 16}
    assert new["zero_point_level"] == {"granularity": tiles, "offset": "fp16", "rule": "range"}
    assert new["scale"]["outer_offset"] == "fp16" and new["scale"]["outer_rule"] == "range"


def test_bits_of_spqr():
    # reference sheet, SpQR, item 3: b + (b_s + b_z) / 16 + 64 / (16 * 16) + 32 rho: 4.625 and 3.625 without outliers
    shape = (4096, 4096)
    for bits, expected in ((4, 4.625), (3, 3.625)):
        counted = bilevel(bits).storage_bits(shape)
        assert counted.bits_per_weight(shape) == expected
        assert counted.outer_scales + counted.outer_offsets == 64 * (4096 // 16) ** 2
    rho = 0.01
    outliers = OutlierConfig(OutlierLayout.CSR, rho)
    layer = LayerConfig(bilevel(4), outliers=outliers).storage_bits(shape)
    pointers = 32 * 4097  # CSR row pointers, which the paper's 32 bits for each outlier leave out
    assert (layer.total - pointers) / 4096**2 == pytest.approx(4.625 + 32 * rho, abs=64 / 4096**2)


def test_bits_of_double_quantization():
    # QLoRA, section 3: 8 / 64 + 32 / (64 * 256) = 0.127 bits for each weight instead of 32 / 64; one offset of 32 bits
    shape = (4096, 4096)
    counted = double_quantized((NF4,)).storage_bits(shape)
    assert counted.scales + counted.outer_scales == (8 / 64 + 32 / (64 * 256)) * 4096**2
    assert counted.outer_offsets == 32
    assert round(counted.bits_per_weight(shape), 3) == 4.127
    assert BLOCK_FORMATS["nf4_g64_fp32"].storage_bits(shape).bits_per_weight(shape) == 4.5


def test_bits_that_move_with_an_activation():
    config = replace(bilevel(4), dynamic=True)
    shape = (32, 64)  # 128 groups of two 3-bit fields, 8 tiles of 64 bits
    assert config.dynamic_bits(shape) == 128 * 6 + 8 * 64
    assert config.traffic_bits(shape) == 32 * 64 * 4 + 128 * 6 + 8 * 64


# --- against the definitions, in double precision ---------------------------------------------------------------------


def levels_of_spqr(values: np.ndarray, rows: int, top: int) -> np.ndarray:
    """Numbers ``[n, g]`` through min-max codes 0 to ``top`` over ``rows`` rows, scale and zero unrounded."""
    made = np.empty_like(values)
    for start in range(0, len(values), rows):
        part = values[start : start + rows]
        low, scale = part.min(0), (part.max(0) - part.min(0)) / top
        made[start : start + rows] = np.clip(np.rint((part - low) / scale), 0, top) * scale + low
    return made


@pytest.mark.parametrize("bits", [3, 4])
def test_bilevel_is_spqrs_definition(bits):
    shape, top = (48, 64), 2**bits - 1
    x = matrix(shape)
    config = bilevel(bits)
    wide = replace(  # FP32 for the second level, so that only the definition counts
        config,
        scale=replace(config.scale, outer=FP32, outer_offset=FP32),
        zero_point_level=SecondLevel(FP32, PerBlock(16, 16), FP32, rule=ScaleRule.RANGE),
    )
    made = quantize_tensor(x, wide)
    groups = x.double().numpy().reshape(48, 4, 16)
    low, high = groups.min(2), groups.max(2)
    first = (high - low) / top
    scale, zero = levels_of_spqr(first, 16, 7), levels_of_spqr(-low / first, 16, 7)
    assert np.allclose(made.effective_scale().numpy(), scale, rtol=1e-5)
    assert np.allclose(made.effective_zero_point().numpy(), zero, rtol=1e-5)
    codes = np.clip(np.rint(groups / scale[..., None] + zero[..., None]), 0, top)
    decoded = ((codes - zero[..., None]) * scale[..., None]).reshape(shape)
    differ = made.codes.numpy() != codes.reshape(shape)
    assert differ.mean() < 1e-3  # float32 against double: only ties
    assert np.allclose(made.dequantize().numpy()[~differ], decoded[~differ], atol=1e-6)
    # FP16 moves a second level by 2**-11 of itself, so codes of scales hardly move
    stored = quantize_tensor(x, config)
    assert (stored.scale != made.scale).float().mean() < 0.05
    assert stored.outer_scale.dtype == stored.zero_point_offset.dtype == torch.float16
    assert stored.outer_offset.shape == stored.zero_point_scale.shape == (3, 4)


def test_decoding_is_one_multiplication_and_one_addition():
    shape = (32, 64)
    made = quantize_tensor(matrix(shape), CONFIGS["real offsets"])
    f32 = np.float32
    scale = made.scale.numpy().astype(f32) * np.repeat(np.repeat(made.outer_scale.numpy().astype(f32), 4, 0), 2, 1)
    scale = scale + made.outer_offset.numpy()
    zero = REAL_OFFSETS.zero_point.decode(made.zero_point.numpy()) * made.zero_point_scale.numpy().astype(f32)
    zero = zero + made.zero_point_offset.numpy().astype(f32)
    codes = made.codes.numpy().astype(f32)
    decoded = codes * np.repeat(scale, 16, 1) + np.repeat(zero, 16, 1)
    assert np.array_equal(made.dequantize().numpy(), decoded)


@pytest.mark.parametrize("columns", [64, 1024, 16384])
def test_double_quantization_is_its_definition(columns):
    # tiles of 256 consecutive scales where that many lie in whole rows: bitsandbytes' own
    shape = (2 * 256 * 64 // columns * (2 if columns == 64 else 1), columns)
    x = matrix(shape, columns)
    config = double_quantized((NF4,))
    config = replace(config, scale=replace(config.scale, outer_granularity=PerBlock(256 * 64 // columns, columns)))
    made = quantize_tensor(x, config)
    absmax = x.reshape(-1, 64).abs().amax(1).double().numpy()
    mean = absmax.mean()
    rest = (absmax - mean).reshape(-1, 256)
    outer = np.abs(rest).max(1, keepdims=True)
    assert made.outer_offset.shape == (1, 1) and made.outer_offset.item() == pytest.approx(mean, rel=1e-6)
    assert np.allclose(made.outer_scale.numpy().ravel(), outer.ravel(), rtol=1e-5)
    nearest = np.abs((rest / outer)[..., None] - DYNAMIC8.levels).argmin(2).ravel()
    codes = made.scale.numpy().ravel()
    assert (codes != nearest).mean() < 0.01 and np.abs(codes.astype(int) - nearest).max() <= 1
    expected = DYNAMIC8.levels[codes] * np.repeat(outer.ravel(), 256) + mean
    assert np.allclose(made.effective_scale().numpy().ravel(), expected, rtol=1e-4)


def test_double_quantization_agrees_with_bitsandbytes():
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    functional = bitsandbytes.functional
    table = functional.create_dynamic_map(signed=True).numpy()
    ours = DYNAMIC8.code_values.astype(np.float32)
    assert np.abs(ours.view(np.int32) - table.view(np.int32)).max() <= 1  # one unit in the last place
    x = matrix((64, 1024))
    config = double_quantized((NF4,))
    tiles = PerBlock(16, 1024)
    made = quantize_tensor(x, replace(config, scale=replace(config.scale, outer_granularity=tiles)))
    _, state = functional.quantize_4bit(x, blocksize=64, compress_statistics=True, quant_type="nf4")
    assert state.offset.item() == pytest.approx(made.outer_offset.item(), rel=1e-6)
    assert torch.allclose(state.state2.absmax, made.outer_scale.flatten(), rtol=1e-5)
    differ = state.absmax.flatten().int() - made.scale.flatten().int()
    assert differ.abs().max() <= 1 and differ.count_nonzero() <= 0.01 * len(differ)
    theirs = functional.dequantize_blockwise(state.absmax, state.state2) + state.offset
    same = differ == 0
    assert torch.allclose(theirs.flatten()[same], made.effective_scale().flatten()[same], rtol=1e-5)


# --- scales stay above zero, errors stay small ------------------------------------------------------------------------


@NAMES
def test_errors_stay_within_half_a_step(name):
    """An element inside its tile's range decodes to within half of the widest step of the tile's own scale."""
    config, shape = CONFIGS[name], (32, 128)
    x = matrix(shape)
    made = quantize_tensor(x, config)
    scale = made.effective_scale().repeat_interleave(config.granularity.tile(shape)[1], 1)
    if made.zero_point is None:
        inside = x.abs() < scale * min(min(fmt.maximum, -fmt.minimum) for fmt in config.formats)
    else:  # the outermost codes stand for everything beyond them
        inside = (made.codes > 0) & (made.codes < (1 << config.formats[0].bits) - 1)
    step = scale * max(float(np.diff(fmt.levels).max()) for fmt in config.formats)
    error = (made.dequantize() - x).abs()
    assert (scale > 0).all() and inside.float().mean() > 0.5
    assert (error <= step / 2 + 2**-22)[inside].all()  # values below 1/2: a few roundings of 2**-25 each


@NAMES
def test_empty_tiles_and_constant_ones(name):
    config, shape = CONFIGS[name], (32, 128)
    x = matrix(shape)
    x[3] = 0.0
    x[16:, :64] = 0.0
    x[7] = 0.25
    for tensor in (x, torch.zeros(shape)):
        made = quantize_tensor(tensor, config)
        assert (made.effective_scale() > 0).all()
        decoded = made.dequantize()
        assert torch.isfinite(decoded).all()
        if made.zero_point is None:
            assert (decoded[tensor == 0] == 0).all()


def test_a_scale_that_would_vanish_takes_the_next_code():
    # one row of tiny values among large ones: mean - |lowest code| * outer would be below zero
    config = TensorConfig(
        (FP4,), PerGroup(8), ScaleConfig(INTS[2], outer=FP16, outer_granularity=PerTensor(), outer_offset=FP16)
    )
    x = torch.ones(4, 8)
    x[3] = 0.0
    made = quantize_tensor(
        x * 6, config
    )  # scales 1, 1, 1, 0: mean 0.75, outer 0.75 / 1 = 0.75; -0.75 / 0.75 -> code -1: 0
    assert made.outer_offset.item() == 0.75 and made.outer_scale.item() == 0.75
    assert made.scale.flatten().tolist() == [0, 0, 0, 0]  # 0.25 / 0.75 -> 0; code -1 would decode to 0 and moves up
    assert made.effective_scale().flatten().tolist() == [0.75] * 4


def test_a_clip_search_with_second_levels_does_not_hurt():
    x = matrix((64, 256))
    for config in (bilevel(3), double_quantized((FP4,))):
        plain = quantize_tensor(x, config).dequantize()
        searched = quantize_tensor(x, config, clip=(1.0, 0.9, 0.8, 0.7)).dequantize()
        assert (searched - x).square().sum() < (plain - x).square().sum()


def test_one_level_is_untouched_by_an_offset_of_nothing():
    """With all scales equal the mean is the scale itself, so both encodings decode alike."""
    x = torch.where(matrix((16, 128)) > 0, 1.0, -1.0)
    one = TensorConfig((NF4,), PerGroup(64), ScaleConfig(FP32))
    assert torch.equal(quantize_tensor(x, double_quantized((NF4,))).dequantize(), quantize_tensor(x, one).dequantize())


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScaleConfig(outer_offset=FP16), "outer must be given where there is an outer_offset"),
        (lambda: ScaleConfig(UINT8, outer=FP16, outer_rule=ScaleRule.RANGE), "offset of a second level must be given"),
        (lambda: SecondLevel(offset_granularity=PerTensor()), "offset of a second level must be given"),
        (lambda: SecondLevel(offset=UINT8), "offset of a second level must be a float with a sign, not uint8"),
        (lambda: SecondLevel(offset=UE4M3), "a float with a sign, not ue4m3"),
        (
            lambda: SecondLevel(offset=FP16, offset_granularity=PerTensor(), rule=ScaleRule.RANGE),
            "offsets of rule range must have the tiles of their scales",
        ),
        (lambda: TensorConfig((FP4,), zero_point_level=SecondLevel()), "zero_point must be given"),
    ],
)
def test_configs_that_mean_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_rules_without_a_second_level_are_refused():
    with pytest.raises(NotImplementedError, match="rule of a second level must be absmax or range, not 'norm'"):
        SecondLevel(rule=ScaleRule.NORM)


def test_tiles_that_cut_tiles_are_refused():
    config = TensorConfig((FP4,), PerGroup(64), ScaleConfig(DYNAMIC8, outer=FP32, outer_granularity=PerGroup(96)))
    with pytest.raises(ValueError, match="must be made of whole tiles"):
        quantize_tensor(matrix((4, 192)), config)


def test_outliers_beside_bilevel_codes():
    """SpQR whole: dense bilevel codes and CSR outliers, counted and back."""
    shape = (32, 64)
    outliers = OutlierConfig(OutlierLayout.CSR, 3 / (32 * 64))
    pointers = torch.cat([torch.zeros(31, dtype=torch.int64), torch.tensor([2, 3])])
    kept = Outliers(torch.tensor([1.0, -2.0, 3.0]).half(), torch.tensor([5, 9, 0]), pointers)
    config = LayerConfig(bilevel(4), outliers=outliers)
    layer = QuantizedLayer(config, quantize_tensor(matrix(shape), bilevel(4)), shape, outliers=kept)
    arrays = pack_layer(layer)
    assert sum(a.numel() * a.element_size() for a in arrays.values()) * 8 == config.storage_bits(shape).total
    back = unpack_layer(arrays, config, shape).dequantize_weight()
    assert torch.equal(back, layer.dequantize_weight()) and back[31, 0] == 3.0 and back[30, 9] == -2.0
