"""What formats ask for beside the products: vector operations, waits of the array, reads of the weight buffer.

Each is a simple, stated model; most can be switched off (``hwmodel.options``). Tables: ``hwmodel.table_work``.
    * Group scales are free in a bit-serial PE and, where a block dot product has a scale of its kind, in its PEs; free
      where weights are decoded on load; one vector operation for each output and group elsewhere. A zero point adds the
      group sums of the activations and one operation for each output and group. A second-level scale takes one
      operation for each output and run of inputs that shares it; one with an offset, which cannot wait for the sums,
      one multiply-add for each stored scale instead, and so do zero points with a second level. Encoded activations
      add one operation for each output (their scale), and their groups count where they are finer than the weight's.
      Rows used the other way round: ``hwmodel.absorbed_side``.
    * A Hadamard rotation takes log2(block) operations for each input.
    * Outliers are multiplied on the vector unit, one multiply-add each (a whole column: one for each output); an array
      that decodes weights to FP16 puts them in place at no cost. Gathering reads a 64-bit word of the activation
      buffer for each outlier (or outlier column) and token. Element-wise outliers lie in rows of different lengths:
      with a mean of ``u`` in a row and ``l`` lanes, the fullest row has about u + sqrt(2 u ln l), the expected maximum
      of ``l`` normal variables from above, at most ``l`` u.
    * Slabs of whole steps stay where they are. Neighbours in random order differ in encoding with probability
      1 - sum c (c - 1) / (S (S - 1)), for ``c`` of ``S`` slabs of each kind, and the array waits one cycle at each
      change (ASSUMPTION; SliM-LLM publishes no hardware). Other columns are sorted by encoding, which takes one
      operation for each input (a gather) and leaves one change between two parts.
    * Channel groups: ``hwmodel.channel_groups``.
    * Encoding an activation takes one operation for each value, and one more to find the largest magnitude where that
      is done at run time; the same for new keys and values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from datatypes.format import ExponentFormat, FloatFormat
from datatypes.layer_config import LayerConfig, OutlierLayout, PartitionedConfig, ScaleConfig, TensorConfig
from hwmodel.absorbed_side import absorbed_operations
from hwmodel.accelerator import Accelerator
from hwmodel.channel_groups import group_operations, plain_activation
from hwmodel.options import ModelOptions
from hwmodel.pe import ArrayPath, PeKind, wide_float
from hwmodel.units import ceil_div
from hwmodel.workload import LayerSpec

NORM_OPERATIONS = 5  # per element: square-accumulate, sum, subtract mean, times 1/sigma, times gain (LayerNorm)
SWITCH_CYCLES = 1  # ASSUMPTION: a new control word


@dataclass(frozen=True)
class Slab:
    """Some input columns that go through the array in one way.

    Args:
        columns: how many.
        config: their encoding, or ``None`` for bare bit widths.
        path: how they go through the array; ``None`` for the vector unit.
    """

    columns: int
    config: TensorConfig | None
    path: ArrayPath | None

    @property
    def on_array(self) -> bool:
        """Whether the array multiplies them."""
        return self.path is not None

    @property
    def decoded(self) -> bool:
        """Whether they reach the array as FP16."""
        return self.path is not None and self.path.decoded


def widest_step(slabs: list[Slab], accelerator: Accelerator) -> int:
    """Columns of the widest step."""
    lanes = accelerator.pe.lanes
    return max((slab.path.lanes or lanes for slab in slabs if slab.path is not None), default=lanes)


def _group(config: TensorConfig, columns: int) -> int:
    return config.granularity.tile((1, columns))[1]


def scaled_in_pe(scale: ScaleConfig, accelerator: Accelerator) -> bool:
    """Whether the PEs multiply group scales themselves."""
    if accelerator.pe.kind is PeKind.BLOCK_DOT:
        if scale.outer_offset is not None:  # no longer numbers of the stored kind
            return False
        fmt = scale.format
        return isinstance(fmt, ExponentFormat) or (isinstance(fmt, FloatFormat) and fmt.bits <= 8)
    return accelerator.pe.bit_serial


def side_operations(
    spec: LayerSpec, config: LayerConfig, slabs: list[Slab], accelerator: Accelerator, options: ModelOptions
) -> int:
    """Vector operations of one copy that formats ask for beside the product."""
    inputs, outputs = spec.m * spec.row_inputs, spec.m * spec.row_outputs
    activation = plain_activation(config.activation)
    on_array = any(slab.on_array for slab in slabs)
    operations = group_operations(spec, config.activation, accelerator.pe, on_array=on_array)
    for slab in slabs:
        tensor = slab.config
        if tensor is None:
            continue
        if slab.on_array and not slab.decoded:
            along = replace(spec, n=spec.n - spec.absorbed, absorbed=0)  # rows that are used as in any other layer
            operations += _scale_operations(along, slab, tensor, activation, accelerator)
            encoded = activation if accelerator.pe.encoded_activations else None
            operations += absorbed_operations(spec, tensor, encoded, slab.columns)
        if tensor.column_scale is not None:
            operations += spec.m * slab.columns
        if tensor.row_scale is not None:
            operations += outputs
        if tensor.hadamard > 1:
            operations += spec.m * slab.columns * (tensor.hadamard.bit_length() - 1)
    if accelerator.pe.encoded_activations and activation is not None and on_array:
        operations += outputs * (activation.scale is not None)
    if config.outliers is not None and not all(slab.decoded for slab in slabs):
        operations += _outlier_operations(spec, config, accelerator, options)
    operations += inputs * (config.permuted + (config.smoothing is not None) + (activation is not None))
    if options.width_switches and isinstance(config.weight, PartitionedConfig):
        operations += inputs * (not in_place(config.weight, widest_step(slabs, accelerator)))
    if options.dynamic_quantization and activation is not None and activation.dynamic and activation.scale is not None:
        operations += inputs
    if config.output is not None:
        operations += 2 * outputs  # the largest magnitude, and the scaling
    return operations + (NORM_OPERATIONS * outputs if config.output_norm else 0)


def _scale_operations(
    spec: LayerSpec, slab: Slab, tensor: TensorConfig, activation: TensorConfig | None, accelerator: Accelerator
) -> int:
    outputs = spec.m * spec.n
    encoded = activation if accelerator.pe.encoded_activations else None
    groups = 0
    if tensor.scale is not None and not scaled_in_pe(tensor.scale, accelerator):
        groups = ceil_div(slab.columns, _group(tensor, slab.columns))
    if encoded is not None and encoded.scale is not None and not scaled_in_pe(encoded.scale, accelerator):
        finer = ceil_div(slab.columns, _group(encoded, slab.columns))
        groups = max(groups, finer if finer > 1 else 0)
    operations = outputs * groups
    stored = tensor.granularity.count((spec.n, slab.columns))
    if tensor.scale is not None and tensor.scale.outer is not None:
        shared = tensor.scale.outer_granularity.tile((spec.n, slab.columns))[1]
        operations += outputs * ceil_div(slab.columns, shared) if tensor.scale.outer_offset is None else stored
    if tensor.zero_point_level is not None:
        operations += stored
    if tensor.zero_point is not None:
        operations += spec.m * slab.columns + outputs * ceil_div(slab.columns, _group(tensor, slab.columns))
    if encoded is not None and encoded.zero_point is not None:
        operations += outputs * ceil_div(slab.columns, _group(encoded, slab.columns))
    return operations


def _outlier_operations(spec: LayerSpec, config: LayerConfig, accelerator: Accelerator, options: ModelOptions) -> int:
    assert config.outliers is not None
    count = config.outliers.count((spec.n, spec.k))
    if config.outliers.layout is OutlierLayout.COLUMNS:
        return count * spec.m * spec.n
    if not options.outlier_gather:
        return count * spec.m
    return math.ceil(count * spec.m * row_imbalance(count / spec.n, accelerator.vector.lanes))


def row_imbalance(mean: float, lanes: int) -> float:
    """The fullest of ``lanes`` rows over their mean, where rows hold ``mean`` outliers on average.

    >>> row_imbalance(0.01 * 4096, 64)
    1.45...
    """
    if mean <= 0 or lanes < 2:
        return 1.0
    return min(1 + math.sqrt(2 * math.log(lanes) / mean), float(lanes))


def gathered_activations(spec: LayerSpec, config: LayerConfig, slabs: list[Slab]) -> int:
    """Activations of one copy that are gathered for outliers, a word of the activation buffer each."""
    if config.outliers is None or all(slab.decoded for slab in slabs):
        return 0
    return config.outliers.count((spec.n, spec.k)) * spec.m


def load_operations(spec: LayerSpec, slabs: list[Slab]) -> int:
    """Weights of all copies that are decoded on the way into the array."""
    columns = sum(
        slab.columns
        for slab in slabs
        if slab.decoded and slab.config is not None and not wide_float(slab.config.formats)
    )
    return spec.n * columns * (1 if spec.shared_weight else spec.copies)


def metadata_pj(bits: int, passes: int, port_bits: float, accelerator: Accelerator) -> float:
    """Energy to read metadata of ``bits`` from the weight buffer in each of ``passes``."""
    return bits / port_bits * passes * accelerator.weight_buffer.at(port_bits).read_pj


def in_place(weight: PartitionedConfig, lanes: int) -> bool:
    """Whether every step of ``lanes`` columns lies in one slab, so that columns need not be sorted."""
    return weight.slab % lanes == 0


def switch_cycles(weight: PartitionedConfig, columns: int, lanes: int) -> float:
    """Expected waits in one pass over ``columns``: slabs in random order, or parts one after another.

    >>> from datatypes.layer_config import FP16_WEIGHT, Part
    >>> halves = PartitionedConfig((Part(256, FP16_WEIGHT), Part(256, FP16_WEIGHT)), slab=128)
    >>> round(switch_cycles(halves, 512, 4), 6)  # 3 neighbours, each differs with probability 2 / 3
    2.0
    >>> switch_cycles(halves, 512, 256)  # a step of 256 columns holds two slabs, so they are sorted
    1
    """
    if not in_place(weight, lanes):
        return SWITCH_CYCLES * (sum(part.columns > 0 for part in weight.parts) - 1)
    slabs = ceil_div(columns, weight.slab)
    if slabs < 2:
        return 0.0
    counts = [part.columns / weight.slab for part in weight.parts]
    same = sum(count * max(count - 1, 0) for count in counts) / (slabs * (slabs - 1))
    return SWITCH_CYCLES * (slabs - 1) * max(0.0, 1 - same)
