"""What algorithms may look at: statistics of a layer's input and of the loss, gathered once for all of them.

A ``LayerCalibration`` holds only what was asked for (``Statistic``); asking for one that is absent is an error that
says which. Everything is float32 on the CPU unless said otherwise; the Hessian proxy is accumulated in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor


class Statistic(Enum):
    """One thing that can be gathered for a layer; an algorithm lists what it needs."""

    HESSIAN = "hessian"  # 2/tokens * sum x x^T, [k, k]: GPTQ, OWQ, SpQR, QERA (exact)
    ABS_MEAN = "abs_mean"  # mean |x_i| over tokens, [k]: AWQ
    BATCH_ABS_MEAN_MAX = "batch_abs_mean_max"  # max over batches of mean |x_i|, [k]: L2QER
    ABS_MAX = "abs_max"  # max |x_i|, [k]: SmoothQuant, PTQ1.61
    SQUARE_MEAN = "square_mean"  # mean x_i^2, [k]: QERA (diagonal), SLiM
    GRADIENT_ABS = "gradient_abs"  # mean over samples of |dL/dw|, [n, k]: GWQ
    GRADIENT_SQUARE = "gradient_square"  # mean over samples of (dL/dw)^2, [n, k]: SqueezeLLM
    INPUTS = "inputs"  # some inputs themselves, [tokens, k]: AWQ's search, reconstruction


@dataclass(frozen=True, eq=False)
class LayerCalibration:
    """Statistics of one linear layer.

    Args:
        layer: its name.
        tokens: rows of input seen.
        statistics: what was gathered.
    """

    layer: str
    tokens: int = 0
    statistics: dict[Statistic, Tensor] = field(default_factory=dict)

    def __getitem__(self, statistic: Statistic) -> Tensor:
        """The statistic.

        Raises:
            ValueError: it was not gathered.
        """
        if statistic not in self.statistics:
            have = ", ".join(sorted(s.value for s in self.statistics)) or "nothing"
            raise ValueError(f"calibration of {self.layer} must hold {statistic.value}, not only {have}")
        return self.statistics[statistic]


NO_CALIBRATION = LayerCalibration("(none)")


class InputStatistics:
    """Accumulates the input statistics of one layer, batch by batch.

    Args:
        features: in_features of the layer.
        wanted: statistics to gather (gradient ones are ignored here).
        keep_inputs: rows kept for ``Statistic.INPUTS``.
    """

    def __init__(self, features: int, wanted: frozenset[Statistic], *, keep_inputs: int = 512) -> None:
        self.features = features
        self.wanted = wanted
        self.keep_inputs = keep_inputs
        self.tokens = 0
        self._sum: dict[Statistic, Tensor] = {}
        self._inputs: list[Tensor] = []

    def update(self, x: Tensor) -> None:
        """Add a batch ``[..., k]``."""
        x = x.detach().reshape(-1, self.features).to(torch.float32)
        if not len(x):
            return
        self.tokens += len(x)
        if Statistic.HESSIAN in self.wanted:
            self._add(Statistic.HESSIAN, (x.T @ x).to(torch.float64))
        if Statistic.ABS_MEAN in self.wanted:
            self._add(Statistic.ABS_MEAN, x.abs().sum(0, dtype=torch.float64))
        if Statistic.SQUARE_MEAN in self.wanted:
            self._add(Statistic.SQUARE_MEAN, x.square().sum(0, dtype=torch.float64))
        if Statistic.ABS_MAX in self.wanted:
            self._max(Statistic.ABS_MAX, x.abs().amax(0))
        if Statistic.BATCH_ABS_MEAN_MAX in self.wanted:
            self._max(Statistic.BATCH_ABS_MEAN_MAX, x.abs().mean(0))
        if Statistic.INPUTS in self.wanted and (room := self.keep_inputs - sum(map(len, self._inputs))) > 0:
            self._inputs.append(x[:room].cpu())

    def _add(self, key: Statistic, value: Tensor) -> None:
        self._sum[key] = self._sum[key] + value if key in self._sum else value

    def _max(self, key: Statistic, value: Tensor) -> None:
        self._sum[key] = torch.maximum(self._sum[key], value) if key in self._sum else value

    def finish(self, layer: str) -> LayerCalibration:
        """The statistics so far."""
        done: dict[Statistic, Tensor] = {}
        for key, value in self._sum.items():
            if key is Statistic.HESSIAN:
                value = value * (2.0 / self.tokens)
            elif key in (Statistic.ABS_MEAN, Statistic.SQUARE_MEAN):
                value = value / self.tokens
            done[key] = value.to(torch.float32).cpu()
        if self._inputs:
            done[Statistic.INPUTS] = torch.cat(self._inputs)
        return LayerCalibration(layer, self.tokens, done)
