"""LUTs of netlists that no sweep holds: wider formats, other lanes and accumulators, by prices of the tables."""

from hwmodel.synthesis_table import best_rows
from hwmodel.unit_cost import price_pe
from hwmodel.unit_cost_design import design, design_of_row
from tests.hwmodel.unseen_designs import listed

# Packed LUT6s of modules of hls/rtl, pyosys 0.70: hls.synthesis_yosys.run_batch and hls.lut_packing.count_luts; the
# smallest of the flows that the tables have of each family (rowpair; rowpair_gates up to four lanes; of products in
# fixed point also gates, gates_nomux, gates_rounds, gates_twice and default). None was fitted, no form chosen by them.
FLOATS = [  # family, exponent and mantissa bits of weight and activation, lanes
    ("minifloat_multiplier", (1, 8, 1, 8), 1, 79),
    ("minifloat_multiplier", (2, 6, 4, 4), 1, 41),
    ("minifloat_multiplier", (3, 3, 1, 7), 1, 32),
    ("minifloat_multiplier", (3, 5, 3, 5), 1, 46),
    ("minifloat_multiplier", (4, 3, 5, 3), 1, 34),
    ("minifloat_multiplier", (4, 4, 4, 4), 1, 37),
    ("minifloat_product", (1, 8, 1, 8), 1, 93),
    ("minifloat_product", (2, 1, 5, 4), 1, 71),
    ("minifloat_product", (2, 6, 4, 4), 1, 93),
    ("minifloat_product", (3, 3, 1, 7), 1, 68),
    ("minifloat_product", (3, 5, 3, 5), 1, 85),
    ("minifloat_product", (4, 3, 5, 3), 1, 96),
    ("minifloat_product", (4, 4, 4, 4), 1, 85),
    ("minifloat_dot", (1, 3, 2, 2), 16, 578),
    ("minifloat_dot", (2, 1, 2, 1), 32, 932),
    ("minifloat_dot", (2, 1, 4, 3), 8, 552),
    ("minifloat_dot", (2, 1, 5, 4), 1, 117),
    ("minifloat_dot", (2, 3, 4, 3), 4, 360),
    ("minifloat_dot", (3, 2, 3, 2), 2, 130),
    ("minifloat_dot", (3, 5, 3, 5), 4, 442),
    ("minifloat_dot", (4, 3, 4, 3), 6, 686),
    ("minifloat_dot", (4, 4, 4, 4), 1, 136),
]
INTEGERS = [  # weight, activation, lanes, accumulator (0: a multiplier)
    (9, 9, 1, 0, 83), (4, 10, 1, 0, 35), (8, 12, 1, 0, 94), (12, 12, 1, 0, 147), (9, 9, 1, 28, 110),
    (8, 12, 1, 30, 124), (6, 12, 2, 28, 181), (10, 10, 4, 30, 502), (2, 10, 4, 22, 109), (5, 7, 3, 22, 144),
    (4, 8, 6, 22, 259),
    (4, 8, 32, 22, 1363), (3, 8, 32, 21, 995), (8, 8, 4, 40, 354), (2, 2, 8, 32, 103),
]  # fmt: skip
OTHERS = [
    (design("flint_int_dot", ACCUMULATOR_BITS=25, ACTIVATION_BITS=8, BITS=5, LANES=2), 144),
    (design("tender_dot", ACCUMULATOR_BITS=32, ACTIVATION_BITS=6, LANES=4, WEIGHT_BITS=6), 221),
    (design("term_serial_dot", ACCUMULATOR_BITS=25, ACTIVATION_BITS=7, LANES=16, SHIFT_BITS=3), 674),
]


def test_luts_of_designs_of_no_sweep_are_within_the_goal():
    """At most 5 % on average and 15 % at worst."""
    recorded = {design_of_row(row) for row in best_rows("lut6").values()}
    errors = []
    for one, luts in listed(FLOATS, INTEGERS) + OTHERS:
        assert one not in recorded
        cost = price_pe(one, table=False).luts
        assert cost is not None
        errors.append(abs(cost.value / luts - 1))
    assert len(errors) == 40
    assert sum(errors) / len(errors) <= 0.03
    assert max(errors) <= 0.11  # E4M4 x E4M4 alone
