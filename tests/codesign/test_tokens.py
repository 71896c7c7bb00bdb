"""Tokens and windows of a text are exact; the first token is the tokenizer's, its configuration's or the user's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from codesign.models import resolve_model
from codesign.text import Text
from codesign.tokens import bos_token_id, first_token, tokenize, windows

pytest.importorskip("transformers", reason="needs the extra codesign[models]")
FABLE = Text("fable", "A fox saw some grapes. They hung high.\n\nSour, said the fox." * 20, "written here", "CC0")


@pytest.mark.parametrize("limit", [None, 1, 100, 10**6])
def test_tokens_are_the_first_of_the_whole_text(tiny_gqa_dir: Path, limit: int | None) -> None:
    tokenizer = resolve_model(tiny_gqa_dir).tokenizer()
    expected = tokenizer(FABLE.string, add_special_tokens=False)["input_ids"][:limit]
    for _ in range(2):  # the second time from the cache
        ids = tokenize(FABLE, tokenizer, limit)
        assert ids.dtype == torch.int64 and ids.tolist() == expected


def test_cached_tokens_belong_to_their_tokenizer(tiny_gqa_dir: Path) -> None:
    first = resolve_model(tiny_gqa_dir).tokenizer()
    other = resolve_model(tiny_gqa_dir).tokenizer()
    other.add_tokens([" grapes"])
    assert not torch.equal(tokenize(FABLE, first), tokenize(FABLE, other))


def test_limit_must_be_positive(tiny_gqa_dir: Path) -> None:
    with pytest.raises(ValueError, match="limit must be at least 1 token, not 0"):
        tokenize(FABLE, resolve_model(tiny_gqa_dir).tokenizer(), 0)


@pytest.mark.parametrize(("tokens", "count"), [(8, 1), (15, 1), (16, 2)])
def test_windows_do_not_overlap(tokens: int, count: int) -> None:
    cut = windows(torch.arange(tokens), 8)
    assert cut.shape == (count, 8)
    assert cut.flatten().tolist() == list(range(count * 8))


def test_windows_with_a_first_token() -> None:
    assert windows(torch.arange(7), 4, bos_token_id=99).tolist() == [[99, 0, 1, 2], [99, 3, 4, 5]]


def test_first_token_is_the_tokenizer_s_own_habit(tiny_gqa_dir: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = resolve_model(tiny_gqa_dir).tokenizer()
    assert bos_token_id(tokenizer) is None
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    assert bos_token_id(tokenizer) is None
    number = tokenizer.convert_tokens_to_ids("<s>")
    template = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", number)])
    tokenizer.backend_tokenizer.post_processor = template
    assert bos_token_id(tokenizer) == number


class Tokenizer:
    """A tokenizer that puts 7 before every text or does not, whatever its configuration says."""

    def __init__(self, says: bool | None, does: bool, bos_token_id: int | None = 7) -> None:
        self.init_kwargs = {} if says is None else {"add_bos_token": says}
        self.bos_token_id = bos_token_id
        self._does = does

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [7, 1] if self._does and add_special_tokens else [1]}


@pytest.mark.parametrize(
    ("says", "does", "first"),
    [
        (True, True, 7),
        (True, False, 7),
        (False, True, None),
        (False, False, None),
        (None, True, 7),
        (None, False, None),
    ],
)
def test_first_token_by_configuration_then_by_habit_and_the_user_over_both(
    says: bool | None, does: bool, first: int | None
) -> None:
    tokenizer = Tokenizer(says, does)
    assert first_token(tokenizer) == first
    assert first_token(tokenizer, True) == 7
    assert first_token(tokenizer, False) is None


def test_first_token_of_a_tokenizer_without_one() -> None:
    assert first_token(Tokenizer(True, False, bos_token_id=None)) is None
    with pytest.raises(ValueError, match=r"tokenizer must have a first token \(bos_token\) to put before windows"):
        first_token(Tokenizer(None, False, bos_token_id=None), True)


def test_text_shorter_than_a_window() -> None:
    with pytest.raises(ValueError, match="text must be at least one window of 8 tokens long, not 7"):
        windows(torch.arange(7), 8)
    with pytest.raises(ValueError, match="context must be at least 2 tokens, not 1"):
        windows(torch.arange(7), 1)
