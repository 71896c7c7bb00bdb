"""Every row of the published simulator, and every figure of the paper that has a number."""

from pathlib import Path

import pytest

from hwmodel.paper import PaperVersion
from hwmodel.validate import (
    PARETO_ROWS,
    SIMULATOR_ROWS,
    SPEEDUP_ROWS,
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


_ROW = dict(zip(*(line.split(",") for line in SIMULATOR_ROWS.read_text().splitlines()[:2]), strict=True))
_MODERN = dict(
    zip(_ROW, SIMULATOR_ROWS.read_text().splitlines()[-1].split(","), strict=True)
)  # version 2, BitMoD lossy


def _table(path: Path, *rows: dict[str, str]) -> Path:
    path.write_text("\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]) + "\n")
    return path


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (_ROW, "task", "prefill", "task must be one of discriminative_prefill, generative_per_token, not 'prefill'"),
        (_ROW, "task", "", "task must not be empty"),
        (_ROW, "sim", "v3", "sim must be one of v1, v2, not 'v3'"),
        (_ROW, "model", "OPT-1.3", "model must be one of .*, not 'OPT-1.3'; nearest: OPT-1.3B"),
        (_ROW, "accelerator", "bitmod", "accelerator must be one of .*, not 'bitmod'"),
        (_ROW, "batch", "inf", "batch must be a whole number from 1 to 2147483647, not 'inf'"),
        (_ROW, "ctx", "2.5", "ctx must be a whole number from 1 to 2147483647, not '2.5'"),
        (_ROW, "batch", "8", "batch must be 1 in version 1, not 8"),
        (_ROW, "cycles_total", "nan", "cycles_total must be a finite number above 0, not 'nan'"),
        (_ROW, "e_dram_uJ", "", "e_dram_uJ must not be empty"),
        (_ROW, "e_total_uJ", "-1", "e_total_uJ must be a finite number above 0, not '-1'"),
        (_ROW, "layers_memory_bound", "-1", "layers_memory_bound must be a finite number at least 0, not '-1'"),
        (_ROW, "w_bits", "99", "w_bits, kv_bits: weight and kv bits must be 1 to 32, not 99.0 and 16.0"),
        (_ROW, "kv_bits", "8", "kv_bits must be 16, as FP16 baseline in v1, .* not 8"),
        (_MODERN, "dp", "8", "dp must be 4, as BitMoD lossy in v2, .* not 8"),
        (_MODERN, "pe_latency_linear", "3", "pe_latency_linear must be 2, .* weights of 3.0625 bits, .* not 3"),
    ],
)
def test_a_row_that_is_none_is_one_sentence(
    tmp_path: Path, row: dict[str, str], column: str, value: str, message: str
) -> None:
    file = _table(tmp_path / "rows.csv", row, {**row, column: value})
    with pytest.raises(ValueError, match=rf"rows\.csv line 3: {message}"):
        validate_simulator(file)


def test_a_row_is_priced_with_its_own_bits_and_array(tmp_path: Path) -> None:
    ours = {}
    for name, changes in {
        "as published": {},
        "four bits": {"w_bits": "4.0625"},
        "one row more": {"array_h": "65"},
        "wide cache": {"kv_bits": "16", "pe_latency_attn": "8"},
    }.items():
        cells = validate_simulator(_table(tmp_path / "rows.csv", {**_MODERN, **changes}))
        ours[name] = dict(zip(cells["quantity"], cells["ours"], strict=True))
    own, four, tall, wide = ours.values()
    for narrower, wider in ((own, four), (own, wide)):  # DRAM traffic alone: bits x words over the rate
        assert narrower["e_dram_uJ"] < wider["e_dram_uJ"]
    assert (
        own["cycles_dram_linear"] < four["cycles_dram_linear"]
        and own["cycles_dram_linear"] == wide["cycles_dram_linear"]
    )
    assert tall["pe_array_mm2"] == pytest.approx(own["pe_array_mm2"] * 65 / 64)  # 64 rows of 16 in decode


def test_a_table_without_the_columns_of_the_design_is_read(tmp_path: Path) -> None:
    left_out = ("w_bits", "kv_bits", "array_h", "array_w", "dp", "pe_latency_linear", "pe_latency_attn", "provenance")
    row = {name: value for name, value in _MODERN.items() if name not in left_out}
    assert validate_simulator(_table(tmp_path / "rows.csv", row))["agrees"].all()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "must be a readable CSV table in UTF-8"), ("sim,task\nv2,x\n", "must have the columns batch, ctx, ")],
    ids=["missing file", "missing columns"],
)
def test_bad_reference_file(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "rows.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=rf"rows\.csv {message}"):
        validate_simulator(file)


def test_bad_bars_and_points_name_line_and_column(tmp_path: Path) -> None:
    for check, source, old, new, message in (
        (validate_speedups, SPEEDUP_ROWS, "FP16 baseline", "FP15", "accelerator must be one of .*, not 'FP15'"),
        (validate_speedups, SPEEDUP_ROWS, ",669255680,", ",0,", "cycles must be a finite number above 0, not '0'"),
        (validate_pareto, PARETO_ROWS, "BitMoD,", "Bitmo,", "accelerator must be one of .*; nearest: BitMoD"),
    ):
        file = tmp_path / "rows.csv"
        file.write_text(source.read_text().replace(old, new, 1))
        with pytest.raises(ValueError, match=rf"rows\.csv line 2: {message}"):
            check(file)
