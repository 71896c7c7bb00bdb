"""How a dense part of a layer falls into steps, groups, blocks and passes: ``part_shape`` of ``part_shape.h``.

A tile holds ``blocks`` blocks of the rows that are multiplied side by side. What a loop's iteration waits for, and how
many rows the scaling takes at a time, follow from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from datatypes.layer_config import SparsityConfig
from hls.bitmod_arithmetic import BITMOD_LANES
from hls.cpp_types import CppType, parse_type
from hls.hls_operators import Operator, stages
from hls.layer_options import LayerOptions
from hls.layer_plan import PartPlan

ADD_CYCLES = stages(Operator.FLOAT_ADD) + 1  # float_add_cycles of part_shape.h: the adder and the register behind it
_LEAST_TILES = 8  # filling the first one is then at most an eighth of the work
_FEWEST_TERMS = 2  # of FP3, FP4 and INT4 in BitMoD's PE (bitmod_format.h)
_TILE_BITS = 64 * 1024 * 8  # ASSUMPTION: 64 KiB of codes in a tile, so about 30 block RAMs for both of its copies


def group_steps(part: PartPlan, lanes: int) -> list[int]:
    """Steps of each group: its stored columns in portions of ``lanes``."""
    sparsity = SparsityConfig(part.kept, part.block)
    lengths = (min(part.group, part.columns - begin) for begin in range(0, part.columns, part.group))
    return [-(-sparsity.kept_columns(length) // lanes) for length in lengths]


def cycles_of_step(part: PartPlan) -> int:
    """Cycles that a serial arithmetic takes for one step; 1 for a parallel one."""
    made = parse_type(part.arithmetic.type)
    if made.name == "bit_serial_arithmetic":
        return made.number(0) if made.number(3) else made.number(1)
    if made.name == "bit_bit_arithmetic":
        return made.number(0) * made.number(1)
    if made.name == "term_serial_arithmetic":
        return made.number(0) // 2 + made.number(0) % 2  # Booth digits of the weight
    if made.name in ("bitmod_arithmetic", "bitmod_int_arithmetic"):
        return _bitmod_sets(made) * bitmod_terms(part.arithmetic.registers[0])
    return 1


def _bitmod_sets(made: CppType) -> int:
    lanes = made.number(1 if made.name == "bitmod_arithmetic" else 0)
    return lanes // BITMOD_LANES


def bitmod_terms(register: int) -> int:
    """Terms of a weight in BitMoD's format register (``bitmod_format.h``): Booth digits of integers, two of a float."""
    bits = (register >> 24 & 7) + 1
    return 2 if register >> 27 & 1 else -(-bits // 2)


def is_rounded(part: PartPlan) -> bool:
    """Whether each product is rounded into a float accumulator."""
    made = parse_type(part.arithmetic.type)
    products = [one.name for one in made.arguments if isinstance(one, CppType)]
    return made.name == "float_arithmetic" or "rounded_products" in products


@dataclass(frozen=True)
class PartShape:
    """A part in a tile.

    Args:
        steps: of each group, for one token and block.
        cycles: of a step: 1, or those of a serial arithmetic.
        step_interval: cycles from one iteration of ``steps`` to the next.
        in_turns: whether each step goes through all blocks before the next one.
        scalers: rows whose group is scaled in one iteration of ``rows_scaled``.
        passes: iterations for the rows of a block.
        scale_interval: cycles from one of them to the next.
        window: activation codes of a step.
        aligned: whether steps start at whole windows.
        blocks_read: blocks of 32 codes that a step reads of a row.
        lines_read: lines of a row's codes that they may lie in.
    """

    steps: tuple[int, ...]
    cycles: int
    step_interval: int
    in_turns: bool
    scalers: int
    passes: int
    scale_interval: int
    window: int
    aligned: bool
    blocks_read: int
    lines_read: int

    @property
    def iterations(self) -> int:
        """Of ``steps`` for one token and block."""
        return sum(self.steps) * self.cycles


def line_blocks(bits: int, codes: int) -> int:
    """Blocks of 32 codes in a line of a tile: as many as a beat holds (``code_tile`` of ``layer_tile.h``).

    >>> line_blocks(4, 576), line_blocks(3, 576), line_blocks(4, 20)
    (4, 5, 1)
    """
    return min(max(16 // bits, 1), -(-codes // 32))


def part_shape(part: PartPlan, options: LayerOptions, blocks: int) -> PartShape:
    """How ``sum_groups`` and ``scale_groups`` go through a part.

    Args:
        part: of the layer.
        options: lanes, and rows side by side.
        blocks: of a tile.
    """
    lanes, rows = options.lanes, options.tile_rows
    steps, cycles, rounded = group_steps(part, lanes), cycles_of_step(part), is_rounded(part)
    fewest = cycles
    if part.runtime_bits:  # of any format that its register may hold
        fewest = cycles // bitmod_terms(part.arithmetic.registers[0]) * _FEWEST_TERMS
    in_turns = rounded and blocks > 1
    # ASSUMPTION: an adder of any float has the stages of float32's; a lane waits for the one before it
    waits = lanes * stages(Operator.FLOAT_ADD) if rounded else 1
    step_interval = -(-waits // (blocks if in_turns else 1))
    scalers = -(-rows // min(steps[0] * fewest * step_interval, rows))
    passes = -(-rows // scalers)
    window = lanes // part.kept * part.block if "mask" in part.fields else lanes
    stored = SparsityConfig(part.kept, part.block).kept_columns(part.group)
    codes = lanes // part.code_dim
    whole = (len(steps) == 1 or stored % lanes == 0) and (32 % codes == 0 or codes % 32 == 0)
    read = -(-codes // 32) if whole else (codes + 30) // 32 + 1
    per_line = line_blocks(part.code_bits, part.row_codes) if part.code_bits < 16 else 1
    lines = -(-read // per_line)
    if not whole or (per_line % read and read % per_line):
        lines += 1  # they may start within a line
    return PartShape(
        steps=tuple(steps),
        cycles=cycles,
        step_interval=step_interval,
        in_turns=in_turns,
        scalers=scalers,
        passes=passes,
        scale_interval=1 if part.exact_scale else -(-ADD_CYCLES // (passes * blocks)),
        window=window,
        aligned=len(steps) == 1 or part.group % window == 0,
        blocks_read=read,
        lines_read=lines,
    )


def tile_blocks(parts: Sequence[PartPlan], rows: int, options: LayerOptions) -> int:
    """Blocks of ``options.tile_rows`` rows that a tile holds, if the options leave it open.

    So many that there are eight tiles, no more than 64 KiB of codes in one, but at least as many as keep the additions
    of a row's groups apart; then evenly over the tiles.

    Args:
        parts: of the layer.
        rows: outputs of the layer.
        options: with lanes and rows side by side.
    """
    total = -(-rows // options.tile_rows)
    if options.tile_blocks is not None:
        return min(options.tile_blocks, total)
    bits = sum(part.stored_columns * part.code_bits // (part.code_dim * part.outputs) for part in parts)
    held = max(_TILE_BITS // max(bits * options.tile_rows, 1), 1)
    apart = max(part_shape(part, options, 1).scale_interval for part in parts)
    most = min(-(-total // _LEAST_TILES), max(held, apart))
    tiles = -(-total // most)
    return -(-total // tiles)
