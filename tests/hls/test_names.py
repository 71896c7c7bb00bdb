"""Layer names as C++ identifiers: nothing lost, nothing let through."""

import itertools
import keyword
import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hls.names import MAX_LENGTH, identifier_of

WORDS = st.from_regex(r"[A-Za-z0-9]{1,5}([._][A-Za-z0-9]{1,5}){0,8}", fullmatch=True)


@given(WORDS)
def test_a_name_comes_back_and_is_an_identifier(name):
    made = identifier_of(name)
    assert _layer_of(made) == name
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", made) and "__" not in made
    assert made.startswith("layer_") and not keyword.iskeyword(made)  # no keyword of C++ or Verilog begins so


def _layer_of(identifier):
    """The name again: bit i from the right of the number at the end says whether joint i from the right is a dot."""
    body, _, digits = identifier.removeprefix("layer_").rpartition("_x")
    words, mask = body.split("_"), int(digits, 16)
    made = words[0]
    for place, word in enumerate(words[1:], start=2):
        made += ("." if mask >> (len(words) - place) & 1 else "_") + word
    return made


def test_names_that_differ_only_in_dots_stay_apart():
    words = ["".join(joint) for joint in itertools.product(["a"], "._", ["b"], "._", ["x1"], "._", ["c"])]
    assert len({identifier_of(word) for word in words}) == len(words) == 8


def test_an_ending_that_looks_like_ours_stays_apart():
    # "a_x1" and "a" must not meet: layer_a_x1_x0 and layer_a_x0
    assert identifier_of("a_x1") == "layer_a_x1_x0"
    assert identifier_of("a.x1") == "layer_a_x1_x1"
    assert identifier_of("a") == "layer_a_x0"


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../../etc/passwd", "a/b", "a\\b", "a..b", ".a", "a.", "a__b", "_a", "a_", "a b", "a;system(1)",
     "a\n", "a\0", 'a"', "a'b", "$(rm)", "a`b`", "ä", "a-b", "%s", "con:", "~", "a\u202eb"],
)  # fmt: skip
def test_paths_and_code_are_refused(name):
    with pytest.raises(ValueError, match="layer name must be letters and digits"):
        identifier_of(name)


def test_a_name_too_long_is_refused():
    assert len(identifier_of("a" * (MAX_LENGTH - len("layer__x0")))) == MAX_LENGTH
    with pytest.raises(ValueError, match=f"at most {MAX_LENGTH}"):
        identifier_of("a" * (MAX_LENGTH - len("layer__x0") + 1))


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_the_compiler_takes_what_we_take():
    good = "".join(f"int {identifier_of(name)};\n" for name in ("model.layers.0.int", "while", "1.2", "x_0.y"))
    command = ["g++", "-std=c++20", "-fsyntax-only", "-x", "c++", "-"]
    assert subprocess.run(command, input=good.encode(), capture_output=True).returncode == 0
