"""Requests become questions; the packaged tasks have the sizes that their authors published."""

from __future__ import annotations

from typing import Any

import pytest

from codesign.tasks import Question, TaskKind, group_questions, load_task


def request_row(document: int, index: int, label: object, continuation: str) -> dict[str, Any]:
    return {
        "doc_id": document,
        "idx": index,
        "label": label,
        "doc": {"query": f"Q{document}"},
        "request": {"context": f"Example. Q{document}", "continuation": continuation},
    }


ROWS = [
    request_row(4, 1, 1, " b"),
    request_row(4, 0, 1, " a"),
    request_row(2, 0, ["word"], " word"),
]


def test_continuations_are_put_in_order_of_their_index() -> None:
    first, second = group_questions(ROWS)
    assert first == Question(("Example. Q4",) * 2, (" a", " b"), 1)
    assert second == Question(("Example. Q2",), (" word",), 0)


def test_worked_examples_can_be_left_out() -> None:
    assert group_questions(ROWS, query_only=True)[0].contexts == ("Q4", "Q4")


def test_question_must_be_consistent() -> None:
    with pytest.raises(ValueError, match="contexts must be 2, one a continuation, not 1"):
        Question(("a",), ("b", "c"), 0)
    with pytest.raises(ValueError, match="label must be an index into 2 continuations, not 2"):
        Question(("a", "a"), ("b", "c"), 2)


def test_unknown_task_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match="not 'arc-easy'; the nearest names are arc_easy"):
        load_task("arc-easy")
    with pytest.raises(ValueError, match="limit must be at least 1 question, not 0"):
        load_task("piqa", 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "questions", "answers"),
    [
        ("lambada", 5153, 1),  # Paperno et al. 2016, table 1: test
        ("piqa", 1838, 2),  # Bisk et al. 2020: validation
        ("hellaswag", 10042, 4),  # Zellers et al. 2019: validation
        ("winogrande", 1267, 2),  # Sakaguchi et al. 2020, table 2: development
        ("boolq", 3270, 2),  # Clark et al. 2019: development
        ("sciq", 1000, 4),  # Welbl et al. 2017: validation
        ("openbookqa", 500, 4),  # Mihaylov et al. 2018: test
        ("csqa", 1221, 5),  # Talmor et al. 2019, random split: development
    ],
)
def test_packaged_task_has_the_published_size(name: str, questions: int, answers: int) -> None:
    task = load_task(name)
    assert len(task.questions) == questions
    assert {len(question.continuations) for question in task.questions} == {answers}
    assert (task.kind is TaskKind.GREEDY) == (name == "lambada")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "questions"), [("arc_easy", 2376), ("arc_challenge", 1172)])
def test_arc_test_split_without_worked_examples(name: str, questions: int) -> None:
    task = load_task(name)  # sizes: Clark et al. 2018, table 1
    assert len(task.questions) == questions
    assert all(context.count("Question:") == 1 for q in task.questions for context in q.contexts)


@pytest.mark.slow
def test_winogrande_differs_in_context_alone() -> None:
    for question in load_task("winogrande", 20).questions:
        assert len(set(question.contexts)) == 2 and len(set(question.continuations)) == 1
