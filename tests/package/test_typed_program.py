"""The program that type checkers read strictly: it names the whole public API, and it runs."""

import ast
import importlib
import inspect
import tomllib
from pathlib import Path

import pytest

import servomex
from tests.helpers.paths import CAPTURE, ROOT
from tests.package import typed_program

pytestmark = pytest.mark.virtual_time


def test_the_typed_program_runs(tmp_path: Path) -> None:
    typed_program.main("sim://4100", CAPTURE, tmp_path)


def test_the_typed_program_uses_every_public_name() -> None:
    tree = ast.parse(Path(typed_program.__file__).read_text(encoding="utf-8"))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert set(importlib.import_module("servomex").__all__) - used == set()


def test_the_typed_program_uses_every_parameter_of_the_functions_that_open() -> None:
    tree = ast.parse(Path(typed_program.__file__).read_text(encoding="utf-8"))
    given: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            names = {item.arg for item in node.keywords if item.arg}
            given.setdefault(ast.unparse(node.func).rpartition(".")[2], set()).update(names)
    for name in (
        "open_device",
        "open_continuous",
        "discover_port",
        "SerialSettings",
        "SerialLink",
        "FakeTransport",
    ):
        parameters = inspect.signature(getattr(servomex, name)).parameters.values()
        assert {item.name for item in parameters if item.kind is item.KEYWORD_ONLY} - given[name] == set(), name


def test_type_checkers_read_it_strictly() -> None:
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    assert "pyright tests{/}package{/}typed_program.py" in tox
    assert "pyright --verifytypes servomex --ignoreexternal" in tox
    assert "# pyright: strict" in Path(typed_program.__file__).read_text(encoding="utf-8")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["mypy"]["strict"] is True
    assert "tests" in settings["tool"]["mypy"]["files"]
