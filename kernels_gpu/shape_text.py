"""Shapes of weights as a command line has them."""

from __future__ import annotations


def parse_shape(text: str) -> tuple[int, int]:
    """Outputs and inputs of ``NxK``.

    Raises:
        ValueError: not two numbers above zero.

    >>> parse_shape("11008x4096")
    (11008, 4096)
    """
    n, _, k = text.partition("x")
    if not (n.isdecimal() and k.isdecimal() and int(n) and int(k)):
        raise ValueError(f"shape must be NxK, as 4096x4096, not {text!r}")
    return int(n), int(k)
