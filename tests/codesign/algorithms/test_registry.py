"""Names and hyper-parameters as files give them."""

from __future__ import annotations

import pytest

from codesign.algorithms.gwq import Score
from codesign.algorithms.registry import ALGORITHMS, algorithm, options_of


def test_plain_name_gives_the_registered_instance() -> None:
    assert algorithm("gptq") == ALGORITHMS["gptq"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gptq", {"act_order": False, "damping": 0.1, "block": 64}),
        ("rtn", {"clip": (1.0, 0.9)}),
        ("gwq", {"score": "square", "threshold": 0.25}),
        ("lqer", {"split_root": True}),
        ("finequant", {"alpha": 0.2}),
    ],
)
def test_options_make_the_round_trip(name: str, options: dict[str, object]) -> None:
    made = algorithm(name, options)
    assert made.name == name and options_of(made) == options
    assert algorithm(name, options_of(made)) == made


def test_values_get_the_type_of_their_field() -> None:
    assert algorithm("gwq", {"score": "square"}).score is Score.SQUARE  # type: ignore[attr-defined]
    assert algorithm("rtn", {"clip": [1, 0.5]}).clip == (1.0, 0.5)  # type: ignore[attr-defined]
    assert isinstance(algorithm("gptq", {"damping": 1}).damping, float)  # type: ignore[attr-defined]


def test_unknown_names_are_answered_with_near_ones() -> None:
    with pytest.raises(ValueError, match=r"algorithm must be one of rtn, .*, not 'gtpq'; nearest: gptq"):
        algorithm("gtpq")
    with pytest.raises(
        ValueError, match=r"option of gptq must be one of damping, .*, not 'actorder'; nearest: act_order"
    ):
        algorithm("gptq", {"actorder": True})
    with pytest.raises(
        ValueError, match="score of gwq must be one of gradient, square, gradient_times_weight, not 'g'"
    ):
        algorithm("gwq", {"score": "g"})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gptq", {"act_order": 1}, "act_order of gptq must be true or false, not 1"),
        ("gptq", {"block": 1.5}, r"block of gptq must be a whole number, not 1\.5"),
        ("gptq", {"block": True}, "block of gptq must be a whole number, not True"),
        ("gptq", {"damping": "much"}, "damping of gptq must be a number, not 'much'"),
        ("rtn", {"clip": 0.9}, r"clip of rtn must be a list of numbers, not 0\.9"),
    ],
)
def test_values_of_the_wrong_kind(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        algorithm(name, options)


def test_a_value_the_paper_forbids() -> None:
    with pytest.raises(ValueError, match="damping must be >= 0"):
        algorithm("gptq", {"damping": -1.0})
