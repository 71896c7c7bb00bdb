"""What Vitis HLS asks of C++ (AMD UG1399), as far as the text of the headers and of a kernel shows it.

No Vitis was run on them: these are rules of its documents, kept by construction.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hls.ap_types import INCLUDE
from hls.render import TEMPLATES

HEADERS = sorted((INCLUDE / "codesign").glob("*.h"))
SYNTHESISED = [path for path in HEADERS if path.name != "beat_file.h"]  # which testbenches alone include
KERNELS = [TEMPLATES / "kernel.cpp", TEMPLATES / "block_kernel.cpp"]
_FUNCTION = re.compile(r"\n(?P<head>[^\n;{}#/][^;{}#]*\)(?: const)?) \{\n(?P<next>[^\n]*)")


def named(path: Path) -> str:
    return path.name


def code(path: Path) -> str:
    """A source without comments."""
    return re.sub(r"//[^\n]*", "", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [*SYNTHESISED, *KERNELS], ids=named)
def test_nothing_of_an_operating_system_or_a_heap(path):
    """UG1399, "Unsupported C/C++ Constructs"."""
    text = code(path)
    found = re.findall(
        r"\b(?:new|delete|malloc|calloc|free|throw|try|catch|virtual|goto|printf|std::vector|std::string)\b", text
    )
    included = set(re.findall(r"#include <([^>]+)>", text))
    assert not found and included <= {"ap_int.h", "hls_stream.h", "cmath", "cstdint", "type_traits", "utility"}


@pytest.mark.parametrize("path", SYNTHESISED, ids=named)
def test_loops_of_dataflow_are_canonical(path):
    """UG1399, "Canonical Forms": from 0, below a bound, in steps of 1, the pragma first in the body."""
    for head in re.findall(r"for \(([^{]*)\) \{\s*#pragma HLS DATAFLOW", code(path)):
        assert re.fullmatch(r"int (\w+) = 0; \1 < [^;]+; \+\+\1", head), head


@pytest.mark.parametrize("path", SYNTHESISED, ids=named)
def test_a_struct_with_a_pointer_goes_to_inlined_functions_alone(path):
    """A function of its own that takes one is refused ("pointer to pointer is not supported")."""
    text = code(path)
    takers = [
        match
        for match in _FUNCTION.finditer(text)
        if re.search(r"\b(?:IMAGE|image_view<\w+>)\b[^,]*\bimage\b", match["head"])
    ]
    assert all(match["next"] == "#pragma HLS INLINE" for match in takers), [match["head"] for match in takers]
    members = re.findall(r"\n +(?:const )?[\w:]+\* ?\w+;", text)
    assert members == []  # image_view's is of a template: whatever an image is


def test_images_are_read_by_inlined_functions():
    """What the test before this one finds, by name: it is not empty."""
    found = set()
    for path in SYNTHESISED:
        for match in _FUNCTION.finditer(code(path)):
            if "const IMAGE& image" in match["head"]:
                found.add(re.search(r"(\w+)\(", match["head"])[1])
    assert found >= {"read_bits", "read_rows", "read_field", "read_entry", "read_part", "read_factor", "read_outliers"}


@pytest.mark.parametrize("path", SYNTHESISED, ids=named)
def test_powers_of_two_are_constants(path):
    """``power_of_two`` is a loop: hardware, unless a constant is asked for."""
    calls = [line for line in code(path).splitlines() if "power_of_two(" in line]
    statements = re.findall(r"[^;{}]*power_of_two\([^;{}]*", code(path))
    assert len(statements) <= len(calls) + 1 and all("constexpr" in statement for statement in statements)


@pytest.mark.parametrize("path", SYNTHESISED, ids=named)
def test_factors_of_partitions_are_names(path):
    """Values of pragmas are numbers, constants or members of types: no templates of variables, no sums."""
    for value in re.findall(r"#pragma HLS \w+[^\n]*?\b(?:factor|depth|II|distance) = ([^\n]*)", path.read_text()):
        assert re.match(r"[\w:]+(?: (?:dim|true|false)\b|$)", value), value
