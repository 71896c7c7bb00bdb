"""Design points of a list against ``evaluate``, one by one."""

import random
from dataclasses import replace

import pytest

from hwmodel.accelerator import Accelerator, Array
from hwmodel.batch_axes import DesignPoint, paper_scenarios
from hwmodel.batch_points import price_points, space_of
from hwmodel.bench import bitmod4_config
from hwmodel.evaluate import evaluate
from hwmodel.operands import OperandBits
from hwmodel.options import HONEST, SCHEDULED, ModelOptions
from hwmodel.presets import ANT, BITMOD, FP16_BASELINE
from hwmodel.price import sum_prices
from hwmodel.units import KIB

SCENARIOS = {batch: paper_scenarios("OPT-1.3B", batches=(batch,), prompts=(32,), tokens=(2,))[0] for batch in (1, 3)}
CONFIGS = {"bits": OperandBits(4.0625, 16, 16), "bitmod4": bitmod4_config()}


def _machine(draw: random.Random) -> Accelerator:
    """A preset with anything changed; some with a vector unit that no other has."""
    base = draw.choice([BITMOD, ANT, FP16_BASELINE])
    rows, columns = draw.choice([16, 24, 40]), draw.choice([4, 8, 12])
    encoder = base.encoder
    if encoder is not None:  # one for each tile of PEs
        share = rows * columns / base.pe_count
        encoder = replace(
            encoder, energy_pj_per_cycle=encoder.energy_pj_per_cycle * share, area_um2=encoder.area_um2 * share
        )
    return replace(
        base,
        prefill_array=Array(rows, columns),
        decode_array=Array(2 * rows, columns // 2),
        encoder=encoder,
        weight_buffer=replace(base.weight_buffer, capacity_bytes=draw.choice([64, 96, 512]) * KIB),
        dram=replace(base.dram, bytes_per_s=draw.choice([8e9, 50e9])),
        frequency_hz=draw.choice([0.5e9, 1e9]),
        vector=replace(base.vector, lanes=draw.choice([base.vector.lanes, 96])),
    )


@pytest.mark.parametrize("options", [HONEST, SCHEDULED], ids=["honest", "scheduled"])
def test_points_equal_evaluate(options: ModelOptions) -> None:
    draw = random.Random(4)
    points = []
    for index in range(30):
        scenario, name = SCENARIOS[draw.choice((1, 3))], draw.choice(sorted(CONFIGS))
        points.append(DesignPoint(index, scenario, name, CONFIGS[name], _machine(draw)))
    result = price_points(points, options, detail=True)
    ran = 0
    for position, point in enumerate(points):
        machine, scenario = point.accelerator, point.scenario
        try:
            prefill = evaluate(scenario.prefill, point.configs, machine, options).total
        except NotImplementedError as error:
            assert not result.runnable[position] and str(error) == result.reason(position)
            continue
        steps = [
            evaluate(scenario.step(context), point.configs, machine, options).total.times(times)
            for context, times in scenario.contexts(options)
        ]
        ran += 1
        for phase, wanted in ((result.prefill, prefill), (result.decode, sum_prices(steps))):
            assert phase.cycles[position] == wanted.cycles
            assert phase.dram_bits[position] == wanted.dram_bits
            assert phase["compute_cycles"][position] == wanted.compute_cycles
            assert phase.energy_pj[position] == pytest.approx(wanted.energy_pj, rel=1e-12)
        assert result.area_mm2[position] == pytest.approx(machine.area_mm2, rel=1e-12)
    assert ran >= 10


def test_variants_share_an_accelerator_and_nothing_else_does() -> None:
    scenario = SCENARIOS[1]
    machines = [
        BITMOD,
        replace(BITMOD, frequency_hz=2e9, name="fast"),
        replace(BITMOD, pe=replace(BITMOD.pe, area_um2=1.0)),
        replace(BITMOD, prefill_array=Array(8, 8), decode_array=Array(16, 4)),  # with the encoders of a larger array
    ]
    points = [DesignPoint(0, scenario, "bits", CONFIGS["bits"], machine) for machine in machines]
    space, indices = space_of(points)
    assert space.places(indices)["accelerator"].tolist() == [0, 0, 1, 2]
    assert len(set(indices.tolist())) == 4
    assert space.design(int(indices[1])).accelerator.frequency_hz == 2e9


def test_names_stand_for_one_thing() -> None:
    first = DesignPoint(0, SCENARIOS[1], "bits", CONFIGS["bits"], BITMOD)
    with pytest.raises(ValueError, match="configs of design points must be the same where .* two are named 'bits'"):
        price_points([first, replace(first, configs=CONFIGS["bitmod4"])])
    other = replace(SCENARIOS[1], prefill=replace(SCENARIOS[1].prefill, layers=SCENARIOS[1].prefill.layers[:3]))
    with pytest.raises(ValueError, match="scenarios of design points must be the same where"):
        price_points([first, replace(first, scenario=other)])
    with pytest.raises(ValueError, match="accelerators of design axes must be a tuple of at least one value"):
        price_points([])
