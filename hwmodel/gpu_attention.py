"""Fused attention on a GPU: scores stay on chip, softmax in the shadow of the two products.

``general_attention`` is any library's kernel, fitted on torch's (cuDNN) over FP16 caches. One token a sequence over a
cache of 8- or 4-bit integers runs on this project's decode kernel (``kernels_gpu.attention``) where ``Gpu.kernels``
says so: a start, the cache at a share of the copy rate, and the merge of a context's parts, a launch of its own. A warp
loads a step of 32 tokens and then computes with it, so that memory is busy only while some warp of an SM waits for it
(``busy_share``): eight queries, whose kernel leaves an SM half as many warps, cannot take what an H200 brings. Its five
constants are fitted to the twelve INT8 rows of ``kernels_gpu/measurements/attention_h100.json``; the INT4 rows are held
out (``codesign validate --gpu``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from datatypes.catalog import FP16
from datatypes.format import IntFormat
from datatypes.layer_config import TensorConfig
from hwmodel.gpu import Gpu, GpuKernels
from hwmodel.gpu_energy import timed
from hwmodel.gpu_gemv_encoding import WARP
from hwmodel.gpu_narrow import COPY_SHARE, LEAST_CAPABILITY
from hwmodel.gpu_operands import Operands, cache_bits, cache_shape, cache_tensor, decode_operations
from hwmodel.gpu_tiles import CLOCK_OVER_SHEET
from hwmodel.operands import Config, OperandBits
from hwmodel.options import ModelOptions
from hwmodel.pe import WIDE_BITS
from hwmodel.price import Price
from hwmodel.traffic import causal_share
from hwmodel.units import BYTE_BITS, ceil_div
from hwmodel.workload import LayerKind, LayerSpec

# Fused attention on an H100, ``data/gpu_measured_h100.csv``: tensor-core share of long prompts; what a launch takes
# beyond a GEMM's (a second kernel, or partial results added up)
_ATTENTION_SHARE = 0.68
_ATTENTION_EXTRA_S = 4.0e-6
_ATTENTION_ROWS = 128  # query rows of a thread block: kernel names of the same file (..._64x128x128_...)
_ATTENTION_STEP = 16  # rows of a tensor-core instruction (PTX ISA, mma.m16n8k16); keys are not cut shorter either


@dataclass(frozen=True)
class DecodeAttention:
    """Constants of the project's decode kernel.

    Args:
        start_s: a launch, queries to digits, and the end.
        merge_s: of the launch that merges parts.
        part_query_s: of merging one part of a context, for each query of a key head.
        copy_share: of the copy rate at which the cache is read.
        think_cycles: of a warp that has its step, for each of its counted instructions.
    """

    start_s: float
    merge_s: float
    part_query_s: float
    copy_share: float
    think_cycles: float


# Least squares on log errors of the twelve INT8 rows: tests/hwmodel/test_gpu_attention.py fits them again
DECODE_ATTENTION = DecodeAttention(
    start_s=4.785e-6, merge_s=2.21e-6, part_query_s=15.07e-9, copy_share=0.980, think_cycles=5.984
)
_HEAD_DIMS, _MOST_QUERIES, _CACHE_BITS = (64, 128), 8, (4, 8)  # kernels_gpu/attention_spec.py
_STEP_TOKENS, _WARPS, _TILE_QUERIES = 32, 8, 4  # of a step; of a block; of a tile: the same, attention_launch.py
_PART_TOKENS = _STEP_TOKENS * _WARPS * 2  # at least, of a part: two steps of each warp: attention_launch.py
# By bits of the cache and tiles of queries: registers (measurements/attention_h100.json), and instructions of a step
# for each element of keys and values that a lane holds (NOTES.md, disassembly of every kernel: attention)
_REGISTERS: Mapping[tuple[int, int], int] = {(8, 1): 90, (4, 1): 80, (8, 2): 134, (4, 2): 125}
_INSTRUCTIONS: Mapping[tuple[int, int], float] = {(8, 1): 1.66, (4, 1): 1.86, (8, 2): 2.62, (4, 2): 2.68}
_HALVES = (LayerKind.ATTENTION_QK, LayerKind.ATTENTION_PV)
_SM_REGISTERS = 65536  # CUDA C++ Programming Guide, compute capabilities 5.0 to 12.0


def fused_attention(spec: LayerSpec, config: Config, gpu: Gpu, options: ModelOptions) -> Price:
    """One half of a fused attention kernel: queries and keys, or values and outputs; the first half pays the launch.

    More queries than this project's kernel takes never take less than the most that it does.
    """
    if has_decode_kernel(spec, config, gpu):
        return _decode_attention(spec, config, gpu)
    general, most = general_attention(spec, config, gpu, options), replace(spec, m=min(spec.m, _MOST_QUERIES))
    if not has_decode_kernel(most, config, gpu):
        return general
    return replace(general, total_cycles=max(general.cycles, _decode_attention(most, config, gpu).cycles))


def has_decode_kernel(spec: LayerSpec, config: Config, gpu: Gpu) -> bool:
    """Whether this project's kernel is chosen, and takes the heads and the cache."""
    if gpu.kernels is not GpuKernels.PROJECT or gpu.compute_capability < LEAST_CAPABILITY:
        return False
    if isinstance(config, OperandBits) or spec.state or spec.causal or spec.weight_of is not None:
        return False
    shape = cache_shape(spec)
    sides = (config.key, config.value)
    return spec.m <= _MOST_QUERIES and shape[1] in _HEAD_DIMS and all(_cache_has_kernel(t, shape) for t in sides)


