"""Layer names as C++ identifiers: nothing lost, nothing let through."""

import itertools
import keyword
import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hls.names import MAX_LENGTH, RESERVED, checked_identifier, identifier_of, layer_of

WORDS = st.from_regex(r"[A-Za-z0-9]{1,5}([._][A-Za-z0-9]{1,5}){0,8}", fullmatch=True)


@given(WORDS)
def test_a_name_comes_back_and_is_an_identifier(name):
    made = identifier_of(name)
    assert layer_of(made) == name
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", made) and "__" not in made
    assert made not in RESERVED and not keyword.iskeyword(made)


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


@pytest.mark.parametrize(
    "identifier", ["", "layer_a", "layer_a_x2", "layer_a_b_x01", "layer_a_xg", "a_x0", "layer__x0"]
)
def test_other_identifiers_have_no_layer(identifier):
    with pytest.raises(ValueError, match="identifier must be one of a layer name"):
        layer_of(identifier)


@pytest.mark.parametrize("name", ["my_ip", "Top1", "a_b_c"])
def test_a_users_name_passes(name):
    assert checked_identifier(name, "name") == name


@pytest.mark.parametrize("name", ["", "1a", "_a", "a__b", "a_", "a.b", "a/b", "../x", "a;b", "a b", "ä", "a" * 200])
def test_a_users_name_that_is_none(name):
    with pytest.raises(ValueError, match="name must be a C\\+\\+ name"):
        checked_identifier(name, "name")


@pytest.mark.parametrize("name", ["int", "class", "main", "std", "module", "wire", "and", "alignas"])
def test_a_users_name_that_is_taken(name):
    with pytest.raises(ValueError, match="keeps for itself"):
        checked_identifier(name, "name")


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_the_compiler_takes_what_we_take_and_refuses_its_own_words():
    good = "".join(f"int {identifier_of(name)};\n" for name in ("model.layers.0.int", "while", "1.2", "x_0.y"))
    command = ["g++", "-std=c++20", "-fsyntax-only", "-x", "c++", "-"]
    assert subprocess.run(command, input=good.encode(), capture_output=True).returncode == 0
    for word in ("while", "co_await", "xor_eq", "thread_local", "requires"):
        assert word in RESERVED
        assert subprocess.run(command, input=f"int {word};\n".encode(), capture_output=True).returncode != 0
