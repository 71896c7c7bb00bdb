"""A quantized layer as an exported kernel multiplies it: dense parts, the input of each of their columns, groups.

Permutations, slabs of a partitioned weight and dropped outlier columns become one list of inputs for each part; a
residual is a part of its own; codes under outliers become the code of value zero (``hls.layer_outliers``). What no
kernel does is refused here: column scales beside quantized inputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from datatypes.catalog import FP16
from datatypes.format import FloatFormat, Format, IntFormat
from datatypes.granularity import Granularity
from datatypes.layer_config import TensorConfig
from datatypes.quantized_layer import QuantizedLayer
from datatypes.tensor import QuantizedTensor, decode_stored, expand_tiles
from hls.channel_slabs import groups_of
from hls.layer_outliers import without_outliers
from hwmodel.channel_groups import plain_activation

_ALL_INPUTS = 1 << 30  # more than any layer has


@dataclass(frozen=True, eq=False)
class DensePart:
    """One encoded matrix of a layer.

    Args:
        name: prefix of its arrays in ``datatypes.layer_packing``: ``weight``, ``weight.0``, ``weight.residual``.
        tensor: codes and scales, ``[n, columns]``.
        inputs: int64 ``[columns]``: the layer's input that each column multiplies.
    """

    name: str
    tensor: QuantizedTensor
    inputs: np.ndarray

    @property
    def config(self) -> TensorConfig:
        """Of the tensor."""
        return self.tensor.config

    @property
    def columns(self) -> int:
        """Inputs that it multiplies."""
        return self.tensor.shape[1]

    @property
    def code_columns(self) -> int:
        """Columns that one code spans."""
        return 1 if self.config.vectors_along_output else self.config.formats[0].dim

    @property
    def code_rows(self) -> int:
        """Outputs that one code spans."""
        return self.config.formats[0].dim if self.config.vectors_along_output else 1

    @property
    def gathered(self) -> bool:
        """Whether columns are not simply the inputs in order."""
        return not np.array_equal(self.inputs, np.arange(self.columns))


def dense_parts(layer: QuantizedLayer) -> tuple[DensePart, ...]:
    """The parts of a layer in the order in which their sums are added, codes under outliers cleared.

    Raises:
        NotImplementedError: the layer has something that exported kernels do not do; the message names it.
    """
    groups_of(layer)  # refuses what no kernel takes
    stored = np.arange(layer.shape[1]) if layer.permutation is None else layer.permutation.numpy()
    parts = []
    if isinstance(layer.weight, tuple):
        assert layer.part_of_column is not None
        place = layer.part_of_column.numpy()
        for index, tensor in enumerate(layer.weight):
            if tensor.shape[1]:
                parts.append(DensePart(f"weight.{index}", tensor, stored[place == index]))
    else:
        inputs = stored
        if layer.weight.shape[1] < layer.shape[1]:
            assert layer.outliers is not None
            if layer.permutation is not None:
                raise NotImplementedError("a permuted weight must keep the slots of its outlier columns")
            inputs = np.setdiff1d(stored, layer.outliers.columns.numpy())
        parts.append(DensePart("weight", layer.weight, inputs))
    made = []
    for part in parts:
        rest: QuantizedTensor | None = part.tensor
        name = part.name
        while rest is not None:
            _check(rest.config, plain_activation(layer.config.activation))
            made.append(DensePart(name, without_outliers(rest, part.inputs, layer), part.inputs))
            rest, name = rest.residual, f"{name}.residual"
    return tuple(made)


def _check(config: TensorConfig, activation: TensorConfig | None) -> None:
    if config.column_scale is not None and not is_fp16(activation):
        raise NotImplementedError(
            "column scales of a weight multiply inputs of fp16: leave the layer's activation unquantized, "
            "or store them as its smoothing"
        )


def is_fp16(activation: TensorConfig | None) -> bool:
    """Whether a layer's inputs are plain FP16 numbers."""
    return activation is None or (activation.scale is None and activation.formats == (FP16,))


