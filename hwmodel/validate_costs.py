"""Unit costs and methods against published figures: LQER's circuit areas, FineQuant's throughput, scaling of nodes.

LQER's sheet (one linear layer, 1 x 4096 by 4096 x 11008, LUTs) names no design. Read here as 16 products in a cycle,
because 6125 LUTs for FP16 are 16 vendor operators of 387 (XtraMAC, table IV); its authors used MASE's component
library, whose own syntheses give the LUTs of one integer lane with its registers and stream logic. From these two, and
nothing of the sheet, the rows are rebuilt. The integer designs come out within a fifth. The MXINT designs do not: a
lane of MXINT holds the same integer multiplier as AQAS's, and a rank-32 branch on top, so unit costs cannot make it
smaller; what the sheet saves must lie in the scaling hardware of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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
# LUTs of one more lane in MASE's syntheses of integer matmuls (717 points, fitted lines), by the wider operand
_MASE_LUTS: Mapping[int, float] = {2: 30.0, 3: 49.0, 4: 71.0, 5: 102.0, 6: 121.0, 8: 193.0}
_K, _N, _RANK = 4096, 11008, 32  # the sheet's layer


def lqer() -> Iterator[Check]:
    """LQER's area ratios from published lanes; see the module's docstring."""
    fp16 = _LANES * _FP16_LUTS
    branch = 1 + _RANK * (_K + _N) / (_K * _N)  # products of the rank-32 branch over those of the layer
    yield Check("FP16", "LUTs of LQER's layer", 6125.0, fp16, Standing.REBUILT, _SHEET, "16 vendor operators of 387")
    designs = (
        ("OmniQuant W6A6", 0.386, 6, 6, 1.0, Standing.REBUILT),
        ("AQAS W4A8", 0.451, 4, 8, 1.0, Standing.REBUILT),
        ("LQER MXINT W4A8, rank 32", 0.325, 4, 8, branch, Standing.OPEN),
        ("LQER MXINT W4A6, rank 32", 0.229, 4, 6, branch, Standing.OPEN),
    )
    for name, printed, w, a, more, standing in designs:
        lane = _MASE_LUTS[max(w, a)]
        bare = int_dot_luts(w, a, _LANES, w + a + 10) * more / fp16
        yield Check(
            name, "area over FP16's", printed, _LANES * lane * more / fp16, standing, _SHEET,
            f"16 lanes of {lane:g} LUTs in MASE's library; bare arithmetic without registers and streams: {bare:.3f}",
        )  # fmt: skip
    yield Check(
        "LQER MXINT W4A8, rank 32", "area of AQAS over LQER's", 2760.0 / 1993.375, 1 / branch, Standing.OPEN, _SHEET,
        "equal lanes, and 1.1 % more products: unit costs cannot give a saving",
    )  # fmt: skip


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
