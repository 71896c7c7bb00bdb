"""What people read on standard error, so that results on standard output can be piped; a mistake is one sentence."""

from __future__ import annotations

import errno

from rich.markup import escape

from codesign.steps import MESSAGES

EXIT_BAD_INPUT = 2  # the shell's convention for wrong usage
EXIT_INTERRUPTED = 130  # 128 + SIGINT


def say(message: str) -> None:
    """A line for people, on standard error."""
    MESSAGES.print(escape(message))


def sentence(error: BaseException) -> str:
    """A mistake as one line."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f" while writing {error.filename}" if error.filename else ""
        return f"the disk must have room, but it is full{where}; what was finished is kept"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file'} could not be used: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__
