"""A source beside every number: on its line or the one before, in every file of presets."""

import ast
import io
import tokenize
from pathlib import Path

import pytest

import hwmodel

FOLDER = Path(hwmodel.__file__).parent
FILES = (*sorted(FOLDER.glob("presets_*.py")), *(FOLDER / f"{name}.py" for name in ("gpu_presets", "cell_area")))
_LEAST = 12  # characters of a string that can name a source


def _without_source(text: str) -> list[str]:
    """Lines with a number other than 0 and 1 that have neither a comment nor a text with a space beside them.

    >>> _without_source("x = 3  # Smith 2020\\ny = 4\\n\\nz = 5\\nSram(6, 'Smith 2020: 6 KB')\\n")
    ['z = 5']
    """
    tree, lines = ast.parse(text), text.splitlines()
    sourced = {
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT and not token.string.startswith("# fmt")
    }
    documents = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
    }
    numbers = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or node in documents:
            continue
        if isinstance(node.value, str) and len(node.value) >= _LEAST and " " in node.value:
            sourced |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        elif isinstance(node.value, int | float) and not isinstance(node.value, bool) and node.value not in (0, 1):
            numbers.add(node.lineno)
    return [lines[line - 1].strip() for line in sorted(numbers) if not {line, line - 1} & sourced]


def test_the_search_finds_what_has_no_source() -> None:
    text = '"""A document that is long enough."""\na = 2\n# Smith 2020\nb = 3\nc = 4\nd = Sram(5, "Smith 2020: 5 KB")\n'
    assert _without_source(text) == ["a = 2", "c = 4"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_number_of_a_preset_has_its_source_beside_it(file: Path) -> None:
    assert _without_source(file.read_text(encoding="utf-8")) == []
