import numpy as np
import pytest

from codesign.dashboard.trade_off import draw_trade_off, trade_off
from codesign.study import StudyResult


def test_only_supported_trials_with_numbers_are_points_and_dominated_ones_leave_the_front(
    small_result: StudyResult,
) -> None:
    info = trade_off(small_result, x="bits_per_weight", y="loss")
    assert info.recipes == ("a", "ref", "worse")  # "no" is not supported, "nan" has no loss
    assert info.front.tolist() == [True, True, False]
    assert info.y_error is not None
    assert info.y_error.tolist() == [0.01, 0.01, 0.01]


def test_the_front_is_that_of_the_accelerators_shown(full_result: StudyResult) -> None:
    info = trade_off(full_result, x="decode_s", y="loss", accelerators=["edge_npu"])
    assert set(info.accelerators) == {"edge_npu"}
    for i in np.flatnonzero(~info.front):  # every dominated point has someone no worse on both axes
        no_worse = (info.x_values <= info.x_values[i]) & (info.y_values <= info.y_values[i])
        assert (no_worse & ((info.x_values < info.x_values[i]) | (info.y_values < info.y_values[i]))).any()


def test_an_axis_without_an_error_has_none(full_result: StudyResult) -> None:
    assert trade_off(full_result, y="kl").y_error is None


def test_an_unknown_axis_is_refused(small_result: StudyResult) -> None:
    with pytest.raises(ValueError, match="axis must be one of loss, .*, not 'colour'"):
        trade_off(small_result, y="colour")


def test_the_figure_has_the_front_a_trace_for_each_accelerator_and_a_ring(full_result: StudyResult) -> None:
    figure = draw_trade_off(trade_off(full_result), selected=0)
    assert [trace.meta for trace in figure.data] == ["front", *["points"] * 5, "labels", "ring"]
    assert list(figure.data[-1].y) == [full_result.trials["loss"].iloc[0]]
    assert list(figure.data[0].x) == sorted(figure.data[0].x)


def test_names_are_shown_literally(hostile_result: StudyResult) -> None:
    figure = draw_trade_off(trade_off(hostile_result))
    assert "<img" not in figure.to_json().replace("\\u003c", "<")
