"""Lists of algorithms and recipes."""

from __future__ import annotations

import pandas as pd

from codesign.algorithms.registry import ALGORITHMS
from codesign.codebook_names import GRAMMAR as CODEBOOK_GRAMMAR
from codesign.console import show_table
from codesign.recipe_names import GRAMMAR
from codesign.recipes import RECIPES


def algorithms() -> pd.DataFrame:
    """One row for each algorithm."""
    return pd.DataFrame(
        [
            {
                "name": name,
                "needs": ", ".join(sorted(s.value for s in algorithm.needs)) or "weights only",
                "source": algorithm.source,
            }
            for name, algorithm in ALGORITHMS.items()
        ]
    )


def recipes() -> pd.DataFrame:
    """One row for each named recipe; bits for a 4096 x 4096 layer, everything counted."""
    shape = (4096, 4096)
    return pd.DataFrame(
        [
            {
                "name": recipe.name,
                "algorithm": "none" if recipe.algorithm is None else recipe.algorithm.name,
                "bits_4096": recipe.linear.storage_bits(shape).bits_per_weight(shape),
                "note": recipe.note,
            }
            for recipe in RECIPES.values()
        ]
    )


def show_algorithms(*, as_json: bool) -> None:
    """All algorithms."""
    show_table(algorithms(), title="Algorithms", as_json=as_json)


def show_recipes(*, as_json: bool) -> None:
    """All named recipes, and how other names are made."""
    show_table(recipes(), title=f"Recipes (others: {GRAMMAR}; {CODEBOOK_GRAMMAR})", as_json=as_json)
