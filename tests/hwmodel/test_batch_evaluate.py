"""Whole design spaces against ``evaluate``, design by design, over every axis, machine, option and kind of config."""

import math
import random
from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
import pytest

from datatypes.block_formats import BLOCK_FORMATS, MXFP4, MXFP8_E4M3, NVFP4, bilevel, integer_asymmetric
from datatypes.catalog import BITMOD_FP3, BITMOD_FP4, E4M3, FLINT4, FP16, INTS_SYMMETRIC, NF4, TERNARY, UINT8
from datatypes.channel_groups_config import ChannelGroupsConfig
from datatypes.format import LearnedFormat
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import (
    CodebookConfig,
    LayerConfig,
    LowRankConfig,
    OutlierConfig,
    OutlierLayout,
    Part,
    PartitionedConfig,
    ScaleConfig,
    SparsityConfig,
    TensorConfig,
)
from hwmodel.accelerator import Array
from hwmodel.batch_axes import DesignAxes, DesignPoint, DesignSpace, Scenario, paper_scenarios
from hwmodel.batch_evaluate import BatchPricer, BatchResult, batch_evaluate
from hwmodel.evaluate import Pricer, evaluate
from hwmodel.operands import Config, OperandBits
from hwmodel.options import HONEST, PAPER, SCHEDULED, Buffering, Fallback, ModelOptions
from hwmodel.paper import DESIGNS, paper_bits, paper_report
from hwmodel.presets import ACCELERATORS, BITMOD
from hwmodel.presets_memory import DRAMS
from hwmodel.price import Price, sum_prices
from hwmodel.units import KIB, pj_to_mj
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload

INT8_TOKEN = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), dynamic=True)
INT4_GROUP = TensorConfig((INTS_SYMMETRIC[4],), PerGroup(128), ScaleConfig(UINT8, outer=FP16))
INT4_ROW = TensorConfig((INTS_SYMMETRIC[4],), PerChannel())
KV4 = replace(integer_asymmetric(4, 1), granularity=PerChannel(), dynamic=True)
FP8 = TensorConfig((E4M3,), scale=None)
MXFP8 = replace(MXFP8_E4M3, dynamic=True)
FACTOR = TensorConfig((INTS_SYMMETRIC[8],), PerChannel())
WIDE = TensorConfig((FP16,), scale=None)
PAIRS = LearnedFormat("pairs", 12, "here", dimension=2)
ROWS = CodebookConfig(granularity=PerGroup(512))
SLABS = PartitionedConfig((Part(1152, INT4_ROW), Part(896, replace(INT4_ROW, formats=(INTS_SYMMETRIC[8],)))), slab=128)
SORTED = replace(SLABS, slab=2)
K = 2048  # of the model below

