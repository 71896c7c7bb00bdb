"""Drawn layers of every family of exported kernels, in C++ against the golden reference, bit for bit.

Rows, columns, groups, lanes, rows side by side, blocks of a tile, tokens and calls are drawn, most of them ragged:
groups that the columns do not fill, lanes that no group is a multiple of, fewer rows than run side by side, one column.
Plain formats are drawn in ``test_csim_layer.py``, vectors along outputs and sparsity in ``test_csim_layer_weights.py``.
Needs ``ap_int.h`` (extra ``hls``) and g++.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from codesign.algorithms.tender import Tender, tender_activation
from codesign.calibration import InputStatistics, Statistic
from datatypes.catalog import (
    ANT4_WEIGHT,
    BITMOD_FP3,
    BITMOD_FP4,
    E2M3,
    E4M3,
    E5M2,
    E8M0,
    FLINT4,
    FP4,
    FP16,
    FP32,
    INT16,
    INTS,
    INTS_SYMMETRIC,
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
from datatypes.format import Format, LearnedFormat
from datatypes.granularity import PerBlock, PerChannel, PerGroup, PerTensor
from datatypes.layer_config import (
    CodebookConfig,
    LayerConfig,
    LowRankConfig,
    OutlierConfig,
    OutlierLayout,
    Part,
    PartitionedConfig,
    ScaleConfig,
    ScaleRule,
    SecondLevel,
    TensorConfig,
)
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import Outliers, QuantizedLayer
from datatypes.tensor import QuantizedTensor
from hls.layer_csim import compile_plans, simulate_plan
from hls.layer_options import IntMapping, LayerOptions
from hls.layer_planning import plan_layer
from hls.layer_reference import layer_reference
from hls.runtime_formats import in_runtime_formats
from hwmodel.unit_cost_design import Arithmetic

T = TypeVar("T")
Made = tuple[QuantizedLayer, LayerOptions]


@dataclass(frozen=True)
class Draw:
    """What a layer is drawn from."""

    data: st.DataObject

    def number(self, low: int, high: int) -> int:
        return self.data.draw(st.integers(low, high))

    def pick(self, *choices: T) -> T:
        return self.data.draw(st.sampled_from(choices))

    def shape(self, rows: int = 14, columns: int = 90) -> tuple[int, int]:
        return self.number(1, rows), self.number(1, columns)

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator())

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.number(0, 1 << 16))

    def codes(self, most: int, *shape: int) -> torch.Tensor:
        return torch.randint(0, most, shape, generator=self.generator(), dtype=torch.uint8)

    def options(self, lanes: int | None = None, **more: object) -> LayerOptions:
        return LayerOptions(
            tokens=self.number(1, 4),
            lanes=self.number(1, 19) if lanes is None else lanes,
            tile_rows=self.number(1, 9),
            tile_blocks=self.pick(None, None, 1, 2, 3),
            **more,
        )

    def input(self) -> TensorConfig | None:
        """One scale a token, or FP16."""
        return self.pick(None, tokenwise(INTS[8]), tokenwise(E4M3), tokenwise(INTS[5]))

    def layer(
        self, weight: TensorConfig, activation: TensorConfig | None, shape: tuple[int, int] | None = None
    ) -> QuantizedLayer:
        shape = self.shape() if shape is None else shape
        config = LayerConfig(weight=weight, activation=activation)
        return QuantizedLayer(config, quantize_tensor(self.normal(*shape), weight), shape)


def tokenwise(fmt: Format, **more: object) -> TensorConfig:
    return TensorConfig((fmt,), PerChannel(), ScaleConfig(FP32), dynamic=True, **more)


# --- formats ---------------------------------------------------------------------------------------------------------


def block_scales(draw: Draw) -> Made:
    """MX (OCP MX 1.0: blocks of 32, E8M0 scales) and NVFP4 (blocks of 16, UE4M3 scales) on both sides."""
    if draw.pick(True, False):
        scale = ScaleConfig(E8M0, ScaleRule.POW2_FLOOR)
        formats, size = [draw.pick(FP4, E2M3, E4M3, E5M2, MX_INT8) for _ in range(2)], 32
    else:
        scale = ScaleConfig(UE4M3, outer=FP32, outer_granularity=PerTensor())
        formats, size = [FP4, FP4], 16
    weight, activation = (TensorConfig((fmt,), PerGroup(size), scale) for fmt in formats)
    return draw.layer(weight, replace(activation, dynamic=True)), draw.options()


def bitmod(draw: Draw, **more: object) -> Made:
    formats = draw.pick(BITMOD_FP3, BITMOD_FP4, (INTS[6],), (INTS[8],))
    shape, group = draw.shape(), draw.number(1, 40)
    lanes = 4 if min(group, shape[1]) % 8 else draw.pick(4, 8)  # more than four must divide groups
    weight = TensorConfig(formats, PerGroup(group), ScaleConfig(UINT8, outer=FP16))
    options = draw.options(lanes, arithmetic=Arithmetic.BITMOD, **more)
    return draw.layer(weight, draw.pick(None, tokenwise(INTS[8])), shape), options


def mixtures(draw: Draw) -> Made:
    """A selector for each group (Guo et al., ANT, MICRO 2022), and pairs of outlier and victim (OliVe, ISCA 2023)."""
    activation = draw.pick(None, tokenwise(INTS[8]), tokenwise(INTS[4]))
    if draw.pick(True, False):
        return draw.layer(TensorConfig(ANT4_WEIGHT, PerGroup(draw.number(1, 40))), activation), draw.options()
    formats = draw.pick((OLIVE4_INT,), (OLIVE4_FLINT,), (OLIVE4_INT, OLIVE4_FLINT))
    weight = TensorConfig(formats, draw.pick(PerChannel(), PerGroup(2 * draw.number(1, 20))))
    return draw.layer(weight, activation), draw.options(2 * draw.number(1, 9))


def tables(draw: Draw) -> Made:
    fmt = draw.pick(NF4, POT4, FLINT4, TERNARY)
    weight = TensorConfig((fmt,), draw.pick(PerChannel(), PerGroup(draw.number(1, 60))))
    return draw.layer(weight, draw.input()), draw.options()


def learned_tables(draw: Draw) -> Made:
    """Of FP16, of one number or of vectors along the inputs, for all rows or for some of them each."""
    (n, k), dim = draw.shape(), draw.pick(1, 2, 3)
    rows = draw.pick(None, draw.number(1, n))
    bits = draw.number(1, 5)
    granularity = PerTensor() if rows is None else PerBlock(rows, k)
    book = CodebookConfig(FP16, granularity)
    config = TensorConfig((LearnedFormat("drawn", bits, "test", dimension=dim),), PerTensor(), None, codebook=book)
    codes = draw.codes(1 << bits, *config.code_shape((n, k)))
    entries = draw.normal(granularity.count((n, k)), 1 << bits, dim).to(torch.float16)
    tensor = QuantizedTensor(config, (n, k), codes, codebook=entries)
    layer = QuantizedLayer(LayerConfig(weight=config, activation=draw.input()), tensor, (n, k))
    return layer, draw.options(dim * draw.number(1, 6))


def serial(draw: Draw) -> Made:
    kinds = (
        Arithmetic.WEIGHT_SERIAL, Arithmetic.ACTIVATION_SERIAL, Arithmetic.BOTH_SERIAL, Arithmetic.TERM_SERIAL,
    )  # fmt: skip
    weight = TensorConfig((INTS[draw.number(2, 8)],), PerGroup(draw.number(1, 60)))
    return draw.layer(weight, tokenwise(INTS[draw.number(2, 8)])), draw.options(arithmetic=draw.pick(*kinds))


def digital_signal_processors(draw: Draw) -> Made:
    """Two products in one multiplier: the last of an odd number of lanes has one of its own."""
    mapping = draw.pick(IntMapping.DSP_PAIR, IntMapping.DSP, IntMapping.LUT)
    weight = TensorConfig((INTS[draw.number(2, 4)],), PerGroup(draw.number(1, 60)))
    return draw.layer(weight, tokenwise(INTS[draw.number(2, 8)])), draw.options(mapping=mapping)


# --- scales ----------------------------------------------------------------------------------------------------------


def zero_points(draw: Draw) -> Made:
    fmt = UINTS[draw.number(2, 4)]
    zero = draw.pick(fmt, FP16)
    scale = ScaleConfig(FP16, ScaleRule.RANGE)
    weight = TensorConfig((fmt,), PerGroup(draw.number(1, 60)), scale, zero_point=zero)
    ranged = TensorConfig((UINT8,), PerChannel(), ScaleConfig(FP32, ScaleRule.RANGE), zero_point=UINT8, dynamic=True)
    return draw.layer(weight, draw.pick(None, tokenwise(INTS[8]), ranged)), draw.options()


def two_levels(draw: Draw) -> Made:
    """Scales of scales: SpQR's with zero points (Dettmers et al., 2023), QLoRA's with a mean, BitMoD's integers."""
    group = draw.number(1, 30)
    outer = PerGroup(group * draw.number(1, 4))
    which = draw.pick("spqr", "qlora", "integers")
    if which == "spqr":
        level = SecondLevel(FP16, outer, offset=FP16, rule=ScaleRule.RANGE)
        scale = ScaleConfig(UINTS[3], ScaleRule.RANGE, FP16, outer, outer_offset=FP16, outer_rule=ScaleRule.RANGE)
        weight = TensorConfig((UINTS[3],), PerGroup(group), scale, zero_point=UINTS[3], zero_point_level=level)
    elif which == "qlora":
        scale = ScaleConfig(
            INTS[8], outer=FP32, outer_granularity=outer, outer_offset=FP32, outer_offset_granularity=PerTensor()
        )
        weight = TensorConfig((NF4,), PerGroup(group), scale)
    else:
        weight = TensorConfig((INTS[4],), PerGroup(group), ScaleConfig(UINT8, outer=FP16))
    return draw.layer(weight, draw.input()), draw.options()


