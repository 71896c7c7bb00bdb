"""The benchmark runs, and the compiled loop is far ahead of the plain one."""

from hwmodel.event_bench import bench


def test_every_figure_is_there() -> None:
    results = bench(cpu_s=0.02)
    assert len({result.name for result in results}) == len(results) == 5
    plain = results[-1]
    assert plain.name == "plain Python loop"
    assert all(result.events > 0 for result in results)
    assert results[0].events_per_cpu_s > 20 * plain.events_per_cpu_s  # about 400 on an idle core
