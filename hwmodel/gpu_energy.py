"""A GPU kernel's time and traffic as a ``Price``, with its energy from the board's power."""

from __future__ import annotations

import math
from dataclasses import replace

from hwmodel.gpu import Gpu
from hwmodel.gpu_operands import Operands
from hwmodel.price import Price
from hwmodel.units import BYTE_BITS

_POWER_FLOOR = 0.3  # ASSUMPTION: share of the power limit that clocks and leakage take whenever a kernel runs


def timed(macs: int, operands: Operands, seconds: float, gpu: Gpu) -> Price:
    """A price of a kernel that takes ``seconds``; its resources' own cycles are those at their peaks."""
    moved = operands.weight_bits + operands.input_bits + operands.output_bits
    return with_energy(
        Price(
            macs=macs,
            compute_cycles=math.ceil(macs / gpu.macs_per_cycle(operands.rate_kind)),
            dram_cycles=math.ceil(moved / gpu.dram.bits_per_cycle(gpu.frequency_hz, sustained=False)),
            weight_bits=operands.weight_bits,
            input_bits=operands.input_bits,
            output_bits=operands.output_bits,
            compulsory_bits=moved,
            total_cycles=math.ceil(seconds * gpu.frequency_hz),
        ),
        gpu,
    )


def with_energy(price: Price, gpu: Gpu) -> Price:
    """``price`` with its energy.

    The sheet says only what the board may draw. ASSUMPTION: a floor of 30 % whenever a kernel runs; the rest, less the
    DRAM at full bandwidth, is drawn by tensor cores busy at the rate that they sustain, in proportion to their work.
    """
    seconds = price.cycles / gpu.frequency_hz
    dram_w = gpu.dram.energy_pj_per_bit * 1e-12 * gpu.dram.bytes_per_s * BYTE_BITS * gpu.library.dram_share
    tensor_w = max(gpu.power_w * (1 - _POWER_FLOOR) - dram_w, 0.0)
    sustained = gpu.library.tensor_share / (1 + gpu.library.throttle)
    tensor_s = price.compute_cycles / gpu.frequency_hz / sustained
    return replace(
        price,
        pe_pj=tensor_w * min(tensor_s, seconds) * 1e12,
        dram_pj=gpu.dram.energy_pj_per_bit * price.dram_bits,
        leakage_pj=gpu.power_w * _POWER_FLOOR * seconds * 1e12,
    )