# --- groups ----------------------------------------------------------------------------------------------------------


def tile_columns(granularity: Granularity, shape: tuple[int, int]) -> int:
    """Columns of a tile, at most all."""
    return min(granularity.tile(shape)[1], max(shape[1], 1))


def _inputs_of_scale(activation: TensorConfig) -> int:
    """Inputs of a token that share one scale; ``_ALL_INPUTS`` for all, however many."""
    return activation.granularity.tile((1, _ALL_INPUTS))[1]


def group_size(part: DensePart, activation: TensorConfig | None) -> int:
    """Columns of a part over which nothing but its codes changes; the last group may be shorter.

    Args:
        activation: of the layer; its tiles run along the inputs.

    Raises:
        NotImplementedError: activation scales change inside every group that a kernel could form.

    >>> from datatypes.catalog import INTS
    >>> from datatypes.granularity import PerGroup
    >>> from datatypes.quantize import quantize_tensor
    >>> weight = quantize_tensor(torch.ones(2, 300), TensorConfig((INTS[4],), PerGroup(128)))
    >>> activation = TensorConfig((INTS[8],), PerGroup(96))
    >>> group_size(DensePart("weight", weight, np.arange(300)), activation)
    32
    """
    shape, config = part.tensor.shape, part.config
    sizes = [tile_columns(tiles, shape) for tiles in config.tilings] if config.scale is not None else []
    if config.selector_bits:
        sizes.append(tile_columns(config.selector_granularity, shape))
    sizes = [size for size in sizes if size < part.columns]
    group = math.gcd(*sizes) if sizes else part.columns
    if activation is not None and activation.scale is not None:
        run = _inputs_of_scale(activation)
        if not part.gathered:
            if run < part.columns:
                group = math.gcd(group, run) if group < part.columns else run
        else:
            tile = part.inputs // run
            starts = np.arange(part.columns) // group * group
            if not np.array_equal(tile, tile[starts]):
                raise NotImplementedError(
                    f"activation scales must not change within groups of {group} gathered columns: "
                    "use one scale for a token, or slabs of whole groups"
                )
    if group % part.code_columns and group < part.columns:
        raise NotImplementedError(f"groups of {group} columns must hold whole codes of {part.code_columns} elements")
    if config.sparsity is not None and group % config.sparsity.block and group < part.columns:
        raise NotImplementedError(
            f"groups of {group} columns must hold whole blocks of {config.sparsity.block} columns of a sparse weight"
        )
    return group


# --- values ----------------------------------------------------------------------------------------------------------


def per_column(stored: torch.Tensor, granularity: Granularity, shape: tuple[int, int]) -> np.ndarray:
    """What each element of ``[n, k]`` has of an array with one entry for each tile."""
    return np.ascontiguousarray(expand_tiles(stored, granularity, shape).numpy())


def decoded(stored: torch.Tensor | None, fmt: Format | None) -> torch.Tensor | None:
    """Stored scales or zero points as float32; ``None`` for none."""
    return None if stored is None else decode_stored(stored, fmt)


def outer_is_last(part: DensePart) -> bool:
    """Whether the second level of the scale multiplies sums of whole rows: constant along them, without offset."""
    level = None if part.config.scale is None else part.config.scale.second_level
    if level is None or level.offset is not None:
        return False
    return tile_columns(level.granularity, part.tensor.shape) >= part.columns


def has_exact_scale(part: DensePart, activation: TensorConfig | None) -> bool:
    """Whether groups are added as integers: an integer scale under a second level, one activation scale for a token."""
    config = part.config
    if config.scale is None or activation is None or not outer_is_last(part):
        return False
    whole = isinstance(config.scale.format, IntFormat) and not config.scale.format.signed_codes
    plain = config.zero_point is None or (isinstance(config.zero_point, IntFormat) and config.zero_point_level is None)
    single = activation.scale is None or _inputs_of_scale(activation) >= _ALL_INPUTS
    return whole and plain and single and not isinstance(config.formats[0], FloatFormat)
