"""The launcher of the device quantizers: torch tensors in, packed words, scales and selectors out.

``quantize_packed`` is the entry. ``allocate`` and ``prepare`` are its halves, for callers that reuse buffers or capture
launches in a CUDA graph. The kernels, and how they work, are in ``kernels_gpu.quantize_bitmod``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datatypes.layer_config import TensorConfig
from datatypes.packing import unpack
from datatypes.planes import row_words
from datatypes.tensor import QuantizedTensor
from kernels_gpu import ptx
from kernels_gpu.launch import as_array, current_stream, require_cuda
from kernels_gpu.quantize_bitmod import CHUNK, FLAT_THREADS, MAX_THREADS, WARP, lanes_of, make_kernel
from kernels_gpu.quantize_reference import Element, KernelSpec, check_config, code_table

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
    """

    config: TensorConfig
    shape: tuple[int, int]
    words: Tensor
    scales: Tensor
    outer_scales: Tensor | None
    selectors: Tensor | None

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (self.words, self.scales, self.outer_scales, self.selectors)
        return sum(a.nbytes for a in arrays if a is not None)

    def to_quantized_tensor(self) -> QuantizedTensor:
        """The same as codes, on the same device."""
        return QuantizedTensor(
            config=self.config,
            shape=self.shape,
            codes=unpack(self.words, self.config.formats[0].bits, self.shape[1]),
            scale=self.scales,
            outer_scale=self.outer_scales,
            selector=self.selectors,
        )


def allocate(shape: tuple[int, int], config: TensorConfig, device: torch.device | str) -> PackedWeights:
    """Uninitialised arrays for a ``[n, k]`` matrix."""
    n, k = shape
    assert config.scale is not None
    groups = config.granularity.scale_shape(shape)
    two_levels = config.scale.outer is not None
    return PackedWeights(
        config=config,
        shape=shape,
        words=torch.empty((n, row_words(k, config.formats[0].bits)), dtype=torch.int32, device=device),
        scales=torch.empty(groups, dtype=torch.uint8 if two_levels else torch.float16, device=device),
        outer_scales=torch.empty((n, 1), dtype=torch.float16, device=device) if two_levels else None,
        selectors=torch.empty(groups, dtype=torch.uint8, device=device) if config.selector_bits else None,
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
    flat = weights.view(_SCALAR_VIEWS[weights.element_size()]) if not vector else weights.view(torch.int32)
    unsigned = np.uint32 if vector or weights.element_size() == 4 else np.uint16
    nothing = torch.zeros(1, dtype=torch.uint8, device=weights.device)
    return Launch(
        kernel,
        grid,
        spec.threads,
        (
            as_array(flat.reshape(-1), unsigned),
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


_SCALAR_VIEWS = {4: torch.int32, 2: torch.int16}


def quantize_packed(weights: Tensor, config: TensorConfig, *, check: bool = True) -> PackedWeights:
    """Quantize ``weights`` on their device.

    Args:
        weights: ``[n, k]`` float32, float16 or bfloat16, contiguous, on a CUDA device.
        config: a BitMoD mixture or symmetric integers of 3 or 4 bits, in groups of 32, 64 or 128, with FP16 scales or
            two-level 8-bit scales.
        check: wait for the kernel and refuse NaN, infinity and magnitudes beyond the range of the scales (393024 for
            BitMoD-4 with FP16 scales). Without it such groups get arbitrary codes.

    Returns:
        Packed words, scales and selectors. The last group of a row may be ragged; rows of words are padded with code 0.
        Below a largest magnitude of 2**-19 an FP16 scale is one to four of its smallest steps: the candidate of such a
        group may be another one than the best.

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
        raise ValueError(f"weights must be finite and of magnitude at most {limit:g}, not NaN, infinite or larger")
    return out
