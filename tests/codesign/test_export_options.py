"""What an export is asked for fits what one can hold, and its word for seeded inputs is no text's name."""

from codesign.export_options import CONTEXT, POSITIONS, SEEDED
from codesign.text import TEXTS
from hls.layer_options import MAX_POSITIONS


def test_the_word_for_seeded_inputs_means_no_text():
    assert SEEDED not in TEXTS


def test_a_window_fits_a_cache_that_can_be_held():
    assert 1 <= CONTEXT <= POSITIONS <= MAX_POSITIONS


def test_the_help_says_how_many_positions_there_are(run):
    status, out, _ = run("export", "--help")
    assert status == 0 and f"holds: {POSITIONS}." in " ".join(out.replace("│", " ").split())
