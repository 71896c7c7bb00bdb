"""Every ground truth of the machines: laws met, bounds kept, errors stated where they are stated."""

from dataclasses import replace

import pandas as pd
import pytest

from hwmodel.check import Check, Standing, checks_frame
from hwmodel.validate_machines import validate_machines

PRINTED = 1e-3  # laws are compared with figures of three and more digits


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return validate_machines()


def test_laws_are_met(table: pd.DataFrame) -> None:
    laws = table[table["standing"] == Standing.LAW.value]
    assert len(laws) >= 16 and laws["error"].abs().max() <= PRINTED


def test_systolic_folds_take_what_scale_sim_simulates(table: pd.DataFrame) -> None:
    rows = table[table["subject"] == "SCALE-Sim"]
    # 2 R + C + T - 2 cycles, 12 times: 2 x 32 + 24 + 500 - 2 = 586 and 2 x 8 + 16 + 3 - 2 = 33
    assert rows["ours"].tolist() == rows["truth"].tolist() == [12 * 586, 12 * 33]


def test_published_cycles_of_stripes_are_met_exactly(table: pd.DataFrame) -> None:
    rows = table[(table["subject"] == "Stripes") & table["quantity"].str.startswith("compute cycles")]
    assert rows["ours"].tolist() == rows["truth"].tolist() == [8755200, 34762752]


def test_bounds_are_kept(table: pd.DataFrame) -> None:
    bounds = table[table["standing"] == Standing.BOUND.value].set_index("subject")
    assert (bounds.loc["BitVert", "ours"] > bounds.loc["BitVert", "truth"]).all()  # pruning may only save cycles
    assert bounds.loc["FineQuant", "ours"] > bounds.loc["FineQuant", "truth"]  # no claim beyond the traffic
    assert bounds.loc["FineQuant", "ours"] <= 16 / 4.25


def test_what_is_rebuilt_stays_within_what_the_docs_say(table: pd.DataFrame) -> None:
    rebuilt = table[table["standing"] == Standing.REBUILT.value]
    assert rebuilt["error"].abs().max() < 0.19  # docs/machines.md
    left = table[table["standing"] == Standing.OPEN.value].set_index("quantity")["error"]
    assert set(left.round(2)) == {0.22, 0.25, 0.43}  # what could not be rebuilt, each with its reason there
    bitlet = rebuilt[rebuilt["subject"] == "Bitlet"]
    assert len(bitlet) == 2 and bitlet["error"].abs().max() < 0.015


def test_inputs_carry_no_error(table: pd.DataFrame) -> None:
    """Figures that ours were made from: our agreement with them says nothing."""
    inputs = table[table["standing"] == Standing.INPUT.value]
    assert set(inputs["subject"] + ": " + inputs["quantity"]) == {
        "BitFusion: area of a spatially fused unit, um2",
        "FP16: LUTs of LQER's layer",
    }
    assert inputs["error"].isna().all() and table.drop(inputs.index)["error"].notna().all()


def test_bismos_arrays_from_netlists_of_a_unit(table: pd.DataFrame) -> None:
    rows = table[table["quantity"] == "LUTs of the array"].set_index("subject")
    # data/synthesis_lut6.csv: bit_bit_dot.x256 has 452 LUTs in the smallest flow; 8 x 8 and 10 x 10 of them
    assert rows["ours"].to_dict() == {"bismo_pynq_z1": 64 * 452, "bismo_ultra96": 100 * 452}
    assert rows["error"].abs().max() < 0.03


def test_every_row_has_a_source_and_every_open_one_a_reason(table: pd.DataFrame) -> None:
    assert (table["source"].str.len() > 0).all()
    assert (table.loc[table["standing"] == Standing.OPEN.value, "note"].str.len() > 0).all()


def test_errors_are_relative() -> None:
    check = Check("x", "y", 2.0, 3.0, Standing.REBUILT, "here")
    assert check.error == 0.5
    assert replace(check, standing=Standing.INPUT).error is None
    assert checks_frame([check]).loc[0, "error"] == 0.5
