"""Tiles smaller than the array: which sizes there are, when they are taken, and what they cost."""

from dataclasses import replace

import pytest

from datatypes.layer_config import LayerConfig
from hwmodel.accelerator import Array
from hwmodel.evaluate import copies_in_turn, evaluate, layer_products
from hwmodel.event_grid import formats
from hwmodel.event_simulator import simulate
from hwmodel.options import SCHEDULED, ModelOptions
from hwmodel.presets import ACCELERATORS, FP16_BASELINE
from hwmodel.price import Price
from hwmodel.tile_choice import LayerSchedule, schedule_layer, tile_sizes
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload

STRICT = replace(SCHEDULED, tile_slack=0.0)


def _price(spec: LayerSpec, options: ModelOptions) -> Price:
    return evaluate(Workload("one", Phase.DECODE, (spec,)), LayerConfig(), FP16_BASELINE, options).layers[0].price


def _schedule(spec: LayerSpec, options: ModelOptions) -> LayerSchedule:
    array = FP16_BASELINE.decode_array

    def products(tile: Array):
        return layer_products(spec, LayerConfig(), FP16_BASELINE, options, None, tile)

    return schedule_layer(spec, products, FP16_BASELINE, array, options, copies_in_turn(spec, options))


@pytest.mark.parametrize("size", [1, 12, 36, 50, 64, 97, 100, 4096])
def test_a_larger_array_has_the_tiles_of_a_smaller_one(size: int) -> None:
    tiles = tile_sizes(size)
    assert tiles[0] == size and tiles[-1] == 1 and list(tiles) == sorted(tiles, reverse=True)
    for times in (2, 3, 5):
        assert set(tiles) <= set(tile_sizes(times * size))
    if size in (12, 36, 64, 4096):  # 1100, 1001.., 1000.. in binary
        assert all(size in tile_sizes(larger) for larger in range(size, 2 * size, 7))


def test_a_tile_that_fits_comes_once() -> None:
    """64 rows x 8192 inputs x 2 bytes are 1 MiB and come for both tiles of 12 of 24 tokens; 32 rows just fit into
    512 KiB. 256 outputs: 4 MiB once are 152,300 cycles at 29.44 bytes, twice as long as 8 x 2 tiles of 8192 steps.
    """
    spec = LayerSpec("linear", LayerKind.LINEAR, 24, 8192, 256)
    price = _price(spec, SCHEDULED)
    assert price.weight_bits == 16 * 8192 * 256
    (plan,) = _schedule(spec, SCHEDULED).plans
    assert plan.shape.rows <= 32 and plan.shape.columns == 12
    tiles = -(-256 // plan.shape.rows) * 2
    assert price.compute_cycles == 8192 * tiles
    assert price.cycles < 2 * 16 * 8192 * 256 / (8 * 29.44)


def test_rows_that_idle_burn_as_if_they_worked() -> None:
    spec = LayerSpec("linear", LayerKind.LINEAR, 24, 8192, 256)
    price = _price(spec, SCHEDULED)
    (plan,) = _schedule(spec, SCHEDULED).plans
    array = FP16_BASELINE.decode_array
    per_cycle = FP16_BASELINE.technology.layout_energy_factor * FP16_BASELINE.pe.energy_pj_per_cycle
    assert (array.columns, plan.shape.columns) == (12, 12)  # both tiles of tokens are full
    assert price.pe_pj == pytest.approx(per_cycle * array.rows * array.columns * price.compute_cycles)


def test_of_schedules_about_as_fast_the_one_that_moves_least_is_taken() -> None:
    spec = LayerSpec("linear", LayerKind.LINEAR, 121, 7738, 385)
    fastest, chosen = _schedule(spec, STRICT), _schedule(spec, SCHEDULED)
    assert fastest.cycles <= chosen.cycles <= (1 + SCHEDULED.tile_slack) * fastest.cycles
    assert chosen.moved_bits <= fastest.moved_bits


@pytest.mark.parametrize(("preset", "format_name"), [("stripes", "int8_channel_a8_kv8"), ("fp16_baseline", "fp16")])
def test_the_simulator_takes_the_same_tiles(preset: str, format_name: str) -> None:
    layers = (
        LayerSpec("linear", LayerKind.LINEAR, 64, 2048, 512),
        LayerSpec("qk", LayerKind.ATTENTION_QK, 40, 64, 40, 2, causal=True),
    )
    workload, config = Workload("two", Phase.DECODE, layers), formats()[format_name]
    prices = evaluate(workload, config, ACCELERATORS[preset], SCHEDULED).layers
    made = simulate(workload, config, ACCELERATORS[preset], model_options=SCHEDULED).layers
    for cost, layer in zip(prices, made, strict=True):
        price = cost.price
        assert (layer.weight_bits, layer.input_bits) == (price.weight_bits, price.input_bits)
        assert layer.output_bits == price.output_bits
        assert layer.compute_cycles in (price.compute_cycles, price.vector_cycles)
        assert layer.filled_cycles == price.cycles


def test_a_slack_is_a_share() -> None:
    with pytest.raises(ValueError, match=r"tile_slack of model options must be at least 0 and below 1, not 1\.0"):
        ModelOptions(tile_slack=1.0)
