"""Columns of the tables that ``batch_evaluate`` hands to its compiled kernels, and of what they hand back."""

from __future__ import annotations

# columns of ``forms`` (int64)
(
    KIND, M, N, COPIES, MACS, STEPS, GROUP_WAITS, OFF_ARRAY, WEIGHT_BITS, WEIGHT_WORDS, WEIGHT_BYTES,
    INPUT_BITS, INPUT_WORDS, INPUT_BYTES, OUTPUT_BITS, OUTPUT_WORDS, VECTOR, VECTOR_CYCLES, LOAD, METADATA, GATHERS,
    PORT_BITS, WEIGHT_WIDTH, INPUT_WIDTH, KEYS, HEADS, OFFSET, LANES, TABLES_START, TABLES_STOP, TURNS, SHARED, MASK,
    TILE_STEPS, TILE_LANES, WEIGHT_TURN_BYTES, INPUT_TURN_BYTES,
) = range(37)  # fmt: skip
FORM_COLUMNS = 37
CYCLES, ENERGY_CYCLES, SWITCH_WAITS = range(3)  # columns of ``form_floats``
ENTRIES, ALONG, LOOKUPS, PORT, ROOM = range(5)  # columns of ``tables``
TIMES, FIRST, COUNT, CALM = range(4)  # columns of ``items``
PARTS = 3  # forms of an item at most: a product and its low-rank branch
PREFILL_ROWS, PREFILL_COLUMNS, DECODE_ROWS, DECODE_COLUMNS = range(4)  # columns of ``arrays``, and of their sizes
PE_PJ, ENCODER_PJ, LOGIC_MW, IDLE_PJ = range(4)  # columns of ``array_costs``
READ, WRITE, LEAK = range(3)  # columns of SRAM tables: pJ an access, pJ a word, mW
GATING, ROUND_UP, DETAIL, WHOLE_TILES, FILL = range(5)  # settings
# results by phase: integers, then energies
INTEGERS = (
    "cycles", "dram_bits", "macs", "compute_cycles", "dram_cycles", "vector_cycles", "weight_bits", "input_bits",
    "output_bits", "compulsory_bits",
)  # fmt: skip
ENERGIES = (
    "energy_pj", "pe_pj", "encoder_pj", "vector_pj", "sram_read_pj", "sram_write_pj", "dram_pj", "leakage_pj",
    "idle_pj",
)  # fmt: skip
BRIEF_INTEGERS, BRIEF_ENERGIES = 2, 1  # of these without details
