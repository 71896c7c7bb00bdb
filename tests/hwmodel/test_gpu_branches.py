"""What stands beside a decode GEMV: cuts are the launchers', laws, figures by hand, held-out layers."""

from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest

from codesign.gpu_layers import MEASURED_LAYERS
from datatypes.catalog import BF16, FP16, FP32, INTS_SYMMETRIC, NF4
from datatypes.granularity import PerChannel, PerGroup, PerTensor
from datatypes.layer_config import (
    LayerConfig,
    LowRankConfig,
    OutlierConfig,
    OutlierLayout,
    ScaleConfig,
    TensorConfig,
)
from hwmodel.gpu_branches import (
    MOST_JOINED_RANK,
    Beside,
    beside_s,
    beside_without_kernel,
    branch_s,
    columns_s,
    dense_inputs,
    joined_s,
    joins,
    ring_s,
    rows_s,
)
from hwmodel.gpu_branches_cut import cut_of_a, cut_of_b, cut_of_columns, cut_of_rows, factor_has_kernel
from hwmodel.gpu_branches_fit import BOUNDS, HELD_LAYERS, BranchCase, fit, use_of
from hwmodel.gpu_gemv import gemv_constants, gemv_time
from hwmodel.gpu_gemv_cut import GemvCut
from hwmodel.gpu_gemv_encoding import encoding_of
from hwmodel.gpu_presets import H100
from hwmodel.gpu_turns import FITTED, TurnConstants, turn_constants
from kernels_gpu.gemv_branch_spec import MOST_RANK
from kernels_gpu.gemv_recipes import RECIPES
from kernels_gpu.low_rank_spec import Factor, FactorKind, factor_of, thin_cut
from kernels_gpu.outliers import row_blocks

COPY = 3e12
TRUE = TurnConstants(
    launch_s=0.9e-6, turn_s=0.5e-6, cold_s=0.1e-6, gather_cycles=1.5, missed_cycles=0.5, joined_s=1.4e-6,
    joined_token_s=0.1e-6, joined_tile_s=0.05e-6,
)  # fmt: skip
WHERE = Beside(H100, COPY, constants=TRUE)
WIDE = TensorConfig((FP16,), scale=None)
BYTES = TensorConfig((INTS_SYMMETRIC[8],), PerGroup(128), ScaleConfig(FP16))
COLUMNS = OutlierConfig(OutlierLayout.COLUMNS, 0.01, keep_dense_slot=False)
LAUNCH_S = TRUE.launch_s


@pytest.mark.parametrize("columns", [16, 32, 41, 64, 100, 4096, 8192, 11008])
@pytest.mark.parametrize("factor", [WIDE, BYTES, TensorConfig((FP32,), scale=None)], ids=["fp16", "int8", "fp32"])
def test_thin_products_are_cut_as_the_launcher_cuts_them(factor, columns):
    # a warp a row and eight splits of it, or eight lanes a row: kernels_gpu/low_rank_launch.py on a device
    for ours, most, splits in ((cut_of_a, 32, 8), (cut_of_b, 8, 1)):
        own = ours(factor, columns)
        theirs = thin_cut(factor_of(factor, columns), most_lanes=most, splits=splits)
        assert (own.lanes, own.loads, own.rounds, own.splits) == theirs
        assert own.unit == factor_of(factor, columns).unit


@pytest.mark.parametrize("count", [8, 41, 82, 110])
def test_outlier_columns_are_cut_as_the_launcher_cuts_them(count):
    theirs = Factor(FactorKind.FP16, count)
    own = cut_of_columns(16, count)
    assert (own.lanes, own.loads, own.rounds, own.splits) == thin_cut(theirs, most_lanes=8 if theirs.vector else 32)


