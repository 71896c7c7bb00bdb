"""How a launch of the tile kernel is cut: ``choose_tile_cut``, whose cuts ``kernels_gpu.gemm_launch`` takes."""

from __future__ import annotations

from collections.abc import Sequence

from hwmodel.gpu import Gpu
from hwmodel.gpu_gemv_encoding import GemvEncoding
from hwmodel.gpu_tiles import TileCut, shared_bytes, tile_time

# eight warps and up to 128 tokens, and a few of four
TILE_CUTS = tuple(
    TileCut(*cut)
    for cut in (
        (16, 8, 1, 2), (8, 8, 1, 2), (8, 4, 2, 2), (8, 2, 2, 2), (6, 4, 2, 2), (6, 8, 1, 2), (4, 8, 1, 3), (4, 4, 2, 2),
        (4, 2, 4, 2), (3, 8, 1, 3), (3, 4, 2, 2), (3, 2, 4, 2), (16, 4, 1, 2), (8, 4, 1, 2), (4, 2, 2, 2), (1, 1, 1, 2),
    )
)  # fmt: skip


def choose_tile_cut(
    encoding: GemvEncoding,
    shape: tuple[int, int, int],
    *,
    weight_bytes: float,
    shared_limit: int,
    gpu: Gpu,
    copy_bytes_per_s: float,
    cuts: Sequence[TileCut] = TILE_CUTS,
) -> tuple[TileCut, float] | None:
    """The cut with the least predicted time of those that fit, and its seconds.

    Args:
        encoding, shape, weight_bytes, gpu, copy_bytes_per_s: as in ``gpu_tiles.tile_time``.
        shared_limit: bytes of shared memory that a block may take.
        cuts: to choose among.

    Returns:
        ``None`` where none fits.
    """
    priced = [
        (
            tile_time(
                encoding, shape, cut, weight_bytes=weight_bytes, gpu=gpu, copy_bytes_per_s=copy_bytes_per_s
            ).seconds,
            cut,
        )
        for cut in cuts
        if shared_bytes(encoding, shape[2], cut) <= shared_limit
    ]
    if not priced:
        return None
    seconds, cut = min(priced, key=lambda pair: pair[0])
    return cut, seconds
