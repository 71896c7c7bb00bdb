"""Commands load what they do when they run: options are there at once, and fit the work that takes them."""

import ast
import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from codesign import commands
from codesign.cli import COMMANDS, app

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
SIGNATURES = sorted((ROOT / "codesign").glob("commands_*.py"))
HEAVY = {"torch", "transformers", "numba", "plotly", "pandas", "networkx", "pyarrow", "scipy"}
# an interpreter of its own runs command lines one after another, and says what it has loaded after each
SCRIPT = """
import contextlib, io, json, sys
from codesign.cli import main
found = []
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main(arguments)
        except SystemExit as stop:
            found.append([stop.code, sorted({name.split(".")[0] for name in sys.modules})])
print(json.dumps(found))
"""


def loaded_by(command_lines):
    """Exit status of each command line in one fresh interpreter, and what is loaded after it."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(command_lines)], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "COLUMNS": "100"},
    )  # fmt: skip
    after = zip(command_lines, json.loads(done.stdout), strict=True)
    return {" ".join(line): (status, set(names)) for line, (status, names) in after}


def test_help_version_and_wrong_usage_load_nothing_heavy():
    wrong = [["estmate"], ["estimate", "--foo"], ["quantize"], ["estimate", "x", "--batch", "0"], []]
    right = [["--help"], ["--version"], *([name, "--help"] for name in NAMES)]
    found = loaded_by(right + wrong)
    assert {line: names & HEAVY for line, (_, names) in found.items() if names & HEAVY} == {}
    assert [status for status, _ in found.values()] == [0] * len(right) + [2] * len(wrong)


def test_commands_without_weights_and_traces_load_no_torch():
    right = [
        ["formats"], ["formats", "e2m1"], ["accelerators"], ["models"], ["fpga"], ["fpga", "-a", "bitmod"],
    ]  # fmt: skip
    wrong = [["hls-report", "absent.xml"], ["csim", "absent"], ["report", "absent"], ["validate", "--rows", "absent"]]
    found = loaded_by(right + wrong)
    torch = {"torch", "transformers"}
    assert {line: names & torch for line, (_, names) in found.items() if names & torch} == {}
    assert [status for status, _ in found.values()] == [0] * len(right) + [2] * len(wrong)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_option_says_what_it_is(command):
    for name, annotation in inspect.get_annotations(command, eval_str=True).items():
        told = [one for one in getattr(annotation, "__metadata__", ()) if getattr(one, "help", None)]
        assert told or name == "return", f"{name} of {command.__name__} has no help"


def test_every_command_says_what_it_does():
    assert all((command.__doc__ or "").strip().endswith(".") for command in COMMANDS)
    assert len({command.__name__ for command in COMMANDS}) == len(COMMANDS) == len(NAMES)


def calls_of_work():
    """Every call ``work("module").function(...)`` in the files of options."""
    for path in SIGNATURES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                loaded = node.func.value
                if isinstance(loaded, ast.Call) and getattr(loaded.func, "id", "") == "work":
                    yield path.name, loaded.args[0].value, node.func.attr, node


CALLS = list(calls_of_work())


@pytest.mark.parametrize(("file", "module", "name", "call"), CALLS, ids=[f"{m}.{n}" for _, m, n, _ in CALLS])
def test_work_takes_what_its_command_gives(file, module, name, call):
    """What a type checker would say if the work were imported at the top."""
    takes = inspect.signature(getattr(importlib.import_module(f"codesign.{module}"), name))
    takes.bind(*call.args, **{keyword.arg: keyword.value for keyword in call.keywords})


def test_each_command_has_its_work():
    assert len(CALLS) >= len(COMMANDS)
    assert {file for file, *_ in CALLS} == {path.name for path in SIGNATURES}


def test_work_is_a_module_of_the_command_line():
    assert commands.work("messages").EXIT_BAD_INPUT == 2
    with pytest.raises(ModuleNotFoundError):
        commands.work("no_such_file")
