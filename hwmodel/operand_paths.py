"""How the operands of a layer go through the array of one machine, slab by slab."""

from __future__ import annotations

from dataclasses import dataclass, replace

from datatypes.layer_config import FP16_WEIGHT, ActivationConfig, PartitionedConfig, TensorConfig
from hwmodel.accelerator import Accelerator, Array
from hwmodel.array_path import array_path, bare_path
from hwmodel.array_path_blocks import with_tables
from hwmodel.channel_groups import plain_activation
from hwmodel.operand_streams import Config, OperandBits
from hwmodel.options import Fallback, ModelOptions
from hwmodel.pe import WIDE_BITS, ArrayPath, PeKind, integer_bits, scale_cycles, wide_float
from hwmodel.side_work import Slab
from hwmodel.term_skipping import CountedBits
from hwmodel.units import ceil_div
from hwmodel.workload import LayerSpec


@dataclass(frozen=True)
class Machine:
    """What a layer is priced on.

    Args:
        accelerator: with its PEs.
        array: as laid out for the phase.
        options: which effects count.
        stats: bits of the layer's weights; ``None`` where they were not counted.
    """

    accelerator: Accelerator
    array: Array
    options: ModelOptions
    stats: CountedBits | None = None


def operand_path(config: TensorConfig, activation: ActivationConfig | None, machine: Machine) -> ArrayPath | None:
    """How a tensor goes through the array; ``None`` for the vector unit.

    A residual goes through after its tensor: its cycles, its codes in the buffer and its table come on top.
    """
    pe, options = machine.accelerator.pe, machine.options
    formats = None if activation is None else activation.formats
    one_column = machine.array.columns == 1
    try:
        path = array_path(config.formats, pe, formats, one_column=one_column, stats=machine.stats)
        if config.residual is None or path.decoded:
            return path
        rest = array_path(config.residual.formats, pe, formats, one_column=one_column)
        lanes, rest_lanes = path.lanes or pe.lanes, rest.lanes or pe.lanes
        more = rest.cycles if lanes == rest_lanes else rest.cycles * lanes / rest_lanes
        path = replace(path, cycles=path.cycles + more, sram_bits=path.sram_bits + rest.sram_bits)
        if pe.kind is not PeKind.TABLE_LOOKUP:
            return path
        both = with_tables(path, [path, rest], pe)
        return replace(both, residual_entries=rest.table_entries, residual_vector=rest.vector)
    except NotImplementedError:
        wide = wide_float(config.formats)
        integers = pe.encoded_activations and all(integer_bits(fmt) is not None for fmt in config.formats)
        if options.fallback is Fallback.ARRAY and (wide or (integers and activation is None)):
            return bare_path(config.code_bits, WIDE_BITS, pe, one_column=one_column)
        if wide and options.fallback is Fallback.VECTOR_UNIT:
            return None
        raise


def bare_operand_path(bits: float, activation_bits: float, sram_bits: float, machine: Machine) -> ArrayPath:
    """How operands of a bare bit width go through the array."""
    pe = machine.accelerator.pe
    if machine.options.fallback is not Fallback.ARRAY:
        limit = pe.native_bits
        if pe.kind not in (PeKind.FP16_MAC, PeKind.TABLE_LOOKUP) and int(bits) > limit:
            raise NotImplementedError(f"its PEs take integers of up to {limit} bits")
        limit = limit if pe.kind is PeKind.BLOCK_DOT else pe.max_activation_bits
        if pe.encoded_activations and int(activation_bits) > limit:
            raise NotImplementedError(
                f"its PEs multiply encoded activations of up to {limit} bits, and these have {activation_bits:g}"
            )
    return bare_path(bits, activation_bits, pe, sram_bits=sram_bits, one_column=machine.array.columns == 1)


def slabs_of(spec: LayerSpec, config: Config, machine: Machine) -> list[Slab]:
    """The input columns by encoding; one slab for bare bit widths."""
    if isinstance(config, OperandBits):
        return [Slab(spec.k, None, bare_operand_path(config.weight, config.activation, config.weight, machine))]
    weight = FP16_WEIGHT if config.weight is None else config.weight
    if isinstance(weight, PartitionedConfig):
        if weight.columns != spec.k:
            raise ValueError(f"columns of the parts of layer {spec.name} must sum to {spec.k}, not {weight.columns}")
        parts = [(part.columns, part.config) for part in weight.parts if part.columns]
    else:
        parts = [(spec.k, weight)]
    slabs = []
    for columns, part in parts:
        path = operand_path(part, config.activation, machine)
        if path is not None and machine.accelerator.pe.kind is PeKind.BLOCK_DOT:
            blocks = [t.granularity.tile((1, columns))[1] for t in (part, plain_activation(config.activation))
                      if t is not None and t.scale is not None]  # fmt: skip
            path = replace(path, lanes=min([path.lanes or machine.accelerator.pe.lanes, *blocks]))
        slabs.append(Slab(columns, part, path))
    return slabs


def slab_cycles(slab: Slab, machine: Machine) -> float:
    """Array cycles to reduce over the columns of a slab in one tile, waits for scales included."""
    assert slab.path is not None
    pe = machine.accelerator.pe
    lanes = slab.path.lanes or pe.lanes
    config = slab.config
    if not (pe.bit_serial and machine.options.dequantization_stalls) or config is None or config.scale is None:
        return ceil_div(slab.columns, lanes) * slab.path.cycles
    group = min(config.granularity.tile((1, slab.columns))[1], slab.columns)
    wait = scale_cycles(config.scale.format)
    full, rest = divmod(slab.columns, group)
    cycles = full * max(ceil_div(group, lanes) * slab.path.cycles, wait)
    return cycles + (max(ceil_div(rest, lanes) * slab.path.cycles, wait) if rest else 0)
