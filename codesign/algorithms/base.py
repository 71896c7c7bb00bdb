"""The protocols that algorithms satisfy.

``Algorithm`` quantizes one layer at a time and is what nearly every paper needs. Two small protocols stand beside it
for those that need more: ``BlockAlgorithm`` sees a whole decoder block with its inputs (block reconstruction, norm
tweaking), ``Allocator`` chooses a config for every layer under a budget (bit allocation). ``docs/families.md`` says
which of the about fifty systems goes where.

An algorithm is a small frozen dataclass: hyper-parameters with the paper's defaults, and one method. It never changes
its inputs, draws randomness only from a seed among its hyper-parameters, and returns a ``QuantizedLayer`` whose
``config`` says what was really done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from codesign.calibration import LayerCalibration, Statistic
from datatypes.format import LearnedFormat
from datatypes.layer_config import LayerConfig, TensorConfig
from datatypes.quantized_layer import QuantizedLayer
from hwmodel.workload import Workload


@runtime_checkable
class Algorithm(Protocol):
    """Quantizes one linear layer."""

    @property
    def name(self) -> str:
        """Key in the registry, lower case."""
        ...

    @property
    def source(self) -> str:
        """The paper."""
        ...

    @property
    def needs(self) -> frozenset[Statistic]:
        """Calibration statistics that must be there; empty for data-free algorithms."""
        ...

    def quantize(self, weight: Tensor, calibration: LayerCalibration, config: LayerConfig) -> QuantizedLayer:
        """Encode ``weight`` float ``[n, k]`` as ``config`` asks.

        What the layer has beside its weight (activation, output, KV formats) is carried into the result untouched.

        Raises:
            ValueError: the weight holds NaN or infinity, the config cannot encode this shape, or a statistic is
                missing.
            NotImplementedError: a legal config that this algorithm does not support; the message names the field.
        """
        ...


@runtime_checkable
class BlockAlgorithm(Protocol):
    """Quantizes all linear layers of one decoder block together, seeing the block's inputs and outputs."""

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> str: ...

    def quantize_block(
        self,
        block: nn.Module,
        inputs: list[tuple[tuple[object, ...], dict[str, object]]],
        configs: Mapping[str, LayerConfig],
    ) -> Mapping[str, QuantizedLayer]:
        """Encode the linear layers of ``block`` named by ``configs``; ``inputs`` are (args, kwargs) of its calls."""
        ...


@runtime_checkable
class Allocator(Protocol):
    """Chooses a config for each layer under a budget of average bits."""

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> str: ...

    def allocate(
        self,
        workload: Workload,
        candidates: tuple[LayerConfig, ...],
        loss: Mapping[str, tuple[float, ...]],
        bits_per_weight: float,
    ) -> Mapping[str, LayerConfig]:
        """Pick for each layer the candidate that minimises summed ``loss[layer][candidate]`` within the budget."""
        ...


def checked_weight(weight: Tensor, layer: str) -> Tensor:
    """The weight as contiguous float32, a copy only where it is not.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: not a matrix with at least one element, or NaN or infinity in it.
    """
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        kind = weight.dtype if isinstance(weight, Tensor) else type(weight).__name__
        raise TypeError(f"weight of {layer} must be a floating-point tensor, not {kind}")
    if weight.dim() != 2 or 0 in weight.shape:
        raise ValueError(f"weight of {layer} must be a matrix [n, k], not of shape {list(weight.shape)!r}")
    if not torch.isfinite(weight).all():
        bad = int((~torch.isfinite(weight)).sum())
        raise ValueError(f"weight of {layer} must be finite, not hold {bad} NaN or infinite values")
    return weight.detach().to(torch.float32).contiguous()


def tensor_config(config: LayerConfig, algorithm: str, *, supports: frozenset[str] = frozenset()) -> TensorConfig:
    """The encoding of the weight, after refusing what ``algorithm`` would otherwise silently leave out.

    Args:
        config: what was asked for.
        algorithm: its name, for the message.
        supports: names of fields of ``LayerConfig`` and ``TensorConfig`` that the algorithm fills in itself.

    Raises:
        ValueError: there is no weight encoding.
        NotImplementedError: a field is set that this algorithm does not support.
    """
    weight = config.weight
    if weight is None:
        raise ValueError(f"config must hold a weight encoding for {algorithm}, not None")
    if not isinstance(weight, TensorConfig):
        raise NotImplementedError(f"{algorithm} does not support a weight in parts (PartitionedConfig)")
    asked = {
        "low_rank": config.low_rank is not None,
        "outliers": config.outliers is not None,
        "permuted": config.permuted,
        "output_norm": config.output_norm,
        "smoothing": config.smoothing is not None,
        "learned formats": any(isinstance(f, LearnedFormat) for f in weight.formats),
        "residual": weight.residual is not None,
        "sparsity": weight.sparsity is not None,
        "row_scale": weight.row_scale is not None,
        "column_scale": weight.column_scale is not None,
        "hadamard": weight.hadamard != 0,
        "dynamic": weight.dynamic,
    }
    refused = [name for name, is_set in asked.items() if is_set and name not in supports]
    if refused:
        raise NotImplementedError(f"{algorithm} does not support {', '.join(refused)} of the layer config")
    return weight
