"""The published models, precisions and the sweep over contexts and batches of all six models."""

from statistics import mean

import pytest

from hwmodel.evaluate import evaluate
from hwmodel.operands import OperandBits
from hwmodel.options import PAPER
from hwmodel.paper import (
    DESIGNS,
    PaperVersion,
    paper_bits,
    paper_model,
    paper_models,
    paper_report,
    paper_workload,
)  # fmt: skip
from hwmodel.presets import BITMOD
from hwmodel.units import pj_to_mj
from hwmodel.workload import LayerKind, Phase

FP16 = "FP16 baseline"
OTHERS = ("BitMoD lossless", "ANT", "OliVe", "BitMoD lossy")


@pytest.mark.parametrize(
    ("model", "parameters"),
    [  # linear parameters that reproduce the authors' FP16 footprints (reference sheet, section 3.4)
        ("OPT-1.3B", 1310916608),
        ("Phi-2B", 2647654400),
        ("Yi-6B", 5798625280),
        ("Llama-2-7B", 6607077376),
        ("Llama-2-13B", 12851609600),
        ("Llama-3-8B", 7504658432),
    ],
)
def test_linear_parameters(model: str, parameters: int) -> None:
    assert paper_workload(model, Phase.DECODE).weights == parameters


def test_grouped_heads() -> None:
    workload = paper_workload("Llama-3-8B", Phase.PREFILL, batch=2, context=256)
    product = workload["layers.0.attention_qk"]
    assert (product.m, product.k, product.n, product.copies) == (4 * 256, 128, 256, 2 * 8)  # 32 heads, 8 KV heads
    step = paper_workload("Llama-3-8B", Phase.DECODE, batch=2, context=256)["layers.0.attention_pv"]
    assert (step.m, step.k, step.n, step.copies) == (4, 256, 128, 16)


def test_other_layers_are_left_out_unless_asked_for() -> None:
    kinds = {layer.kind for layer in paper_workload("OPT-1.3B", Phase.PREFILL).layers}
    assert kinds == {LayerKind.LINEAR, LayerKind.ATTENTION_QK, LayerKind.ATTENTION_PV}
    whole = {layer.kind for layer in paper_workload("OPT-1.3B", Phase.PREFILL, other_layers=True).layers}
    assert whole == set(LayerKind) - {LayerKind.CONV}


def _ratios(phase: Phase, batch: int, context: int) -> dict[str, tuple[float, float]]:
    """Mean over the six models of speed-up and energy efficiency over FP16."""
    reports = {
        (model, design): paper_report(model, design, phase, batch=batch, context=context)
        for model in paper_models()
        for design in DESIGNS
    }
    return {
        design: (
            mean(reports[m, FP16].cycles / reports[m, design].cycles for m in paper_models()),
            mean(reports[m, FP16].energy_pj / reports[m, design].energy_pj for m in paper_models()),
        )
        for design in OTHERS
    }


@pytest.mark.parametrize(
    ("batch", "context", "phase", "expected"),
    [  # reference sheet, section 4.5: the published simulator's version 2, mean over six models, two decimals
        (1, 256, Phase.PREFILL, "2.08/2.43 1.72/2.54 1.93/2.75 3.07/3.48"),
        (1, 256, Phase.DECODE, "2.63/2.53 3.23/2.91 3.81/3.32 5.13/4.81"),
        (1, 1024, Phase.PREFILL, "2.03/2.35 1.60/2.24 1.77/2.39 2.87/3.22"),
        (1, 1024, Phase.DECODE, "2.61/2.51 3.05/2.77 3.55/3.12 4.93/4.62"),
        (1, 4096, Phase.PREFILL, "1.99/2.15 1.27/1.47 1.33/1.51 2.36/2.49"),
        (1, 4096, Phase.DECODE, "2.53/2.44 2.60/2.41 2.93/2.64 4.37/4.12"),
        (8, 256, Phase.PREFILL, "2.08/2.40 1.66/2.37 1.84/2.55 3.00/3.37"),
        (8, 256, Phase.DECODE, "2.56/2.47 2.85/2.61 3.26/2.90 4.65/4.37"),
        (16, 2048, Phase.PREFILL, "2.01/2.08 1.12/1.19 1.14/1.20 2.18/2.24"),
        (16, 2048, Phase.DECODE, "2.17/2.17 1.36/1.37 1.40/1.40 2.58/2.58"),
    ],
)
def test_sweep_over_all_models(batch: int, context: int, phase: Phase, expected: str) -> None:
    ours = _ratios(phase, batch, context)
    for design, pair in zip(OTHERS, expected.split(), strict=True):
        assert ours[design] == pytest.approx(tuple(map(float, pair.split("/"))), abs=0.00501)  # two decimals


