"""What a GPU moves and multiplies for a layer: bits of each operand, the tensor cores' kind, decoding, capacity."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from datatypes.catalog import FP16
from datatypes.format import FloatFormat, Format, IntFormat
from datatypes.layer_config import FP16_WEIGHT, ActivationConfig, LayerConfig, PartitionedConfig, TensorConfig
from hwmodel.gpu import OPERAND_BITS, Gpu
from hwmodel.gpu_gemv_encoding import GemvEncoding, encoding_of, reason_without_kernel
from hwmodel.operands import Config, OperandBits
from hwmodel.options import ModelOptions
from hwmodel.pe import WIDE_BITS
from hwmodel.traffic import causal_share
from hwmodel.units import BYTE_BITS
from hwmodel.workload import ATTENTION_KINDS, WEIGHT_KINDS, LayerKind, LayerSpec, Workload

# Thread instructions to decode a weight, from ``data/gpu_lowbit.csv``. Integers: torch's tinygemm int4 took 61.0 us for
# 28672 x 8192 on an H100, 58 without the launch: 7.7 at full issue. Tables: bitsandbytes NF4 took 103 us: 13.2.
INTEGER_DECODE = 7.5
TABLE_DECODE = 13.0
BYTE_DECODE = 4.0  # ASSUMPTION: whole bytes need no unpacking, half of an integer's work
# Thread instructions to unpack a weight to the 4- or 8-bit operand of a tensor core, as executed in our own GEMV
# (kernels_gpu/NOTES.md, decode GEMV, version 2, disassembly): INT4 codes to INT8 1.2, 3/8 of them on the half-wide pipe
# to unpack; codes that go through a table of bytes (BitMoD-3) 2.6
INTEGER_UNPACK = 1.2
TABLE_UNPACK = 2.6
# Thread instructions to scale one partial sum of a group: a multiply-add; before it an integer becomes a float, at half
# rate (CUDA C++ Programming Guide, arithmetic throughput: 64 conversions a cycle and SM, 128 multiply-adds)
FLOAT_SCALE = 1.0
INTEGER_SCALE = 3.0


@dataclass(frozen=True)
class Operands:
    """Bits of all copies and what the tensor cores make of them.

    Args:
        weight_bits, input_bits, output_bits: that move.
        rate_kind: operand of the tensor cores.
        decode_per_weight: thread instructions to turn a stored weight into that operand.
        scale_per_output: thread instructions to scale the partial sums of one output, all groups together; 0 where
            scales are applied while decoding.
        encoding: of a weight that the project's kernels multiply by few 16-bit inputs; ``None`` where they do not.
    """

    weight_bits: int
    input_bits: int
    output_bits: int
    rate_kind: str
    decode_per_weight: float
    scale_per_output: float = 0.0
    encoding: GemvEncoding | None = None


def operands_of(spec: LayerSpec, config: Config, gpu: Gpu, options: ModelOptions) -> Operands:
    """What moves, and how it is multiplied; attention's keys and values stand for the weight."""
    copies = spec.copies
    wide_in, wide_out = spec.m * spec.row_inputs * WIDE_BITS, spec.m * spec.row_outputs * WIDE_BITS
    if spec.kind in ATTENTION_KINDS:
        bits, decode = cache_bits(spec, config), decode_operations(cache_tensor(spec, config))
        masked = spec.causal and options.causal_mask
        share = causal_share(max(cache_shape(spec)[0], 1), spec.m, spec.past) if masked else 1.0
        if spec.kind is LayerKind.ATTENTION_QK:
            wide_out = math.ceil(wide_out * share)
        else:
            wide_in = math.ceil(wide_in * share)
        return Operands(bits * copies, wide_in * copies, wide_out * copies, "fp16", decode)
    if isinstance(config, OperandBits):
        bits = math.ceil(spec.n * spec.k * config.weight)
        return Operands(bits * copies, wide_in * copies, wide_out * copies, "fp16", decode_operations(config.weight))
    stored = config.storage_bits((spec.n, spec.k))
    weight_bits = stored.total - stored.low_rank - stored.outlier_values - stored.outlier_indices
    if config.activation is not None:
        wide_in = config.activation.traffic_bits((spec.m, spec.row_inputs))
    if config.output is not None:
        wide_out = config.output.traffic_bits((spec.m, spec.row_outputs))
    weight = FP16_WEIGHT if config.weight is None else config.weight
    kind = tensor_kind(weight, config.activation, gpu)
    if kind != "fp16":
        assert isinstance(weight, TensorConfig)
        decode = unpack_operations(weight, kind)
        scaling = scale_operations(weight, kind, spec.n, spec.k)
        return Operands(weight_bits * copies, wide_in * copies, wide_out * copies, kind, decode, scaling)
    encoding = None
    if isinstance(weight, PartitionedConfig):
        columns = max(weight.columns, 1)
        decode = sum(decode_operations(part.config) * part.columns for part in weight.parts) / columns
    else:
        decode = decode_operations(weight)
        takes = decode > 0 and config.activation is None and spec.kind is LayerKind.LINEAR
        if takes and reason_without_kernel(weight) is None:
            encoding = encoding_of(weight)
    return Operands(weight_bits * copies, wide_in * copies, wide_out * copies, kind, decode, encoding=encoding)


