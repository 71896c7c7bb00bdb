"""``codesign serving``: memory, requests, chips and drafts of a model of which only the shapes are there."""

import json

import pytest

CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 256, "intermediate_size": 512,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320,
}  # fmt: skip
BLOCK = 2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512
WEIGHTS = 4 * BLOCK + 2 * 320 * 256
FEW = ("--requests", 40, "--prompt", 32, "--generate", 8, "--token-budget", 64, "--max-sequences", 16)


@pytest.fixture
def shapes(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def test_memory_and_requests(run, shapes):
    status, out, _ = run("serving", shapes, "--rate", 50, *FEW, "--json")
    made = json.loads(out)
    assert status == 0
    (memory,) = made["capacity"]
    assert memory["weights_gb"] == pytest.approx(WEIGHTS * 2 / 1e9)
    assert memory["cache_bytes_per_token"] == 2 * 2 * 64 * 2 * 4  # keys and values of two heads, FP16, four layers
    requests = made["requests"]
    assert requests["requests"] == 40
    assert requests["tokens_per_s"] == pytest.approx(50 * 8, rel=0.5)
    assert requests["first_token_p50_s"] <= requests["first_token_p99_s"] < requests["latency_p99_s"]
    assert json.loads(run("serving", shapes, "--rate", 50, *FEW, "--json")[1]) == made


def test_two_chips_hold_half_each(run, shapes):
    made = json.loads(run("serving", shapes, *FEW, "--tensor-parallel", 2, "--json")[1])
    assert made["capacity"][0]["weights_gb"] == pytest.approx(WEIGHTS / 1e9)
    assert made["capacity"][0]["cache_bytes_per_token"] == 2 * 64 * 2 * 4
    assert made["chips"] == 2


def test_stages_of_a_pipeline(run, shapes):
    made = json.loads(run("serving", shapes, *FEW, "--pipeline-parallel", 2, "--json")[1])
    assert sum(stage["weights_gb"] for stage in made["capacity"]) == pytest.approx(WEIGHTS * 2 / 1e9)
    for phase in ("prefill", "decode"):
        idle = [row["idle_percent"] for row in made["pipeline"] if row["phase"] == phase]
        assert idle == sorted(idle, reverse=True)
    assert "requests" not in made


@pytest.fixture
def experts(tmp_path):
    folder = tmp_path / "experts"
    folder.mkdir()
    routed = {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"]}
    sizes = {"num_local_experts": 8, "num_experts_per_tok": 2}
    (folder / "config.json").write_text(json.dumps({**CONFIG, **routed, **sizes}))
    return folder


def test_experts_over_chips(run, experts):
    """Each of four chips holds two of the eight experts, all of the rest, and a quarter of the users."""
    one = json.loads(run("serving", experts, *FEW, "--rate", 25, "--json")[1])
    made = json.loads(run("serving", experts, *FEW, "--rate", 100, "--expert-parallel", 4, "--json")[1])
    each = 4 * 3 * 256 * 512 * 2 / 1e9
    (alone,), (share,) = one["capacity"], made["capacity"]
    assert alone["weights_gb"] - share["weights_gb"] == pytest.approx(6 * each)
    assert alone["cache_bytes_per_token"] == share["cache_bytes_per_token"]
    assert made["chips"] == 4 and "one of 4 chips" in made["notes"][0]
    assert made["requests"]["offered_per_s"] == one["requests"]["offered_per_s"]
    narrow = [*FEW, "--rate", 100, "--expert-parallel", 4, "--dispatch-bits", 8, "--json"]
    token_s = [json.loads(run("serving", experts, *narrow)[1])["requests"]["token_p50_s"]]
    assert token_s[0] < made["requests"]["token_p50_s"]


def test_experts_over_chips_in_a_pipeline(run, experts):
    options = (*FEW, "--pipeline-parallel", 2, "--expert-parallel", 4, "--json")
    made = json.loads(run("serving", experts, *options)[1])
    assert made["chips"] == 8 and len(made["capacity"]) == 2
    alone = json.loads(run("serving", experts, *FEW, "--pipeline-parallel", 2, "--json")[1])
    for ours, theirs in zip(made["capacity"], alone["capacity"], strict=True):
        assert ours["weights_gb"] < theirs["weights_gb"]


def test_drafts(run, shapes):
    made = json.loads(run("serving", shapes, *FEW, "--draft", shapes, "--acceptance", 0.5, "--json")[1])
    first = made["speculation"][0]
    assert first["tokens_per_verification"] == 1.5
    assert first["draft_s"] == first["step_s"]
    assert first["speedup"] == pytest.approx(1.5 * first["step_s"] / (first["draft_s"] + first["verify_s"]))
    assert not any(row["best"] for row in made["speculation"]), "a draft as large as the model does not pay"


def test_a_trace_of_requests(run, shapes, tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,prompt,generate\n" + "".join(f"{i},{10 + i},5\n" for i in range(10)))
    made = json.loads(run("serving", shapes, "--trace", trace, "--json")[1])
    assert made["requests"]["requests"] == 10
    assert made["capacity"][0]["context"] == 19 + 5


def test_an_overload_is_said(run, shapes):
    status, _, err = run("serving", shapes, *FEW, "--rate", 1e6, "--requests", 400)
    assert status == 0
    assert "the engine does not keep up" in " ".join(err.split())


def test_what_does_not_fit_is_said(run, shapes):
    status, out, err = run("serving", shapes, *FEW, "--memory-gb", 0.001)
    assert status == 0
    assert "no" in out
    assert "one sequence of 40 tokens must fit into 1 x h100" in " ".join(err.split())
    made = json.loads(run("serving", shapes, *FEW, "--memory-gb", 0.001, "--json")[1])
    assert made["fits"] is False


def test_an_array_of_pes(run, shapes):
    status, out, _ = run("serving", shapes, *FEW, "-a", "bitmod", "-r", "bitmod4_g128_kv8", "--memory-gb", 1)
    assert status == 0
    assert "first_token_p99_s" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tensor-parallel", 3), "tensor_parallel must divide the 4 heads of model.layers.0.self_attn.qk"),
        (("--rate", 0), "rate_per_s must be above 0"),
        (("--link", "string"), "link must be one of nvlink3"),
        (("-a", "bitmod"), "memory of bitmod must be given with --memory-gb"),
        (("-a", "bitmod", "--memory-gb", 1, "--tensor-parallel", 2), "link between several bitmod must be given"),
        (("--pipeline-parallel", 99), "pipeline_parallel must be 1 to the"),
        (("--expert-parallel", 2), "must have routed experts to spread over chips, not none"),
        (("--expert-parallel", 2, "--tensor-parallel", 2), "expert_parallel must be 1 where tensor_parallel cuts"),
        (("--draft", "nothing"), "model must be a folder"),
        (("--acceptance", 2, "--draft", "same"), "acceptance must be a probability from 0 to 1, not 2"),
        (("--acceptance", "nan"), "acceptance must be a probability from 0 to 1, not nan"),
        (("--acceptance", -1), "acceptance must be a probability from 0 to 1, not -1"),
        (("--trace", "absent.csv"), "absent.csv could not be used"),
    ],
)
def test_a_mistake_is_one_sentence(run, shapes, arguments, message):
    arguments = [shapes if a == "same" else a for a in arguments]
    status, out, err = run("serving", shapes, *FEW, *arguments)
    assert status == 2
    assert message in " ".join(err.split())
    assert not out
