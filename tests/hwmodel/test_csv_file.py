"""Tables from users: every way in which a file is none is one sentence with file, line and column."""

from pathlib import Path

import pytest

from hwmodel.csv_file import read_csv


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must have the columns a, b"),
        (b"a\n1\n", "must have the columns b, not only its others"),
        (b"a,b,a\n1,2,3\n", "must name each column once, not repeat 'a'"),
        (b"a,b\n", "must have at least one row below its header, not none"),
        (b"a,b\n\n1,2\n1,2,3\n", "line 4 must have 2 cells as its header, not 3"),
        (b'a,b\n1,"2\n', "must be a readable CSV table in UTF-8"),
        (b"a,b\n1,\xff\n", "must be a readable CSV table in UTF-8"),
    ],
)
def test_a_file_that_is_no_table(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"table\.csv {message}|header of .*table\.csv {message}"):
        read_csv(file, ("a", "b"))


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be a readable CSV table in UTF-8 \(Is a directory\)"):
        read_csv(tmp_path, ("a",))


def test_values_of_a_row(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes("\ufeffa,b,further\r\n 12 ,0.5,x\r\n".encode())  # as spreadsheets write it
    (row,) = read_csv(file, ("a", "b"))
    assert (row.count("a"), row.number("b"), row.choice("further", {"x": 7})) == (12, 0.5, 7)
    assert row.has("further") and not row.has("c")
    for column, bound in (("a", {"most": 11}), ("a", {"least": 13}), ("b", {})):
        with pytest.raises(ValueError, match=f"table.csv line 2: {column} must be a whole number from"):
            row.count(column, **bound)
