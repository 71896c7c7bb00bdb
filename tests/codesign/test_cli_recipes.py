"""Lists of algorithms and recipes: one row each, with what can be checked by hand."""

import pytest

from codesign import cli_recipes
from codesign.algorithms.registry import ALGORITHMS
from codesign.recipes import RECIPES


def test_every_entry_has_its_row():
    assert cli_recipes.algorithms()["name"].tolist() == list(ALGORITHMS)
    assert cli_recipes.recipes()["name"].tolist() == list(RECIPES)


def test_bits_of_a_recipe_count_everything():
    bits = cli_recipes.recipes().set_index("name")["bits_4096"]
    # 4 bits, and for each group of 128 an FP16 scale and 2 bits that select the special value
    assert bits["bitmod4_g128"] == pytest.approx(4 + (16 + 2) / 128, abs=1e-12)
    assert bits["fp16"] == 16


def test_an_algorithm_says_what_it_needs():
    needs = cli_recipes.algorithms().set_index("name")["needs"]
    assert needs["rtn"] == "weights only"
    assert "hessian" in needs["gptq"] and "gradient" in needs["gwq"]
