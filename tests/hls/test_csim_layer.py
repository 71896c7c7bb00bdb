"""Generated layers compiled with g++ give the golden reference's outputs, bit for bit.

One program holds many layers, each with its own format, shape, groups and lanes: a few always, the rest under ``slow``.
Needs ``ap_int.h`` (extra ``hls``) and g++.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datatypes.catalog import (
    ANT4_WEIGHT,
    BF16,
    BITMOD_FP3,
    BITMOD_FP4,
    E2M3,
    E3M2,
    E4M3,
    E5M2,
    E8M0,
    FLINT4,
    FP4,
    FP16,
    FP32,
    INTS,
    INTS_SYMMETRIC,
    MINIFLOATS,
    MX_INT8,
    NF4,
    OLIVE4_FLINT,
    OLIVE4_INT,
    POT4,
    TERNARY,
    UE4M3,
    UINT8,
    UINTS,
)  # fmt: skip
from datatypes.format import Format, LearnedFormat, VectorFormat
from datatypes.granularity import PerBlock, PerChannel, PerGroup, PerTensor
from datatypes.layer_config import (
    CodebookConfig,
    LayerConfig,
    Part,
    PartitionedConfig,
    ScaleConfig,
    ScaleRule,
    SecondLevel,
    TensorConfig,
)  # fmt: skip
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import QuantizedLayer
from datatypes.tensor import QuantizedTensor
from hls.layer_options import IntMapping, LayerOptions
from hwmodel.unit_cost_design import Arithmetic

Made = tuple[QuantizedLayer, LayerOptions]
TOKENS = 5  # two calls of three tokens: the second from a table on the chip, and not full


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def token_scales(fmt: Format, **more: object) -> TensorConfig:
    return TensorConfig((fmt,), PerChannel(), ScaleConfig(FP32), dynamic=True, **more)


def blocks(fmt: Format, size: int, scale: ScaleConfig, dynamic: bool = False) -> TensorConfig:
    return TensorConfig((fmt,), PerGroup(size), scale, dynamic=dynamic)


def layer(
    weight: TensorConfig,
    activation: TensorConfig | None = None,
    *,
    shape: tuple[int, int] = (9, 80),
    lanes: int = 16,
    rows: int = 4,
    arithmetic: Arithmetic = Arithmetic.PARALLEL,
    accumulator: tuple[int, int] = (8, 23),
    output: TensorConfig | None = None,
    notes: dict[str, float | int | str] | None = None,
    tensor: QuantizedTensor | None = None,
    mapping: IntMapping = IntMapping.AUTO,
) -> Made:
    tensor = quantize_tensor(normal(*shape), weight) if tensor is None else tensor
    config = LayerConfig(weight=weight, activation=activation, output=output)
    options = LayerOptions(3, lanes, rows, arithmetic, accumulator, mapping=mapping)
    return QuantizedLayer(config, tensor, shape, notes=dict(notes or {})), options


def mx(weight: Format, activation: Format | None = None, **more: int) -> Made:
    scale = ScaleConfig(E8M0, ScaleRule.POW2_FLOOR)
    return layer(blocks(weight, 32, scale), blocks(activation or weight, 32, scale, True), **more)


def nvfp4() -> Made:
    scale = ScaleConfig(UE4M3, outer=FP32, outer_granularity=PerTensor())
    return layer(blocks(FP4, 16, scale), blocks(FP4, 16, scale, True), shape=(7, 88), lanes=8)


def zero_points() -> Made:
    weight = TensorConfig((UINTS[4],), PerGroup(24), ScaleConfig(FP16, ScaleRule.RANGE), zero_point=UINTS[4])
    activation = TensorConfig(
        (UINT8,), PerChannel(), ScaleConfig(FP32, ScaleRule.RANGE), zero_point=UINT8, dynamic=True
    )
    return layer(weight, activation, shape=(10, 70), lanes=7, rows=4)


def bitmod(formats: tuple[Format, ...], activation: TensorConfig | None, group: int = 32, lanes: int = 4) -> Made:
    weight = TensorConfig(formats, PerGroup(group), ScaleConfig(UINT8, outer=FP16))
    return layer(weight, activation, shape=(7, 90), lanes=lanes, arithmetic=Arithmetic.BITMOD)


def spqr() -> Made:
    level = SecondLevel(FP16, PerGroup(64), offset=FP16, rule=ScaleRule.RANGE)
    scale = ScaleConfig(UINTS[3], ScaleRule.RANGE, FP16, PerGroup(64), outer_offset=FP16, outer_rule=ScaleRule.RANGE)
    weight = TensorConfig((UINTS[3],), PerGroup(16), scale, zero_point=UINTS[3], zero_point_level=level)
    return layer(weight, None, shape=(6, 100), lanes=8)


def qlora() -> Made:
    scale = ScaleConfig(
        INTS[8], outer=FP32, outer_granularity=PerGroup(64), outer_offset=FP32, outer_offset_granularity=PerTensor()
    )
    return layer(TensorConfig((NF4,), PerGroup(16), scale), None, shape=(5, 96), lanes=5, rows=3)


def squeezed() -> Made:
    """A table of FP16 for each row, as SqueezeLLM has it."""
    learned, book = LearnedFormat("squeezed", 3, "test"), CodebookConfig(FP16, PerChannel())
    weight = TensorConfig((learned,), PerTensor(), None, codebook=book)
    codes = torch.randint(0, 8, (6, 40), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    tensor = QuantizedTensor(weight, (6, 40), codes, codebook=normal(6, 8, 1, seed=4).to(torch.float16))
    return layer(weight, None, shape=(6, 40), lanes=8, tensor=tensor)


def vectors() -> Made:
    """Pairs from a table of FP16 for all rows, and a second table for what they leave (VPTQ, along the inputs)."""
    learned, book = LearnedFormat("pairs", 4, "test", dimension=2), CodebookConfig(FP16, PerTensor())
    second = TensorConfig((learned,), PerTensor(), None, codebook=book)
    weight = TensorConfig((learned,), PerTensor(), None, codebook=book, residual=second)

    def codes(seed: int) -> torch.Tensor:
        return torch.randint(0, 16, (6, 21), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)

    rest = QuantizedTensor(second, (6, 41), codes(1), codebook=normal(1, 16, 2, seed=4).to(torch.float16) / 8)
    tensor = QuantizedTensor(
        weight, (6, 41), codes(2), codebook=normal(1, 16, 2, seed=5).to(torch.float16), residual=rest
    )
    return layer(weight, token_scales(INTS[8]), shape=(6, 41), lanes=6, tensor=tensor)


def grid() -> Made:
    """A fixed grid of points in two dimensions, as HIGGS has them."""
    points = tuple((float(a) / 4, float(b) / 8) for a in range(-4, 4) for b in range(-3, 5))
    fmt = VectorFormat("grid", 6, "test", dimension=2, points=points)
    return layer(TensorConfig((fmt,), PerGroup(16)), None, shape=(6, 45), lanes=4)


def partitioned() -> Made:
    """Two widths in slabs of 16 columns, stored in another order."""
    slab, n, k = 16, 9, 80
    place = torch.tensor([0, 1, 1, 0, 0]).repeat_interleave(slab)
    parts = tuple(
        Part(int((place == index).sum()), TensorConfig((INTS[bits],), PerGroup(16)))
        for index, bits in enumerate((2, 5))
    )
    weight = normal(n, k)
    tensors = tuple(quantize_tensor(weight[:, place == i], part.config) for i, part in enumerate(parts))
    order = torch.randperm(k, generator=torch.Generator().manual_seed(1))
    config = LayerConfig(weight=PartitionedConfig(parts, slab), activation=token_scales(INTS[8]), permuted=True)
    made = QuantizedLayer(config, tensors, (n, k), part_of_column=place, permutation=order)
    return made, LayerOptions(3, 8, 4)


def residual() -> Made:
    second = TensorConfig((INTS[3],), PerGroup(40), ScaleConfig(FP16))
    weight = TensorConfig((INTS[4],), PerGroup(16), ScaleConfig(FP16), residual=second)
    first = quantize_tensor(normal(9, 80), TensorConfig((INTS[4],), PerGroup(16), ScaleConfig(FP16)))
    rest = quantize_tensor(normal(9, 80) - first.dequantize(), second)
    tensor = QuantizedTensor(weight, (9, 80), first.codes, scale=first.scale, residual=rest)
    return layer(weight, token_scales(INTS[8]), tensor=tensor)


def row_scaled() -> Made:
    weight = TensorConfig((TERNARY,), PerTensor(), ScaleConfig(FP32, ScaleRule.MEAN_ABS), row_scale=FP16)
    plain = quantize_tensor(normal(9, 80), TensorConfig((TERNARY,), PerTensor(), ScaleConfig(FP32, ScaleRule.MEAN_ABS)))
    tensor = QuantizedTensor(
        weight, (9, 80), plain.codes, scale=plain.scale, row_scale=normal(9, seed=5).abs().to(torch.float16)
    )
    return layer(weight, token_scales(INTS[8]), tensor=tensor)


def static() -> Made:
    activation = TensorConfig((INTS_SYMMETRIC[8],), PerTensor(), ScaleConfig(FP32))
    return layer(TensorConfig((INTS[8],), PerChannel()), activation, notes={"input_scale": 0.02})


QUICK: dict[str, Callable[[], Made]] = {
    "int4_g32_token_int8": lambda: layer(
        TensorConfig((INTS[4],), PerGroup(32)), token_scales(INTS[8]), shape=(10, 70), lanes=5
    ),
    "int4_dsp_pair": lambda: layer(
        TensorConfig((INTS[4],), PerGroup(20)), token_scales(INTS[8]), lanes=7, mapping=IntMapping.DSP_PAIR
    ),
    "uint4_asymmetric": zero_points,
    "bitmod_fp4_fp16": lambda: bitmod(BITMOD_FP4, None),
}
SLOW: dict[str, Callable[[], Made]] = {
    **{
        f"int8_{mapping.value}": lambda mapping=mapping: layer(  # type: ignore[misc]
            TensorConfig((INTS[8],), PerGroup(20)), token_scales(INTS[8]), lanes=5, mapping=mapping
        )
        for mapping in (IntMapping.LUT, IntMapping.DSP)
    },
    "uint3_real_zero_points_dsp_pair": lambda: layer(
        TensorConfig((UINTS[3],), PerGroup(16), ScaleConfig(FP16, ScaleRule.RANGE), zero_point=FP16),
        token_scales(INTS[8]), mapping=IntMapping.DSP_PAIR,
    ),
    "mxfp4": lambda: mx(FP4),
    "nvfp4": nvfp4,
    "mxfp6": lambda: mx(E2M3, E3M2, shape=(5, 70)),
    "mxfp8": lambda: mx(E4M3, E5M2),
    "mxint8": lambda: mx(MX_INT8, shape=(5, 33)),
    "bitmod_fp3_fp16": lambda: bitmod(BITMOD_FP3, None, group=40, lanes=8),
    "bitmod_fp4_int8": lambda: bitmod(BITMOD_FP4, token_scales(INTS[8])),
    "bitmod_int6_fp16": lambda: bitmod((INTS[6],), None),
    "bitmod_fp4_parallel_fp16": lambda: layer(
        TensorConfig(BITMOD_FP4, PerGroup(32), ScaleConfig(UINT8, outer=FP16)), None, lanes=6
    ),
    "spqr": spqr,
    "qlora_fp16": qlora,
    "nf4_int8": lambda: layer(TensorConfig((NF4,), PerGroup(64)), token_scales(INTS[8])),
    "real_zero_points": lambda: layer(
        TensorConfig((UINTS[3],), PerGroup(16), ScaleConfig(FP16, ScaleRule.RANGE), zero_point=FP16), None
    ),
    "real_zero_points_int8": lambda: layer(
        TensorConfig((UINTS[2],), PerGroup(16), ScaleConfig(FP16, ScaleRule.RANGE), zero_point=FP16),
        token_scales(INTS[8]),
    ),
    "int4_zero_points_fp16": lambda: layer(
        TensorConfig((UINTS[4],), PerGroup(40), ScaleConfig(FP16, ScaleRule.RANGE), zero_point=UINTS[4]), None, lanes=7
    ),
    "e4m3_e5m2_tokens": lambda: layer(TensorConfig((E4M3,), PerChannel()), token_scales(E5M2), shape=(6, 50)),
    "e3m0_e2m1_fnuz": lambda: layer(
        TensorConfig((MINIFLOATS["e3m0"],), PerGroup(20)), token_scales(MINIFLOATS["e2m1_fnuz"]), shape=(6, 50), lanes=3
    ),
    "int4_e4m3": lambda: layer(TensorConfig((INTS[4],), PerGroup(20)), token_scales(E4M3)),
    "flint4_int4": lambda: layer(TensorConfig((FLINT4,), PerGroup(16)), token_scales(INTS[4])),
    "flint4_flint4": lambda: layer(TensorConfig((FLINT4,), PerChannel()), token_scales(FLINT4)),
    "ant4_int8": lambda: layer(TensorConfig(ANT4_WEIGHT, PerGroup(16)), token_scales(INTS[8])),
    "ant4_fp16": lambda: layer(TensorConfig(ANT4_WEIGHT, PerGroup(24)), None, shape=(5, 60), lanes=9),
    "pot4_int4": lambda: layer(TensorConfig((POT4,), PerGroup(16)), token_scales(INTS[4])),
    "olive_int4_int8": lambda: layer(TensorConfig((OLIVE4_INT,), PerChannel()), token_scales(INTS[8]), shape=(6, 51)),
    "olive_flint4_int4": lambda: layer(TensorConfig((OLIVE4_FLINT,), PerGroup(20)), token_scales(INTS[4]), lanes=6),
    "olive_mixture_fp16": lambda: layer(
        TensorConfig((OLIVE4_INT, OLIVE4_FLINT), PerChannel()), None, shape=(6, 51), lanes=6
    ),
    "olive_mixture_int8": lambda: layer(
        TensorConfig((OLIVE4_INT, OLIVE4_FLINT), PerGroup(16)), token_scales(INTS[8]), shape=(6, 51)
    ),
    "learned_codebook_fp16": squeezed,
    "learned_pairs_residual_int8": vectors,
    "vector_grid_fp16": grid,
    "fp16_weight": lambda: layer(TensorConfig((FP16,), scale=None), None, shape=(6, 37), lanes=4),
    "narrow_accumulator": lambda: layer(TensorConfig((INTS[4],), PerGroup(40)), None, accumulator=(5, 10)),
    "partitioned_permuted": partitioned,
    "residual": residual,
    "row_scaled_ternary": row_scaled,
    "static_int8": static,
    "tensor_scale_int8": lambda: layer(
        TensorConfig((INTS[8],), PerBlock(4, 32), ScaleConfig(BF16)),
        TensorConfig((INTS[8],), PerTensor(), ScaleConfig(FP16), dynamic=True),
        rows=3,
    ),
    "unscaled_e4m3": lambda: layer(
        TensorConfig((INTS[8],), PerChannel()), TensorConfig((E4M3,), scale=None, dynamic=True)
    ),
    "grouped_activations": lambda: layer(
        TensorConfig((INTS[4],), PerGroup(48)), TensorConfig((INTS[8],), PerGroup(32), ScaleConfig(FP16), dynamic=True),
        shape=(5, 110),
    ),
    "weight_serial": lambda: layer(
        TensorConfig((INTS[5],), PerGroup(16)), token_scales(INTS[6]), arithmetic=Arithmetic.WEIGHT_SERIAL
    ),
    "both_serial": lambda: layer(
        TensorConfig((INTS[3],), PerGroup(16)), token_scales(INTS[4]), arithmetic=Arithmetic.BOTH_SERIAL
    ),
    "term_serial": lambda: layer(
        TensorConfig((INTS[6],), PerGroup(16)), token_scales(INTS[8]), arithmetic=Arithmetic.TERM_SERIAL
    ),
    "int8_output": lambda: layer(
        TensorConfig((INTS[4],), PerGroup(16)), token_scales(INTS[8]), shape=(37, 48), output=token_scales(INTS[8])
    ),
    "mxfp8_output": lambda: layer(
        TensorConfig((INTS[4],), PerGroup(16)), token_scales(INTS[8]), shape=(70, 48),
        output=blocks(E4M3, 32, ScaleConfig(E8M0, ScaleRule.POW2_CEIL), True),
    ),
    "fp16_output": lambda: layer(
        TensorConfig((INTS[4],), PerGroup(16)), token_scales(INTS[8]), shape=(37, 48),
        output=TensorConfig((FP16,), scale=None),
    ),
}  # fmt: skip


def inputs(k: int, seed: int = 7) -> np.ndarray:
    """Tokens of different size, one of them zero, with outliers."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(TOKENS, k)) * np.array([1.0, 0.01, 30.0, 0.0, 2.0])[:, None]
    x[:, rng.integers(0, k, 2)] *= 20
    return x.astype(np.float16)


