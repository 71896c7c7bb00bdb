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
from collections.abc import Iterator
from dataclasses import dataclass, replace

from datatypes.catalog import FP16
from datatypes.layer_config import FP16_WEIGHT, LayerConfig, PartitionedConfig, TensorConfig
from hwmodel.accelerator import Accelerator, Array
from hwmodel.array_path import array_path, bare_path
from hwmodel.options import Fallback, ModelOptions
from hwmodel.pe import WIDE_BITS, ArrayPath, PeKind, integer_bits, scale_cycles, wide_float
from hwmodel.side_work import (
    Slab,
    TableWork,
    gather_pj,
    metadata_pj,
    side_operations,
    switch_cycles,
    table_work,
    widest_step,
)
from hwmodel.term_skipping import CountedBits
from hwmodel.traffic import NOTHING, Product, Stream, causal_share, causal_tile_steps, stream, tile_count
from hwmodel.units import BYTE_BITS, WORD_BITS, ceil_div
from hwmodel.workload import LayerKind, LayerSpec


@dataclass(frozen=True)
class OperandBits:
    """Bit widths alone, fractions allowed: for figures that name no format (published averages).

    Args:
        weight: bits of a weight, metadata included; its whole part sets the cycles.
        kv: bits of a key or value.
        activation: bits of an activation, on arrays that multiply encoded ones.
    """

    weight: float = 16.0
    kv: float = 16.0
    activation: float = 16.0

    def __post_init__(self) -> None:
        if not (1 <= self.weight <= 32 and 1 <= self.kv <= 32):
            raise ValueError(f"weight and kv bits must be 1 to 32, not {self.weight!r} and {self.kv!r}")
        if not 1 <= self.activation <= 32:
            raise ValueError(f"activation bits must be 1 to 32, not {self.activation!r}")


Config = LayerConfig | OperandBits
FP16_LAYER = LayerConfig()


@dataclass(frozen=True)
class _Machine:
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
    machine = _Machine(accelerator, array, options, stats)
    if spec.kind in (LayerKind.ATTENTION_QK, LayerKind.ATTENTION_PV):
        yield _attention(spec, config, machine)
        return
    main = _linear(spec, config, machine)
    yield main
    if isinstance(config, OperandBits) or config.low_rank is None:
        return
    branch = config.low_rank
    rank = min(branch.rank, spec.n, spec.k)
    down = replace(spec, n=rank, head=False)
    up = replace(spec, k=rank, head=False)
    encoded = config.activation if accelerator.pe.encoded_activations else None
    machine = replace(machine, stats=None)
    first = _linear(down, LayerConfig(weight=branch.a, activation=encoded), machine, encode_input=False)
    second = _linear(up, LayerConfig(weight=branch.b, activation=encoded), machine)
    yield replace(first, input=NOTHING if branch.fused else main.input, output=replace(first.output, dram_bits=0))
    rewritten = NOTHING if branch.fused else replace(main.output, dram_bits=2 * main.output.dram_bits)
    yield replace(second, input=NOTHING, output=rewritten)


def _path(config: TensorConfig, activation: TensorConfig | None, machine: _Machine) -> ArrayPath | None:
    """How a tensor goes through the array; ``None`` for the vector unit. A residual goes through after its tensor."""
    pe, options = machine.accelerator.pe, machine.options
    formats = None if activation is None else activation.formats
    one_column = machine.array.columns == 1
    try:
        path = array_path(config.formats, pe, formats, one_column=one_column, stats=machine.stats)
        if config.residual is None or path.decoded:
            return path
        rest = array_path(config.residual.formats, pe, formats, one_column=one_column)
        lanes, rest_lanes = path.lanes or pe.lanes, rest.lanes or pe.lanes
        return replace(path, cycles=path.cycles + rest.cycles * lanes / rest_lanes if lanes != rest_lanes
                       else path.cycles + rest.cycles)  # fmt: skip
    except NotImplementedError:
        wide = wide_float(config.formats)
        integers = pe.encoded_activations and all(integer_bits(fmt) is not None for fmt in config.formats)
        if options.fallback is Fallback.ARRAY and (wide or (integers and activation is None)):
            return bare_path(config.code_bits, WIDE_BITS, pe, one_column=one_column)
        if wide and options.fallback is Fallback.VECTOR_UNIT:
            return None
        raise


def _bare_path(bits: float, activation_bits: float, sram_bits: float, machine: _Machine) -> ArrayPath:
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


def _slabs(spec: LayerSpec, config: LayerConfig, machine: _Machine) -> list[Slab]:
    """The input columns by encoding."""
    weight = FP16_WEIGHT if config.weight is None else config.weight
    if isinstance(weight, PartitionedConfig):
        if weight.columns != spec.k:
            raise ValueError(f"columns of the parts of layer {spec.name} must sum to {spec.k}, not {weight.columns}")
        parts = [(part.columns, part.config) for part in weight.parts if part.columns]
    else:
        parts = [(spec.k, weight)]
    slabs = []
    for columns, part in parts:
        path = _path(part, config.activation, machine)
        if path is not None and machine.accelerator.pe.kind is PeKind.BLOCK_DOT:
            blocks = [t.granularity.tile((1, columns))[1] for t in (part, config.activation)
                      if t is not None and t.scale is not None]  # fmt: skip
            path = replace(path, lanes=min([path.lanes or machine.accelerator.pe.lanes, *blocks]))
        slabs.append(Slab(columns, part, path))
    return slabs


