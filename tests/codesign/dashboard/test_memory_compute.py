from codesign.dashboard.layer_costs import TrialKey
from codesign.dashboard.memory_compute import draw_memory_compute, memory_compute
from codesign.study import StudyResult


def test_compute_and_memory_cycles_of_each_role(small_result: StudyResult) -> None:
    info = memory_compute(small_result, TrialKey("a", "m"), "prefill")
    assert info.names == ("q", "n", "head")
    assert info.compute_cycles.tolist() == [200, 50, 250]
    assert info.dram_cycles.tolist() == [280, 0, 100]


def test_both_bars_are_drawn_for_every_layer(small_result: StudyResult) -> None:
    figure = draw_memory_compute(memory_compute(small_result, TrialKey("a", "m"), "prefill", every_layer=True))
    assert [(trace.meta, len(trace.x)) for trace in figure.data] == [("compute", 4), ("dram", 4)]
