"""Accelerators that come with the project, every number with its source. ``ACCELERATORS`` maps names to them.

To add one, add an instance and list it in ``_ALL``; the laws in ``tests/hwmodel`` pick it up from there. A user's own
accelerator is a YAML file, read by ``hwmodel.accelerator_file``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from datatypes.catalog import FLINT3, FLINT4, FLINT5, OLIVE4_FLINT, OLIVE4_INT, POT3, POT4
from hwmodel.accelerator import Accelerator, Array, Encoder, VectorUnit
from hwmodel.memory import Dram, Sram
from hwmodel.pe import PE, PeKind
from hwmodel.technology import TSMC28
from hwmodel.units import KIB

_SIMULATOR = "BitMoD simulator, version 2 (github.com/abdelfattah-lab/BitMoD-HPCA-25, July 2025)"
_SHEET = "area and power sheet of the authors of BitMoD (github.com/yc2367/BitMoD, July 2024), TSMC 28 nm, 1 GHz"

DDR4 = Dram(
    name="ddr4",
    bytes_per_s=32e9,  # BitMoD simulator, accelerator.py: 128 bit x 2 a cycle at 1 GHz
    energy_pj_per_bit=18.75,  # BitMoD simulator, accelerator.py: 1200 pJ per 64 bit, read as write
    # Altera, External Memory Interfaces Agilex 7 FPGA IP User Guide (683216, September 2024), section 10.4.11: "10 to
    # 92 %" of peak; weights stream in long sequential bursts, so its upper end.
    efficiency=0.92,
    source=f"{_SIMULATOR}; efficiency: Altera document 683216, section 10.4.11",
)
BUFFER_512_KIB = Sram(512 * KIB, "BitMoD, HPCA 2025, section V: 512 KB for weights, 512 KB for activations")
# One lane is the FP16 multiply-accumulate of the authors' sheet: 0.49 + 0.28 pJ, 1395.5 + 573.2 um2.
# ASSUMPTION: 64 lanes, two for each column of the widest prefill array; no publication sizes this unit.
VECTOR_64 = VectorUnit(
    lanes=64, energy_pj_per_operation=0.77, area_um2_per_lane=1968.7, source=f"lane: {_SHEET}; 64 lanes: assumption"
)

FP16_PE = PE(
    name="fp16_mac", kind=PeKind.FP16_MAC, lanes=1, max_integer_bits=0,
    energy_pj_per_cycle=0.77, area_um2=1968.7,  # BitMoD simulator, test_baseline.py; the same in the authors' sheet
    source=f"{_SIMULATOR}; {_SHEET}",
)  # fmt: skip
BITMOD_PE = PE(
    name="bitmod", kind=PeKind.BIT_SERIAL, lanes=4, max_integer_bits=8,  # HPCA 2025, sections III-IV: INT8 at most
    energy_pj_per_cycle=0.56, area_um2=1507.7,  # BitMoD simulator, test_bitmod.py (table X implies 0.586 and 1517.0)
    source=_SIMULATOR,
)  # fmt: skip
ANT_PE = PE(
    name="ant", kind=PeKind.INT_MULTIPLIER, lanes=1, max_integer_bits=8,
    energy_pj_per_cycle=0.56, area_um2=1318.6,  # BitMoD simulator, test_ant.py; area of a FIGNA-like FP16 x INT8 MAC
    decoders=(FLINT3, FLINT4, FLINT5, POT3, POT4),  # Guo et al., ANT, MICRO 2022, section 4: decoded at the edge
    source=_SIMULATOR,
)  # fmt: skip
OLIVE_PE = PE(
    name="olive", kind=PeKind.INT_MULTIPLIER, lanes=1, max_integer_bits=8,
    energy_pj_per_cycle=0.613, area_um2=1318.6,  # BitMoD simulator, test_olive.py; a FIGNA-like FP16 x INT8 MAC
    decoders=(OLIVE4_INT, OLIVE4_FLINT, FLINT4),  # Guo et al., OliVe, ISCA 2023, section 4: decoded at the edge
    source=_SIMULATOR,
)  # fmt: skip
FIGNA_PE = PE(
    name="figna", kind=PeKind.INT_MULTIPLIER, lanes=1, max_integer_bits=8,
    energy_pj_per_cycle=0.613, area_um2=1318.6,  # authors' sheet: FIGNA-like FP16 x INT8 MAC with registers
    source=_SHEET,
)  # fmt: skip


def _design(
    name: str,
    pe: PE,
    prefill: tuple[int, int],
    decode: tuple[int, int],
    *,
    source: str,
    encoder: Encoder | None = None,
) -> Accelerator:
    """An accelerator with the buffers, memory and clock that all BitMoD design points share."""
    return Accelerator(
        name=name, pe=pe, prefill_array=Array(*prefill), decode_array=Array(*decode), weight_buffer=BUFFER_512_KIB,
        activation_buffer=BUFFER_512_KIB, dram=DDR4, technology=TSMC28, vector=VECTOR_64, source=source,
        frequency_hz=1e9,  # BitMoD, HPCA 2025, section V: 1 GHz
        encoder=encoder,
    )  # fmt: skip


FP16_BASELINE = _design(
    "fp16_baseline", FP16_PE, (32, 24), (64, 12),  # BitMoD simulator, test_baseline.py: 768 PEs
    source="FP16 baseline of BitMoD, HPCA 2025, section V",
)  # fmt: skip
BITMOD = _design(
    "bitmod", BITMOD_PE, (32, 32), (64, 16),  # BitMoD simulator, test_bitmod.py: 1024 PEs in 16 tiles
    source="Chen et al., BitMoD, HPCA 2025",
    # HPCA 2025, table X: 1.86 mW at 1 GHz and 2419 um2 for each of 16 tiles
    encoder=Encoder(energy_pj_per_cycle=16 * 1.86, area_um2=16 * 2419.0, source="BitMoD, HPCA 2025, table X"),
)  # fmt: skip
ANT = _design(
    "ant", ANT_PE, (32, 32), (64, 16),  # BitMoD simulator, test_ant.py: 1024 PEs (1.35 mm2, not iso-area)
    source="ANT-like design point of BitMoD, HPCA 2025, section V",
)  # fmt: skip
OLIVE = _design(
    "olive", OLIVE_PE, (36, 32), (72, 16),  # BitMoD simulator, test_olive.py: 1152 PEs
    source="OliVe-like design point of BitMoD, HPCA 2025, section V",
)  # fmt: skip
FIGNA = _design(
    "figna", FIGNA_PE, (36, 32), (72, 16),  # as many as fit the area of the FP16 baseline; as OliVe's array
    source="FIGNA-like FP16 x INT8 array of the baseline's area, after figure 10 of BitMoD, HPCA 2025",
)  # fmt: skip

_ALL = (FP16_BASELINE, BITMOD, ANT, OLIVE, FIGNA)
ACCELERATORS: Mapping[str, Accelerator] = {accelerator.name: accelerator for accelerator in _ALL}


def accelerator_by_name(name: str) -> Accelerator:
    """The preset called ``name``.

    Raises:
        ValueError: no such preset; the message names the nearest ones.
    """
    if name in ACCELERATORS:
        return ACCELERATORS[name]
    near = difflib.get_close_matches(name, list(ACCELERATORS), n=3)
    hint = f"; nearest: {', '.join(near)}" if near else f"; there are {', '.join(ACCELERATORS)}"
    raise ValueError(f"accelerator must be one of the presets (codesign accelerators), not {name!r}{hint}")
