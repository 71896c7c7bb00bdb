"""Low-rank reconstruction: factors against a full decomposition, optimality, bit counts, MXINT by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from codesign.algorithms.lqer import (
    LowRankReconstruction,
    Scaling,
    l2qer_int_config,
    l2qer_mxint_config,
    mxint_config,
    second_moment_root,
)
from codesign.algorithms.rtn import RoundToNearest
from codesign.calibration import NO_CALIBRATION, LayerCalibration, Statistic
from datatypes.catalog import FP32
from datatypes.granularity import PerChannel
from datatypes.layer_config import LayerConfig, LowRankConfig, ScaleRule, TensorConfig

EXACT_FACTOR = TensorConfig((FP32,), PerChannel(), None)


def exact_factors(rank: int) -> LayerConfig:
    """MXINT3 weights with factors left in FP32, so that only the reconstruction itself is seen."""
    return LayerConfig(weight=mxint_config(3), low_rank=LowRankConfig(rank, EXACT_FACTOR, EXACT_FACTOR))


def scaling_matrix(layer, scaling: Scaling) -> torch.Tensor:
    """S in float64, each from the inputs themselves."""
    x = layer.inputs.double()
    if scaling is Scaling.IDENTITY:
        return torch.eye(x.shape[1], dtype=torch.float64)
    if scaling is Scaling.MAGNITUDE:
        return torch.diag(torch.stack([batch.abs().mean(0) for batch in x.split(100)]).amax(0))
    moment = x.T @ x / len(x)
    if scaling is Scaling.ROOT_MEAN_SQUARE:
        return torch.diag(moment.diagonal().sqrt())
    values, vectors = torch.linalg.eigh(moment)
    return vectors @ torch.diag(values.sqrt()) @ vectors.T  # QERA's symmetric root


@pytest.mark.parametrize("scaling", list(Scaling), ids=lambda s: s.value)
@pytest.mark.parametrize("split_root", [False, True], ids=["left to b", "shared"])
def test_product_of_factors_is_the_papers_closed_form(scaling: Scaling, split_root: bool, layer) -> None:
    """C = SVD_r(E S) S^-1 in float64 by a full decomposition, with S from the inputs directly."""
    error = (
        layer.weight
        - RoundToNearest()
        .quantize(layer.weight, NO_CALIBRATION, LayerConfig(weight=mxint_config(3)))
        .dequantize_weight()
    )
    s = scaling_matrix(layer, scaling)
    u, values, vt = torch.linalg.svd(error.double() @ s, full_matrices=False)
    expected = (u[:, :6] * values[:6]) @ vt[:6] @ torch.linalg.inv(s)
    method = LowRankReconstruction(scaling, split_root=split_root)
    a, b = method.factors(error, 6, layer.calibration)
    assert a.shape == (6, 80) and b.shape == (24, 6)
    torch.testing.assert_close((b @ a).double(), expected, rtol=0, atol=2e-4 * float(expected.abs().max()))


def test_truncated_and_full_decomposition_agree(make_layer) -> None:
    """On a layer large enough for the truncated path: captured energy within 1e-3 of the full decomposition's."""
    big = make_layer(320, 288)
    for scaling in Scaling:
        fast = LowRankReconstruction(scaling).quantize(big.weight, big.calibration, exact_factors(32))
        full = LowRankReconstruction(scaling, exact=True).quantize(big.weight, big.calibration, exact_factors(32))
        assert big.output_error(fast.dequantize_weight()) == pytest.approx(
            big.output_error(full.dequantize_weight()), rel=1e-3
        )


def test_exact_solution_has_the_least_output_error(layer) -> None:
    """QERA, theorem 1: with unrounded factors no other scaling can have a smaller output error."""
    errors = {
        scaling: layer.output_error(
            LowRankReconstruction(scaling, exact=True)
            .quantize(layer.weight, layer.calibration, exact_factors(6))
            .dequantize_weight()
        )
        for scaling in Scaling
    }
    assert errors[Scaling.SECOND_MOMENT] == min(errors.values())
    assert errors[Scaling.IDENTITY] == max(errors.values())


def test_full_rank_restores_the_weight(layer) -> None:
    for scaling in Scaling:
        made = LowRankReconstruction(scaling, exact=True).quantize(layer.weight, layer.calibration, exact_factors(24))
        torch.testing.assert_close(made.dequantize_weight(), layer.weight, rtol=0, atol=1e-4)


