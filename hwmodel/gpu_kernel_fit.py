"""What fits of GPU kernels share: measured products, which of them are held out, least squares with a soft loss.

Needs scipy (extra ``test``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from hwmodel.gpu import Gpu
from hwmodel.gpu_gemv_encoding import GemvEncoding

FITTED_GPU = "h100"
EARLIER = "earlier kernel"  # what a row is to a fit that was measured before the kernel was changed
_SOFT = 0.05  # log errors above count linearly


class Timed(Protocol):
    """A measured kernel."""

    @property
    def seconds(self) -> float: ...


Case = TypeVar("Case", bound=Timed)
Cut = TypeVar("Cut")


@dataclass(frozen=True)
class ProductCase(Generic[Cut]):
    """One measured kernel that multiplies by an encoded weight.

    Args:
        name: recipe.
        encoding, shape, cut, weight_bytes: as in the kernel's model.
        gpu, copy_bytes_per_s: the device and its measured copy rate.
        seconds: measured.
    """

    name: str
    encoding: GemvEncoding
    shape: tuple[int, int, int]
    cut: Cut
    weight_bytes: float
    gpu: Gpu
    copy_bytes_per_s: float
    seconds: float


def use_in_fit(gpu: str, held: Mapping[str, bool]) -> str:
    """How a row relates to a fit: its GPU's name, and what of it is held out.

    >>> use_in_fit("h100", {"format": True, "shape": True}), use_in_fit("h100", {"format": False})
    ('format and shape held out', 'fitted')
    """
    if gpu != FITTED_GPU:
        return "other GPU"
    kinds = [kind for kind, is_held in held.items() if is_held]
    return f"{' and '.join(kinds)} held out" if kinds else "fitted"


def fit_logs(
    cases: Sequence[Case],
    predicted: Callable[[Case, Mapping[str, float]], float],
    bounds: Mapping[str, tuple[float, float, float]],
) -> dict[str, float]:
    """Values that suit the measured rows best.

    Args:
        cases: measured rows.
        predicted: seconds of a row with given values.
        bounds: lowest, start and highest of each value.

    Raises:
        ValueError: fewer rows than values.
    """
    from scipy.optimize import least_squares

    if len(cases) < len(bounds):
        raise ValueError(f"rows to fit must be at least {len(bounds)}, one for each constant, not {len(cases)}")
    low, start, high = np.array(list(bounds.values())).T
    measured = np.array([case.seconds for case in cases])

    def values_at(shares: npt.NDArray[np.float64]) -> dict[str, float]:
        return dict(zip(bounds, (low + (high - low) * shares).tolist(), strict=True))

    def residuals(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        values = values_at(shares)
        errors: npt.NDArray[np.float64] = np.log(np.array([predicted(case, values) for case in cases]) / measured)
        return errors

    share = (start - low) / (high - low)
    found = least_squares(
        residuals, share, bounds=(0, 1), diff_step=1e-4, loss="soft_l1", f_scale=_SOFT, x_scale=0.3, max_nfev=150
    )
    return values_at(found.x)
