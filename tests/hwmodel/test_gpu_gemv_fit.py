"""The fit finds constants that made a table, and the held-out rows are what they say."""

from dataclasses import replace

import pytest

from datatypes.catalog import FP16, INTS_SYMMETRIC
from datatypes.granularity import PerGroup
from datatypes.layer_config import ScaleConfig, TensorConfig
from hwmodel.gpu_constants import write_constants
from hwmodel.gpu_gemv import FITTED, GemvConstants, gemv_constants
from hwmodel.gpu_gemv_cut import GemvCut
from hwmodel.gpu_gemv_encoding import encoding_of
from hwmodel.gpu_gemv_fit import BOUNDS, HELD_FORMATS, GemvCase, fit, use_of
from hwmodel.gpu_presets import H100

TRUE = GemvConstants(
    launch_s=1.5e-6, input_instructions=120, read_over_copy=1.04, stage_cycles=200, product_cycles=8, sum_cycles=120,
    tensor_cycles=2.2, between_s=0.8e-6, tile_cycles=600, memory_latency_s=0.5e-6, overlap_norm=4.0,
)  # fmt: skip


def case(bits, shape, seconds=1.0):
    config = TensorConfig((INTS_SYMMETRIC[bits],), PerGroup(128), ScaleConfig(FP16))
    weight_bytes = config.storage_bits(shape[1:]).total // 8
    made = GemvCase("x", encoding_of(config), shape, GemvCut(8, 2, 2), weight_bytes, H100, 3e12, seconds)
    return replace(made, seconds=made.predicted(TRUE).seconds)


def test_fit_predicts_other_rows_of_the_machine_that_made_its_rows():
    rows = [case(b, (m, n, 4096)) for b in (2, 4, 8) for m in (1, 4, 16) for n in (1024, 8192, 32768)]
    found = fit(rows)
    for held in (case(3, (2, 4096, 8192)), case(4, (8, 16384, 4096))):
        assert held.predicted(found).seconds == pytest.approx(held.seconds, rel=0.02)
        far = held.predicted(replace(found, launch_s=found.launch_s + held.seconds)).seconds
        assert far > 1.5 * held.seconds  # the constants matter


def test_fewer_rows_than_constants_are_refused():
    with pytest.raises(ValueError, match="rows to fit must be at least 11, one for each constant, not 1"):
        fit([case(4, (1, 4096, 4096))])


def test_recorded_constants_lie_inside_their_bounds():
    for name in FITTED:
        low, start, high = BOUNDS[name]
        assert low < getattr(gemv_constants(), name) < high and low < start < high


def test_held_out_are_whole_formats_a_whole_shape_and_a_number_of_tokens():
    assert {use_of(name, (1, 4096, 4096), "h100") for name in HELD_FORMATS} == {"format held out"}
    assert use_of("int4_g128", (1, 11008, 4096), "h100") == "shape held out"
    assert use_of("int4_g128", (4, 28672, 8192), "h100") == "tokens held out"
    assert use_of("int4_g128", (1, 4096, 4096), "h200") == "other GPU"


def test_written_constants_are_read_again(tmp_path):
    path = tmp_path / "constants.csv"
    write_constants(TRUE, path, "a test")
    assert gemv_constants(path) == TRUE
    assert [p.name for p in tmp_path.iterdir()] == ["constants.csv"]
