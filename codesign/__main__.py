"""``codesign`` and ``python -m codesign``: the command line; an interrupt ends it with status 130, without a traceback.

It does so while the command line loads, and while Python shuts down, too: once ``main`` has a status, an interrupt
changes it no more. Python by itself would end the process by the signal then, and ``python -m`` also after an interrupt
that struck inside code which a package had made as text, though it was dealt with (CPython's ``_PySignal_Fini``,
``run_eval_code_obj`` and ``Py_RunMain``, Python 3.11).
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress

EXIT_INTERRUPTED = 130  # codesign.messages, which is not loaded yet
_ended: list[int] = []  # the status, once there is one


def _keep_status() -> None:
    """Keep the status as it is: the first function that ``atexit`` is given is the last that it calls."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _ended == [EXIT_INTERRUPTED]:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # closed, or none
                stream.flush()
        os._exit(EXIT_INTERRUPTED)


atexit.register(_keep_status)
signal.signal(signal.SIGINT, lambda *_: os._exit(EXIT_INTERRUPTED))  # until ``main`` has something to say

from codesign import cli  # noqa: E402


def main() -> None:
    """Run the command line."""
    status = EXIT_INTERRUPTED
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        cli.main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:  # one more, while the first is answered
        pass
    signal.signal(signal.SIGINT, lambda *_: os._exit(status))  # while threads end, which may take a while
    _ended.append(status)
    sys.exit(status)


if __name__ == "__main__":
    main()
