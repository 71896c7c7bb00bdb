"""Processing elements: how each kind multiplies, its unit costs, and what a number format is to the hardware.

``hwmodel.array_path`` says how a pair of weight and activation formats goes through each kind, or why it cannot.

Sources: Chen et al., BitMoD, HPCA 2025, sections III-IV and table X; the other kinds name theirs where their laws are
(``array_path_integer``, ``array_path_blocks``). Functional models are ``hwmodel.pe_functional``'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cache

import numpy as np

from datatypes.catalog import BITMOD_FP3, BITMOD_FP4
from datatypes.format import CodebookFormat, FloatFormat, Format, IntFormat

WIDE_BITS = 16  # FP16: what the FP16 array and the vector unit multiply, and what activations are elsewhere
_NIBBLE = 4


class PeKind(Enum):
    """How a PE multiplies."""

    BIT_SERIAL = "bit_serial"  # FP16 activation x terms +-2**e of a weight, one a cycle and lane (BitMoD)
    INT_MULTIPLIER = "int_multiplier"  # activation x integer weight, one a cycle; FP16 activations unless limited
    FP16_MAC = "fp16_mac"  # FP16 x FP16, one a cycle; weights are decoded to FP16 when they are loaded
    TABLE_LOOKUP = "table_lookup"  # FP16 x FP16; codes stay codes until a table at the array's edge
    FUSED_BRICKS = "fused_bricks"  # integers, out of small multipliers fused for the widths (BitFusion, Tender, ANT)
    ACTIVATION_SERIAL = "activation_serial"  # integer weight x bits of an integer activation (Stripes)
    BOTH_SERIAL = "both_serial"  # bits x bits (Loom, BISMO)
    TERM_SKIPPING = "term_skipping"  # integer activation x ones of an integer weight (Bitlet, Pragmatic, BitVert)
    BLOCK_DOT = "block_dot"  # dot product of two block-scaled vectors (OCP MX, NVFP4)


class Skipping(Enum):
    """Which terms a term-skipping PE skips, and so what a step waits for."""

    COLUMN = "column"  # each bit position eats its own ones: the fullest position of the group (Bitlet)
    LANE = "lane"  # each weight eats its own ones: the weight with the most (Pragmatic)
    BIDIRECTIONAL = "bidirectional"  # ones or zeros, whichever are fewer: one cycle a bit position (BBS's BitVert)


@dataclass(frozen=True)
class Mode:
    """One way of running a block dot product.

    Args:
        bits: widest element.
        integer: whether elements are integers rather than floats.
        lanes: products in a cycle.
        energy_pj_per_cycle: of the busy PE in this mode, after synthesis.
    """

    bits: int
    integer: bool
    lanes: int
    energy_pj_per_cycle: float

    def __post_init__(self) -> None:
        if self.bits < 1 or self.lanes < 1 or self.energy_pj_per_cycle < 0:
            raise ValueError(f"bits and lanes of a mode must be at least 1 and its energy at least 0, not {self!r}")


_INTEGER_KINDS = frozenset({PeKind.FUSED_BRICKS, PeKind.ACTIVATION_SERIAL, PeKind.BOTH_SERIAL, PeKind.TERM_SKIPPING})


@dataclass(frozen=True)
class PE:
    """One processing element.

    Args:
        name: lower case.
        kind: how it multiplies.
        lanes: weights taken in at once (of fused bricks: products of 8 x 8 bits in a cycle; of a block dot product:
            products in a cycle of its widest mode).
        energy_pj_per_cycle: of a busy PE after synthesis, before the technology's layout factor.
        area_um2: after synthesis; ``nan`` on an FPGA.
        max_integer_bits: widest two's complement weight; 0 where weights are decoded to FP16.
        decoders: formats beyond integers that the array's edge decodes to integers.
        source: where the figures come from.
        max_activation_bits: widest integer activation; 0 for FP16 activations.
        brick_bits: width of the small multipliers; fused bricks alone.
        serial_bits: activation bits in a cycle; serial kinds alone.
        one_column_bits: activations count as this wide where the array has one column, because the weights of a
            fully connected layer are loaded in turn (Stripes, Loom); 0 where they do not.
        skipping: which terms are skipped; term skipping alone.
        skip_rows: rows that share their control and wait for one another; term skipping alone.
        channel_groups: groups of channels whose partial sums are shifted one after another (Tender), each after the
            first with a bubble for each tile; a layer whose config says its groups has those. 1 for PEs without the
            shifter.
        table_bits: capacity of the table at each row of the array; table look-up alone.
        modes: element widths; block dot products alone.
        luts: FPGA look-up tables of one PE.
    """

    name: str
    kind: PeKind
    lanes: int
    energy_pj_per_cycle: float
    area_um2: float
    max_integer_bits: int
    source: str
    decoders: tuple[Format, ...] = ()
    max_activation_bits: int = 0
    brick_bits: int = 0
    serial_bits: int = 1
    one_column_bits: int = 0
    skipping: Skipping | None = None
    skip_rows: int = 1
    channel_groups: int = 1
    table_bits: int = 0
    modes: tuple[Mode, ...] = ()
    luts: float | None = None

    def __post_init__(self) -> None:
        if self.lanes < 1:
            raise ValueError(f"lanes of PE {self.name} must be at least 1, not {self.lanes!r}")
        if self.energy_pj_per_cycle < 0 or self.area_um2 <= 0:
            raise ValueError(
                f"energy_pj_per_cycle and area_um2 of PE {self.name} must be at least 0 and above 0, "
                f"not {self.energy_pj_per_cycle!r} and {self.area_um2!r}"
            )
        for what in ("serial_bits", "skip_rows", "channel_groups"):
            if getattr(self, what) < 1:
                raise ValueError(f"{what} of PE {self.name} must be at least 1, not {getattr(self, what)!r}")
        kind = self.kind
        needs: dict[str, tuple[bool, object]] = {
            "max_activation_bits": (kind in _INTEGER_KINDS, self.max_activation_bits),
            "max_integer_bits": (kind in _INTEGER_KINDS or kind is PeKind.BIT_SERIAL, self.max_integer_bits),
            "brick_bits": (kind is PeKind.FUSED_BRICKS, self.brick_bits),
            "skipping": (kind is PeKind.TERM_SKIPPING, self.skipping),
            "table_bits": (kind is PeKind.TABLE_LOOKUP, self.table_bits),
            "modes": (kind is PeKind.BLOCK_DOT, self.modes),
        }
        for what, (needed, value) in needs.items():
            if needed and not value:
                raise ValueError(f"{what} of PE {self.name} must be given for kind {kind.value}, not {value!r}")

    def __hash__(self) -> int:
        return hash((self.name, self.lanes, self.energy_pj_per_cycle))  # hashing all fields is what costs in a cache

    @property
    def bit_serial(self) -> bool:
        """Whether weights arrive term by term beside FP16 activations, and group scales bit by bit."""
        return self.kind is PeKind.BIT_SERIAL

    @property
    def encoded_activations(self) -> bool:
        """Whether the array multiplies encoded activations rather than FP16."""
        return self.max_activation_bits > 0 or self.kind is PeKind.BLOCK_DOT

    @property
    def port_unit_bits(self) -> int:
        """What a weight's width is rounded up to in the weight buffer's port."""
        if self.kind is PeKind.FUSED_BRICKS:
            return self.brick_bits
        return 1 if self.kind in (PeKind.ACTIVATION_SERIAL, PeKind.BOTH_SERIAL) else _NIBBLE

    @property
    def native_bits(self) -> int:
        """Widest weight in the weight buffer."""
        if self.kind is PeKind.FP16_MAC:
            return WIDE_BITS
        if self.kind is PeKind.BLOCK_DOT:
            return max(mode.bits for mode in self.modes)
        return self.max_integer_bits or 8

    @property
    def most_macs_per_cycle(self) -> float:
        """Products in a cycle with the narrowest operands that the PE can tell apart."""
        if self.kind is PeKind.FUSED_BRICKS:
            return self.lanes * (8 / self.brick_bits) ** 2
        if self.kind is PeKind.BLOCK_DOT:
            return max(mode.lanes for mode in self.modes)
        return self.lanes


@dataclass(frozen=True)
class ArrayPath:
    """How a pair of formats goes through an array.

    Args:
        cycles: for one step of ``lanes`` weights; a mean, with a fraction, where terms are skipped.
        sram_bits: of one weight in the weight buffer.
        decoded: codes and scales were turned into FP16 on the way in, so that no scaling is left to do.
        lanes: weights in a step; ``None`` for the PE's.
        input_bits: of one activation in the activation buffer.
        energy: of a busy cycle over the PE's ``energy_pj_per_cycle``.
        table_entries: values to load into the tables of each row; 0 without a table.
        buffer_lookup_bits: bits read from the weight buffer to decode one weight, where a table is too large for the
            array's edge; 0 otherwise.
        vector: weights that one such look-up yields.
        residual_entries: those of ``table_entries`` that are the residual's; 0 without one.
        residual_vector: weights that a look-up of the residual yields.
    """

    cycles: float
    sram_bits: float
    decoded: bool = False
    lanes: int | None = None
    input_bits: float = WIDE_BITS
    energy: float = 1.0
    table_entries: int = 0
    buffer_lookup_bits: float = 0.0
    vector: int = 1
    residual_entries: int = 0
    residual_vector: int = 1


def cycles_of_bits(bits: float, pe: PE) -> int:
    """Cycles for a step of weights of ``bits``: ceil(floor(bits) / 2) bit-serially (radix-4 Booth), else 1.

    The fraction (metadata) takes no cycles. For machines whose cycles follow the activations too, see
    ``array_path.bare_path``.
    """
    return max(1, math.ceil(math.floor(bits) / 2)) if pe.bit_serial else 1


def integer_bits(fmt: Format) -> int | None:
    """Width of the two's complement integer that holds every value of ``fmt``; ``None`` if it holds other values.

    Unsigned codes need one bit more. A codebook of small integers (ternary) may be stored as integers of its own width.
    """
    if isinstance(fmt, IntFormat):
        return fmt.bits if fmt.signed_codes else fmt.bits + 1
    if isinstance(fmt, CodebookFormat):
        levels = fmt.levels
        half = 1 << (fmt.bits - 1)
        if np.array_equal(levels, np.rint(levels)) and levels[0] >= -half and levels[-1] < half:
            return fmt.bits
    return None


@cache
def two_term(fmt: Format) -> bool:
    """Whether BitMoD's term encoder decodes ``fmt``: FP3 or FP4 codes, and in place of -0 a special value of at most
    two terms that fits four integer bits and one fraction bit (HPCA 2025, section IV-A).

    >>> from datatypes.catalog import FP4, NF4
    >>> two_term(FP4), two_term(NF4)
    (True, False)
    """
    plain = {3: BITMOD_FP3[0], 4: BITMOD_FP4[0]}.get(fmt.bits)
    if plain is None or fmt.dim != 1 or not isinstance(fmt, CodebookFormat | FloatFormat):
        return False
    codes = [code for code in range(1 << fmt.bits) if code != plain.special]
    if not np.array_equal(fmt.code_values[codes], plain.code_values[codes]):
        return False
    special = abs(float(fmt.code_values[plain.special])) * 2  # in units of the fraction bit
    return special == int(special) and special < 32 and int(special).bit_count() <= 2


def wide_float(formats: Iterable[Format]) -> bool:
    """Whether all of ``formats`` are 16-bit floats, which FP16 lanes of a vector unit multiply."""
    return all(isinstance(fmt, FloatFormat) and fmt.bits == WIDE_BITS for fmt in formats)


def scale_cycles(scale: Format) -> int:
    """Cycles of BitMoD's bit-serial dequantization: one for each significant bit of the scale (section IV-B).

    >>> from datatypes.catalog import E8M0, FP16, UINT8
    >>> [scale_cycles(fmt) for fmt in (UINT8, FP16, E8M0)]
    [8, 11, 1]
    """
    if isinstance(scale, IntFormat):
        return scale.bits
    return scale.mantissa_bits + 1 if isinstance(scale, FloatFormat) else 1
