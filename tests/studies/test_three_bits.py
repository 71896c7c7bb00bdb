"""The study's arithmetic: measured layers by hand, what is predicted, and the recorded result."""

import pandas as pd
import pytest

from studies.three_bits import PAGE, RESULT, asic_step, gpu_step, measured_files, page, records_of, rows, shapes_of


@pytest.fixture(scope="module")
def records():
    return records_of(measured_files())


def test_measured_layers_are_taken_as_measured(records):
    layers = shapes_of("Llama-2-7B")
    assert [linear[1:] for linear in layers] == [(4096, 4096)] * 4 + [(11008, 4096)] * 2 + [(4096, 11008)]
    square, wide = (records["bitmod3_g128", 1, n, 4096].seconds for n in (4096, 11008))
    down = records["bitmod3_g128", 1, 4096, 11008].seconds
    step = gpu_step("bitmod3_g128", 1, layers, records)
    assert step.seconds == step.measured_s == pytest.approx(4 * square + 2 * wide + down)
    assert gpu_step("int3_g128", 3, layers[:1], records).measured_s == 0  # no row of three tokens


def test_a_step_on_the_asic_takes_its_bytes_at_the_memory(records):
    layer = [("q_proj", 4096, 4096)]
    three, four = asic_step("bitmod3_g128", 1, layer), asic_step("bitmod4_g128", 1, layer)
    # 3 and 4 bits, 8-bit scales and 2-bit selectors of groups of 128, an FP16 scale for each row
    weights = 4096 * 4096
    assert 8 * three.weight_bytes == weights * (3 + 10 / 128) + 16 * 4096
    assert 8 * four.weight_bytes == weights * (4 + 10 / 128) + 16 * 4096
    assert four.seconds / three.seconds == pytest.approx(four.weight_bytes / three.weight_bytes, rel=0.01)
    assert three.measured_s == 0 and three.energy_mj < four.energy_mj


def test_recorded_result_is_todays(records):
    table = pd.DataFrame(rows(records))
    recorded = pd.read_csv(RESULT)
    pd.testing.assert_frame_equal(recorded, table, check_dtype=False, rtol=1e-3)
    assert PAGE.read_text(encoding="utf-8") == page(table, records)
