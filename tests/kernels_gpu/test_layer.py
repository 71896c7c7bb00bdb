"""Whole layers in the simulator (and, marked gpu, on a device) against ``QuantizedLayer.dequantize_weight``."""

from dataclasses import replace

import pytest
import torch

from codesign.algorithms.gwq import gwq_config
from codesign.algorithms.lqer import l2qer_int_config, mxint_config
from datatypes.catalog import BF16, FP16, FP32, INT16
from datatypes.granularity import PerGroup
from datatypes.layer_config import (
    LayerConfig,
    LowRankConfig,
    OutlierConfig,
    OutlierLayout,
    Part,
    PartitionedConfig,
    TensorConfig,
)
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import Outliers, QuantizedLayer
from kernels_gpu import ptx
from kernels_gpu.gemv_branch_spec import MOST_RANK, BranchSpec
from kernels_gpu.gemv_launch import Branch, allocate_result, prepare
from kernels_gpu.gemv_recipes import RECIPES
from kernels_gpu.layer import device_layer, layer_gemv, prepare_layer
from kernels_gpu.layer_inputs import InputsSpec
from kernels_gpu.layer_kernels import kernels_of
from kernels_gpu.layer_reference import reference
from kernels_gpu.low_rank_spec import Factor, FactorKind

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")
FACTOR = TensorConfig((FP16,), scale=None)
INT4 = RECIPES["int4_g128"]