def tensor_kind(weight: TensorConfig | PartitionedConfig, activation: ActivationConfig | None, gpu: Gpu) -> str:
    """The kind of operand that the tensor cores multiply: the narrowest of the sheet that holds both codes."""
    if not isinstance(activation, TensorConfig) or isinstance(weight, PartitionedConfig):
        return "fp16"  # channel groups too: tensor cores shift no sums
    formats = (*weight.formats, *activation.formats)
    bits = max(weight.code_bits, activation.code_bits)
    if all(isinstance(f, IntFormat) for f in formats):
        wanted = [kind for kind in ("int4", "int8") if bits <= OPERAND_BITS[kind]]
    elif all(isinstance(f, FloatFormat) for f in formats):
        wanted = [kind for kind in ("fp4", "fp8") if bits <= OPERAND_BITS[kind]]
    else:
        wanted = []
    return next((kind for kind in wanted if kind in gpu.tensor_flops), "fp16")


def decode_operations(config: TensorConfig | float) -> float:
    """Thread instructions to turn one stored weight into FP16; 0 for 16-bit floats.

    Never more for fewer bits of the same family, so that a narrower integer is never slower.
    """
    if isinstance(config, float | int):
        return 0.0 if config >= WIDE_BITS else INTEGER_DECODE
    if config.scale is None and all(_wide(f) for f in config.formats):
        return 0.0
    if all(isinstance(f, IntFormat) for f in config.formats):
        own = INTEGER_DECODE
    elif all(isinstance(f, FloatFormat) and f.bits == BYTE_BITS for f in config.formats):
        own = BYTE_DECODE
    else:
        own = TABLE_DECODE
    return own + (0.0 if config.residual is None else decode_operations(config.residual))


def unpack_operations(weight: TensorConfig, kind: str) -> float:
    """Thread instructions to turn a stored weight into an operand of ``kind``; 0 where the code is that operand."""
    if weight.code_bits >= OPERAND_BITS[kind]:
        return 0.0
    return INTEGER_UNPACK if all(isinstance(f, IntFormat) for f in weight.formats) else TABLE_UNPACK


def scale_operations(weight: TensorConfig, kind: str, n: int, k: int) -> float:
    """Thread instructions to scale the partial sums of one output of a ``[n, k]`` weight; 0 for one scale a row.

    With several groups in a row each group's sum is scaled before it is added; one scale a row is a part of writing.
    """
    groups = weight.granularity.scale_shape((n, k))[-1]
    if weight.scale is None or groups <= 1:
        return 0.0
    return groups * (INTEGER_SCALE if kind.startswith("int") else FLOAT_SCALE)


def _wide(fmt: Format) -> bool:
    return isinstance(fmt, FloatFormat) and fmt.bits >= WIDE_BITS


def cache_shape(spec: LayerSpec) -> tuple[int, int]:
    return (spec.n, spec.k) if spec.kind is LayerKind.ATTENTION_QK else (spec.k, spec.n)


def cache_tensor(spec: LayerSpec, config: Config) -> TensorConfig | float:
    if isinstance(config, OperandBits):
        return float(config.kv)
    tensor = config.key if spec.kind is LayerKind.ATTENTION_QK else config.value
    return TensorConfig((FP16,), scale=None) if tensor is None else tensor


def cache_bits(spec: LayerSpec, config: Config) -> int:
    """Bits of one copy's keys or values."""
    cache, (tokens, width) = cache_tensor(spec, config), cache_shape(spec)
    return math.ceil(tokens * width * cache) if isinstance(cache, float) else cache.traffic_bits((tokens, width))


def resident_bits(workload: Workload, configs: Mapping[str, Config]) -> int:
    """Bits that must lie in memory while the workload runs: stored weights, and the KV cache of its attention layers.

    Args:
        workload: a phase; its context sets the cache.
        configs: by layer name; layers that are not named are FP16.
    """
    return sum(_resident(workload, configs))


def _resident(workload: Workload, configs: Mapping[str, Config]) -> Iterator[int]:
    for spec in workload.layers:
        config = configs.get(spec.name, LayerConfig())
        if spec.kind in ATTENTION_KINDS and spec.weight_of is not None:
            continue  # its cache is another layer's
        if spec.kind in ATTENTION_KINDS:
            yield cache_bits(spec, config) * spec.copies
        elif spec.kind in WEIGHT_KINDS and spec.weights:
            shape = (spec.k, spec.n) if spec.kind is LayerKind.EMBEDDING else (spec.n, spec.k)
            each = (
                math.ceil(shape[0] * shape[1] * config.weight)
                if isinstance(config, OperandBits)
                else config.storage_bits(shape).total
            )
            yield each * spec.weights // (spec.n * spec.k)
