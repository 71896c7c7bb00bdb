from codesign.dashboard.energy_split import draw_energy_split, energy_split
from codesign.dashboard.layer_costs import TrialKey
from codesign.study import StudyResult


def test_what_the_parts_do_not_name_is_other(small_result: StudyResult) -> None:
    info = energy_split(small_result, TrialKey("a", "m"))
    assert info.parts == ("Compute", "On-chip memory", "DRAM", "Other")
    # prefill: 44 in all; compute 1+4+1+6, SRAM 2+2+6, DRAM 3+3+8, so 8 beyond; decode: 5 = 1 + 1 + 3
    assert info.energy_pj.tolist() == [[12, 10, 14, 8], [1, 1, 3, 0]]
    assert info.shares[1].tolist() == [0.2, 0.2, 0.6, 0.0]


def test_a_trial_without_layers_uses_nothing(small_result: StudyResult) -> None:
    assert not energy_split(small_result, TrialKey("no", "m")).shares.any()


def test_hover_shows_joules(small_result: StudyResult) -> None:
    figure = draw_energy_split(energy_split(small_result, TrialKey("a", "m")))
    assert list(figure.data[2].customdata) == [14 * 1e-12, 3 * 1e-12]
