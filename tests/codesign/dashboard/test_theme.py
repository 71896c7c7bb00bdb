"""Colours that can be told apart and read, labels that are text, and the look that figures share."""

import html
from html.parser import HTMLParser

import pytest

from codesign.dashboard.theme import (
    DARK,
    INK,
    KIND_COLOURS,
    KIND_TITLES,
    LIGHT,
    PHASE_TITLES,
    QUIET,
    SYMBOLS,
    colour,
    document,
    figure,
    kind_colour,
    plain,
)
from hwmodel.workload import LayerKind, Phase


def luminance(hexadecimal):
    """Relative luminance (W3C, Web Content Accessibility Guidelines 2.1, section "relative luminance")."""
    channels = [int(hexadecimal[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_the_guidelines():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)  # WCAG 2.1: "contrast ratios can range from 1 to 21"


@pytest.mark.parametrize("index", range(8))
def test_series_stand_out_on_their_ground(index):
    # WCAG 2.1, criterion 1.4.11: graphical objects have at least 3:1
    assert contrast(LIGHT[index], "#ffffff") >= 3
    assert contrast(DARK[index], "#000000") >= 3


def test_text_is_readable():
    # WCAG 2.1, criterion 1.4.3: text has at least 4.5:1
    assert all(contrast(shade["light"], "#ffffff") >= 4.5 for shade in (INK, QUIET))


def test_series_differ_in_colour_and_symbol():
    assert len(set(LIGHT)) == len(set(DARK)) == len(set(SYMBOLS)) == len(LIGHT) == len(DARK) == len(SYMBOLS)
    assert [colour(i) for i in range(9)] == [*LIGHT, LIGHT[0]]


def test_every_kind_and_phase_has_a_title_and_kinds_a_colour_of_their_own():
    kinds = {kind.value for kind in LayerKind}
    assert set(KIND_TITLES) == set(KIND_COLOURS) == kinds
    assert len({kind_colour(kind) for kind in kinds}) == len(kinds)
    assert kind_colour("something else") == LIGHT[-1]
    assert set(PHASE_TITLES) == {phase.value for phase in Phase}


@pytest.mark.parametrize("name", ["a<b & c", "<script>alert(1)</script>", "&lt;", "plain"])
def test_a_name_is_shown_as_it_is(name):
    assert "<" not in plain(name) and html.unescape(plain(name)) == name


def test_a_page_is_html_of_its_parts():
    class Tags(HTMLParser):
        def __init__(self):
            super().__init__()
            self.opened, self.words = [], []

        def handle_starttag(self, tag, attributes):
            if tag not in ("meta", "!doctype"):
                self.opened.append(tag)

        def handle_endtag(self, tag):
            assert self.opened.pop() == tag

        def handle_data(self, text):
            self.words.append(text)

    page = Tags()
    page.feed(document("A &amp; B", "<h1>One</h1><p>two</p>", style="p{margin:0}"))
    assert page.opened == [] and {"A & B", "One", "two"} <= set(page.words)
    assert any("p{margin:0}" in words and "{{" not in words for words in page.words)


def test_axes_are_merged_and_the_rest_replaced():
    made = figure([], xaxis={"title": {"text": "cycles"}, "zeroline": True}, margin={"l": 50})
    assert made.layout.xaxis.title.text == "cycles" and made.layout.xaxis.zeroline is True
    assert made.layout.xaxis.gridcolor == made.layout.yaxis.gridcolor is not None
    assert made.layout.margin.l == 50 and made.layout.margin.t is None
    assert made.layout.showlegend is False
