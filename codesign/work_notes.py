"""What a recipe in work has come to so far, on disk: seconds spent, finished numbers, errors of finished layers.

A run that was killed finds them again, so that a column of seconds is the sum over all runs of what was not lost, and
nothing finished is measured twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from codesign.cache import whole_file
from codesign.steps import NO_STEPS, Steps

NOTED_EVERY_S = 0.1  # at most this much time, and that of the step in flight, is lost by a kill


class WorkNotes:
    """Notes in one JSON file.

    Args:
        path: of the file; one that cannot be read counts as empty.

    Attributes:
        numbers: finished columns of a trial.
        seconds: spent so far, by column.
        layer_sqnr_db: output SQNR of each finished layer, decibels; infinity is kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            kept = {}
        self.numbers: dict[str, float] = dict(kept.get("numbers", {}))
        self.seconds: dict[str, float] = dict(kept.get("seconds", {}))
        self.layer_sqnr_db: dict[str, float] = dict(kept.get("layer_sqnr_db", {}))

    def write(self) -> None:
        """Put the notes on disk.

        Raises:
            OSError: the disk refuses the file.
        """
        kept: Mapping[str, Mapping[str, float]] = {
            "numbers": self.numbers,
            "seconds": self.seconds,
            "layer_sqnr_db": self.layer_sqnr_db,
        }
        with whole_file(self.path) as temporary:
            temporary.write_text(json.dumps(kept), encoding="utf-8")  # numbers come back to the last bit

    @contextmanager
    def timing(self, column: str, steps: Steps = NO_STEPS) -> Iterator[Steps]:
        """Add the time inside the context to ``seconds[column]``.

        Gives a ``Steps`` that passes on to ``steps`` and notes the time whenever it is called.
        """
        before, started = self.seconds.get(column, 0.0), time.monotonic()
        noted = started

        def note(what: str, done: int, total: int) -> None:
            nonlocal noted
            now = time.monotonic()
            self.seconds[column] = before + now - started
            if now - noted >= NOTED_EVERY_S:
                noted = now
                self.write()
            steps(what, done, total)

        yield note
        self.seconds[column] = before + time.monotonic() - started
        self.write()