@pytest.mark.parametrize(
    ("bits", "prefill_mcycles", "decode_mcycles", "prefill_mj", "decode_mj"),
    [  # reference sheet, section 4.6: Llama-2-7B on BitMoD, version 2
        (3.0625, 864.1, 81.3, 3230, 444),
        (4.0625, 926.1, 107.2, 3926, 570),
        (5.0625, 1310.9, 133.0, 4972, 717),
        (6.0625, 1372.9, 158.8, 5662, 842),
        (8, 1815.7, 208.8, 7356, 1106),
    ],
)
def test_what_if_other_weight_bits(
    bits: float, prefill_mcycles: float, decode_mcycles: float, prefill_mj: float, decode_mj: float
) -> None:
    prefill, decode = (
        evaluate(paper_workload("Llama-2-7B", phase), OperandBits(bits, 8), BITMOD, PAPER)
        for phase in (Phase.PREFILL, Phase.DECODE)
    )
    assert prefill.cycles / 1e6 == pytest.approx(prefill_mcycles, abs=0.0501)
    assert decode.cycles / 1e6 == pytest.approx(decode_mcycles, abs=0.0501)
    assert pj_to_mj(prefill.energy_pj) == pytest.approx(prefill_mj, abs=0.501)
    assert pj_to_mj(decode.energy_pj) == pytest.approx(decode_mj, abs=0.501)


def _generation_ratios(tokens: int) -> dict[str, tuple[float, float]]:
    """Version 1: mean over six models of speed-up and energy efficiency of prefill and decode steps over FP16."""
    costs = {}
    for model in paper_models():
        for design in DESIGNS:
            prefill = paper_report(model, design, Phase.PREFILL, version=PaperVersion.V1)
            decode = paper_report(model, design, Phase.DECODE, version=PaperVersion.V1)
            costs[model, design] = (
                prefill.cycles + tokens * decode.cycles, prefill.energy_pj + tokens * decode.energy_pj
            )  # fmt: skip
    return {
        design: tuple(mean(costs[m, FP16][i] / costs[m, design][i] for m in paper_models()) for i in (0, 1))  # type: ignore[misc]
        for design in OTHERS
    }


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [  # reference sheet, section 4.2: arithmetic means over six models, two of them with grouped heads
        (0, "1.989/2.200 1.639/2.123 1.812/2.290 2.823/2.985"),
        (20, "2.408/2.437 2.518/2.643 3.014/3.088 4.176/4.153"),
        (256, "2.609/2.529 3.131/2.878 3.978/3.498 5.067/4.780"),
    ],
)
def test_version_1_means(tokens: int, expected: str) -> None:
    ours = _generation_ratios(tokens)
    for design, pair in zip(OTHERS, expected.split(), strict=True):
        assert ours[design] == pytest.approx(tuple(map(float, pair.split("/"))), abs=0.000501)


def test_version_1_knows_batch_1_alone() -> None:
    with pytest.raises(ValueError, match="batch must be 1 in version 1, not 8"):
        paper_report("OPT-1.3B", FP16, Phase.DECODE, batch=8, version=PaperVersion.V1)


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="model must be one of the paper's, not 'Llama-2-70B'; nearest: Llama-2-7B"):
        paper_model("Llama-2-70B")
    with pytest.raises(ValueError, match="design must be one of FP16 baseline, .*, not 'FIGNA'"):
        paper_bits("OPT-1.3B", "FIGNA", Phase.DECODE)
