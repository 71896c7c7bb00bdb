"""Benchmarks of products and layers: what they would do, bounds, records, and what they say without a GPU."""

import pytest
import torch

from kernels_gpu import bench_attention, bench_gemm, bench_gemv, bench_layer, bench_quantize, ptx
from kernels_gpu.bench_gemm import Rates, bytes_of, check, parse, ways
from kernels_gpu.bench_record import Row
from kernels_gpu.gemv_launch import allocate_result, from_quantized
from kernels_gpu.gemv_recipes import RECIPES, quantize_randomly
from kernels_gpu.layer import device_layer
from kernels_gpu.layer_recipes import LAYERS, RANK

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")
BENCHMARKS = (bench_attention, bench_gemm, bench_gemv, bench_layer, bench_quantize)
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


@pytest.mark.parametrize(
    ("bench", "given", "said"),
    [
        (bench_gemm, "--tokens 0", "at least 1"),
        (bench_layer, "--tokens 17", "1 to 16"),
        (bench_gemv, "--tokens 17", "1 to 16"),
        (bench_gemv, "--tokens 0", "1 to 16"),
        (bench_gemv, "--shapes 0x8", "shape must be NxK, as 4096x4096, not '0x8'"),
        (bench_gemm, "--shapes 8x8x8", "shape must be NxK, as 4096x4096, not '8x8x8'"),
        (bench_attention, "--warps 33", "warps 1 to 32"),
        *((bench, "--output nowhere/x.json", "a file in a folder that exists") for bench in BENCHMARKS),
        (bench_quantize, "--output .", "a file in a folder that exists, not '.'"),
    ],
)
def test_wrong_arguments_are_one_sentence(bench, given, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench.main(given.split())
    assert stopped.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available() and not ptx.SIMULATED, reason="there is a device")
@pytest.mark.parametrize("bench", BENCHMARKS)
def test_without_a_device_a_sentence_and_code_2(bench, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench.main([])
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


def test_a_run_leaves_out_what_is_done_and_what_fails(monkeypatch, capsys):
    made = []

    def packed(recipe, shape):
        made.append((recipe, shape))
        return recipe, None

    def check(weight, dense, x, cut):
        assert (weight, len(x)) != ("int8", 2), "error must be within its tolerance"
        return 0.5

    def time_kernel(recipe, weight, x, rate, cut, *, overlapped):
        return Row(recipe, len(x), 8, 16, "", 1, 1.0, 2.0, 0.01, 0.0)

    for name, stand_in in {"packed": packed, "check": check, "time_kernel": time_kernel}.items():
        monkeypatch.setattr(bench_gemv, name, stand_in)
    monkeypatch.setattr(bench_gemv, "inputs", lambda m, k: torch.zeros(m, k))
    asked = "--recipes int4_g128 int8 --shapes 8x16 4x16 --tokens 1 2 --no-public"
    given = bench_gemv.parse(asked.split())
    done = {("int4_g128", 1, 8, 16), ("int8", 1, 8, 16), ("int8", 2, 4, 16), ("int8", 1, 4, 16)}
    rows = list(bench_gemv.run(given, [None], 3e12, done))
    # of 8 x 16 the second number of tokens, of which INT8 is wrong; of 4 x 16 nothing of INT8, which is not packed
    assert [(r.kernel, r.m, r.worst_error) for r in rows] == [("int4_g128", m, 0.5) for m in (2, 1, 2)]
    assert made == [("int4_g128", (8, 16)), ("int8", (8, 16)), ("int4_g128", (4, 16))]
    assert "int8 8x16 m=2 None: error must be within its tolerance" in capsys.readouterr().err


@simulated
def test_the_library_way_is_checked():
    tensor = quantize_randomly(torch.randn((6, 64), generator=torch.Generator().manual_seed(0)), RECIPES["learned4"])
    weight, x = from_quantized(tensor, "cpu"), torch.randn((17, 64), generator=torch.Generator().manual_seed(1)).half()
    out, copy = allocate_result(17, 6, x), torch.full((6, 64), float("nan")).half()
    ((name, call, _),) = ways(weight, x, out, copy)
    assert name == "library" and check(tensor.dequantize(), weight, x, out, call) <= 1
    with pytest.raises(AssertionError, match="error must be within its tolerance, not "):
        check(1.1 * tensor.dequantize(), weight, x, out, call)
