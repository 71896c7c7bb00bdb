"""Layers without the array they run on: what of a price follows from shape, config and PE alone.

A ``Form`` is a ``hwmodel.traffic.Product`` before the array's rows and columns, the buffers and the memory are known:
``hwmodel.batch_kernels`` applies those to millions of designs. Everything about formats (paths, streams, side work) is
asked of the functions that ``hwmodel.evaluate`` uses, so that a new format or option is priced alike by both; only the
formulas over rows and columns of ``hwmodel.operands`` and ``hwmodel.attention_product`` are said a second time, there.
``tests/hwmodel/test_batch_evaluate.py`` holds both against each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from datatypes.layer_config import LayerConfig, PartitionedConfig
from hwmodel.accelerator import Accelerator, Array
from hwmodel.attention_product import attention_operands
from hwmodel.channel_groups import group_waits
from hwmodel.evaluate import VECTOR_OPERATIONS, copies_in_turn, storage_bits
from hwmodel.operand_paths import Machine, slab_cycles, slabs_of
from hwmodel.operand_streams import Config, OperandBits, activation_stream, weight_stream
from hwmodel.operands import with_low_rank
from hwmodel.options import ModelOptions
from hwmodel.pe import WIDE_BITS
from hwmodel.side_work import Slab, gathered_activations, load_operations, side_operations, switch_cycles, widest_step
from hwmodel.table_work import Table, tables_of
from hwmodel.tile_plan import CAUSAL_SCORES, CAUSAL_VALUES, DENSE
from hwmodel.traffic import NOTHING, Stream, causal_positions, vector_elements
from hwmodel.units import WORD_BITS, ceil_div
from hwmodel.workload import ATTENTION_KINDS, GEMM_KINDS, LayerKind, LayerSpec


class FormKind(IntEnum):
    """How steps and cycles follow from the array."""

    MATRIX = 0  # tiles of outputs by tokens, each with the same steps
    STEPS = 1  # the same, cycles counted by steps (attention)
    CAUSAL_QK = 2  # tiles above the diagonal are skipped, keys are the outputs
    CAUSAL_PV = 3  # keys are reduced
    OFF_ARRAY = 4  # attention on the vector unit
    VECTOR = 5  # norm, softmax, activation function
    ROWS = 6  # embedding


@dataclass(frozen=True)
class Form:
    """A product, or a vector operation, before the array is known; all copies together.

    Args:
        kind: see there.
        m, n, copies: as in the layer.
        passes: copies that come one after another (``hwmodel.traffic.fetches``).
        macs: wanted.
        steps: of one tile; of a causal product, of the uncut dimension.
        cycles: of the array for one tile (matrix) or step (attention).
        energy_cycles: the same weighted with the energy of their mode.
        group_waits: cycles that each tile waits for the shift between channel groups.
        switch_waits: cycles that each tile waits at changes of encoding.
        off_array: multiply-adds of the vector unit that read their weights through the weight port.
        weight, input, output: operands; bits of vector operations go through the activation buffer's port.
        weight_width, input_width: port bits for one row, one column.
        vector: operations of the vector unit.
        load: decodings on load.
        metadata_bits: read through the weight port in every pass over the columns, for each copy.
        gathers: words of the activation buffer gathered.
        port_bits: moved once through the activation port, read and written (vector operations).
        tables: of its slabs.
        keys, heads, offset, lanes: of a causal product: positions attended to, query rows of one position, keys
            before the first query, lanes.
        turns, mask, tile_steps, tile_lanes: as ``turns``, ``mask``, ``steps`` and ``lanes`` of
            ``hwmodel.tile_plan.TileShape``.
    """

    kind: FormKind
    m: int
    n: int
    copies: int
    passes: int = 1
    macs: int = 0
    steps: int = 0
    cycles: float = 0.0
    energy_cycles: float = 0.0
    group_waits: int = 0
    switch_waits: float = 0.0
    off_array: int = 0
    weight: Stream = NOTHING
    input: Stream = NOTHING
    output: Stream = NOTHING
    weight_width: float = 0.0
    input_width: float = 0.0
    vector: int = 0
    load: int = 0
    metadata_bits: int = 0
    gathers: int = 0
    port_bits: int = 0
    tables: tuple[Table, ...] = ()
    keys: int = 1
    heads: int = 1
    offset: int = 0
    lanes: int = 1
    turns: int = 1
    mask: int = DENSE
    tile_steps: int = 1
    tile_lanes: int = 1


_WIDE = 1 << 20  # rows that make a port wider than the least one, whatever the width of a row
_WIDE_ARRAY = Array(_WIDE, _WIDE)


def weight_width(accelerator: Accelerator, bits: float, lanes: int | None = None) -> float:
    """Bits of the weight port for one row."""
    return accelerator.weight_port_bits(bits, _WIDE_ARRAY, lanes) / _WIDE


def input_width(accelerator: Accelerator, bits: float = WIDE_BITS, lanes: int | None = None) -> float:
    """Bits of the activation port for one column."""
    return accelerator.input_port_bits(_WIDE_ARRAY, bits, lanes) / _WIDE


def port_bits(width: float, size: int) -> float:
    """Bits of a port for ``size`` rows or columns: at least a word."""
    return max(width * size, float(WORD_BITS))


def forms_of(spec: LayerSpec, config: Config, machine: Machine) -> tuple[Form, ...]:
    """The forms of a layer: none if it costs nothing, three with a low-rank branch.

    Args:
        spec: the layer.
        config: its encoding.
        machine: accelerator, options and statistics; of the array only whether it has one column.

    Raises:
        NotImplementedError: the accelerator cannot run a format; the reason alone.
    """
    options = machine.options
    if spec.kind in ATTENTION_KINDS:
        return (_attention(spec, config, machine),)
    if spec.kind in GEMM_KINDS:
        return tuple(with_low_rank(_linear, spec, config, machine))
    if spec.kind is LayerKind.EMBEDDING:
        return (_embedding(spec, config, machine.accelerator),) if options.embedding else ()
    return (_vector(spec, machine),) if options.vector_unit else ()


def _embedding(spec: LayerSpec, config: Config, accelerator: Accelerator) -> Form:
    read = math.ceil(storage_bits((spec.k, spec.n), config) / spec.k) * spec.m * spec.copies
    written = spec.m * spec.copies * spec.n * WIDE_BITS
    return Form(
        FormKind.ROWS, spec.m, spec.n, spec.copies, weight=Stream(read, 0, 0), output=Stream(written, 0, 0),
        input_width=input_width(accelerator),
    )  # fmt: skip


def _vector(spec: LayerSpec, machine: Machine) -> Form:
    elements = vector_elements(spec, machine.options)
    return Form(
        FormKind.VECTOR, spec.m, spec.n, spec.copies, vector=elements * VECTOR_OPERATIONS[spec.kind],
        port_bits=elements * WIDE_BITS, input_width=input_width(machine.accelerator),
    )  # fmt: skip


def _linear(spec: LayerSpec, config: Config, machine: Machine, *, encode_input: bool = True) -> Form:
    """As ``hwmodel.operands._linear``."""
    accelerator, options = machine.accelerator, machine.options
    pe = accelerator.pe
    slabs = slabs_of(spec, config, machine)
    activation, output = (None, None) if isinstance(config, OperandBits) else (config.activation, config.output)
    on_array = [(slab, slab.path) for slab in slabs if slab.path is not None]
    off_array = sum(slab.columns for slab in slabs if slab.path is None) * spec.m * spec.n * spec.copies
    input_bits = max((path.input_bits for _, path in on_array), default=float(WIDE_BITS))
    weight, metadata_bits = weight_stream(spec, config, slabs, options)
    cycles = [slab_cycles(slab, machine) for slab, _ in on_array]
    form = Form(
        FormKind.MATRIX,
        spec.m,
        spec.n,
        spec.copies,
        passes=copies_in_turn(spec, options),
        macs=spec.macs,
        steps=sum(ceil_div(slab.columns, path.lanes or pe.lanes) for slab, path in on_array),
        cycles=sum(cycles),
        energy_cycles=sum(c * path.energy for c, (_, path) in zip(cycles, on_array, strict=True)),
        off_array=off_array,
        weight=weight,
        input=activation_stream(
            activation,
            (spec.m, spec.row_inputs),
            spec.copies,
            options.exact_storage,
            input_bits if pe.encoded_activations and on_array else WIDE_BITS,
        ),
        output=activation_stream(output, (spec.m, spec.row_outputs), spec.copies, options.exact_storage),
        weight_width=max(
            (weight_width(accelerator, path.sram_bits, path.lanes) for _, path in on_array),
            default=weight_width(accelerator, WIDE_BITS),
        ),
        input_width=input_width(
            accelerator, input_bits, max((path.lanes or pe.lanes for _, path in on_array), default=pe.lanes)
        ),
        vector=off_array,
        **_tiles(spec, machine),
    )
    if isinstance(config, OperandBits):
        return form
    return _with_side_work(form, spec, config, slabs, machine, metadata_bits, encode_input)


def _with_side_work(
    form: Form,
    spec: LayerSpec,
    config: LayerConfig,
    slabs: list[Slab],
    machine: Machine,
    metadata_bits: int,
    encode_input: bool,
) -> Form:
    """What the options add to a product with a weight; as ``hwmodel.operands._extra``."""
    accelerator, options = machine.accelerator, machine.options
    vector = form.vector
    if options.vector_unit:
        encoded = config if encode_input else replace(config, activation=None)
        vector += side_operations(spec, encoded, slabs, accelerator, options) * spec.copies
    on_array = any(slab.on_array for slab in slabs)
    switches = 0.0
    if options.width_switches and isinstance(config.weight, PartitionedConfig):
        switches = switch_cycles(config.weight, spec.k, widest_step(slabs, accelerator))
    return replace(
        form,
        vector=vector,
        load=load_operations(spec, slabs) if options.load_decode else 0,
        gathers=gathered_activations(spec, config, slabs) * spec.copies if options.outlier_gather else 0,
        metadata_bits=metadata_bits if options.metadata_reads else 0,
        group_waits=group_waits(config.activation, accelerator.pe, options) if on_array else 0,
        switch_waits=switches,
        tables=tuple(table for slab in slabs for table in _tables(spec, slab, options)),
    )


def _tables(spec: LayerSpec, slab: Slab, options: ModelOptions) -> tuple[Table, ...]:
    """Tables of a slab; where they are not priced, only the room that they take."""
    tables = tables_of(spec, slab)
    if options.table_lookup:
        return tables
    return tuple(Table(room_bytes=table.room_bytes) for table in tables if table.room_bytes)


def _attention(spec: LayerSpec, config: Config, machine: Machine) -> Form:
    """As ``hwmodel.attention_product.attention_product``."""
    accelerator = machine.accelerator
    made = attention_operands(spec, config, machine)
    path = made.path
    heads, _, offset = causal_positions(made.keys, spec.m, spec.past) if made.causal else (1, 0, 0)
    scores = spec.kind is LayerKind.ATTENTION_QK
    kind = FormKind.STEPS
    if path is None:
        kind = FormKind.OFF_ARRAY
    elif made.causal:
        kind = FormKind.CAUSAL_QK if scores else FormKind.CAUSAL_PV
    return Form(
        kind,
        spec.m,
        spec.n,
        spec.copies,
        passes=copies_in_turn(spec, machine.options),
        macs=made.macs,
        steps=ceil_div(made.width if made.causal and scores else spec.k, made.lanes),
        cycles=0.0 if path is None else path.cycles,
        energy_cycles=0.0 if path is None else path.cycles * path.energy,
        group_waits=made.group_waits,
        off_array=made.macs if path is None else 0,
        weight=made.cache,
        input=made.input,
        output=made.output,
        weight_width=weight_width(accelerator, made.sram_bits, made.lanes),
        input_width=input_width(accelerator, made.input_bits, made.lanes),
        vector=made.vector_operations,
        load=made.load_operations,
        keys=made.keys,
        heads=heads,
        offset=offset,
        lanes=made.lanes,
        **_tiles(spec, machine, causal=made.causal),
    )


def _tiles(spec: LayerSpec, machine: Machine, *, causal: bool = False) -> dict[str, Any]:
    """What a tile schedule asks of a form; as ``hwmodel.tile_plan.shape_of``."""
    lanes = machine.accelerator.pe.lanes
    mask = DENSE
    if causal:
        mask = CAUSAL_SCORES if spec.kind is LayerKind.ATTENTION_QK else CAUSAL_VALUES
    turns = 1 if spec.shared_weight else spec.copies
    return {"turns": turns, "mask": mask, "tile_steps": ceil_div(spec.k, lanes), "tile_lanes": lanes}