CONFIGS: dict[str, Config | dict[str, Config]] = {
    "fp16": LayerConfig(),
    "bits": OperandBits(4.0625, 8, 8),
    "wide bits": OperandBits(6.0625, 16, 16),
    "bitmod4 kv8": LayerConfig(
        TensorConfig(BITMOD_FP4, PerGroup(128), ScaleConfig(UINT8, outer=FP16)), key=INT8_TOKEN, value=INT8_TOKEN
    ),
    "bitmod3 g16": LayerConfig(TensorConfig(BITMOD_FP3, PerGroup(24)), key=KV4, value=INT8_TOKEN),
    "int4 g128 a8": LayerConfig(INT4_GROUP, activation=INT8_TOKEN, key=INT8_TOKEN, value=INT8_TOKEN),
    "int4 a8 groups": LayerConfig(INT4_ROW, replace(INT8_TOKEN, granularity=PerGroup(64)), output=INT8_TOKEN),
    "int8 a8": LayerConfig(TensorConfig((INTS_SYMMETRIC[8],), PerChannel()), activation=INT8_TOKEN),
    "channel groups": LayerConfig(INT4_ROW, ChannelGroupsConfig(INTS_SYMMETRIC[4], 14, chunks=8)),
    "own scales of groups": LayerConfig(
        INT4_ROW, ChannelGroupsConfig(INTS_SYMMETRIC[8], 5, None, halved=False, bias=None), key=INT8_TOKEN
    ),
    "int3 asym": LayerConfig(integer_asymmetric(3, 96), permuted=True),
    "low rank": LayerConfig(INT4_GROUP, low_rank=LowRankConfig(32, FACTOR, FACTOR), smoothing=FP16),
    "low rank fused a8": LayerConfig(
        INT4_ROW, activation=INT8_TOKEN, low_rank=LowRankConfig(48, FACTOR, FACTOR, fused=True), output_norm=True
    ),
    "outliers": LayerConfig(INT4_GROUP, outliers=OutlierConfig(fraction=0.005)),
    "outlier columns": LayerConfig(
        INT4_ROW, outliers=OutlierConfig(OutlierLayout.COLUMNS, 0.01, keep_dense_slot=False), activation=INT8_TOKEN
    ),
    "slabs": {"linear": LayerConfig(SLABS), "down": LayerConfig(INT4_ROW)},
    "sorted slabs a8": {"linear": LayerConfig(SORTED, activation=INT8_TOKEN)},
    "half fp16": {"linear": LayerConfig(PartitionedConfig((Part(1024, INT4_ROW), Part(1024, WIDE))))},
    "nf4": LayerConfig(TensorConfig((NF4,), PerGroup(64)), key=INT8_TOKEN, value=INT8_TOKEN),
    "learned rows": LayerConfig(
        TensorConfig((LearnedFormat("learned4", 4, "here"),), scale=None, codebook=CodebookConfig())
    ),
    "pairs": LayerConfig(TensorConfig((PAIRS,), scale=None, codebook=CodebookConfig(granularity=PerGroup(1024)))),
    "large table": LayerConfig(
        TensorConfig((LearnedFormat("vptq", 15, "here", dimension=4),), scale=None, codebook=CodebookConfig())
    ),
    "residual": LayerConfig(TensorConfig((INTS_SYMMETRIC[4],), PerChannel(), residual=INT4_ROW), activation=INT8_TOKEN),
    "residual pairs": LayerConfig(
        TensorConfig(
            (PAIRS,),
            scale=None,
            codebook=CodebookConfig(),
            residual=TensorConfig((PAIRS,), scale=None, codebook=CodebookConfig()),
        )
    ),
    "residual of other vectors": LayerConfig(
        TensorConfig(
            (PAIRS,),
            scale=None,
            codebook=CodebookConfig(),
            residual=TensorConfig((LearnedFormat("fours", 8, "here", dimension=4),), scale=None, codebook=ROWS),
        )
    ),
    "learned residual": LayerConfig(
        replace(INT4_ROW, residual=TensorConfig((LearnedFormat("three", 3, "here"),), scale=None, codebook=ROWS))
    ),
    "scales with an offset": LayerConfig(
        TensorConfig((INTS_SYMMETRIC[4],), PerGroup(32), ScaleConfig(UINT8, outer=FP16, outer_offset=FP16))
    ),
    "spqr": LayerConfig(bilevel(4)),
    "2:4": LayerConfig(replace(INT4_GROUP, sparsity=SparsityConfig())),
    "ternary hadamard": LayerConfig(TensorConfig((TERNARY,), PerChannel(), hadamard=64, row_scale=FP16)),
    "flint4": LayerConfig(TensorConfig((FLINT4,), PerChannel(), column_scale=FP16), activation=INT8_TOKEN),
    "olive": LayerConfig(BLOCK_FORMATS["olive4_channel_fp16"]),
    "bare fp8": LayerConfig(FP8, activation=MXFP8, key=FP8, value=FP8),
    "asymmetric cache a8": LayerConfig(INT4_ROW, activation=replace(INT8_TOKEN, granularity=PerGroup(32)), key=KV4),
    "mxfp4": LayerConfig(MXFP4, activation=replace(MXFP4, dynamic=True), key=replace(MXFP4, dynamic=True)),
    "nvfp4": LayerConfig(NVFP4, activation=replace(NVFP4, dynamic=True)),
    "mxfp4 weights": LayerConfig(MXFP4),
}


