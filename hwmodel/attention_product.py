"""The two attention products: keys or values stand where the weight stands."""

from __future__ import annotations

import math
from dataclasses import replace

from datatypes.catalog import FP16
from datatypes.layer_config import TensorConfig
from hwmodel.operand_paths import Machine, bare_operand_path, operand_path
from hwmodel.operand_streams import Config, OperandBits, exact_stream
from hwmodel.options import Fallback
from hwmodel.pe import WIDE_BITS, ArrayPath
from hwmodel.traffic import NOTHING, Product, Stream, causal_share, causal_tile_steps, stream, tile_count
from hwmodel.units import ceil_div
from hwmodel.workload import LayerKind, LayerSpec


def attention_product(spec: LayerSpec, config: Config, machine: Machine) -> Product:
    """One of the two attention products; keys or values stand where the weight stands."""
    accelerator, array, options = machine.accelerator, machine.array, machine.options
    pe = accelerator.pe
    scores = spec.kind is LayerKind.ATTENTION_QK
    keys, width = (spec.n, spec.k) if scores else (spec.k, spec.n)
    copies = spec.copies
    tensor: TensorConfig | None = None
    activation: TensorConfig | None = None
    if isinstance(config, OperandBits):
        path: ArrayPath | None = bare_operand_path(config.kv, config.activation, config.weight, machine)
        cache = stream(spec.n, spec.k, config.kv, copies)
    else:
        tensor = (config.key if scores else config.value) or TensorConfig((FP16,), scale=None)
        activation = config.activation if pe.encoded_activations else None
        vector_unit = pe.encoded_activations and activation is None and options.fallback is Fallback.VECTOR_UNIT
        path = None if vector_unit else operand_path(tensor, activation, replace(machine, stats=None))
        if options.exact_storage:
            cache = exact_stream(tensor.traffic_bits((keys, width)), copies)
        else:
            cache = stream(spec.n, spec.k, tensor.code_bits, copies)
        if path is None or path.decoded:
            cache = replace(stream(spec.n, spec.k, WIDE_BITS, copies), dram_bits=cache.dram_bits)
    if spec.weight_of is not None and options.fused_attention:
        cache = replace(cache, dram_bits=0, buffer_words=0)  # values that are a part of the keys are in the buffer
    lanes = pe.lanes if path is None else path.lanes or pe.lanes
    input_bits = float(WIDE_BITS) if path is None else path.input_bits
    share = causal_share(keys, spec.m, spec.past) if spec.causal and options.causal_mask else 1.0
    if spec.causal and options.causal_mask:
        reduced, past = not scores, spec.past
        steps = causal_tile_steps(keys, spec.m, array, width=width, lanes=lanes, reduced=reduced, past=past) * copies
    else:
        steps = ceil_div(spec.k, lanes) * tile_count(spec.n, spec.m, array) * copies
    port = accelerator.weight_port_bits(WIDE_BITS if path is None else path.sram_bits, array, lanes)
    macs = round(spec.macs * share)
    inputs, outputs = stream(spec.m, spec.k, WIDE_BITS, copies), stream(spec.m, spec.n, WIDE_BITS, copies)
    if scores:
        outputs = score_stream(outputs, share, options.fused_attention)
    else:
        inputs = NOTHING if options.fused_attention else score_stream(inputs, share, False)
    compute = 0.0 if path is None else steps * path.cycles
    waits, load_operations = 0, 0
    vector = macs if path is None else 0
    if path is None:
        steps = math.ceil(macs * WIDE_BITS / port)
    if tensor is not None and tensor.scale is not None:
        vector, load_operations = attention_side(spec, tensor, activation, path, machine, share, vector)
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


def attention_side(
    spec: LayerSpec,
    tensor: TensorConfig,
    activation: TensorConfig | None,
    path: ArrayPath | None,
    machine: Machine,
    share: float,
    vector: int,
) -> tuple[int, int]:
    """Vector operations of an attention product with an encoded cache, ``vector`` of the product itself included, and
    decodings on load."""
    options, copies = machine.options, spec.copies
    keys, width = (spec.n, spec.k) if spec.kind is LayerKind.ATTENTION_QK else (spec.k, spec.n)
    # values that are a part of the keys are decoded with them while they are in the buffer
    shared = spec.weight_of is not None and options.fused_attention
    elements = 0 if shared else keys * width * copies
    decoded = elements if options.load_decode and path is not None and path.decoded else 0
    if not options.vector_unit:
        return vector, decoded
    if path is None:
        vector += elements  # decoded once on the vector unit
    elif not path.decoded:
        groups = ceil_div(width, tensor.granularity.tile((1, width))[1])
        vector += round(spec.m * keys * groups * copies * share)  # a scale belongs to a token: one for each score
    if activation is not None:  # encode the query, or the softmax output below the diagonal
        inputs = (
            spec.m * spec.k * copies if spec.kind is LayerKind.ATTENTION_QK else round(spec.m * keys * copies * share)
        )
        at_run_time = options.dynamic_quantization and activation.dynamic and activation.scale is not None
        vector += inputs * (2 if at_run_time else 1)  # the largest magnitude, and the scaling
    if options.dynamic_quantization and tensor.dynamic and spec.weight_of is None:  # shared values: with the keys
        written = keys if spec.m >= keys else 1  # a decode step writes one token, a prompt all of them
        if spec.past is not None:
            written = keys - spec.past
        vector += 2 * written * width * copies  # the largest magnitude, and the scaling
    return vector, decoded


def score_stream(scores: Stream, share: float, on_chip: bool) -> Stream:
    """Attention scores: their wanted share, and no DRAM traffic if they stay on chip."""
    words = math.ceil(scores.buffer_words * share)
    return Stream(0 if on_chip else math.ceil(scores.dram_bits * share), words, math.ceil(scores.buffer_bytes * share))
