"""Links between GPUs: time of an all-reduce and of a send, from bandwidth on the data sheet and a few shared constants.

A ring moves ``2 (N - 1) / N`` of the tensor through every GPU's link (Patarasuk and Yuan, JPDC 69(2), 2009), a tree
takes fewer steps; the library takes what is faster. It sends small tensors by another protocol, whose steps are short
and whose words carry a flag each, at a fraction of the bandwidth (NCCL's LL and LL128). ``all_to_all_s`` is as many
sends at once as there are peers.

Below 4 MiB measured times have two states. The upper one, 37 to 45 us on Vidur's DGX H100 and 44 to 67 us on the A100,
is the same for 2 KB and for 1 MB, for two GPUs and for eight, as of kernels that wait for a peer's host to launch its
own. The host is not priced (in a CUDA graph it is not there), so what is meant here is the lower state.
``python -m hwmodel.gpu_validate`` prints the errors against both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace


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
        small_start_s, small_step_s, small_share: of an all-reduce of a small tensor: start, one hop of the ring, and
            the share of bandwidth.
        source: where the figures come from.
    """

    name: str
    bytes_per_s: float
    ring_share: float
    send_share: float
    start_s: float
    step_s: float
    send_start_s: float
    small_start_s: float
    small_step_s: float
    small_share: float
    source: str

    def __post_init__(self) -> None:
        if not self.bytes_per_s > 0:
            raise ValueError(f"bytes_per_s of link {self.name} must be above 0, not {self.bytes_per_s!r}")
        for what in ("ring_share", "send_share", "small_share"):
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
    rate, hops = link.bytes_per_s * link.ring_share, 2 * (gpus - 1)
    ring_s = hops * link.step_s + hops / gpus * size_bytes / rate
    tree_s = 2 * math.ceil(math.log2(gpus)) * link.step_s + 2 * size_bytes / rate
    small_s = hops * link.small_step_s + hops / gpus * size_bytes / (link.bytes_per_s * link.small_share)
    return min(link.start_s + min(ring_s, tree_s), link.small_start_s + small_s)


def send_s(size_bytes: float, link: Link) -> float:
    """Seconds to send ``size_bytes`` from one GPU to its neighbour.

    Raises:
        ValueError: a negative size.
    """
    _check(size_bytes, 2)
    return link.send_start_s + size_bytes / (link.bytes_per_s * link.send_share)


def all_to_all_s(size_bytes: float, gpus: int, link: Link) -> float:
    """Seconds in which each of ``gpus`` sends a different part of ``size_bytes`` to every other; 0 for one GPU.

    A GPU keeps one part of N and sends the others through its one link, one message for each peer: a start and
    ``(N - 1) / N`` of the bytes. Nothing of it was measured.

    Args:
        size_bytes: that one GPU holds for all, itself included.
        gpus: how many.
        link: between them.

    Raises:
        ValueError: fewer than one GPU, or a negative size.
    """
    _check(size_bytes, gpus)
    if gpus == 1:
        return 0.0
    return link.send_start_s + (gpus - 1) / gpus * size_bytes / (link.bytes_per_s * link.send_share)


def _check(size_bytes: float, gpus: int) -> None:
    if gpus < 1 or size_bytes < 0:
        raise ValueError(f"gpus must be at least 1 and size_bytes at least 0, not {gpus!r} and {size_bytes!r}")


_VIDUR = "microsoft/vidur, measured collectives inside one DGX (NCCL)"
# ring_share, start_s, step_s of both NVLinks: least mean absolute log error over all-reduces of 2, 4 and 8 GPUs of that
# generation in Vidur's tables. The shares differ so much that one generation does not predict the other (45 % off).
# small_*: the lowest tenth of the same below 4 MiB (``python -m hwmodel.link_fit``)
NVLINK3 = Link(
    "nvlink3", bytes_per_s=300e9,  # NVIDIA A100 data sheet: 600 GB/s in both directions
    ring_share=0.576, send_share=0.80, start_s=40.2e-6, step_s=1.95e-6, send_start_s=7.6e-6,  # sends: NVLink 4's
    small_start_s=13.6e-6, small_step_s=0.43e-6, small_share=0.313,  # the same tables, below 4 MiB
    source=f"NVIDIA A100 data sheet; {_VIDUR}",
)  # fmt: skip
NVLINK4 = Link(
    "nvlink4", bytes_per_s=450e9,  # NVIDIA H100 data sheet: 900 GB/s in both directions
    # fitted to Vidur's tables, as above
    ring_share=0.787, send_share=0.803, start_s=25.0e-6, step_s=0.56e-6, send_start_s=7.6e-6,
    small_start_s=5.14e-6, small_step_s=1.02e-6, small_share=0.301,  # the same
    source=f"NVIDIA H100 data sheet; {_VIDUR}",
)  # fmt: skip
INFINIBAND_NDR = Link(
    "infiniband_ndr", bytes_per_s=50e9,  # InfiniBand NDR: 400 Gb/s for each port
    # sends between two DGX H100 in Vidur's tables run at 34.5 GB/s; ASSUMPTION: rings as sends
    ring_share=0.69, send_share=0.69, start_s=25.0e-6, step_s=0.56e-6, send_start_s=7.1e-6,
    # ASSUMPTION: small tensors take a send's start for each hop
    small_start_s=5.14e-6, small_step_s=7.1e-6, small_share=0.301,
    source="InfiniBand Trade Association, NDR; microsoft/vidur, sends between two DGX H100",
)  # fmt: skip
_PCIE = "PCI Express base specification"
# ASSUMPTION: shares and times of PCIe as measured over NVLink 4; nothing was measured here
PCIE4_X8, PCIE4_X16, PCIE5_X16 = (
    replace(NVLINK4, name=name, bytes_per_s=rate, source=f"{_PCIE} {sheet}")
    for name, rate, sheet in (
        ("pcie4_x8", 15.75e9, "4.0: 16 GT/s, 128b/130b, 8 lanes"),
        ("pcie4_x16", 31.5e9, "4.0: 16 GT/s, 128b/130b, 16 lanes"),
        ("pcie5_x16", 63.0e9, "5.0: 32 GT/s, 128b/130b, 16 lanes"),
    )
)
LINKS: Mapping[str, Link] = {
    link.name: link for link in (NVLINK3, NVLINK4, INFINIBAND_NDR, PCIE4_X8, PCIE4_X16, PCIE5_X16)
}