def _step_cycles(slab: Slab, machine: _Machine) -> float:
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


def _published_bits(config: TensorConfig, columns: int) -> float:
    """Bits of an element as the published model counts them: code and group scale, nothing else."""
    group = config.granularity.tile((1, columns))[1]
    if config.scale is None or config.dynamic or group >= columns:
        return config.code_bits
    return config.code_bits + config.scale.format.bits / group


def _weight_stream(spec: LayerSpec, config: Config, slabs: list[Slab], options: ModelOptions) -> tuple[Stream, int]:
    """The weight on its way from DRAM to the weight buffer, and how many bits of one copy there are metadata."""
    copies = 1 if spec.shared_weight else spec.copies
    metadata = 0
    if isinstance(config, OperandBits):
        return stream(spec.n, spec.k, config.weight, copies), metadata
    if options.exact_storage:
        bits = config.storage_bits((spec.n, spec.k))
        encoded = _exact(bits.total - bits.low_rank, copies)
        metadata = bits.scales + bits.outer_scales + bits.zero_points + bits.selectors + bits.masks
    else:
        parts = [
            stream(spec.n, slab.columns, _published_bits(slab.config, slab.columns), copies)
            for slab in slabs
            if slab.config is not None
        ]
        encoded = Stream(*(sum(getattr(p, f) for p in parts) for f in ("dram_bits", "buffer_words", "buffer_bytes")))
    if all(slab.path is None or slab.path.decoded for slab in slabs):
        wide = stream(spec.n, spec.k, WIDE_BITS, copies)
        return replace(wide, dram_bits=encoded.dram_bits), 0
    return encoded, metadata


def _exact(bits: int, copies: int) -> Stream:
    """A tensor of that many stored bits, packed without gaps."""
    return Stream(bits * copies, ceil_div(bits, WORD_BITS) * copies, ceil_div(bits, BYTE_BITS) * copies)


def _activation_stream(
    config: TensorConfig | None, shape: tuple[int, int], copies: int, exact: bool, buffer_bits: float = WIDE_BITS
) -> Stream:
    """An activation, encoded in DRAM and ``buffer_bits`` wide in the buffer."""
    wide = stream(*shape, buffer_bits if config is not None else WIDE_BITS, copies)
    if config is None:
        return wide
    bits = config.traffic_bits(shape) if exact else math.ceil(shape[0] * shape[1] * config.code_bits)
    return replace(wide, dram_bits=bits * copies)


def _linear(spec: LayerSpec, config: Config, machine: _Machine, *, encode_input: bool = True) -> Product:
    """The product of a layer with a weight.

    ``encode_input`` counts the encoding of the input as this layer's; a low-rank branch shares it.
    """
    accelerator, array, options = machine.accelerator, machine.array, machine.options
    if isinstance(config, OperandBits):
        slabs = [Slab(spec.k, None, _bare_path(config.weight, config.activation, config.weight, machine))]
        activation = output = None
    else:
        slabs = _slabs(spec, config, machine)
        activation, output = config.activation, config.output
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
    weight_stream, metadata_bits = _weight_stream(spec, config, slabs, options)
    cycles = [_step_cycles(slab, machine) for slab, _ in on_array]
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
        weight=weight_stream,
        input=_activation_stream(
            activation,
            (spec.m, spec.k),
            spec.copies,
            options.exact_storage,
            input_bits if encoded_inputs else WIDE_BITS,
        ),
        output=_activation_stream(output, (spec.m, spec.n), spec.copies, options.exact_storage),
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


def _extra(spec: LayerSpec, config: LayerConfig, slabs: list[Slab], machine: _Machine, tiles: int) -> _Extra:
    """What the options add to a product with a weight."""
    accelerator, options = machine.accelerator, machine.options
    extra = _Extra()
    if options.requantization_bubbles and any(slab.on_array for slab in slabs):
        extra.wait_cycles += (accelerator.pe.channel_groups - 1) * tiles
    if options.width_switches and isinstance(config.weight, PartitionedConfig):
        extra.wait_cycles += switch_cycles(config.weight, spec.k, widest_step(slabs, accelerator)) * tiles
    for slab in slabs:
        work = table_work(spec, slab, accelerator, machine.array)  # refuses tables that fit nowhere
        if options.table_lookup and work != TableWork():
            extra.wait_cycles += work.load_cycles * spec.copies
            extra.lookup_cycles += work.lookup_cycles * spec.copies
            extra.read_pj += work.read_pj * spec.copies
        if options.load_decode and slab.decoded and slab.config is not None and not wide_float(slab.config.formats):
            extra.load_operations += spec.n * slab.columns * (1 if spec.shared_weight else spec.copies)
    if options.outlier_gather:
        extra.read_pj += gather_pj(spec, config, slabs, accelerator) * spec.copies
    return extra


