"""Fits how small tensors are summed over NVLink: the lowest tenth of Vidur's all-reduces below 4 MiB.

Times there have two states (``hwmodel.link``), so that a mean would be of neither: the loss is that of the tenth
percentile of log times. ``python -m hwmodel.link_fit`` prints the constants. Needs scipy (extra ``test``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from hwmodel.gpu_truth import shared_file
from hwmodel.link import NVLINK3, NVLINK4, Link, all_reduce_s

SYSTEMS: tuple[tuple[str, Link], ...] = (("a100_dgx", NVLINK3), ("h100_dgx", NVLINK4))
LARGE_BYTES = 4 << 20
_QUANTILE = 0.1
_STARTS = ((5e-6, 0.5e-6, 0.3), (5e-6, 1.5e-6, 0.3), (15e-6, 0.5e-6, 0.3), (15e-6, 1.5e-6, 0.3))


@dataclass(frozen=True)
class AllReduces:
    """Measured all-reduces inside one node: bytes, GPUs and median seconds of each."""

    sizes: npt.NDArray[np.int64]
    gpus: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.float64]

    def predicted(self, link: Link) -> npt.NDArray[np.float64]:
        """Seconds over ``link``."""
        pairs = zip(self.sizes.tolist(), self.gpus.tolist(), strict=True)
        return np.array([all_reduce_s(size, gpus, link) for size, gpus in pairs])

    def lowest(self) -> npt.NDArray[np.bool_]:
        """Whether a row is of the lowest tenth of its octave of sizes and its number of GPUs."""
        octave = pd.Series(np.floor(np.log2(self.sizes)))
        times = pd.Series(self.seconds)
        limits = times.groupby([octave, pd.Series(self.gpus)]).transform(lambda part: part.quantile(_QUANTILE))
        return (times <= limits).to_numpy()


def small_all_reduces(table: pd.DataFrame, system: str) -> AllReduces:
    """Vidur's rows of one system below ``LARGE_BYTES``."""
    rows = table[(table["system"] == system) & (table["collective"] == "all_reduce")]
    rows = rows[(rows["num_workers"] == rows["devices_per_node"]) & (rows["size"] < LARGE_BYTES)]
    return AllReduces(rows["size"].to_numpy(), rows["num_workers"].to_numpy(), rows["median_ms"].to_numpy() / 1e3)


def fit_small(rows: AllReduces, link: Link) -> Link:
    """``link`` with the constants of small tensors that suit the lowest tenth of ``rows`` best."""
    from scipy.optimize import minimize

    def changed(logs: npt.NDArray[np.float64]) -> Link:
        start_s, step_s, share = np.exp(logs).tolist()
        return replace(link, small_start_s=start_s, small_step_s=step_s, small_share=min(share, 1.0))

    def loss(logs: npt.NDArray[np.float64]) -> float:
        over = np.log(rows.seconds / rows.predicted(changed(logs)))
        return float(np.where(over > 0, _QUANTILE * over, (_QUANTILE - 1) * over).mean())

    fits = [minimize(loss, np.log(start), method="Nelder-Mead", options={"fatol": 1e-9}) for start in _STARTS]
    return changed(min(fits, key=lambda fit: fit.fun).x)


def main() -> None:
    """Print the constants of both generations."""
    path = shared_file("vidur_network.csv")
    if path is None:
        raise SystemExit("vidur_network.csv must lie in reference/data of CODESIGN_SHARED or ../shared")
    for system, link in SYSTEMS:
        found = fit_small(small_all_reduces(pd.read_csv(path), system), link)
        print(
            f"{link.name}: small_start_s={found.small_start_s:.3g}, small_step_s={found.small_step_s:.3g}, "
            f"small_share={found.small_share:.3g}"
        )


if __name__ == "__main__":
    main()
