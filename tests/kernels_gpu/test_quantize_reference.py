"""The numpy reference of the device quantizers: against ``quantize_tensor``, and its table against exact rounding."""

import numpy as np
import pytest
import torch

from datatypes.catalog import BITMOD_FP3, BITMOD_FP4, FP16, INTS_SYMMETRIC, UINT8, UINTS
from datatypes.granularity import PerGroup
from datatypes.layer_config import ScaleConfig, ScaleRule, TensorConfig
from datatypes.quantize import quantize_tensor
from kernels_gpu.quantize_reference import GRIDS, TABLE_ROW, TABLE_ZERO, code_table, quantize_reference

ONE, TWO = ScaleConfig(FP16), ScaleConfig(UINT8, outer=FP16)


@pytest.mark.parametrize("scale", [ONE, TWO], ids=["one level", "two levels"])
@pytest.mark.parametrize("formats", [BITMOD_FP3, BITMOD_FP4, (INTS_SYMMETRIC[4],)], ids=["bitmod3", "bitmod4", "int4"])
def test_reference_equals_quantize_tensor(formats, scale):
    config = TensorConfig(formats, PerGroup(128), scale)
    weights = torch.randn(20, 300, generator=torch.Generator().manual_seed(1)) * 0.02
    weights[3] = 0
    made, expected = quantize_reference(weights.numpy(), config), quantize_tensor(weights, config)
    assert np.array_equal(made.codes, expected.codes.numpy())
    assert np.array_equal(made.scales, expected.scale.numpy())
    if len(formats) > 1:
        assert np.array_equal(made.selectors, expected.selector.numpy())
    if scale is TWO:
        assert np.array_equal(made.outer_scales, expected.outer_scale.numpy()[:, 0])


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_reference_with_zero_points_equals_quantize_tensor(bits):
    fmt = UINTS[bits]
    config = TensorConfig((fmt,), PerGroup(128), ScaleConfig(FP16, rule=ScaleRule.RANGE), zero_point=fmt)
    weights = torch.randn(20, 300, generator=torch.Generator().manual_seed(1)) * 0.02
    weights[3], weights[4], weights[5] = 0, weights[4].abs() + 1, -weights[5].abs() - 1
    made, expected = quantize_reference(weights.numpy(), config), quantize_tensor(weights, config)
    assert np.array_equal(made.codes, expected.codes.numpy())
    assert np.array_equal(made.scales, expected.scale.numpy())
    assert np.array_equal(made.zero_points, expected.zero_point.numpy())


@pytest.mark.parametrize("formats", [BITMOD_FP3, BITMOD_FP4], ids=["bitmod3", "bitmod4"])
def test_table_entry_holds_for_all_quotients_up_to_its_own(formats):
    step = GRIDS[formats[0].bits].step
    rows = code_table(TensorConfig(formats, PerGroup(128), ONE)).reshape(len(formats), TABLE_ROW)
    for row, fmt in zip(rows, formats, strict=True):
        for i in range(-40, 41):  # quotients up to 10 or 20 in magnitude: beyond the largest level on both sides
            for quotient in (i * step, (i - 0.5) * step, (i - 1) * step + 2.0**-20):
                assert row[TABLE_ZERO + i] == fmt.encode_scalar(quotient), (fmt.name, quotient)


@pytest.mark.parametrize("bits", [3, 4])
def test_table_of_integers_is_their_codes(bits):
    row = code_table(TensorConfig((INTS_SYMMETRIC[bits],), PerGroup(128), ONE))
    largest = 2 ** (bits - 1) - 1
    for q in range(-largest, largest + 1):
        assert row[TABLE_ZERO + q] == q % 2**bits  # two's complement


@pytest.mark.parametrize(("formats", "bits"), [(BITMOD_FP3, 3), (BITMOD_FP4, 4)], ids=["bitmod3", "bitmod4"])
def test_error_formulas_of_the_kernel_hold_for_every_candidate(formats, bits):
    # What the kernel adds up: with u = |x| / scale, d the distance to the basic grid, g_er = max(0, 1/2 - |u - c|) and
    # g_ea = max(0, (u - edge) / 2), the squared error is d^2 - 2 g_er and d^2 - 8 g_ea on the special value's side
    # (4 bits: d to the grid that goes on at 8, and 8 g_ea more on the other side).
    grid = GRIDS[bits]
    basic = np.unique(np.abs([v for v in formats[0].levels if v != formats[0].values[formats[0].special]]))
    for fmt in formats:
        special = fmt.values[fmt.special]
        enhanced = abs(special) > grid.largest  # EA
        for u in np.linspace(0, fmt.absmax, 1601):
            for sign in (1.0, -1.0):
                exact = np.square(sign * u - fmt.levels).min()
                levels = np.append(basic, 8.0) if enhanced and grid.penalty else basic
                error = np.square(u - levels).min()
                favoured = sign * special > 0
                if not enhanced:
                    error -= 2 * max(0.0, 0.5 - abs(u - grid.centre)) * favoured
                elif grid.penalty:
                    error += 8 * max(0.0, (u - grid.edge) / 2) * (not favoured)
                else:
                    error -= 8 * max(0.0, (u - grid.edge) / 2) * favoured
                assert error == pytest.approx(exact, abs=1e-12)
