"""Generated layers whose weight is more than rows of numbers, in C++ against the golden reference, bit for bit:
vectors along the outputs, sparsity masks, column scales, outliers over codes without a zero, tables without a zero.

Needs ``ap_int.h`` (extra ``hls``) and g++.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datatypes.catalog import BINARY, FP4, FP16, FP32, INT16, INTS, NF4, TERNARY, UINT8, UINTS
from datatypes.format import Format, LearnedFormat, VectorFormat
from datatypes.granularity import PerBlock, PerChannel, PerGroup, PerTensor
from datatypes.layer_config import (
    CodebookConfig,
    LayerConfig,
    OutlierConfig,
    OutlierLayout,
    Part,
    PartitionedConfig,
    ScaleConfig,
    ScaleRule,
    SecondLevel,
    SparsityConfig,
    TensorConfig,
)
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import Outliers, QuantizedLayer
from datatypes.tensor import QuantizedTensor
from hls.layer_options import LayerOptions

TOKENS = 4  # two calls of three tokens and of one
Made = tuple[QuantizedLayer, LayerOptions]
ZERO = ScaleConfig(FP16, ScaleRule.RANGE)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_codes(most: int, *shape: int, seed: int = 0) -> torch.Tensor:
    codes = torch.randint(0, most, shape, generator=torch.Generator().manual_seed(seed))
    return codes.to(torch.uint8 if most <= 256 else torch.int32)


def token_scales(fmt: Format) -> TensorConfig:
    return TensorConfig((fmt,), PerChannel(), ScaleConfig(FP32), dynamic=True)


TOKEN8 = token_scales(INTS[8])


def made(tensor: QuantizedTensor, activation: TensorConfig | None, lanes: int, rows: int, **more: object) -> Made:
    config = LayerConfig(weight=tensor.config, activation=activation, permuted="permutation" in more)
    return QuantizedLayer(config, tensor, tensor.shape, **more), LayerOptions(3, lanes, rows)


# --- vectors along the outputs ---------------------------------------------------------------------------------------


def learned_columns(
    shape: tuple[int, int], bits: int, dim: int, *, rows: int | None = None, seed: int = 0
) -> QuantizedTensor:
    """Codes of ``dim`` outputs from a table for ``rows`` of them, or for all."""
    tiles = PerTensor() if rows is None else PerBlock(rows, shape[1])
    config = TensorConfig(
        (LearnedFormat("columns", bits, "test", dimension=dim),),
        PerTensor(),
        None,
        codebook=CodebookConfig(FP16, tiles),
        vectors_along_output=True,
    )
    codes = random_codes(1 << bits, *config.code_shape(shape), seed=seed)
    book = normal(tiles.count(shape), 1 << bits, dim, seed=seed + 1).to(torch.float16)
    return QuantizedTensor(config, shape, codes, codebook=book)


def vptq(activation: TensorConfig | None) -> Made:
    """Vectors of three outputs and what they leave in vectors of two (Liu et al., VPTQ, arXiv 2409.17066); ten rows."""
    first, second = learned_columns((10, 37), 4, 3), learned_columns((10, 37), 5, 2, seed=5)
    tensor = replace(first, config=replace(first.config, residual=second.config), residual=second)
    return made(tensor, activation, 5, 6)


def tables_of_rows() -> Made:
    return made(learned_columns((14, 20), 3, 2, rows=4), TOKEN8, 8, 8)


def wide_codes() -> Made:
    """Codes of 12 bits, and of 16, which are stored flat."""
    first, second = learned_columns((8, 9), 12, 4), learned_columns((8, 9), 16, 2, seed=5)
    tensor = replace(first, config=replace(first.config, residual=second.config), residual=second)
    return made(tensor, None, 2, 4)


def scaled_grid(activation: TensorConfig | None) -> Made:
    """A fixed grid, and integer scales under those of rows: beside INT8 groups are added exactly."""
    points = tuple((float(a) / 4, float(b) / 8) for a in range(-4, 4) for b in range(-3, 5))
    grid = VectorFormat("grid", 6, "test", dimension=2, points=points)
    scale = ScaleConfig(UINT8, outer=FP16)
    config = TensorConfig((grid,), PerGroup(16), scale, vectors_along_output=True)
    shape = (7, 40)
    scales = quantize_tensor(normal(*shape), TensorConfig((INTS[4],), PerGroup(16), scale))
    tensor = QuantizedTensor(config, shape, random_codes(64, 4, 40), scale=scales.scale, outer_scale=scales.outer_scale)
    return made(tensor, activation, 6, 4)


# --- sparsity --------------------------------------------------------------------------------------------------------


def sparse(
    weight: TensorConfig,
    activation: TensorConfig | None,
    *,
    shape: tuple[int, int] = (9, 54),
    lanes: int = 8,
    rows: int = 4,
    **more: object,
) -> Made:
    """The largest weights of each block are kept; what lies under the others must not be read."""
    n, k = shape
    sparsity = weight.sparsity
    assert sparsity is not None
    values = normal(n, k)
    tensor = quantize_tensor(values, replace(weight, sparsity=None))
    mask = torch.zeros(n, k, dtype=torch.bool)
    for first in range(0, k, sparsity.block):
        block = values[:, first : first + sparsity.block].abs()
        kept = block.topk(min(sparsity.kept, block.shape[1]), dim=1).indices
        mask.scatter_(1, kept + first, True)
    return made(replace(tensor, config=weight, mask=mask), activation, lanes, rows, **more)


def two_of_four(fmt: Format, group: int, **more: object) -> TensorConfig:
    return TensorConfig((fmt,), PerGroup(group), sparsity=SparsityConfig(2, 4), **more)


def sparse_permuted() -> Made:
    order = torch.randperm(54, generator=torch.Generator().manual_seed(1))
    return sparse(two_of_four(INTS[4], 20), TOKEN8, permutation=order)


# --- column scales ---------------------------------------------------------------------------------------------------


def onebit() -> Made:
    """Signs between a row and a column of FP16 (Xu et al., OneBit, arXiv 2402.11295), without its norm."""
    n, k = 7, 41
    config = TensorConfig((BINARY,), PerTensor(), None, row_scale=FP16, column_scale=FP16)
    tensor = QuantizedTensor(
        config,
        (n, k),
        random_codes(2, n, k),
        row_scale=normal(n, seed=1).abs().to(torch.float16),
        column_scale=normal(k, seed=2).abs().to(torch.float16),
    )
    return made(tensor, None, 6, 4)


def normalised(weight: Made) -> Made:
    """With the norm of OneBit behind the product."""
    return replace(weight[0], config=replace(weight[0].config, output_norm=True)), weight[1]


def column_scaled_integers(activation: TensorConfig | None = None) -> Made:
    """Beside real offsets: both the codes and the offset are scaled."""
    config = TensorConfig((UINTS[3],), PerGroup(16), ZERO, zero_point=FP16)
    tensor = quantize_tensor(normal(6, 50), config)
    scaled = replace(config, column_scale=FP32)
    return made(replace(tensor, config=scaled, column_scale=normal(50, seed=2)), activation, 8, 3)


def signs_and_integers() -> Made:
    """A part of signs with row and column scales beside one of integers, as PTQ1.61 has it; outliers over both."""
    slab, n, k = 8, 6, 48
    place = torch.tensor([0, 1, 0, 0, 1, 0]).repeat_interleave(slab)
    signs = TensorConfig((BINARY,), PerTensor(), None, row_scale=FP16, column_scale=FP16)
    parts = (Part(32, signs), Part(16, TensorConfig((INTS[4],), PerGroup(8))))
    weight = normal(n, k)
    first = QuantizedTensor(
        signs,
        (n, 32),
        random_codes(2, n, 32),
        row_scale=normal(n, seed=1).to(torch.float16),
        column_scale=normal(32, seed=2).to(torch.float16),
    )
    second = quantize_tensor(weight[:, place == 1], parts[1].config)
    config = LayerConfig(weight=PartitionedConfig(parts, slab))
    return (
        with_outliers(QuantizedLayer(config, (first, second), (n, k), part_of_column=place), OutlierLayout.CSR),
        LayerOptions(3, 8, 4),
    )


# --- outliers --------------------------------------------------------------------------------------------------------


def with_outliers(layer: QuantizedLayer, layout: OutlierLayout) -> QuantizedLayer:
    """Some weights of the layer kept in FP16: columns 2, 11 and 30, or a few of each row."""
    n, k = layer.shape
    if layout is OutlierLayout.COLUMNS:
        columns = torch.tensor([2, 11, 30])
        outliers = Outliers(normal(n, 3, seed=7).to(torch.float16) * 8, columns)
        count = 3 / k
    else:
        counts = torch.tensor([0, 3, 1, *([2] * (n - 3))])
        generator = torch.Generator().manual_seed(4)
        columns = torch.cat([torch.randperm(k, generator=generator)[:c].sort().values for c in counts.tolist()])
        pointers = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        outliers = Outliers(normal(len(columns), seed=7).to(torch.float16) * 8, columns, pointers)
        count = len(columns) / (n * k)
    config = replace(layer.config, outliers=OutlierConfig(layout, count, index=INT16))
    return replace(layer, config=config, outliers=outliers)


def outliers_over(weight: Made, layout: OutlierLayout) -> Made:
    return with_outliers(weight[0], layout), weight[1]


def spqr(activation: TensorConfig | None = None) -> Made:
    """Two levels of scales and real zero points (Dettmers et al., SpQR, arXiv 2306.03078)."""
    level = SecondLevel(FP16, PerGroup(32), offset=FP16, rule=ScaleRule.RANGE)
    scale = ScaleConfig(UINTS[3], ScaleRule.RANGE, FP16, PerGroup(32), outer_offset=FP16, outer_rule=ScaleRule.RANGE)
    config = TensorConfig((UINTS[3],), PerGroup(16), scale, zero_point=UINTS[3], zero_point_level=level)
    return made(quantize_tensor(normal(6, 50), config), activation, 8, 4)


def partitioned() -> Made:
    """Integers of two widths in slabs: outliers replace codes of either."""
    slab, n, k = 8, 6, 40
    place = torch.tensor([0, 1, 0, 0, 1]).repeat_interleave(slab)
    parts = tuple(Part(int((place == i).sum()), TensorConfig((INTS[b],), PerGroup(8))) for i, b in enumerate((2, 5)))
    weight = normal(n, k)
    tensors = tuple(quantize_tensor(weight[:, place == i], part.config) for i, part in enumerate(parts))
    order = torch.randperm(k, generator=torch.Generator().manual_seed(1))
    config = LayerConfig(weight=PartitionedConfig(parts, slab), activation=TOKEN8, permuted=True)
    return (
        QuantizedLayer(config, tensors, (n, k), part_of_column=place, permutation=order),
        LayerOptions(3, 8, 4),
    )


# --- tables without a zero at code 0 ---------------------------------------------------------------------------------


def plain(weight: TensorConfig, activation: TensorConfig | None, lanes: int, k: int = 45) -> Made:
    return made(quantize_tensor(normal(5, k), weight), activation, lanes, 3)


SIGNS = TensorConfig((BINARY,), PerGroup(15), ScaleConfig(FP16, ScaleRule.MEAN_ABS))

QUICK: dict[str, Callable[[], Made]] = {
    "vptq_int8": lambda: vptq(TOKEN8),
    "sparse_int4_int8": lambda: sparse(two_of_four(INTS[4], 20), TOKEN8),
    "nf4_nf4": lambda: plain(TensorConfig((NF4,), PerGroup(15)), token_scales(NF4), 8),
    "spqr_outliers_int8": lambda: outliers_over(spqr(TOKEN8), OutlierLayout.CSR),
}
SLOW: dict[str, Callable[[], Made]] = {
    "vptq_fp16": lambda: vptq(None),
    "tables_of_rows": tables_of_rows,
    "wide_codes": wide_codes,
    "scaled_grid_int8": lambda: scaled_grid(TOKEN8),
    "scaled_grid_fp16": lambda: scaled_grid(None),
    "vptq_outliers": lambda: outliers_over(vptq(TOKEN8), OutlierLayout.CSR),
    "sparse_permuted": sparse_permuted,
    "sparse_fp16": lambda: sparse(two_of_four(FP4, 12), None, lanes=6),
    "sparse_rows": lambda: sparse(
        TensorConfig((INTS[8],), PerChannel(), sparsity=SparsityConfig(1, 4)), TOKEN8, shape=(5, 35), lanes=3
    ),
    "sparse_three_of_eight": lambda: sparse(
        TensorConfig((INTS[4],), PerGroup(16), sparsity=SparsityConfig(3, 8)), TOKEN8, lanes=9
    ),
    "sparse_kept_whole": lambda: sparse(
        TensorConfig((INTS[4],), PerGroup(16), sparsity=SparsityConfig(1, 1)), TOKEN8, lanes=5
    ),
    "sparse_zero_points": lambda: sparse(two_of_four(UINTS[4], 16, scale=ZERO, zero_point=UINTS[4]), TOKEN8),
    "sparse_real_zero_points": lambda: sparse(two_of_four(UINTS[4], 16, scale=ZERO, zero_point=FP16), TOKEN8),
    "sparse_real_zero_points_fp16": lambda: sparse(two_of_four(UINTS[4], 16, scale=ZERO, zero_point=FP16), None),
    "sparse_exact_scale": lambda: sparse(two_of_four(INTS[4], 16, scale=ScaleConfig(UINT8, outer=FP16)), TOKEN8),
    "sparse_groups_of_inputs": lambda: sparse(
        two_of_four(INTS[4], 24), TensorConfig((INTS[8],), PerGroup(16), ScaleConfig(FP16), dynamic=True)
    ),
    "sparse_outliers": lambda: outliers_over(sparse(two_of_four(INTS[4], 20), TOKEN8), OutlierLayout.CSR),
    "sparse_nf4_inputs": lambda: sparse(two_of_four(NF4, 20), token_scales(NF4), lanes=6),
    "onebit": onebit,
    "onebit_normalised": lambda: normalised(onebit()),
    "normalised_int8": lambda: normalised(plain(SIGNS, TOKEN8, 8)),
    "column_scaled_integers": column_scaled_integers,
    "column_scaled_stated_fp16": lambda: column_scaled_integers(TensorConfig((FP16,), scale=None, dynamic=True)),
    "signs_and_integers": signs_and_integers,
    "spqr_outliers_fp16": lambda: outliers_over(spqr(), OutlierLayout.CSR),
    "spqr_outlier_columns": lambda: outliers_over(spqr(TOKEN8), OutlierLayout.COLUMNS),
    "binary_outlier_columns": lambda: outliers_over(plain(SIGNS, TOKEN8, 4), OutlierLayout.COLUMNS),
    "partitioned_outliers": lambda: outliers_over(partitioned(), OutlierLayout.CSR),
    "partitioned_outlier_columns": lambda: outliers_over(partitioned(), OutlierLayout.COLUMNS),
    "ternary_nf4": lambda: plain(TensorConfig((TERNARY,), PerGroup(15)), token_scales(NF4), 8),
    "real_zero_points_nf4": lambda: plain(
        TensorConfig((UINTS[3],), PerGroup(15), ZERO, zero_point=FP16), token_scales(NF4), 4
    ),
    "real_zero_points_binary": lambda: plain(
        TensorConfig((UINTS[3],), PerGroup(15), ZERO, zero_point=FP16), token_scales(BINARY), 4
    ),
    "int4_binary": lambda: plain(TensorConfig((INTS[4],), PerGroup(15)), token_scales(BINARY), 8),
    "binary_int8": lambda: plain(SIGNS, TOKEN8, 8),
    "binary_binary_whole_steps": lambda: plain(SIGNS, token_scales(BINARY), 5),
}


def inputs(k: int, seed: int = 7) -> np.ndarray:
    """Tokens of different size, one of them zero, with outliers."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(TOKENS, k)) * np.array([1.0, 0.01, 30.0, 0.0])[:, None]
    x[:, rng.integers(0, k, 2)] *= 20
    return x.astype(np.float16)


