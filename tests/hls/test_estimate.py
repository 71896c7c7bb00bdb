"""Estimates of exported layers: parts, memories and cycles by hand, laws, and against the cost model's array."""

import json
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from datatypes.catalog import ANT4_WEIGHT, BITMOD_FP4, FLINT4, FP16, FP32, INTS, NF4, OLIVE4_INT, UINT8  # noqa: E402
from datatypes.granularity import PerChannel, PerGroup  # noqa: E402
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig  # noqa: E402
from datatypes.quantize import quantize_tensor  # noqa: E402
from datatypes.quantized_layer import QuantizedLayer  # noqa: E402
from hls.estimate import estimate_layer  # noqa: E402
from hls.estimate_buffers import Buffer, buffers  # noqa: E402
from hls.estimate_cycles import AXI_LATENCY, call_cycles, loop_cycles  # noqa: E402
from hls.estimate_pe import pe_of  # noqa: E402
from hls.hls_operators import Operator, stages  # noqa: E402
from hls.layer_loops import layer_loops  # noqa: E402
from hls.layer_options import IntMapping, LayerOptions  # noqa: E402
from hls.layer_planning import plan_layer  # noqa: E402
from hls.loop import Loop, Process  # noqa: E402
from hwmodel.accelerator import Array  # noqa: E402
from hwmodel.evaluate import evaluate  # noqa: E402
from hwmodel.fpga import DEVICES, FpgaResources  # noqa: E402
from hwmodel.fpga_calibration import FpgaCalibration, ResourceRatio  # noqa: E402
from hwmodel.fpga_memory import hls_unit_dsps  # noqa: E402
from hwmodel.options import PAPER  # noqa: E402
from hwmodel.presets_bitmod import FIGNA  # noqa: E402
from hwmodel.synthesis_table import best_rows  # noqa: E402
from hwmodel.unit_cost import Origin  # noqa: E402
from hwmodel.unit_cost_design import Arithmetic  # noqa: E402
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload  # noqa: E402

N, K, TOKENS = 24, 160, 3
OPTIONS = LayerOptions(tokens=TOKENS, lanes=8, tile_rows=4)
INT8 = TensorConfig((INTS[8],), PerChannel(), ScaleConfig(FP32), dynamic=True)
INT4 = TensorConfig((INTS[4],), PerGroup(32))
U250, PYNQ = DEVICES["u250"], DEVICES["pynq_z1"]


def plan_of(weight=INT4, activation=INT8, options=OPTIONS, n=N, k=K):
    values = torch.randn(n, k, generator=torch.Generator().manual_seed(0))
    layer = QuantizedLayer(LayerConfig(weight=weight, activation=activation), quantize_tensor(values, weight), (n, k))
    return plan_layer(layer, options=options)


def estimated(plan=None, device=U250, clock_hz=300e6, **more):
    return estimate_layer(plan_of() if plan is None else plan, device, clock_hz, name="fc", **more)


def part_named(made, start):
    (found,) = [part for part in made.parts if part.name.startswith(start)]
    return found