def test_constant_in_the_scale_vector_cancels(layer) -> None:
    """Reference sheet, section 5: the normalisation of s moves only the rounding of the factors."""
    statistics = dict(layer.calibration.statistics)
    statistics[Statistic.BATCH_ABS_MEAN_MAX] = statistics[Statistic.BATCH_ABS_MEAN_MAX] * 1000
    louder = LayerCalibration("layer", 1, statistics)
    method = LowRankReconstruction(exact=True)
    first, second = (method.factors(layer.weight, 6, c) for c in (layer.calibration, louder))
    torch.testing.assert_close(first[1] @ first[0], second[1] @ second[0], rtol=1e-4, atol=1e-6)


# Llama-2-7B, out x in; reference sheet, section 5.3: bits for each original weight, 8-bit exponents
ATTENTION, MLP = (4096, 4096), (11008, 4096)


@pytest.mark.parametrize(("shape", "bits"), [(ATTENTION, 4.633), (MLP, 4.591), ((4096, 11008), 4.591)], ids=str)
def test_bits_of_llama_2_7b(shape: tuple[int, int], bits: float) -> None:
    assert l2qer_mxint_config().storage_bits(shape).bits_per_weight(shape) == pytest.approx(bits, abs=5e-4)


def test_average_bits_of_llama_2_7b_are_not_four_point_three() -> None:
    """Four attention and three MLP matrices in each block: 4.605."""
    config = l2qer_mxint_config()
    stored = 4 * config.storage_bits(ATTENTION).total + 3 * config.storage_bits(MLP).total
    assert stored / (4 * 4096 * 4096 + 3 * 4096 * 11008) == pytest.approx(4.605, abs=5e-4)


def test_bits_of_the_integer_variant() -> None:
    """4 + 16/128 and, for 8192 * 32 factor elements of a 4096 x 4096 weight, 8 bits and FP16 scales.

    Groups of 128 run along the inputs of a factor: a is [32, 4096] (1024 scales), b is [4096, 32] (4096 scales).
    """
    by_hand = 4.125 + (8 * 2 * 32 * 4096 + 16 * (1024 + 4096)) / 4096**2
    assert l2qer_int_config().storage_bits(ATTENTION).bits_per_weight(ATTENTION) == by_hand


def test_mxint_by_hand() -> None:
    """max 5: exponent ceil(log2 5) = 3, step 2**3 / 2**3 = 1. A maximum of exactly 8 has exponent 3 too and saturates.

    Reference sheet, section 5: magnitudes stop at 2**(b-1) - 1 = 7.
    """
    x = torch.zeros(2, 16)
    x[0, :4] = torch.tensor([5.0, -2.4, 0.5, 1.5])
    x[1, :2] = torch.tensor([8.0, -1.0])
    made = RoundToNearest().quantize(x, NO_CALIBRATION, LayerConfig(weight=mxint_config(4)))
    assert mxint_config(4).scale.rule is ScaleRule.LQER_CEIL
    assert made.dequantize_weight()[0, :4].tolist() == [5.0, -2.0, 0.0, 2.0]
    assert made.dequantize_weight()[1, :2].tolist() == [7.0, -1.0]


def test_paper_setting() -> None:
    config = l2qer_mxint_config(weight_bits=3, activation_bits=6, rank=64)
    assert config.activation is not None and config.activation.dynamic and config.activation.code_bits == 6
    assert config.weight.code_bits == 3 and config.low_rank.rank == 64


def test_needs_a_branch_in_the_config(layer) -> None:
    with pytest.raises(ValueError, match="config must hold low_rank for l2qer, not None"):
        LowRankReconstruction().quantize(
            layer.weight, layer.calibration, replace(l2qer_mxint_config(), low_rank=None, activation=None)
        )


def test_root_of_singular_moments() -> None:
    """Fewer tokens than inputs: a root is still found, and its square is the moment but for the stated jitter."""
    x = torch.randn(10, 40, generator=torch.Generator().manual_seed(0))
    moment = x.T @ x / 10
    root = second_moment_root(moment, "layer")
    jitter = float((root @ root.T - moment).diagonal().abs().max())
    assert jitter <= 1e-4 * float(moment.diagonal().mean())
    assert not second_moment_root(torch.zeros(3, 3), "layer").isnan().any()
    with pytest.raises(ValueError, match="second moments of layer must be positive semi-definite, not indefinite"):
        second_moment_root(-torch.eye(3), "layer")