def scales_of_inputs(draw: Draw) -> Made:
    """A scale for some columns of a token, or one for all tokens of a call."""
    fmt = draw.pick(INTS[8], INTS[4], E4M3)
    granularity = draw.pick(PerGroup(draw.number(1, 50)), PerTensor())
    activation = TensorConfig((fmt,), granularity, ScaleConfig(FP16), dynamic=True)
    return draw.layer(TensorConfig((INTS[4],), PerGroup(draw.number(1, 50))), activation), draw.options()


# --- branches --------------------------------------------------------------------------------------------------------


def low_rank(draw: Draw) -> Made:
    (n, k), rank = draw.shape(), draw.number(1, 9)
    factor = draw.pick(
        TensorConfig((FP16,), scale=None),
        TensorConfig((INTS[8],), PerChannel()),
        TensorConfig((MX_INT8,), PerGroup(16), ScaleConfig(E8M0, ScaleRule.LQER_CEIL)),
    )
    weight = TensorConfig((INTS[4],), PerGroup(draw.number(1, 40)))
    config = LayerConfig(weight=weight, activation=draw.input(), low_rank=LowRankConfig(rank, factor, factor))
    layer = QuantizedLayer(
        config,
        quantize_tensor(draw.normal(n, k), weight),
        (n, k),
        low_rank_a=quantize_tensor(draw.normal(rank, k), factor),
        low_rank_b=quantize_tensor(draw.normal(n, rank), factor),
    )
    return layer, draw.options()


