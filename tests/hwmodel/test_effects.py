"""Each option moves the price in the direction it must."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from datatypes.catalog import INTS_SYMMETRIC
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig, OutlierConfig, Part, PartitionedConfig, TensorConfig
from hwmodel.bench import bitmod4_config
from hwmodel.effects import option_effects
from hwmodel.evaluate import evaluate
from hwmodel.options import HONEST, PAPER, SCHEDULED, Buffering, Fallback, ModelOptions
from hwmodel.paper import paper_workload
from hwmodel.presets import ACCELERATORS, BITMOD
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload


@pytest.fixture(scope="module")
def effects() -> pd.DataFrame:
    def at(phase: Phase, context: int) -> Workload:
        return paper_workload("OPT-1.3B", phase, context=context, other_layers=True)

    return option_effects(at, bitmod4_config(), BITMOD, prompt=64, tokens=4).set_index("option")


def test_paper_leaves_everything_out_and_honest_nothing() -> None:
    switches = [name for name, value in vars(HONEST).items() if isinstance(value, bool)]
    schedule = {"whole_tiles", "fill_and_drain"}
    assert len(switches) == 22 and len(vars(HONEST)) == 25
    assert all(getattr(HONEST, name) and not getattr(PAPER, name) for name in switches if name not in schedule)
    assert not any(getattr(options, name) for name in schedule for options in (HONEST, PAPER))
    assert replace(HONEST, **dict.fromkeys(schedule, True)) == SCHEDULED
    assert (PAPER.buffering, PAPER.fallback) == (Buffering.ALL_COPIES, Fallback.ARRAY)
    assert ModelOptions() == HONEST


def test_one_row_for_each_option(effects: pd.DataFrame) -> None:
    assert effects.index.tolist() == ["paper", *vars(HONEST), "honest"]
    assert (effects.loc["paper"].filter(like="change_percent") == 0).all()


@pytest.mark.parametrize(
    ("option", "column", "sign"),
    [
        ("exact_storage", "decode_energy_mj", 1),
        ("encoder_energy", "prefill_energy_mj", 1),
        ("encoder_energy", "prefill_cycles_millions", 0),
        ("causal_mask", "prefill_energy_mj", -1),
        ("causal_mask", "decode_cycles_millions", 0),
        ("fused_attention", "prefill_energy_mj", -1),
        ("last_token_head", "prefill_cycles_millions", -1),
        ("last_token_head", "decode_cycles_millions", 0),
        ("growing_context", "prefill_cycles_millions", 0),
        ("growing_context", "generate_cycles_millions", 1),
        ("column_gating", "decode_energy_mj", -1),
        ("column_gating", "decode_cycles_millions", 0),
        ("dram_efficiency", "decode_cycles_millions", 1),
        ("whole_tiles", "prefill_cycles_millions", 0),  # 64 tokens of every layer fit
        ("fill_and_drain", "prefill_cycles_millions", 1),
        ("fill_and_drain", "decode_cycles_millions", 1),
        ("leakage", "decode_energy_mj", 1),
        ("leakage", "decode_cycles_millions", 0),
        ("vector_unit", "prefill_cycles_millions", 1),
        ("embedding", "prefill_energy_mj", 1),
        ("dequantization_stalls", "prefill_cycles_millions", 0),
        ("clock_idle", "decode_energy_mj", 1),
        ("clock_idle", "decode_cycles_millions", 0),
        ("metadata_reads", "prefill_energy_mj", 0),  # without exact_storage there is no metadata
    ],
)
def test_direction(effects: pd.DataFrame, option: str, column: str, sign: int) -> None:
    change = effects.loc[option, column] - effects.loc["paper", column]
    assert np.sign(change) == sign


def test_changes_are_percent_of_paper(effects: pd.DataFrame) -> None:
    ratio = effects.loc["honest", "decode_energy_mj"] / effects.loc["paper", "decode_energy_mj"]
    assert effects.loc["honest", "decode_energy_change_percent"] == pytest.approx((ratio - 1) * 100)


def test_what_an_option_adds_to_all_others() -> None:
    def at(phase: Phase, context: int) -> Workload:
        return paper_workload("OPT-1.3B", phase, context=context, other_layers=True)

    int8 = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), dynamic=True)
    slabs = PartitionedConfig(
        (Part(1024, TensorConfig((INTS_SYMMETRIC[3],), PerGroup(128))),
         Part(1024, TensorConfig((INTS_SYMMETRIC[5],), PerGroup(128)))), slab=128,
    )  # fmt: skip
    config = LayerConfig(slabs, activation=int8, key=int8, value=int8, outliers=OutlierConfig(fraction=0.005))
    workload = Workload("one", Phase.PREFILL, (LayerSpec("fc", LayerKind.LINEAR, 64, 2048, 2048),))
    tender = ACCELERATORS["tender"]
    for option, figure in (
        ("requantization_bubbles", "compute_cycles"), ("width_switches", "compute_cycles"),
        ("outlier_gather", "vector_cycles"), ("dynamic_quantization", "vector_cycles"),
        ("metadata_reads", "sram_read_pj"),
    ):  # fmt: skip
        total = evaluate(workload, config, tender).total
        other = evaluate(workload, config, tender, replace(HONEST, **{option: False})).total
        assert getattr(total, figure) > getattr(other, figure), option
    effects = option_effects(at, LayerConfig(activation=int8, key=int8, value=int8), tender, prompt=16, tokens=1)
    row = effects.set_index("option").loc["dynamic_quantization"]
    assert row["prefill_energy_on_top_percent"] > 0
    assert effects["prefill_energy_on_top_percent"].iloc[[0, -1]].tolist() == [0, 0]
