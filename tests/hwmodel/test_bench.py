"""The benchmark runs, and pricing is as fast as promised."""

import pytest

from hwmodel.bench import bench, main


def test_at_least_a_thousand_layers_a_cpu_second() -> None:
    results = bench(cpu_s=0.2)
    assert [result.name for result in results] == ["whole model", "workload built anew", "one layer a call"]
    assert min(result.layers_per_cpu_s for result in results) >= 1000


def test_main_prints_each_figure(capsys: pytest.CaptureFixture[str]) -> None:
    main(cpu_s=0.01)
    assert capsys.readouterr().out.count("layers per CPU second") == 3