def outlier_columns(draw: Draw) -> Made:
    n, k = draw.number(1, 14), draw.number(3, 90)
    count, keep = draw.number(1, k - 1), draw.pick(True, False)
    places = torch.randperm(k, generator=draw.generator())[:count].sort().values
    weight = TensorConfig((INTS[4],), PerGroup(draw.number(1, 40)))
    outliers = OutlierConfig(OutlierLayout.COLUMNS, count / k, keep_dense_slot=keep)
    config = LayerConfig(weight=weight, activation=draw.input(), outliers=outliers)
    dense = draw.normal(n, k if keep else k - count)
    values = Outliers(draw.normal(n, count).to(torch.float16) * 8, places)
    return QuantizedLayer(config, quantize_tensor(dense, weight), (n, k), outliers=values), draw.options()


def outlier_elements(draw: Draw) -> Made:
    """Rows of none up to all of their weights."""
    n, k = draw.shape()
    counts = torch.tensor([draw.pick(0, draw.number(0, k)) for _ in range(n)])
    counts[0] = max(int(counts[0]), 1)
    generator = draw.generator()
    places = torch.cat([torch.randperm(k, generator=generator)[:count].sort().values for count in counts.tolist()])
    pointers = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    weight = draw.pick(
        TensorConfig((INTS[4],), PerGroup(draw.number(1, 40))),
        TensorConfig((UINTS[3],), PerGroup(7), ScaleConfig(FP16, ScaleRule.RANGE), zero_point=UINTS[3]),
    )
    layout = draw.pick(OutlierLayout.CSR, OutlierLayout.BITMAP)
    outliers = OutlierConfig(layout, len(places) / (n * k), index=INT16)
    config = LayerConfig(weight=weight, activation=draw.input(), outliers=outliers)
    values = Outliers(draw.normal(len(places)).to(torch.float16) * 9, places, pointers)
    return QuantizedLayer(config, quantize_tensor(draw.normal(n, k), weight), (n, k), outliers=values), draw.options()


