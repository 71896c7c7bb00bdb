"""Exact accumulators, fronts, and what the page says, on small tables and on the recorded one."""

import pandas as pd
import pytest

from datatypes.catalog import INTS, MINIFLOATS, UINTS
from studies.minifloat_front import ACCURACY, CELLS, RESULT, exact_mac, fronts, priced, settings
from studies.minifloat_page import TARGETS, front_info, render, sentences


@pytest.mark.parametrize(
    ("weight", "activation", "bits"),
    [
        # 1,152 products need 11 bits above one product
        (INTS[4], INTS[8], 4 + 8 + 11),
        (INTS[4], UINTS[8], 4 + 8 + 11),
        # 2**2 + 1 + 2**2 + 1 + 11 - 1, sign included: fpga.md, section 4
        (MINIFLOATS["e2m1"], MINIFLOATS["e2m1"], 20),
        (MINIFLOATS["e4m3"], MINIFLOATS["e4m3"], 48),
    ],
    ids=["int4 x int8", "int4 x uint8", "e2m1", "e4m3"],
)
def test_accumulators_hold_the_longest_dot_product(weight, activation, bits):
    assert dict(exact_mac(weight, activation).parameters)["ACCUMULATOR_BITS"] == bits


def test_settings_have_names_of_their_own():
    names = [how.name for gptq in (False, True) for how in settings(gptq)]
    assert len(set(names)) == len(names) and "e2m1.e2m1.nearest" in names and "int4.uint8.gptq" in names


@pytest.fixture
def measured():
    rows = [
        ("float32", "fp32", "fp32", "", 0.9),
        ("int4.int4.nearest", "int4", "int4", "nearest", 0.6),
        ("int4.int4.gptq", "int4", "int4", "gptq", 0.7),
        ("e2m1.e2m1.nearest", "e2m1", "e2m1", "nearest", 0.65),
        ("int8.int8.nearest", "int8", "int8", "nearest", 0.89),
    ]
    return pd.DataFrame(rows, columns=["setting", "weight", "activation", "rounding", "top1"]).assign(
        top5=1.0, images=9
    )


def test_the_best_rounding_is_kept_and_dominated_points_leave_the_front(measured):
    table = fronts(priced(measured)).set_index("weight")
    assert table.loc["int4", "rounding"] == "gptq" and len(table) == 3
    # an E2M1 MAC takes more LUTs than INT4 (reference: 38 against 31) and is less accurate here
    assert table.loc["e2m1", "luts"] > table.loc["int4", "luts"]
    assert table.front_luts.to_dict() == {"int4": True, "e2m1": False, "int8": True}


def test_the_figure_holds_the_points_and_the_front(measured):
    info = front_info(fronts(priced(measured)), "luts", 0.9)
    assert info.reference == 90.0 and info.front.name.tolist() == ["int4", "int8"]
    assert info.points["minifloat"].name.tolist() == ["e2m1"]


def test_the_recorded_table_is_what_the_recorded_accuracies_cost():
    recorded, again = pd.read_csv(RESULT), priced(pd.read_csv(ACCURACY))
    assert recorded.setting.tolist() == again.setting.tolist()
    for cost in ("luts", *(f"{library}_um2" for library in CELLS)):
        assert recorded[cost].tolist() == pytest.approx(again[cost].tolist(), rel=0.05)  # fits move as rows come in


def test_the_ranking_depends_on_the_target():
    """Aggarwal et al.: integers often keep the front once LUTs count; in standard cells minifloats are on it."""
    table = pd.read_csv(RESULT)
    useful = table[table.top1 > 0.55]
    share = {cost: (useful[useful[f"front_{cost}"]].kind == "minifloat").mean() for cost in TARGETS}
    assert share["luts"] < 0.15 < 0.2 < share["sg13g2_um2"]
    assert share["luts"] < share["sky130hd_um2"]
    assert len(sentences(table)) == len(TARGETS)


def test_the_page_is_whole():
    text = render(pd.read_csv(RESULT), pd.read_csv(ACCURACY))
    assert text.count('class="plotly-graph-div"') == len(TARGETS) and 'src="http' not in text
