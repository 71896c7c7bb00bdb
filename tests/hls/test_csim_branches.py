"""Side branches of generated layers in C++: low rank, outliers, rotation, smoothing, against the golden reference.

Needs ``ap_int.h`` (extra ``hls``) and g++.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datatypes.catalog import E4M3, E8M0, FP16, FP32, INT16, INT32, INTS, MX_INT8, UINT8, UINTS
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import (
    LayerConfig,
    LowRankConfig,
    OutlierConfig,
    OutlierLayout,
    ScaleConfig,
    ScaleRule,
    TensorConfig,
)
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import Outliers, QuantizedLayer
from hls.layer_options import LayerOptions
from hls.layer_planning import plan_layer
from hls.layer_reference import layer_reference

N, K, TOKENS = 11, 72, 4
INT4 = TensorConfig((INTS[4],), PerGroup(24))
TOKEN8 = TensorConfig((INTS[8],), PerChannel(), ScaleConfig(FP32), dynamic=True)
MX = ScaleConfig(E8M0, ScaleRule.LQER_CEIL)
PLAIN = TensorConfig((FP16,), scale=None)
OPTIONS = LayerOptions(tokens=3, lanes=8, tile_rows=4)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


BIAS = normal(N, seed=9).numpy()


def quantized(config: LayerConfig, weight: torch.Tensor | None = None, **more: object) -> QuantizedLayer:
    weight = normal(N, K) if weight is None else weight
    assert isinstance(config.weight, TensorConfig)
    return QuantizedLayer(config, quantize_tensor(weight, config.weight), (N, K), **more)


def low_rank(a: TensorConfig, b: TensorConfig, activation: TensorConfig | None, rank: int = 5) -> QuantizedLayer:
    config = LayerConfig(weight=INT4, activation=activation, low_rank=LowRankConfig(rank, a, b))
    factors = (quantize_tensor(normal(rank, K, seed=1), a), quantize_tensor(normal(N, rank, seed=2), b))
    return quantized(config, low_rank_a=factors[0], low_rank_b=factors[1])


def columns(keep: bool, activation: TensorConfig | None) -> QuantizedLayer:
    places = torch.tensor([3, 17, 40, 41, 70])
    config = LayerConfig(
        weight=INT4,
        activation=activation,
        outliers=OutlierConfig(OutlierLayout.COLUMNS, len(places) / K, keep_dense_slot=keep),
    )
    values = Outliers(normal(N, len(places), seed=3).to(torch.float16) * 8, places)
    weight = normal(N, K)
    if not keep:
        weight = weight[:, [c for c in range(K) if c not in places.tolist()]]
    return quantized(config, weight, outliers=values)


def elements(layout: OutlierLayout, weight: TensorConfig = INT4, **more: object) -> QuantizedLayer:
    """Rows without, with one, and with ten outliers; the last row has some."""
    counts = torch.tensor([0, 1, 10, 0, 0, 2, 0, 0, 0, 0, 3])
    generator = torch.Generator().manual_seed(4)
    places = torch.cat([torch.randperm(K, generator=generator)[:count].sort().values for count in counts.tolist()])
    pointers = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    config = LayerConfig(
        weight=weight,
        activation=TOKEN8,
        outliers=OutlierConfig(layout, len(places) / (N * K), **more),
    )
    return quantized(config, outliers=Outliers(normal(len(places), seed=5).to(torch.float16) * 9, places, pointers))


def zero_pointed() -> QuantizedLayer:
    weight = TensorConfig((UINTS[3],), PerGroup(24), ScaleConfig(FP16, ScaleRule.RANGE), zero_point=UINTS[3])
    return elements(OutlierLayout.CSR, weight)


def rotated() -> QuantizedLayer:
    weight = TensorConfig((INTS[4],), PerGroup(24), hadamard=8)
    config = LayerConfig(weight=weight, activation=TOKEN8, smoothing=FP16)
    return quantized(config, smoothing=(normal(K, seed=6).abs() + 0.25).to(torch.float16).to(torch.float32))


def smoothed_fp16() -> QuantizedLayer:
    config = LayerConfig(weight=INT4, smoothing=FP32)
    return quantized(config, smoothing=normal(K, seed=6).abs() + 0.25)


def everything() -> QuantizedLayer:
    factor = TensorConfig((MX_INT8,), PerGroup(16), MX)
    activation = TensorConfig((MX_INT8,), PerGroup(16), MX, dynamic=True)
    config = LayerConfig(
        weight=TensorConfig((INTS[4],), PerGroup(16)),
        activation=activation,
        low_rank=LowRankConfig(5, factor, factor),
        outliers=OutlierConfig(OutlierLayout.COLUMNS, 2 / K),
        smoothing=FP16,
    )
    return quantized(
        config,
        low_rank_a=quantize_tensor(normal(5, K, seed=1), factor),
        low_rank_b=quantize_tensor(normal(N, 5, seed=2), factor),
        outliers=Outliers(normal(N, 2, seed=3).to(torch.float16), torch.tensor([0, 71])),
        smoothing=(normal(K, seed=6).abs() + 0.25).to(torch.float16).to(torch.float32),
    )


def factor_scales() -> TensorConfig:
    return TensorConfig((E4M3,), PerGroup(3), ScaleConfig(UINT8, outer=FP16))


QUICK = {
    "everything": everything,
    "elements_zero_pointed": zero_pointed,
}
SLOW = {
    "rotated": rotated,
    "low_rank_fp16": lambda: low_rank(PLAIN, PLAIN, None),
    "low_rank_int8": lambda: low_rank(
        TensorConfig((INTS[8],), PerChannel()), TensorConfig((INTS[8],), PerChannel()), TOKEN8
    ),
    "low_rank_two_levels": lambda: low_rank(factor_scales(), factor_scales(), TOKEN8, 9),
    "columns_kept": lambda: columns(True, TOKEN8),
    "columns_dropped": lambda: columns(False, TOKEN8),
    "columns_dropped_fp16": lambda: columns(False, None),
    "elements_csr": lambda: elements(OutlierLayout.CSR),
    "elements_narrow_index": lambda: elements(OutlierLayout.CSR, index=UINTS[7], row_pointer=INT16),
    "elements_bitmap": lambda: elements(OutlierLayout.BITMAP, index=INT32),
    "smoothed_fp16": smoothed_fp16,
}


def case(layer: QuantizedLayer) -> tuple[QuantizedLayer, LayerOptions, np.ndarray, np.ndarray]:
    """A layer as ``simulate_layers`` takes it."""
    x = (normal(TOKENS, K, seed=7) * torch.tensor([1.0, 0.05, 20.0, 1.0])[:, None]).numpy().astype(np.float16)
    return layer, OPTIONS, x, BIAS


def check(simulated: Iterable) -> None:
    for one in simulated:
        expected = one.expected.values
        np.testing.assert_array_equal(one.found.values, expected, err_msg=one.name)
        bare = layer_reference(_bare(one.layer), one.inputs, BIAS, OPTIONS).values
        assert not np.array_equal(expected, bare), one.name


def _bare(layer: QuantizedLayer) -> QuantizedLayer:
    """The layer without its branches: what an ignored branch would give. Dropped columns stay dropped, as zeros."""
    weight = layer.weight
    assert not isinstance(weight, tuple)
    outliers = layer.outliers
    config = replace(layer.config, low_rank=None, smoothing=None)
    if outliers is not None:
        outliers = replace(outliers, values=torch.zeros_like(outliers.values))
    if weight.config.hadamard:
        weight = replace(weight, config=replace(weight.config, hadamard=0))
        config = replace(config, weight=weight.config)
    return replace(
        layer, config=config, weight=weight, low_rank_a=None, low_rank_b=None, smoothing=None, outliers=outliers
    )


def quick_cases() -> dict[str, tuple]:
    """Layers of the session's common program."""
    return {name: case(make()) for name, make in QUICK.items()}


def test_branches_beside_a_layer(quick_layers: Callable) -> None:
    check(quick_layers(sys.modules[__name__]))


@pytest.mark.slow
@pytest.mark.parametrize("names", [tuple(SLOW)[:5], tuple(SLOW)[5:]], ids=["low_rank_and_columns", "elements"])
def test_every_kind_of_branch(simulate_layers: Callable, tmp_path: Path, names: tuple[str, ...]) -> None:
    check(simulate_layers(tmp_path, {name: case(SLOW[name]()) for name in names}))


# --- what is refused -------------------------------------------------------------------------------------------------


def test_factors_with_zero_points_are_refused() -> None:
    factor = TensorConfig((UINTS[8],), PerChannel(), ScaleConfig(FP16, ScaleRule.RANGE), zero_point=UINTS[8])
    with pytest.raises(NotImplementedError, match="low-rank factors"):
        plan_layer(low_rank(factor, PLAIN, None))


def test_a_rotation_must_divide_the_inputs() -> None:
    layer = quantized(LayerConfig(weight=TensorConfig((INTS[4],), PerGroup(24), hadamard=16)))
    with pytest.raises(NotImplementedError, match="divides its 72 inputs"):
        plan_layer(layer)
