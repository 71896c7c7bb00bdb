"""Fits the constants of ``gpu_branches`` to part of an H100's layers; formats of factors and a shape are held out.

``python -m codesign.gpu_truth --fit`` reads the records and writes ``data/gpu_branches.csv``. Needs scipy (extra
``test``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from datatypes.layer_config import LayerConfig, TensorConfig
from hwmodel.gpu import Gpu
from hwmodel.gpu_branches import Beside, beside_s, dense_inputs, ring_s
from hwmodel.gpu_gemv import gemv_time
from hwmodel.gpu_gemv_cut import cut_on
from hwmodel.gpu_gemv_encoding import encoding_of
from hwmodel.gpu_gemv_fit import HELD_SHAPES
from hwmodel.gpu_kernel_fit import fit_logs, use_in_fit
from hwmodel.gpu_launch import alone_s
from hwmodel.gpu_turns import TurnConstants, turn_constants
from hwmodel.units import BYTE_BITS

HELD_LAYERS = ("lqer32_int8", "lqer32_mxint8")
# constant: (lowest, start, highest). A load from L2 takes some 270 cycles of an H100 at least, one from memory twice
# as long; an SM fetches 32 bytes of L2 for each missed input, at 64 bytes a cycle at most
BOUNDS: Mapping[str, tuple[float, float, float]] = {
    "launch_s": (0.3e-6, 0.9e-6, 2e-6), "turn_s": (0.1e-6, 0.3e-6, 1e-6), "cold_s": (0, 0.2e-6, 1e-6),
    "gather_cycles": (0.3, 1.5, 4), "missed_cycles": (0, 0.5, 4), "joined_s": (0.3e-6, 1.5e-6, 4e-6),
    "joined_token_s": (0, 0.2e-6, 1e-6), "joined_tile_s": (0, 0.02e-6, 0.1e-6),
}  # fmt: skip


@dataclass(frozen=True)
class BranchCase:
    """One measured layer: a dense product of an encoded weight and what stands beside it.

    Args:
        name: of the layer.
        config: its encoding.
        shape: m, n, k.
        gpu, copy_bytes_per_s: the device and its measured copy rate.
        seconds: measured.
        fused: a low-rank branch is inside the dense product's launch.
    """

    name: str
    config: LayerConfig
    shape: tuple[int, int, int]
    gpu: Gpu
    copy_bytes_per_s: float
    seconds: float
    fused: bool = True

    @property
    def cold(self) -> bool:
        """Whether the weight drives the inputs out of L2 before the next layer."""
        return self.config.storage_bits(self.shape[1:]).total / BYTE_BITS > self.gpu.l2_bytes

    def predicted_s(self, constants: TurnConstants | None = None) -> float:
        """The model's time; with the recorded constants by default.

        Raises:
            NotImplementedError: a layer without kernels.
        """
        (m, n, _), weight = self.shape, self.config.weight
        if not isinstance(weight, TensorConfig):
            raise NotImplementedError(f"weight of a measured layer must be one encoding, not {weight!r}")
        encoding, dense = encoding_of(weight), (n, dense_inputs(self.config, self.shape[1:]))
        chosen = cut_on(self.gpu, encoding, (m, *dense))
        if chosen is None:
            raise NotImplementedError(f"inputs of a measured layer must fit into shared memory, not {dense[1]!r}")
        c = turn_constants() if constants is None else constants
        cut, launches = chosen
        weight_bytes = weight.storage_bits(dense).total / BYTE_BITS
        product_s = gemv_time(
            encoding, (m, *dense), cut, weight_bytes=weight_bytes, gpu=self.gpu, copy_bytes_per_s=self.copy_bytes_per_s,
            turn_s=c.turn_s,
        ).seconds  # fmt: skip
        where = Beside(self.gpu, self.copy_bytes_per_s, cold=self.cold, more_s=alone_s(self.gpu), constants=c)
        fill_s = ring_s(encoding, cut, weight_bytes, where)
        return product_s + beside_s(self.config, self.shape, where, fill_s, launches=launches if self.fused else 0)


def use_of(case: BranchCase, gpu: str) -> str:
    """How a layer relates to the fit; ``gpu`` is its sheet's name."""
    if case.config.low_rank is None and case.config.outliers is None:
        return "nothing beside"
    held = {"format": case.name in HELD_LAYERS, "shape": case.shape[1:] in HELD_SHAPES}
    return use_in_fit(gpu, held)


def fit(cases: Sequence[BranchCase]) -> TurnConstants:
    """Constants that suit the measured layers best; which layers those are is the caller's.

    Raises:
        ValueError: fewer layers than constants.
    """
    found = fit_logs(cases, lambda case, values: case.predicted_s(TurnConstants(**values)), BOUNDS)
    return TurnConstants(**found)