def random(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def with_branch(n, k, branch, weight=INT4):
    """A layer whose branch is worth about as much as its weight, so that an error in it would be seen."""
    rank = min(branch.rank, n, k)
    a, b = quantize_tensor(random((rank, k), 1), branch.a), quantize_tensor(random((n, rank), 2) / rank**0.5, branch.b)
    config = LayerConfig(weight=weight, low_rank=branch)
    return QuantizedLayer(config, quantize_tensor(random((n, k), 0), weight), (n, k), low_rank_a=a, low_rank_b=b)


def with_columns(n, k, count, *, kept, format=FP16):
    """OWQ's columns: the most sensitive ones in FP16, dense slots kept or dropped."""
    columns = torch.randperm(k, generator=torch.Generator().manual_seed(3))[:count].sort().values
    weight = random((n, k), 0)
    left = torch.ones(k, dtype=torch.bool)
    left[columns] = False
    values = (3 * weight[:, columns]).to(torch.float16 if format is FP16 else torch.float32)
    outliers = OutlierConfig(OutlierLayout.COLUMNS, count / k, format, INT16, keep_dense_slot=kept)
    dense = quantize_tensor(weight if kept else weight[:, left], INT4)
    return QuantizedLayer(
        LayerConfig(weight=INT4, outliers=outliers), dense, (n, k), outliers=Outliers(values, columns)
    )


def with_rows(n, k, fraction, *, zeroed, layout=OutlierLayout.CSR):
    """GWQ's single weights: their dense slots decode to zero, or (SpQR's, say) to something."""
    config = gwq_config(4, fraction=fraction)
    weight = random((n, k), 0)
    places = torch.randperm(n * k, generator=torch.Generator().manual_seed(4))[: round(fraction * n * k)]
    mask = torch.zeros(n * k, dtype=torch.bool)
    mask[places] = True
    mask = mask.reshape(n, k)
    values = (3 * weight)[mask].half()
    dense = quantize_tensor(torch.where(mask, torch.zeros(()), weight) if zeroed else weight, config.weight)
    pointers = torch.cat([torch.zeros(1, dtype=torch.int64), mask.sum(1).cumsum(0)])
    config = replace(config, outliers=OutlierConfig(layout, int(mask.sum()) / (n * k)))
    outliers = Outliers(values, mask.nonzero()[:, 1], pointers)
    return QuantizedLayer(config, dense, (n, k), outliers=outliers)


def everything(n, k):
    """Columns dropped, act-order, smoothing and a branch at once."""
    layer = with_columns(n, k, 6, kept=False)
    branch = with_branch(n, k, LowRankConfig(8, FACTOR, FACTOR))
    order = torch.randperm(k, generator=torch.Generator().manual_seed(5))
    # dropped slots are counted in stored order, values stand in the layer's: the same columns where they stay in place
    fixed = layer.outliers.columns
    others = torch.tensor([c for c in order.tolist() if c not in set(fixed.tolist())])
    order = torch.arange(k)
    rest = torch.ones(k, dtype=torch.bool)
    rest[fixed] = False
    order[rest] = others
    return replace(
        layer,
        config=replace(layer.config, low_rank=branch.config.low_rank, permuted=True, smoothing=FP32),
        low_rank_a=branch.low_rank_a,
        low_rank_b=branch.low_rank_b,
        permutation=order,
        smoothing=random((k,), 6).abs() + 0.5,
    )


LAYERS = {
    "lqer int8 factors": lambda n, k: with_branch(n, k, l2qer_int_config(8).low_rank),
    "lqer mxint8": lambda n, k: with_branch(
        n, k, LowRankConfig(16, mxint_config(8), mxint_config(8)), replace(mxint_config(4), granularity=PerGroup(32))
    ),
    "owq columns dropped": lambda n, k: with_columns(n, k, 5, kept=False),
    "owq columns over dense slots": lambda n, k: with_columns(n, k, 8, kept=True),
    "gwq rows": lambda n, k: with_rows(n, k, 0.03, zeroed=True),
    "rows over dense slots": lambda n, k: with_rows(n, k, 0.03, zeroed=False, layout=OutlierLayout.BITMAP),
    "everything": everything,
}


def check(layer, m, dtype=torch.float16, device="cpu", seen=0.5, *, fused=False):
    x = random((m, layer.shape[1]), 9).to(dtype)
    expected, allowed = reference(layer, x)
    made = allocate_result(m, layer.shape[0], x.to(device)).fill_(float("nan"))
    launches = prepare_layer(device_layer(layer, device), x.to(device), made, fused=fused)
    for launch in launches:
        launch()
    error = (made.double().cpu() - expected).abs()
    assert (error <= allowed).all(), (error / allowed).max()
    without = x.double() @ replace_branches(layer).double().T
    # what stands beside the codes would be missed
    assert ((without - expected).abs() > 4 * allowed).float().mean() > seen


def replace_branches(layer):
    """The weight without what stands beside the dense codes."""
    if layer.config.outliers is not None and not layer.config.outliers.keep_dense_slot:
        weight = layer.dense_weight()
        weight[:, layer.outliers.columns] = 0
        return weight
    return replace(layer, outliers=None).dense_weight()


@simulated
@pytest.mark.parametrize("name", list(LAYERS))
def test_every_kind_of_layer(name):
    check(LAYERS[name](5, 136), 2 if "int8" in name else 1, torch.bfloat16 if "rows over" in name else torch.float16)


FUSED = {
    "int8 factors": lambda n, k: with_branch(n, k, l2qer_int_config(8).low_rank),
    "mxint8 factors": LAYERS["lqer mxint8"],
    "fp16 factors": lambda n, k: with_branch(n, k, LowRankConfig(12, FACTOR, FACTOR), RECIPES["mxfp4"]),
    "fp32 and bf16 factors": lambda n, k: with_branch(
        n, k, LowRankConfig(5, TensorConfig((FP32,), scale=None), TensorConfig((BF16,), scale=None))
    ),
    "everything": everything,
}


@simulated
@pytest.mark.parametrize("name", list(FUSED))
def test_a_branch_in_the_launch_of_the_product(name):
    many = "fp16" in name or name == "int8 factors"
    check(FUSED[name](21, 264), 6 if many else 1, torch.bfloat16 if "bf16" in name else torch.float16, fused=True)


@simulated
def test_a_branch_in_the_launch_of_the_product_is_one_launch_less_two_and_must_fit():
    layer = device_layer(with_branch(16, 128, LowRankConfig(4, FACTOR, FACTOR)), "cpu")
    x, y = torch.zeros(1, 128).half(), allocate_result(1, 16, torch.zeros(1).half())
    assert [len(prepare_layer(layer, x, y, fused=fused)) for fused in (False, True)] == [3, 1]
    with pytest.raises(ValueError, match=r"factors of a branch must be \[rank, 128\] and \[n, rank\], not \[16, 4\]"):
        Branch(*layer.low_rank[::-1], x)
    with pytest.raises(ValueError, match="a branch of 1 tokens must have 16 rows, not 16 for 2 tokens"):
        prepare(layer.dense, x, y, branch=Branch(*layer.low_rank, torch.zeros(2, 128).half()))


@simulated
@pytest.mark.parametrize(("rank", "launches"), [(MOST_RANK, 1), (MOST_RANK + 8, 3)])
def test_a_branch_of_a_large_rank_is_launches_of_its_own(rank, launches):
    layer = device_layer(with_branch(288, 288, LowRankConfig(rank, FACTOR, FACTOR)), "cpu")
    x = torch.zeros(1, 288).half()
    assert len(prepare_layer(layer, x, allocate_result(1, 288, x))) == launches
    assert len(list(kernels_of(layer, 288, 1))) == launches


@pytest.mark.parametrize("tokens", [1, 3, 16])
@pytest.mark.parametrize("columns", [128, 1000, 4096, 28672])
@pytest.mark.parametrize("kind", list(FactorKind))
def test_parts_of_a_branch_cover_its_factors(kind, columns, tokens):
    for rank, warps in ((4, 1), (32, 16), (128, 8)):
        spec = BranchSpec(Factor(kind, columns), Factor(FactorKind.FP16, rank))
        assert (spec.splits(tokens) - 1) * spec.chunk(tokens) < columns <= spec.splits(tokens) * spec.chunk(tokens)
        lanes, teams = spec.row_lanes(tokens, warps), spec.row_teams(tokens, warps)
        assert spec.held(tokens, warps) * lanes >= rank and lanes * teams * 16 <= warps * 32
        assert spec.items(tokens) >= rank * spec.splits(tokens) and 1 <= spec.item_warps(tokens, warps) <= warps
        assert spec.batch(tokens) * spec.loads(tokens) <= max(8, spec.loads(tokens))
        assert spec.adders(tokens, warps) * tokens * rank <= max(warps * 32, tokens * rank)
        assert spec.kept_words(tokens) % 4 == spec.shared_words(tokens) % 4 == 0  # copies of 16 bytes


@simulated
def test_a_plain_layer_is_its_gemv_and_no_tokens_are_no_work():
    weight = quantize_tensor(random((6, 128), 0), INT4)
    layer = device_layer(QuantizedLayer(LayerConfig(weight=INT4), weight, (6, 128)), "cpu")
    assert layer_gemv(layer, torch.zeros(0, 128).half()).shape == (0, 6)
    assert layer.nbytes == layer.dense.nbytes
    with pytest.raises(NotImplementedError, match="tokens of a layer's GEMV must be at most 16, not 17"):
        layer_gemv(layer, torch.zeros(17, 128).half())
    with pytest.raises(TypeError, match=r"x must be float16 or bfloat16, not torch.float32"):
        layer_gemv(layer, torch.zeros(1, 128))


def test_bytes_on_the_device_are_those_of_the_stored_layer():
    layer = with_rows(64, 512, 0.02, zeroed=True)
    stored = layer.config.storage_bits(layer.shape).total // 8
    placed = device_layer(layer, "cpu")
    assert placed.nbytes == stored + placed.rows.starts.nbytes  # and the first rows of blocks
    layer = with_branch(64, 512, l2qer_int_config(32).low_rank)
    assert device_layer(layer, "cpu").nbytes == layer.config.storage_bits(layer.shape).total // 8


def test_layers_without_kernels_are_refused():
    weight = quantize_tensor(random((4, 64), 0), INT4)
    layer = QuantizedLayer(LayerConfig(weight=INT4), weight, (4, 64))
    refused = {
        "weight of a layer on the GPU must be one": LayerConfig(PartitionedConfig((Part(64, INT4),))),
        "activation of a layer on the GPU must be": LayerConfig(INT4, activation=mxint_config(8, dynamic=True)),
        "output_norm must be left out": LayerConfig(INT4, output_norm=True),
    }
    for said, config in refused.items():
        with pytest.raises(NotImplementedError, match=said):
            device_layer(replace(layer, config=config), "cpu")
    with pytest.raises(ValueError, match="taken must be all 4 columns without an index, not 3"):
        InputsSpec(4, 3, False, False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", list(LAYERS))
@pytest.mark.parametrize("m", [1, 4, 16])
def test_on_a_device(name, m):
    check(LAYERS[name](1000, 4096), m, device="cuda", seen=0.1)  # worst-case bounds grow with k
    check(LAYERS[name](513, 1061), m, torch.bfloat16, device="cuda", seen=0.1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", list(FUSED))
@pytest.mark.parametrize("m", [1, 4, 16])
def test_a_branch_in_the_launch_of_the_product_on_a_device(name, m):
    check(FUSED[name](1000, 4096), m, device="cuda", seen=0.1, fused=True)
    check(FUSED[name](513, 1061), m, torch.bfloat16, device="cuda", seen=0.1, fused=True)
