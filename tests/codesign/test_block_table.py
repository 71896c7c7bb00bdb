"""The table of a block's processes, from an entry written by hand."""

from __future__ import annotations

from codesign.block_table import block_steps

ENTRY = {
    "estimate": {
        "cycles": {
            "ends": {"input": 70, "q": 170, "attend": 400},
            "attention": {"encode": 11, "keys": 100, "softmax": 20, "values": 80, "results": 7, "write": 9},
            "work_of_layers": {"q": 90},
        },
        "layers": {"q": {"luts": 1200.4, "dsps": 16.0, "bram36": 3.0}},
    }
}


def test_rows_are_the_processes_in_their_order() -> None:
    table = block_steps(ENTRY)
    assert table["process"].tolist() == ["input", "q", "attend"]
    assert table["done_cycle"].tolist() == [70, 170, 400]


def test_layers_and_attention_work_and_only_layers_have_sites_of_their_own() -> None:
    table = block_steps(ENTRY)
    assert table["work_cycles"].tolist() == [None, 90, 200]  # attention over its positions: 100 + 20 + 80
    assert table["luts"].tolist() == [None, 1200, None]
    assert table["dsps"].tolist() == [None, 16, None]


def test_the_entry_stays_as_it_is() -> None:
    block_steps(ENTRY)
    assert ENTRY["estimate"]["cycles"]["work_of_layers"] == {"q": 90}
