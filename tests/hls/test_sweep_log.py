"""The log of long sweeps: what makes a part another one, and what is found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from datatypes.catalog import FORMATS
from tests.hls import sweep_log
from tests.hls.pair_sweep import HERE
from tests.hls.sweep_log import digest, found_in, included, record

PAIRS = [(FORMATS["int4"], FORMATS["e2m1"])]
HOW = {"most": 256, "flags": ("-O1",), "native": False}


def test_a_part_is_found_again_by_its_digest_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert found_in(log, "a") is None
    record(log, "a", "3 pairs")
    record(log, "b", "4 pairs")
    assert [found_in(log, key) for key in "abc"] == ["3 pairs", "4 pairs", None]


def test_other_pairs_codes_flags_or_integers_are_another_part() -> None:
    key = digest(PAIRS, **HOW)
    assert digest(PAIRS, **HOW) == key and len(key) == 64
    others = [{**HOW, "most": 4}, {**HOW, "flags": ("-O2",)}, {**HOW, "native": True}]
    others_made = {digest(PAIRS, **how) for how in others} | {digest([*PAIRS, PAIRS[0]], **HOW)}
    assert len(others_made | {key}) == 5


def test_a_changed_header_is_another_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {path.name for path in included(HERE / "pair_sweep.h")}
    assert {"pair_sweep.h", "integer.h", "types.h", "float_accumulate.h"} <= names  # types.h: through the others
    assert "layer.h" not in names
    key = digest(PAIRS, **HOW)
    (tmp_path / "codesign").mkdir()
    for path in included(HERE / "pair_sweep.h"):
        (tmp_path / "codesign" / path.name).write_text(path.read_text())
    monkeypatch.setattr(sweep_log, "INCLUDE", tmp_path)
    assert digest(PAIRS, **HOW) == key
    with (tmp_path / "codesign" / "types.h").open("a") as file:
        file.write("// changed\n")
    assert digest(PAIRS, **HOW) != key
