"""The two attention products: keys or values stand where the weight stands."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from datatypes.catalog import FP16
from datatypes.layer_config import ActivationConfig, TensorConfig
from hwmodel.attention_side import attention_side
from hwmodel.channel_groups import group_waits, plain_activation
from hwmodel.operand_paths import Machine, bare_operand_path, operand_path
from hwmodel.operand_streams import Config, OperandBits, exact_stream
from hwmodel.options import Fallback
from hwmodel.pe import WIDE_BITS, ArrayPath
from hwmodel.traffic import NOTHING, Product, Stream, causal_share, causal_tile_steps, stream, tile_count
from hwmodel.units import ceil_div
from hwmodel.workload import LayerKind, LayerSpec


@dataclass(frozen=True)
class AttentionOperands:
    """What of an attention product does not depend on the rows and columns of the array.

    Args:
        path: of the cache through the array; ``None`` for the vector unit.
        keys, width: positions attended to, and numbers of each.
        lanes: keys or values in a step.
        causal: tiles above the diagonal are skipped.
        macs: multiply-accumulates that are wanted.
        cache, input, output: the operands.
        vector_operations: beside the array, or instead of it.
        load_operations: decodings on the way in.
        group_waits: waits of a tile between groups of channels.
    """

    path: ArrayPath | None
    keys: int
    width: int
    lanes: int
    causal: bool
    macs: int
    cache: Stream
    input: Stream
    output: Stream
    vector_operations: int
    load_operations: int
    group_waits: int

    @property
    def sram_bits(self) -> float:
        """Of one key or value in the weight buffer."""
        return WIDE_BITS if self.path is None else self.path.sram_bits

    @property
    def input_bits(self) -> float:
        """Of one query or probability in the activation buffer."""
        return float(WIDE_BITS) if self.path is None else self.path.input_bits


def attention_operands(spec: LayerSpec, config: Config, machine: Machine) -> AttentionOperands:
    """The operands of one of the two attention products; keys or values stand where the weight stands."""
    options, pe, copies = machine.options, machine.accelerator.pe, spec.copies
    scores = spec.kind is LayerKind.ATTENTION_QK
    keys, width = (spec.n, spec.k) if scores else (spec.k, spec.n)
    tensor: TensorConfig | None = None
    encoded: ActivationConfig | None = None
    activation: TensorConfig | None = None
    if isinstance(config, OperandBits):
        path: ArrayPath | None = bare_operand_path(config.kv, config.activation, config.weight, machine)
        cache = stream(spec.n, spec.k, config.kv, copies)
    else:
        tensor = (config.key if scores else config.value) or TensorConfig((FP16,), scale=None)
        encoded = config.activation if pe.encoded_activations else None
        activation = plain_activation(encoded)
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
    causal = spec.causal and options.causal_mask
    share = causal_share(keys, spec.m, spec.past) if causal else 1.0
    macs = round(spec.macs * share)
    inputs, outputs = stream(spec.m, spec.k, WIDE_BITS, copies), stream(spec.m, spec.n, WIDE_BITS, copies)
    if scores:
        outputs = _score_stream(outputs, share, options.fused_attention)
    else:
        inputs = NOTHING if options.fused_attention else _score_stream(inputs, share, False)
    vector, load = (0, 0) if tensor is None else attention_side(spec, tensor, activation, path, machine, share)
    return AttentionOperands(
        path=path,
        keys=keys,
        width=width,
        lanes=pe.lanes if path is None else path.lanes or pe.lanes,
        causal=causal,
        macs=macs,
        cache=cache,
        input=inputs,
        output=outputs,
        vector_operations=vector + (macs if path is None else 0),
        load_operations=load,
        group_waits=group_waits(encoded, pe, options) if path is not None and encoded is not None else 0,
    )


def attention_product(spec: LayerSpec, config: Config, machine: Machine) -> Product:
    """One of the two attention products on an array."""
    accelerator, array, copies = machine.accelerator, machine.array, spec.copies
    made = attention_operands(spec, config, machine)
    path, lanes, tiles = made.path, made.lanes, tile_count(spec.n, spec.m, array) * copies
    port = accelerator.weight_port_bits(made.sram_bits, array, lanes)
    if path is None:
        steps = math.ceil(made.macs * WIDE_BITS / port)
    elif made.causal:
        reduced = spec.kind is LayerKind.ATTENTION_PV
        one = causal_tile_steps(
            made.keys, spec.m, array, width=made.width, lanes=lanes, reduced=reduced, past=spec.past
        )
        steps = one * copies
        if not reduced:  # each tile of scores that is not skipped takes as many steps
            tiles = steps // ceil_div(made.width, lanes)
    else:
        steps = ceil_div(spec.k, lanes) * tiles
    compute = 0.0 if path is None else steps * path.cycles
    waits = made.group_waits * tiles
    return Product(
        macs=made.macs,
        tile_steps=steps,
        compute_cycles=math.ceil(compute) + waits,
        weight=made.cache,
        input=made.input,
        output=made.output,
        weight_port_bits=port,
        input_port_bits=accelerator.input_port_bits(array, made.input_bits, lanes),
        busy=spec.m / (ceil_div(spec.m, array.columns) * array.columns),
        vector_operations=made.vector_operations,
        energy_cycles=None if path is None or (path.energy == 1.0 and not waits) else compute * path.energy,
        load_operations=made.load_operations,
    )


def _score_stream(scores: Stream, share: float, on_chip: bool) -> Stream:
    """Attention scores: their wanted share, and no DRAM traffic if they stay on chip."""
    words = math.ceil(scores.buffer_words * share)
    return Stream(0 if on_chip else math.ceil(scores.dram_bits * share), words, math.ceil(scores.buffer_bytes * share))