def _cache_has_kernel(cache: TensorConfig | None, shape: tuple[int, int]) -> bool:
    if cache is None or cache.scale is None or len(cache.formats) > 1:
        return False
    fmt, scale = cache.formats[0], cache.scale
    integers = isinstance(fmt, IntFormat) and fmt.signed_codes and fmt.bits in _CACHE_BITS
    scales = scale.format.name == FP16.name and scale.outer is None and cache.granularity.tile(shape) == (1, shape[1])
    beside = (cache.zero_point, cache.residual, cache.sparsity, cache.row_scale, cache.column_scale)
    return integers and scales and not cache.hadamard and all(part is None for part in beside)


def resident_blocks(bits: int, queries: int) -> int:
    """Blocks of the decode kernel that an SM's registers hold, by bits of the cache and queries of a key head.

    >>> [resident_blocks(*given) for given in ((8, 1), (4, 4), (8, 8), (4, 8))]
    [2, 3, 1, 2]
    """
    registers = ceil_div(_REGISTERS[bits, ceil_div(queries, _TILE_QUERIES)], 8) * 8
    return _SM_REGISTERS // (registers * WARP * _WARPS)


def parts_of_context(pairs: int, tokens: int, gpu: Gpu, blocks: int = 2) -> int:
    """Blocks that share a sequence and key head (``kernels_gpu.attention_launch.choose_splits``).

    Args:
        pairs: sequences times key heads.
        tokens: of the context.
        gpu: what it runs on.
        blocks: that an SM holds.
    """
    resident = gpu.multiprocessors * blocks
    return 1 if pairs >= resident else min(max(1, tokens // _PART_TOKENS), resident // pairs)


def busy_share(warps: int, load_s: float, think_s: float) -> float:
    """Share of the time in which memory is busy with an SM's warps, each of which loads a step and then thinks.

    One server, ``warps`` customers who come back after ``think_s`` (machine repair; Kleinrock, Queueing Systems I,
    section 3.8): 1 less the share in which all of them think.

    >>> busy_share(1, 1.0, 3.0), round(busy_share(2, 1.0, 1.0), 6)  # 1 - 1 / (1 + 2 + 2)
    (0.25, 0.8)
    """
    states, ways = 1.0, 1.0
    for waiting in range(warps):
        ways *= (warps - waiting) * load_s / think_s
        states += ways
    return 1 - 1 / states


def reading_slowdown(
    shape: tuple[int, int, int],
    step_bytes: float,
    bits: int,
    gpu: Gpu,
    copy_bytes_per_s: float,
    constants: DecodeAttention = DECODE_ATTENTION,
) -> float:
    """Time of reading a cache over that at the rate of memory, 1 or more.

    Args:
        shape: blocks of the launch, queries of a key head, elements of a head.
        step_bytes: of 32 tokens, keys and values.
        bits: of the cache.
        gpu: data sheet: SMs and clock are used.
        copy_bytes_per_s: measured, read plus written.
        constants: fitted.
    """
    blocks, queries, width = shape
    load_s = step_bytes * gpu.multiprocessors / (copy_bytes_per_s * constants.copy_share)
    lane_elements = 2 * _STEP_TOKENS * width / WARP
    instructions = _INSTRUCTIONS[bits, ceil_div(queries, _TILE_QUERIES)] * lane_elements
    think_s = constants.think_cycles * instructions / (gpu.frequency_hz * CLOCK_OVER_SHEET)
    resident = resident_blocks(bits, queries)
    full, rest = divmod(blocks, resident * gpu.multiprocessors)
    if not full:  # all begin together, and end together
        return 1 / busy_share(resident * _WARPS, load_s, think_s)
    last = 1 / busy_share(ceil_div(rest, gpu.multiprocessors) * _WARPS, load_s, think_s) if rest else 0.0
    whole = full * resident * gpu.multiprocessors
    return (whole / busy_share(resident * _WARPS, load_s, think_s) + rest * last) / blocks


def decode_attention_s(
    cache_bytes: float,
    parts: int,
    copy_bytes_per_s: float,
    constants: DecodeAttention = DECODE_ATTENTION,
    slowdown: float = 1.0,
    queries: int = 1,
) -> float:
    """Seconds of the project's kernel over a cache (keys and values) of ``cache_bytes``, ``queries`` a key head."""
    merged_s = constants.merge_s + constants.part_query_s * parts * queries if parts > 1 else 0.0
    return constants.start_s + merged_s + cache_bytes / copy_bytes_per_s / constants.copy_share * slowdown


def _decode_attention(spec: LayerSpec, config: Config, gpu: Gpu) -> Price:
    tokens, width = cache_shape(spec)
    queries = spec.m * width * WIDE_BITS * spec.copies
    scores = spec.kind is LayerKind.ATTENTION_QK
    cache = cache_bits(spec, config) * spec.copies
    operands = Operands(cache, queries if scores else 0, 0 if scores else queries, "fp16", 0.0)
    copy_bytes_per_s = gpu.dram.bytes_per_s * COPY_SHARE
    constants = DECODE_ATTENTION if scores else replace(DECODE_ATTENTION, start_s=0.0, merge_s=0.0, part_query_s=0.0)
    sides = [side for side in (cache_tensor(replace(spec, kind=kind), config) for kind in _HALVES)
             if isinstance(side, TensorConfig)]  # fmt: skip
    bits = max(side.formats[0].bits for side in sides)
    step_bytes = sum(side.traffic_bits((_STEP_TOKENS, width)) for side in sides) / BYTE_BITS
    parts = parts_of_context(spec.copies, tokens, gpu, resident_blocks(bits, spec.m))
    slowdown = reading_slowdown((spec.copies * parts, spec.m, width), step_bytes, bits, gpu, copy_bytes_per_s)
    seconds = decode_attention_s(cache / BYTE_BITS, parts, copy_bytes_per_s, constants, slowdown, spec.m)
    return timed(spec.macs, operands, seconds, gpu)


def general_attention(spec: LayerSpec, config: Config, gpu: Gpu, options: ModelOptions) -> Price:
    """One half of a library's kernel; the first half pays the launch.

    A thread block takes up to 128 query rows (padded to 16), its tensor cores work at a fitted share. While there are
    fewer thread blocks than SMs, keys are cut among idle SMs; with more, the thread block with most keys ends last, one
    block's time after the mean. Every thread block decodes its keys and values anew, unless decoding all of them first
    is faster. Grows with query rows and keys, and falls with SMs of a given rate.
    """
    tokens, width = cache_shape(spec)
    cache = cache_tensor(spec, config)
    bits = cache_bits(spec, config)
    share = causal_share(tokens, spec.m, spec.past) if spec.causal and options.causal_mask else 1.0
    macs = round(spec.macs * share)
    rows = ceil_div(spec.m, _ATTENTION_STEP) * _ATTENTION_STEP
    rate = gpu.macs_per_cycle() * _ATTENTION_SHARE * gpu.frequency_hz
    blocks_a_copy = ceil_div(spec.m, _ATTENTION_ROWS)
    blocks = blocks_a_copy * spec.copies
    key_s = min(rows, _ATTENTION_ROWS) * width / (rate / gpu.multiprocessors)  # one key in a thread block
    if blocks <= gpu.multiprocessors:
        compute_s = key_s * max(tokens / (gpu.multiprocessors // blocks), min(tokens, _ATTENTION_STEP))
    else:
        compute_s = rows / spec.m * macs / rate + key_s * tokens
    elements, bytes_per_s = tokens * width * spec.copies, gpu.streamed_bytes_per_s
    decode_s = decode_operations(cache) * elements / gpu.lane_operations_per_s
    decode_s = min(decode_s * blocks_a_copy, decode_s + 2 * elements * WIDE_BITS / BYTE_BITS / bytes_per_s)
    if spec.weight_of is not None:  # values that are a part of the keys: read and decoded with them
        bits, decode_s = 0, 0.0
    queries = spec.m * width * WIDE_BITS * spec.copies
    scores = spec.kind is LayerKind.ATTENTION_QK
    operands = Operands(bits * spec.copies, queries if scores else 0, 0 if scores else queries, "fp16", 0.0)
    memory_s = (operands.weight_bits + queries) / BYTE_BITS / bytes_per_s
    launch_s = gpu.library.launch_s + _ATTENTION_EXTRA_S if scores else 0.0
    return timed(macs, operands, max(compute_s + decode_s, memory_s) + launch_s, gpu)
