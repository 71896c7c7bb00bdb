"""Value tables against published ones, and quantization errors against independently measured ones."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from datatypes.block_formats import BITMOD3_G128, BITMOD4_G128, integer_asymmetric
from datatypes.catalog import (
    AF4,
    ALIASES,
    ANT4_WEIGHT,
    BITMOD_FP3,
    BITMOD_FP4,
    BNB_FP4,
    E3M0_NO_SUBNORMAL,
    FLINT3,
    FLINT4,
    FLINT4_UNSIGNED,
    FLINT5,
    FORMATS,
    FP3,
    FP4,
    FP32,
    MINIFLOATS,
    MIXTURES,
    NF3,
    NF4,
    OLIVE4_FLINT,
    OLIVE4_INT,
    POT4,
    bitmod,
    flint_magnitudes,
    format_by_name,
    formats_by_name,
    normal_float,
)
from datatypes.format import Format
from datatypes.granularity import PerGroup
from datatypes.layer_config import ScaleConfig, ScaleRule, TensorConfig
from datatypes.quantize import quantize_tensor

DATA = Path(__file__).parent / "data"


def rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open() as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


GRID_FORMATS: dict[str, Format] = {
    "INT3 sym": FORMATS["int3_sym"],
    "FP3": FP3,
    "FP3-ER+": BITMOD_FP3[0],
    "FP3-ER-": BITMOD_FP3[1],
    "FP3-EA+": BITMOD_FP3[2],
    "FP3-EA-": BITMOD_FP3[3],
    "INT4 sym": FORMATS["int4_sym"],
    "FP4-E2M1": FP4,
    "FP4-ER+": BITMOD_FP4[0],
    "FP4-ER-": BITMOD_FP4[1],
    "FP4-EA+": BITMOD_FP4[2],
    "FP4-EA-": BITMOD_FP4[3],
    "FLINT4 (ANT)": FLINT4,
    "INT5 sym": FORMATS["int5_sym"],
    "INT6 sym": FORMATS["int6_sym"],
    "FP5-E2M2 (x4)": MINIFLOATS["e2m2"],
}


def test_all_published_grids_are_compared():
    assert {row["datatype"] for row in rows("bitmod_grids.csv")} == set(GRID_FORMATS)


@pytest.mark.parametrize("row", rows("bitmod_grids.csv"), ids=lambda row: row["datatype"])
def test_grids_are_those_of_the_bitmod_paper(row):
    fmt = GRID_FORMATS[row["datatype"]]
    factor = 4.0 if "(x4)" in row["datatype"] else 1.0
    np.testing.assert_array_equal(fmt.levels * factor, [float(v) for v in row["values"].split()])
    assert (fmt.bits, len(fmt.levels), fmt.absmax * factor) == (
        int(row["bits"]),
        int(row["levels"]),
        float(row["abs_max"]),
    )


def test_bitmod_puts_its_special_value_where_negative_zero_would_be():
    assert [fmt.code_values[0b1000] for fmt in BITMOD_FP4] == [5.0, -5.0, 8.0, -8.0]
    assert [fmt.code_values[0b100] for fmt in BITMOD_FP3] == [3.0, -3.0, 6.0, -6.0]
    np.testing.assert_array_equal(np.delete(BITMOD_FP4[0].code_values, 8), np.delete(FP4.code_values, 8))
    with pytest.raises(ValueError, match="bits of a BitMoD format must be 3 or 4, not 5"):
        bitmod(5, 3.0)


# Student's t has heavy tails: the scale of a group follows its largest weight, so groups are many
@pytest.fixture(scope="module")
def samples() -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(2025)
    groups = 1 << 15
    t5 = rng.standard_t(5, (groups, 128)).astype(np.float32)
    return {"gauss": torch.from_numpy(rng.standard_normal((groups, 128), dtype=np.float32)), "t5": torch.from_numpy(t5)}


def _real_scales(formats: tuple[Format, ...]) -> TensorConfig:
    return TensorConfig(formats, PerGroup(128), ScaleConfig(FP32))


def _asymmetric(bits: int) -> TensorConfig:
    stored = integer_asymmetric(bits, 128)
    return TensorConfig(
        stored.formats, stored.granularity, ScaleConfig(FP32, ScaleRule.RANGE), zero_point=stored.zero_point
    )


QUANTIZERS: dict[str, TensorConfig] = {
    "int3_sym": _real_scales((FORMATS["int3_sym"],)),
    "int3_asym": _asymmetric(3),
    "fp3": _real_scales((FP3,)),
    "fp3_er": _real_scales(MIXTURES["fp3_er"]),
    "fp3_ea": _real_scales(MIXTURES["fp3_ea"]),
    "bitmod3": _real_scales(BITMOD_FP3),
    "bitmod3_int8scale": BITMOD3_G128,
    "int4_sym": _real_scales((FORMATS["int4_sym"],)),
    "int4_asym": _asymmetric(4),
    "fp4": _real_scales((FP4,)),
    "flint4": _real_scales((FLINT4,)),
    "fp4_er": _real_scales(MIXTURES["fp4_er"]),
    "fp4_ea": _real_scales(MIXTURES["fp4_ea"]),
    "bitmod4": _real_scales(BITMOD_FP4),
    "bitmod4_int8scale": BITMOD4_G128,
}
VARIANCE = {"gauss": 1.0, "t5": 5 / 3}  # of the distributions themselves: nu / (nu - 2)


@pytest.mark.parametrize(
    "row", rows("bitmod_quant_mse.csv"), ids=lambda row: f"{row['distribution']}-{row['quantizer']}"
)
def test_quantization_errors_are_those_measured_independently(row, samples):
    x = samples[row["distribution"]]
    # one channel of 32 groups a row, as a weight has: the 8-bit second level is shared by them
    matrix = x.reshape(-1, 32 * 128)
    decoded = quantize_tensor(matrix, QUANTIZERS[row["quantizer"]]).dequantize()
    of_groups = (decoded - matrix).square().reshape(-1, 128).mean(1).double() / VARIANCE[row["distribution"]]
    # the published figure is itself a mean over 8192 groups: three of its standard errors, or 2 % where that is less
    sampling = 3 * float(of_groups.std()) / 8192**0.5
    expected = float(row["nmse (mse/var, group 128, 8192 groups)"])
    assert float(of_groups.mean()) == pytest.approx(expected, rel=0.02, abs=sampling)


def test_bitmod_prefers_er_and_ea_as_often_as_published(samples):
    for bits, config, expected in ((3, BITMOD_FP3, 0.15), (4, BITMOD_FP4, 0.75)):  # share of ER on Gaussian groups
        selector = quantize_tensor(samples["gauss"], _real_scales(config)).selector
        assert selector is not None
        assert float((selector < 2).float().mean()) == pytest.approx(expected, abs=0.01), bits


def test_flint_follows_its_decoding_rule():
    # ANT: unsigned 4-bit values, and the tops of the wider ones
    assert sorted(FLINT4_UNSIGNED.values) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 24, 32, 64]
    assert sorted(flint_magnitudes(3)) == [0, 1, 2, 3, 4, 6, 8, 16]
    assert (max(flint_magnitudes(5)), max(flint_magnitudes(6))) == (256, 1024)
    assert FLINT4.levels.tolist() == [-16, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 16]
    assert sorted(set(np.abs(FLINT5.levels))) == sorted(FLINT4_UNSIGNED.values)
    assert FLINT3.levels.tolist() == [-4, -2, -1, 0, 1, 2, 4]
    # b3 = 1: leading zeros of b2 b1 b0 are the exponent. 1000 -> 64, 1001 -> 32, 101x -> 16, 24, 11xx -> 8 to 14
    assert [FLINT4_UNSIGNED.code_values[c] for c in (0b1000, 0b1001, 0b1010, 0b1011, 0b1100, 0b1111)] == [
        64, 32, 16, 24, 8, 14,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="bits of a flint must be at least 2"):
        flint_magnitudes(1)


def test_power_of_two_and_the_types_of_ant():
    assert POT4.levels.tolist() == [-64, -32, -16, -8, -4, -2, -1, 0, 1, 2, 4, 8, 16, 32, 64]
    assert {fmt.minimum for fmt in ANT4_WEIGHT} == {-8.0, -64.0, -16.0}  # ANT's int4 uses -8


def test_e3m0_spans_a_quarter_to_sixteen():
    positive = [2.0**e for e in range(-2, 5)]
    assert E3M0_NO_SUBNORMAL.levels[8:].tolist() == positive
    assert MINIFLOATS["e3m0"].levels[8:].tolist() == positive


def test_olive_nibbles():
    assert sorted(set(np.abs(OLIVE4_INT.outlier.levels))) == [12, 16, 24, 32, 48, 64, 96]
    assert sorted(set(np.abs(OLIVE4_FLINT.outlier.levels))) == [24, 32, 48, 64, 96, 128, 192]
    assert OLIVE4_INT.normal.levels.tolist() == list(range(-7, 8))
    np.testing.assert_array_equal(OLIVE4_FLINT.normal.levels, FLINT4.levels)


def test_normal_float_levels_are_those_published():
    # QLoRA's levels to four places
    four_places = "-1 -.6962 -.5251 -.3949 -.2844 -.1848 -.0911 0 .0796 .1609 .2461 .3379 .4407 .5626 .7230 1"
    np.testing.assert_allclose(NF4.levels, [float(v) for v in four_places.split()], atol=5.1e-5)
    np.testing.assert_allclose(normal_float(4), NF4.levels, atol=2e-5)  # the construction gives the table
    assert len(NF3.levels) == 8 and NF3.minimum == -1 and NF3.maximum == 1 and 0.0 in NF3.levels


def test_abnormal_float_levels_are_those_published():
    four_places = "-1 -.6944 -.5124 -.3737 -.2561 -.1498 -.0493 0 .0427 .1293 .2196 .3168 .4256 .5550 .7242 1"
    np.testing.assert_allclose(AF4.levels, [float(v) for v in four_places.split()], atol=5.1e-5)


def test_bitsandbytes_fp4_is_not_e2m1():
    magnitudes = np.array([0, 0.0625, 2, 3, 4, 6, 8, 12]) / 12
    np.testing.assert_allclose(sorted(set(np.abs(BNB_FP4.levels))), magnitudes, rtol=1e-7)


def test_names_are_found_and_near_misses_are_named():
    assert all(format_by_name(name) is fmt for name, fmt in FORMATS.items())
    assert all(format_by_name(alias) is FORMATS[name] for alias, name in ALIASES.items())
    assert formats_by_name("bitmod_fp4") == BITMOD_FP4 and formats_by_name("nf4") == (NF4,)
    with pytest.raises(ValueError, match=r"not 'nf5'; nearest: .*nf4"):
        format_by_name("nf5")
    for name, said in (("INT4", "nearest: int4, "), ("MXFP4", "nearest: mxfp4")):
        with pytest.raises(ValueError, match=f"not '{name}'; {said}"):
            format_by_name(name)
    with pytest.raises(ValueError, match=r"not 'bitmod_fp5'; nearest: .*bitmod_fp4"):
        formats_by_name("bitmod_fp5")


def test_every_format_names_its_source():
    assert all(fmt.source for fmt in FORMATS.values())
    assert len({fmt.name for fmt in FORMATS.values()}) == len(FORMATS)
