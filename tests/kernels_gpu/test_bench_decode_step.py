"""The benchmark of the decode step without a GPU: its rows, records, sentences and the kernels it compiles ahead."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from hwmodel.gpu_presets import GPUS
from kernels_gpu import (
    argmax,
    attention_launch,
    embedding,
    gate,
    gemv_launch,
    native,
    norm,
    ptx,
    rotary,
)
from kernels_gpu.bench_decode_step import StepRow, main, measure, measurement, table
from kernels_gpu.decode_columns import CUBLAS, TINYGEMM, build, bytes_needed, case_of, choose_distinct, type_of
from kernels_gpu.decode_floor import StepCase, predict
from kernels_gpu.decode_kernels import kernels_of
from kernels_gpu.decode_model import LLAMA_2_7B, DecoderShape, random_cache
from kernels_gpu.decode_step import DecodeStep, make_state
from kernels_gpu.gemv_recipes import RECIPES
from kernels_gpu.timing import Timing

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")
TINY = DecoderShape("tiny", 64, 2, 1, 64, 32, 1, 48)
CASE = StepCase(TINY, None, 2, 40, 8)
LLAMA = StepCase(LLAMA_2_7B, RECIPES["int4_g128"], 1, 4096, 8)
TIMING = Timing(2e-3, 1.9e-3, 2.2e-3, 30)
MODULES = (argmax, attention_launch, embedding, gate, gemv_launch, norm, rotary)


@simulated
def test_a_step_is_compared_and_timed_and_its_state_stays():
    steps = []

    def timer(step):
        steps.append(step)
        return TIMING

    case = case_of(CUBLAS, replace(CASE, batch=1))
    decoder = build(case, type_of(CUBLAS), 1, "cpu")
    row = measure(CUBLAS, case, decoder, 1, 3e12, GPUS["h100"], timer)
    assert steps[0].state.lengths.tolist() == [40]  # a step that is timed does the same work every time
    assert row.launches == predict(case, GPUS["h100"], 3e12).launches == 13
    assert {"embedding", "norm", "qkv", "head", "rotary", "attention", "gate", "argmax"} <= set(row.worst)
    assert max(row.worst.values()) <= 1 and row.tokens_per_s == 500
    assert row.bound_s == case.step_bytes / 3e12 and row.predicted_s is not None


@simulated
@pytest.mark.parametrize(("column", "batch"), [("int4_g128", 1), ("int8", 3), (CUBLAS, 2)])
def test_the_kernels_compiled_ahead_are_those_that_are_launched(column, batch, monkeypatch):
    asked = set()

    def load(body, kinds, key, registers=0):
        asked.add(key)
        return native.NativeKernel(None, None, 0, 0)

    for module in MODULES:
        module._kernel.cache_clear()
        monkeypatch.setattr(module, "load", load)
    case = case_of(column, replace(CASE, batch=batch))
    decoder = build(case, type_of(column), 1, "cpu")
    caches = [random_cache(TINY, batch, 40, 8, torch.Generator().manual_seed(0))]
    DecodeStep(decoder, make_state(decoder, caches, [1] * batch, [40] * batch))
    for module in MODULES:
        module._kernel.cache_clear()
    ahead = {repr(spec) for spec in kernels_of(case, type_of(column))}
    assert asked <= ahead and all("AttentionSpec" in key for key in ahead - asked)


def row_of(column=CUBLAS, seconds=2e-3, predicted_s=1.5e-3):
    timing = Timing(seconds, 0.9 * seconds, 1.2 * seconds, 30)
    case = case_of(column, LLAMA)
    return StepRow(column, case, timing, {"norm": 0.5, "qkv": 0.25}, 324, 32, case.bound_s(3e12), predicted_s)


def test_a_table_compares_with_sixteen_bits():
    head, first, second = table([row_of(), row_of("int4_g128", 1e-3, None)]).splitlines()
    assert len(head) == len(first) == len(second)
    assert first.split()[-3:] == ["1.00", "324", "0.50"] and "-25.0%" in first
    assert second.split()[1:6] == ["1", "4096", "1.000", "30.0%", "1000.0"] and second.split()[-3] == "2.00"


def test_a_record_says_what_the_step_was():
    made = measurement(row_of("int4_g128"), {"driver": "580"}, "H100")
    assert made.name == "decode step int4_g128" and made.shape == (1, 4096, 32) and made.seconds == 2e-3
    assert made.conditions["bytes"] == str(round(LLAMA.step_bytes)) and made.conditions["launches"] == "324"
    assert made.conditions["predicted_us"] == "1500.0" and made.conditions["tokens_per_s"] == "500.00"
    assert made.conditions["worst_error_over_tolerance"] == "norm 0.500, qkv 0.250"
    assert json.loads(json.dumps(asdict(made)))["conditions"]["model"] == "Llama-2-7B"


def test_layers_share_weights_where_memory_is_short():
    layer = (bytes_needed(LLAMA, 32) - bytes_needed(LLAMA, 31)) / 1e9
    assert layer == pytest.approx(0.1044, rel=0.01)  # 202.4 M weights of 4.125 bits
    everything = bytes_needed(LLAMA, 32)
    assert choose_distinct(LLAMA, 32, everything, 50 << 20) == 32
    assert choose_distinct(LLAMA, 32, everything - 1, 50 << 20) == 31
    assert choose_distinct(LLAMA, 4, everything, 50 << 20) == 4
    # three layers, 313 MB, are more than four times an L2 of 50 MiB; two are not
    assert choose_distinct(LLAMA, 32, bytes_needed(LLAMA, 3), 50 << 20) == 3
    with pytest.raises(RuntimeError, match=r"free device memory must be at least .* GB for a step of Llama-2-7B"):
        choose_distinct(LLAMA, 32, bytes_needed(LLAMA, 2), 50 << 20)


def test_columns():
    assert case_of(TINYGEMM, LLAMA).tinygemm and type_of(TINYGEMM) is torch.bfloat16
    assert case_of(CUBLAS, LLAMA).weights is None and type_of("int8") is torch.float16


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--batch", "17"], "--batch must be 1 to 16, not 17"),
        (["--contexts", "0"], "--contexts and --layers must be at least 1"),
        (["--output", "nowhere/x.json"], "--output must be a file whose folder exists, not 'nowhere/x.json'"),
    ],
)
def test_wrong_arguments_are_one_sentence(given, said, capsys):
    assert main(given) == 2
    assert said in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_is_one_sentence(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--quick"])
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_predictions_need_no_gpu(capsys):
    assert main(["--predict", "h100", "--contexts", "256", "--encodings", "int4_g128"]) == 0
    head, own, cublas, tinygemm = capsys.readouterr().out.splitlines()
    assert len(head) == len(own) == len(cublas) == len(tinygemm)
    assert main(["--predict", "h100", "--batch", "2", "--encodings"]) == 0  # tinygemm is known for one token alone
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 1 + 2 and "sequences of a step by tinygemm must be 1" in told.err
    # conversions of E4M3 begin with compute capability 8.9: PTX ISA 8.1, section 9.7.9.21
    assert main(["--predict", "a100", "--contexts", "256", "--encodings", "e4m3", "--no-public"]) == 0
    assert "e4m3: a100 must have the instructions of kernels for e4m3" in capsys.readouterr().err
    assert own.split()[:4] == ["int4_g128", "1", "256", f"{replace(LLAMA, context=256).step_bytes / 1e9:.3f}"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_quick_run_on_a_device(tmp_path):
    assert main(["--quick", "--output", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["name"] for row in rows] == ["decode step int4_g128", f"decode step {CUBLAS}"]
