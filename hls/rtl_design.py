"""A ``Design``: one SystemVerilog module of ``hls/rtl`` with its parameters, and the source files that it needs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

RTL = Path(__file__).parent / "rtl"


@dataclass(frozen=True)
class Design:
    """One synthesised PE.

    Args:
        module: name in ``hls/rtl``; the family of the recorded row.
        parameters: overrides, as Verilog constants.
        label: tells it from others of the module.
        weight_format, activation_format: catalogue names.
        accumulator_kind: as in ``hwmodel.synthesis_table``.
        accumulator_bits: 0 if combinational.
        lanes: weights taken at once.
        serial: whether weights arrive by bits or terms.
        cycles: for ``lanes`` products.
        pipeline_stages: clock edges from operands to the accumulator; 0 if combinational.
        registered_inputs: whether operands are registered.
    """

    module: str
    parameters: tuple[tuple[str, int | str], ...]
    label: str
    weight_format: str
    activation_format: str
    accumulator_kind: str = "none"
    accumulator_bits: int = 0
    lanes: int = 1
    serial: bool = False
    cycles: int = 1
    pipeline_stages: int = 0
    registered_inputs: bool = False

    @property
    def name(self) -> str:
        """Unique name."""
        return f"{self.module}.{self.label}"

    @property
    def parameter_text(self) -> str:
        """``NAME=value`` by spaces."""
        return " ".join(f"{key}={value}" for key, value in self.parameters)

    @property
    def instance(self) -> str:
        """``module #(.NAME(value), ...)``."""
        return f"{self.module} #({', '.join(f'.{key}({value})' for key, value in self.parameters)})"

    @property
    def rtl(self) -> str:
        """First 12 hex digits of the SHA-256 of the source files that the module needs."""
        return source_hash(self.module)


# --- sources ---------------------------------------------------------------------------------------------------------


@cache
def _texts() -> Mapping[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(RTL.glob("*.sv"))}


@cache
def _homes() -> Mapping[str, str]:
    return {name: file for file, text in _texts().items() for name in re.findall(r"^module (\w+)", text, re.MULTILINE)}


@cache
def source_files(module: str) -> tuple[str, ...]:
    """Files that ``module`` needs, its own included, by name."""
    needed, queue = set(), [_homes()[module]]
    while queue:
        file = queue.pop()
        if file not in needed:
            needed.add(file)
            words = set(re.findall(r"\w+", re.sub(r"//.*", "", _texts()[file])))
            queue.extend(home for name, home in _homes().items() if name in words)
    return tuple(sorted(needed))


@cache
def source_hash(module: str) -> str:
    """First 12 hex digits of the SHA-256 of those files."""
    digest = hashlib.sha256()
    for file in source_files(module):
        digest.update(_texts()[file].encode())
    return digest.hexdigest()[:12]
