"""The dequantizer's constants are those of a fit to four rows, and the product after it is the library's."""

from dataclasses import astuple, replace

import numpy as np
import pytest
from scipy.optimize import least_squares

from codesign.gpu_records import RECORDED, read_measurements, recorded_files
from hwmodel.gpu_dequantize import DEQUANTIZER, Dequantizer, dequantize_s, library_s
from hwmodel.gpu_gemm import gemm_seconds, wide_work
from hwmodel.gpu_presets import GPUS
from kernels_gpu.gemv_recipes import RECIPES

H100, COPY = GPUS["h100_cublas13"], 2.997e12


def test_constants_are_those_of_a_fit_to_four_rows():
    rows = []
    for record in read_measurements(recorded_files()[RECORDED.index("gemm_h100.json")]):
        name, _, way = record.name.partition(" ")
        _, k, n = record.shape
        if way == "dequantize" and name in ("int4_g128", "int8") and n != 11008:
            stored, rate = RECIPES[name].storage_bits((n, k)).total / 8, float(record.conditions["copy_bytes_per_s"])
            rows.append((stored, (n, k), rate, record.seconds))
    assert len(rows) == 4

    def errors(z):
        constants = Dequantizer(z[0] * 1e-6, z[1])
        return [np.log(dequantize_s(*row[:3], constants) / row[3]) for row in rows]

    found = least_squares(errors, [1.0, 0.8], loss="soft_l1", f_scale=0.05)
    assert (DEQUANTIZER.start_s * 1e6, DEQUANTIZER.copy_share) == pytest.approx(tuple(found.x), rel=5e-3)
    assert len(astuple(DEQUANTIZER)) == 2


def test_bytes_by_hand():
    # 4 bits and a scale of 16 for 128 weights read, 16 bits written
    stored = 4096 * 4096 * (4 + 16 / 128) / 8
    one = dequantize_s(stored, (4096, 4096), COPY, Dequantizer(1e-6, 0.5))
    assert one == pytest.approx(1e-6 + (stored + 2 * 4096 * 4096) / COPY / 0.5)


def test_a_weight_that_fits_into_l2_is_not_read_again():
    def product_s(shape, gpu=H100):
        stored = RECIPES["int4_g128"].storage_bits(shape[1:]).total / 8
        return library_s(stored, shape, gpu, COPY) - dequantize_s(stored, shape[1:], COPY)

    # 34 MB of halves fit into the 50 MiB of an H100's L2; 90 MB do not
    large, small = (64, 11008, 4096), (64, 4096, 4096)
    assert product_s(large) == pytest.approx(float(gemm_seconds(wide_work(*large), H100)[0]))
    assert product_s(small) < 0.75 * float(gemm_seconds(wide_work(*small), H100)[0])
    tiny = replace(H100, l2_bytes=1 << 20)
    assert product_s(small, tiny) == pytest.approx(float(gemm_seconds(wide_work(*small), H100)[0]))
