"""Instructions of the tile kernel's decoding: those of the compiled kernels."""

import numpy as np
import pytest

from datatypes.catalog import BNB_FP4, E8M0, FP16, MINIFLOATS, NF4, UINT8
from datatypes.granularity import PerGroup
from datatypes.layer_config import ScaleConfig, TensorConfig
from hwmodel.gpu_gemv_encoding import encoding_of
from hwmodel.gpu_tiles_decode import Lookup, decode_instructions, decode_slots
from kernels_gpu.gemm_halves import half_table
from kernels_gpu.gemm_signed import magnitudes
from kernels_gpu.gemv_plan import plan_of
from kernels_gpu.gemv_recipes import RECIPES

# Loop of runs of 8 x 8 x 1 x 2 at 4096 inputs, sm_90, less 12 for each of eight tiles of tokens (NOTES.md); version 2,
# FP6, INT2 and INT6 with the decoding of version 10 of the GEMV
DISASSEMBLED = {
    "int4_g128": 191, "uint4_g128": 212, "bitmod4_g128": 344, "bitmod3_g128": 265, "fp4_g128": 321, "nvfp4": 384,
    "nf3_g64": 392, "e2m3_g128": 316, "e3m2_g128": 283, "mxfp6": 379, "e4m3_g128": 119, "e5m2_g128": 102, "mxfp8": 184,
    "int6_g128": 252, "int2_g64": 213, "uint2_g64": 228,
}  # fmt: skip


@pytest.mark.parametrize("name", DISASSEMBLED)
def test_instructions_are_those_of_the_compiled_loop(name):
    made = decode_instructions(encoding_of(RECIPES[name]), Lookup.BYTES)
    assert made == pytest.approx(DISASSEMBLED[name], rel=0.16)


# of version 3, in 8 x 8 x 1 x 2 and 3 x 4 x 2 x 2: instructions, and those of the half-wide pipe
@pytest.mark.parametrize(
    ("name", "own", "half"),
    [
        ("fp4_g128", (178, 171), (108, 109)), ("mxfp4", (198, 195), (117, 121)), ("nvfp4", (193, 193), (117, 119)),
        ("nf4_g64", (262, 260), (165, 168)),
    ],
)  # fmt: skip
def test_bytes_of_halves_are_those_of_the_compiled_loop(name, own, half):
    encoding = encoding_of(RECIPES[name])
    made = decode_instructions(encoding)
    assert made == pytest.approx(sum(own) / 2, rel=0.03)
    assert decode_slots(encoding) - made == pytest.approx(sum(half) / 2, rel=0.13)
    assert decode_slots(encoding) < 0.6 * decode_slots(encoding, Lookup.BYTES)


def test_the_kernel_and_its_model_look_the_same_encodings_up():
    for name, config in RECIPES.items():
        encoding = encoding_of(config)
        assert encoding.signed == (magnitudes(plan_of(config)) is not None) == (name in ("fp4_g128", "mxfp4", "nvfp4"))
        assert encoding.sided == (half_table(plan_of(config)) is not None) == (name == "nf4_g64")
        if not (encoding.signed or encoding.sided):
            assert decode_slots(encoding) == decode_slots(encoding, Lookup.BYTES)
    finite = [
        fmt for fmt in (*MINIFLOATS.values(), BNB_FP4, NF4) if fmt.bits == 4 and np.isfinite(fmt.code_values).all()
    ]
    assert len(finite) > 4
    for fmt in finite:
        for scale in (FP16, UINT8, E8M0):
            config = TensorConfig((fmt,), PerGroup(32), ScaleConfig(scale))
            encoding, plan = encoding_of(config), plan_of(config)
            assert encoding.signed == (magnitudes(plan) is not None)
            assert encoding.sided == (half_table(plan) is not None)


# of the loop of runs at 32 tokens, on the half-wide pipe: NOTES.md, floor of the tile kernel
@pytest.mark.parametrize(
    ("name", "half"),
    [("int8", 70), ("int4_g128", 86), ("bitmod3_g128", 142), ("bitmod4_g128", 204), ("mxfp4", 209), ("nf4_g64", 356)],
)
def test_slots_count_the_half_wide_pipe_twice(name, half):
    encoding = encoding_of(RECIPES[name])
    made = decode_slots(encoding, Lookup.BYTES) - decode_instructions(encoding, Lookup.BYTES)
    assert made == pytest.approx(half, rel=0.13)
