"""The study on a small random layer, and its chain of FP16 operations one number at a time."""

import numpy as np
import torch

from studies.pe_functional import DATAPATHS, FORMATS, half_precision_chain, layer_rows


def test_every_format_and_design_is_measured() -> None:
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(6, 200, generator=generator) * 0.02
    x = torch.randn(2, 200, generator=generator).to(torch.float16).numpy()
    rows = list(layer_rows("x", weight, x))
    assert len(rows) == len(FORMATS) * (len(DATAPATHS) + 2)
    for row in rows:
        assert 0 < row["rms"] < 0.1
        assert row.get("largest_over_bound", 0) <= 1
    # HPCA 2025, table of section III: 2, 2, 3, 4 cycles for each of 50 steps of four lanes
    cycles = {row["format"]: row["cycles"] for row in rows if row["design"] == "lanes"}
    assert cycles == {"bitmod_fp3": 100, "bitmod_fp4": 100, "int6": 150, "int8": 200}


def test_half_precision_chain_by_hand() -> None:
    # 2048 + 1 = 2049 lies between the FP16 neighbours 2048 and 2050: to even, twice; then 2048 + 3 = 2051 to 2052
    x, weight = np.array([[2048, 1, 1, 3]], np.float16), np.ones((1, 4))
    assert half_precision_chain(x, weight).tolist() == [[2052.0]]
