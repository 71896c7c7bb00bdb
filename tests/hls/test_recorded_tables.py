"""Recorded rows against the RTL in the repository and against figures measured by somebody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from hls.rtl_designs import designs
from hls.synthesis_compare import compare, summary
from hwmodel.synthesis_table import recorded_targets, synthesis_rows


@pytest.mark.parametrize("target", recorded_targets())
def test_no_row_is_older_than_its_rtl(target):
    known = {design.name: design for design in designs("all")}
    for row in synthesis_rows(target):
        design = known[row.design]
        assert row.rtl == design.rtl, f"{row.design} must be synthesised again: python -m hls.synthesis"
        assert row.parameters == design.parameter_text


def test_counts_agree_with_the_reference_measurements(shared_dir: Path):
    comparisons = compare(shared_dir / "reference" / "data")
    assert len(comparisons) > 100
    for what, row in summary(comparisons).items():
        if "power" not in what:  # vectorless power hangs on the structure of XOR trees: docs/synthesis.md
            assert row.mean_error <= 0.05, (what, row)
