"""Measured layers with a low-rank branch or outliers, by their names in the records (``kernels_gpu.layer_recipes``).

The records name a layer; its encodings stand here again, since those recipes make weights with torch. A test compares
them.
"""

from __future__ import annotations

from collections.abc import Mapping

from codesign.gpu_records import condition, gpu_of
from datatypes.block_formats import integer_asymmetric
from datatypes.catalog import E8M0, FP16, INTS_SYMMETRIC
from datatypes.granularity import PerGroup
from datatypes.layer_config import (
    LayerConfig,
    LowRankConfig,
    OutlierConfig,
    OutlierLayout,
    ScaleConfig,
    ScaleRule,
    TensorConfig,
)
from hwmodel.gpu import Gpu
from hwmodel.gpu_branches_fit import BranchCase
from hwmodel.report import Measurement
from kernels_gpu.gemv_recipes import RECIPES

_RANK, _SHARE = 32, 0.01  # kernels_gpu/layer_recipes.py
_DENSE = RECIPES["int4_g128"]
_FACTORS: Mapping[str, TensorConfig] = {
    "fp16": TensorConfig((FP16,), scale=None),
    "int8": TensorConfig((INTS_SYMMETRIC[8],), PerGroup(128), ScaleConfig(FP16)),
    "mxint8": TensorConfig((INTS_SYMMETRIC[8],), PerGroup(16), ScaleConfig(E8M0, ScaleRule.LQER_CEIL)),
}
MEASURED_LAYERS: Mapping[str, LayerConfig] = {
    "int4_g128": LayerConfig(weight=_DENSE),
    **{
        f"lqer32_{name}": LayerConfig(weight=_DENSE, low_rank=LowRankConfig(_RANK, factor, factor))
        for name, factor in _FACTORS.items()
    },
    "columns1": LayerConfig(
        weight=_DENSE, outliers=OutlierConfig(OutlierLayout.COLUMNS, _SHARE, FP16, keep_dense_slot=False)
    ),
    "rows1": LayerConfig(weight=integer_asymmetric(4, 128), outliers=OutlierConfig(OutlierLayout.CSR, _SHARE)),
}
_LAUNCHES = "_launches"  # of a branch beside the dense product, not inside it: kernels_gpu/bench_layer.py


def layer_case_of(record: Measurement, gpu: Gpu | None = None) -> BranchCase:
    """A record of a layer as the model takes it, on ``gpu`` or what its device means.

    Raises:
        ValueError: no such layer, or a condition is missing.
    """
    name = record.name.removesuffix(_LAUNCHES)
    if name not in MEASURED_LAYERS:
        raise ValueError(f"name of a measured layer must be one of {', '.join(MEASURED_LAYERS)}, not {record.name!r}")
    m, k, n = record.shape
    return BranchCase(
        name, MEASURED_LAYERS[name], (m, n, k), gpu or gpu_of(record.device),
        condition(record, "copy_bytes_per_s"), record.seconds, fused=name == record.name,
    )  # fmt: skip
