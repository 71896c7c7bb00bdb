"""Published areas of the presets, and the laws that hold for every one of them."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datatypes.catalog import FP4, FP16, INTS_SYMMETRIC, UE4M3, UINT8
from datatypes.format import LearnedFormat
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import CodebookConfig, LayerConfig, LowRankConfig, OutlierConfig, ScaleConfig, TensorConfig
from hwmodel.accelerator import Accelerator, Array
from hwmodel.evaluate import evaluate
from hwmodel.operands import OperandBits
from hwmodel.options import HONEST, PAPER, SCHEDULED, ModelOptions
from hwmodel.paper import paper_workload
from hwmodel.presets import ACCELERATORS, ANT, BITMOD, FIGNA, accelerator_by_name
from hwmodel.presets_memory import DRAMS
from hwmodel.price import Price
from hwmodel.roofline import lower_bound_cycles
from hwmodel.units import pj_to_mj
from hwmodel.workload import ATTENTION_KINDS, LayerKind, LayerSpec, Phase, Workload

ALL = pytest.mark.parametrize("accelerator", ACCELERATORS.values(), ids=lambda a: a.name)
MODES = pytest.mark.parametrize("options", [PAPER, HONEST], ids=["paper", "honest"])
few = settings(max_examples=25, deadline=None)


def _int_config(bits: int, accelerator: Accelerator) -> LayerConfig:
    """Integer weights and KV cache, and INT8 activations where the array multiplies encoded ones."""
    kv = TensorConfig((INTS_SYMMETRIC[bits],), PerChannel(), dynamic=True)
    activation = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), dynamic=True)
    return LayerConfig(
        weight=TensorConfig((INTS_SYMMETRIC[bits],), PerGroup(128), ScaleConfig(UINT8)), key=kv, value=kv,
        activation=activation if accelerator.pe.encoded_activations else None,
    )  # fmt: skip


@st.composite
def layers(draw: st.DrawFn) -> LayerSpec:
    """A matrix product of any kind."""
    kind = draw(st.sampled_from([LayerKind.LINEAR, LayerKind.CONV, LayerKind.ATTENTION_QK, LayerKind.ATTENTION_PV]))
    size = st.integers(1, 3000)
    if kind in ATTENTION_KINDS:
        keys, width, group = draw(st.integers(1, 600)), draw(st.integers(1, 256)), draw(st.integers(1, 8))
        causal = draw(st.booleans())
        rows = group * (keys if causal else draw(st.integers(1, keys)))
        k, n = (width, keys) if kind is LayerKind.ATTENTION_QK else (keys, width)
        return LayerSpec("x", kind, rows, k, n, draw(st.integers(1, 32)), causal=causal)
    shared = draw(st.booleans())
    return LayerSpec("x", kind, draw(size), draw(size), draw(size), draw(st.integers(1, 8)), shared_weight=shared)


def _price(
    spec: LayerSpec, config: LayerConfig | OperandBits, accelerator: Accelerator, options: ModelOptions, phase: Phase
) -> Price:
    return evaluate(Workload("x", phase, (spec,)), config, accelerator, options).layers[0].price


@ALL
@few
@given(spec=layers(), bits=st.integers(2, 8), phase=st.sampled_from(Phase))
def test_never_under_the_roofline(accelerator: Accelerator, spec: LayerSpec, bits: int, phase: Phase) -> None:
    price = _price(spec, _int_config(bits, accelerator), accelerator, HONEST, phase)
    assert price.cycles >= lower_bound_cycles(price, accelerator)
    published = _price(spec, _int_config(bits, accelerator), accelerator, PAPER, phase)
    assert published.cycles > lower_bound_cycles(published, accelerator) - 1  # DRAM cycles are cut to whole ones


@ALL
@few
@given(spec=layers(), phase=st.sampled_from(Phase))
def test_fp16_is_never_under_the_roofline(accelerator: Accelerator, spec: LayerSpec, phase: Phase) -> None:
    price = _price(spec, LayerConfig(), accelerator, HONEST, phase)
    assert price.cycles >= lower_bound_cycles(price, accelerator)


@ALL
@MODES
@few
@given(spec=layers(), bits=st.integers(3, 8), phase=st.sampled_from(Phase))
def test_fewer_bits_never_move_or_take_more(
    accelerator: Accelerator, options: ModelOptions, spec: LayerSpec, bits: int, phase: Phase
) -> None:
    more = _price(spec, _int_config(bits, accelerator), accelerator, options, phase)
    fewer = _price(spec, _int_config(bits - 1, accelerator), accelerator, options, phase)
    assert fewer.dram_bits <= more.dram_bits
    assert fewer.compute_cycles <= more.compute_cycles
    assert fewer.cycles <= more.cycles


@ALL
@few
@given(spec=layers(), bits=st.floats(1, 15), phase=st.sampled_from(Phase))
def test_bare_bit_widths_are_monotone(accelerator: Accelerator, spec: LayerSpec, bits: float, phase: Phase) -> None:
    more = _price(spec, OperandBits(bits + 1, bits + 1, 8), accelerator, PAPER, phase)
    fewer = _price(spec, OperandBits(bits, bits, 8), accelerator, PAPER, phase)
    assert fewer.dram_bits <= more.dram_bits and fewer.cycles <= more.cycles


@ALL
@few
@given(spec=layers(), bits=st.integers(3, 8), phase=st.sampled_from(Phase))
def test_a_tile_schedule_is_never_under_the_roofline(
    accelerator: Accelerator, spec: LayerSpec, bits: int, phase: Phase
) -> None:
    price = _price(spec, _int_config(bits, accelerator), accelerator, SCHEDULED, phase)
    assert price.cycles >= lower_bound_cycles(price, accelerator)
    assert price.dram_bits >= price.compulsory_bits


STRICT = replace(SCHEDULED, tile_slack=0.0)
_LARGER_BLOCKS = 1 / 256  # beyond what was found


@ALL
@pytest.mark.parametrize(
    "options",
    [STRICT, replace(STRICT, whole_tiles=False), replace(STRICT, fill_and_drain=False)],
    ids=["scheduled", "fill and drain", "whole tiles"],
)
@settings(max_examples=6, deadline=None)
@given(
    spec=layers(), bits=st.integers(4, 8), phase=st.sampled_from(Phase), rows=st.integers(1, 3),
    columns=st.integers(1, 4), bandwidth=st.floats(1, 20),
)  # fmt: skip
def test_tile_schedules_obey_the_laws_of_time(
    accelerator: Accelerator,
    options: ModelOptions,
    spec: LayerSpec,
    bits: int,
    phase: Phase,
    rows: int,
    columns: int,
    bandwidth: float,
) -> None:
    """More PEs, a faster memory: never longer, and with the default slack by no more than that.

    Fewer bits may be held in larger blocks, whose first one comes alone: longer by little (217 of 134,786 cycles were
    the most that was found). That is no choice where parts of tiles stay.
    """
    memory = replace(accelerator.dram, bytes_per_s=bandwidth * accelerator.dram.bytes_per_s)
    for machine, width in (
        (_scaled(accelerator, rows, columns), bits), (replace(accelerator, dram=memory), bits), (accelerator, bits - 1)
    ):  # fmt: skip
        config, better = (
            _int_config(bits, accelerator),
            _int_config(width if options.whole_tiles else bits, accelerator),
        )
        before = _price(spec, config, accelerator, options, phase).cycles
        most = before if width == bits or not options.whole_tiles else (1 + _LARGER_BLOCKS) * before
        assert _price(spec, better, machine, options, phase).cycles <= most
        slack = replace(options, tile_slack=SCHEDULED.tile_slack)
        near = _price(spec, better, machine, slack, phase).cycles
        assert near <= (1 + SCHEDULED.tile_slack) * most


@pytest.mark.parametrize(("preset", "rows", "columns"), [("stripes", 2, 1), ("bitmod", 1, 2)])
def test_a_larger_array_uses_smaller_tiles_where_large_ones_do_not_fit(preset: str, rows: int, columns: int) -> None:
    """OPT-1.3B's fc2 at 256 tokens, which took 7.4 and 2.1 times as long in tiles as large as the larger array."""
    accelerator = ACCELERATORS[preset]
    spec = LayerSpec("fc2", LayerKind.LINEAR, 256, 8192, 2048)
    large = _scaled(accelerator, rows, columns)
    config = _int_config(4, accelerator)
    before = _price(spec, config, accelerator, SCHEDULED, Phase.PREFILL)
    assert _price(spec, config, large, SCHEDULED, Phase.PREFILL).cycles <= before.cycles


