"""Instructions of the tile kernel's decoding: those of the compiled kernels."""

import pytest

from hwmodel.gpu_gemv_encoding import encoding_of
from hwmodel.gpu_tiles_decode import decode_instructions, decode_slots
from kernels_gpu.gemv_recipes import RECIPES

# Loop of runs of 8 x 8 x 1 x 2 at 4096 inputs, sm_90, less 12 for each of eight tiles of tokens (NOTES.md)
DISASSEMBLED = {
    "int4_g128": 191, "uint4_g128": 212, "bitmod4_g128": 344, "bitmod3_g128": 265, "fp4_g128": 321, "nvfp4": 384,
    "nf3_g64": 392, "e2m3_g128": 341, "mxfp6": 407, "e4m3_g128": 119, "e5m2_g128": 102, "mxfp8": 184,
    "int6_g128": 246, "int2_g64": 204, "uint2_g64": 228,
}  # fmt: skip


@pytest.mark.parametrize("name", DISASSEMBLED)
def test_instructions_are_those_of_the_compiled_loop(name):
    assert decode_instructions(encoding_of(RECIPES[name])) == pytest.approx(DISASSEMBLED[name], rel=0.16)


# of the loop of runs at 32 tokens, on the half-wide pipe: NOTES.md, floor of the tile kernel
@pytest.mark.parametrize(
    ("name", "half"),
    [("int8", 70), ("int4_g128", 86), ("bitmod3_g128", 142), ("bitmod4_g128", 204), ("mxfp4", 209), ("nf4_g64", 356)],
)
def test_slots_count_the_half_wide_pipe_twice(name, half):
    encoding = encoding_of(RECIPES[name])
    assert decode_slots(encoding) - decode_instructions(encoding) == pytest.approx(half, rel=0.13)