@pytest.mark.parametrize(("n", "k"), [(4096, 4096), (11008, 4096), (28672, 8192), (512, 512)])
def test_outlier_rows_are_cut_as_the_launcher_cuts_them(n, k):
    count = round(0.01 * n * k)
    pointers = np.linspace(0, count, n + 1).round().astype(np.int64)
    rounds = min(4, max(1, -(-count // (4 * 132 * 1024))))  # kernels_gpu/outliers_launch.py: choose_elements
    blocks = len(row_blocks(pointers, rounds * 1024, 64)) - 1
    assert cut_of_rows(n, count).blocks == pytest.approx(blocks, rel=0.03)
    assert cut_of_rows(n, count).rounds <= rounds


def test_factors_with_kernels_are_those_of_the_kernels():
    rank = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), ScaleConfig(FP16))
    taken = [WIDE, BYTES, rank, TensorConfig((BF16,), scale=None)]
    refused = [
        TensorConfig((NF4,), PerGroup(64), ScaleConfig(FP16)), TensorConfig((INTS_SYMMETRIC[4],), PerGroup(128)),
        TensorConfig((INTS_SYMMETRIC[8],), PerTensor(), ScaleConfig(FP16)), replace(BYTES, dynamic=True),
    ]  # fmt: skip
    for factor in (*taken, *refused):
        try:
            factor_of(factor, 4096)
            has = True
        except NotImplementedError:
            has = False
        assert factor_has_kernel(factor) is has


def test_a_branch_by_hand():
    # A, 32 x 4096: 32 lanes of two eights, eight splits, 512 inputs of a token: two turns of 256 threads a token.
    # B, 4096 x 32: four lanes, 32 sums of a token: one turn, then y token by token
    branch = LowRankConfig(32, WIDE, WIDE)
    for m, of_a, of_b in ((1, 2, 1 + 1), (4, 8, 1 + 4), (16, 32, 2 + 16)):
        down, up = branch_s(branch, (m, 4096, 4096), WHERE)
        assert down == pytest.approx(LAUNCH_S + of_a * 0.5e-6 + 32 * 4096 * 2 / COPY)
        assert up == pytest.approx(LAUNCH_S + of_b * 0.5e-6 + 32 * 4096 * 2 / COPY)
    cold, _ = branch_s(branch, (1, 4096, 4096), replace(WHERE, cold=True))
    assert cold - branch_s(branch, (1, 4096, 4096), WHERE)[0] == pytest.approx(2 * 0.1e-6)


def test_a_branch_inside_the_products_launches_by_hand():
    branch = LowRankConfig(32, WIDE, WIDE)
    # two tiles of rows for each SM, so that a token takes 0.2 us: 1, 16 and 8 tokens a launch
    for m, launches, handed in ((1, 1, 1.6e-6), (16, 1, 4.6e-6), (16, 2, 2 * 3.0e-6)):
        down, up = joined_s(branch, (m, 2 * 132 * 16, 8192), WHERE, launches)
        assert down == pytest.approx(handed + launches * 32 * 8192 * 2 / COPY)
        assert up == pytest.approx(launches * 32 * 4224 * 2 / COPY)
    config, shape = MEASURED_LAYERS["lqer32_fp16"], (1, 4096, 8192)
    assert beside_s(config, shape, WHERE, launches=1) == pytest.approx(sum(joined_s(branch, shape, WHERE, 1)))


def test_a_branch_of_a_large_rank_is_launches_of_its_own():
    assert MOST_JOINED_RANK == MOST_RANK
    shape = (1, 4096, 4096)
    for rank, joined in ((MOST_JOINED_RANK, True), (MOST_JOINED_RANK + 1, False)):
        branch = LowRankConfig(rank, WIDE, WIDE)
        assert joins(branch, 4096, 4096) is joined and joins(branch, 4096, 64)  # no rank above the weight's
        config = LayerConfig(weight=RECIPES["int4_g128"], low_rank=branch)
        taken = joined_s(branch, shape, WHERE, 1) if joined else branch_s(branch, shape, WHERE)
        assert beside_s(config, shape, WHERE, launches=1) == pytest.approx(sum(taken))


def test_rings_fill_while_the_kernel_before_is_at_its_turns():
    encoding, cut = encoding_of(RECIPES["int4_g128"]), GemvCut(16, 2, 2)
    # 16 warps of two stages of two runs of 16 x 128 nibbles on each of 132 SMs, or all of a smaller weight
    rate, stored = COPY * gemv_constants().read_over_copy, 16 * 2 * 2 * 1024 * 132
    assert ring_s(encoding, cut, 1e9, WHERE) == pytest.approx(stored / rate)
    assert ring_s(encoding, cut, 1e6, WHERE) == pytest.approx(1e6 / rate)
    assert ring_s(encoding, cut, 1e9, replace(WHERE, more_s=1e-6)) == 0  # kernels that do not overlap
    branch, shape = LowRankConfig(32, WIDE, WIDE), (4, 4096, 4096)
    down, up = branch_s(branch, shape, WHERE)
    assert branch_s(branch, shape, WHERE, ring_s=1e-6) == pytest.approx((down - 1e-6, up))
    assert branch_s(branch, shape, WHERE, ring_s=1.0) == pytest.approx((LAUNCH_S, up))
    assert columns_s(COLUMNS, shape, WHERE, ring_s=1.0)[0] == pytest.approx(LAUNCH_S)
    both = MEASURED_LAYERS["lqer32_fp16"], MEASURED_LAYERS["rows1"]  # nothing runs before the product of rows
    saved = [beside_s(config, shape, WHERE) - beside_s(config, shape, WHERE, ring_s=1e-6) for config in both]
    assert saved == pytest.approx([1e-6, 0.0])


def test_outlier_columns_by_hand():
    # 82 of 8192 columns: a warp a row, so 3584 blocks on 132 SMs of eight; one turn of two loads, and y
    taken, product = columns_s(COLUMNS, (1, 28672, 8192), WHERE)
    assert taken == pytest.approx(LAUNCH_S + 0.5e-6)
    moved = 82 * 28672 * 2 + 82 * 2
    assert product == pytest.approx(LAUNCH_S + 3584 / (132 * 8) * 3 * 0.5e-6 + moved / COPY)
    assert columns_s(replace(COLUMNS, keep_dense_slot=True), (1, 28672, 8192), WHERE)[0] == 0
    assert columns_s(replace(COLUMNS, fraction=0.0), (1, 4096, 4096), WHERE) == (0, 0)
    assert dense_inputs(LayerConfig(outliers=COLUMNS), (4096, 4096)) == 4096 - 41
    assert dense_inputs(LayerConfig(outliers=OutlierConfig()), (4096, 4096)) == 4096


def test_outlier_rows_by_hand():
    # 10 % of 4096 x 4096: 409.6 a row, 9.5 rows in four rounds of 1024; 432 blocks are four for the fullest SM
    many = OutlierConfig(OutlierLayout.CSR, 0.1)
    fullest, turns_s = 4 * 9.5 * 409.6, 4 * 4 * 0.5e-6
    for m, cycles in ((1, 1.5), (16, 2.0)):  # 8 KiB of inputs lie in level 1; 128 KiB do not
        gathers_s = fullest * m * cycles / H100.frequency_hz
        expected = LAUNCH_S + (gathers_s**4 + turns_s**4) ** (1 / 4)
        assert rows_s(many, (m, 4096, 4096), WHERE) == pytest.approx(expected, rel=1e-3)
    assert rows_s(replace(many, fraction=0.0), (1, 4096, 4096), WHERE) == 0


def test_more_tokens_outliers_and_rank_take_longer():
    shapes = [(m, 4096, 4096) for m in (1, 2, 4, 8, 16)]
    for config in MEASURED_LAYERS.values():
        for launches in (0, 1):
            times = [beside_s(config, shape, WHERE, launches=launches) for shape in shapes]
            assert all(a <= b for a, b in pairwise(times))
    for shares in pairwise((0.001, 0.01, 0.05, 0.2)):
        less, more = (rows_s(OutlierConfig(OutlierLayout.CSR, share), (4, 4096, 4096), WHERE) for share in shares)
        assert less < more
    for ranks in pairwise((8, 32, 256)):
        less, more = (sum(branch_s(LowRankConfig(rank, WIDE, WIDE), (4, 4096, 4096), WHERE)) for rank in ranks)
        assert less < more
    assert beside_s(MEASURED_LAYERS["int4_g128"], shapes[0], WHERE) == 0


def test_what_has_no_kernel_is_refused():
    bitmap = LayerConfig(outliers=OutlierConfig(OutlierLayout.BITMAP))
    assert beside_without_kernel(bitmap) == "outliers in a bitmap"
    wide = LayerConfig(outliers=OutlierConfig(format=FP32))
    assert beside_without_kernel(wide) == "outliers in fp32"
    narrow = TensorConfig((NF4,), PerGroup(64), ScaleConfig(FP16))
    with pytest.raises(NotImplementedError, match="must take the layer, not factors of a branch in this encoding"):
        beside_s(LayerConfig(low_rank=LowRankConfig(8, narrow, narrow)), (1, 64, 64), WHERE)
    case = BranchCase("x", LayerConfig(), (1, 4096, 4096), H100, COPY, 1e-6)
    with pytest.raises(NotImplementedError, match="weight of a measured layer must be one encoding, not None"):
        case.predicted_s()
    long = BranchCase("x", MEASURED_LAYERS["rows1"], (1, 16, 300_000), H100, COPY, 1e-6)
    with pytest.raises(NotImplementedError, match="must fit into shared memory, not 300000"):
        long.predicted_s()


def test_inputs_that_are_no_whole_vectors_are_fetched_one_after_another():
    def inputs_s(k, m=4):
        encoding, cut = encoding_of(RECIPES["int4_g128"]), GemvCut(16, 2, 2)
        return gemv_time(
            encoding, (m, 4096, k), cut, weight_bytes=1e6, gpu=H100, copy_bytes_per_s=COPY, turn_s=1e-6
        ).inputs_s  # fmt: skip

    # 512 eights of each of four tokens are four of a thread: three turns more than one batch
    assert inputs_s(4055) == pytest.approx(inputs_s(4096) * 4055 / 4096 + 3e-6)
    assert inputs_s(4056) == pytest.approx(inputs_s(4096) * 4056 / 4096)


def test_constants_come_from_the_table_or_not_at_all(tmp_path):
    assert set(asdict(turn_constants())) == set(FITTED) == set(BOUNDS)
    for name in FITTED:
        low, start, high = BOUNDS[name]
        assert low < getattr(turn_constants(), name) < high and low < start < high
    path = tmp_path / "constants.csv"
    path.write_text("constant,value,source\nturn_s,1e-6,test\n")
    with pytest.raises(ValueError, match="constants of the branches model must be a CSV table with launch_s, "):
        turn_constants(path)


def test_a_fit_predicts_other_layers_of_the_machine_that_made_its_rows():
    def case(name, shape):
        made = BranchCase(name, MEASURED_LAYERS[name], shape, H100, COPY, 1.0)
        return replace(made, seconds=made.predicted_s(TRUE))

    names = ("lqer32_fp16", "columns1", "rows1")
    found = fit([case(name, (m, n, 4096)) for name in names for m in (1, 16) for n in (4096, 28672)])
    beside = replace(case("lqer32_fp16", (4, 11008, 4096)), fused=False)
    beside = replace(beside, seconds=beside.predicted_s(TRUE))
    for held in (case("lqer32_mxint8", (4, 11008, 4096)), case("rows1", (8, 11008, 4096)), beside):
        assert held.predicted_s(found) == pytest.approx(held.seconds, rel=0.02)
    with pytest.raises(ValueError, match="rows to fit must be at least 8, one for each constant, not 1"):
        fit([case("rows1", (1, 4096, 4096))])


def test_held_out_are_formats_of_factors_and_a_shape():
    def use(name, n, gpu="h100"):
        return use_of(BranchCase(name, MEASURED_LAYERS[name], (1, n, 4096), H100, COPY, 1.0), gpu)

    assert use("lqer32_fp16", 4096) == use("rows1", 4096) == "fitted"
    assert {use(name, 4096) for name in HELD_LAYERS} == {"format held out"}
    assert use("columns1", 11008) == "shape held out" and use("lqer32_int8", 11008) == "format and shape held out"
    assert use("rows1", 4096, "h200") == "other GPU" and use("int4_g128", 4096) == "nothing beside"
