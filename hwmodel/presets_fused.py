"""Integer machines built out of small multipliers: BitFusion, ANT and OliVe as their authors built them, Tender.

A PE here is one 8 x 8-bit slot: sixteen 2-bit bricks (BitFusion) or four 4-bit PEs (the others).
"""

from __future__ import annotations

from dataclasses import replace

from datatypes.catalog import FLINT4, FLINT4_UNSIGNED, OLIVE4_FLINT, OLIVE4_INT, POT4
from hwmodel.accelerator import Accelerator, Array, VectorUnit
from hwmodel.cell_area import W4A4_MAC_NANGATE_UM2, area_28nm, energy_pj
from hwmodel.memory import Dram, Sram
from hwmodel.pe import PE, PeKind
from hwmodel.presets_bitmod import VECTOR_64, bitmod_design
from hwmodel.presets_memory import DDR4, HBM2E
from hwmodel.technology import BITFUSION45, node_scaling
from hwmodel.units import KIB

_TABLE = "synthesis table in BitFusion's repository (github.com/hsharma35/bitfusion), 45 nm, 500 MHz"

BITFUSION_PE = PE(
    name="bitfusion", kind=PeKind.FUSED_BRICKS, lanes=1, brick_bits=2,  # ISCA 2018, section III: 16 bricks of 2 bits
    max_integer_bits=8, max_activation_bits=8,  # ISCA 2018, section III: 8 x 8 without a second pass
    energy_pj_per_cycle=280.0e-6 / 500e6 * 1e12,  # table: 280.0 uW dynamic at 500 MHz, 8/2 fused unit
    area_um2=1733.1,  # table: 8/2 fused unit
    source=_TABLE,
)  # fmt: skip


def _vector_at(node_nm: float) -> VectorUnit:
    """The shared vector unit in another node."""
    scale = node_scaling(28, node_nm)  # the shared unit's sheet is of 28 nm
    return replace(
        VECTOR_64,
        energy_pj_per_operation=VECTOR_64.energy_pj_per_operation * scale.energy,
        area_um2_per_lane=VECTOR_64.area_um2_per_lane * scale.area,
        source=f"{VECTOR_64.source}; scaled from 28 nm",
    )


BITFUSION = Accelerator(
    name="bitfusion", pe=BITFUSION_PE,
    prefill_array=Array(32, 16),  # ISCA 2018, section V: 512 fusion units, 16 x 32
    decode_array=Array(64, 8),  # ASSUMPTION: laid out anew for few tokens, as the BitMoD study does
    # ISCA 2018, configuration that matches Eyeriss: 64 KB for weights, 32 KB and 16 KB for activations
    weight_buffer=Sram(64 * KIB, "BitFusion, ISCA 2018, section V: 64 KB", node_nm=45),
    # ASSUMPTION: 64 KiB for 48 KiB, the smallest tabulated
    activation_buffer=Sram(64 * KIB, "BitFusion, ISCA 2018, section V: 32 + 16 KB, rounded up", node_nm=45),
    dram=replace(
        DDR4, name="bitfusion_ddr4",
        bytes_per_s=192 / 8 * 500e6,  # BitFusion's simulator: 192 bits a cycle
        source="192 bits a cycle at 500 MHz: BitFusion, ISCA 2018; energy and efficiency as ddr4",
    ),
    frequency_hz=500e6,  # ISCA 2018, section V: 500 MHz
    technology=BITFUSION45, vector=_vector_at(45),
    source="Sharma et al., BitFusion, ISCA 2018",
)  # fmt: skip

# ASSUMPTION: a 4-bit PE is an INT4 multiply-add; exponent adders and shifters are not counted. Four of them are a slot.
_SLOT_UM2 = 4 * area_28nm(W4A4_MAC_NANGATE_UM2)
_SLOT_SOURCE = "four INT4 multiply-adds: hwmodel.cell_area"

ANT_INT_PE = PE(
    name="ant_int", kind=PeKind.FUSED_BRICKS, lanes=1, brick_bits=4,  # MICRO 2022, section 5: 4-bit PEs, 8 bits take 4
    max_integer_bits=8, max_activation_bits=8,
    energy_pj_per_cycle=energy_pj(_SLOT_UM2), area_um2=_SLOT_UM2,  # hwmodel.cell_area
    decoders=(FLINT4, FLINT4_UNSIGNED, POT4),  # MICRO 2022, section 4: decoders on both edges
    source=_SLOT_SOURCE,
)  # fmt: skip
OLIVE_INT_PE = replace(
    ANT_INT_PE, name="olive_int",
    decoders=(OLIVE4_INT, OLIVE4_FLINT, FLINT4),  # ISCA 2023, section 4: decoders on both edges
)  # fmt: skip
# ANT's simulator (github.com/clevercool/ANT-Quantization): 1024 bits of DRAM a cycle at 500 MHz
_ANT_DRAM: Dram = replace(
    DDR4, name="ant_dram", bytes_per_s=1024 / 8 * 500e6, source="1024 bits a cycle at 500 MHz: ANT's simulator; as ddr4"
)
ANT_INT = replace(
    # ANT's simulator: 32 x 32 slots. ASSUMPTION: laid out anew for few tokens, as the BitMoD study does
    bitmod_design("ant_int", ANT_INT_PE, (32, 32), (64, 16), source="Guo et al., ANT, MICRO 2022"),
    frequency_hz=500e6,  # ANT's simulator (github.com/clevercool/ANT-Quantization)
    weight_buffer=Sram(128 * KIB, "ANT, MICRO 2022: 128 KB"),
    activation_buffer=Sram(384 * KIB, "ANT, MICRO 2022: 256 KB in, 128 KB out"),  # the same simulator
    dram=_ANT_DRAM,
)  # fmt: skip
OLIVE_INT = replace(
    ANT_INT, name="olive_int", pe=OLIVE_INT_PE, source="Guo et al., OliVe, ISCA 2023, systolic array; system as ANT's"
)

TENDER_PE = replace(
    ANT_INT_PE, name="tender", decoders=(),
    channel_groups=8,  # Tender's code (github.com/snu-comparch/Tender): 8 for OPT-6.7B at INT4 (4 to 20 elsewhere)
    # ASSUMPTION: the 1-bit shifter and its multiplexer on the accumulator are not counted
    source=_SLOT_SOURCE,
)  # fmt: skip
TENDER = replace(
    bitmod_design(
        # ISCA 2024, section V: 64 x 64 PEs of 4 bits. ASSUMPTION: laid out anew for few tokens, as in the BitMoD study
        "tender", TENDER_PE, (32, 32), (64, 16),
        source="Lee et al., Tender, ISCA 2024",
    ),
    dram=replace(HBM2E, source=f"Tender has HBM2; {HBM2E.source}"),
    frequency_hz=1e9,  # ASSUMPTION: as the BitMoD study; Tender's own table was not available
)  # fmt: skip
