"""Off-chip memories, every number with its source. ``DRAMS`` maps names to them; ``with_channels`` makes more of each.

Bandwidths follow from JEDEC data rates and widths. Energies per bit are the weak figures: vendors print few, simulators
differ by a factor of two, and what stands here as an assumption is a published neighbour scaled by the square of the
supply voltage. Efficiencies of HBM and GDDR6 were derived from measured GPU kernels, so they hold a launch as well and
err on the low side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hwmodel.memory import Dram

_SIMULATOR = "BitMoD simulator, version 2 (github.com/abdelfattah-lab/BitMoD-HPCA-25, July 2025)"
_ALTERA = "Altera document 683216, section 10.4.11"
_MICRON = "Micron, Ultra-Bandwidth Solutions, memory comparison (micron.com/products/ultra-bandwidth-solutions)"
_VIDUR = "microsoft/vidur, profiled compute kernels"

DDR4 = Dram(
    name="ddr4",
    bytes_per_s=32e9,  # BitMoD simulator, accelerator.py: 128 bit x 2 a cycle at 1 GHz
    energy_pj_per_bit=18.75,  # BitMoD simulator, accelerator.py: 1200 pJ per 64 bit, read as write
    # Altera, External Memory Interfaces Agilex 7 FPGA IP User Guide (683216, September 2024), section 10.4.11: "10 to
    # 92 %" of peak; weights stream in long sequential bursts, so its upper end.
    efficiency=0.92,
    source=f"{_SIMULATOR}; efficiency: {_ALTERA}",
)
DDR4_3200 = replace(
    DDR4, name="ddr4_3200",
    bytes_per_s=25.6e9,  # JEDEC JESD79-4: 3200 MT/s on 64 bits
    source=f"JEDEC JESD79-4; energy: {_SIMULATOR}; efficiency: {_ALTERA}",
)  # fmt: skip
DDR5 = Dram(
    name="ddr5",
    bytes_per_s=38.4e9,  # JEDEC JESD79-5: 4800 MT/s on 2 x 32 bits
    # ASSUMPTION: DDR4's energy by the square of the supply, 1.1 V (JESD79-5) over 1.2 V (JESD79-4)
    energy_pj_per_bit=18.75 * (1.1 / 1.2) ** 2,
    efficiency=0.92,  # ASSUMPTION: as DDR4
    source=f"JEDEC JESD79-5; energy and efficiency: assumptions after DDR4 ({_SIMULATOR}; {_ALTERA})",
)
LPDDR4X = Dram(
    name="lpddr4x",
    bytes_per_s=17.068e9,  # JEDEC JESD209-4-1: 4267 MT/s on two channels of 16 bits
    channels=2,
    # LPDDR4, four dies of 8 Gb: Heonjae Ha, Understanding and improving the energy efficiency of DRAM, Stanford, 2018
    # (simulated); the lower I/O supply of 4X (0.6 V for 1.1 V) is not credited, so an upper bound
    energy_pj_per_bit=13.0,
    efficiency=0.92,  # ASSUMPTION: as DDR4
    source="JEDEC JESD209-4-1; energy: H. Ha, thesis, Stanford, 2018 (LPDDR4); efficiency: assumption",
)
LPDDR5 = Dram(
    name="lpddr5",
    bytes_per_s=51.2e9,  # JEDEC JESD209-5: 6400 MT/s on four channels of 16 bits
    channels=4,
    # ASSUMPTION: LPDDR4's energy by the square of the core supply, 1.05 V (JESD209-5) over 1.1 V (JESD209-4)
    energy_pj_per_bit=13.0 * (1.05 / 1.1) ** 2,
    efficiency=0.92,  # ASSUMPTION: as DDR4; adverse patterns reach half of it (Steiner et al., MEMSYS 2022)
    source="JEDEC JESD209-5; energy: assumption after H. Ha, thesis, Stanford, 2018; efficiency: assumption",
)
GDDR6 = Dram(
    name="gddr6",
    bytes_per_s=64e9,  # Micron, memory comparison: 64 GB/s for each device of 32 bits at 16 Gb/s
    energy_pj_per_bit=7.5,  # Micron, memory comparison: average device power
    # a Llama-2-7B layer's 404.8 MB in 727 us on an A40 of 696 GB/s, one token (Vidur's tables): 0.80
    efficiency=0.80,
    source=f"{_MICRON}; efficiency: {_VIDUR} (A40)",
)
HBM2E = Dram(
    name="hbm2e",
    bytes_per_s=460.8e9,  # JEDEC JESD235C: 3.6 Gb/s on 1024 bits, one stack
    energy_pj_per_bit=6.0,  # Micron, memory comparison: average device power
    efficiency=0.80,  # up-projection of Llama-2-7B on an A100: 1640 of 2039 GB/s at up to 8 tokens (Vidur's tables)
    source=f"JEDEC JESD235C; energy: {_MICRON}; efficiency: {_VIDUR} (A100)",
)
HBM3 = Dram(
    name="hbm3",
    bytes_per_s=819.2e9,  # JEDEC JESD238: 6.4 Gb/s on 1024 bits, one stack
    # ASSUMPTION: HBM2e's energy by the square of the supply, 1.1 V (JESD238) over 1.2 V (JESD235)
    energy_pj_per_bit=6.0 * (1.1 / 1.2) ** 2,
    efficiency=0.90,  # up-projection of CodeLlama-34B on an H100: 3018 of 3350 GB/s at up to 8 tokens (Vidur's tables)
    source=f"JEDEC JESD238; energy: assumption after {_MICRON}; efficiency: {_VIDUR} (H100)",
)

DRAMS: Mapping[str, Dram] = {dram.name: dram for dram in (DDR4, DDR4_3200, DDR5, LPDDR4X, LPDDR5, GDDR6, HBM2E, HBM3)}
