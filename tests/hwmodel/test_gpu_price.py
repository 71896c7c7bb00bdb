"""Prices of layers on GPUs: the laws of every preset, memory capacity, and figures by hand."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datatypes.catalog import FP16, INTS_SYMMETRIC, NF4, UINT8
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig, LowRankConfig, OutlierConfig, ScaleConfig, TensorConfig
from hwmodel.evaluate import evaluate
from hwmodel.gpu import Gpu
from hwmodel.gpu_operands import resident_bits, tensor_kind
from hwmodel.gpu_presets import A100, GPUS, H100
from hwmodel.gpu_price import lower_bound_cycles
from hwmodel.gpu_validate import COLUMNS, attention_seconds, gpu_errors, link_errors
from hwmodel.options import HONEST
from hwmodel.paper import paper_workload
from hwmodel.price import Price
from hwmodel.workload import ATTENTION_KINDS, GEMM_KINDS, LayerKind, LayerSpec, Phase, Workload

ALL = pytest.mark.parametrize("gpu", GPUS.values(), ids=lambda gpu: gpu.name)
few = settings(max_examples=25, deadline=None)
_KINDS = tuple(LayerKind)


def _weights(bits: int) -> TensorConfig:
    return TensorConfig((INTS_SYMMETRIC[bits],), PerGroup(128), ScaleConfig(UINT8))


def _config(bits: int, encoded_inputs: bool = False) -> LayerConfig:
    kv = TensorConfig((INTS_SYMMETRIC[bits],), PerChannel(), dynamic=True)
    activation = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), dynamic=True) if encoded_inputs else None
    return LayerConfig(weight=_weights(bits), key=kv, value=kv, activation=activation)


@st.composite
def layers(draw: st.DrawFn) -> LayerSpec:
    """A layer of any kind."""
    kind = draw(st.sampled_from(_KINDS))
    if kind in ATTENTION_KINDS:
        keys, width, group = draw(st.integers(1, 2000)), draw(st.integers(1, 256)), draw(st.integers(1, 8))
        causal = draw(st.booleans())
        rows = group * (keys if causal else draw(st.integers(1, keys)))
        k, n = (width, keys) if kind is LayerKind.ATTENTION_QK else (keys, width)
        return LayerSpec("x", kind, rows, k, n, draw(st.integers(1, 32)), causal=causal)
    size = st.integers(1, 6000)
    return LayerSpec("x", kind, draw(size), draw(size), draw(size), draw(st.integers(1, 8)),
                     shared_weight=kind in GEMM_KINDS and draw(st.booleans()))  # fmt: skip


def _price(spec: LayerSpec, config: LayerConfig, gpu: Gpu, fused: bool = True) -> Price:
    options = replace(HONEST, fused_attention=fused)
    return evaluate(Workload("x", Phase.DECODE, (spec,)), {"x": config}, gpu, options).layers[0].price


@ALL
@few
@given(spec=layers(), bits=st.integers(2, 8), encoded=st.booleans(), fused=st.booleans())
def test_never_under_the_roofline(gpu: Gpu, spec: LayerSpec, bits: int, encoded: bool, fused: bool) -> None:
    for config in (LayerConfig(), _config(bits, encoded)):
        price = _price(spec, config, gpu, fused)
        assert price.cycles >= lower_bound_cycles(price, gpu)
        assert price.energy_pj >= 0


@ALL
@few
@given(spec=layers(), bits=st.integers(3, 8), encoded=st.booleans(), fused=st.booleans())
def test_fewer_bits_never_move_or_take_more(gpu: Gpu, spec: LayerSpec, bits: int, encoded: bool, fused: bool) -> None:
    more, fewer = (_price(spec, _config(b, encoded), gpu, fused) for b in (bits, bits - 1))
    assert fewer.dram_bits <= more.dram_bits
    assert fewer.cycles <= more.cycles


@ALL
def test_a_report_is_the_sum_of_its_layers_and_draws_no_more_than_the_board(gpu: Gpu) -> None:
    for phase in Phase:
        workload = paper_workload("Llama-2-7B", phase, context=512, other_layers=True)
        report = evaluate(workload, _config(4), gpu)
        assert report.cycles == sum(layer.cycles for layer in report.layers)
        assert report.energy_pj == pytest.approx(sum(layer.energy_pj for layer in report.layers))
        assert report.energy_pj * 1e-12 / report.seconds <= gpu.power_w


def test_a_better_memory_helps_decode_and_not_the_prompt() -> None:
    decode, prompt = (
        {
            name: evaluate(paper_workload("Llama-2-7B", phase, context=2048), LayerConfig(), GPUS[name]).seconds
            for name in ("h100", "h200")
        }
        for phase in (Phase.DECODE, Phase.PREFILL)
    )
    assert 1.2 < decode["h100"] / decode["h200"] < 4800 / 3350  # data sheets, less launches
    assert 1.0 <= prompt["h100"] / prompt["h200"] < 1.1


def test_tensor_cores_take_what_the_sheet_has() -> None:
    four, eight = _weights(4), _weights(8)
    assert tensor_kind(four, four, A100) == "int4"
    assert tensor_kind(four, four, H100) == "int8"  # no INT4 on Hopper's sheet
    assert tensor_kind(four, eight, A100) == "int8"
    assert tensor_kind(four, None, A100) == "fp16"
    assert tensor_kind(TensorConfig((NF4,)), eight, A100) == "fp16"


def test_side_branches_cost_launches() -> None:
    spec = LayerSpec("x", LayerKind.LINEAR, 1, 4096, 4096)
    plain = _price(spec, LayerConfig(weight=_weights(4)), H100)
    low_rank = LowRankConfig(32, TensorConfig((FP16,), scale=None), TensorConfig((FP16,), scale=None))
    for extra, launches in ((LayerConfig(weight=_weights(4), low_rank=low_rank), 2),
                            (LayerConfig(weight=_weights(4), outliers=OutlierConfig()), 1)):  # fmt: skip
        price = _price(spec, extra, H100)
        assert price.cycles >= plain.cycles + launches * H100.library.launch_s * H100.frequency_hz
        assert price.dram_bits > plain.dram_bits


def test_side_branches_add_to_the_output_in_memory() -> None:
    m, k, n, rank = 8, 512, 256, 16
    spec, wide = LayerSpec("x", LayerKind.LINEAR, m, k, n), TensorConfig((FP16,), scale=None)
    bits = {
        fused: _price(spec, LayerConfig(low_rank=LowRankConfig(rank, wide, wide, fused=fused)), H100).output_bits
        for fused in (True, False)
    }
    # the branch's own output lies in memory between its two kernels; the sum is read and written unless fused
    assert bits[True] == (m * n + m * rank) * 16
    assert bits[False] == (3 * m * n + m * rank) * 16
    assert _price(spec, LayerConfig(outliers=OutlierConfig()), H100).output_bits == 3 * m * n * 16


def test_capacity() -> None:
    workload = paper_workload("Llama-2-7B", Phase.DECODE, context=4096)
    bits = resident_bits(workload, {})
    linear = sum(layer.weights for layer in workload.layers) * 16
    cache = 2 * 32 * 4096 * 4096 * 16  # K and V of 32 layers, 4096 tokens of 4096 values
    assert bits == linear + cache
    assert GPUS["rtx4090"].fits(bits)
    assert not GPUS["rtx4090"].fits(int(25e9 * 8))
    assert GPUS["rtx4090"].fits(int(25e9 * 8), gpus=2)
    with pytest.raises(ValueError, match="gpus must be at least 1, not 0"):
        A100.fits(bits, gpus=0)


def test_attention_grows_with_the_square_of_a_long_prompt() -> None:
    short, long = (attention_seconds(tokens, 32, tokens, 8, 1, H100) for tokens in (8192, 16384))
    assert 3.6 < long / short < 4.0


def test_errors_against_measured_times() -> None:
    table = gpu_errors()
    assert list(table.columns) == list(COLUMNS)
    own = table[table["truth"] == "own, CUDA 13"].set_index(["gpu", "part"])["mean_error"]
    assert own["h200", "attention, prompt"] < 0.06  # held out: 0.050
    assert own["h200", "attention, one token"] < 0.12
    assert table["mean_error"].notna().all()


def test_errors_of_links() -> None:
    table = link_errors()
    if table.empty:
        pytest.skip("Vidur's network table is not part of the project")
    large = table[table["part"].str.contains("from 4 MiB")]
    assert (large["mean_error"] < 0.10).all()
