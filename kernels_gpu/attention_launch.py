"""Launcher of the decode attention: a quantized KV cache and queries in, results out.

``decode_attention`` is the entry; ``prepare`` binds buffers, for callers that capture launches in a CUDA graph. The
kernels, and how they work, are in ``kernels_gpu.attention``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from datatypes.layer_config import TensorConfig
from datatypes.packing import pack_tensor
from datatypes.planes import row_words
from datatypes.tensor import QuantizedTensor
from hwmodel.units import ceil_div
from kernels_gpu.attention import ARGUMENTS, make_body
from kernels_gpu.attention_merge import MERGE_ARGUMENTS, MERGE_TEAMS, make_merge
from kernels_gpu.attention_spec import STEP_TOKENS, AttentionSpec, cache_format
from kernels_gpu.gemv_spec import WARP
from kernels_gpu.launch import require_cuda, to_device
from kernels_gpu.native import BoundLaunch, NativeKernel, blocks_per_multiprocessor, load, multiprocessors
from kernels_gpu.ptx import SIMULATED

# of a block; measured against 4 (NOTES.md). The simulator starts a Python thread for each lane
WARPS = 1 if SIMULATED else 8
LEAST_STEPS = 2  # of a warp, below which a context is not split further
MAX_WORDS = 1 << 32  # of a cache: words are counted in 32 bits


@dataclass(frozen=True, eq=False)
class CacheSide:
    """Keys or values of all sequences and heads, packed: ``codes`` and ``scale`` as ``pack_tensor`` gives them.

    Args:
        config: the encoding.
        shape: (sequences, key heads, capacity, head_dim).
        codes: int32 ``[sequences * heads * capacity, words]``.
        scale: float16, one for each row.
    """

    config: TensorConfig
    shape: tuple[int, int, int, int]
    codes: Tensor
    scale: Tensor

    def __post_init__(self) -> None:
        b, heads, capacity, d = self.shape
        rows, words = b * heads * capacity, row_words(d, cache_format(self.config).bits)
        if self.codes.nbytes != 4 * rows * words or self.scale.numel() < rows or self.scale.dtype != torch.float16:
            raise ValueError(
                f"codes and scale of a cache {self.shape!r} must take {4 * rows * words} bytes and {rows} float16, "
                f"not {self.codes.nbytes!r} bytes and {self.scale.numel()!r} {self.scale.dtype}"
            )
        if rows * words >= MAX_WORDS:
            raise NotImplementedError(f"words of a cache must be fewer than {MAX_WORDS}, not {rows * words!r}")

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return self.codes.nbytes + self.scale.nbytes

    def clone(self) -> CacheSide:
        """The same in other memory."""
        return CacheSide(self.config, self.shape, self.codes.clone(), self.scale.clone())


def cache_side(tensor: QuantizedTensor, shape: tuple[int, int, int, int], device: torch.device | str) -> CacheSide:
    """A quantized matrix of all rows ``[sequences * heads * capacity, head_dim]`` packed on ``device``.

    Raises:
        ValueError: another shape.
        NotImplementedError: an encoding without a kernel.
    """
    b, heads, capacity, d = shape
    if tensor.shape != (b * heads * capacity, d):
        raise ValueError(f"a matrix of the cache {shape!r} must be {b * heads * capacity} x {d}, not {tensor.shape!r}")
    cache_format(tensor.config)
    arrays = pack_tensor(tensor)
    return CacheSide(tensor.config, shape, to_device(arrays["codes"], device), to_device(arrays["scale"], device))


@lru_cache(maxsize=64)
def _kernel(spec: AttentionSpec, device: torch.device) -> NativeKernel:
    return load(make_body(spec), ARGUMENTS, repr(spec))


@lru_cache(maxsize=64)
def _merge(spec: AttentionSpec, device: torch.device) -> NativeKernel:
    return load(make_merge(spec), MERGE_ARGUMENTS, f"merge {spec!r}")


def spec_of(
    key: CacheSide, value: CacheSide, query: Tensor, *, split: bool, scale: float | None, warps: int = WARPS
) -> AttentionSpec:
    """The kernel of a launch."""
    heads, d = key.shape[1], key.shape[3]
    key_format, value_format = cache_format(key.config), cache_format(value.config)
    return AttentionSpec(
        head_dim=d,
        heads=heads,
        group=query.shape[1] // heads,
        key_bits=key_format.bits,
        value_bits=value_format.bits,
        key_step=key_format.step,
        value_step=value_format.step,
        scale=d**-0.5 if scale is None else scale,
        warps=warps,
        split=split,
        bfloat=query.dtype == torch.bfloat16,
    )


def choose_splits(pairs: int, capacity: int, resident: int, *, warps: int) -> int:
    """Blocks for each sequence and key head: as many as keep ``resident`` blocks busy in whole waves.

    >>> [choose_splits(*given, warps=8) for given in ((32, 4096, 264), (512, 4096, 264), (8, 100, 264))]
    [8, 1, 1]
    """
    most = max(1, capacity // (STEP_TOKENS * warps * LEAST_STEPS))
    if pairs >= resident:
        return 1
    return min(most, max(1, resident // pairs))


def prepare(
    query: Tensor,
    key: CacheSide,
    value: CacheSide,
    lengths: Tensor,
    out: Tensor,
    *,
    splits: int | None = None,
    warps: int = WARPS,
    scale: float | None = None,
    overlapped: bool = True,
) -> list[BoundLaunch]:
    """Bind the launches: one, or two where contexts are split over blocks.

    Args:
        query: ``[sequences, query heads, head_dim]`` float16 or bfloat16, contiguous.
        key, value: the cache.
        lengths: int32 ``[sequences]``: tokens that count, at most the capacity.
        out: like ``query``.
        splits: blocks for each sequence and key head; ``None`` chooses.
        warps: of a block.
        scale: of the scores; ``None`` for ``head_dim ** -0.5``.
        overlapped: may start while the kernel before it in the stream still runs, and waits before it reads.
    """
    b, heads, capacity, _ = key.shape
    pairs = b * heads
    if splits is None:
        kernel = _kernel(spec_of(key, value, query, split=True, scale=scale, warps=warps), query.device)
        splits = choose_splits(pairs, capacity, _resident(kernel, warps, query.device), warps=warps)
    chunk = max(1, ceil_div(ceil_div(capacity, splits), STEP_TOKENS)) * STEP_TOKENS
    splits = max(1, ceil_div(capacity, chunk))
    spec = spec_of(key, value, query, split=splits > 1, scale=scale, warps=warps)
    kernel = _kernel(spec, query.device)
    rows = query.shape[0] * query.shape[1]
    partial = torch.empty(max(1, rows * splits * spec.result_words), dtype=torch.float32, device=query.device)
    launches = [
        BoundLaunch(
            kernel,
            pairs * splits,
            warps * WARP,
            (query, key.codes, key.scale, value.codes, value.scale, lengths, partial, out, capacity, chunk, splits),
            shared_bytes=spec.shared_bytes,
            overlapped=overlapped,
        )
    ]
    if splits > 1:
        merge, given = _merge(spec, query.device), (partial, out, splits)
        threads = spec.head_dim * MERGE_TEAMS
        words = 3 * threads  # maximum, sum of weights, sum
        launches.append(BoundLaunch(merge, rows, threads, given, shared_bytes=4 * words, overlapped=overlapped))
    return launches


def _resident(kernel: NativeKernel, warps: int, device: torch.device) -> int:
    return max(1, blocks_per_multiprocessor(kernel, warps * WARP, 1 << 14)) * multiprocessors(device)


def decode_attention(
    query: Tensor, key: CacheSide, value: CacheSide, lengths: Tensor, *, scale: float | None = None
) -> Tensor:
    """``softmax(scale * query keys^T) values`` for one token of each sequence.

    Args:
        query: ``[sequences, query heads, head_dim]`` float16 or bfloat16; query heads are 1 to 8 times key heads.
        key, value: the cache.
        lengths: int32 ``[sequences]``: tokens of each sequence that count; 0 gives zeros.
        scale: of the scores; ``None`` for ``head_dim ** -0.5``.

    Returns:
        Like ``query``. A NaN in a query, or in a scale of a token that counts, makes its heads' results NaN.

    Raises:
        TypeError: another dtype.
        ValueError: shapes that do not belong together, lengths beyond the capacity, or another device.
        NotImplementedError: a shape or an encoding without a kernel.
        RuntimeError: no usable CUDA device.
    """
    if query.dtype not in (torch.float16, torch.bfloat16) or lengths.dtype != torch.int32:
        raise TypeError(
            f"query and lengths must be float16 or bfloat16, and int32, not {query.dtype} and {lengths.dtype}"
        )
    b, heads, capacity, d = key.shape
    fits = query.dim() == 3 and query.shape[0] == b and query.shape[2] == d and heads > 0
    fits = fits and query.shape[1] % heads == 0
    if not fits or not query.is_contiguous() or query.shape[1] == 0:
        raise ValueError(
            f"query must be a contiguous [{b}, multiple of {heads}, {d}], not of shape {list(query.shape)!r}"
        )
    if value.shape != key.shape:
        raise ValueError(f"values must be of the keys' shape {key.shape!r}, not {value.shape!r}")
    if lengths.shape != (b,):
        raise ValueError(f"lengths must be [{b}], not of shape {list(lengths.shape)!r}")
    if b and (int(lengths.max()) > capacity or int(lengths.min()) < 0):
        raise ValueError(f"lengths must be 0 to the capacity {capacity}, not {lengths.tolist()!r}")
    if not SIMULATED:
        require_cuda()
    devices = {t.device for t in (query, key.codes, key.scale, value.codes, value.scale, lengths)}
    if len(devices) != 1 or not (SIMULATED or query.is_cuda):
        raise ValueError(f"query, cache and lengths must be on one CUDA device, not {sorted(map(str, devices))!r}")
    out = torch.empty_like(query)
    if out.numel():
        for launch in prepare(query, key, value, lengths, out, scale=scale):
            launch()
    return out