def _scaled(accelerator: Accelerator, rows: int, columns: int) -> Accelerator:
    def scale(array: Array) -> Array:
        return Array(array.rows * rows, array.columns * columns)

    return replace(
        accelerator, prefill_array=scale(accelerator.prefill_array), decode_array=scale(accelerator.decode_array)
    )


@ALL
@MODES
@few
@given(
    spec=layers(), bits=st.integers(2, 8), phase=st.sampled_from(Phase), rows=st.integers(1, 2),
    columns=st.integers(1, 4),
)  # fmt: skip
def test_more_pes_never_take_more_cycles(
    accelerator: Accelerator, options: ModelOptions, spec: LayerSpec, bits: int, phase: Phase, rows: int, columns: int
) -> None:
    small = _price(spec, _int_config(bits, accelerator), accelerator, options, phase)
    large = _price(spec, _int_config(bits, accelerator), _scaled(accelerator, rows, columns), options, phase)
    assert large.cycles <= small.cycles and large.dram_bits == small.dram_bits


@ALL
@few
@given(spec=layers(), bits=st.integers(2, 8), phase=st.sampled_from(Phase))
def test_faster_dram_never_takes_more_cycles(
    accelerator: Accelerator, spec: LayerSpec, bits: int, phase: Phase
) -> None:
    fast = replace(accelerator, dram=replace(accelerator.dram, bytes_per_s=2 * accelerator.dram.bytes_per_s))
    config = _int_config(bits, accelerator)
    assert _price(spec, config, fast, HONEST, phase).cycles <= _price(spec, config, accelerator, HONEST, phase).cycles


