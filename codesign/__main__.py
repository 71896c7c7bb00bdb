"""``codesign`` and ``python -m codesign``: the command line; an interrupt while it loads ends without a traceback."""

from __future__ import annotations

import sys

_EXIT_INTERRUPTED = 130  # codesign.messages, which is not loaded yet


def main() -> None:
    """Load the command line and run it."""
    try:
        from codesign import cli
    except KeyboardInterrupt:
        sys.exit(_EXIT_INTERRUPTED)
    cli.main()


if __name__ == "__main__":
    main()
