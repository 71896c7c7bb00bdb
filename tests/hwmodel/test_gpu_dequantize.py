"""The dequantizer's constants are those of a fit to four rows, and the product after it is the library's."""

from dataclasses import astuple, replace

import numpy as np
import pytest
from scipy.optimize import least_squares

from codesign.gpu_records import RECORDED, read_measurements, recorded_files
from hwmodel.gpu_dequantize import DEQUANTIZER, Dequantizer, dequantize_s, dequantize_slots, library_s
from hwmodel.gpu_gemm import gemm_seconds, wide_work
from hwmodel.gpu_gemv_encoding import encoding_of
from hwmodel.gpu_presets import GPUS
from kernels_gpu.gemv_recipes import RECIPES

H100, COPY, INT4 = GPUS["h100_cublas13"], 2.997e12, encoding_of(RECIPES["int4_g128"])


def test_constants_are_those_of_a_fit_to_four_rows():
    rows = []
    for record in read_measurements(recorded_files()[RECORDED.index("gemm_h100.json")]):
        name, _, way = record.name.partition(" ")
        _, k, n = record.shape
        if way == "dequantize" and name in ("int4_g128", "int8") and n != 11008:
            stored, rate = RECIPES[name].storage_bits((n, k)).total / 8, float(record.conditions["copy_bytes_per_s"])
            rows.append((encoding_of(RECIPES[name]), stored, (n, k), H100, rate, record.seconds))
    assert len(rows) == 4

    def errors(z):
        constants = Dequantizer(z[0] * 1e-6, z[1])
        return [np.log(dequantize_s(*row[:-1], constants) / row[-1]) for row in rows]

    found = least_squares(errors, [1.0, 0.8], loss="soft_l1", f_scale=0.05)
    assert (DEQUANTIZER.start_s * 1e6, DEQUANTIZER.copy_share) == pytest.approx(tuple(found.x), rel=5e-3)
    assert len(astuple(DEQUANTIZER)) == 2


def test_bytes_by_hand():
    # 4 bits and a scale of 16 for 128 weights read, 16 bits written
    stored = 4096 * 4096 * (4 + 16 / 128) / 8
    one = dequantize_s(INT4, stored, (4096, 4096), H100, COPY, Dequantizer(1e-6, 0.5))
    assert one == pytest.approx(1e-6 + (stored + 2 * 4096 * 4096) / COPY / 0.5, rel=1e-4)


def test_instructions_by_hand_where_memory_is_fast():
    # two planes and selectors, 15 + 7 + 8 slots of 128 lanes of 132 SMs at 1980 MHz
    stored = RECIPES["bitmod3_g128"].storage_bits((28672, 8192)).total / 8
    one = dequantize_s(encoding_of(RECIPES["bitmod3_g128"]), stored, (28672, 8192), H100, 1e15, Dequantizer(1e-6, 1.0))
    assert one == pytest.approx(1e-6 + 28672 * 8192 * 30 / (128 * 132 * 1.98e9), rel=1e-4)


# Whole kernel over its eight weights a thread, and of these on the half-wide pipe: dequantize_<name> of
# kernels_gpu.disassembly, sm_90
DISASSEMBLED = {
    "int4_g128": (11.4, 3.6), "nf4_g64": (11.4, 3.6), "int8": (11.0, 3.1), "int2_g64": (12.5, 4.3),
    "uint4_g128": (13.8, 4.4), "uint2_g64": (14.9, 5.0), "bitmod4_g128": (16.8, 6.9), "bitmod3_g128": (21.4, 9.8),
    "int3_g128": (16.5, 7.1), "int5_g128": (16.0, 6.6), "uint5_g128": (19.5, 7.9), "int6_g128": (16.1, 6.6),
    "int7_g128": (19.5, 8.0), "uint7_g128": (23.1, 9.6), "e2m3_g128": (16.1, 6.6), "e4m3_g128": (11.9, 3.6),
    "mxfp4": (12.6, 4.8), "mxfp6": (17.3, 7.8), "mxfp8": (13.1, 4.8), "nvfp4": (12.8, 4.3), "learned4": (12.3, 3.9),
    "learned3": (18.3, 7.9),
}  # fmt: skip


@pytest.mark.parametrize("name", DISASSEMBLED)
def test_slots_are_those_of_the_compiled_kernel(name):
    assert dequantize_slots(encoding_of(RECIPES[name])) == pytest.approx(sum(DISASSEMBLED[name]), rel=0.17)


def test_a_weight_that_fits_into_l2_is_not_read_again():
    def product_s(shape, gpu=H100):
        stored = RECIPES["int4_g128"].storage_bits(shape[1:]).total / 8
        return library_s(INT4, stored, shape, gpu, COPY) - dequantize_s(INT4, stored, shape[1:], gpu, COPY)

    # 34 MB of halves fit into the 50 MiB of an H100's L2; 90 MB do not
    large, small = (64, 11008, 4096), (64, 4096, 4096)
    assert product_s(large) == pytest.approx(float(gemm_seconds(wide_work(*large), H100)[0]))
    assert product_s(small) < 0.75 * float(gemm_seconds(wide_work(*small), H100)[0])
    tiny = replace(H100, l2_bytes=1 << 20)
    assert product_s(small, tiny) == pytest.approx(float(gemm_seconds(wide_work(*small), H100)[0]))