@ALL
@MODES
def test_report_is_the_sum_of_its_layers(accelerator: Accelerator, options: ModelOptions) -> None:
    workload = paper_workload("Yi-6B", Phase.PREFILL, batch=2, context=100, other_layers=True)
    report = evaluate(workload, _int_config(6, accelerator), accelerator, options)
    frame = report.to_frame()
    assert report.cycles == frame["cycles"].sum()
    assert report.total.macs == frame["macs"].sum()
    assert report.energy_pj / 1e6 == pytest.approx(frame["energy_uj"].sum(), rel=1e-12)
    halves = [evaluate(replace(workload, layers=part), _int_config(6, accelerator), accelerator, options)
              for part in (workload.layers[:100], workload.layers[100:])]  # fmt: skip
    assert sum(half.cycles for half in halves) == report.cycles
    assert sum(half.energy_pj for half in halves) == pytest.approx(report.energy_pj, rel=1e-12)


@ALL
def test_side_branches_cost_something(accelerator: Accelerator) -> None:
    plain = _int_config(4, accelerator)
    factor = TensorConfig((INTS_SYMMETRIC[8],), PerGroup(128), ScaleConfig(UINT8))
    spec = LayerSpec("x", LayerKind.LINEAR, 64, 1024, 1024)
    cost = _price(spec, plain, accelerator, HONEST, Phase.PREFILL)
    for config in (
        replace(plain, low_rank=LowRankConfig(32, factor, factor)),
        replace(plain, outliers=OutlierConfig(fraction=0.01)),
        replace(plain, permuted=True),
        replace(plain, smoothing=FP16),
    ):
        other = _price(spec, config, accelerator, HONEST, Phase.PREFILL)
        assert other.weight_bits > cost.weight_bits
        assert other.energy_pj > cost.energy_pj and other.cycles >= cost.cycles


@pytest.mark.parametrize(
    ("name", "area_mm2"),
    [("fp16_baseline", 1.512), ("bitmod", 1.5439), ("ant", 1.3502), ("olive", 1.519)],  # simulator's pe_array_mm2
)
def test_published_pe_area(name: str, area_mm2: float) -> None:
    assert ACCELERATORS[name].pe_area_mm2 == pytest.approx(area_mm2, abs=5e-5)


def test_area_is_the_sum_of_its_parts() -> None:
    report = evaluate(paper_workload("OPT-1.3B", Phase.DECODE), _int_config(4, BITMOD), BITMOD)
    assert sum(report.area_mm2.values()) == pytest.approx(BITMOD.area_mm2)
    assert report.area_mm2["encoder"] == pytest.approx(16 * 2419e-6)  # HPCA 2025, table X
    assert report.area_mm2["sram"] == pytest.approx(1.6019 + 1.5707)  # CACTI table, ports of 512 and 1024 bits


