"""Notes of a recipe in work: numbers to the last bit, seconds summed over runs that were killed."""

import math

from codesign import work_notes
from codesign.work_notes import WorkNotes


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def monotonic(self):
        return self.now


def test_notes_are_read_back_as_they_were(tmp_path):
    notes = WorkNotes(tmp_path / "deep" / "notes.json")
    assert (notes.numbers, notes.seconds, notes.layer_sqnr_db) == ({}, {}, {})
    notes.numbers = {"loss": 0.1 + 0.2, "kl": math.nan}
    notes.layer_sqnr_db = {"a": math.inf, "b": 1 / 3}
    notes.write()
    again = WorkNotes(notes.path)
    assert again.numbers["loss"] == 0.1 + 0.2 and math.isnan(again.numbers["kl"])
    assert again.layer_sqnr_db == {"a": math.inf, "b": 1 / 3}


def test_notes_that_cannot_be_read_are_empty(tmp_path):
    (tmp_path / "notes.json").write_text('{"numbers": {"loss"')
    assert WorkNotes(tmp_path / "notes.json").numbers == {}


def test_seconds_are_those_of_all_runs_up_to_the_last_step(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(work_notes, "time", clock)
    path, passed_on = tmp_path / "notes.json", []
    killed = WorkNotes(path).timing("evaluate_s", lambda *step: passed_on.append(step))
    step = killed.__enter__()
    clock.now += 3
    step("evaluate", 1, 2)
    clock.now += 50  # the block in flight when the process dies: its context never ends
    again = WorkNotes(path)
    assert again.seconds == {"evaluate_s": 3}
    with again.timing("evaluate_s") as step:
        clock.now += 4
        step("evaluate", 2, 2)
        clock.now += 1
    with again.timing("quantize_s"):
        clock.now += 0.25
    assert WorkNotes(path).seconds == {"evaluate_s": 8, "quantize_s": 0.25}
    assert passed_on == [("evaluate", 1, 2)]


def test_many_steps_do_not_write_each_time(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(work_notes, "time", clock)
    notes = WorkNotes(tmp_path / "notes.json")
    written = []
    monkeypatch.setattr(notes, "write", lambda: written.append(clock.now))
    with notes.timing("quantize_s") as step:
        for done in range(1, 101):
            clock.now += 0.01
            step("quantize", done, 100)
    # a second of steps, noted every tenth of one, and at the end
    assert 9 <= len(written) <= 12
