import numpy as np

from codesign.dashboard.kind_cycles import draw_kind_cycles, kind_cycles
from codesign.dashboard.layer_costs import TrialKey
from codesign.study import StudyResult


def test_cycles_add_up_by_kind_and_phase(small_result: StudyResult) -> None:
    info = kind_cycles(small_result, TrialKey("a", "m"))
    linear, norm = info.kinds.index("linear"), info.kinds.index("norm")
    assert info.cycles[:, linear].tolist() == [200 + 100 + 250, 10]
    assert info.cycles[:, norm].tolist() == [50, 0]
    np.testing.assert_array_equal(info.shares.sum(axis=1), [1.0, 1.0])


def test_a_trial_without_layers_has_shares_of_zero(small_result: StudyResult) -> None:
    assert not kind_cycles(small_result, TrialKey("no", "m")).shares.any()


def test_kinds_without_cycles_stay_out_of_the_legend(small_result: StudyResult) -> None:
    figure = draw_kind_cycles(kind_cycles(small_result, TrialKey("a", "m")))
    assert [trace.name for trace in figure.data if trace.showlegend] == ["Linear", "Norm"]
