"""Files and functions are short enough to be read at once, and no test module is imported by another file."""

import ast
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

FILES = sorted(path for folder in ("servomex", "tests") for path in (ROOT / folder).rglob("*.py"))
LONGEST_FILE = 420
LONGEST_FUNCTION = 40
"""Lines of its signature and body; its docstring and the lines of its decorators are not counted."""

LONG_FUNCTIONS = {"servomex/analyzer/opening.py open_device"}
"""Each of its arguments is a line of its own."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_by(path: Path) -> set[str]:
    """Return the dotted names that a file imports, with those of the modules that it takes names from."""
    found: set[str] = set()
    package = list(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def length_of(function: Function) -> int:
    """Return how many lines a function has without its docstring."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        assert docstring.end_lineno is not None
        lines -= docstring.end_lineno - docstring.lineno + 1
    return lines


def test_no_test_module_is_imported() -> None:
    modules = {
        name_of(path).removesuffix(".py").replace("/", ".") for path in FILES if path.stem.startswith("test_")
    }
    found = {name_of(path): names for path in FILES if (names := imported_by(path) & modules)}
    assert found == {}, "what tests share stands in tests/helpers"


def test_no_file_is_long() -> None:
    long = {name_of(path) for path in FILES if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST_FILE}
    assert long == set()


def test_no_function_of_the_package_is_long() -> None:
    long = {
        f"{name_of(path)} {node.name}"
        for path in FILES
        if path.is_relative_to(ROOT / "servomex")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, Function) and length_of(node) > LONGEST_FUNCTION
    }
    assert long == LONG_FUNCTIONS


@pytest.mark.parametrize(("source", "names"), [
    ("from tests.cli.test_read import invoke", {"tests.cli.test_read", "tests.cli.test_read.invoke"}),
    ("from tests.cli import test_read", {"tests.cli", "tests.cli.test_read"}),
    ("import tests.cli.test_read", {"tests.cli.test_read"}),
    ("def late():\n    from .test_read import invoke", {"tests.cli.test_read", "tests.cli.test_read.invoke"}),
])  # fmt: skip
def test_every_way_of_importing_is_seen(source: str, names: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_args, **_options: source)
    assert imported_by(ROOT / "tests" / "cli" / "test_other.py") == names
