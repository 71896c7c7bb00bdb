"""The roofline: the least time any schedule could take, and where each layer lies under it.

``lower_bound_cycles`` is the bound that ``tests/hwmodel`` holds every price against; ``roofline`` is the info record
behind the dashboard's figure (Williams et al., Roofline, CACM 2009).
"""

from __future__ import annotations

from dataclasses import dataclass

from hwmodel.accelerator import Accelerator
from hwmodel.pe import WIDE_BITS
from hwmodel.price import Bound, Price
from hwmodel.report import CostReport
from hwmodel.units import BYTE_BITS, cycles_to_s


def lower_bound_cycles(price: Price, accelerator: Accelerator) -> float:
    """Cycles that no schedule can undercut: all PEs busy at their fastest, operands moved once at peak bandwidth.

    Work of the vector unit counts at its own lanes.
    """
    on_vector = price.compute_cycles == 0
    peak = float(accelerator.vector.lanes) if on_vector else accelerator.most_macs_per_cycle
    bits_per_cycle = accelerator.dram.bits_per_cycle(accelerator.frequency_hz, sustained=False)
    return max(price.macs / peak, price.compulsory_bits / bits_per_cycle)


@dataclass(frozen=True)
class RooflinePoint:
    """One layer under the roofline.

    Args:
        layer: its name.
        macs_per_byte: arithmetic intensity: wanted multiply-accumulates over bytes moved.
        macs_per_s: achieved.
        bound: what it waits for.
    """

    layer: str
    macs_per_byte: float
    macs_per_s: float
    bound: Bound


@dataclass(frozen=True)
class Roofline:
    """The figure's data.

    Args:
        accelerator: its name.
        bytes_per_s: peak bandwidth: the slope.
        peaks: (label, multiply-accumulates a second): the roofs; several for a bit-serial array.
        points: the layers that multiply.
    """

    accelerator: str
    bytes_per_s: float
    peaks: tuple[tuple[str, float], ...]
    points: tuple[RooflinePoint, ...]


def _roof(bits: int, accelerator: Accelerator) -> str:
    return f"{bits}-bit weights and activations" if accelerator.pe.encoded_activations else f"{bits}-bit weights"


def _peak(bits: int, accelerator: Accelerator) -> float:
    """Multiply-accumulates a second with integers of ``bits``, activations too where they are encoded."""
    activation = bits if accelerator.pe.encoded_activations else WIDE_BITS
    return accelerator.peak_macs_per_cycle_of_bits(bits, activation) * accelerator.frequency_hz


def roofline(report: CostReport, accelerator: Accelerator) -> Roofline:
    """The layers of ``report`` under the roofs of ``accelerator``."""
    pe = accelerator.pe
    scaled = pe.bit_serial or pe.encoded_activations
    widths = [bits for bits in (2, 4, 6, 8) if bits <= pe.native_bits] if scaled else [pe.max_integer_bits or WIDE_BITS]
    peaks = tuple((_roof(bits, accelerator), _peak(bits, accelerator)) for bits in widths)
    points = []
    for layer in report.layers:
        price = layer.price
        if price.macs and price.dram_bits:
            seconds = cycles_to_s(price.cycles, report.frequency_hz)
            intensity = price.macs / (price.dram_bits / BYTE_BITS)
            points.append(RooflinePoint(layer.layer, intensity, price.macs / seconds, price.bound))
    return Roofline(accelerator.name, accelerator.dram.bytes_per_s, peaks, tuple(points))
