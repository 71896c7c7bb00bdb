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
from hls.layer_loops import iterations_by_label, layer_loops  # noqa: E402
from hls.layer_options import LayerOptions  # noqa: E402
from hls.layer_planning import plan_layer  # noqa: E402
from hls.loop import Process, plane_widths  # noqa: E402
from hls.loop_counter import count_loops, counted_header  # noqa: E402
from hls.part_shape import bitmod_terms, cycles_of_step, group_steps, part_shape, tile_blocks  # noqa: E402
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
    "outlier_tokens", "row_tiles", "rows", "rows_loaded", "scale_tokens", "shared_tokens", "stages", "stored_tokens",
    "tokens_back", "tokens_coded", "tokens_in", "tokens_normalised", "tokens_out", "tokens_read", "tokens_seen",
    "tokens_taken",
}  # fmt: skip


@pytest.mark.parametrize("blocks", [1, 4])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in LAYERS]
)
def test_every_loop_runs_as_often_as_in_the_simulation(needs_compiler, name, blocks, tmp_path):
    layer = LAYERS[name]()
    n, k = layer.shape
    plan = plan_layer(layer, options=replace(OPTIONS, tile_blocks=blocks), bias=np.ones(n, np.float32))
    x = np.random.default_rng(0).standard_normal((TOKENS, k)).astype(np.float16)
    counted = count_loops(plan, x, tmp_path)
    said = iterations_by_label(layer_loops(plan, TOKENS))
    assert {label: counted.get(label, 0) for label in said} == said
    # what is counted and not said goes around these loops
    assert set(counted) - set(said) <= AROUND


def test_loops_by_hand():
    # 21 rows in tiles of 4: five of four and one of one; 150 columns in groups of 32: 4, 4, 4, 4 and 3 steps of 8
    plan = int4()
    assert group_steps(plan.parts[0], 8) == [4, 4, 4, 4, 3]
    said = iterations_by_label(layer_loops(plan, TOKENS))
    assert said["steps"] == 6 * TOKENS * 19
    # a group lasts four steps, so that its four rows are scaled one a cycle; the last group's too
    assert said["rows_scaled"] == 6 * TOKENS * 5 * 4
    # every tile sends four rows, of which those that are there leave
    assert said["rows_out"] == TOKENS * 24
    assert said["rows_in"] == TOKENS * N
    # a row's codes are five blocks of four words; 300 bytes of FP16 are five beats; 21 floats are two beats
    assert said["beats_out"] == 2 * TOKENS
    assert said["columns"] == TOKENS * K


def beats_of_codes(plan):
    """Beats that each tile reads of its codes: the first burst of a tile."""
    bursts = [loop for loop in layer_loops(plan, 1) if loop.process is Process.READ_WEIGHTS and loop.tile is not None]
    return [next(one.iterations for one in bursts if one.tile == tile) for tile in sorted({one.tile for one in bursts})]


def test_beats_of_a_tile_by_hand():
    # 20 words of 32 bits a row, four rows: 2,560 bits, exactly five beats, of which none is shared
    assert beats_of_codes(int4(n=8)) == [5, 5]
    # three rows are 1,920 bits: the second tile starts 384 bits into a beat, the third 256 bits into one
    options = LayerOptions(tokens=1, lanes=8, tile_rows=3)
    assert beats_of_codes(int4(n=9, options=options)) == [4, 5, 5]


def test_lines_of_a_tile_by_hand():
    # a beat holds four blocks of four words, so that a row of five blocks is two lines; five FP16 scales are one
    loops = layer_loops(int4(n=8), 1)
    assert [loop.iterations for loop in loops if loop.label == "code_lines"] == [4 * 2, 4 * 2]
    assert [loop.iterations for loop in loops if loop.label == "entry_lines"] == [4, 4]


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
    plan = int4(options=options)
    assert cycles_of_step(plan.parts[0]) == cycles and part_shape(plan.parts[0], options, 1).step_interval == 1
    assert iterations_by_label(layer_loops(plan, TOKENS))["steps"] == 6 * TOKENS * 19 * cycles


def test_a_float_sum_takes_its_lanes_one_behind_another():
    part = plan_layer(LAYERS["fp16_inputs"](), options=OPTIONS).parts[0]
    assert part_shape(part, OPTIONS, 1).step_interval == 8 * 7  # adders of seven stages
    # with eight blocks a step of one waits while the others have theirs
    assert part_shape(part, OPTIONS, 8).step_interval == 7
    assert part_shape(part, OPTIONS, 8).in_turns and not part_shape(part, OPTIONS, 1).in_turns


def test_exact_minifloats_do_not_wait_for_a_float_adder():
    assert part_shape(plan_layer(LAYERS["mx"](), options=OPTIONS).parts[0], OPTIONS, 1).step_interval == 1


def test_bitmod_takes_two_terms_of_a_float():
    options = LayerOptions(tokens=TOKENS, lanes=8, tile_rows=4, arithmetic=Arithmetic.BITMOD)
    layer = quantized(TensorConfig(BITMOD_FP4, PerGroup(32), ScaleConfig(UINT8, outer=FP16)))
    part = plan_layer(layer, options=options).parts[0]
    assert cycles_of_step(part) == 2 * 2  # two sets of four lanes, two terms
    assert bitmod_terms(5 << 24) == 3  # INT6: Booth digits


def test_scaling_keeps_pace_with_the_steps():
    # groups of 32 are two steps of 16 lanes: four of eight rows a cycle; the same row comes again after 2 * blocks
    options = LayerOptions(tokens=TOKENS, lanes=16, tile_rows=8)
    part = int4(options=options).parts[0]
    shapes = {blocks: part_shape(part, options, blocks) for blocks in (1, 2, 4)}
    assert {(shape.scalers, shape.passes) for shape in shapes.values()} == {(4, 2)}
    assert [shape.scale_interval for shape in shapes.values()] == [4, 2, 1]  # eight cycles of the adder


def test_tiles_hold_blocks_for_eight_tiles_in_64_kib():
    options = LayerOptions(tokens=TOKENS, lanes=16, tile_rows=8)
    part = int4(options=options).parts[0]
    assert tile_blocks([part], 576, options) == 9  # 72 blocks in eight tiles
    assert tile_blocks([part], 600, options) == 10  # 75 blocks: seven tiles of ten and one of five
    assert tile_blocks([part], 40, options) == 1
    long = replace(part, columns=32768)  # 16 KiB a row: a block alone has 128; two steps a group ask for four
    assert tile_blocks([long], 4096, options) == 4
    assert tile_blocks([part], 576, replace(options, tile_blocks=100)) == 72


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
