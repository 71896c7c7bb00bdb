"""Names that resemble one that is not known, for messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """The end of a message that names what resembles ``name``; empty where nothing does.

    Args:
        name: not known.
        known: the names there are.
        most: how many to name.

    >>> nearest("bitmood", ("bitmod", "ant")), nearest("x", ("bitmod", "ant"))
    ('; nearest: bitmod', '')
    """
    near = difflib.get_close_matches(name, list(known), n=most)
    return f"; nearest: {', '.join(near)}" if near else ""