def case(made: Made) -> tuple[QuantizedLayer, LayerOptions, np.ndarray, None]:
    """A layer as ``simulate_layers`` takes it."""
    quantized, options = made
    return quantized, options, inputs(quantized.shape[1]), None


def check(simulated: Iterable) -> None:
    """Every output of every layer equals its reference."""
    for one in simulated:
        name, expected, found = one.name, one.expected, one.found
        if expected.coded is None:
            np.testing.assert_array_equal(found.values, expected.values, err_msg=name)
            assert np.isfinite(expected.values).all() and len(np.unique(expected.values)) > TOKENS
        elif one.plan.fp16_output:
            np.testing.assert_array_equal(found.values, expected.coded.codes.numpy(), err_msg=name)
        else:
            scale = expected.coded.effective_scale()
            assert scale is not None and found.scales is not None
            np.testing.assert_array_equal(found.values, expected.coded.codes.numpy(), err_msg=name)
            np.testing.assert_array_equal(found.scales, scale.numpy(), err_msg=name)


def quick_cases() -> dict[str, tuple]:
    """Layers of the session's common program."""
    return {name: case(make()) for name, make in QUICK.items()}


def test_layers_of_each_kind_of_sum(quick_layers: Callable) -> None:
    check(quick_layers(sys.modules[__name__]))


NAMES = sorted(SLOW)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, len(NAMES), 6), ids=lambda first: "_".join(NAMES[first : first + 6]))
def test_layers_of_every_format(simulate_layers: Callable, tmp_path: Path, first: int) -> None:
    check(simulate_layers(tmp_path, {name: case(SLOW[name]()) for name in NAMES[first : first + 6]}))


@pytest.mark.slow
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_shape_group_and_number_of_lanes(simulate_layers: Callable, tmp_path: Path, data: st.DataObject) -> None:
    cases = {}
    for index in range(4):
        shape = data.draw(st.integers(1, 21)), data.draw(st.integers(1, 140))
        group, lanes, rows = (data.draw(st.integers(1, most)) for most in (150, 19, 9))
        fmt = data.draw(st.sampled_from([INTS[2], INTS[3], INTS[7], FP4, E3M2, FLINT4]))
        activation = data.draw(st.sampled_from([token_scales(INTS[8]), token_scales(E4M3), None]))
        weight = TensorConfig((fmt,), PerGroup(group))
        cases[f"any_{index}"] = case(layer(weight, activation, shape=shape, lanes=lanes, rows=rows))
    for one in simulate_layers(tmp_path, cases):
        np.testing.assert_array_equal(one.found.values, one.expected.values)
