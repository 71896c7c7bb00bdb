"""How long-running functions say how far they are: a callback ``(what, done, total)``, and one that draws a bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from codesign.cache import progress

Steps = Callable[[str, int, int], None]


def NO_STEPS(what: str, done: int, total: int) -> None:
    """Says nothing."""


@contextmanager
def bar_steps(title: str) -> Iterator[Steps]:
    """A ``Steps`` that draws a progress bar on the error stream while the context lasts."""
    with progress(title) as bar:
        task = bar.task_ids[0]

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=f"{title}: {what}" if what else title, completed=done, total=total)

        yield show
