"""``native_integers`` beside the integers of Vitis' open ``ap_int.h``: every operation, for integers of many widths.

``integer_operations.h`` prints a digest of 300 results for each operation of two types. Needs ``ap_int.h`` (extra
``hls``) and g++.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hls.ap_types import INCLUDE, CompileError, compile_program
from tests.hls.pair_sweep import HERE, NATIVE

PROGRAM = '#include "integer_operations.h"\nint main(int count, char**) {{\nif (!count) return 1;\n{body}\n}}\n'
OPERATIONS = 18
TYPES = {
    "narrow": [("uint<1>", "int<5>"), ("int<8>", "uint<8>"), ("int<12>", "int<24>"), ("uint<32>", "int<40>")],
    "a word": [("int<63>", "uint<64>"), ("int<64>", "int<65>"), ("uint<66>", "int<9>"), ("int<31>", "uint<32>")],
    "four words": [
        ("uint<129>", "int<129>"),
        ("uint<152>", "int<131>"),
        ("int<200>", "uint<64>"),
        ("uint<256>", "int<256>"),
    ],
    "two words": [
        ("uint<78>", "int<81>"),
        ("uint<100>", "uint<77>"),
        ("int<127>", "uint<11>"),
        ("uint<128>", "int<128>"),
        ("int<96>", "int<3>"),
    ],
}


def program(folder: Path, body: str, *, native: bool) -> Path:
    """Compiles statements of a ``main``."""
    path = folder / ("native" if native else "open")
    source = path.with_suffix(".cpp")
    source.write_text(PROGRAM.format(body=body))
    compile_program([source], path, flags=("-O0",), includes=(*((NATIVE,) if native else ()), HERE, INCLUDE))
    return path


def lines(path: Path) -> list[str]:
    return subprocess.run([str(path)], capture_output=True, check=True, text=True).stdout.splitlines()


def test_operations_give_what_the_open_headers_give(needs_compiler: None, tmp_path: Path) -> None:
    body = 'operations<ap_uint<78>, ap_int<40>>("78 and 40 bits,");'
    native, expected = (lines(program(tmp_path, body, native=native)) for native in (True, False))
    assert native == expected and len(set(expected)) == OPERATIONS


@pytest.mark.slow
@pytest.mark.parametrize("which", TYPES)
def test_every_operation_gives_what_the_open_headers_give(needs_compiler: None, tmp_path: Path, which: str) -> None:
    body = "\n".join(f'both<ap_{a}, ap_{b}>("{a} and {b}");' for a, b in TYPES[which])
    native, expected = (lines(program(tmp_path, body, native=native)) for native in (True, False))
    assert native == expected
    assert len(expected) == len(TYPES[which]) * (1 + 2 * OPERATIONS)


ALONE = """
if (count == 1) { ap_int<8> a = -1; ap_uint<40> b = 1; return a < b; }
if (count == 2) { ap_uint<64> a = 5; return (a >> 62 + count) == 0; }
ap_uint<256> a = -1; ap_uint<256> b = a * a - 2; return b.to_int() + 1;  // (2**256 - 1)**2 = 1 mod 2**256
"""


def test_what_open_headers_have_no_one_rule_for_ends_the_program(needs_compiler: None, tmp_path: Path) -> None:
    path = program(tmp_path, ALONE, native=True)
    said = {"a negative number compared with an unsigned one": [], "a shift to the right by the whole width": ["1"]}
    for message, arguments in said.items():
        done = subprocess.run([str(path), *arguments], capture_output=True, text=True)
        expected = f"{message} must not be met: the open ap_int.h has no one rule for it\n"
        assert (done.returncode != 0, done.stderr) == (True, expected)
    assert subprocess.run([str(path), "1", "2"]).returncode == 0  # results beyond 256 bits, narrowed again


def test_numbers_beyond_256_bits_do_not_compile(needs_compiler: None, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="upper bits are not kept"):
        program(tmp_path, "ap_uint<256> a = 1; return a * a == 1;", native=True)
