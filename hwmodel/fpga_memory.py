"""Block RAM, UltraRAM, LUT RAM and DSPs that buffers and matrix units take: FINN's counting rules, and packing of DSPs.

Sources: Blott et al., FINN-R, ACM TRETS 11(3), 2018, as in github.com/Xilinx/finn 39f0c9a; shapes of BRAM36 (512 x 72,
1K x 36, 2K x 18, 4K x 9, 8K x 4, 16K x 2, 32K x 1) and URAM288 (4K x 72): AMD UG573. Two ports, no byte enables, no
error correction.
"""

from __future__ import annotations

import math

from hwmodel.fpga import FpgaResources

# BRAM18 shapes, AMD UG573: width, depth. The widest one has 512 words, so it serves shallow buffers.
_BRAM18_SHAPES = ((1, 16384), (2, 8192), (4, 4096), (9, 2048), (18, 1024))
_BRAM18_WIDE = (36, 512)
_URAM_WIDTH, _URAM_DEPTH = 72, 4096  # AMD UG573: URAM288 has one shape


def _check(width_bits: int, depth: int) -> None:
    if width_bits < 1 or depth < 1:
        raise ValueError(f"width_bits and depth of a buffer must be at least 1, not {width_bits!r} and {depth!r}")


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def bram18_count(width_bits: int, depth: int) -> int:
    """BRAM18s of a memory of ``depth`` words of ``width_bits`` (FINN-R's rule).

    The shape is the narrowest that holds a word of up to 9 bits; wider ones take 18 bits by 1024, or 36 by 512 if the
    memory is that shallow; blocks side by side for the width, one above the other for the depth.

    >>> bram18_count(8, 2048), bram18_count(32, 512), bram18_count(32, 1024), bram18_count(64, 1000)
    (1, 1, 2, 4)
    """
    _check(width_bits, depth)
    for shape_width, shape_depth in _BRAM18_SHAPES[:-1]:
        if width_bits <= shape_width:
            return _ceil(depth, shape_depth)
    if width_bits <= 18 or depth > _BRAM18_WIDE[1]:
        return _ceil(depth, 1024) * _ceil(width_bits, 18)
    return _ceil(depth, _BRAM18_WIDE[1]) * _ceil(width_bits, _BRAM18_WIDE[0])


def bram36_count(width_bits: int, depth: int) -> float:
    """BRAM36s: two BRAM18s each; a half is a BRAM18 that leaves the other to somebody else."""
    return bram18_count(width_bits, depth) / 2


def uram_count(width_bits: int, depth: int) -> int:
    """UltraRAMs of a memory: one shape, 72 bits by 4096.

    >>> uram_count(72, 4096), uram_count(73, 4096), uram_count(64, 5000)
    (1, 2, 2)
    """
    _check(width_bits, depth)
    return _ceil(width_bits, _URAM_WIDTH) * _ceil(depth, _URAM_DEPTH)


def lutram_luts(width_bits: int, depth: int) -> int:
    """LUTs of a memory in LUT RAM: a LUT6 holds 64 bits of one column (FINN-R's weights)."""
    _check(width_bits, depth)
    return width_bits * _ceil(depth, 64)


def fifo_luts(width_bits: int, depth: int) -> int:
    """LUTs of a FIFO in shift registers: counters, and 32 entries of two bits in a LUT (FINN-R).

    >>> fifo_luts(8, 32)
    14
    """
    _check(width_bits, depth)
    return 2 * math.ceil(math.log2(depth)) + _ceil(depth, 32) * _ceil(width_bits, 2)


def buffer_resources(capacity_bits: float, width_bits: float, *, ultra: bool = False) -> FpgaResources:
    """Memory blocks of a buffer of ``capacity_bits`` with one port of ``width_bits``.

    Args:
        capacity_bits: of the buffer.
        width_bits: read in a cycle; a fraction is rounded up.
        ultra: in UltraRAM.

    Raises:
        ValueError: less than one bit, or a port wider than the buffer.
    """
    width = math.ceil(width_bits)
    if width < 1 or capacity_bits < width:
        raise ValueError(f"width_bits of a buffer must be 1 to its {capacity_bits!r} bits, not {width_bits!r}")
    depth = math.ceil(capacity_bits / width)
    if ultra:
        return FpgaResources(uram288=float(uram_count(width, depth)))
    return FpgaResources(bram36=bram36_count(width, depth))


def smallest_blocks(capacity_bits: float, width_bits: float, *, ultra_at_hand: bool) -> FpgaResources:
    """UltraRAM or block RAM, whichever wastes fewer bits (a URAM288 counts as eight BRAM36s)."""
    block = buffer_resources(capacity_bits, width_bits)
    if not ultra_at_hand:
        return block
    ultra = buffer_resources(capacity_bits, width_bits, ultra=True)
    return ultra if ultra.uram288 * 8 < block.bram36 else block  # 288 kb over 36 kb


def matrix_unit_dsps(rows: int, lanes: int, dsp_type: str = "DSP48E2", *, packed: bool = True) -> int:
    """DSPs of ``rows`` dot products of ``lanes`` narrow integers with the same activations (FINN's RTL unit).

    DSP58: three products of one dot product in each, ``rows * ceil(lanes / 3)``. DSP48: four rows share one activation
    in each, ``ceil(rows / 4) * lanes``. Without packing: one a product.

    Raises:
        ValueError: no rows or lanes, or a type of which no rule is known.

    >>> matrix_unit_dsps(8, 16), matrix_unit_dsps(8, 16, "DSP58"), matrix_unit_dsps(8, 16, packed=False)
    (32, 48, 128)
    """
    if rows < 1 or lanes < 1:
        raise ValueError(f"rows and lanes must be at least 1, not {rows!r} and {lanes!r}")
    if not packed:
        return rows * lanes
    if dsp_type == "DSP58":
        return rows * _ceil(lanes, 3)
    if dsp_type in ("DSP48E1", "DSP48E2"):
        return _ceil(rows, 4) * lanes
    raise ValueError(f"dsp_type must be DSP48E1, DSP48E2 or DSP58, not {dsp_type!r}")


def hls_unit_dsps(rows: int, lanes: int, weight_bits: int, activation_bits: int) -> int:
    """DSPs of FINN's HLS unit, ``rows * lanes * ceil((W + A) / 48)``: one a product up to 48 bits together."""
    if min(rows, lanes, weight_bits, activation_bits) < 1:
        raise ValueError(
            f"rows, lanes and bits must be at least 1, not {rows}, {lanes}, {weight_bits}, {activation_bits}"
        )
    return rows * lanes * _ceil(weight_bits + activation_bits, 48)


def hls_unit_luts(
    rows: int, lanes: int, weight_bits: int, activation_bits: int, accumulator_bits: int, *, thresholds: float = 0.0
) -> float:
    """LUTs of FINN's HLS matrix-vector unit without weight memory (FINN-R): an upper bound, about 1.7 times a netlist.

    Args:
        rows, lanes: FINN's PE and SIMD.
        weight_bits, activation_bits, accumulator_bits: widths.
        thresholds: LUTs of activation thresholds of one row.

    >>> round(hls_unit_luts(1, 16, 4, 4, 18))
    1015
    """
    both = weight_bits + activation_bits
    product = lanes * (2 * _ceil(both, 6) - 1) * both
    return 300 + 1.1 * rows * (product + both * (2 * lanes - 1) + accumulator_bits + thresholds)
