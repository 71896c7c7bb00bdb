"""Links between GPUs: time of an all-reduce and of a send, from bandwidth on the data sheet and a few shared constants.

A ring moves ``2 (N - 1) / N`` of the tensor through every GPU's link (Patarasuk and Yuan, JPDC 69(2), 2009), a tree
takes fewer steps; the library takes what is faster. Short messages are ruled by launch and steps, and were measured
with a spread of a factor of five, so only their order of magnitude is meant. ``python -m hwmodel.gpu_validate`` prints
the errors against Vidur's tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """What joins one GPU to its peers.

    Args:
        name: unique, lower case.
        bytes_per_s: of one GPU, in one direction, on the data sheet.
        ring_share, send_share: of it that all-reduces and sends sustain.
        start_s: of an all-reduce, from launch until the first byte moves.
        step_s: of one hop of an all-reduce.
        send_start_s: of a send.
        source: where the figures come from.
    """

    name: str
    bytes_per_s: float
    ring_share: float
    send_share: float
    start_s: float
    step_s: float
    send_start_s: float
    source: str

    def __post_init__(self) -> None:
        if not self.bytes_per_s > 0:
            raise ValueError(f"bytes_per_s of link {self.name} must be above 0, not {self.bytes_per_s!r}")
        for what in ("ring_share", "send_share"):
            if not 0 < getattr(self, what) <= 1:
                raise ValueError(
                    f"{what} of link {self.name} must be above 0 and at most 1, not {getattr(self, what)!r}"
                )


def all_reduce_s(size_bytes: float, gpus: int, link: Link) -> float:
    """Seconds to sum a tensor of ``size_bytes`` over ``gpus``; 0 for one GPU.

    Raises:
        ValueError: fewer than one GPU, or a negative size.
    """
    _check(size_bytes, gpus)
    if gpus == 1:
        return 0.0
    rate = link.bytes_per_s * link.ring_share
    ring_s = 2 * (gpus - 1) * link.step_s + 2 * (gpus - 1) / gpus * size_bytes / rate
    tree_s = 2 * math.ceil(math.log2(gpus)) * link.step_s + 2 * size_bytes / rate
    return link.start_s + min(ring_s, tree_s)


def send_s(size_bytes: float, link: Link) -> float:
    """Seconds to send ``size_bytes`` from one GPU to its neighbour.

    Raises:
        ValueError: a negative size.
    """
    _check(size_bytes, 2)
    return link.send_start_s + size_bytes / (link.bytes_per_s * link.send_share)


def _check(size_bytes: float, gpus: int) -> None:
    if gpus < 1 or size_bytes < 0:
        raise ValueError(f"gpus must be at least 1 and size_bytes at least 0, not {gpus!r} and {size_bytes!r}")


_VIDUR = "microsoft/vidur, measured collectives inside one DGX (NCCL)"
# ring_share, start_s, step_s of both NVLinks: least mean absolute log error over all-reduces of 2, 4 and 8 GPUs of that
# generation in Vidur's tables. The shares differ so much that one generation does not predict the other (45 % off).
NVLINK3 = Link(
    "nvlink3", bytes_per_s=300e9,  # NVIDIA A100 data sheet: 600 GB/s in both directions
    ring_share=0.576, send_share=0.80, start_s=40.2e-6, step_s=1.95e-6, send_start_s=7.6e-6,  # sends: NVLink 4's
    source=f"NVIDIA A100 data sheet; {_VIDUR}",
)  # fmt: skip
NVLINK4 = Link(
    "nvlink4", bytes_per_s=450e9,  # NVIDIA H100 data sheet: 900 GB/s in both directions
    ring_share=0.787, send_share=0.803, start_s=25.0e-6, step_s=0.56e-6, send_start_s=7.6e-6,
    source=f"NVIDIA H100 data sheet; {_VIDUR}",
)  # fmt: skip
INFINIBAND_NDR = Link(
    "infiniband_ndr", bytes_per_s=50e9,  # InfiniBand NDR: 400 Gb/s for each port
    # sends between two DGX H100 in Vidur's tables run at 34.5 GB/s; ASSUMPTION: rings as sends
    ring_share=0.69, send_share=0.69, start_s=25.0e-6, step_s=0.56e-6, send_start_s=7.1e-6,
    source="InfiniBand Trade Association, NDR; microsoft/vidur, sends between two DGX H100",
)  # fmt: skip
_PCIE = "PCI Express base specification"
# ASSUMPTION: shares and times of PCIe as measured over NVLink 4; nothing was measured here
PCIE4_X8 = Link(
    "pcie4_x8", 15.75e9, 0.787, 0.803, 25.0e-6, 0.56e-6, 7.6e-6, f"{_PCIE} 4.0: 16 GT/s, 128b/130b, 8 lanes"
)
PCIE4_X16 = Link(
    "pcie4_x16", 31.5e9, 0.787, 0.803, 25.0e-6, 0.56e-6, 7.6e-6, f"{_PCIE} 4.0: 16 GT/s, 128b/130b, 16 lanes"
)
PCIE5_X16 = Link(
    "pcie5_x16", 63.0e9, 0.787, 0.803, 25.0e-6, 0.56e-6, 7.6e-6, f"{_PCIE} 5.0: 32 GT/s, 128b/130b, 16 lanes"
)
LINKS: Mapping[str, Link] = {
    link.name: link for link in (NVLINK3, NVLINK4, INFINIBAND_NDR, PCIE4_X8, PCIE4_X16, PCIE5_X16)
}
