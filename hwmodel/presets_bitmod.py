"""The FP16 baseline, and the four machines of the BitMoD paper's comparison: BitMoD, ANT, OliVe, FIGNA.

All share buffers, memory, clock and vector unit, so that arrays can be compared. ANT and OliVe are the paper's readings
of them, with FP16 activations; the machines as their own authors built them are in ``hwmodel.presets_fused``.
"""

from __future__ import annotations

from datatypes.catalog import FLINT3, FLINT4, FLINT5, OLIVE4_FLINT, OLIVE4_INT, POT3, POT4
from hwmodel.accelerator import Accelerator, Array, Encoder, VectorUnit
from hwmodel.cell_area import energy_pj
from hwmodel.memory import Sram
from hwmodel.pe import PE, PeKind
from hwmodel.presets_memory import DDR4
from hwmodel.technology import TSMC28, node_scaling
from hwmodel.units import KIB

_SIMULATOR = "BitMoD simulator, version 2 (github.com/abdelfattah-lab/BitMoD-HPCA-25, July 2025)"
_SHEET = "area and power sheet of the authors of BitMoD (github.com/yc2367/BitMoD, July 2024), TSMC 28 nm, 1 GHz"

BUFFER_512_KIB = Sram(512 * KIB, "BitMoD, HPCA 2025, section V: 512 KB for weights, 512 KB for activations")
# One lane is the FP16 multiply-accumulate of the authors' sheet: 0.49 + 0.28 pJ, 1395.5 + 573.2 um2.
# ASSUMPTION: 64 lanes, two for each column of the widest prefill array; no publication sizes this unit.
VECTOR_64 = VectorUnit(
    lanes=64, energy_pj_per_operation=0.77, area_um2_per_lane=1968.7, source=f"lane: {_SHEET}; 64 lanes: assumption"
)

FP16_PE = PE(
    name="fp16_mac", kind=PeKind.FP16_MAC, lanes=1, max_integer_bits=0,  # one FP16 product a cycle: test_baseline.py
    energy_pj_per_cycle=0.77, area_um2=1968.7,  # BitMoD simulator, test_baseline.py; the same in the authors' sheet
    source=f"{_SIMULATOR}; {_SHEET}",
)  # fmt: skip
BITMOD_PE = PE(
    name="bitmod", kind=PeKind.BIT_SERIAL, lanes=4, max_integer_bits=8,  # HPCA 2025, sections III-IV: INT8 at most
    energy_pj_per_cycle=0.56, area_um2=1507.7,  # BitMoD simulator, test_bitmod.py (table X implies 0.586 and 1517.0)
    source=_SIMULATOR,
)  # fmt: skip
ANT_PE = PE(
    name="ant", kind=PeKind.INT_MULTIPLIER, lanes=1, max_integer_bits=8,  # HPCA 2025, section V: 4 and 8 bits
    energy_pj_per_cycle=0.56, area_um2=1318.6,  # BitMoD simulator, test_ant.py; area of a FIGNA-like FP16 x INT8 MAC
    decoders=(FLINT3, FLINT4, FLINT5, POT3, POT4),  # Guo et al., ANT, MICRO 2022, section 4: decoded at the edge
    source=_SIMULATOR,
)  # fmt: skip
OLIVE_PE = PE(
    name="olive", kind=PeKind.INT_MULTIPLIER, lanes=1, max_integer_bits=8,  # HPCA 2025, section V: 4 and 8 bits
    energy_pj_per_cycle=0.613, area_um2=1318.6,  # BitMoD simulator, test_olive.py; a FIGNA-like FP16 x INT8 MAC
    decoders=(OLIVE4_INT, OLIVE4_FLINT, FLINT4),  # Guo et al., OliVe, ISCA 2023, section 4: decoded at the edge
    source=_SIMULATOR,
)  # fmt: skip
FIGNA_PE = PE(
    name="figna", kind=PeKind.INT_MULTIPLIER, lanes=1, max_integer_bits=8,  # authors' sheet: FP16 x INT8, 1 a cycle
    energy_pj_per_cycle=0.613, area_um2=1318.6,  # authors' sheet: FIGNA-like FP16 x INT8 MAC with registers
    source=_SHEET,
)  # fmt: skip


def bitmod_design(
    name: str,
    pe: PE,
    prefill: tuple[int, int],
    decode: tuple[int, int],
    *,
    source: str,
    encoder: Encoder | None = None,
) -> Accelerator:
    """An accelerator with the buffers, memory, clock and vector unit that all BitMoD design points share."""
    return Accelerator(
        name=name, pe=pe, prefill_array=Array(*prefill), decode_array=Array(*decode), weight_buffer=BUFFER_512_KIB,
        activation_buffer=BUFFER_512_KIB, dram=DDR4, technology=TSMC28, vector=VECTOR_64, source=source,
        frequency_hz=1e9,  # BitMoD, HPCA 2025, section V: 1 GHz
        encoder=encoder,
    )  # fmt: skip


def _decoders(count: int, area_um2: float, source: str) -> Encoder:
    """``count`` format decoders at the rows of an array."""
    return Encoder(energy_pj_per_cycle=energy_pj(count * area_um2), area_um2=count * area_um2, source=source)


FP16_BASELINE = bitmod_design(
    "fp16_baseline", FP16_PE, (32, 24), (64, 12),  # BitMoD simulator, test_baseline.py: 768 PEs
    source="FP16 baseline of BitMoD, HPCA 2025, section V",
)  # fmt: skip
BITMOD = bitmod_design(
    "bitmod", BITMOD_PE, (32, 32), (64, 16),  # BitMoD simulator, test_bitmod.py: 1024 PEs in 16 tiles
    source="Chen et al., BitMoD, HPCA 2025",
    # HPCA 2025, table X: 1.86 mW at 1 GHz and 2419 um2 for each of 16 tiles
    encoder=Encoder(energy_pj_per_cycle=16 * 1.86, area_um2=16 * 2419.0, source="BitMoD, HPCA 2025, table X"),
)  # fmt: skip
ANT = bitmod_design(
    "ant", ANT_PE, (32, 32), (64, 16),  # BitMoD simulator, test_ant.py: 1024 PEs (1.35 mm2, not iso-area)
    source="ANT-like design point of BitMoD, HPCA 2025, section V",
    # one decoder for each of 64 rows. ASSUMPTION: 4.9 um2 at 28 nm; from a second-hand copy of ANT's table, unverified
    encoder=_decoders(64, 4.9, "ANT, MICRO 2022 (area unverified); energy: hwmodel.cell_area"),
)  # fmt: skip
OLIVE = bitmod_design(
    "olive", OLIVE_PE, (36, 32), (72, 16),  # BitMoD simulator, test_olive.py: 1152 PEs
    source="OliVe-like design point of BitMoD, HPCA 2025, section V",
    # one for each of 72 rows. ASSUMPTION: 37.22 um2 at 22 nm; from a second-hand copy of OliVe's table, unverified
    encoder=_decoders(
        72, 37.22 * node_scaling(22, 28).area, "OliVe, ISCA 2023 (area unverified); energy: hwmodel.cell_area"
    ),
)  # fmt: skip
FIGNA = bitmod_design(
    "figna", FIGNA_PE, (36, 32), (72, 16),  # as many as fit the area of the FP16 baseline; as OliVe's array
    source="FIGNA-like FP16 x INT8 array of the baseline's area, after figure 10 of BitMoD, HPCA 2025",
)  # fmt: skip
