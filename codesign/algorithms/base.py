"""The protocols that algorithms satisfy.

``Algorithm`` quantizes one layer at a time and is what nearly every paper needs. Two small protocols stand beside it
for those that need more: ``BlockAlgorithm`` sees a whole decoder block with its inputs (block reconstruction, norm
tweaking), ``Allocator`` chooses a config for every layer under a budget (bit allocation). The README's table "How each
family fits" says which of the about fifty systems goes where.

An algorithm is a small frozen dataclass: hyper-parameters with the paper's defaults, and one method. It never changes
its inputs, draws randomness only from a seed among its hyper-parameters, and returns a ``QuantizedLayer`` whose
``config`` says what was really done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from codesign.calibration import LayerCalibration, Statistic
from datatypes.layer_config import LayerConfig
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
