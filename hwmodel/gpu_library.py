"""What is fitted, not printed on a data sheet: one set of constants for a GPU library on an architecture family.

Every constant has a physical meaning and a name; ``data/gpu_library.csv`` holds the values, and
``python -m hwmodel.gpu_fit`` regenerates them from measured times. The tiles are those that the library's kernels are
named after.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

DATA = Path(__file__).parent / "data"
CONSTANTS = DATA / "gpu_library.csv"

Tiles = tuple[tuple[int, int], ...]  # (outputs, tokens) of one thread block

# Names of cuBLAS kernels up to CUDA 12 (ampere_fp16_s16816gemm_fp16_128x128_..., sm90_xmma_gemm_..._tilesize128x256x64)
CUBLAS12_TILES: Tiles = (
    (64, 16), (128, 16), (64, 32), (128, 32), (64, 64), (128, 64), (64, 128), (128, 128), (256, 128), (128, 256),
)  # fmt: skip
# Names of cuBLAS kernels of CUDA 13 on Hopper (nvjet_sm90_hsh_192x128_64x5_...), in data/gpu_measured_h100.csv
CUBLAS13_TILES: Tiles = (
    (64, 8), (64, 16), (128, 16), (64, 32), (128, 32), (128, 48), (128, 64), (128, 80), (128, 96), (192, 96),
    (128, 128), (192, 128), (192, 192), (128, 192), (128, 256), (256, 128), (320, 128),
)  # fmt: skip
SPLITS = (1, 2, 4)  # parts of k that thread blocks share; more did not fit better


@dataclass(frozen=True)
class GpuLibrary:
    """Fitted constants of matrix products.

    Args:
        name: of the set.
        tiles: tiles the library chooses among.
        launch_s: start and end of a kernel.
        wave_s: filling the pipeline, once for each round of thread blocks.
        tensor_share: of the tensor cores' peak in the inner loop of a tile that the feed does not hold back.
        feed_bytes_per_mac: operand bytes that reach an SM from L2, for each multiply-add of its peak.
        dram_share: of peak bandwidth with enough bytes under way.
        dram_latency_s: of a load, in Little's law.
        overlap_norm: exponent p of (compute**p + memory**p)**(1/p); large is perfect overlap.
        store_over_dram: rate at which tiles are written, over the DRAM's peak bandwidth.
        drift: how much of the idle part of a last round is hidden, because thread blocks do not run in step.
        split_s: the extra kernel that adds the parts of k up.
        throttle: slow-down of long products by the power limit, for tensor cores always busy.
        throttle_s: duration, at peak, of products that suffer half of it (gaps between short ones cool the GPU).
        choice_temperature: log-ratio of times that the library's choice of tile cannot tell apart.
        choice_loss: log-ratio of the time of its choice over the soft minimum of all candidates.
        large_tile_bias: how much it prefers tiles e times as large, as log-ratio of times.
        split_bias: how much it avoids splitting k, likewise.
        source: measured rows behind them.
    """

    name: str
    tiles: Tiles
    launch_s: float
    wave_s: float
    tensor_share: float
    feed_bytes_per_mac: float
    dram_share: float
    dram_latency_s: float
    overlap_norm: float
    store_over_dram: float
    drift: float
    split_s: float
    throttle: float
    throttle_s: float
    choice_temperature: float
    choice_loss: float
    large_tile_bias: float
    split_bias: float
    source: str

    def __post_init__(self) -> None:
        for what in ("tensor_share", "dram_share"):
            if not 0 < getattr(self, what) <= 1:
                raise ValueError(
                    f"{what} of library {self.name} must be above 0 and at most 1, not {getattr(self, what)!r}"
                )
        if not 0 <= self.drift <= 1:
            raise ValueError(f"drift of library {self.name} must be in [0, 1], not {self.drift!r}")
        if not self.overlap_norm >= 1:
            raise ValueError(f"overlap_norm of library {self.name} must be at least 1, not {self.overlap_norm!r}")
        for what in ("feed_bytes_per_mac", "store_over_dram", "throttle_s", "choice_temperature"):
            if not getattr(self, what) > 0:
                raise ValueError(f"{what} of library {self.name} must be above 0, not {getattr(self, what)!r}")
        for what in ("launch_s", "wave_s", "split_s", "throttle", "dram_latency_s", "choice_loss"):
            if not getattr(self, what) >= 0:
                raise ValueError(f"{what} of library {self.name} must be at least 0, not {getattr(self, what)!r}")


FITTED = tuple(f.name for f in fields(GpuLibrary) if f.type == "float")
_TILES: Mapping[str, Tiles] = {"cublas12": CUBLAS12_TILES, "cublas13": CUBLAS13_TILES}


@cache
def gpu_libraries(path: Path = CONSTANTS) -> Mapping[str, GpuLibrary]:
    """The recorded sets by name.

    Raises:
        ValueError: the file is missing, or lacks a constant.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {
            row["name"]: GpuLibrary(
                name=row["name"], tiles=_TILES[row["tiles"]], source=row["source"],
                **{name: float(row[name]) for name in FITTED},
            )
            for row in rows
        }  # fmt: skip
    except (OSError, KeyError, TypeError) as error:
        raise ValueError(
            f"constants of GPU libraries must be a CSV table with {', '.join(FITTED)}, not {error!r}"
        ) from None


def tiles_name(tiles: Tiles) -> str:
    """The name under which a set of tiles is recorded."""
    return next(name for name, known in _TILES.items() if known == tiles)
