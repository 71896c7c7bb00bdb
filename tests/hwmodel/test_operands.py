"""What moves and what is left to the vector unit, by hand for each part of a config."""

import math
from dataclasses import replace

import pytest

from datatypes.catalog import (
    BINARY,
    BITMOD_FP4,
    FP16,
    INTS,
    INTS_SYMMETRIC,
    NF4,
    OLIVE4_INT,
    TERNARY,
    UINT8,
    UINTS,
)  # fmt: skip
from datatypes.format import LearnedFormat
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import (
    CodebookConfig,
    LayerConfig,
    LowRankConfig,
    OutlierConfig,
    OutlierLayout,
    Part,
    PartitionedConfig,
    ScaleConfig,
    SparsityConfig,
    TensorConfig,
)  # fmt: skip
from hwmodel.accelerator import Accelerator
from hwmodel.evaluate import evaluate
from hwmodel.operands import OperandBits, products_of
from hwmodel.options import HONEST, PAPER, ModelOptions
from hwmodel.presets import ANT, BITMOD, FP16_BASELINE, OLIVE
from hwmodel.traffic import Product
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload

M, K, N = 64, 512, 256
SPEC = LayerSpec("x", LayerKind.LINEAR, M, K, N)
INT4 = TensorConfig((INTS_SYMMETRIC[4],), PerGroup(128), ScaleConfig(FP16))
INT8 = TensorConfig((INTS_SYMMETRIC[8],), PerGroup(128), ScaleConfig(FP16))


def _products(
    config: LayerConfig | OperandBits, accelerator: Accelerator = BITMOD, options: ModelOptions = HONEST
) -> list[Product]:
    return list(products_of(SPEC, config, accelerator, accelerator.prefill_array, options))


def _vector(config: LayerConfig, accelerator: Accelerator = BITMOD) -> int:
    return sum(product.vector_operations for product in _products(config, accelerator))


def test_published_bits_are_codes_and_group_scales() -> None:
    weight = TensorConfig(BITMOD_FP4, PerGroup(128), ScaleConfig(UINT8, outer=FP16))
    product = _products(LayerConfig(weight=weight), options=PAPER)[0]
    assert product.weight.dram_bits == N * K * 4.0625  # 8 / 128 of a bit for the scale; selectors left out
    channel = TensorConfig((INTS[5],), PerChannel())
    assert _products(LayerConfig(weight=channel), ANT, PAPER)[0].weight.dram_bits == N * K * 5


def test_honest_bits_are_all_bits() -> None:
    weight = TensorConfig(BITMOD_FP4, PerGroup(128), ScaleConfig(UINT8, outer=FP16))
    product = _products(LayerConfig(weight=weight))[0]
    groups = N * K // 128
    assert product.weight.dram_bits == N * K * 4 + groups * (8 + 2) + N * 16


def test_group_scales_by_hand() -> None:
    config = LayerConfig(weight=INT4)
    assert _vector(config, BITMOD) == 0  # the PE scales by itself
    assert _vector(config, ANT) == M * N * K // 128  # one for each output and group
    assert _vector(config, FP16_BASELINE) == 0  # decoded on the way in


def test_zero_points_by_hand() -> None:
    config = LayerConfig(weight=replace(INT4, formats=(UINTS[4],), zero_point=UINTS[4]))
    assert _vector(config, BITMOD) == M * K + M * N * 4  # sums of the activations, one correction for each group
    assert _vector(config, ANT) == M * N * 4 + M * K + M * N * 4
    assert _vector(config, FP16_BASELINE) == 0


def test_outliers_by_hand() -> None:
    config = LayerConfig(weight=INT4, outliers=OutlierConfig(fraction=0.01))
    # rows hold 5.12 outliers on average, the fullest of 64 at most about 1 + sqrt(2 ln 64 / 5.12) times as many
    imbalance = 1 + math.sqrt(2 * math.log(64) / (round(0.01 * N * K) / N))
    assert _vector(config, BITMOD) == math.ceil(round(0.01 * N * K) * M * imbalance)
    even = replace(HONEST, outlier_gather=False)
    assert _products(config, options=even)[0].vector_operations == round(0.01 * N * K) * M
    assert _vector(config, FP16_BASELINE) == 0
    columns = replace(config, outliers=OutlierConfig(OutlierLayout.COLUMNS, 0.01))
    assert _vector(columns, BITMOD) == round(0.01 * K) * N * M
    plain, sparse = _products(LayerConfig(weight=INT4))[0], _products(config)[0]
    assert sparse.weight.dram_bits - plain.weight.dram_bits == config.outliers.storage_bits((N, K)).total  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "operations"),
    [
        ({"permuted": True}, M * K),
        ({"smoothing": FP16}, M * K),
        ({"activation": TensorConfig((INTS[8],), PerChannel(), dynamic=True)}, 2 * M * K),  # maximum, scaling
        ({"activation": TensorConfig((INTS[8],), PerChannel())}, M * K),
        ({"output": TensorConfig((INTS[8],), PerChannel(), dynamic=True)}, 2 * M * N),
        ({"output_norm": True}, 5 * M * N),
        ({"weight": replace(INT4, row_scale=FP16)}, M * N),
        ({"weight": replace(INT4, column_scale=FP16)}, M * K),
        ({"weight": replace(INT4, hadamard=64)}, 6 * M * K),
        ({"weight": replace(INT4, scale=ScaleConfig(UINT8, outer=FP16))}, M * N),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else str(value),
)
def test_other_side_work_by_hand(changes: dict[str, object], operations: int) -> None:
    config = replace(LayerConfig(weight=INT4), **changes)  # type: ignore[arg-type]
    assert _vector(config) == operations
    assert sum(p.vector_operations for p in _products(config, options=replace(HONEST, vector_unit=False))) == 0


