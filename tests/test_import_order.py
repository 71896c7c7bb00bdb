"""The import order is law: sources are walked with ``ast``, and light modules imported to see what they load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "datatypes": {"datatypes"},
    "hwmodel": {"datatypes", "hwmodel"},
    "hls": {"datatypes", "hwmodel", "hls"},
    "kernels_gpu": {"datatypes", "hwmodel", "kernels_gpu"},
    "codesign": {"datatypes", "hwmodel", "hls", "kernels_gpu", "codesign"},
    "studies": {"datatypes", "hwmodel", "hls", "kernels_gpu", "codesign", "studies"},
}
SOURCES = sorted(path for package in ALLOWED for path in (ROOT / package).rglob("*.py"))
FORBIDDEN = {
    "hwmodel": ("torch", "brevitas", "plotly"),
    "datatypes": ("networkx", "brevitas", "plotly"),
    "hls": ("brevitas", "plotly"),
    "kernels_gpu": ("brevitas", "plotly"),
}
LIGHT = ("datatypes.format", "datatypes.catalog", "datatypes.granularity", "datatypes.layer_config")


def imports(path, tree=None):
    for node in ast.walk(tree or ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports must be absolute"
            yield node, node.module or ""


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    for node, name in imports(path):
        top = name.split(".")[0]
        if top in ALLOWED:
            assert top in ALLOWED[package], f"{path.name}:{node.lineno} imports {name}; {package} may not"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_own_packages_are_imported_at_the_top_without_star(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    at_top = {id(node) for node in tree.body}
    for node, name in imports(path, tree):
        if name.split(".")[0] in ALLOWED:
            assert id(node) in at_top, f"{path.name}:{node.lineno} imports {name} inside a function or a condition"
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" for alias in node.names), f"{path.name}:{node.lineno} imports *"


def test_no_package_file_under_tests():
    assert not list((ROOT / "tests").rglob("__init__.py")), "a tests/<package>/__init__.py shadows the real package"


def loaded_after(modules):
    code = f"import sys, {', '.join(modules)}; print(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_packages_do_not_load_what_they_must_not(package):
    modules = [module_name(p) for p in SOURCES if p.relative_to(ROOT).parts[0] == package and p.name != "__main__.py"]
    assert loaded_after(modules).isdisjoint(FORBIDDEN[package])


def test_vocabulary_loads_no_torch():
    assert "torch" not in loaded_after(LIGHT)
