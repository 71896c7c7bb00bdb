"""Price of a layer's products on a GPU: the dense one, and low-rank branches and outliers beside it.

Up to 16 tokens a branch and outlier columns run on this project's kernels (``gpu_branches``), where ``Gpu.kernels`` and
the encoding allow it, or on the library's 16-bit product where that is faster, as it is for many of the 16. Outlier
rows are gathered in passes of up to 16 tokens, each outlier once for every token, on any GPU: how fast is a property of
its SMs. Where that takes longer they are written into a weight that was decoded to 16 bits before its product, a launch
and two sectors of memory for each (ASSUMPTION: nobody timed such a kernel here). Outliers in a bitmap are a kernel that
moves their bits.
"""

from __future__ import annotations

from dataclasses import replace

from datatypes.layer_config import LayerConfig, LowRankConfig, OutlierLayout
from hwmodel.gpu import Gpu, GpuKernels
from hwmodel.gpu_branches import (
    Beside,
    beside_without_kernel,
    columns_s,
    dense_inputs,
    joins,
    low_rank_s,
    ring_s,
    rows_s,
)
from hwmodel.gpu_energy import timed
from hwmodel.gpu_gemv_cut import cut_on
from hwmodel.gpu_launch import ALONE_S, alone_s
from hwmodel.gpu_narrow import COPY_SHARE, LEAST_CAPABILITY, NARROW_TOKENS, project_encoding
from hwmodel.gpu_operands import Operands, operands_of
from hwmodel.gpu_product import decoded_product, product, tiled_product
from hwmodel.operands import Config
from hwmodel.options import ModelOptions
from hwmodel.pe import WIDE_BITS
from hwmodel.price import Price
from hwmodel.units import BYTE_BITS
from hwmodel.workload import ATTENTION_KINDS, LayerKind, LayerSpec

_SECTOR_BYTES = 32  # of memory, read and written for one outlier: CUDA C++ Programming Guide, Device Memory Accesses


def products_price(spec: LayerSpec, config: Config, gpu: Gpu, options: ModelOptions) -> Price:
    """All products of a layer, one kernel after another."""
    if spec.shared_weight:
        spec = replace(spec, m=spec.m * spec.copies, copies=1, shared_weight=False)
    operands = operands_of(spec, config, gpu, options)
    if not isinstance(config, LayerConfig) or spec.kind in ATTENTION_KINDS:
        return product(spec, operands, gpu)
    fill_s, launches = _dense_launches(spec, operands, config, gpu)
    total = _with_outliers(spec, operands, config, gpu, fill_s)
    if config.low_rank is not None:
        total += _branch(spec, config, config.low_rank, gpu, options, fill_s, launches)
    return total


def _dense_launches(spec: LayerSpec, operands: Operands, config: LayerConfig, gpu: Gpu) -> tuple[float, int]:
    """Seconds in which the rings of a dense product of few tokens fill while a kernel before it runs; its launches.

    Zeros where it is not this project's kernel.
    """
    encoding = project_encoding(spec, operands, gpu)
    if encoding is None or not _has_kernels(spec, config, gpu):
        return 0.0, 0
    chosen = cut_on(gpu, encoding, (spec.m, spec.n, spec.k))
    if chosen is None:
        return 0.0, 0
    cut, launches = chosen
    return ring_s(encoding, cut, operands.weight_bits / spec.copies / BYTE_BITS, _where(gpu)), launches


def _where(gpu: Gpu) -> Beside:
    more_s = alone_s(gpu) if gpu.kernels is GpuKernels.PROJECT else ALONE_S
    return Beside(gpu, gpu.dram.bytes_per_s * COPY_SHARE, more_s=more_s)


def _has_kernels(spec: LayerSpec, config: LayerConfig, gpu: Gpu) -> bool:
    """Whether this project's kernels beside a product are chosen and take the layer."""
    own = gpu.kernels is GpuKernels.PROJECT and gpu.compute_capability >= LEAST_CAPABILITY
    wide_inputs = config.activation is None and spec.kind is LayerKind.LINEAR and not spec.absorbed
    return own and wide_inputs and spec.m <= NARROW_TOKENS and beside_without_kernel(config) is None


