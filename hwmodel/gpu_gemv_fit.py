"""Fits the constants of ``gpu_gemv`` to part of an H100's rows; formats, a shape and a number of tokens are held out.

Least squares with a soft loss on log errors, from the H100 alone, in two steps: eleven constants from the formats that
were measured first, then the one that only later formats need (floats above 4 bits), with the eleven held.
``python -m codesign.gpu_truth --fit`` reads the records and writes ``data/gpu_gemv.csv``. Needs scipy (extra ``test``);
takes some seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hwmodel.gpu_gemv import FITTED, GemvConstants, GemvTime, gemv_time
from hwmodel.gpu_gemv_cut import GemvCut
from hwmodel.gpu_kernel_fit import ProductCase, fit_logs, use_in_fit

# Held out: of every family of decoding one format or more (lookups with and without selectors, two digits, zero points,
# small groups), the shape between the others and those of a whole decoder, and the number of tokens between the others.
HELD_FORMATS = (
    "bitmod4_g128", "uint8_g128", "uint2_g64", "fp3_g128", "mxfp4", "nf3_g64", "int6_g128", "uint5_g128", "int7_g128",
    "uint7_g128", "e3m2_g128", "mxfp6", "e4m3_g128", "e5m2_g128", "mxfp8", "learned3",
)  # fmt: skip
# Fitted in the second step: of odd numbers of bits, with zero points, floats, a learned codebook
LATER_FORMATS = ("int5_g128", "uint6_g128", "e2m3_g128", "e4m3", "learned4")
LATER = ("float_instructions",)
FIRST = tuple(name for name in FITTED if name not in LATER)
HELD_SHAPES = ((11008, 4096), (12288, 4096), (22016, 4096), (4096, 11008))
HELD_TOKENS = (4,)
# constant: (lowest, start, highest). Latencies and shares keep to what is physical; read_over_copy may pass 1 because
# a copy turns the memory's bus around.
BOUNDS: Mapping[str, tuple[float, float, float]] = {
    "launch_s": (0.3e-6, 1e-6, 4e-6), "input_instructions": (20, 100, 300), "read_over_copy": (0.98, 1.02, 1.12),
    "stage_cycles": (0, 300, 2000), "product_cycles": (0, 5, 40), "sum_cycles": (0, 60, 600),
    "tensor_cycles": (0.5, 3, 6), "between_s": (1e-8, 0.7e-6, 3e-6), "tile_cycles": (0, 800, 3000),
    "memory_latency_s": (0.1e-6, 0.6e-6, 2e-6), "overlap_norm": (1.5, 4, 12), "float_instructions": (0, 0.2, 3),
}  # fmt: skip


class GemvCase(ProductCase[GemvCut]):
    """One measured kernel."""

    def predicted(self, constants: GemvConstants | None = None) -> GemvTime:
        """The model's time; with the recorded constants by default."""
        return gemv_time(
            self.encoding, self.shape, self.cut, weight_bytes=self.weight_bytes, gpu=self.gpu,
            copy_bytes_per_s=self.copy_bytes_per_s, constants=constants,
        )  # fmt: skip


def use_of(name: str, shape: tuple[int, int, int], gpu: str) -> str:
    """How a row of m, n, k relates to the fit.

    >>> use_of("int4_g128", (1, 4096, 4096), "h100"), use_of("mxfp4", (4, 11008, 4096), "h100")
    ('fitted', 'format and shape and tokens held out')
    """
    m, n, k = shape
    return use_in_fit(
        gpu, {"format": name in HELD_FORMATS, "shape": (n, k) in HELD_SHAPES, "tokens": m in HELD_TOKENS}
    )  # fmt: skip


def fit(cases: Sequence[GemvCase]) -> GemvConstants:
    """Constants that suit the measured rows best; which rows those are is the caller's.

    Without rows of ``LATER_FORMATS`` the constants that only they need are zero.

    Raises:
        ValueError: fewer rows than constants.
    """
    first = [case for case in cases if case.name not in LATER_FORMATS]
    later = [case for case in cases if case.name in LATER_FORMATS]
    found = _fitted(first, FIRST, {})
    return _fitted(later, LATER, {name: getattr(found, name) for name in FIRST}) if later else found


def _fitted(cases: Sequence[GemvCase], names: Sequence[str], held: Mapping[str, float]) -> GemvConstants:
    def made(values: Mapping[str, float]) -> GemvConstants:
        return GemvConstants(**{**held, **values})

    bounds = {name: BOUNDS[name] for name in names}
    return made(fit_logs(cases, lambda case, values: case.predicted(made(values)).seconds, bounds))