# --- logic -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight", "activation", "arithmetic", "family"),
    [
        (INT4, INT8, Arithmetic.PARALLEL, "int_dot"),
        (INT4, None, Arithmetic.PARALLEL, "float_mac"),
        (TensorConfig((NF4,), PerGroup(32)), INT8, Arithmetic.PARALLEL, "codebook_dot"),
        (TensorConfig((FLINT4,), PerGroup(32)), INT8, Arithmetic.PARALLEL, "flint_int_dot"),
        (TensorConfig((OLIVE4_INT,), PerChannel()), INT8, Arithmetic.PARALLEL, "olive_dot"),
        (TensorConfig(ANT4_WEIGHT, PerGroup(32)), INT8, Arithmetic.PARALLEL, "mixture_dot"),
        (TensorConfig(ANT4_WEIGHT, PerGroup(32)), None, Arithmetic.PARALLEL, "mixture_float_mac"),
        (INT4, INT8, Arithmetic.WEIGHT_SERIAL, "bit_serial_dot"),
        (INT4, INT8, Arithmetic.ACTIVATION_SERIAL, "bit_serial_dot"),
        (INT4, INT8, Arithmetic.BOTH_SERIAL, "bit_bit_dot"),
        (INT4, INT8, Arithmetic.TERM_SERIAL, "term_serial_dot"),
    ],
)
def test_every_arithmetic_is_priced_as_its_module(weight, activation, arithmetic, family):
    plan = plan_of(weight, activation, replace(OPTIONS, arithmetic=arithmetic))
    assert pe_of(plan.parts[0].arithmetic.type).design.family == family
    made = estimated(plan)
    pe = part_named(made, "PE of part 0")
    assert pe.count == OPTIONS.tile_rows * (OPTIONS.lanes if family.endswith("float_mac") else 1)
    assert pe.luts is not None and pe.luts.value > 0
    assert not [said for said in made.missing if said.startswith("PEs of")]


def mapped(mapping):
    return estimated(plan_of(options=replace(OPTIONS, mapping=mapping)))


def test_products_in_dsps_are_as_many_as_published_units_take():
    pe = part_named(mapped(IntMapping.DSP), "PE of part 0")
    # FINN's HLS unit: a DSP a product; eight lanes, four rows
    assert pe.resources.dsps == hls_unit_dsps(4, 8, 4, 8) == 32
    # an adder tree over 8 products of 12 bits: 4 x 13 + 2 x 14 + 15; an accumulator of 17 bits (32 x 8 x 128 = 2**15)
    assert pe.luts.value == 4 * 13 + 2 * 14 + 15 + 17
    half = part_named(mapped(IntMapping.DSP_PAIR), "PE of part 0")
    assert half.resources.dsps == 16
    # sums of two products have 13 bits: 2 x 14 + 15 for four of them; factors of 5 and 9 bits are put together
    assert half.luts.value == 2 * 14 + 15 + 17 + 4 * (5 + 9 + 13)


def test_mappings_trade_luts_for_dsps_and_say_so():
    auto, lut, dsp, pair = (mapped(mapping) for mapping in IntMapping)
    assert auto.resources == lut.resources
    assert [any("into DSPs" in said for said in made.missing) for made in (auto, lut, dsp, pair)] == [1, 0, 0, 0]
    assert auto.resources.dsps < pair.resources.dsps < dsp.resources.dsps
    assert dsp.resources.luts < pair.resources.luts < lut.resources.luts


def test_bitmod_is_its_netlists():
    weight = TensorConfig(BITMOD_FP4, PerGroup(32), ScaleConfig(UINT8, outer=FP16))
    made = estimated(plan_of(weight, None, replace(OPTIONS, arithmetic=Arithmetic.BITMOD)))
    pe, encoder = part_named(made, "PE of part 0"), part_named(made, "term encoder")
    rows = best_rows("lut6")
    assert pe.luts is not None and encoder.luts is not None
    assert pe.luts.value == rows["bitmod_pe.x4"].luts and pe.luts.origin is Origin.RECORDED
    assert encoder.luts.value == rows["bitmod_term_encoder.x1"].luts and encoder.count == 4 * OPTIONS.tile_rows


def test_an_arithmetic_without_a_module_is_named_as_missing():
    plan = plan_of()
    strange = replace(plan.parts[0].arithmetic, type="codesign::abacus_arithmetic<4>")
    made = estimated(replace(plan, parts=(replace(plan.parts[0], arithmetic=strange),)))
    assert "PEs of part 0: no PE is known for abacus_arithmetic" in made.missing