def rotations(draw: Draw) -> Made:
    block = draw.pick(1, 2, 4, 8, 16)
    n, k = draw.number(1, 14), block * draw.number(1, 6)
    weight = TensorConfig((INTS[4],), PerGroup(draw.number(1, 40)), hadamard=0 if block == 1 else block)
    stored = draw.pick(None, FP16, FP32)
    config = LayerConfig(weight=weight, activation=draw.input(), smoothing=stored)
    smoothing = None if stored is None else (draw.normal(k).abs() + 0.25).to(torch.float16).to(torch.float32)
    layer = QuantizedLayer(config, quantize_tensor(draw.normal(n, k), weight), (n, k), smoothing=smoothing)
    return layer, draw.options()


# --- the rest of a layer ---------------------------------------------------------------------------------------------


def parts(draw: Draw) -> Made:
    """Two widths in slabs of columns, stored in another order."""
    slab, n = draw.number(1, 12), draw.number(1, 14)
    of_slab = torch.tensor([0, 1, *(draw.pick(0, 1) for _ in range(draw.number(0, 5)))])
    place = of_slab.repeat_interleave(slab)
    k = len(place)
    made = tuple(
        Part(int((place == index).sum()), TensorConfig((INTS[bits],), PerGroup(slab)))
        for index, bits in enumerate((2, 5))
    )
    weight = draw.normal(n, k)
    tensors = tuple(quantize_tensor(weight[:, place == i], part.config) for i, part in enumerate(made))
    config = LayerConfig(weight=PartitionedConfig(made, slab), activation=draw.input(), permuted=True)
    order = torch.randperm(k, generator=draw.generator())
    return QuantizedLayer(config, tensors, (n, k), part_of_column=place, permutation=order), draw.options()


def channel_groups(draw: Draw) -> Made:
    """Inputs in groups of channels whose scales are halved (Lee et al., Tender, ISCA 2024)."""
    n, k = draw.number(1, 14), draw.number(2, 60)
    generator = draw.generator()
    x = torch.randn(40, k, generator=generator) * torch.exp(1.5 * torch.randn(k, generator=generator))
    statistics = InputStatistics(k, frozenset({Statistic.CHUNK_RANGE}))
    statistics.update(x)
    bits = draw.pick(4, 8)
    activation = replace(tender_activation(bits, chunk_tokens=None), groups=draw.number(2, 9))
    config = LayerConfig(TensorConfig((INTS_SYMMETRIC[draw.pick(4, 8)],), PerChannel()), activation)
    return Tender().quantize(draw.normal(n, k), statistics.finish("layer"), config), draw.options()


