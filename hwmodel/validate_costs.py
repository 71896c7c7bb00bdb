"""Unit costs and methods against published figures: LQER's circuit areas, FineQuant's throughput, scaling of nodes.

LQER's sheet (one linear layer, 1 x 4096 by 4096 x 11008, LUTs) names no design. Its authors used MASE's component
library, whose own syntheses of matmul tiles are published. Read here as one output and 16 in-features in a cycle (a
block of LQER's MXINT): 6125 LUTs for FP16 are 16 vendor operators of 387 (XtraMAC, table IV), and of the five tiles of
16 products this one alone gives both integer rows within 5 %. The low-rank branch runs on the same lanes in cycles of
its own (1.1 % more of them), and its factors have the format of the activations (the repository's specification), so
that lanes multiply activations by activations. ``docs/unit_costs.md`` lists what else was tried, and by how much it
misses.
"""

from __future__ import annotations

from collections.abc import Iterator

from datatypes.catalog import INTS_SYMMETRIC
from datatypes.granularity import PerGroup
from datatypes.layer_config import LayerConfig, TensorConfig
from hwmodel.check import Check, Standing
from hwmodel.evaluate import evaluate
from hwmodel.presets_bitmod import FP16_BASELINE, FP16_PE
from hwmodel.technology import node_scaling
from hwmodel.unit_cost_integers import int_dot_luts
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload

_SHEET = "Zhang et al., LQER, ICML 2024: spreadsheet in its repository, sheet hw-perf"
_LANES = 16
_FP16_LUTS = 387.0  # XtraMAC (arXiv 2605.06052), table IV: vendor operator INT2-8 x FP16, a lane
_MASE = "src/chop/passes/graph/transforms/dse/run_dse.py of MASE (github.com/DeepWok/mase)"
# Lines through MASE's syntheses of integer matmuls: LUTs of a tile, of an in-feature, of an output, of both together
_W6A6, _W4A8 = (344.1, -0.1, 160.2, 121.0), (415.8, -49.6, 130.0, 189.4)
# Tiles of 16 in-features and one output, single points of the same file: integers, and block floating point ("ms").
# ASSUMPTION: of 8 bits; the file does not say
_INTEGER_TILE, _BLOCK_TILE = 3509.0, 2088.0


def lqer() -> Iterator[Check]:
    """LQER's area ratios from published tiles; see the module's docstring."""
    fp16 = _LANES * _FP16_LUTS
    yield Check(
        "FP16", "LUTs of LQER's layer", 6125.0, fp16, Standing.INPUT, _SHEET,
        "16 vendor operators of 387: the number of lanes is read off this row",
    )  # fmt: skip
    aqas, block = _tile(_W4A8), _BLOCK_TILE / _INTEGER_TILE
    # lanes of 16 x 16 bits by closed form, over the published tile of 8 x 8
    wider = int_dot_luts(16, 16, _LANES, 42) - int_dot_luts(8, 8, _LANES, 26)
    chosen, shared = "the shape of tile is chosen by this and the other integer row", "the branch shares the lanes"
    for name, printed, luts, note in (
        ("OmniQuant W6A6", 2364 / 6125, _tile(_W6A6), f"integer tile of 6 x 6 bits; {chosen}"),
        ("AQAS W4A8", 2760 / 6125, aqas, f"integer tile of 8 x 4 bits; {chosen}"),
        (
            "LQER integer W4A16, rank 32", 6955 / 6125, _INTEGER_TILE + wider,
            f"integer tile of 8 x 8 bits, lanes of 16 x 16 by closed form; {shared}",
        ),
        (
            "LQER MXINT W4A8, rank 32", 1993.375 / 6125, _BLOCK_TILE,
            f"MASE's block tile, 8 x 8 bits (assumed); {shared}; as integer tile of 8 x 4: {aqas / fp16:.3f}",
        ),
        (
            "LQER MXINT W4A6, rank 32", 1401.0625 / 6125, _tile(_W6A6) * block,
            f"integer tile of 6 x 6 bits, block over integer tile at 8 bits: {block:.3f}; {shared}",
        ),
    ):  # fmt: skip
        yield Check(name, "area over FP16's", printed, luts / fp16, Standing.REBUILT, _SHEET, f"{note} ({_MASE})")
    yield Check(
        "LQER MXINT W4A8, rank 32", "area of AQAS over LQER's", 2760 / 1993.375, aqas / _BLOCK_TILE, Standing.REBUILT,
        _SHEET, f"the two rows above; {shared}",
    )  # fmt: skip


def _tile(line: tuple[float, float, float, float]) -> float:
    """LUTs of 16 in-features and one output."""
    constant, feature, output, both = line
    return constant + _LANES * feature + output + _LANES * both


def weight_traffic() -> Iterator[Check]:
    """FineQuant's throughput against the ceiling that its weight traffic sets."""
    # Kim et al., FineQuant, 2023: INT4 in blocks of 64; OPT-175B has 12288 features (Zhang et al., OPT, 2022)
    spec = LayerSpec("x", LayerKind.LINEAR, 1, 12288, 49152)
    workload = Workload("OPT-175B", Phase.DECODE, (spec,))
    config = LayerConfig(TensorConfig((INTS_SYMMETRIC[4],), PerGroup(64)))
    fp16, int4 = (evaluate(workload, c, FP16_BASELINE).cycles for c in (LayerConfig(), config))
    yield Check(
        "FineQuant", "speed-up over FP16, OPT-175B", 3.65, fp16 / int4, Standing.BOUND,
        "Kim et al., FineQuant, arXiv 2308.09723, abstract (batch and lengths not known)",
        "a decode step that waits for memory: 16 over 4.25 bits, activations counted; the claim keeps below it",
    )  # fmt: skip


def nodes() -> Iterator[Check]:
    """Scaling of energy between nodes against an independent pair."""
    # Horowitz, ISSCC 2014, 45 nm: FP16 multiplication 1.1 pJ, addition 0.4 pJ
    scaled = (1.1 + 0.4) * node_scaling(45, 28).energy
    yield Check(
        "technology", "energy of an FP16 multiply-add at 28 nm, pJ", FP16_PE.energy_pj_per_cycle, scaled,
        Standing.REBUILT, "area and power sheet of the authors of BitMoD, TSMC 28 nm, synthesis",
        "1.1 + 0.4 pJ at 45 nm (Horowitz, ISSCC 2014), scaled by Stillmaker and Baas 2017 at nominal voltages",
    )  # fmt: skip
