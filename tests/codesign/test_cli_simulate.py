"""``codesign simulate``: the closed form beside the simulation, for a model of which only the shapes are there."""

import json

import pytest

from codesign.cli import main

CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 128, "intermediate_size": 256,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 320,
}  # fmt: skip


def _run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
    made = capsys.readouterr()
    return stopped.value.code or 0, made.out, made.err


@pytest.fixture
def shapes(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_layers_of_both_phases_with_their_times(capsys, shapes):
    status, out, _ = _run(capsys, "simulate", shapes, "--prompt", 16, "--generate", 4, "--json")
    made = json.loads(out)
    assert status == 0
    assert [total["phase"] for total in made["totals"]] == ["prefill", "decode"]
    for total in made["totals"]:
        rows = [row for row in made["layers"] if row["phase"] == total["phase"]]
        assert sum(row["closed_cycles"] for row in rows) == total["closed_cycles"]
        assert sum(row["cycles"] for row in rows) == pytest.approx(total["simulated_cycles"])
    status, estimated, _ = _run(capsys, "estimate", shapes, "--prompt", 16, "--generate", 4, "--json")
    prefill = sum(row["cycles"] for row in json.loads(estimated)["layers"] if row["phase"] == "prefill")
    assert prefill == made["totals"][0]["closed_cycles"]


def test_table_and_switches(capsys, shapes):
    status, out, _ = _run(
        capsys, "simulate", shapes, "--prompt", 16, "--generate", 2, "--dram-timing", "--prefetch", "--systolic"
    )
    assert status == 0
    assert "Totals" in out


def test_a_mistake_is_one_sentence(capsys, shapes):
    status, _, err = _run(capsys, "simulate", shapes, "--accelerator", "bitmood")
    assert status == 2
    assert "bitmood" in err