def _tiny(phase: Phase, batch: int, context: int) -> Workload:
    """Every kind of layer: grouped heads, a convolution, experts, latent values, a window, a state, odd sizes."""
    prefill = phase is Phase.PREFILL
    m, copies = (context, batch) if prefill else (batch, 1)
    rows, window = 4 * (context if prefill else 1), min(context, 40)
    kv = 2 * batch

    def attention(name: str, keys: int, *, of: str | None = None, new: int | None = None) -> list[LayerSpec]:
        return [
            LayerSpec(f"{name}_qk", LayerKind.ATTENTION_QK, rows, 96, keys, kv, causal=prefill, written=new),
            LayerSpec(f"{name}_pv", LayerKind.ATTENTION_PV, rows, keys, 96, kv, causal=prefill, weight_of=of),
            LayerSpec(f"{name}_softmax", LayerKind.SOFTMAX, rows, keys, keys, kv, causal=prefill),
        ]

    layers = [
        LayerSpec("embedding", LayerKind.EMBEDDING, m, 5000, K, copies),
        LayerSpec("norm", LayerKind.NORM, m, K, K, copies),
        LayerSpec("linear", LayerKind.LINEAR, m, K, 1100, copies, shared_weight=True),
        LayerSpec("twin", LayerKind.LINEAR, m, K, 1100, copies, shared_weight=True),
        LayerSpec("down", LayerKind.LINEAR, m, 1536, K, copies, shared_weight=True),
        LayerSpec("experts", LayerKind.LINEAR, max(m // 4, 1), K, 700, 3),
        LayerSpec("absorbed", LayerKind.LINEAR, m, 128, 96, 6, absorbed=32),
        LayerSpec("conv", LayerKind.CONV, m, 27, 333, copies, shared_weight=True),
        *attention("full", context),
        *attention("latent", context, of="full_qk"),
        *attention("window", window, new=m),
        LayerSpec("state", LayerKind.ATTENTION_QK, 1, 64, 128, kv, state=True),
        LayerSpec("activation", LayerKind.ACTIVATION, m, 1536, 1536, copies),
        LayerSpec("head", LayerKind.LINEAR, m, K, 5000, copies, shared_weight=True, head=True, weight_of="embedding"),
    ]
    if prefill:
        layers.append(LayerSpec("chunk_qk", LayerKind.ATTENTION_QK, rows, 96, context + 100, kv, causal=True, past=100))
        layers.append(LayerSpec("chunk_pv", LayerKind.ATTENTION_PV, rows, context + 100, 96, kv, causal=True, past=100))
    return Workload("tiny", phase, tuple(layers), batch=batch, context=context)


def _scenario(batch: int, prompt: int, tokens: int) -> Scenario:
    last = _tiny(Phase.DECODE, batch, prompt + tokens) if tokens else None
    return Scenario(
        f"tiny {batch} {prompt} {tokens}", _tiny(Phase.PREFILL, batch, prompt), last, prompt, tokens
    )  # fmt: skip


AXES = DesignAxes(
    tuple(ACCELERATORS.values()),
    arrays=(None, (Array(24, 24), Array(96, 6)), (Array(128, 1), Array(128, 1)), (Array(7, 12), Array(84, 1))),
    weight_buffer_bytes=(None, 64 * KIB, 200 * KIB, 2048 * KIB),
    activation_buffer_bytes=(64 * KIB, None, 96 * KIB),
    drams=(None, 3.3e9, DRAMS["hbm3"]),
    frequencies_hz=(None, 0.7e9),
)


def _fewer(draw: random.Random) -> DesignAxes:
    """Some values of each axis, more accelerators than others."""
    axes = [getattr(AXES, field.name) for field in fields(DesignAxes)]
    return DesignAxes(*(tuple(draw.sample(axis, max(1, len(axis) // 2))) for axis in axes))


def _check(result: BatchResult, position: int, options: ModelOptions) -> bool:
    """One design against ``evaluate``; whether it can run."""
    point = result.design(position)
    prices = _prices(point, options)
    if isinstance(prices, str):
        assert not result.runnable[position]
        assert np.isnan(result.total.energy_pj[position]) and np.isnan(result.total.seconds[position])
        return False
    assert result.runnable[position], (point, result.reason(position))
    for costs, wanted in zip((result.prefill, result.decode), prices, strict=True):
        for name, column in costs.columns.items():
            expected, found = getattr(wanted, name), column[position]
            if isinstance(expected, int):
                assert found == expected, (name, point)
            else:
                assert abs(found - expected) <= 1e-12 * abs(expected), (name, point)
    machine = point.accelerator
    assert result.total.seconds[position] == sum(price.cycles for price in prices) / machine.frequency_hz
    area_mm2 = machine.area_mm2 - (0 if options.vector_unit else machine.vector_area_mm2)
    assert result.area_mm2[position] == pytest.approx(area_mm2, rel=1e-12, nan_ok=True)
    return True


def _prices(point: DesignPoint, options: ModelOptions) -> tuple[Price, Price] | str:
    """Prefill and decode steps by ``evaluate``, or why not."""
    pricer = Pricer(point.configs, point.accelerator, options)
    try:
        prefill = pricer.evaluate(point.scenario.prefill).total
        steps = [
            pricer.evaluate(point.scenario.step(context)).total.times(times)
            for context, times in point.scenario.contexts(options)
        ]
    except NotImplementedError as error:
        return str(error)
    return prefill, sum_prices(steps)


def _options(draw: random.Random) -> ModelOptions:
    """Each option at random."""
    values = {f.name: draw.random() < 0.5 for f in fields(ModelOptions) if f.type == "bool"}
    return ModelOptions(**values, buffering=draw.choice(list(Buffering)), fallback=draw.choice(list(Fallback)))


def _drawn(seed: int, options: ModelOptions, designs: int, configs: int = len(CONFIGS)) -> Iterator[bool]:
    """Random designs of a space with two scenarios and some of the configs, checked."""
    draw = random.Random(seed)
    chosen = {name: CONFIGS[name] for name in draw.sample(sorted(CONFIGS), configs)}
    scenarios = (
        _scenario(draw.randint(1, 5), draw.randint(1, 150), draw.randint(1, 4)), _scenario(2, draw.randint(30, 90), 0)
    )  # fmt: skip
    axes = _fewer(draw) if options.scheduled else AXES  # which take a hundred times longer
    result = batch_evaluate(DesignSpace(scenarios, chosen, axes), options, detail=True)
    for _ in range(designs):
        yield _check(result, draw.randrange(len(result)), options)


@pytest.mark.parametrize("options", [HONEST, PAPER], ids=["honest", "paper"])
def test_random_designs_equal_evaluate(options: ModelOptions) -> None:
    assert sum(_drawn(3, options, 120, 16)) >= 40


@pytest.mark.parametrize(
    "options",
    [SCHEDULED, replace(HONEST, whole_tiles=True), replace(PAPER, fill_and_drain=True)],
    ids=["scheduled", "whole tiles", "paper with filling"],
)
def test_tile_schedules_equal_evaluate(options: ModelOptions) -> None:
    assert sum(_drawn(5, options, 60, 8)) >= 15


@pytest.mark.parametrize("seed", [11, 12])
def test_random_options_equal_evaluate(seed: int) -> None:
    assert sum(_drawn(seed, _options(random.Random(seed)), 40, 10)) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("options", [HONEST, PAPER, SCHEDULED], ids=["honest", "paper", "scheduled"])
@pytest.mark.parametrize("seed", range(100, 108))
def test_thousands_of_random_designs_equal_evaluate(options: ModelOptions, seed: int) -> None:
    assert sum(_drawn(seed, options, 400)) >= 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 230))
def test_many_random_options_equal_evaluate(seed: int) -> None:
    sum(_drawn(seed, _options(random.Random(seed)), 100))


def test_a_whole_model_with_a_growing_context() -> None:
    configs = {"bitmod4 kv8": CONFIGS["bitmod4 kv8"]}
    axes = DesignAxes((BITMOD,), weight_buffer_bytes=(None, 64 * KIB), drams=(None, 8e9))
    result = batch_evaluate(
        DesignSpace(paper_scenarios("Llama-3-8B", prompts=(100,), tokens=(6,)), configs, axes), detail=True
    )
    assert all(_check(result, position, HONEST) for position in range(len(result)))


@pytest.mark.parametrize("phase", list(Phase))
def test_published_rows(phase: Phase) -> None:
    """All models and design points of the published simulator, through the batch path."""
    for model in ("Llama-2-7B", "Llama-3-8B", "OPT-1.3B"):
        bits = {design: paper_bits(model, design, phase) for design in DESIGNS}
        machines = tuple(dict.fromkeys(DESIGNS.values()))
        scenarios = paper_scenarios(model, tokens=(1,), other_layers=False)
        space = DesignSpace(scenarios, bits, DesignAxes(machines))
        result = batch_evaluate(space, PAPER, detail=True)
        costs = result.prefill if phase is Phase.PREFILL else result.decode
        for c, (design, machine) in enumerate(DESIGNS.items()):
            position = c * len(machines) + machines.index(machine)
            published = paper_report(model, design, phase).total
            for name in ("cycles", "compute_cycles", "dram_cycles", "dram_bits", "macs"):
                assert costs[name][position] == getattr(published, name), (model, design, name)
            assert costs.energy_pj[position] == pytest.approx(published.energy_pj, rel=1e-12)


def test_a_row_of_the_published_table() -> None:
    """Reference sheet, section 4.6: Llama-2-7B at 4.0625 bits on BitMoD, Mcycles and mJ, prefill and one token."""
    scenarios = paper_scenarios("Llama-2-7B", tokens=(1,), other_layers=False)
    result = batch_evaluate(DesignSpace(scenarios, {"x": OperandBits(4.0625, 8)}, DesignAxes((BITMOD,))), PAPER)
    assert result.prefill.cycles[0] / 1e6 == pytest.approx(926.1, abs=0.0501)
    assert result.decode.cycles[0] / 1e6 == pytest.approx(107.2, abs=0.0501)
    assert pj_to_mj(result.prefill.energy_pj[0]) == pytest.approx(3926, abs=0.501)
    assert pj_to_mj(result.decode.energy_pj[0]) == pytest.approx(570, abs=0.501)


def _small_space() -> DesignSpace:
    axes = replace(AXES, accelerators=(BITMOD, ACCELERATORS["table_lookup"]))
    return DesignSpace((_scenario(1, 20, 2),), {name: CONFIGS[name] for name in ("fp16", "nf4", "large table")}, axes)


@pytest.mark.parametrize("size", [1, 7, 30, 100, 1 << 20])
def test_chunks_are_the_whole(size: int) -> None:
    pricer = BatchPricer(_small_space())
    whole = batch_evaluate(_small_space(), threads=1)
    parts = list(pricer.chunks(size, threads=2))
    assert [part.start for part in parts] == list(np.cumsum([0] + [len(part) for part in parts[:-1]]))
    for name in ("cycles", "dram_bits", "energy_pj"):
        joined = np.concatenate([part.total[name] for part in parts])
        assert np.array_equal(joined, whole.total[name], equal_nan=True)
    assert np.array_equal(np.concatenate([part.area_mm2 for part in parts]), whole.area_mm2)
    assert parts[-1].design(-1) == whole.design(len(whole) - 1)


@pytest.mark.parametrize("options", [HONEST, PAPER, SCHEDULED], ids=["honest", "paper", "scheduled"])
def test_scattered_designs_are_those_of_the_whole(options: ModelOptions) -> None:
    """In any order, one of them twice; those that cannot run among them."""
    space = replace(_small_space(), axes=replace(_small_space().axes, drams=(None, 3.3e9)))
    whole = batch_evaluate(space, options, detail=True)
    chosen = [*np.random.default_rng(5).permutation(len(space))[:40].tolist(), 7, 7]
    result = BatchPricer(space, options).points(chosen, detail=True, threads=2)
    assert result.indices.tolist() == chosen and not result.runnable.all()
    assert np.array_equal(result.runnable, whole.runnable[chosen])
    for name, column in whole.total.columns.items():
        assert np.allclose(result.total[name], column[chosen], rtol=1e-12, atol=0, equal_nan=True), name
    assert np.array_equal(result.total.cycles, whole.total.cycles[chosen])
    assert np.array_equal(result.area_mm2, whole.area_mm2[chosen])
    assert result.design(-1) == space.design(7)
    assert result.reason(0) == whole.reason(chosen[0])


def test_no_scattered_designs() -> None:
    pricer = BatchPricer(_small_space())
    assert len(pricer.points([])) == 0
    with pytest.raises(IndexError, match=f"index of a design must be 0 to {len(_small_space()) - 1}, not -1"):
        pricer.points([0, -1])


def test_formats_that_cannot_run_are_marked() -> None:
    result = batch_evaluate(_small_space())
    on_bitmod = result.places["accelerator"] == 0
    named = np.array(result.space.config_names)[result.places["config"]]
    assert not result.runnable[on_bitmod & (named == "nf4")].any()
    position = int(np.flatnonzero(on_bitmod & (named == "nf4"))[0])
    point = result.design(position)
    with pytest.raises(NotImplementedError) as error:
        evaluate(point.scenario.prefill, point.configs, point.accelerator)
    assert result.reason(position) == str(error.value)
    # 2**15 entries of 4 values, 256 KiB: half of a weight buffer of 512 KiB and more
    large = result.runnable[~on_bitmod & (named == "large table")]
    rooms = result.tables.rooms(weight=True)[1][result.places["weight_buffer"]][~on_bitmod & (named == "large table")]
    assert np.array_equal(large, rooms >= 512 * KIB) and not large.all()
    tight = int(np.flatnonzero(~on_bitmod & (named == "large table") & ~result.runnable)[0])
    assert result.reason(tight) == "accelerator table_lookup has no room for the tables of large table"
    assert result.reason(int(np.flatnonzero(result.runnable)[0])) is None
    assert not result.to_frame([position])["runnable"].any()


def test_progress_may_stop_a_run() -> None:
    seen = []

    def stop(done: int, whole: int) -> None:
        seen.append((done, whole))
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(BatchPricer(_small_space()).chunks(50, progress=stop))
    assert seen[1][0] > seen[0][0] and seen[0][1] == len(_small_space())


def test_encoders_grow_with_the_array() -> None:
    axes = DesignAxes((BITMOD,), arrays=((Array(64, 32), Array(128, 16)),))
    encoder = axes.accelerator((0, 0, 0, 0, 0, 0)).encoder
    assert encoder is not None and encoder.area_um2 == 2 * 16 * 2419.0  # HPCA 2025, table X: one for 64 PEs


def test_bad_spaces() -> None:
    scenarios = (_scenario(1, 8, 1),)
    with pytest.raises(TypeError, match="accelerators of design axes must be Accelerators or GPUs, not 'bitmod'"):
        DesignAxes(("bitmod",))  # type: ignore[arg-type]
    for axis in ("weight_buffer_bytes", "activation_buffer_bytes", "drams", "frequencies_hz"):
        for value in (0, -1.0, math.nan, math.inf):
            with pytest.raises(ValueError, match=f"{axis} of design axes must be above 0 and finite, not {value}"):
                DesignAxes((BITMOD,), **{axis: (value,)})
    with pytest.raises(ValueError, match="drams of design axes must be a tuple of at least one value, not \\(\\)"):
        DesignAxes((BITMOD,), drams=())
    with pytest.raises(ValueError, match="capacity_bytes of an SRAM must lie in the table"):
        BatchPricer(DesignSpace(scenarios, CONFIGS, DesignAxes((BITMOD,), weight_buffer_bytes=(5,))))
    with pytest.raises(ValueError, match="scenarios of a design space must be at least one, names unique"):
        DesignSpace(scenarios * 2, CONFIGS, AXES)
    with pytest.raises(ValueError, match="configs of a design space must be at least one"):
        DesignSpace(scenarios, {}, AXES)
    with pytest.raises(ValueError, match="configs must name layers of the workload, not 'lineal'; nearest: linear"):
        BatchPricer(DesignSpace(scenarios, {"x": {"lineal": LayerConfig()}}, AXES))
    with pytest.raises(TypeError, match="config of a layer must be a LayerConfig or OperandBits, not 'int4'"):
        BatchPricer(DesignSpace(scenarios, {"x": "int4"}, AXES))  # type: ignore[dict-item]
    with pytest.raises(IndexError, match="index of a design must be 0 to 71, not 72"):
        DesignSpace(scenarios, {"x": OperandBits(4)}, replace(AXES, accelerators=(BITMOD,), arrays=(None,))).design(72)
    with pytest.raises(ValueError, match="size of a chunk must be at least 1, not 0"):
        next(BatchPricer(_small_space()).chunks(0))
    with pytest.raises(ValueError, match="threads must be at least 1, not 0"):
        batch_evaluate(_small_space(), threads=0)
    with pytest.raises(KeyError, match="column must be one of cycles, dram_bits, energy_pj, not 'macs'"):
        batch_evaluate(_small_space()).total["macs"]
    with pytest.raises(ValueError, match="must have a prompt of at least 1 and tokens exactly where"):
        Scenario("x", _tiny(Phase.PREFILL, 1, 4), None, 4, 2)
