"""Machines for block-scaled vectors and for codebooks: an OCP MX dot-product array and a table look-up array.

Neither is a published machine: both are built from unit costs, with the array and memory system of the BitMoD study
around them, so that formats can be compared on hardware made for them.
"""

from __future__ import annotations

from dataclasses import replace

from hwmodel.accelerator import Encoder
from hwmodel.cell_area import FLIP_FLOP_NANGATE_UM2, area_28nm, area_28nm_of_osu018, energy_pj
from hwmodel.pe import PE, Mode, PeKind
from hwmodel.presets_bitmod import FP16_PE, bitmod_design

# Dot products of 16 lanes with exact (Kulisch) accumulators, OSU 0.18 um, Yosys 0.70, synthesised for this project
_FP4_16 = area_28nm_of_osu018(61989.0)  # E2M1 x E2M1
_FP8_16 = area_28nm_of_osu018(244995.0)  # E4M3 x E4M3
_INT8_16 = area_28nm_of_osu018(320666.0)  # INT8 x INT8

MX_PE = PE(
    name="mx_dot", kind=PeKind.BLOCK_DOT, lanes=16, max_integer_bits=0,  # lanes as synthesised: 16, above
    # a block of 32 4-bit elements in one cycle, of 8-bit elements in two; 6-bit elements run as 8-bit ones
    modes=(
        # OCP MX 1.0: blocks of 32, elements of 4, 6 and 8 bits; two units of 16 lanes for the first
        Mode(4, integer=False, lanes=32, energy_pj_per_cycle=energy_pj(2 * _FP4_16)),
        Mode(8, integer=False, lanes=16, energy_pj_per_cycle=energy_pj(_FP8_16)),  # MXFP8, half a block a cycle
        Mode(8, integer=True, lanes=16, energy_pj_per_cycle=energy_pj(_INT8_16)),  # MXINT8, half a block a cycle
    ),
    energy_pj_per_cycle=energy_pj(_FP8_16),
    area_um2=2 * _FP4_16 + _FP8_16 + _INT8_16,  # ASSUMPTION: modes share nothing, an upper bound
    source="hwmodel.cell_area: 16-lane dot products, OSU 0.18 um; the scales' adder is not counted",
)  # fmt: skip
MX = bitmod_design(
    "mx_dot", MX_PE, (16, 12), (32, 6),  # ASSUMPTION: 192 PEs, about the area of the FP16 baseline's array
    source="dot product of OCP Microscaling Formats 1.0, section 6.2, and NVFP4; built from unit costs",
)  # fmt: skip

_TABLE_BITS = 4096  # ASSUMPTION: 256 entries of FP16 for each row: an 8-bit scalar or a 7-bit pair codebook
_TABLE_UM2 = area_28nm(_TABLE_BITS * FLIP_FLOP_NANGATE_UM2)
LUT_PE = replace(
    FP16_PE, name="table_lookup", kind=PeKind.TABLE_LOOKUP, table_bits=_TABLE_BITS,
    source=f"{FP16_PE.source}; table: hwmodel.cell_area",
)  # fmt: skip
LUT = bitmod_design(
    "table_lookup", LUT_PE, (32, 24), (64, 12),  # the FP16 baseline's array
    source="FP16 array with a table at each row, after FLUTE and SqueezeLLM's kernels; built from unit costs",
    encoder=Encoder(
        # 64 tables for the 64 rows of the decode layout. ASSUMPTION: a look-up switches a tenth of a table
        energy_pj_per_cycle=energy_pj(64 * _TABLE_UM2) / 10,
        area_um2=64 * _TABLE_UM2,  # the same 64 tables
        source="flip-flops of hwmodel.cell_area; multiplexers are not counted",
    ),
)  # fmt: skip