@pytest.mark.parametrize(
    ("accelerator", "bits", "expected"),
    [  # reference sheet, section 4.6: Llama-2-7B prefill and decode Mcycles, mJ
        (FIGNA, OperandBits(8, 8), (1673.7, 208.8, 7653, 1125)),
        (
            replace(
                ANT,
                prefill_array=Array(36, 32),
                decode_array=Array(72, 16),
                pe=replace(ANT.pe, energy_pj_per_cycle=0.613),
            ),
            OperandBits(5, 16),
            (1505.9, 133.4, 5649, 761),
        ),
    ],
    ids=["figna", "ant with 1152 PEs"],
)
def test_what_if_designs(
    accelerator: Accelerator, bits: OperandBits, expected: tuple[float, float, float, float]
) -> None:
    prefill, decode = (
        evaluate(paper_workload("Llama-2-7B", phase), bits, accelerator, PAPER)
        for phase in (Phase.PREFILL, Phase.DECODE)
    )
    assert (prefill.cycles / 1e6, decode.cycles / 1e6) == pytest.approx(expected[:2], abs=0.0501)
    assert pj_to_mj(prefill.energy_pj) == pytest.approx(expected[2], abs=0.501)
    assert pj_to_mj(decode.energy_pj) == pytest.approx(expected[3], abs=0.501)


@ALL
def test_every_number_has_a_source(accelerator: Accelerator) -> None:
    parts = [accelerator, accelerator.pe, accelerator.dram, accelerator.weight_buffer, accelerator.activation_buffer,
             accelerator.technology, accelerator.vector]  # fmt: skip
    assert all(part.source for part in parts)


def test_unknown_preset() -> None:
    with pytest.raises(ValueError, match="accelerator must be one of the presets .*, not 'bitmodd'; nearest: bitmod"):
        accelerator_by_name("bitmodd")
    assert accelerator_by_name("bitmod") is BITMOD


def test_every_preset_is_in_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "machines.md").read_text(encoding="utf-8")
    assert [name for name in (*ACCELERATORS, *DRAMS) if f"`{name}`" not in text] == []


_NVFP4 = TensorConfig((FP4,), PerGroup(16), ScaleConfig(UE4M3, outer=FP16), dynamic=True)
_PAIRS = LearnedFormat("pairs", 11, "here", dimension=2)
_SLABS = [TensorConfig((INTS_SYMMETRIC[bits],), PerGroup(64)) for bits in (3, 6)]
_FORMATS = {
    "mx_dot": LayerConfig(replace(_NVFP4, dynamic=False), activation=_NVFP4, key=_NVFP4, value=_NVFP4),
    "table_lookup": LayerConfig(TensorConfig((_PAIRS,), scale=None, codebook=CodebookConfig())),
    "tender": LayerConfig(
        TensorConfig((INTS_SYMMETRIC[4],), PerChannel(), residual=_SLABS[0]),
        activation=TensorConfig((INTS_SYMMETRIC[4],), PerChannel(), dynamic=True),
        outliers=OutlierConfig(fraction=0.01),
    ),
}


@pytest.mark.parametrize("name", _FORMATS)
@few
@given(spec=layers(), phase=st.sampled_from(Phase), rows=st.integers(1, 2), columns=st.integers(1, 4))
def test_laws_of_machines_on_formats_of_their_own(
    name: str, spec: LayerSpec, phase: Phase, rows: int, columns: int
) -> None:
    accelerator, config = ACCELERATORS[name], _FORMATS[name]
    price = _price(spec, config, accelerator, HONEST, phase)
    assert price.cycles >= lower_bound_cycles(price, accelerator)
    large = _price(spec, config, _scaled(accelerator, rows, columns), HONEST, phase)
    assert large.cycles <= price.cycles and large.dram_bits == price.dram_bits


@pytest.mark.parametrize("name", ["bitfusion", "stripes", "loom", "bitlet", "bitvert", "tender"])
@few
@given(spec=layers(), bits=st.integers(3, 8), phase=st.sampled_from(Phase))
def test_fewer_bits_of_activations_never_take_more(name: str, spec: LayerSpec, bits: int, phase: Phase) -> None:
    prices = []
    for width in (bits - 1, bits):
        tensor = TensorConfig((INTS_SYMMETRIC[width],), PerChannel(), dynamic=True)
        weight = TensorConfig((INTS_SYMMETRIC[6],), PerChannel())
        config = LayerConfig(weight, activation=tensor, key=tensor, value=tensor)
        prices.append(_price(spec, config, ACCELERATORS[name], HONEST, phase))
    assert prices[0].dram_bits <= prices[1].dram_bits and prices[0].cycles <= prices[1].cycles