def outputs(draw: Draw) -> Made:
    """Rounded for the layer behind, in tiles that the rows do not fill."""
    output = draw.pick(
        tokenwise(INTS[8]),
        tokenwise(E4M3),
        TensorConfig((E4M3,), PerGroup(32), ScaleConfig(E8M0, ScaleRule.POW2_CEIL), dynamic=True),
        TensorConfig((INTS[8],), PerGroup(draw.number(1, 20)), ScaleConfig(FP16), dynamic=True),
        TensorConfig((FP16,), scale=None),
    )
    weight = TensorConfig((INTS[4],), PerGroup(draw.number(1, 40)))
    shape = draw.shape(rows=70)
    config = LayerConfig(weight=weight, activation=draw.input(), output=output)
    return QuantizedLayer(config, quantize_tensor(draw.normal(*shape), weight), shape), draw.options()


FAMILIES: Sequence[Callable[[Draw], Made]] = (
    block_scales, bitmod, mixtures, tables, learned_tables, serial, digital_signal_processors, zero_points, two_levels,
    scales_of_inputs, low_rank, outlier_columns, outlier_elements, rotations, parts, channel_groups, outputs,
)  # fmt: skip


def tokens(draw: Draw, k: int) -> np.ndarray:
    """Up to three calls' worth, of different sizes, now and then a token of zeros; float16 ``[m, k]``."""
    m = draw.number(1, 7)
    size = torch.tensor([draw.pick(1.0, 0.01, 30.0, 0.0) for _ in range(m)])
    return (draw.normal(m, k) * size[:, None]).numpy().astype(np.float16)


def compare(layer: QuantizedLayer, options: LayerOptions, x: np.ndarray, program: Path, name: str) -> None:
    """Runs a layer of a program; every output must be that of the reference."""
    plan = plan_layer(layer, options=options)
    found, expected = simulate_plan(program, name, plan, x), layer_reference(layer, x, None, options)
    said = f"{layer.config}, {layer.shape}, {options}, {len(x)} tokens"
    if expected.coded is None:
        np.testing.assert_array_equal(found.values, expected.values, err_msg=said)
    else:
        np.testing.assert_array_equal(found.values, expected.coded.codes.numpy(), err_msg=said)
        if not plan.fp16_output:
            np.testing.assert_array_equal(found.scales, expected.coded.effective_scale().numpy(), err_msg=said)


# each example is a run of the compiler: a failing one is shown as it was drawn
drawn = settings(
    max_examples=4,  # the first one is the least of everything
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.data_too_large, HealthCheck.too_slow],
)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
@drawn
@given(data=st.data())
def test_any_layer_of_a_family(
    needs_compiler: None, tmp_path: Path, family: Callable[[Draw], Made], data: st.DataObject
) -> None:
    draw = Draw(data)
    made = {f"layer_{index}": family(draw) for index in range(4)}
    plans = {name: plan_layer(layer, options=options) for name, (layer, options) in made.items()}
    compile_plans(plans, tmp_path / "program", flags=("-O0",))
    for name, (layer, options) in made.items():
        compare(layer, options, tokens(draw, layer.shape[1]), tmp_path / "program", name)


@pytest.mark.slow
@drawn
@given(data=st.data())
def test_any_layer_whose_format_is_chosen_at_run_time(
    needs_compiler: None, tmp_path: Path, data: st.DataObject
) -> None:
    draw = Draw(data)
    layer, options = bitmod(draw, runtime_formats=True)
    layers = in_runtime_formats(layer)
    compile_plans({"layer": plan_layer(layer, options=options)}, tmp_path / "program", flags=("-O0",))
    x = tokens(draw, layer.shape[1])
    for one in layers.values():
        compare(one, options, x, tmp_path / "program", "layer")
