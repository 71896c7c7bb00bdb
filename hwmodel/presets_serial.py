"""Machines that take one or both operands bit by bit: Stripes, Loom, those that skip zero bits, and BISMO on FPGAs."""

from __future__ import annotations

from dataclasses import replace

from hwmodel.accelerator import Accelerator, Array, VectorUnit
from hwmodel.cell_area import ENERGY_PJ_PER_UM2, area_28nm_of_osu018, energy_pj
from hwmodel.memory import Dram, Sram
from hwmodel.pe import PE, PeKind, Skipping
from hwmodel.presets_bitmod import bitmod_design
from hwmodel.technology import Technology, node_scaling
from hwmodel.units import KIB, MIB

_BITSIM = "BitSim (github.com/yc2367/BitSim), PE constants at 28 nm, through the authors' sheet of BitMoD"
# Bit-serial dot products with 8-bit parallel operands, OSU 0.18 um, Yosys 0.70, synthesised for this project:
# 8909 units for 1 lane, 35993 for 16 lanes
_SERIAL_1, _SERIAL_16 = 8909.0, 35993.0
_BIT_LANE = (_SERIAL_16 - _SERIAL_1) / 15 / 8  # one lane, one bit by one bit

_STRIPES_UM2 = area_28nm_of_osu018(2 * _SERIAL_16)  # ASSUMPTION: 16-bit parallel operands are twice 8-bit ones
STRIPES_PE = PE(
    name="stripes", kind=PeKind.ACTIVATION_SERIAL, lanes=16,  # MICRO 2016, section 4: 16 lanes for each SIP
    max_integer_bits=16, max_activation_bits=16,  # MICRO 2016: 16-bit weights in parallel, 1 to 16 bits of activations
    one_column_bits=16,  # MICRO 2016, section 4: no gain in fully connected layers
    energy_pj_per_cycle=energy_pj(_STRIPES_UM2), area_um2=_STRIPES_UM2,  # hwmodel.cell_area
    source="hwmodel.cell_area: bit-serial dot product, OSU 0.18 um",
)  # fmt: skip
_BUFFER_2_MIB = Sram(2 * MIB, "ASSUMPTION: 2 MiB, the largest tabulated, for a tile's eDRAM (DaDianNao)")
STRIPES = replace(
    bitmod_design(
        "stripes", STRIPES_PE, (256, 16), (4096, 1),  # MICRO 2016: 16 tiles of 16 filters x 16 windows; one window
        source="Judd et al., Stripes, MICRO 2016",
    ),
    weight_buffer=_BUFFER_2_MIB, activation_buffer=_BUFFER_2_MIB,
    frequency_hz=980e6,  # BitFusion, ISCA 2018, section V: Stripes at 980 MHz
)  # fmt: skip

_LOOM_UM2 = area_28nm_of_osu018(_SERIAL_1 - 8 * _BIT_LANE + 16 * _BIT_LANE)  # 16 lanes of one bit by one bit
LOOM_PE = PE(
    name="loom", kind=PeKind.BOTH_SERIAL, lanes=16,  # DAC 2018, section 3: 16 lanes for each SIP
    max_integer_bits=16, max_activation_bits=16,  # DAC 2018: 1 to 16 bits of both
    one_column_bits=16,  # DAC 2018, section 3: fully connected layers gain from weights alone
    energy_pj_per_cycle=energy_pj(_LOOM_UM2), area_um2=_LOOM_UM2,  # hwmodel.cell_area
    source="hwmodel.cell_area: bit-serial dot product, OSU 0.18 um",
)  # fmt: skip
LOOM = replace(
    bitmod_design(
        "loom", LOOM_PE, (128, 16), (2048, 1),  # DAC 2018: as many SIPs as 128 multipliers of 16 x 16 bits; one window
        source="Sharify et al., Loom, DAC 2018, one bit a cycle",
    ),
    weight_buffer=_BUFFER_2_MIB, activation_buffer=_BUFFER_2_MIB,
    frequency_hz=980e6,  # ASSUMPTION: as Stripes
)  # fmt: skip

_SKIPPING = PE(
    name="bitlet",
    kind=PeKind.TERM_SKIPPING,
    lanes=32,  # BitSim, test_bitlet.py: 32 weights in a group
    max_integer_bits=8,
    max_activation_bits=8,  # BitSim: 8-bit weights and activations
    skipping=Skipping.COLUMN,
    skip_rows=32,  # BitSim, test_bitlet.py: 32 rows, which wait for one another
    energy_pj_per_cycle=0.293,  # BitSim
    area_um2=0.293 / ENERGY_PJ_PER_UM2,  # ASSUMPTION: by energy, hwmodel.cell_area; none is published with it
    source=_BITSIM,
)
BITLET_PE = _SKIPPING
PRAGMATIC_PE = replace(
    _SKIPPING, name="pragmatic", skipping=Skipping.LANE,
    lanes=8,  # BitSim, test_pragmatic.py: 8 weights
    energy_pj_per_cycle=0.414, area_um2=0.414 / ENERGY_PJ_PER_UM2,  # BitSim; area by energy
)  # fmt: skip
BITVERT_PE = replace(
    _SKIPPING, name="bitvert", skipping=Skipping.BIDIRECTIONAL,
    lanes=16,  # BBS, MICRO 2024, section IV: 16 weights on 8 bit-serial multipliers
    energy_pj_per_cycle=0.25, area_um2=0.25 / ENERGY_PJ_PER_UM2,  # BitSim; area by energy
)  # fmt: skip


