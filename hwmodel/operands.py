"""From a layer and its config to products: what moves, how the PE takes it, and what is left to the vector unit.

Simple, stated models of what stands beside the dense codes (what they cost: ``hwmodel.side_work``):
    * arrays that multiply FP16 activations decode encoded ones on the way in, so that an activation config saves DRAM
      traffic alone. Arrays that multiply integers or block-scaled vectors need one, and keep the codes in the buffer.
      Query and softmax output are encoded where the attention layer's config has an ``activation`` (HPCA 2025, section
      IV, leaves them FP16); where it has none, such an array leaves attention to the vector unit.
    * a low-rank branch is two more products; what lies between them stays on chip. Unless ``fused``, the first reads
      the input again and the second reads and writes the output again. On arrays that need encoded activations, what
      lies between takes the layer's activation format.
    * outliers move with the weight and are multiplied on the vector unit.
    * a residual codebook goes through the array after the first codes; decoded weights are summed on the way in.
    * a convolution is the product of its unfolded input, which is counted unfolded.
    * 2:4 sparsity saves traffic only: no PE here skips zero weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar

from datatypes.layer_config import LayerConfig, PartitionedConfig
from hwmodel.accelerator import Accelerator, Array
from hwmodel.attention_product import attention_product
from hwmodel.channel_groups import group_waits
from hwmodel.operand_paths import Machine, slab_cycles, slabs_of
from hwmodel.operand_streams import FP16_LAYER as FP16_LAYER
from hwmodel.operand_streams import Config, OperandBits, activation_stream, weight_stream
from hwmodel.options import ModelOptions
from hwmodel.pe import WIDE_BITS
from hwmodel.side_work import (
    Slab,
    gathered_activations,
    load_operations,
    metadata_pj,
    side_operations,
    switch_cycles,
    widest_step,
)
from hwmodel.table_work import TableWork, table_work
from hwmodel.term_skipping import CountedBits
from hwmodel.traffic import NOTHING, Product, Stream, tile_count
from hwmodel.units import WORD_BITS, ceil_div
from hwmodel.workload import LayerKind, LayerSpec


class _Operands(Protocol):
    """A dataclass with the streams of a product."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def input(self) -> Stream: ...

    @property
    def output(self) -> Stream: ...


Moved = TypeVar("Moved", bound=_Operands)


def products_of(
    spec: LayerSpec,
    config: Config,
    accelerator: Accelerator,
    array: Array,
    options: ModelOptions,
    stats: CountedBits | None = None,
) -> Iterator[Product]:
    """The products of a layer: itself, and two more for a low-rank branch.

    Args:
        spec: a layer of a GEMM kind.
        config: its encoding.
        accelerator: what it runs on.
        array: the PEs as laid out for the phase.
        options: which effects count.
        stats: bits of the layer's weights, for PEs that skip terms; ``None`` for fair coins.

    Raises:
        NotImplementedError: the accelerator cannot run a format; the message is the reason alone.
    """
    machine = Machine(accelerator, array, options, stats)
    if spec.kind in (LayerKind.ATTENTION_QK, LayerKind.ATTENTION_PV):
        yield attention_product(spec, config, machine)
        return
    yield from with_low_rank(_linear, spec, config, machine)


def with_low_rank(linear: Callable[..., Moved], spec: LayerSpec, config: Config, machine: Machine) -> Iterator[Moved]:
    """The product of a layer with its weight, and the two of its low-rank branch if it has one.

    Args:
        linear: called as ``_linear``, makes a product, or what stands for one before the array is known
            (``hwmodel.batch_forms``).
    """
    main = linear(spec, config, machine)
    yield main
    if isinstance(config, OperandBits) or config.low_rank is None:
        return
    branch = config.low_rank
    rank = min(branch.rank, spec.n, spec.k)
    down = replace(spec, n=rank, head=False, absorbed=0)
    up = replace(spec, k=rank, head=False, absorbed=0)
    encoded = config.activation if machine.accelerator.pe.encoded_activations else None
    machine = replace(machine, stats=None)
    first = linear(down, LayerConfig(weight=branch.a, activation=encoded), machine, encode_input=False)
    second = linear(up, LayerConfig(weight=branch.b, activation=encoded), machine)
    yield replace(first, input=NOTHING if branch.fused else main.input, output=replace(first.output, dram_bits=0))
    rewritten = NOTHING if branch.fused else replace(main.output, dram_bits=2 * main.output.dram_bits)
    yield replace(second, input=NOTHING, output=rewritten)


