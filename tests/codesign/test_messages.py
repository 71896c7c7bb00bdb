"""What people read on standard error: lines as they are, one for a mistake."""

import pytest

from codesign.messages import say, sentence


def test_messages_go_to_standard_error_as_they_are(capsys):
    say("[red]not markup[/red] " + "long " * 60)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("[red]not markup[/red]") and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\n   second"), "first second"),
        (ValueError(), "ValueError"),
        (OSError(28, "No space left on device", "out/a.csv"),
         "the disk must have room, but it is full while writing out/a.csv; what was finished is kept"),
        (OSError(28, "No space left on device"),
         "the disk must have room, but it is full; what was finished is kept"),
        (PermissionError(13, "Permission denied", "out/a.csv"), "out/a.csv could not be used: Permission denied"),
        (OSError(5, "Input/output error"), "a file could not be used: Input/output error"),
        (OSError("without a number"), "without a number"),
    ],
    ids=["two lines", "empty", "full disk", "full disk, no file", "no permission", "no file", "plain"],
)  # fmt: skip
def test_a_mistake_is_one_line(error, line):
    assert sentence(error) == line
