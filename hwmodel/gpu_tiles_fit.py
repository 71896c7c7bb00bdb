"""Fits the constants of ``gpu_tiles`` to part of an H100's rows; whole encodings and a whole shape are held out.

Fitted is one encoding of each family: nibbles (INT4), bytes (INT8), two digits (NF4), groups of 16 (NVFP4).
``python -m codesign.gpu_truth --fit`` reads the records and writes ``data/gpu_tiles.csv``. Needs scipy (extra
``test``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hwmodel.gpu_gemv_cut import LAUNCHED, Ring
from hwmodel.gpu_gemv_fit import HELD_SHAPES
from hwmodel.gpu_kernel_fit import EARLIER, ProductCase, fit_logs, use_in_fit
from hwmodel.gpu_tiles import TileConstants, TileCut, TileTime, tile_time

FITTED_FORMATS = ("int4_g128", "int8", "nf4_g64", "nvfp4")
# constant: (lowest, start, highest). Eight products of a warp take 64 cycles at least; one after another, 8 x 33
BOUNDS: Mapping[str, tuple[float, float, float]] = {
    "lone_tile_cycles": (64, 90, 264), "group_slots": (0, 300, 2000), "sharing_norm": (1, 2, 8),
}  # fmt: skip


class TileCase(ProductCase[TileCut]):
    """One measured kernel."""

    def predicted(self, constants: TileConstants | None = None) -> TileTime:
        """The model's time; with the recorded constants by default."""
        return tile_time(
            self.encoding, self.shape, self.cut, weight_bytes=self.weight_bytes, gpu=self.gpu,
            copy_bytes_per_s=self.copy_bytes_per_s, constants=constants,
        )  # fmt: skip


def use_of(name: str, n: int, k: int, gpu: str, ring: Ring = LAUNCHED) -> str:
    """How a row relates to the fit.

    >>> use_of("int4_g128", 4096, 4096, "h100"), use_of("mxfp4", 11008, 4096, "h100")
    ('fitted', 'format and shape held out')
    """
    if ring is not LAUNCHED:
        return EARLIER
    return use_in_fit(gpu, {"format": name not in FITTED_FORMATS, "shape": (n, k) in HELD_SHAPES})


def fit(cases: Sequence[TileCase]) -> TileConstants:
    """Constants that suit the measured rows best; which rows those are is the caller's.

    Raises:
        ValueError: fewer rows than constants.
    """
    found = fit_logs(cases, lambda case, values: case.predicted(TileConstants(**values)).seconds, BOUNDS)
    return TileConstants(**found)