def test_activations_and_outputs_save_traffic_alone() -> None:
    int8 = TensorConfig((INTS[8],), PerChannel(), dynamic=True)
    plain = _products(LayerConfig(weight=INT4))[0]
    coded = _products(LayerConfig(weight=INT4, activation=int8, output=int8))[0]
    assert coded.input.dram_bits == M * K * 8 + M * 16  # an FP16 scale for each token
    assert coded.output.dram_bits == M * N * 8 + M * 16
    assert (coded.input.buffer_words, coded.compute_cycles) == (plain.input.buffer_words, plain.compute_cycles)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "apart"])
def test_low_rank_branch_by_hand(fused: bool) -> None:
    config = LayerConfig(weight=INT4, low_rank=LowRankConfig(16, INT8, INT8, fused=fused))
    main, down, up = _products(config)
    assert (down.macs, up.macs) == (M * K * 16, M * 16 * N)
    assert down.weight.dram_bits == INT8.storage_bits((16, K)).total
    assert up.weight.dram_bits == INT8.storage_bits((N, 16)).total
    assert main.weight.dram_bits == INT4.storage_bits((N, K)).total
    assert down.output.dram_bits == up.input.dram_bits == 0  # stays on chip
    assert down.input.dram_bits == (0 if fused else M * K * 16)
    assert up.output.dram_bits == (0 if fused else 2 * M * N * 16)


def test_rank_is_cut_to_the_layer() -> None:
    config = LayerConfig(weight=INT4, low_rank=LowRankConfig(10_000, INT8, INT8))
    assert _products(config)[1].macs == M * K * N  # rank 256


def test_partitioned_columns_go_their_own_ways() -> None:
    parts = PartitionedConfig((Part(384, INT4), Part(128, INT8)))
    product = _products(LayerConfig(weight=parts))[0]
    tiles = (N // 32) * (M // 32)
    assert product.compute_cycles == tiles * (384 // 4 * 2 + 128 // 4 * 4 + 1)  # one change of width
    assert product.vector_operations == M * K  # single columns are sorted by width
    slabs = replace(parts, slab=128)
    product = _products(LayerConfig(weight=slabs))[0]
    # 4 slabs, 1 of them wide: 3 neighbours, which differ with probability 1 - 3 x 2 / (4 x 3)
    assert product.compute_cycles == tiles * (384 // 4 * 2 + 128 // 4 * 4 + 1.5)
    assert product.vector_operations == 0
    wide = PartitionedConfig((Part(384, INT4), Part(128, TensorConfig((FP16,), scale=None))))
    mixed = _products(LayerConfig(weight=wide))[0]
    assert mixed.compute_cycles == tiles * (384 // 4 * 2 + 1)
    assert mixed.vector_operations == M * N * 128 + M * K


def test_parts_must_cover_the_layer() -> None:
    with pytest.raises(ValueError, match="columns of the parts of layer x must sum to 512, not 384"):
        _products(LayerConfig(weight=PartitionedConfig((Part(384, INT4),))))


def test_residual_is_a_second_pass() -> None:
    config = LayerConfig(weight=replace(INT4, residual=INT8))
    assert _products(config)[0].compute_cycles == (N // 32) * (M // 32) * K // 4 * (2 + 4)
    assert (
        _products(config, FP16_BASELINE)[0].compute_cycles == _products(LayerConfig(), FP16_BASELINE)[0].compute_cycles
    )


@pytest.mark.parametrize(
    "weight",
    [
        TensorConfig((NF4,), PerGroup(64)),
        TensorConfig((LearnedFormat("learned4", 4, "here"),), PerChannel(), scale=None, codebook=CodebookConfig()),
        TensorConfig((INTS[4],), PerGroup(128), sparsity=SparsityConfig()),
        TensorConfig((BINARY,), PerChannel(), row_scale=FP16, column_scale=FP16, scale=None),
        TensorConfig((TERNARY,), PerChannel()),
        TensorConfig((OLIVE4_INT,), PerChannel()),
        replace(INT4, residual=INT8),
    ],
    ids=["nf4", "learned codebook", "2:4 sparse", "binary", "ternary", "olive pairs", "residual"],
)
def test_fp16_baseline_runs_every_family(weight: TensorConfig) -> None:
    workload = Workload("x", Phase.PREFILL, (SPEC,))
    report = evaluate(workload, LayerConfig(weight=weight), FP16_BASELINE)
    fp16 = evaluate(workload, LayerConfig(), FP16_BASELINE)
    assert report.storage_bits == weight.storage_bits((N, K)).total < fp16.storage_bits
    assert report.total.compute_cycles == fp16.total.compute_cycles  # bandwidth is all it saves
    assert report.total.dram_bits < fp16.total.dram_bits


def test_pairs_of_olive_are_four_bits_each() -> None:
    product = _products(LayerConfig(weight=TensorConfig((OLIVE4_INT,), PerChannel())), OLIVE)[0]
    assert product.weight.dram_bits == N * K * 4 + N * 16
    assert product.weight_port_bits == 4 * 36  # as the published OliVe design point


def test_bare_bit_widths_beyond_the_pe() -> None:
    with pytest.raises(NotImplementedError, match="its PEs take integers of up to 8 bits"):
        _products(OperandBits(16))
    assert _products(OperandBits(16), options=PAPER)[0].compute_cycles > 0
    assert _products(OperandBits(16), FP16_BASELINE)[0].compute_cycles > 0


def test_bit_widths_out_of_range() -> None:
    with pytest.raises(ValueError, match="weight and kv bits must be 1 to 32, not 0.5 and 8"):
        OperandBits(0.5, 8)