def _branch(
    spec: LayerSpec, config: LayerConfig, branch: LowRankConfig, gpu: Gpu, options: ModelOptions, fill_s: float,
    launches: int,
) -> Price:  # fmt: skip
    """Two products; what lies between them is written and read. ``launches``: of the dense product, if it is ours."""
    rank, joined = min(branch.rank, spec.n, spec.k), launches > 0 and joins(branch, spec.n, spec.k)
    down, up = replace(spec, n=rank, absorbed=0), replace(spec, k=rank, absorbed=0)
    first = operands_of(down, LayerConfig(weight=branch.a), gpu, options)
    second = operands_of(up, LayerConfig(weight=branch.b), gpu, options)
    if branch.fused or joined:
        first, second = replace(first, input_bits=0), replace(second, output_bits=0)
    else:  # the sum so far is read and written again
        second = replace(second, output_bits=2 * second.output_bits)
    if not _has_kernels(replace(spec, m=1), config, gpu):
        public = replace(gpu, kernels=GpuKernels.PUBLIC)
        return product(down, first, public) + product(up, second, public)
    price = _wide_product(down, first, gpu) + _wide_product(up, second, gpu)
    if spec.m > NARROW_TOKENS:
        return price
    both = low_rank_s(branch, (spec.m, spec.n, spec.k), _where(gpu), fill_s, launches=launches)
    down_s, up_s = (spec.copies * seconds for seconds in both)
    own = timed(down.macs, first, down_s, gpu) + timed(up.macs, second, up_s, gpu)
    return min(own, price, key=lambda one: one.cycles)


def _wide_product(spec: LayerSpec, operands: Operands, gpu: Gpu) -> Price:
    """The library's product with a factor kept in 16 bits."""
    wide_bits = spec.n * spec.k * spec.copies * WIDE_BITS
    return tiled_product(spec, replace(operands, weight_bits=wide_bits, decode_per_weight=0.0), gpu)


def _with_outliers(spec: LayerSpec, operands: Operands, config: LayerConfig, gpu: Gpu, fill_s: float) -> Price:
    """The dense product and outliers beside it."""
    outliers = config.outliers
    if outliers is None:
        return product(spec, operands, gpu)
    inputs = dense_inputs(config, (spec.n, spec.k))
    alone = product(replace(spec, k=inputs), operands, gpu) if inputs else Price(total_cycles=0)
    alone = replace(alone, macs=spec.macs)  # those of outliers take the place of the ones left out
    moved = _moved(spec, config)
    if outliers.layout is OutlierLayout.COLUMNS:
        return alone + _columns(spec, config, moved, gpu, fill_s)
    if outliers.layout is OutlierLayout.BITMAP:
        return alone + timed(0, moved, _streamed_s(moved, gpu), gpu)
    gathered = alone + timed(0, moved, _gathered_s(spec, config, gpu), gpu)
    if operands.rate_kind != "fp16" or not operands.decode_per_weight:
        return gathered
    sectors_bits = 2 * _SECTOR_BYTES * BYTE_BITS * outliers.count((spec.n, spec.k)) * spec.copies
    written = replace(moved, input_bits=0, output_bits=sectors_bits)
    placed = decoded_product(spec, operands, gpu) + timed(0, written, _streamed_s(written, gpu), gpu)
    return min(gathered, placed, key=lambda one: one.cycles)


def _moved(spec: LayerSpec, config: LayerConfig) -> Operands:
    """Values, indices and all inputs once; the sum so far is read and written."""
    assert config.outliers is not None
    stored = config.outliers.storage_bits((spec.n, spec.k)).total * spec.copies
    gathered = spec.m * spec.k * WIDE_BITS * spec.copies
    return Operands(stored, gathered, 2 * spec.m * spec.n * WIDE_BITS * spec.copies, "fp16", 0.0)


def _streamed_s(moved: Operands, gpu: Gpu) -> float:
    """A kernel of a library that moves its operands once."""
    bits = moved.weight_bits + moved.input_bits + moved.output_bits
    return bits / BYTE_BITS / gpu.streamed_bytes_per_s + gpu.library.launch_s


def _columns(spec: LayerSpec, config: LayerConfig, moved: Operands, gpu: Gpu, fill_s: float) -> Price:
    outliers = config.outliers
    assert outliers is not None
    count = outliers.count((spec.n, spec.k))
    if not count:
        return timed(0, moved, 0.0, gpu)
    taken = timed(0, replace(moved, weight_bits=0, output_bits=0), gpu.library.launch_s, gpu)
    price = taken + tiled_product(replace(spec, k=count), replace(moved, input_bits=0), gpu)
    price = replace(price, macs=0)
    if not _has_kernels(spec, config, gpu):
        return price
    own_s = spec.copies * sum(columns_s(outliers, (spec.m, spec.n, spec.k), _where(gpu), fill_s))
    return min(timed(0, moved, own_s, gpu), price, key=lambda one: one.cycles)


def _gathered_s(spec: LayerSpec, config: LayerConfig, gpu: Gpu) -> float:
    """Outlier rows in passes of as many tokens as a kernel takes."""
    assert config.outliers is not None
    full, rest = divmod(spec.m, NARROW_TOKENS)
    where, passes = _where(gpu), [(full, NARROW_TOKENS), (1, rest)]
    shape = spec.n, spec.k
    seconds = sum(times * rows_s(config.outliers, (m, *shape), where) for times, m in passes if times and m)
    return spec.copies * seconds