def test_every_figure_says_what_it_is():
    made = estimated()
    for part in made.parts:
        assert part.luts is not None and part.luts.source, part.name
    assert made.known_share == 1  # netlists, or reports of other designs, stand behind every part of this layer
    assert made.lut_error is not None and 0 <= made.lut_error < 0.2
    assert any("control" in said for said in made.missing)


def test_sums_of_parts_and_memories_are_the_resources():
    made = estimated()
    total = sum((part.resources for part in made.parts), FpgaResources())
    total = sum((taken for _, taken in made.arrays), total)
    assert made.resources.flip_flops == pytest.approx(total.flip_flops)
    # FIFOs of layer.h on top: 2 log2(depth) and a LUT for two bits of 32 entries (FINN-R)
    fifos = (8 + 256) + (12 + 2 * 256) + (8 + 256) + (12 + 2 * 16)
    # groups: four sums of 17 bits, four FP16 scales and the activation's; three of them, and five blocks of totals
    fifos += (4 + (4 * 17 + 4 * 16 + 32) // 2) + (6 + 4 * 32 // 2)
    assert made.resources.luts == pytest.approx(total.luts + fifos)


# --- memories --------------------------------------------------------------------------------------------------------


def test_the_tile_of_codes_by_hand():
    # 160 codes of 4 bits are five blocks of four words, of which a line holds four; a memory for each of the rows that
    # are multiplied side by side, twice for the ping-pong
    (codes,) = [one for one in buffers(plan_of(), on_chip=False) if one.name == "part 0 codes"]
    assert (codes.banks, codes.width_bits, codes.depth, codes.copies) == (4, 512, 2, 2)
    assert codes.resources(ultra_at_hand=True) == FpgaResources(luts=4 * 512 * 2)  # two lines: LUT RAM
    (more,) = [
        one for one in buffers(plan_of(options=replace(OPTIONS, tile_blocks=3)), on_chip=False)
        if one.name == "part 0 codes"
    ]  # fmt: skip
    assert more.depth == 3 * 2


@pytest.mark.parametrize(
    ("buffer", "taken"),
    [
        (Buffer("register", 3, 8, 1), FpgaResources(flip_flops=24)),
        (Buffer("shallow", 1, 8, 64), FpgaResources(luts=8)),
        (Buffer("18 kb", 1, 8, 2048), FpgaResources(bram36=0.5)),
        (Buffer("two copies", 1, 8, 2048, 2), FpgaResources(bram36=1.0)),
        (Buffer("large", 1, 72, 4096), FpgaResources(bram36=8.0)),
        (Buffer("larger", 1, 72, 40960), FpgaResources(bram36=80.0)),
        (Buffer("wasted", 1, 73, 4096, 1), FpgaResources(bram36=10.0)),
    ],
    ids=lambda value: value.name if isinstance(value, Buffer) else "",
)
def test_blocks_of_a_buffer_by_hand(buffer, taken):
    assert buffer.resources(ultra_at_hand=False) == taken


def test_a_constant_table_never_goes_to_ultra_ram():
    table = Buffer("weights", 1, 64, 100_000, constant=True)
    assert table.resources(ultra_at_hand=True).uram288 == 0


def test_weights_on_the_chip_take_the_blocks_of_their_image():
    plan = plan_of(n=512, k=512)
    beside = estimated(plan).resources.bram36 + 8 * estimated(plan).resources.uram288
    inside = estimated(plan, on_chip=True).resources.bram36 + 8 * estimated(plan, on_chip=True).resources.uram288
    # 8 words of 64 bits a beat, four BRAM18s of 18 x 1024 side by side (FINN-R)
    depth = plan.beats * 8
    assert inside - beside == pytest.approx(-(-depth // 1024) * 4 / 2)


# --- cycles ----------------------------------------------------------------------------------------------------------


def test_a_pipelined_loop_takes_what_a_published_report_says():
    # VITIS_LOOP_236_1 of krnl_bp: depth 2, interval 1, 8 trips: 10 cycles with the call around it
    loop = Loop(Process.FILL_TILE, "loop", 1, 8, (Operator.LOGIC, Operator.LOGIC))
    assert loop_cycles(loop, 300e6) == 10


def test_slower_clocks_need_fewer_stages():
    assert [stages(Operator.FLOAT_ADD, hz) for hz in (300e6, 200e6, 50e6)] == [7, 5, 2]


def test_a_tile_by_hand():
    plan = plan_of(n=4, options=replace(OPTIONS, tokens=1))
    made = call_cycles(plan, layer_loops(plan, 1), 300e6)
    # five groups of four steps without a pause: 2 to read, 2 to unpack and multiply, 2 for a tree of 8, 1 to add: depth
    # 7, one to enter the loop
    assert made.multiply == 7 + 1 + 19
    # four rows one behind another for each group, two cycles apart, for the adder's eight between two groups of a row:
    # to float (6), two products (4 each) and the total's sum (7)
    assert made.scale == (6 + 4 + 4 + 7) + 1 + 2 * 19
    # a level and a read, then a row a cycle
    assert made.finish == 3 + 1 + 3
    assert made.steps == 20 and made.bound == "scale"


def test_blocks_keep_the_adder_of_a_row_busy():
    # with two blocks a row's groups are eight cycles apart, and a row is scaled in each of them
    plan = plan_of(n=8, options=replace(OPTIONS, tokens=1, tile_blocks=2))
    made = call_cycles(plan, layer_loops(plan, 1), 300e6)
    assert made.scale == (6 + 4 + 4 + 7) + 1 + 39 and made.multiply == 7 + 1 + 39


def test_a_tile_takes_little_more_than_its_steps():
    plan = plan_of(n=512, k=1024)
    made = call_cycles(plan, layer_loops(plan, TOKENS), 300e6)
    tiles = 8
    assert made.steps == TOKENS * 128 * 128
    assert made.multiply == made.steps + tiles * 7  # a pipeline that fills once a tile
    # scaling is as fast, and deeper; the first tile has to arrive, the last one to leave
    assert made.steps < made.tiles < 1.1 * made.steps


def test_cycles_never_beat_the_array_of_the_cost_model():
    """An array of as many lanes and rows takes the same steps; a kernel's pipeline fills anew for every group."""
    plan = plan_of()
    machine = replace(
        FIGNA, pe=replace(FIGNA.pe, lanes=8, max_activation_bits=8), prefill_array=Array(4, 1), decode_array=Array(4, 1)
    )
    spec = LayerSpec("fc", LayerKind.LINEAR, TOKENS, K, N)
    config = LayerConfig(weight=INT4, activation=INT8)
    cost = evaluate(Workload("one", Phase.PREFILL, (spec,)), config, machine, PAPER).layers[0]
    made = call_cycles(plan, layer_loops(plan, TOKENS), 300e6)
    assert made.steps == cost.price.compute_cycles == TOKENS * 6 * 20
    assert made.latency > made.multiply > made.steps


def test_lanes_that_do_not_divide_groups_take_more_steps_than_an_array():
    plan = plan_of(TensorConfig((INTS[4],), PerGroup(20)))
    made = call_cycles(plan, layer_loops(plan, TOKENS), 300e6)
    assert made.steps == TOKENS * 6 * 8 * 3  # eight groups of 20: three steps of eight each, not 20 in all


@pytest.mark.parametrize("lanes", [4, 8, 16, 32])
def test_more_lanes_never_take_longer(lanes):
    few, many = (
        call_cycles(plan, layer_loops(plan, TOKENS), 300e6).steps
        for plan in (plan_of(options=replace(OPTIONS, lanes=each)) for each in (lanes, 2 * lanes))
    )
    assert many <= few


def test_ports_and_slow_memories_never_make_it_faster():
    plan = plan_of(n=256)
    loops = layer_loops(plan, TOKENS)
    fast = call_cycles(plan, loops, 300e6, bytes_per_s=19.2e9)
    assert call_cycles(plan, loops, 300e6, bytes_per_s=19.2e9, ports=True).latency >= fast.latency
    slow = call_cycles(plan, loops, 300e6, bytes_per_s=50e6)
    assert slow.bound == "read" and slow.latency > fast.latency
    # a beat of 64 bytes takes 384 cycles at 50 MB/s and 300 MHz
    assert slow.read > 384 * plan.beats


def test_a_burst_waits_for_its_first_beat():
    plan = plan_of(n=4)
    loops = layer_loops(plan, TOKENS)
    bursts = sum(loop.entries for loop in loops if loop.process is Process.READ_WEIGHTS)
    near, far = (call_cycles(plan, loops, 300e6, bytes_per_s=each) for each in (None, 19.2e9))
    assert far.read - near.read == AXI_LATENCY * bursts


# --- the whole -------------------------------------------------------------------------------------------------------


def test_bytes_of_a_call_by_hand():
    made = estimated(plan_of(n=8))
    # codes of 4 rows are 20 words each: five beats a tile; scales are 20 FP16, 320 bits: the second tile's lie in two
    # beats; inputs are 320 bytes, five beats a token; outputs eight floats: one
    loops = layer_loops(plan_of(n=8), TOKENS)
    read = sum(loop.iterations for loop in loops if loop.process is Process.READ_WEIGHTS)
    assert read == 2 * 5 + 1 + 2
    assert made.bytes_moved == 64 * (read + TOKENS * (5 + 1))
    assert made.bytes_per_s == pytest.approx(made.bytes_moved / (made.cycles.latency / 300e6))


def test_weights_on_the_chip_move_no_bytes():
    # 320 bits of scales a tile, from multiples of 320 on: 1, 2, 1, 2, 2 and 1 beats
    assert estimated(on_chip=True).bytes_moved == estimated().bytes_moved - 64 * (6 * 5 + 9)


def test_a_small_device_does_not_hold_a_large_tile():
    plan = plan_of(options=replace(OPTIONS, tile_rows=24, lanes=32))
    assert estimated(plan).budget.fits
    small = estimated(plan, PYNQ, 200e6)
    assert not small.budget.fits and small.budget.tightest.resource in ("luts", "dsps")
    assert small.resources.uram288 == 0


def test_a_record_is_json_and_the_same_every_time():
    made = estimated().to_dict()
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert made == estimated().to_dict()
    assert made["fits"] and made["device_bytes_per_s"] == 77e9
    assert made["cycles"]["latency"] <= made["cycles_with_two_ports"]["latency"]
    assert {"part", "count", "luts", "origin", "mean_error", "source"} <= set(made["parts"][0])


def test_a_calibration_corrects_resources_and_says_so():
    ratio = ResourceRatio("UltraScale+", "luts", 0.5, 1.1, ("fc",), "Vivado")
    made = estimated(calibration=FpgaCalibration((ratio,), "mine.json"))
    assert made.resources.luts == pytest.approx(estimated().resources.luts / 2)
    assert made.resources.dsps == estimated().resources.dsps
    assert made.calibration.startswith("calibrated by mine.json on UltraScale+: luts x 0.50")
    other = estimated(device=DEVICES["vck190"], calibration=FpgaCalibration((ratio,), "mine.json"))
    assert other.calibration == "not calibrated: mine.json has no design of family Versal"


def test_a_report_has_what_synthesis_would_say():
    report = estimated().report()
    assert report.design == "fc" and report.target == "u250"
    assert report.latency_cycles == estimated().cycles.latency
    assert report.luts == round(estimated().resources.luts)


def test_devices_and_clocks_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="LUTs of 6 inputs"):
        estimated(device=DEVICES["ecp5_25k"])
    with pytest.raises(ValueError, match="clock_hz of a kernel must be above 0, not 0"):
        estimated(clock_hz=0)
