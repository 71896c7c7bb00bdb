"""From a layer and its config to products: what moves, how the PE takes it, and what is left to the vector unit.

Simple, stated models of what stands beside the dense codes:
    * activations stay FP16 in the array (every PE here multiplies FP16 activations); an activation config saves DRAM
      traffic and is decoded on the way in. Query and softmax output are not encoded (HPCA 2025, section IV).
    * a low-rank branch is two more products; what lies between them stays on chip. Unless ``fused``, the first reads
      the input again and the second reads and writes the output again.
    * outliers move with the weight and are multiplied on the vector unit, one multiply-add each (a whole column: one
      for each output); an array that decodes weights to FP16 puts them in place at no cost.
    * group scales are free in a bit-serial PE (``dequantization_stalls`` apart), free where weights are decoded on
      load, and one vector operation for each output and group elsewhere. A zero point adds the group sums of the
      activations and one operation for each output and group.
    * a residual codebook goes through the array after the first codes; decoded weights are summed on the way in.
    * a convolution is the product of its unfolded input, which is counted unfolded.
    * 2:4 sparsity saves traffic only: no PE here skips zeros.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from datatypes.catalog import FP16
from datatypes.layer_config import FP16_WEIGHT, LayerConfig, OutlierLayout, PartitionedConfig, TensorConfig
from hwmodel.accelerator import Accelerator, Array
from hwmodel.options import Fallback, ModelOptions
from hwmodel.pe import WIDE_BITS, ArrayPath, PeKind, array_path, cycles_of_bits, scale_cycles, wide_float
from hwmodel.traffic import NOTHING, Product, Stream, causal_share, causal_tile_steps, stream, tile_count
from hwmodel.units import BYTE_BITS, WORD_BITS, ceil_div
from hwmodel.workload import LayerKind, LayerSpec

NORM_OPERATIONS = 5  # per element: square-accumulate, sum, subtract mean, times 1/sigma, times gain (LayerNorm)


@dataclass(frozen=True)
class OperandBits:
    """Bit widths alone, fractions allowed: for figures that name no format (published averages).

    Args:
        weight: bits of a weight, metadata included; its whole part sets the cycles.
        kv: bits of a key or value.
    """

    weight: float = 16.0
    kv: float = 16.0

    def __post_init__(self) -> None:
        if not (1 <= self.weight <= 32 and 1 <= self.kv <= 32):
            raise ValueError(f"weight and kv bits must be 1 to 32, not {self.weight!r} and {self.kv!r}")


Config = LayerConfig | OperandBits
FP16_LAYER = LayerConfig()


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


def products_of(
    spec: LayerSpec, config: Config, accelerator: Accelerator, array: Array, options: ModelOptions
) -> Iterator[Product]:
    """The products of a layer: itself, and two more for a low-rank branch.

    Args:
        spec: a layer of a GEMM kind.
        config: its encoding.
        accelerator: what it runs on.
        array: the PEs as laid out for the phase.
        options: which effects count.

    Raises:
        NotImplementedError: the accelerator cannot run a format; the message is the reason alone.
    """
    if spec.kind in (LayerKind.ATTENTION_QK, LayerKind.ATTENTION_PV):
        yield _attention(spec, config, accelerator, array, options)
        return
    main = _linear(spec, config, accelerator, array, options)
    yield main
    if isinstance(config, OperandBits) or config.low_rank is None:
        return
    branch = config.low_rank
    rank = min(branch.rank, spec.n, spec.k)
    down = replace(spec, n=rank, head=False)
    up = replace(spec, k=rank, head=False)
    first = _linear(down, LayerConfig(weight=branch.a), accelerator, array, options)
    second = _linear(up, LayerConfig(weight=branch.b), accelerator, array, options)
    yield replace(first, input=NOTHING if branch.fused else main.input, output=replace(first.output, dram_bits=0))
    rewritten = NOTHING if branch.fused else replace(main.output, dram_bits=2 * main.output.dram_bits)
    yield replace(second, input=NOTHING, output=rewritten)


def _path(config: TensorConfig, accelerator: Accelerator, options: ModelOptions) -> ArrayPath | None:
    """How a tensor goes through the array; ``None`` for the vector unit. A residual goes through after its tensor."""
    try:
        path = array_path(config.formats, accelerator.pe)
        if config.residual is None or path.decoded:
            return path
        return replace(path, cycles=path.cycles + array_path(config.residual.formats, accelerator.pe).cycles)
    except NotImplementedError:
        if not wide_float(config.formats) or options.fallback is Fallback.ERROR:
            raise
        if options.fallback is Fallback.VECTOR_UNIT:
            return None
        return ArrayPath(cycles_of_bits(config.code_bits, accelerator.pe), config.code_bits)


def _bare_path(bits: float, sram_bits: float, accelerator: Accelerator, options: ModelOptions) -> ArrayPath:
    """How operands of a bare bit width go through the array."""
    limit = accelerator.pe.max_integer_bits
    if options.fallback is not Fallback.ARRAY and accelerator.pe.kind is not PeKind.FP16_MAC and int(bits) > limit:
        raise NotImplementedError(f"its PEs take integers of up to {limit} bits")
    return ArrayPath(cycles_of_bits(bits, accelerator.pe), sram_bits)


def _slabs(spec: LayerSpec, config: LayerConfig, accelerator: Accelerator, options: ModelOptions) -> list[Slab]:
    """The input columns by encoding."""
    weight = FP16_WEIGHT if config.weight is None else config.weight
    if isinstance(weight, PartitionedConfig):
        if weight.columns != spec.k:
            raise ValueError(f"columns of the parts of layer {spec.name} must sum to {spec.k}, not {weight.columns}")
        parts = [(part.columns, part.config) for part in weight.parts if part.columns]
    else:
        parts = [(spec.k, weight)]
    return [Slab(columns, part, _path(part, accelerator, options)) for columns, part in parts]


def _step_cycles(slab: Slab, accelerator: Accelerator, options: ModelOptions) -> int:
    """Array cycles to reduce over the columns of a slab in one tile, waits for scales included."""
    assert slab.path is not None
    lanes = accelerator.pe.lanes
    config = slab.config
    if not (accelerator.pe.bit_serial and options.dequantization_stalls) or config is None or config.scale is None:
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


def _weight_stream(spec: LayerSpec, config: Config, slabs: list[Slab], options: ModelOptions) -> Stream:
    """The weight on its way from DRAM to the weight buffer."""
    copies = 1 if spec.shared_weight else spec.copies
    if isinstance(config, OperandBits):
        return stream(spec.n, spec.k, config.weight, copies)
    if options.exact_storage:
        bits = config.storage_bits((spec.n, spec.k))
        encoded = _exact(bits.total - bits.low_rank, copies)
    else:
        parts = [
            stream(spec.n, slab.columns, _published_bits(slab.config, slab.columns), copies)
            for slab in slabs
            if slab.config is not None
        ]
        encoded = Stream(*(sum(getattr(p, f) for p in parts) for f in ("dram_bits", "buffer_words", "buffer_bytes")))
    if all(slab.path is None or slab.path.decoded for slab in slabs):
        wide = stream(spec.n, spec.k, WIDE_BITS, copies)
        return replace(wide, dram_bits=encoded.dram_bits)
    return encoded


def _exact(bits: int, copies: int) -> Stream:
    """A tensor of that many stored bits, packed without gaps."""
    return Stream(bits * copies, ceil_div(bits, WORD_BITS) * copies, ceil_div(bits, BYTE_BITS) * copies)


def _activation_stream(config: TensorConfig | None, shape: tuple[int, int], copies: int, exact: bool) -> Stream:
    """An activation, encoded in DRAM and FP16 in the buffer."""
    wide = stream(*shape, WIDE_BITS, copies)
    if config is None:
        return wide
    bits = config.traffic_bits(shape) if exact else math.ceil(shape[0] * shape[1] * config.code_bits)
    return replace(wide, dram_bits=bits * copies)


def _linear(spec: LayerSpec, config: Config, accelerator: Accelerator, array: Array, options: ModelOptions) -> Product:
    """The product of a layer with a weight."""
    lanes = accelerator.pe.lanes
    if isinstance(config, OperandBits):
        path = _bare_path(config.weight, config.weight, accelerator, options)
        slabs = [Slab(spec.k, None, path)]
        activation = output = None
    else:
        slabs = _slabs(spec, config, accelerator, options)
        activation, output = config.activation, config.output
    on_array = [slab for slab in slabs if slab.path is not None]
    off_array = sum(slab.columns for slab in slabs if slab.path is None)
    tiles = tile_count(spec.n, spec.m, array) * spec.copies
    sram_bits = max((slab.path.sram_bits for slab in on_array if slab.path is not None), default=float(WIDE_BITS))
    port = accelerator.weight_port_bits(sram_bits, array)
    steps = sum(ceil_div(slab.columns, lanes) for slab in on_array) * tiles
    vector = spec.m * spec.n * off_array * spec.copies
    steps += math.ceil(vector * WIDE_BITS / port)  # the vector unit reads its weights through the same port
    if options.vector_unit and not isinstance(config, OperandBits):
        vector += _side_operations(spec, config, slabs, accelerator) * spec.copies
    return Product(
        macs=spec.macs,
        tile_steps=steps,
        compute_cycles=sum(_step_cycles(slab, accelerator, options) for slab in on_array) * tiles,
        weight=_weight_stream(spec, config, slabs, options),
        input=_activation_stream(activation, (spec.m, spec.k), spec.copies, options.exact_storage),
        output=_activation_stream(output, (spec.m, spec.n), spec.copies, options.exact_storage),
        weight_port_bits=port,
        input_port_bits=accelerator.input_port_bits(array),
        busy=spec.m / (ceil_div(spec.m, array.columns) * array.columns),
        vector_operations=vector,
    )


def _side_operations(spec: LayerSpec, config: LayerConfig, slabs: list[Slab], accelerator: Accelerator) -> int:
    """Vector operations of one copy that formats ask for beside the product."""
    inputs, outputs = spec.m * spec.k, spec.m * spec.n
    operations = 0
    for slab in slabs:
        tensor = slab.config
        if tensor is None:
            continue
        if slab.path is not None and not slab.path.decoded:
            groups = ceil_div(slab.columns, tensor.granularity.tile((1, slab.columns))[1])
            if tensor.scale is not None:
                if not accelerator.pe.bit_serial:
                    operations += outputs * groups
                if tensor.scale.outer is not None:
                    operations += outputs
            if tensor.zero_point is not None:
                operations += spec.m * slab.columns + outputs * groups
        if tensor.column_scale is not None:
            operations += spec.m * slab.columns
        if tensor.row_scale is not None:
            operations += outputs
        if tensor.hadamard > 1:
            operations += spec.m * slab.columns * (tensor.hadamard.bit_length() - 1)
    decoded = all(slab.path is not None and slab.path.decoded for slab in slabs)
    if config.outliers is not None and not decoded:
        columns = config.outliers.layout is OutlierLayout.COLUMNS
        operations += config.outliers.count((spec.n, spec.k)) * spec.m * (spec.n if columns else 1)
    operations += inputs * (config.permuted + (config.smoothing is not None) + (config.activation is not None))
    if config.output is not None:
        operations += 2 * outputs  # the largest magnitude, and the scaling
    return operations + (NORM_OPERATIONS * outputs if config.output_norm else 0)


def _attention(
    spec: LayerSpec, config: Config, accelerator: Accelerator, array: Array, options: ModelOptions
) -> Product:
    """One of the two attention products; keys or values stand where the weight stands."""
    scores = spec.kind is LayerKind.ATTENTION_QK
    keys, width = (spec.n, spec.k) if scores else (spec.k, spec.n)
    lanes, copies = accelerator.pe.lanes, spec.copies
    tensor: TensorConfig | None = None
    if isinstance(config, OperandBits):
        path: ArrayPath | None = _bare_path(config.kv, config.weight, accelerator, options)
        cache = stream(spec.n, spec.k, config.kv, copies)
    else:
        tensor = (config.key if scores else config.value) or TensorConfig((FP16,), scale=None)
        path = _path(tensor, accelerator, options)
        if options.exact_storage:
            cache = _exact(tensor.traffic_bits((keys, width)), copies)
        else:
            cache = stream(spec.n, spec.k, tensor.code_bits, copies)
        if path is None or path.decoded:
            cache = replace(stream(spec.n, spec.k, WIDE_BITS, copies), dram_bits=cache.dram_bits)
    share = causal_share(keys, spec.m) if spec.causal and options.causal_mask else 1.0
    if spec.causal and options.causal_mask:
        steps = causal_tile_steps(keys, spec.m, array, width=width, lanes=lanes, reduced=not scores) * copies
    else:
        steps = ceil_div(spec.k, lanes) * tile_count(spec.n, spec.m, array) * copies
    port = accelerator.weight_port_bits(WIDE_BITS if path is None else path.sram_bits, array)
    macs = round(spec.macs * share)
    inputs, outputs = stream(spec.m, spec.k, WIDE_BITS, copies), stream(spec.m, spec.n, WIDE_BITS, copies)
    if scores:
        outputs = _score_stream(outputs, share, options.fused_attention)
    else:
        inputs = NOTHING if options.fused_attention else _score_stream(inputs, share, False)
    vector = macs if path is None else 0
    if path is None:
        steps = math.ceil(macs * WIDE_BITS / port)
    elif options.vector_unit and tensor is not None and tensor.scale is not None and not path.decoded:
        groups = ceil_div(width, tensor.granularity.tile((1, width))[1])
        vector += round(spec.m * keys * groups * copies * share)  # a scale belongs to a token: one for each score
    return Product(
        macs=macs,
        tile_steps=steps,
        compute_cycles=0 if path is None else steps * path.cycles,
        weight=cache,
        input=inputs,
        output=outputs,
        weight_port_bits=port,
        input_port_bits=accelerator.input_port_bits(array),
        busy=spec.m / (ceil_div(spec.m, array.columns) * array.columns),
        vector_operations=vector,
    )


def _score_stream(scores: Stream, share: float, on_chip: bool) -> Stream:
    """Attention scores: their wanted share, and no DRAM traffic if they stay on chip."""
    words = math.ceil(scores.buffer_words * share)
    return Stream(0 if on_chip else math.ceil(scores.dram_bits * share), words, math.ceil(scores.buffer_bytes * share))