def _linear(spec: LayerSpec, config: Config, machine: Machine, *, encode_input: bool = True) -> Product:
    """The product of a layer with a weight.

    ``encode_input`` counts the encoding of the input as this layer's; a low-rank branch shares it.
    """
    accelerator, array, options = machine.accelerator, machine.array, machine.options
    slabs = slabs_of(spec, config, machine)
    activation, output = (None, None) if isinstance(config, OperandBits) else (config.activation, config.output)
    on_array = [(slab, slab.path) for slab in slabs if slab.path is not None]
    pe = accelerator.pe
    off_array = sum(slab.columns for slab in slabs if slab.path is None)
    tiles = tile_count(spec.n, spec.m, array) * spec.copies
    port = max(
        (accelerator.weight_port_bits(path.sram_bits, array, path.lanes) for _, path in on_array),
        default=accelerator.weight_port_bits(WIDE_BITS, array),
    )
    input_bits = max((path.input_bits for _, path in on_array), default=float(WIDE_BITS))
    lanes = max((path.lanes or pe.lanes for _, path in on_array), default=pe.lanes)
    steps = sum(ceil_div(slab.columns, path.lanes or pe.lanes) for slab, path in on_array) * tiles
    vector = spec.m * spec.n * off_array * spec.copies
    steps += math.ceil(vector * WIDE_BITS / port)  # the vector unit reads its weights through the same port
    weight, metadata_bits = weight_stream(spec, config, slabs, options)
    cycles = [slab_cycles(slab, machine) for slab, _ in on_array]
    compute = sum(cycles) * tiles
    weighted = sum(c * path.energy for c, (_, path) in zip(cycles, on_array, strict=True)) * tiles
    extra = _Extra()
    if not isinstance(config, OperandBits):
        extra = _extra(spec, config, slabs, machine, tiles)
        if options.vector_unit:
            encoded = config if encode_input else replace(config, activation=None)
            vector += side_operations(spec, encoded, slabs, accelerator, options) * spec.copies
        if options.metadata_reads and metadata_bits:
            passes = ceil_div(spec.m, array.columns) * spec.copies
            extra.read_pj += metadata_pj(metadata_bits, passes, port, accelerator)
    total = max(math.ceil(compute + extra.wait_cycles), extra.lookup_cycles)
    encoded_inputs = pe.encoded_activations and bool(on_array)
    return Product(
        macs=spec.macs,
        tile_steps=steps,
        compute_cycles=total,
        weight=weight,
        input=activation_stream(
            activation,
            (spec.m, spec.row_inputs),
            spec.copies,
            options.exact_storage,
            input_bits if encoded_inputs else WIDE_BITS,
        ),
        output=activation_stream(output, (spec.m, spec.row_outputs), spec.copies, options.exact_storage),
        weight_port_bits=port,
        input_port_bits=accelerator.input_port_bits(array, input_bits, lanes),
        busy=spec.m / (ceil_div(spec.m, array.columns) * array.columns),
        vector_operations=vector,
        energy_cycles=None if weighted == total else float(weighted),
        load_operations=extra.load_operations,
        side_read_pj=extra.read_pj,
    )


@dataclass
class _Extra:
    """Waits and reads beside the steps of one product, all copies together."""

    wait_cycles: float = 0.0
    lookup_cycles: int = 0
    load_operations: int = 0
    read_pj: float = 0.0


def _extra(spec: LayerSpec, config: LayerConfig, slabs: list[Slab], machine: Machine, tiles: int) -> _Extra:
    """What the options add to a product with a weight."""
    accelerator, options = machine.accelerator, machine.options
    extra = _Extra()
    if any(slab.on_array for slab in slabs):
        extra.wait_cycles += group_waits(config.activation, accelerator.pe, options) * tiles
    if options.width_switches and isinstance(config.weight, PartitionedConfig):
        extra.wait_cycles += switch_cycles(config.weight, spec.k, widest_step(slabs, accelerator)) * tiles
    for slab in slabs:
        work = table_work(spec, slab, accelerator, machine.array)  # refuses tables that fit nowhere
        if options.table_lookup and work != TableWork():
            extra.wait_cycles += work.load_cycles * spec.copies
            extra.lookup_cycles += work.lookup_cycles * spec.copies
            extra.read_pj += work.read_pj * spec.copies
    if options.load_decode:
        extra.load_operations = load_operations(spec, slabs)
    if options.outlier_gather and config.outliers is not None:
        word_pj = accelerator.activation_buffer.at(WORD_BITS).read_pj
        extra.read_pj += gathered_activations(spec, config, slabs) * word_pj * spec.copies
    return extra