def _skipping(pe: PE, source: str) -> Accelerator:
    """A term-skipping array of BitSim's shape with the memory system of the BitMoD study."""
    return replace(
        # BitSim, test_*.py: 32 x 16 PEs. ASSUMPTION: laid out anew for few tokens, as the BitMoD study does
        bitmod_design(pe.name, pe, (32, 16), (64, 8), source=source),
        weight_buffer=Sram(288 * KIB, "BitSim: 288 KB"), activation_buffer=Sram(256 * KIB, "BitSim: 256 KB"),
    )  # fmt: skip


BITLET = _skipping(BITLET_PE, "Lu et al., Bitlet, MICRO 2021, as modelled in BitSim")
PRAGMATIC = _skipping(PRAGMATIC_PE, "Albericio et al., Pragmatic, MICRO 2017, as modelled in BitSim")
BITVERT = _skipping(BITVERT_PE, "Chen et al., BBS, MICRO 2024 (BitVert), columns not pruned")

NAN = float("nan")  # an FPGA design has no cell area
_BISMO = "Umuroglu et al., BISMO, FPL 2018 and ACM TRETS 12(3), 2019; github.com/EECS-NTNU/bismo"


def bismo_luts(k: int) -> float:
    """LUTs of one dot-product unit of ``k`` bits (version 2's cost model: 1.17 a bit, 44.1, and 120.1 for its result).

    >>> round(8 * 8 * bismo_luts(256))
    29678
    """
    return 1.17 * k + 44.1 + 120.1  # github.com/EECS-NTNU/bismo, cost model of version 2


# Under 8 W for the whole Ultra96 (BISMO's readme): all of it booked on 100 units at 300 MHz, an upper bound
_BISMO_PJ = 8.0 / 300e6 / 100 * 1e12
BISMO_PE = PE(
    name="bismo", kind=PeKind.BOTH_SERIAL, lanes=256,  # BISMO: dot products of 256 bits
    max_integer_bits=8, max_activation_bits=8,  # ASSUMPTION: BISMO takes any width; 8 bits are what is compared
    energy_pj_per_cycle=_BISMO_PJ, area_um2=NAN, luts=bismo_luts(256), source=_BISMO,
)  # fmt: skip
# ASSUMPTION: vector work runs on the host's core: 8 FP16 lanes at the overlay's clock (NEON, 128 bits), 70 pJ for an
# instruction (Horowitz, ISSCC 2014, 45 nm) over 8 lanes
_HOST = VectorUnit(
    lanes=8, energy_pj_per_operation=70 / 8, area_um2_per_lane=NAN,  # both as above
    source="NEON: assumption; instruction: Horowitz, ISSCC 2014",
)  # fmt: skip


def _fpga(name: str, node_nm: float) -> Technology:
    return Technology(
        # power of the whole board stands on the PEs: no layout factor, no static power beside it
        name=name, node_nm=node_nm, layout_energy_factor=1.0, logic_leakage_uw_per_um2=0.0, static_power_mw=0.0,
        source="AMD device family; power: see the PE",
    )  # fmt: skip


BISMO_ULTRA96 = Accelerator(
    name="bismo_ultra96", pe=BISMO_PE,
    prefill_array=Array(10, 10), decode_array=Array(10, 10),  # TRETS 2019: 10 x 256 x 10 at 300 MHz
    # ASSUMPTION: 1024 rows of each buffer: 10 x 256 x 1024 bits
    weight_buffer=Sram(320 * KIB, "BISMO: 10 x 256 bits x 1024", node_nm=16),
    activation_buffer=Sram(320 * KIB, "BISMO: 10 x 256 bits x 1024", node_nm=16),  # the same assumption
    dram=Dram(
        "ultra96_lpddr4",
        bytes_per_s=8.53e9,  # Avnet Ultra96 hardware user guide: LPDDR4, 32 bits at 2133 MT/s
        energy_pj_per_bit=13.0,  # H. Ha, thesis, Stanford, 2018: LPDDR4
        efficiency=0.92,  # ASSUMPTION: as ddr4
        source="Avnet Ultra96; H. Ha, thesis, Stanford, 2018",
    ),
    frequency_hz=300e6,  # TRETS 2019: 300 MHz
    # AMD, Zynq UltraScale+ MPSoC overview (DS891): 16 nm
    technology=_fpga("zynq_ultrascale_plus", 16), vector=_HOST, source=_BISMO,
)  # fmt: skip
BISMO_PYNQ = replace(
    BISMO_ULTRA96, name="bismo_pynq_z1",
    # ASSUMPTION: the energy of a cycle scales from 16 to 28 nm as logic does
    pe=replace(BISMO_PE, energy_pj_per_cycle=_BISMO_PJ * node_scaling(16, 28).energy),
    prefill_array=Array(8, 8), decode_array=Array(8, 8),  # FPL 2018: 8 x 256 x 8 at 200 MHz
    # ASSUMPTION: 1024 rows of each buffer: 8 x 256 x 1024 bits
    weight_buffer=Sram(256 * KIB, "BISMO: 8 x 256 bits x 1024"),
    activation_buffer=Sram(256 * KIB, "BISMO: 8 x 256 bits x 1024"),
    dram=Dram(
        "pynq_z1_ddr3",
        bytes_per_s=2.1e9,  # Digilent PYNQ-Z1 reference manual: 16 bits at 1050 MT/s
        energy_pj_per_bit=9.0,  # Vogelsang, MICRO 2010: 2 Gb DDR3
        efficiency=0.92,  # ASSUMPTION: as ddr4
        source="Digilent PYNQ-Z1; Vogelsang, MICRO 2010",
    ),
    frequency_hz=200e6,  # FPL 2018: 200 MHz
    technology=_fpga("zynq_7000", 28),  # AMD, Zynq-7000 SoC overview (DS190): 28 nm
)  # fmt: skip
