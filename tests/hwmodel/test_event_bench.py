"""The benchmark runs and names every figure once, the plain loop last."""

from hwmodel.event_bench import bench


def test_every_figure_is_there() -> None:
    results = bench(cpu_s=0.02)
    assert len({result.name for result in results}) == len(results) == 5
    assert results[-1].name == "plain Python loop"
    assert all(result.events > 0 and result.events_per_cpu_s > 0 for result in results)
