"""``codesign simulate``: the closed form beside the simulation, for a model of which only the shapes are there."""

import json

import pytest

CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 128, "intermediate_size": 256,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 320,
}  # fmt: skip


@pytest.fixture
def shapes(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_layers_of_both_phases_with_their_times(run, shapes):
    status, out, _ = run("simulate", shapes, "--prompt", 16, "--generate", 4, "--json")
    made = json.loads(out)
    assert status == 0
    assert [total["phase"] for total in made["totals"]] == ["prefill", "decode"]
    for total in made["totals"]:
        rows = [row for row in made["layers"] if row["phase"] == total["phase"]]
        assert sum(row["closed_cycles"] for row in rows) == total["closed_cycles"]
        assert sum(row["cycles"] for row in rows) == pytest.approx(total["simulated_cycles"])
    status, estimated, _ = run("estimate", shapes, "--prompt", 16, "--generate", 4, "--json")
    prefill = sum(row["cycles"] for row in json.loads(estimated)["layers"] if row["phase"] == "prefill")
    assert prefill == made["totals"][0]["closed_cycles"]


def test_table_and_switches(run, shapes):
    status, out, _ = run(
        "simulate", shapes, "--prompt", 16, "--generate", 2, "--dram-timing", "--prefetch", "--systolic"
    )
    assert status == 0
    assert "Totals" in out


def test_buffers_and_channels_are_switches(run, shapes):
    def cycles(*options):
        made = json.loads(run("simulate", shapes, "--prompt", 64, "--generate", 2, *options, "--json")[1])
        return made["totals"][0]["simulated_cycles"]

    plain = cycles()
    assert cycles("--refill", "single") > plain < cycles("--bank-conflicts", 1)
    assert cycles("--refill", "halves") >= plain != cycles("--arbiter", "priority")
    status, _, err = run("simulate", shapes, "--arbiter", "chance")
    assert status == 2 and "chance" in err


def test_a_mistake_is_one_sentence(run, shapes):
    status, _, err = run("simulate", shapes, "--accelerator", "bitmood")
    assert status == 2
    assert "bitmood" in err


def test_an_encoder_decoder_simulates_as_it_is_priced(run, tmp_path):
    # its decode step has not the layers of its encoder, nor the projections of what it attends to there
    config = {
        "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_model": 64, "d_kv": 32, "d_ff": 128,
        "num_layers": 2, "num_heads": 2, "vocab_size": 320,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    few = ("--prompt", 16, "--generate", 4, "--json")
    status, out, err = run("simulate", tmp_path, *few)
    assert (status, err) == (0, "")
    closed = [total["closed_cycles"] for total in json.loads(out)["totals"]]
    _, estimated, _ = run("estimate", tmp_path, *few)
    rows = json.loads(estimated)["layers"]
    assert closed == [sum(row["cycles"] for row in rows if row["phase"] == phase) for phase in ("prefill", "decode")]


def test_a_tile_schedule_is_priced_alike_by_every_command(run, shapes):
    switches = ("--whole-tiles", "--fill-and-drain")
    sizes = (shapes, "--prompt", 16, "--generate", 4, "--json")
    made, estimated, plain = (
        json.loads(run(*words)[1])
        for words in (("simulate", *sizes, *switches), ("estimate", *sizes, *switches), ("estimate", *sizes))
    )
    for total in made["totals"]:
        priced = sum(row["cycles"] for row in estimated["layers"] if row["phase"] == total["phase"])
        assert priced == total["closed_cycles"] == total["filled_cycles"]
    assert estimated["totals"]["total_cycles"] > plain["totals"]["total_cycles"]
    explore = ("explore", shapes, "--prompts", 16, "--generate", 4, "--json", *switches)
    (design,) = json.loads(run(*explore)[1])["front"]
    assert design["total_s"] == pytest.approx(estimated["totals"]["total_s"], rel=1e-12)
