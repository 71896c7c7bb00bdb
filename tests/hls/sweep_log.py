"""A file of what a long sweep has compared already, so that it goes on where it was stopped.

One JSON object a line: the digest of all that the comparison was made of, and what it found. A part whose headers,
values, compiler flags or pairs have changed has another digest, and is compared again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from datatypes.format import Format
from hls.ap_types import INCLUDE
from hls.c_arithmetics import Pair, arithmetic_of
from tests.hls.pair_sweep import HERE, NATIVE, codes_of


def digest(pairs: Sequence[tuple[Format, Format]], *, most: int, flags: Sequence[str], native: bool) -> str:
    """Of a sweep: its arithmetics, the headers they come from, the values of all codes, and how it is compiled."""
    made = hashlib.sha256(repr((most, tuple(flags), native)).encode())
    headers = included(HERE / "pair_sweep.h") + ([NATIVE / "etc" / "ap_private.h"] if native else [])
    for header in headers:
        made.update(header.read_bytes())
    for weight, activation in pairs:
        made.update(arithmetic_of(Pair(weight, activation, weight.dim, weight.dim)).type.encode())
    sides = {
        (fmt.name, as_activation): fmt for pair in pairs for fmt, as_activation in zip(pair, (False, True), strict=True)
    }
    for (_, as_activation), fmt in sorted(sides.items()):
        made.update(codes_of(fmt, as_activation=as_activation, most=most).tobytes())
    return made.hexdigest()


def included(header: Path) -> list[Path]:
    """A header and all of this project's that it includes, each once, in the order of their names."""
    met, waiting = set(), [header]
    while waiting:
        one = waiting.pop()
        met.add(one)
        named = re.findall(r'^#include "(.+)"$', one.read_text(), re.MULTILINE)
        waiting += [path for path in (INCLUDE / name for name in named) if path not in met]
    return sorted(met, key=lambda path: path.name)


def found_in(log: Path, key: str) -> str | None:
    """What ``record`` wrote under a digest; ``None`` where there is no such line."""
    lines = log.read_text().splitlines() if log.exists() else []
    return next((line["found"] for line in map(json.loads, lines) if line["key"] == key), None)


def record(log: Path, key: str, found: str) -> None:
    """Adds a line."""
    with log.open("a") as file:
        file.write(json.dumps({"key": key, "found": found}) + "\n")
