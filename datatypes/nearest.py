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
    >>> nearest("INT4", ("int8", "int4", "Llama"), most=1), nearest("llama", ("int4", "Llama"))  # case is no difference
    ('; nearest: int4', '; nearest: Llama')
    """
    folded: dict[str, list[str]] = {}
    for one in known:
        folded.setdefault(one.casefold(), []).append(one)
    close = difflib.get_close_matches(name.casefold(), folded, n=most)
    near = [one for key in close for one in folded[key]][:most]
    return f"; nearest: {', '.join(near)}" if near else ""
