"""How long-running functions say how far they are: a callback ``(what, done, total)``, and bars for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Steps = Callable[[str, int, int], None]

MESSAGES = Console(stderr=True, soft_wrap=True)  # where people read: standard output is for results


def NO_STEPS(what: str, done: int, total: int) -> None:
    """Says nothing."""


@contextmanager
def progress(title: str | None = None, total: int | None = None) -> Iterator[Progress]:
    """Progress bars on standard error for as long as the context lasts; silent where that is no terminal.

    Args:
        title: of one task, made at once: advance it with ``bars.advance(bars.task_ids[0])``. ``None`` for no task yet.
        total: its steps; ``None`` for a spinner.
    """
    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    if title is not None and total is None:
        columns.pop()  # nothing to count
    with Progress(
        *columns, TimeElapsedColumn(), console=MESSAGES, transient=True, disable=not MESSAGES.is_terminal
    ) as bars:
        if title is not None:
            bars.add_task(title, total=total)
        yield bars