def _attention(spec: LayerSpec, config: Config, machine: _Machine) -> Product:
    """One of the two attention products; keys or values stand where the weight stands."""
    accelerator, array, options = machine.accelerator, machine.array, machine.options
    pe = accelerator.pe
    scores = spec.kind is LayerKind.ATTENTION_QK
    keys, width = (spec.n, spec.k) if scores else (spec.k, spec.n)
    copies = spec.copies
    tensor: TensorConfig | None = None
    activation: TensorConfig | None = None
    if isinstance(config, OperandBits):
        path: ArrayPath | None = _bare_path(config.kv, config.activation, config.weight, machine)
        cache = stream(spec.n, spec.k, config.kv, copies)
    else:
        tensor = (config.key if scores else config.value) or TensorConfig((FP16,), scale=None)
        activation = config.activation if pe.encoded_activations else None
        vector_unit = pe.encoded_activations and activation is None and options.fallback is Fallback.VECTOR_UNIT
        path = None if vector_unit else _path(tensor, activation, replace(machine, stats=None))
        if options.exact_storage:
            cache = _exact(tensor.traffic_bits((keys, width)), copies)
        else:
            cache = stream(spec.n, spec.k, tensor.code_bits, copies)
        if path is None or path.decoded:
            cache = replace(stream(spec.n, spec.k, WIDE_BITS, copies), dram_bits=cache.dram_bits)
    lanes = pe.lanes if path is None else path.lanes or pe.lanes
    input_bits = float(WIDE_BITS) if path is None else path.input_bits
    share = causal_share(keys, spec.m) if spec.causal and options.causal_mask else 1.0
    if spec.causal and options.causal_mask:
        steps = causal_tile_steps(keys, spec.m, array, width=width, lanes=lanes, reduced=not scores) * copies
    else:
        steps = ceil_div(spec.k, lanes) * tile_count(spec.n, spec.m, array) * copies
    port = accelerator.weight_port_bits(WIDE_BITS if path is None else path.sram_bits, array, lanes)
    macs = round(spec.macs * share)
    inputs, outputs = stream(spec.m, spec.k, WIDE_BITS, copies), stream(spec.m, spec.n, WIDE_BITS, copies)
    if scores:
        outputs = _score_stream(outputs, share, options.fused_attention)
    else:
        inputs = NOTHING if options.fused_attention else _score_stream(inputs, share, False)
    compute = 0.0 if path is None else steps * path.cycles
    waits, load_operations = 0, 0
    vector = macs if path is None else 0
    if path is None:
        steps = math.ceil(macs * WIDE_BITS / port)
    if tensor is not None and tensor.scale is not None:
        vector, load_operations = _attention_side(spec, tensor, activation, path, machine, share, vector)
    if path is not None and options.requantization_bubbles and activation is not None:
        waits = (pe.channel_groups - 1) * tile_count(spec.n, spec.m, array) * copies
    return Product(
        macs=macs,
        tile_steps=steps,
        compute_cycles=math.ceil(compute) + waits,
        weight=cache,
        input=inputs,
        output=outputs,
        weight_port_bits=port,
        input_port_bits=accelerator.input_port_bits(array, input_bits, lanes),
        busy=spec.m / (ceil_div(spec.m, array.columns) * array.columns),
        vector_operations=vector,
        energy_cycles=None if path is None or (path.energy == 1.0 and not waits) else compute * path.energy,
        load_operations=load_operations,
    )


def _attention_side(
    spec: LayerSpec,
    tensor: TensorConfig,
    activation: TensorConfig | None,
    path: ArrayPath | None,
    machine: _Machine,
    share: float,
    vector: int,
) -> tuple[int, int]:
    """Vector operations of an attention product with an encoded cache, ``vector`` of the product itself included, and
    decodings on load."""
    options, copies = machine.options, spec.copies
    keys, width = (spec.n, spec.k) if spec.kind is LayerKind.ATTENTION_QK else (spec.k, spec.n)
    elements = keys * width * copies
    decoded = elements if options.load_decode and path is not None and path.decoded else 0
    if not options.vector_unit:
        return vector, decoded
    if path is None:
        vector += elements  # decoded once on the vector unit
    elif not path.decoded:
        groups = ceil_div(width, tensor.granularity.tile((1, width))[1])
        vector += round(spec.m * keys * groups * copies * share)  # a scale belongs to a token: one for each score
    if activation is not None:
        vector += spec.m * spec.k * copies  # encode the query or the softmax output
    if options.dynamic_quantization and tensor.dynamic:
        written = keys if spec.m >= keys else 1  # a decode step writes one token, a prompt all of them
        vector += 2 * written * width * copies  # the largest magnitude, and the scaling
    return vector, decoded


def _score_stream(scores: Stream, share: float, on_chip: bool) -> Stream:
    """Attention scores: their wanted share, and no DRAM traffic if they stay on chip."""
    words = math.ceil(scores.buffer_words * share)
    return Stream(0 if on_chip else math.ceil(scores.dram_bits * share), words, math.ceil(scores.buffer_bytes * share))
