"""Every row of the published simulator, and every figure of the paper that has a number."""

from pathlib import Path

import pytest

from hwmodel.paper import PaperVersion
from hwmodel.validate import (
    SIMULATOR_ROWS,
    errors_by_row,
    summarize,
    validate_headlines,
    validate_pareto,
    validate_simulator,
    validate_speedups,
)  # fmt: skip


def test_every_cell_of_the_published_simulator() -> None:
    cells = validate_simulator()
    assert len(cells) == 120 * 17  # 90 rows of version 2 and 30 of version 1, 17 columns each
    assert cells[~cells["agrees"]].empty


def test_the_shared_copy_of_the_rows(shared_dir: Path) -> None:
    cells = validate_simulator(shared_dir / "reference" / "data" / "bitmod_sim_results.csv")
    assert len(cells) and cells["agrees"].all()


def test_a_wrong_row_is_noticed(tmp_path: Path) -> None:
    lines = SIMULATOR_ROWS.read_text().splitlines()
    wrong = lines[-1].replace("97477504", "97477505")
    assert wrong != lines[-1]
    file = tmp_path / "rows.csv"
    file.write_text("\n".join([lines[0], wrong]))
    cells = validate_simulator(file)
    assert cells[~cells["agrees"]]["quantity"].tolist() == ["cycles_total"]


def test_one_version_alone() -> None:
    cells = validate_simulator(version=PaperVersion.V1)
    assert set(cells["version"]) == {"v1"} and len(errors_by_row(cells)) == 30
    table = summarize(cells)
    assert (table["rows"] == table["agree"]).all()
    assert table.loc[table["quantity"].str.startswith("cycles"), "largest_error"].max() == 0
    assert table.loc[table["standing"] == "input", "quantity"].tolist() == ["pe_array_mm2"]  # the simulator's own PE


def test_bars_of_figures_7_and_8() -> None:
    bars = validate_speedups()
    assert len(bars) == 120
    assert (bars["cycles_error"] == 0).all()
    assert bars["energy_error"].abs().max() < 5e-6  # the notebooks' arrays are rounded to 1 uJ
    assert (bars["speedup"] - bars["our_speedup"]).abs().max() <= 5.01e-5  # four decimals
    assert (bars["energy_efficiency"] - bars["our_energy_efficiency"]).abs().max() <= 1.01e-4


def test_points_of_figure_9() -> None:
    points = validate_pareto()
    assert len(points) == 22 and (points["cycles_error"] == 0).all()
    assert points["energy_error"].abs().max() < 3e-5  # the sheet is rounded to 1 uJ, the smallest point is 21129 uJ


def test_headline_claims() -> None:
    claims = validate_headlines()
    assert len(claims) == 14
    assert claims["error"].abs().max() < 0.00501  # all printed with two decimals


@pytest.mark.parametrize("content", [None, "sim,task\nv2,x\n"], ids=["missing file", "missing columns"])
def test_bad_reference_file(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "rows.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=r"reference file .*rows\.csv|reference file must be a readable CSV table"):
        validate_simulator(file)
