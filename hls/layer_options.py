"""How a layer or block is computed and cut on the device: what a quantized layer itself leaves open."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hwmodel.unit_cost_design import Arithmetic

# Beyond these the loops of one call would be those of a whole GPU: they keep a slip of the keyboard from filling memory
MOST = {"tokens": 1 << 16, "lanes": 1 << 12, "tile_rows": 1 << 12}
MAX_POSITIONS = 1024  # of a decoder block: scores of all heads and positions stay on the chip
ON_CHIP_BYTES = 1 << 16  # of an image that becomes part of the kernel: 15 block RAMs of 36 kb


class IntMapping(Enum):
    """Where products of integers are made (``int_mapping`` of ``integer.h``)."""

    AUTO = "auto"  # as the tool likes
    LUT = "lut"
    DSP = "dsp"  # one product in each
    DSP_PAIR = "dsp_pair"  # two products of a sum in each


@dataclass(frozen=True)
class LayerOptions:
    """The choices of an exported layer.

    Args:
        tokens: most tokens of one call; scales that several tokens share cover one call.
        lanes: columns multiplied in one cycle.
        tile_rows: outputs computed side by side: a block.
        tile_blocks: blocks of a tile, which is filled while the one before is multiplied; ``None`` for as many as suit
            the layer (``hls.part_shape.tile_blocks``).
        arithmetic: how weight and activation meet; ``BITMOD`` for its bit-serial PE.
        accumulator: exponent and mantissa bits of the float that adds products of FP16 activations.
        mapping: where products of integers are made; other products take ``AUTO`` alone.
        runtime_formats: whether BitMoD's PE takes the weights' format from a register that is written before a call
            (``hls.bitmod_arithmetic.RUNTIME_FORMATS``).
    """

    tokens: int = 8
    lanes: int = 16
    tile_rows: int = 8
    arithmetic: Arithmetic = Arithmetic.PARALLEL
    accumulator: tuple[int, int] = (8, 23)
    tile_blocks: int | None = None
    mapping: IntMapping = IntMapping.AUTO
    runtime_formats: bool = False

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} of a layer must be 1 to {most}, not {getattr(self, name)!r}")
        if self.tile_blocks is not None and self.tile_blocks < 1:
            raise ValueError(f"tile_blocks of a layer must be at least 1, not {self.tile_blocks!r}")
        exponent_bits, mantissa_bits = self.accumulator
        if not (2 <= exponent_bits <= 8 and 1 <= mantissa_bits <= 23):
            raise ValueError(
                f"accumulator must have 2 to 8 exponent and 1 to 23 mantissa bits, not {self.accumulator!r}"
            )
        if self.runtime_formats and self.arithmetic is not Arithmetic.BITMOD:
            raise ValueError(
                f"runtime_formats must come with BitMoD's PE (accelerator bitmod), not with {self.arithmetic.value}"
            )
