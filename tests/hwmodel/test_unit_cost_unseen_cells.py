"""Sums in cells of shapes that no sweep has: lanes between, and accumulators far wider than their products."""

import pytest

from hwmodel.unit_cost import price_pe
from hwmodel.unit_cost_design import PeDesign, design
from tests.hwmodel.unseen_designs import int_design

# hls.rtl_constructors through hls.synthesis_cells, pyosys 0.70, the smaller of flows booth and (unsigned activations)
# plain: SG13G2, sky130hd (um2), OSU (its own unit), with registers. Chosen before any was priced; 2 by an unsigned 6
# bits, 24 % off at first, then showed that unsigned products are sums of their own.
DOTS = [  # weight, activation, unsigned, lanes, accumulator, areas
    (2, 2, 0, 12, 40, 13073, 7514, 43185),
    (2, 3, 0, 7, 28, 10313, 5942, 34476),
    (2, 5, 0, 3, 32, 5320, 2908, 16361),
    (2, 7, 0, 20, 22, 22614, 14151, 79086),
    (3, 3, 0, 9, 32, 13849, 8347, 47833),
    (3, 4, 0, 24, 20, 28630, 18030, 102337),
    (3, 5, 0, 6, 32, 12981, 8029, 47442),
    (3, 8, 0, 2, 24, 6308, 3585, 22639),
    (4, 4, 0, 6, 40, 15721, 9323, 53189),
    (4, 4, 0, 3, 18, 5307, 3139, 17434),
    (4, 6, 0, 5, 30, 12941, 7715, 42988),
    (5, 6, 0, 3, 30, 8893, 5188, 29109),
    (6, 6, 0, 12, 24, 31214, 19295, 106009),
    (7, 7, 0, 8, 36, 31824, 19511, 108087),
    (8, 8, 0, 2, 48, 13160, 7500, 42513),
    (4, 7, 0, 6, 24, 15459, 9489, 51197),
    (2, 2, 0, 1, 40, 4801, 2514, 13685),
    (3, 7, 0, 1, 30, 4487, 2394, 13712),
    (5, 7, 0, 1, 36, 5820, 3277, 19326),
    (3, 5, 1, 6, 28, 12087, 7348, 42765),
    (5, 3, 1, 5, 24, 8759, 5165, 28603),
    (6, 5, 1, 3, 22, 8004, 4643, 25878),
    (2, 6, 1, 9, 30, 15633, 9006, 56009),
]
OTHERS: list[tuple[PeDesign, tuple[int | None, ...]]] = [
    (design("flint_int_dot", BITS=4, ACTIVATION_BITS=6, LANES=6, ACCUMULATOR_BITS=21), (13475, 7826, None)),
    (design("flint_int_dot", BITS=4, ACTIVATION_BITS=8, LANES=3, ACCUMULATOR_BITS=36), (11665, 6664, None)),
    (design("flint_flint_dot", BITS=4, LANES=6, ACCUMULATOR_BITS=24), (11100, 6571, None)),
    (design("term_serial_dot", ACTIVATION_BITS=6, SHIFT_BITS=3, LANES=6, ACCUMULATOR_BITS=24), (11278, 6759, 37096)),
    (design("term_serial_dot", ACTIVATION_BITS=8, SHIFT_BITS=3, LANES=6, ACCUMULATOR_BITS=40), (17625, 10461, 57205)),
    *(
        (design("codebook_dot", CODE_BITS=code, ENTRY_BITS=entry, ACTIVATION_BITS=a, LANES=lanes, PROGRAMMABLE=written,
                ACCUMULATOR_BITS=bits), areas)
        for code, entry, a, lanes, written, bits, areas in [
            (4, 8, 8, 6, 1, 40, (43613, 25678, 145053)),
            (3, 6, 4, 8, 1, 32, (25964, 14677, 83475)),
            (4, 6, 6, 12, 0, 32, (33826, 20291, 117944)),
            (3, 8, 4, 6, 1, 22, (23564, 13397, 76190)),
        ]
    ),
]  # fmt: skip
LIBRARIES = ("sg13g2", "sky130hd", "osu018")


def errors(found, target):
    areas = ((one, sizes[LIBRARIES.index(target)]) for one, sizes in found)
    return [abs(price_pe(one, target, table=False).area_um2.value / area - 1) for one, area in areas if area]


@pytest.mark.parametrize("target", LIBRARIES)
def test_dot_products_of_integers_of_no_sweep_are_within_the_goal(target):
    dots = [(int_design(w, a, lanes, unsigned=u, accumulator=bits), areas) for w, a, u, lanes, bits, *areas in DOTS]
    magnitudes = errors(dots, target)
    assert len(magnitudes) == 23
    assert sum(magnitudes) / 23 <= 0.05
    assert max(magnitudes) <= 0.15


@pytest.mark.parametrize("target", LIBRARIES)
def test_shifted_terms_and_code_books_of_no_sweep_are_within_the_goal(target):
    magnitudes = errors(OTHERS, target)
    assert len(magnitudes) == (6 if target == "osu018" else 9)
    assert sum(magnitudes) / len(magnitudes) <= 0.05
    assert max(magnitudes) <= 0.15


@pytest.mark.parametrize(
    ("width", "accumulator", "lanes", "areas"),
    # SG13G2, flow booth: of no sweep but the four lanes; predicted first, then synthesised
    [
        (2, 32, (4, 5), (8138, 7185)),
        (2, 32, (7, 8), (11035, 9431)),
        (2, 32, (10, 11), (12019, 9474)),
        (2, 32, (13, 14), (13940, 8979)),
        (2, 14, (13, 14), (7971, 6847)),
        (3, 32, (11, 12), (17715, 16561)),
    ],
)
def test_a_lane_more_can_take_less(width, accumulator, lanes, areas):
    """Rows are added three at a time: where one is left over, the accumulator passes fewer of them."""
    ours = [
        price_pe(int_design(width, width, n, accumulator=accumulator), "sg13g2", table=False).area_um2.value
        for n in lanes
    ]
    assert ours == pytest.approx(areas, rel=0.06)
    assert ours[1] < ours[0]
