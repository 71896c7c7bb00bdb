import numpy as np
import pytest

from codesign.dashboard.layer_costs import TrialKey
from codesign.dashboard.roofline import draw_roofline, roof, roofline
from codesign.study import StudyResult

A = TrialKey("a", "m")


def test_points_lie_at_macs_per_byte_and_macs_per_second(small_result: StudyResult) -> None:
    info = roofline(small_result, A)
    assert info.names == ("q", "head", "q")
    assert info.phases == ("prefill", "prefill", "decode")
    # q: 1600 macs over 2400 bits = 300 bytes; head: 1600 over 50 bytes; decode: 8 over 10 bytes
    np.testing.assert_array_equal(info.intensity_macs_per_byte, [1600 / 300, 32.0, 0.8])
    # clock 1 GHz: 1600 macs in 300 cycles, 1600 in 250, 8 in 10
    np.testing.assert_allclose(info.macs_per_s, [1600 / 300 * 1e9, 6.4e9, 0.8e9], rtol=1e-15)
    np.testing.assert_array_equal(info.shares, [0.5, 250 / 600, 1.0])
    assert info.left_out == 1  # the norm


def test_the_trials_own_roof_is_its_fastest_layer_with_free_memory(small_result: StudyResult) -> None:
    assert roofline(small_result, A).trial_macs_per_s == 8e9  # q: 1600 macs in 200 compute cycles


def test_a_trial_without_layers_has_only_the_machines_roof(small_result: StudyResult) -> None:
    info = roofline(small_result, TrialKey("no", "m"))
    assert np.isnan(info.trial_macs_per_s)
    assert [len(trace.x) for trace in draw_roofline(info).data] == [3, 0, 0, 0]


def test_the_roof_bends_where_peak_meets_bandwidth(small_result: StudyResult) -> None:
    x, y = roof(roofline(small_result, A), 8e9)
    assert x.tolist() == [0.2, 8.0, 128.0]  # 0.8 / 4, 8e9 / 1e9, 32 * 4
    assert y.tolist() == [0.2e9, 8e9, 8e9]


def test_no_layer_of_the_made_up_machines_lies_above_its_own_roof(full_result: StudyResult) -> None:
    info = roofline(full_result, TrialKey("bitmod3_g128", "bitmod"))
    bound = np.minimum(info.intensity_macs_per_byte * info.dram_bytes_per_s, info.trial_macs_per_s)
    assert (info.macs_per_s <= bound * (1 + 1e-12)).all()


def test_a_machine_that_is_missing_is_refused(small_result: StudyResult) -> None:
    with pytest.raises(ValueError, match="must be in the machines table of study small, not 'elsewhere'"):
        roofline(small_result, TrialKey("a", "elsewhere"))
