"""Operands on their way from DRAM into the buffers, by their encodings."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from datatypes.layer_config import ActivationConfig, LayerConfig, TensorConfig
from hwmodel.channel_groups import moved_bits
from hwmodel.options import ModelOptions
from hwmodel.pe import WIDE_BITS
from hwmodel.side_work import Slab
from hwmodel.traffic import Stream, stream
from hwmodel.units import BYTE_BITS, WORD_BITS, ceil_div
from hwmodel.workload import LayerSpec


@dataclass(frozen=True)
class OperandBits:
    """Bit widths alone, fractions allowed: for figures that name no format (published averages).

    Args:
        weight: bits of a weight, metadata included; its whole part sets the cycles.
        kv: bits of a key or value.
        activation: bits of an activation, on arrays that multiply encoded ones.
    """

    weight: float = 16.0
    kv: float = 16.0
    activation: float = 16.0

    def __post_init__(self) -> None:
        if not (1 <= self.weight <= 32 and 1 <= self.kv <= 32):
            raise ValueError(f"weight and kv bits must be 1 to 32, not {self.weight!r} and {self.kv!r}")
        if not 1 <= self.activation <= 32:
            raise ValueError(f"activation bits must be 1 to 32, not {self.activation!r}")


Config = LayerConfig | OperandBits
FP16_LAYER = LayerConfig()


def _published_bits(config: TensorConfig, columns: int) -> float:
    """Bits of an element as the published model counts them: code and group scale, nothing else."""
    group = config.granularity.tile((1, columns))[1]
    if config.scale is None or config.dynamic or group >= columns:
        return config.code_bits
    return config.code_bits + config.scale.format.bits / group


def weight_stream(spec: LayerSpec, config: Config, slabs: list[Slab], options: ModelOptions) -> tuple[Stream, int]:
    """The weight on its way from DRAM to the weight buffer, and how many bits of one copy there are metadata."""
    copies = 1 if spec.shared_weight else spec.copies
    metadata = 0
    if isinstance(config, OperandBits):
        return stream(spec.n, spec.k, config.weight, copies), metadata
    if options.exact_storage:
        bits = config.storage_bits((spec.n, spec.k))
        groups, order = moved_bits(spec, config)
        encoded = exact_stream(bits.total - bits.low_rank - bits.activation + groups, copies)
        second = bits.outer_scales + bits.outer_offsets
        metadata = bits.scales + second + bits.zero_points + bits.selectors + bits.masks + order
    else:
        parts = [
            stream(spec.n, slab.columns, _published_bits(slab.config, slab.columns), copies)
            for slab in slabs
            if slab.config is not None
        ]
        encoded = Stream(*(sum(getattr(p, f) for p in parts) for f in ("dram_bits", "buffer_words", "buffer_bytes")))
    if all(slab.path is None or slab.path.decoded for slab in slabs):
        wide = stream(spec.n, spec.k, WIDE_BITS, copies)
        return replace(wide, dram_bits=encoded.dram_bits), 0
    return encoded, metadata


def exact_stream(bits: int, copies: int) -> Stream:
    """A tensor of that many stored bits, packed without gaps."""
    return Stream(bits * copies, ceil_div(bits, WORD_BITS) * copies, ceil_div(bits, BYTE_BITS) * copies)


def activation_stream(
    config: ActivationConfig | None, shape: tuple[int, int], copies: int, exact: bool, buffer_bits: float = WIDE_BITS
) -> Stream:
    """An activation, encoded in DRAM and ``buffer_bits`` wide in the buffer."""
    wide = stream(*shape, buffer_bits if config is not None else WIDE_BITS, copies)
    if config is None:
        return wide
    bits = config.traffic_bits(shape) if exact else math.ceil(shape[0] * shape[1] * config.code_bits)
    return replace(wide, dram_bits=bits * copies)
