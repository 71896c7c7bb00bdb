"""Loops of generated layers: what the closed form says is what a simulation with counters runs."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from datatypes.catalog import BITMOD_FP4, E4M3, E5M2, E8M0, FP16, FP32, INTS, NF4, UINT8, UINTS  # noqa: E402
from datatypes.format import LearnedFormat  # noqa: E402
from datatypes.granularity import PerChannel, PerGroup, PerTensor  # noqa: E402
from datatypes.layer_config import (  # noqa: E402
    CodebookConfig,
    LayerConfig,
    LowRankConfig,
    OutlierConfig,
    OutlierLayout,
    ScaleConfig,
    ScaleRule,
    SparsityConfig,
    TensorConfig,
)
from datatypes.quantize import quantize_tensor  # noqa: E402
from datatypes.quantized_layer import Outliers, QuantizedLayer  # noqa: E402
from datatypes.tensor import QuantizedTensor  # noqa: E402
from hls.layer_loops import (  # noqa: E402
    bitmod_terms,
    cycles_of_step,
    group_steps,
    iterations_by_label,
    layer_loops,
    steps_interval,
)
from hls.layer_options import LayerOptions  # noqa: E402
from hls.layer_planning import plan_layer  # noqa: E402
from hls.loop import Process, plane_widths  # noqa: E402
from hls.loop_counter import count_loops, counted_header  # noqa: E402
from hwmodel.unit_cost_design import Arithmetic  # noqa: E402

N, K, TOKENS = 21, 150, 3
OPTIONS = LayerOptions(tokens=TOKENS, lanes=8, tile_rows=4)
MX = ScaleConfig(E8M0, ScaleRule.POW2_FLOOR)


def tokens(fmt, scale=None, **more):
    return TensorConfig((fmt,), PerChannel(), scale or ScaleConfig(FP32), dynamic=True, **more)


def quantized(weight, activation=None, n=N, k=K, **config):
    values = torch.randn(n, k, generator=torch.Generator().manual_seed(0))
    return QuantizedLayer(
        LayerConfig(weight=weight, activation=activation, **config), quantize_tensor(values, weight), (n, k)
    )


def int4(n=N, k=K, options=OPTIONS):
    return plan_layer(quantized(TensorConfig((INTS[4],), PerGroup(32)), tokens(INTS[8]), n, k), options=options)


def low_rank():
    factor = TensorConfig((INTS[8],), PerChannel(), ScaleConfig(FP16))
    weight, activation = TensorConfig((INTS[4],), PerGroup(32)), tokens(INTS[8])
    generator = torch.Generator().manual_seed(1)
    config = LayerConfig(weight=weight, activation=activation, low_rank=LowRankConfig(5, factor, factor))
    return QuantizedLayer(
        config, quantize_tensor(torch.randn(N, K, generator=generator), weight), (N, K),
        low_rank_a=quantize_tensor(torch.randn(5, K, generator=generator), factor),
        low_rank_b=quantize_tensor(torch.randn(N, 5, generator=generator), factor),
    )  # fmt: skip


def outlier_columns():
    weight = TensorConfig((INTS[4],), PerGroup(32))
    made = quantized(weight, tokens(INTS[8]))
    config = LayerConfig(
        weight=weight, activation=tokens(INTS[8]), outliers=OutlierConfig(OutlierLayout.COLUMNS, 7 / K)
    )
    columns = torch.tensor([3, 9, 40, 77, 90, 101, 149])
    return QuantizedLayer(config, made.weight, (N, K), outliers=Outliers(torch.randn(N, 7).half(), columns))


def zero_points():
    activation = TensorConfig(
        (UINT8,), PerChannel(), ScaleConfig(FP32, ScaleRule.RANGE), zero_point=UINT8, dynamic=True
    )
    scale = ScaleConfig(FP16, ScaleRule.RANGE)
    return quantized(TensorConfig((UINTS[4],), PerGroup(24), scale, zero_point=UINTS[4]), activation)


def sparse_with_column_scales():
    weight = TensorConfig((INTS[4],), PerGroup(32), sparsity=SparsityConfig(2, 4), column_scale=FP16)
    tensor = quantize_tensor(torch.randn(N, K), TensorConfig((INTS[4],), PerGroup(32)))
    mask = (torch.arange(K) % 4 < 2).expand(N, K)
    tensor = replace(tensor, config=weight, mask=mask, column_scale=torch.ones(K).half())
    return QuantizedLayer(LayerConfig(weight=weight, output_norm=True), tensor, (N, K))


def vectors_along_the_outputs():
    learned = LearnedFormat("pairs", 4, "test", dimension=2)
    book = CodebookConfig(FP16, PerTensor())
    weight = TensorConfig((learned,), PerTensor(), None, codebook=book, vectors_along_output=True)
    codes = torch.randint(0, 16, (11, K), dtype=torch.uint8)
    tensor = QuantizedTensor(weight, (N, K), codes, codebook=torch.randn(1, 16, 2).half())
    return QuantizedLayer(LayerConfig(weight=weight, activation=tokens(INTS[8])), tensor, (N, K))


LAYERS = {
    "sparse_with_column_scales": sparse_with_column_scales,
    "vectors_along_the_outputs": vectors_along_the_outputs,
    "int4": lambda: quantized(TensorConfig((INTS[4],), PerGroup(32)), tokens(INTS[8])),
    "int3_groups_of_50": lambda: quantized(TensorConfig((INTS[3],), PerGroup(50)), tokens(INTS[8])),
    "nf4": lambda: quantized(TensorConfig((NF4,), PerGroup(30)), tokens(INTS[8])),
    "mx": lambda: quantized(
        TensorConfig((E4M3,), PerGroup(32), MX), TensorConfig((E5M2,), PerGroup(32), MX, dynamic=True)
    ),
    "fp16_inputs": lambda: quantized(TensorConfig((INTS[4],), PerGroup(32))),
    "zero_points": zero_points,
    "low_rank": low_rank,
    "outlier_columns": outlier_columns,
    "rotated": lambda: quantized(TensorConfig((INTS[4],), PerGroup(32), hadamard=32), tokens(INTS[8]), k=160),
    "int8_output": lambda: quantized(TensorConfig((INTS[4],), PerGroup(32)), tokens(INTS[8]), output=tokens(INTS[8])),
}
QUICK = ("int4",)
AROUND = {
    "blocks", "encoded_tokens", "one_level_tokens", "outer_tokens", "outputs", "parts", "plain_tokens", "planes",
    "ranks",
    "row_tiles", "rows", "rows_loaded", "scale_tokens", "shared_tokens", "stages", "stored_tokens", "tokens_back",
    "tokens_coded", "tokens_in", "tokens_multiplied", "tokens_normalised", "tokens_out", "tokens_read", "tokens_seen",
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in LAYERS]
)
def test_every_loop_runs_as_often_as_in_the_simulation(needs_compiler, name, tmp_path):
    layer = LAYERS[name]()
    n, k = layer.shape
    plan = plan_layer(layer, options=OPTIONS, bias=np.ones(n, np.float32))
    x = np.random.default_rng(0).standard_normal((TOKENS, k)).astype(np.float16)
    counted = count_loops(plan, x, tmp_path)
    said = iterations_by_label(layer_loops(plan, TOKENS))
    assert {label: counted.get(label, 0) for label in said} == said
    # what is counted and not said goes around these loops, or adds up eight sums (the tail of a loop)
    assert set(counted) - set(said) <= AROUND


def test_loops_by_hand():
    # 21 rows in tiles of 4: five of four and one of one; 150 columns in groups of 32: 4, 4, 4, 4 and 3 steps of 8
    plan = int4()
    assert group_steps(plan.parts[0], 8) == [4, 4, 4, 4, 3]
    said = iterations_by_label(layer_loops(plan, TOKENS))
    assert said["steps"] == 6 * TOKENS * 19
    assert said["groups_added"] == 6 * TOKENS * 5
    assert said["rows_out"] == said["rows_in"] == TOKENS * N
    # a row's codes are five blocks of four words; 300 bytes of FP16 are five beats; 21 floats are two beats
    assert said["beats_out"] == 2 * TOKENS
    assert said["columns"] == TOKENS * K


def test_beats_of_a_tile_by_hand():
    # 20 words of 32 bits a row, four rows: 2,560 bits, exactly five beats, of which none is shared
    loops = layer_loops(int4(n=8), 1)
    codes = [loop for loop in loops if loop.process is Process.FILL_TILE and loop.label == "beats"]
    assert [loop.iterations for loop in codes] == [5, 5]
    # three rows are 1,920 bits: the second tile starts 384 bits into a beat, the third 256 bits into one
    options = LayerOptions(tokens=1, lanes=8, tile_rows=3)
    loops = layer_loops(int4(n=9, options=options), 1)
    codes = [loop for loop in loops if loop.process is Process.FILL_TILE and loop.label == "beats"]
    assert [loop.iterations for loop in codes] == [4, 5, 5]


@pytest.mark.parametrize(
    ("arithmetic", "cycles"),
    [
        (Arithmetic.PARALLEL, 1),
        (Arithmetic.WEIGHT_SERIAL, 4),
        (Arithmetic.BOTH_SERIAL, 32),
        (Arithmetic.TERM_SERIAL, 2),
    ],
)
def test_serial_steps_take_the_weights_bits(arithmetic, cycles):
    options = LayerOptions(tokens=TOKENS, lanes=8, tile_rows=4, arithmetic=arithmetic)
    part = int4(options=options).parts[0]
    assert cycles_of_step(part) == cycles and steps_interval(part, 8) == cycles


def test_a_float_sum_takes_its_lanes_one_behind_another():
    part = plan_layer(LAYERS["fp16_inputs"](), options=OPTIONS).parts[0]
    assert steps_interval(part, 8) == 8 * 7  # adders of seven stages


def test_exact_minifloats_do_not_wait_for_a_float_adder():
    assert steps_interval(plan_layer(LAYERS["mx"](), options=OPTIONS).parts[0], 8) == 1


def test_bitmod_takes_two_terms_of_a_float():
    options = LayerOptions(tokens=TOKENS, lanes=8, tile_rows=4, arithmetic=Arithmetic.BITMOD)
    layer = quantized(TensorConfig(BITMOD_FP4, PerGroup(32), ScaleConfig(UINT8, outer=FP16)))
    part = plan_layer(layer, options=options).parts[0]
    assert cycles_of_step(part) == 2 * 2  # two sets of four lanes, two terms
    assert bitmod_terms(5 << 24) == 3  # INT6: Booth digits


def test_planes_are_the_powers_of_two_of_a_width():
    assert plane_widths(13) == [8, 4, 1]


def test_tokens_beyond_a_call_are_refused():
    with pytest.raises(ValueError, match="tokens of a call must be 1 to the layer's 3, not 4"):
        layer_loops(int4(), 4)


def test_unrolled_loops_are_not_counted():
    text = "lanes:\n  for (int i = 0; i < 4; ++i) {\n#pragma HLS UNROLL\n    go();\n  }\n"
    assert counted_header(text) == text


def test_more_tokens_than_a_call_takes_are_not_simulated(tmp_path):
    with pytest.raises(ValueError, match="at most 3 tokens, not 4"):
        count_loops(int4(), np.zeros((4, K), np.float16), tmp_path)
