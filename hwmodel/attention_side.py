"""What stands beside an attention product with an encoded cache: scales, decodings, encoding of operands and new keys.

Rules are those of weights (``hwmodel.side_work``) where keys stand as a weight does. In detail:
    * A key's scale is one of a row, so that PEs that scale groups of weights scale keys as well; elsewhere it is one
      operation for each score and group. A value's scale changes along the dimension that is reduced, which no PE
      follows: it is multiplied into the probabilities, one operation for each score and group.
    * A zero point adds, for keys, the group sums of the queries and one operation for each score and group; for values,
      the sum of probabilities times zero points, and its subtraction from each output.
    * The query, or the softmax output, is encoded where the array multiplies encoded activations; its scale is one
      operation for each output, and one for each of its groups where they are finer than the keys'.
    * New keys and values are encoded when they are written, cached ones decoded on load or, where the array cannot
      take them, once on the vector unit.
    * A second-level scale of keys takes one operation for each score and run of channels that shares it; of values, the
      same where it belongs to one token (into the probabilities), or one for each output and run of tokens that share
      it. One with an offset, and a second level of zero points, take one operation for each cached scale. New scales
      are encoded as new numbers are.
"""

from __future__ import annotations

from datatypes.layer_config import TensorConfig
from hwmodel.operand_paths import Machine
from hwmodel.pe import ArrayPath, wide_float
from hwmodel.side_work import scaled_in_pe
from hwmodel.units import ceil_div
from hwmodel.workload import LayerKind, LayerSpec


def attention_side(
    spec: LayerSpec,
    tensor: TensorConfig,
    activation: TensorConfig | None,
    path: ArrayPath | None,
    machine: Machine,
    share: float,
) -> tuple[int, int]:
    """Vector operations beside an attention product, and decodings on load.

    Args:
        spec: the product.
        tensor: encoding of keys or values.
        activation: encoding of the query or softmax output; ``None`` for FP16.
        path: of the cache through the array; ``None`` for the vector unit.
        machine: what it runs on.
        share: of the scores that are wanted.
    """
    options = machine.options
    keys, width = (spec.n, spec.k) if spec.kind is LayerKind.ATTENTION_QK else (spec.k, spec.n)
    coded = tensor.scale is not None or not wide_float(tensor.formats)
    # values that are a part of the keys are decoded with them while they are in the buffer
    shared = spec.weight_of is not None and options.fused_attention
    cached = keys * width * spec.copies if coded and not shared else 0
    load = cached if options.load_decode and path is not None and path.decoded else 0
    if not options.vector_unit:
        return 0, load
    if path is None:
        return cached + _written_operations(spec, tensor, coded, machine), load
    operations = 0 if path.decoded else _scale_operations(spec, tensor, activation, machine, share)
    if activation is not None:  # the query, or the softmax output below the diagonal
        scores = spec.kind is LayerKind.ATTENTION_QK
        inputs = spec.m * spec.k * spec.copies if scores else round(spec.m * keys * spec.copies * share)
        operations += inputs * _encoding_operations(activation, machine)
    return operations + _written_operations(spec, tensor, coded, machine), load


def _encoding_operations(tensor: TensorConfig, machine: Machine) -> int:
    """Of one number: encoding it, and the search for the largest magnitude where that is done at run time."""
    return 1 + (machine.options.dynamic_quantization and tensor.dynamic and tensor.scale is not None)


def _written_operations(spec: LayerSpec, tensor: TensorConfig, coded: bool, machine: Machine) -> int:
    """Of encoding the new keys or values of a step; values that are a part of the keys are encoded with them."""
    if not coded or spec.weight_of is not None:
        return 0
    width = spec.k if spec.kind is LayerKind.ATTENTION_QK else spec.n
    numbers = written(spec) * width
    if tensor.scale is not None and tensor.scale.outer is not None:
        numbers += written(spec) * ceil_div(width, tensor.granularity.tile((1, width))[1])  # scales are numbers too
    return numbers * spec.copies * _encoding_operations(tensor, machine)


def written(spec: LayerSpec) -> int:
    """Keys or values that one copy of an attention product adds to its cache.

    Where the layer does not say, a product of at least as many rows as keys is taken for a whole prompt, and one of
    fewer for a decode step of one token.
    """
    keys = spec.n if spec.kind is LayerKind.ATTENTION_QK else spec.k
    if spec.written is not None:
        return spec.written
    if spec.past is not None:
        return keys - spec.past
    return keys if spec.m >= keys else 1


def _scale_operations(
    spec: LayerSpec, tensor: TensorConfig, activation: TensorConfig | None, machine: Machine, share: float
) -> int:
    """Of scales and zero points, all copies together, where the array multiplies codes."""
    accelerator, of_keys = machine.accelerator, spec.kind is LayerKind.ATTENTION_QK
    keys, width = (spec.n, spec.k) if of_keys else (spec.k, spec.n)
    rows = spec.m * spec.copies
    scores = round(rows * keys * share)
    outputs = scores if of_keys else rows * width
    groups = ceil_div(width, tensor.granularity.tile((1, width))[1])
    scaled = tensor.scale is not None and not (of_keys and scaled_in_pe(tensor.scale, accelerator))
    operations = scores * groups if scaled else 0
    operations += _second_level_operations(spec, tensor, scores)
    if tensor.zero_point is not None:
        operations += scores * groups + rows * width
    if activation is None:
        return operations
    runs = ceil_div(spec.k, activation.granularity.tile((1, spec.k))[1])
    if activation.scale is not None:
        operations += outputs
        if runs > 1 and not scaled_in_pe(activation.scale, accelerator):
            together = groups if of_keys and scaled else 0  # a product of both scales for each of these groups
            operations += outputs * max(runs - together, 0)
    if activation.zero_point is not None:
        operations += outputs * runs
    return operations


def _second_level_operations(spec: LayerSpec, tensor: TensorConfig, scores: int) -> int:
    """Of the second levels of scales and zero points, all copies together."""
    if not tensor.second_levels:
        return 0
    of_keys = spec.kind is LayerKind.ATTENTION_QK
    keys, width = shape = (spec.n, spec.k) if of_keys else (spec.k, spec.n)
    stored = tensor.granularity.count(shape) * spec.copies
    operations = stored if tensor.zero_point_level is not None else 0
    level = None if tensor.scale is None else tensor.scale.second_level
    if level is None:
        return operations
    if level.offset is not None:
        return operations + stored
    tokens, channels = level.granularity.tile(shape)
    if of_keys or tokens == 1:
        return operations + scores * ceil_div(width, channels)
    return operations + spec.m * width * spec.copies * ceil_div(keys, tokens)
