"""Links between the pages of the project lead somewhere: files exist, anchors are headings."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def _pages() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = listed.stdout.split() if listed.returncode == 0 else [p.name for p in ROOT.glob("*.md")]
    return [ROOT / name for name in names if (ROOT / name).exists()]


def _anchor(heading: str) -> str:
    """As GitHub makes it: lower case, punctuation gone, spaces become hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _links(page: Path) -> Iterator[str]:
    return (found for found in _LINK.findall(page.read_text(encoding="utf-8")) if "://" not in found)


def test_anchors_are_made_as_the_site_makes_them() -> None:
    assert _anchor("LQER's circuit areas") == "lqers-circuit-areas"
    assert _anchor("Closed form, and `evaluate`") == "closed-form-and-evaluate"


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    dangling = []
    for link in _links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        headings = _HEADING.findall(target.read_text(encoding="utf-8")) if target.is_file() and anchor else []
        if not target.exists() or (anchor and anchor not in map(_anchor, headings)):
            dangling.append(link)
    assert dangling == []
