"""The table that ``codesign export --block`` ends with: when each process of a block is done with a token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd


def block_steps(block: Mapping[str, Any]) -> pd.DataFrame:
    """One row for each process of an exported block, in the order of the pipeline.

    ``done_cycle`` is counted from the start of the token; ``work_cycles`` are those in which a layer multiplies, or
    attention its positions; sites are a layer's own.

    Args:
        block: its entry in the manifest.
    """
    made = block["estimate"]
    cycles = made["cycles"]
    attention = cycles["attention"]
    work = cycles["work_of_layers"] | {"attend": attention["keys"] + attention["softmax"] + attention["values"]}
    rows = []
    for name, done in cycles["ends"].items():
        taken = made["layers"].get(name)
        rows.append(
            {
                "process": name, "done_cycle": done, "work_cycles": work.get(name),
                "luts": None if taken is None else round(taken["luts"]),
                "dsps": None if taken is None else round(taken["dsps"]),
            }
        )  # fmt: skip
    return pd.DataFrame(rows, dtype=object)  # whole numbers beside what is not there
