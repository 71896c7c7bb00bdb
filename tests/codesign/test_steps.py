"""Progress: drawn where people watch, silent elsewhere."""

import io

import pytest
from rich.console import Console

from codesign import steps
from codesign.steps import NO_STEPS, progress


@pytest.fixture
def terminal(monkeypatch):
    """What a terminal of 120 columns is sent."""
    seen = io.StringIO()
    monkeypatch.setattr(steps, "MESSAGES", Console(file=seen, force_terminal=True, width=120))
    return seen


def test_a_title_makes_one_task_that_is_counted(terminal):
    with progress("packing", total=4) as bars:
        bars.advance(bars.task_ids[0], 3)
        bars.refresh()
        assert bars.tasks[0].completed == 3
    assert "packing" in terminal.getvalue() and "3/4" in terminal.getvalue()


def test_a_spinner_counts_nothing(terminal):
    with progress("downloading"):
        pass
    assert "downloading" in terminal.getvalue() and "0/?" not in terminal.getvalue()


def test_tasks_may_be_added_later(terminal):
    with progress() as bars:
        assert bars.tasks == []
        bars.update(bars.add_task("recipes", total=20), completed=7)
        bars.refresh()
    assert "7/20" in terminal.getvalue()


def test_nothing_is_drawn_where_nobody_watches(capsys):
    with progress("packing", total=2) as bars:
        bars.advance(bars.task_ids[0])
    NO_STEPS("packing", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_the_display_goes_when_an_error_comes(terminal):
    with pytest.raises(ValueError, match="broken"), progress("packing", total=2) as bars:
        raise ValueError("broken")
    assert bars.finished is False and not bars.live.is_started
