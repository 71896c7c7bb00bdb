"""Scales of absorbed projections by hand: rows that give to all inputs' places, beside rows that work as always."""

from dataclasses import replace

from datatypes.catalog import FP16, INTS_SYMMETRIC, UINT8, UINTS
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig, ScaleConfig, SecondLevel, TensorConfig
from hwmodel.absorbed_side import absorbed_operations
from hwmodel.operands import products_of
from hwmodel.options import HONEST
from hwmodel.presets import ACCELERATORS, BITMOD
from hwmodel.workload import LayerKind, LayerSpec

# DeepSeek-V3's up-projection for one of its heads: 128 rows of keys, absorbed, and 128 of values, over 512 latents
SPEC = LayerSpec("kv_b", LayerKind.LINEAR, 3, 512, 256, 2, absorbed=128)
INT4 = TensorConfig((INTS_SYMMETRIC[4],), PerGroup(128), ScaleConfig(FP16))
INPUTS, OUTPUTS = 3 * 128, 3 * 512


def _operations(spec: LayerSpec, weight: TensorConfig, machine: str = "bitmod") -> int:
    accelerator = ACCELERATORS[machine]
    (product,) = products_of(spec, LayerConfig(weight=weight), accelerator, accelerator.prefill_array, HONEST)
    return product.vector_operations


def test_group_scales_go_into_the_inputs() -> None:
    assert absorbed_operations(SPEC, INT4, None, 512) == INPUTS * 4
    assert absorbed_operations(SPEC, replace(INT4, granularity=PerChannel()), None, 512) == INPUTS
    assert absorbed_operations(replace(SPEC, absorbed=0), INT4, None, 512) == 0


def test_pes_that_scale_groups_do_so_only_along_their_sum() -> None:
    # two heads; the values' rows are free on a bit-serial PE, and one operation for each output and group elsewhere
    assert _operations(SPEC, INT4) == 2 * INPUTS * 4
    assert _operations(SPEC, INT4, "table_lookup") - _operations(replace(SPEC, n=128, absorbed=0), INT4,
                                                                 "table_lookup") == 2 * INPUTS * 4  # fmt: skip
    assert _operations(replace(SPEC, absorbed=0), INT4) == 0
    assert BITMOD.name == "bitmod"


def test_zero_points_and_second_levels() -> None:
    zero = replace(INT4, formats=(UINTS[4],), zero_point=UINTS[4])
    # scales; the sum of inputs times zero points; subtracted from each output
    assert absorbed_operations(SPEC, zero, None, 512) == INPUTS * 4 + INPUTS * 4 + OUTPUTS
    nested = replace(INT4, scale=ScaleConfig(UINT8, outer=FP16))  # one second-level scale a row
    assert absorbed_operations(SPEC, nested, None, 512) == INPUTS * 4 + INPUTS
    offset = replace(INT4, scale=ScaleConfig(UINT8, outer=FP16, outer_offset=FP16))
    assert absorbed_operations(SPEC, offset, None, 512) == INPUTS * 4 + 128 * 4
    level = replace(zero, zero_point_level=SecondLevel())
    assert absorbed_operations(SPEC, level, None, 512) - absorbed_operations(SPEC, zero, None, 512) == 128 * 4


def test_groups_of_encoded_inputs_lie_along_the_rows() -> None:
    eight = TensorConfig((INTS_SYMMETRIC[8],), PerGroup(32), dynamic=True)
    plain = absorbed_operations(SPEC, INT4, None, 512)
    assert absorbed_operations(SPEC, INT4, eight, 512) - plain == OUTPUTS * 4  # 128 inputs in groups of 32
    assert absorbed_operations(SPEC, INT4, replace(eight, granularity=PerChannel()), 512) == plain
