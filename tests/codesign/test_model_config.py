"""config.json as a transformers config: nothing that fixes a shape may be left to a default."""

import json

import pytest

from codesign.model_config import SIZE_KEYS, first_line, read_config

pytest.importorskip("transformers", reason="needs the extra codesign[models]")
LLAMA = {
    "model_type": "llama", "vocab_size": 320, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
    "num_attention_heads": 4,
}  # fmt: skip


def folder_of(tmp_path, content):
    (tmp_path / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return tmp_path


def test_sizes_are_those_of_the_file(tmp_path):
    config = read_config(folder_of(tmp_path, LLAMA))
    assert [getattr(config, key) for key in SIZE_KEYS] == [320, 64, 160, 2, 4]


@pytest.mark.parametrize("key", SIZE_KEYS)
def test_a_size_that_is_left_out_is_named(tmp_path, key):
    with pytest.raises(ValueError, match=rf"config\.json must have the key '{key}'"):
        read_config(folder_of(tmp_path, {k: v for k, v in LLAMA.items() if k != key}))


def test_a_family_with_names_of_its_own_may_use_either(tmp_path):
    gpt2 = {"model_type": "gpt2", "vocab_size": 320, "n_embd": 64, "n_layer": 2, "num_attention_heads": 4}
    config = read_config(folder_of(tmp_path, gpt2))
    assert (config.n_embd, config.n_layer, config.n_head) == (64, 2, 4)
    with pytest.raises(ValueError, match="must have the key 'n_layer'"):
        read_config(folder_of(tmp_path, {k: v for k, v in gpt2.items() if k != "n_layer"}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"hidden_size": 64}, "config.json must have the key 'model_type'"),
        ({**LLAMA, "model_type": "lama"}, r"must be one that transformers knows, not 'lama' \(nearest: llama"),
        ({**LLAMA, "model_type": "qqqqqqqq"}, "must be one that transformers knows, not 'qqqqqqqq'$"),
        ({**LLAMA, "hidden_size": "wide"}, "must be a valid llama config"),
        ("{", "must be valid JSON"),
    ],
    ids=["no type", "near type", "far type", "wrong kind", "no JSON"],
)
def test_a_wrong_config_is_one_sentence(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_config(folder_of(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_the_first_line_that_says_something():
    assert first_line(ValueError("\n  \n  said here \n and there")) == "said here"
    assert first_line(KeyError()) == "KeyError"


def test_a_line_that_ends_in_a_colon_takes_the_next_with_it():
    assert first_line(ValueError("field 'hidden_size':\n    must be an integer\nand more")) == (
        "field 'hidden_size': must be an integer"
    )
    assert first_line(ValueError("nothing follows:")) == "nothing follows:"
