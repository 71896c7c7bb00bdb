"""The launcher of the device quantizers: torch tensors in, packed words, scales, zero points and selectors out.

``quantize_packed`` is the entry. ``allocate`` and ``prepare`` are its halves, for callers that reuse buffers or capture
launches in a CUDA graph. The kernels, and how they work, are in ``kernels_gpu.quantize_bitmod`` (BitMoD, symmetric
integers of 3 and 4 bits) and ``kernels_gpu.quantize_integer`` (all other integers).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datatypes.format import IntFormat
from datatypes.layer_config import TensorConfig
from datatypes.packing import unpack, unpack_integers
from datatypes.planes import flat_words, plane_widths, row_words
from datatypes.tensor import QuantizedTensor
from kernels_gpu import ptx, quantize_integer
from kernels_gpu.launch import as_array, current_stream, require_cuda
from kernels_gpu.quantize_bitmod import CHUNK, FLAT_THREADS, MAX_THREADS, WARP, lanes_of, make_kernel
from kernels_gpu.quantize_reference import Element, KernelSpec, check_config, code_table, has_code_table

_ELEMENTS = {
    torch.float32: Element.FLOAT32,
    torch.float16: Element.FLOAT16,
    torch.bfloat16: Element.BFLOAT16,
}


@dataclass(frozen=True, eq=False)
class PackedWeights:
    """A quantized ``[n, k]`` matrix on the device.

    Args:
        config: the encoding.
        shape: (n, k).
        words: int32 ``[n, row_words(k, bits)]``, as ``datatypes.packing.pack`` lays them out.
        scales: ``[n, gk]`` float16, or uint8 codes of two-level scales.
        outer_scales: float16 ``[n, 1]`` of two-level scales, else ``None``.
        selectors: uint8 ``[n, gk]`` where there are candidates, else ``None``.
        zero_points: int32 ``[flat_words(n * gk, bits)]``, as ``datatypes.packing.pack_field`` lays them out, else
            ``None``.
    """

    config: TensorConfig
    shape: tuple[int, int]
    words: Tensor
    scales: Tensor
    outer_scales: Tensor | None
    selectors: Tensor | None
    zero_points: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (self.words, self.scales, self.outer_scales, self.selectors, self.zero_points)
        return sum(a.nbytes for a in arrays if a is not None)

    def to_quantized_tensor(self) -> QuantizedTensor:
        """The same as codes, on the same device."""
        zero = None
        if self.zero_points is not None:
            assert self.config.zero_point is not None
            groups = self.config.granularity.scale_shape(self.shape)
            zero = unpack_integers(self.zero_points, self.config.zero_point, groups)
        return QuantizedTensor(
            config=self.config,
            shape=self.shape,
            codes=unpack(self.words, self.config.formats[0].bits, self.shape[1]),
            scale=self.scales,
            outer_scale=self.outer_scales,
            selector=self.selectors,
            zero_point=zero,
        )


def allocate(shape: tuple[int, int], config: TensorConfig, device: torch.device | str) -> PackedWeights:
    """Uninitialised arrays for a ``[n, k]`` matrix."""
    n, k = shape
    assert config.scale is not None
    groups = config.granularity.scale_shape(shape)
    two_levels = config.scale.outer is not None
    zero_words = 0 if config.zero_point is None else flat_words(groups[0] * groups[1], config.zero_point.bits)
    return PackedWeights(
        config=config,
        shape=shape,
        words=torch.empty((n, row_words(k, config.formats[0].bits)), dtype=torch.int32, device=device),
        scales=torch.empty(groups, dtype=torch.uint8 if two_levels else torch.float16, device=device),
        outer_scales=torch.empty((n, 1), dtype=torch.float16, device=device) if two_levels else None,
        selectors=torch.empty(groups, dtype=torch.uint8, device=device) if config.selector_bits else None,
        zero_points=torch.empty(zero_words, dtype=torch.int32, device=device) if config.zero_point else None,
    )


@dataclass(frozen=True, eq=False)
class Launch:
    """A kernel with its arguments bound: ``launch()`` enqueues it on torch's current stream and returns at once.

    ``status`` (int32, one element) becomes 1 where an input is NaN, infinite or too large for its scale.
    """

    kernel: Any
    grid: tuple[int, int]
    threads: int
    arguments: tuple[Any, ...]
    status: Tensor

    def __call__(self) -> None:
        self.kernel[self.grid, self.threads, current_stream()](*self.arguments)


@lru_cache(maxsize=64)
def _kernel_and_table(spec: KernelSpec, device: torch.device) -> tuple[Any, Tensor]:
    return make_kernel(spec), torch.from_numpy(code_table(spec.config)).to(device)


def prepare(weights: Tensor, out: PackedWeights) -> Launch:
    """Bind the kernel for ``weights`` ``[n, k]`` (contiguous, not empty) and ``out``, made by ``allocate``.

    Raises:
        NotImplementedError: an encoding or a row length without a kernel.
    """
    config, (n, k) = out.config, out.shape
    check_config(config)
    if not has_code_table(config.formats):
        return _prepare_integers(weights, out)
    group_count = config.granularity.scale_shape((n, k))[1]
    assert config.scale is not None
    two_levels = config.scale.outer is not None
    vector = k % CHUNK == 0 and weights.data_ptr() % 16 == 0
    spec = KernelSpec(config, _ELEMENTS[weights.dtype], two_levels, vector, FLAT_THREADS)
    lanes = lanes_of(spec)
    grid = (-(-n * group_count * lanes // FLAT_THREADS), 1)
    if two_levels or k % spec.group != 0 or not vector:
        row_threads = -(-group_count * lanes // WARP) * WARP
        if two_levels and row_threads > MAX_THREADS:
            raise NotImplementedError(
                f"in_features must be at most {MAX_THREADS // lanes * spec.group} for two-level scales of groups of "
                f"{spec.group} and {spec.element.value} weights on the GPU, not {k!r}"
            )
        threads = min(row_threads, MAX_THREADS if two_levels else FLAT_THREADS)
        spec = replace(spec, by_row=True, threads=threads)
        grid = (n, -(-group_count * lanes // threads))
    kernel, table = _kernel_and_table(spec, weights.device)
    status = torch.zeros(1, dtype=torch.int32, device=weights.device)
    nothing = torch.zeros(1, dtype=torch.uint8, device=weights.device)
    return Launch(
        kernel,
        grid,
        spec.threads,
        (
            _flat(weights, vector=vector),
            as_array(table, np.uint8),
            as_array(out.words.reshape(-1), np.uint32),
            as_array(out.scales.reshape(-1), np.uint8 if two_levels else np.uint16),
            as_array(nothing if out.selectors is None else out.selectors.reshape(-1), np.uint8),
            as_array(nothing.new_zeros(2) if out.outer_scales is None else out.outer_scales.reshape(-1), np.uint16),
            as_array(status, np.int32),
            k,
            group_count if spec.by_row else n * group_count,
        ),
        status,
    )


def _flat(weights: Tensor, *, vector: bool) -> Any:
    """All weights as unsigned words, or one by one where they are not loaded as such."""
    if vector or weights.element_size() == 4:
        return as_array(weights.view(torch.int32).reshape(-1), np.uint32)
    return as_array(weights.view(torch.int16).reshape(-1), np.uint16)


@lru_cache(maxsize=64)
def _integer_kernel(spec: KernelSpec, device: torch.device) -> Any:
    return quantize_integer.make_kernel(spec)


def _prepare_integers(weights: Tensor, out: PackedWeights) -> Launch:
    """``prepare`` for ``kernels_gpu.quantize_integer``."""
    config, (n, k) = out.config, out.shape
    row_groups = config.granularity.scale_shape((n, k))[1]
    groups, threads = n * row_groups, quantize_integer.THREADS
    spec = KernelSpec(config, _ELEMENTS[weights.dtype], False, False, threads)
    spec = replace(spec, vector=k % spec.group == 0 and weights.data_ptr() % 16 == 0)
    status = torch.zeros(1, dtype=torch.int32, device=weights.device)
    zero_points, ends = status.new_zeros(1), [0, 0, 0]  # bytes at which planes of zero points end
    if out.zero_points is not None:
        assert isinstance(config.zero_point, IntFormat)
        sizes = [4 * flat_words(groups, width) for width in plane_widths(config.zero_point.bits)]
        zero_points, ends = out.zero_points, [sum(sizes[: i + 1]) for i in range(3)]
    return Launch(
        _integer_kernel(spec, weights.device),
        (-(-groups * quantize_integer.lanes_of(spec) // threads), 1),
        threads,
        (
            _flat(weights, vector=spec.vector),
            as_array(out.words.reshape(-1), np.uint32),
            as_array(out.scales.reshape(-1), np.uint16),
            as_array(zero_points.view(torch.uint8), np.uint8),
            as_array(status, np.int32),
            k,
            row_groups,
            groups,
            *ends,
        ),
        status,
    )


def quantize_packed(weights: Tensor, config: TensorConfig, *, check: bool = True) -> PackedWeights:
    """Quantize ``weights`` on their device.

    Args:
        weights: ``[n, k]`` float32, float16 or bfloat16, contiguous, on a CUDA device.
        config: in groups of 32, 64 or 128 with FP16 scales: a BitMoD mixture, symmetric integers of 2 to 8 bits, or
            unsigned ones of 2 to 8 bits with zero points of the same format and scales by range. BitMoD and symmetric
            integers of 3 and 4 bits also with two-level 8-bit scales.
        check: wait for the kernel and refuse NaN, infinity and magnitudes beyond the range of the scales (393024 for
            BitMoD-4 with FP16 scales; with zero points, groups of a wider range). Without it such groups get arbitrary
            codes.

    Returns:
        Packed words, scales, selectors and zero points. The last group of a row may be ragged; rows of words are
        padded with code 0. Below a largest magnitude of 2**-19 an FP16 scale is one to four of its smallest steps: the
        candidate of such a group may be another one than the best.

    Raises:
        TypeError: another dtype.
        ValueError: not a contiguous matrix, or, with ``check``, an input as above.
        NotImplementedError: an encoding without a kernel.
        RuntimeError: no usable CUDA device.
    """
    check_config(config)
    if weights.dtype not in _ELEMENTS:
        raise TypeError(f"weights must be float32, float16 or bfloat16, not {weights.dtype}")
    if weights.dim() != 2 or not weights.is_contiguous():
        raise ValueError(f"weights must be a contiguous matrix [n, k], not {list(weights.shape)!r}")
    if not ptx.SIMULATED:
        require_cuda()
        if not weights.is_cuda:
            raise ValueError(f"weights must be on a CUDA device, not {weights.device}")
    shape = (weights.shape[0], weights.shape[1])
    out = allocate(shape, config, weights.device)
    if weights.numel() == 0:
        return out
    launch = prepare(weights, out)
    launch()
    if check and int(launch.status):
        limit = KernelSpec(config, _ELEMENTS[weights.dtype], False, True, FLAT_THREADS).largest_input
        if config.zero_point is not None:
            raise ValueError(
                f"weights must be finite and a group, with zero, span at most {limit:g}, not NaN, infinite or wider"
            )
        raise ValueError(f"weights must be finite and of magnitude at most {limit:g}, not NaN, infinite or larger")
    return out
