import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from plotly import graph_objects as go

from codesign.dashboard import page
from codesign.dashboard.page import figures, fill, prototype, render, write_dashboard
from codesign.study import StudyResult


class Reader(HTMLParser):
    """Collects the elements of a page and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag == "script" and not attrs  # data blocks have a type
        if self.inside:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def hostile_page(hostile_result: StudyResult) -> str:
    return render(hostile_result)


def test_the_file_is_written_whole_and_replaced_whole(small_result: StudyResult, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text("old")
    write_dashboard(small_result, path)
    assert path.read_text(encoding="utf-8") == render(small_result)
    assert [file.name for file in tmp_path.iterdir()] == ["index.html"]


def test_a_failure_leaves_the_old_file_and_nothing_else(
    small_result: StudyResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "index.html"
    path.write_text("old")

    def full_disk(self: Path, *_: object, **__: object) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_dashboard(small_result, path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("index.html", b"old")]


def test_names_bring_no_element_of_their_own(hostile_page: str, small_result: StudyResult) -> None:
    elements = Reader(hostile_page).elements
    assert [tag for tag, _ in elements] == [tag for tag, _ in Reader(render(small_result)).elements]
    assert not [attributes for _, attributes in elements if any(name.startswith("on") for name in attributes)]


def test_the_page_asks_for_nothing(hostile_page: str) -> None:
    for tag, attributes in Reader(hostile_page).elements:
        for name in ("src", "href", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)


def test_the_policy_allows_exactly_the_pages_own_scripts(hostile_page: str) -> None:
    reader = Reader(hostile_page)
    policy = next(a["content"] for t, a in reader.elements if t == "meta" and "http-equiv" in a)
    assert policy is not None
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    real = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in reader.scripts]
    assert allowed == real
    assert len(real) == 5
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy.split("script-src")[1].split(";")[0]


def test_placeholders_in_the_data_stay_as_they_are() -> None:
    assert fill("{{a}} {{b}}", {"a": "{{b}}", "b": "\\1"}) == "{{b}} \\1"
    with pytest.raises(KeyError, match="c"):
        fill("{{c}}", {})


def test_a_prototype_keeps_the_looks_and_drops_the_data(full_result: StudyResult) -> None:
    for figure in figures(full_result).values():
        for trace in prototype(figure)["data"]:
            assert not {"x", "y", "text", "customdata"} & set(trace)
    kept = prototype(go.Figure(go.Scatter(x=[1], marker={"color": ["red"], "size": 3, "symbol": "star"})))
    assert kept["data"][0]["marker"] == {"size": 3, "symbol": "star"}


def test_the_scripts_are_all_in_the_package(package_file) -> None:
    assert all(package_file(name).is_file() for name in (*page.SCRIPTS, "page.html", "page.css"))
