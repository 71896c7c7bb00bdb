"""What a host calls has types, though device functions have none: numba infers those when it compiles them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "kernels_gpu").glob("*.py"))


def host_functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Functions of the module and methods of its classes that no compiler takes."""
    for node in tree.body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        for member in members:
            if isinstance(member, ast.FunctionDef) and not any("jit" in ast.unparse(d) for d in member.decorator_list):
                yield member


def untyped(source: str) -> list[str]:
    """Names of host functions without the type of a parameter or of what they return."""
    found = []
    for function in host_functions(ast.parse(source)):
        taken = function.args
        given = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs, taken.vararg, taken.kwarg]
        bare = [one.arg for one in given if one is not None and one.annotation is None]
        if set(bare) - {"self", "cls"} or function.returns is None:
            found.append(function.name)
    return found


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("@cuda.jit(device=True)\ndef add(a, b):\n    return a", []),
        ("def make(spec: int):\n    return spec", ["make"]),
        ("class A:\n    def f(self, x) -> int:\n        return x", ["f"]),
        ("def outer(a: int) -> object:\n    def kernel(x):\n        pass\n    return kernel", []),
        ("def f(*, b=3, **more: int) -> None:\n    pass", ["f"]),
    ],
    ids=["device function", "no result", "method", "kernel inside", "keyword"],
)
def test_a_missing_type_is_found(source: str, names: list[str]) -> None:
    assert untyped(source) == names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_host_functions_have_types(path: Path) -> None:
    assert untyped(path.read_text(encoding="utf-8")) == []
