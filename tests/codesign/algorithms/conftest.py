"""A small linear layer whose statistics come from real inputs and a real loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from codesign.calibration import InputStatistics, LayerCalibration, Statistic

MakeLayer = Callable[..., "Layer"]


@dataclass(frozen=True)
class Layer:
    """A weight ``[n, k]``, inputs ``[tokens, k]`` and everything that may be gathered from them."""

    weight: Tensor
    inputs: Tensor
    calibration: LayerCalibration

    def output_error(self, weight: Tensor) -> float:
        """Squared error of the outputs over the squared outputs, in float64."""
        x = self.inputs.double()
        exact = x @ self.weight.double().T
        return float((x @ weight.double().T - exact).square().sum() / exact.square().sum())

    def weight_error(self, weight: Tensor) -> float:
        """Squared error of the weight, in float64."""
        return float((weight.double() - self.weight.double()).square().sum())


def build_layer(n: int = 24, k: int = 80, *, tokens: int = 400, seed: int = 0) -> Layer:
    """Heavy-tailed weights, correlated inputs with a few large channels, and the gradients of a squared loss."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn((n, k), generator=generator) * 0.05
    weight[torch.rand((n, k), generator=generator) < 0.01] *= 5
    mixing = torch.eye(k) + 0.3 * torch.randn((k, k), generator=generator)
    loud = 1 + 9 * (torch.rand(k, generator=generator) < 0.1).float()
    inputs = torch.randn((tokens, k), generator=generator) @ mixing * loud
    target = torch.randn((tokens, n), generator=generator)
    statistics = InputStatistics(k, frozenset(Statistic))
    total = torch.zeros(n, k), torch.zeros(n, k)
    batches = list(zip(inputs.split(100), target.split(100), strict=True))
    for x, y in batches:
        statistics.update(x)
        gradient = 2 * (x @ weight.T - y).T @ x / y.numel()  # of the mean squared error
        total[0].add_(gradient.abs() / len(batches))
        total[1].add_(gradient.square() / len(batches))
    gathered = statistics.finish("layer")
    gathered.statistics[Statistic.GRADIENT_ABS], gathered.statistics[Statistic.GRADIENT_SQUARE] = total
    return Layer(weight, inputs, gathered)


@pytest.fixture(scope="session")
def make_layer() -> MakeLayer:
    """The builder, so that test files need no import from one another."""
    return build_layer


@pytest.fixture(scope="session")
def layer() -> Layer:
    """24 x 80."""
    return build_layer()
