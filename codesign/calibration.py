"""What algorithms may look at: statistics of a layer's input and of the loss, gathered once for all of them.

A ``LayerCalibration`` holds only what was asked for (``Statistic``); asking for one that is absent is an error that
says which. Everything is handed out as float32 on the CPU; sums are kept in float64.
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
    CHUNK_RANGE = "chunk_range"  # smallest and largest x_i of every CHUNK_TOKENS positions, [chunks, 2, k]: Tender
    INPUTS = "inputs"  # some inputs themselves, [tokens, k]: AWQ's search, reconstruction


CHUNK_TOKENS = 256  # Tender's code (github.com/snu-comparch/Tender): rows of an activation that share their scales


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

    def checked(self, statistic: Statistic, shape: tuple[int, ...]) -> Tensor:
        """The statistic, of this shape and finite; -1 in ``shape`` stands for any length.

        Raises:
            ValueError: it was not gathered, has another shape, or holds NaN or infinity.
        """
        value = self[statistic]
        fits = value.dim() == len(shape) and all(w in (-1, h) for w, h in zip(shape, value.shape, strict=True))
        if not fits:
            raise ValueError(
                f"{statistic.value} of {self.layer} must have the shape {list(shape)}, not {list(value.shape)!r}"
            )
        if not torch.isfinite(value).all():
            bad = int((~torch.isfinite(value)).sum())
            raise ValueError(f"{statistic.value} of {self.layer} must be finite, not hold {bad} NaN or infinite values")
        return value


NO_CALIBRATION = LayerCalibration("(none)")


class InputStatistics:
    """Accumulates the input statistics of one layer, batch by batch.

    Args:
        features: in_features of the layer.
        wanted: statistics to gather (gradient ones are ignored here).
        keep_inputs: rows kept for ``Statistic.INPUTS``: a uniform sample of all rows seen.
        seed: of that sample.
    """

    def __init__(self, features: int, wanted: frozenset[Statistic], *, keep_inputs: int = 512, seed: int = 0) -> None:
        self.features = features
        self.wanted = wanted
        self.keep_inputs = keep_inputs
        self.tokens = 0
        self._sum: dict[Statistic, Tensor] = {}
        self._kept: Tensor | None = None
        self._keys = torch.empty(0, dtype=torch.float64)
        self._generator = torch.Generator().manual_seed(seed)

    def update(self, x: Tensor) -> None:
        """Add a batch ``[..., k]``; an empty one changes nothing. The last axis but one are positions of a sequence.

        Raises:
            ValueError: the last axis is not ``features``.
        """
        if x.shape[-1] != self.features:
            raise ValueError(f"inputs must have {self.features} features, not {x.shape[-1]!r}")
        positions = x.shape[-2] if x.dim() > 1 else 1
        x = x.detach().reshape(-1, self.features).to(torch.float32)
        if not len(x):
            return
        self.tokens += len(x)
        if Statistic.CHUNK_RANGE in self.wanted:
            self._widen(x.reshape(-1, positions, self.features))
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
        if Statistic.INPUTS in self.wanted and self.keep_inputs > 0:
            self._sample(x)

    def _add(self, key: Statistic, value: Tensor) -> None:
        self._sum[key] = self._sum[key] + value if key in self._sum else value

    def _max(self, key: Statistic, value: Tensor) -> None:
        self._sum[key] = torch.maximum(self._sum[key], value) if key in self._sum else value

    def _widen(self, sequences: Tensor) -> None:
        """Ranges of the chunks of ``[batch, t, k]`` joined to those so far; a longer sequence brings more chunks."""
        chunks = sequences.split(CHUNK_TOKENS, dim=1)
        found = torch.stack([torch.stack((c.amin((0, 1)), c.amax((0, 1)))) for c in chunks])
        known = self._sum.get(Statistic.CHUNK_RANGE, found)
        both = min(len(known), len(found))
        joined = torch.stack(
            (torch.minimum(known[:both, 0], found[:both, 0]), torch.maximum(known[:both, 1], found[:both, 1])), dim=1
        )
        self._sum[Statistic.CHUNK_RANGE] = torch.cat([joined, known[both:], found[both:]])

    def _sample(self, x: Tensor) -> None:
        """Keep the rows with the smallest random keys of all rows so far, in the order they came."""
        keys = torch.cat([self._keys, torch.rand(len(x), generator=self._generator, dtype=torch.float64)])
        before = len(self._keys)
        stay = keys.argsort()[: self.keep_inputs].sort().values
        old, new = stay[stay < before], stay[stay >= before] - before
        fresh = x[new.to(x.device)].cpu()
        self._kept = fresh if self._kept is None else torch.cat([self._kept[old], fresh])
        self._keys = keys[stay]

    def finish(self, layer: str) -> LayerCalibration:
        """The statistics so far."""
        done: dict[Statistic, Tensor] = {}
        for key, value in self._sum.items():
            if key is Statistic.HESSIAN:
                value = value * (2.0 / self.tokens)
            elif key in (Statistic.ABS_MEAN, Statistic.SQUARE_MEAN):
                value = value / self.tokens
            done[key] = value.to(torch.float32).cpu()
        if self._kept is not None:
            done[Statistic.INPUTS] = self._kept.clone()
        return LayerCalibration(layer, self.tokens, done)