def bias(n: int) -> np.ndarray:
    return normal(n, seed=9).numpy()


def exact(layer: QuantizedLayer, x: np.ndarray, encoded: QuantizedTensor | None) -> np.ndarray:
    """What codes and outliers mean, multiplied in float64."""
    taken = x if encoded is None else encoded.dequantize().numpy()
    product: np.ndarray = taken.astype(np.float64) @ layer.dequantize_weight().double().numpy().T
    if layer.config.output_norm:
        centred = product - product.mean(1, keepdims=True)
        product = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)  # epsilon of torch's layer_norm
    return product + bias(layer.shape[0])


def case(made: Made, *, biased: bool = True) -> tuple[QuantizedLayer, LayerOptions, np.ndarray, np.ndarray | None]:
    """A layer as ``simulate_layers`` takes it."""
    layer, options = made
    n, k = layer.shape
    return layer, options, inputs(k), bias(n) if biased else None


def check(simulated: Iterable) -> None:
    """The reference lies within its bound of exact arithmetic; C++ equals the reference in every output."""
    for one in simulated:
        name, expected = one.name, one.expected
        distance = np.abs(expected.values - exact(one.layer, one.inputs, expected.activation))
        assert (distance <= expected.bound).all(), name
        assert expected.bound.max() < 0.01 * np.abs(expected.values).max(), name  # no bound that holds anything
        np.testing.assert_array_equal(one.found.values, expected.values, err_msg=name)
        assert len(np.unique(expected.values)) > TOKENS, name


