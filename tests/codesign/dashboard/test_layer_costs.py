import pytest

from codesign.dashboard.layer_costs import TrialKey, layer_costs
from codesign.study import StudyResult

A = TrialKey("a", "m")


def test_blocks_are_summed_by_role(small_result: StudyResult) -> None:
    costs = layer_costs(small_result, A, "prefill")
    assert costs.names == ("q", "n", "head")
    assert costs.kinds == ("linear", "norm", "linear")
    assert costs.members.tolist() == [2, 1, 1]
    assert costs.sums["cycles"].tolist() == [300, 50, 250]
    assert costs.sums["macs"].tolist() == [1600, 0, 1600]


def test_every_layer_stays_apart_in_order(small_result: StudyResult) -> None:
    costs = layer_costs(small_result, A, "prefill", every_layer=True)
    assert costs.names == ("0.q", "0.n", "1.q", "head")
    assert costs.sums["dram_bits"].tolist() == [1600, 0, 800, 400]


@pytest.mark.parametrize("every_layer", [False, True], ids=["by role", "every layer"])
def test_a_trial_without_layers_has_no_rows(small_result: StudyResult, every_layer: bool) -> None:
    costs = layer_costs(small_result, TrialKey("no", "m"), "decode", every_layer=every_layer)
    assert costs.names == ()
    assert costs.sums["cycles"].tolist() == []


def test_an_unknown_phase_is_refused(small_result: StudyResult) -> None:
    with pytest.raises(ValueError, match="phase must be one of prefill, decode, not 'training'"):
        layer_costs(small_result, A, "training")


def test_an_unknown_trial_is_refused(small_result: StudyResult) -> None:
    with pytest.raises(ValueError, match="trial must be one of study small, not TrialKey"):
        layer_costs(small_result, TrialKey("a", "elsewhere"), "prefill")
