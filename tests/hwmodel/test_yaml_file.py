"""YAML from users: strict, and every mistake names file and key."""

import re

import pytest

from hwmodel.yaml_file import check_keys, read_yaml, take


def written(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_mapping_is_read_as_it_stands(tmp_path):
    path = written(tmp_path, "a: 1\nb: {c: [x, 2.5]}\n1: one\n")
    assert read_yaml(path) == {"a": 1, "b": {"c": ["x", 2.5]}, 1: "one"}


def test_merged_keys_are_no_repetition(tmp_path):
    # https://yaml.org/type/merge.html: keys that stand in the mapping itself win over merged ones
    path = written(tmp_path, "base: &base {a: 1, b: 2}\nmine:\n  <<: *base\n  b: 3\n")
    assert read_yaml(path)["mine"] == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "mine.yaml line 3 must be YAML: key 'a' is given twice"),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", "mine.yaml line 4 must be YAML: key 'b' is given twice"),
        ("a:\n  - {b: 1, b: 2}\n", "mine.yaml line 2 must be YAML: key 'b' is given twice"),
        ("a: [1\nb: 2\n", "mine.yaml line 2 must be YAML: "),
        ("a: !!python/object:os.system {}\n", "mine.yaml line 1 must be YAML: could not determine a constructor"),
        ("- 1\n", "mine.yaml must hold a mapping of keys, not list"),
        ("", "mine.yaml must hold a mapping of keys, not NoneType"),
        (b"a: \xff\n", "mine.yaml must be a readable YAML file: 'utf-8' codec can't decode"),
    ],
    ids=["at the top", "in a section", "in a list", "not closed", "code", "list", "empty", "not UTF-8"],
)
def test_a_broken_file_is_one_sentence_with_file_and_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_yaml(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.yaml must be a readable YAML file: No such file or directory"):
        read_yaml(tmp_path / "none.yaml")


def test_keys_that_nobody_knows_and_keys_that_are_missing():
    check_keys({"name": 1}, ("name", "model"), ("name",), "f.yaml")
    with pytest.raises(ValueError, match=r"f\.yaml: key 'nmae' is not known; did you mean 'name'\?"):
        check_keys({"nmae": 1}, ("name", "model"), (), "f.yaml")
    with pytest.raises(ValueError, match=r"f\.yaml: key 'zzz' is not known; known: model, name"):
        check_keys({"zzz": 1}, ("name", "model"), (), "f.yaml")
    with pytest.raises(ValueError, match=r"f\.yaml: key 'model' must be given"):
        check_keys({"name": 1}, ("name", "model"), ("name", "model"), "f.yaml")


def test_values_are_of_the_kind_asked_for():
    data = {"a": 1, "b": True, "c": "x"}
    assert (take(data, "a", int, "f"), take(data, "b", bool, "f"), take(data, "d", int, "f", 7)) == (1, True, 7)
    assert take(data, "a", (str, int), "f") == 1
    with pytest.raises(ValueError, match="f: key 'b' must be int, not True"):
        take(data, "b", int, "f")
    with pytest.raises(ValueError, match="f: key 'c' must be int or float, not 'x'"):
        take(data, "c", (int, float), "f")