def quick_cases() -> dict[str, tuple]:
    """Layers of the session's common program."""
    return {name: case(make()) for name, make in QUICK.items()}


def test_some_layers_of_each_kind(quick_layers: Callable) -> None:
    check(quick_layers(sys.modules[__name__]))


NAMES: Sequence[str] = sorted(SLOW)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, len(NAMES), 6), ids=lambda first: "_".join(NAMES[first : first + 6]))
def test_layers_of_every_kind(simulate_layers: Callable, tmp_path: Path, first: int) -> None:
    check(simulate_layers(tmp_path, {name: case(SLOW[name]()) for name in NAMES[first : first + 6]}))


@pytest.mark.slow
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_shape_of_vectors_and_blocks(simulate_layers: Callable, tmp_path: Path, data: st.DataObject) -> None:
    layers: dict[str, Made] = {}
    for index in range(2):
        n, k = data.draw(st.integers(1, 13)), data.draw(st.integers(1, 60))
        dim, bits, lanes = (data.draw(st.integers(1, most)) for most in (4, 6, 9))
        dim += 1
        tensor = learned_columns((n, k), bits, dim)
        layers[f"vectors_{index}"] = made(tensor, TOKEN8, lanes, dim * data.draw(st.integers(1, 3)))
        block = data.draw(st.integers(1, 6))
        kept = data.draw(st.integers(1, block))
        group = block * data.draw(st.integers(1, 5))
        weight = TensorConfig((INTS[4],), PerGroup(group), sparsity=SparsityConfig(kept, block))
        layers[f"sparse_{index}"] = sparse(weight, TOKEN8, shape=(n, k), lanes=kept * data.draw(st.integers(1, 4)))
    cases = {name: case(one, biased=False) for name, one in layers.items()}
    for one in simulate_layers(tmp_path, cases):
        np.testing.assert_array_equal(one.found.values, one.expected.values)
