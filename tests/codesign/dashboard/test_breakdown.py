from codesign.dashboard.breakdown import breakdown, draw_breakdown
from codesign.dashboard.layer_costs import TrialKey
from codesign.study import StudyResult


def test_bars_and_shares_of_a_phase(small_result: StudyResult) -> None:
    info = breakdown(small_result, TrialKey("a", "m"), "prefill")
    assert info.names == ("q", "n", "head")
    assert info.cycles.tolist() == [300, 50, 250]
    assert info.shares.tolist() == [300 / 600, 50 / 600, 250 / 600]


def test_a_trial_without_layers_has_no_shares(small_result: StudyResult) -> None:
    assert breakdown(small_result, TrialKey("ref", "m"), "prefill").shares.tolist() == []


def test_every_bar_is_drawn_with_a_readable_height(full_result: StudyResult) -> None:
    info = breakdown(full_result, TrialKey("fp16", "bitmod"), "decode", every_layer=True)
    figure = draw_breakdown(info)
    assert len(figure.data[0].y) == 3 + 30 * 13  # embedding, norm, head and 30 blocks of 13
    assert figure.layout.height >= 393 * 20  # pixels: every label can be read
