"""The benchmark runs and names every figure once."""

import pytest

from hwmodel.bench import bench, main


def test_every_figure_is_there() -> None:
    results = bench(cpu_s=0.02)
    assert [result.name for result in results] == ["whole model", "workload built anew", "one layer a call"]
    assert all(result.layers > 0 and result.layers_per_cpu_s > 0 for result in results)


def test_main_prints_each_figure(capsys: pytest.CaptureFixture[str]) -> None:
    main(cpu_s=0.01)
    assert capsys.readouterr().out.count("layers per CPU second") == 3
