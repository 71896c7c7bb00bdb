"""Benchmarks of products and layers: what they would do, bounds, records, and what they say without a GPU."""

import pytest
import torch

from kernels_gpu import bench_gemm, bench_layer, ptx
from kernels_gpu.bench_gemm import Rates, bytes_of, check, parse, ways
from kernels_gpu.bench_record import Row
from kernels_gpu.gemv_launch import allocate_result, from_quantized
from kernels_gpu.gemv_recipes import RECIPES, quantize_randomly
from kernels_gpu.layer import device_layer
from kernels_gpu.layer_recipes import LAYERS, RANK

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")
ROW = Row("int4_g128 tiles", 32, 4096, 1024, "4x8x1x3", 1 << 20, 0.7, 1.4, 0.01, 0.25, 81)


def test_bounds_are_the_larger_of_bytes_and_operations():
    rates = Rates(copy_bytes_per_s=2e12, flop_per_s=5e14)
    # 64 tokens, 1000 x 500: 0.25 MB of weight, 2 * 64 * 1500 bytes of inputs and results: 442 kB in 0.221 us
    assert bytes_of(250_000, 64, 1000, 500) == 442_000
    assert rates.bound_us(442_000, 64, 1000, 500) == pytest.approx(0.221)  # 64 million operations: 0.128 us
    assert rates.bound_us(442_000, 640, 1000, 500) == pytest.approx(1.28)


def test_quick_runs_are_short_and_others_take_everything():
    quick, whole = parse(["--quick"]), parse([])
    assert (len(quick.recipes), quick.shapes, quick.tokens) == (2, [(4096, 4096)], [32, 128])
    assert whole.recipes == list(RECIPES) and len(whole.shapes) == 3 and whole.tokens[0] == 17
    assert parse(["--tokens", "5", "--quick"]).tokens == [5]
    quick, whole = bench_layer.parse(["--quick"]), bench_layer.parse([])
    assert (quick.layers, quick.shapes, quick.tokens) == (list(LAYERS), [(4096, 4096)], [1])
    assert whole.tokens == [1, 4, 16]


@pytest.mark.parametrize(("bench", "tokens", "said"), [(bench_gemm, "0", "at least 1"), (bench_layer, "17", "1 to 16")])
def test_wrong_numbers_of_tokens_are_one_sentence(bench, tokens, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench.main(["--tokens", tokens])
    assert stopped.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available() and not ptx.SIMULATED, reason="there is a device")
@pytest.mark.parametrize("bench", [bench_gemm, bench_layer])
def test_without_a_device_a_sentence_and_code_2(bench, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench.main(["--quick"])
    told = capsys.readouterr()
    assert stopped.value.code == 2 and told.out == ""
    assert told.err.strip().count("\n") == 0 and "a CUDA device" in told.err


def test_records_name_shape_and_conditions():
    made = bench_gemm.measurement(ROW, {"driver": "580"}, "H100")
    assert (made.name, made.shape, made.repeats) == ("int4_g128 tiles", (32, 1024, 4096), 30)
    assert made.conditions["way or cut"] == "4x8x1x3" and made.conditions["bytes"] == "1048576"
    made = bench_layer.measurement(ROW, {}, "H100")
    assert made.conditions["launches"] == "4x8x1x3" and made.source == "python -m kernels_gpu.bench_layer"


def test_measured_layers_are_what_their_names_say():
    n, k = 64, 512
    for name, build in LAYERS.items():
        layer = build((n, k), "cpu")
        placed = device_layer(layer, "cpu")
        assert (placed.low_rank is not None) == name.startswith("lqer")
        assert (placed.columns is not None) == (name == "columns1") and (placed.rows is not None) == (name == "rows1")
    branch = device_layer(LAYERS["lqer32_int8"]((n, k), "cpu"), "cpu").low_rank
    assert branch[0].rows == RANK and branch[1].factor.columns == RANK
    rows = LAYERS["rows1"]((200, 1000), "cpu")
    counts = rows.outliers.row_pointers.diff()
    # 200 000 weights, each kept with a chance of 0.01 * 2 u for a row's u: a row holds 10 of them, give or take 6.6
    assert counts.float().mean().item() == pytest.approx(10, abs=3 * 6.6 / 200**0.5)
    assert counts.max() > 2 * counts.float().mean() and counts.min() < 3
    # dense slots are zero: stored values as they are
    assert device_layer(rows, "cpu").rows.values.dtype == torch.float16


@simulated
def test_the_library_way_is_checked():
    tensor = quantize_randomly(torch.randn((6, 64), generator=torch.Generator().manual_seed(0)), RECIPES["learned4"])
    weight, x = from_quantized(tensor, "cpu"), torch.randn((17, 64), generator=torch.Generator().manual_seed(1)).half()
    out, copy = allocate_result(17, 6, x), torch.full((6, 64), float("nan")).half()
    ((name, call, _),) = ways(weight, x, out, copy)
    assert name == "library" and check(tensor.dequantize(), weight, x, out, call) <= 1
    with pytest.raises(AssertionError, match="error must be within its tolerance, not "):
        check(1.1 * tensor.dequantize(), weight, x, out, call)
