"""``codesign`` and ``python -m codesign``: the command line; an interrupt while it loads ends without a traceback."""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends the process, until ``main`` has something to say

from codesign import cli  # noqa: E402


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
