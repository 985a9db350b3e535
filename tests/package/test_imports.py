"""``import servomex`` is fast and brings no more than is asked for; every public name is there all the same."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import servomex
from tests.helpers.imported import loaded_by, run

FILE = Path(inspect.getfile(servomex))
PUBLIC: list[str] = importlib.import_module("servomex").__all__


def test_importing_the_package_loads_nothing_that_is_not_needed_yet() -> None:
    heavy = {"pymodbus", "pandas", "pyarrow", "numpy", "sqlite3", "click", "serial", "attrs", "asyncio", "socket"}
    loaded = loaded_by("import servomex")
    assert not loaded & heavy
    ours = {name for name in loaded if name.startswith("servomex")}
    assert ours == {"servomex"}


@pytest.mark.parametrize(("code", "heavy"), [
    ("from servomex import Frame, ServomexError, telegram", {"pymodbus", "serial", "sqlite3", "click"}),
    ("from servomex import open_device, Recorder, load", {"pymodbus", "pandas", "pyarrow", "sqlite3", "click"}),
    ("from servomex import open_device",
     {"importlib.metadata", "asyncio", "decimal", "html", "servomex.calibration.report",
      "servomex.continuous.reader", "servomex.recording.recording", "servomex.registers", "servomex.trace"}),
    ("from servomex import *", {"pandas", "pyarrow", "sqlite3", "click"}),
    ("from servomex.cli import servomex_group as c; c(['--help'], standalone_mode=False)",
     {"pymodbus", "asyncio", "servomex.port.link", "servomex.analyzer.analyzer", "servomex.sinks",
      "servomex.simulator"}),
    ("from servomex.cli.read import read; read(['--help'], standalone_mode=False)",
     {"pymodbus", "serial", "servomex.port.link", "servomex.analyzer.analyzer", "servomex.telegram"}),
])  # fmt: skip
def test_each_use_loads_what_it_needs(code: str, heavy: set[str]) -> None:
    assert not loaded_by(code) & heavy


def typed() -> Iterator[tuple[str, str]]:
    """Give the names that a type checker sees, each with its module."""
    block = next(node for node in ast.parse(FILE.read_text(encoding="utf-8")).body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for item in node.names:
            if item.name == "*":
                yield from (
                    (name, node.module or "") for name in importlib.import_module(node.module or "").__all__
                )
            else:
                assert item.asname == item.name
                yield item.name, node.module or ""


def test_a_type_checker_sees_the_names_that_there_are_at_run_time() -> None:
    names = dict(typed())
    assert sorted(names) == sorted(PUBLIC)
    for name, module in names.items():
        assert getattr(servomex, name) is getattr(importlib.import_module(module), name)


def test_every_public_name_is_listed_before_it_is_used() -> None:
    assert run("import servomex; print(sorted({*servomex.__all__} - {*dir(servomex)}))") == "[]"
    assert run("import servomex\nfor name in dir(servomex): getattr(servomex, name)\nprint('all')") == "all"


def test_dir_shows_what_is_public_and_nothing_that_the_package_needs_for_itself() -> None:
    code = "import servomex; print(*(name for name in dir(servomex) if not name.startswith('__')))"
    assert {*run(code).split(), "__version__"} == {*PUBLIC}


def test_the_help_begins_with_every_public_name_by_what_it_is_for() -> None:
    shown = run("import servomex; help(servomex)")
    page = shown[: shown.index("PACKAGE CONTENTS")]
    named = {name for name in PUBLIC if name == "__version__" or f"``{name}``" in page}
    assert {*PUBLIC} - named == {name for name in PUBLIC if name.endswith("Error") and name != "ServomexError"}
    assert "class Analyzer(" in shown
    assert "ServomexStaleError" in run("help('servomex.errors')")


def test_the_modules_of_public_names_are_there_without_an_import_of_their_own() -> None:
    assert run("import servomex; print(servomex.errors.ServomexError is servomex.ServomexError)") == "True"


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'servomex' has no attribute 'open_devise'"):
        servomex.open_devise  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="open_devise"):
        from servomex import open_devise  # type: ignore[attr-defined]  # noqa: F401


def test_a_name_is_looked_up_once() -> None:
    code = "import servomex; servomex.Unit; print('Unit' in vars(servomex), 'Frame' in vars(servomex))"
    assert run(code) == "True False"


THREADS = """
import sys, threading
import servomex
sys.setswitchinterval(1e-6)
names = [name for name in servomex.__all__ if name != "__version__"]
start, wrong, found = threading.Barrier(16), [], []

def ask(turn):
    try:
        start.wait()
        for name in names[turn * 5:] + names[:turn * 5]:
            found.append((name, id(getattr(servomex, name))))
    except BaseException as error:
        wrong.append(repr(error))

threads = [threading.Thread(target=ask, args=(turn,), daemon=True) for turn in range(16)]
[thread.start() for thread in threads]
[thread.join(40) for thread in threads]
assert not any(thread.is_alive() for thread in threads), "it hangs"
assert not wrong, wrong
assert len(set(found)) == len(names), "a name was seen as two objects"
print(len(found) == 16 * len(names))
"""


def test_threads_that_ask_at_the_same_time_all_get_the_same() -> None:
    for _ in range(2):
        assert run(THREADS) == "True"


FIRST_IMPORTS = """
import importlib, threading

start, wrong = threading.Barrier(2), []

def load(module, name):
    start.wait()
    try:
        getattr(importlib.import_module(module), name)
    except BaseException as error:
        wrong.append(repr(error))

wanted = (("servomex.FOLDER", "NAME"), ("servomex", "open_device"))
threads = [threading.Thread(target=load, args=one, daemon=True) for one in wanted]
[thread.start() for thread in threads]
[thread.join(40) for thread in threads]
assert not any(thread.is_alive() for thread in threads), "it hangs"
print(wrong)
"""


@pytest.mark.parametrize(("folder", "name"), [
    ("sinks", "CsvSink"),
    ("simulator", "VirtualLine"),
    ("testing", "ScriptedPort"),
    ("checkup", "Finding"),
    ("traffic", "TrafficDecoder"),
    ("cli", "__doc__"),
])  # fmt: skip
def test_threads_whose_first_imports_are_different_do_not_wait_for_each_other(folder: str, name: str) -> None:
    for _ in range(3):
        assert run(FIRST_IMPORTS.replace("FOLDER", folder).replace("NAME", name)) == "[]"
