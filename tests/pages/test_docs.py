"""What README.rst and the pages of docs name exists: pages, names, options, variables, modules, errors.

Sphinx checks the rest, see ``tox -e docs``: references between pages and into docstrings.
"""

import ast
import doctest
import importlib
import re
import struct
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import click
import pytest

import servomex
from servomex.cli import servomex_group
from servomex.cli.errors import EXIT_CODES
from servomex.errors import tree as errors
from servomex.simulator import faults, urls
from tests.helpers.options import commands, options
from tests.helpers.pages import (
    DOCS,
    INSTALL,
    PAGES,
    README,
    TEST,
    TUTORIAL,
    Checker,
    Script,
    blocks_of,
    needs_bash,
)
from tests.helpers.paths import ROOT


def test_the_two_commands_stand_in_the_readme_word_for_word() -> None:
    text = README.read_text(encoding="utf-8")
    assert f"\n    $ {INSTALL}servomex-read sim://4100\n" in text
    assert f"\n    $ {TEST}\n" in text


def test_the_readme_can_stand_on_the_package_index() -> None:
    text = README.read_text(encoding="utf-8")
    relative = [link for link in re.findall(r"<([^<>\s]+)>`_", text) if not link.startswith("https://")]
    assert relative == [], "links to files of the sources lead nowhere on the index"
    files = re.findall(r"``((?:docs|examples)(?:/[\w.-]+)*|[A-Z]+\.rst)``", text)
    assert len(files) > 10
    assert [name for name in files if not (ROOT / name).exists()] == []
    docutils = pytest.importorskip("docutils.core")
    settings = {"halt_level": 2, "report_level": 2, "raw_enabled": False, "file_insertion_enabled": False}
    docutils.publish_doctree(text, settings_overrides=settings)


def test_every_page_is_found_from_the_index() -> None:
    found: set[Path] = set()
    waiting = [ROOT / "docs" / "index.rst"]
    while waiting:
        page = waiting.pop()
        found.add(page)
        for block in re.findall(
            r"^\.\. toctree::\n((?:    .*\n|\n)+)", page.read_text(encoding="utf-8"), re.MULTILINE
        ):
            waiting += [
                page.parent / f"{name}.rst" for name in re.findall(r"^    ([\w/-]+)$", block, re.MULTILINE)
            ]
    assert found == set(DOCS)


def test_every_link_leads_somewhere() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        inside = page in DOCS
        links = re.findall(r"<([^<>\s]+)>`_", text)
        assert not (links and inside), f"{page.name}: a page of the manual links with :doc: and :ref:"
        targets = [page.parent / link for link in links]
        for target in re.findall(r":doc:`(?:[^`<]*<)?([^`<>]+)>?`", text):
            assert inside, f"{page.name} is no page of the manual: :doc: leads nowhere"
            folder = ROOT / "docs" if target.startswith("/") else page.parent
            targets.append(folder / f"{target.lstrip('/')}.rst")
        assert [str(target) for target in targets if not target.is_file()] == [], page.name


def test_every_example_is_included_once_and_listed() -> None:
    included = Counter(
        (page.parent / name).resolve()
        for page in DOCS
        for name in re.findall(
            r"^\.\. (?:literalinclude|figure):: (\.\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE
        )
    )
    examples = [path for path in sorted((ROOT / "examples").iterdir()) if path.is_file()]
    assert included == Counter(path.resolve() for path in examples)
    assert lacking("howto/examples", [path.name for path in examples]) == []


def named(path: str) -> object:
    """Find what a dotted name that starts with ``servomex`` means."""
    parts = path.split(".")
    found: Any = servomex
    for place, part in enumerate(parts[1:], 2):
        if not hasattr(found, part):
            importlib.import_module(".".join(parts[:place]))
        found = _member(found, part)
    return found


def _member(owner: Any, name: str) -> Any:
    """Give a member, also one that only instances have: a slot, or one that the docstring lists."""
    if hasattr(owner, name):
        return getattr(owner, name)
    documented = re.search(rf"^ +{name}:", owner.__doc__ or "", re.MULTILINE)
    if documented or (attrs.has(owner) and name in attrs.fields_dict(owner)):
        return None
    raise AttributeError(f"{owner.__name__} has no {name}")


def test_every_name_on_a_page_exists() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        files = r"(?:rst|py|toml|typed|conf)\b"
        for path in re.findall(rf"\bservomex(?:\.(?!{files})[A-Za-z_]\w*)+", text):
            if path != "servomex.wire":  # a logger
                named(path)
        for path in re.findall(rf"``([A-Z]\w+\.(?!{files})[a-z_]\w*)(?:\(|``)", text):
            owner, _, name = path.partition(".")
            _member(named(f"servomex.{owner}") if hasattr(servomex, owner) else _of_simulator(owner), name)
        for name in re.findall(r"\bServomex\w*Error\b", text):
            assert hasattr(errors, name), f"{page.name} names {name}"


def _of_simulator(name: str) -> Any:
    return getattr(importlib.import_module("servomex.simulator"), name)


def of_the_examples() -> set[str]:
    """The options of the examples and campaigns: those that are written as they are, and those of a gas."""
    found = {f"--{gas}" for gas in ("o2", "co", "co2")}
    for path in [*(ROOT / "examples").glob("*.py"), *(ROOT / "tests").rglob("__main__.py")]:
        found |= {*re.findall(r'add_argument\("(--[a-z-]+)"', path.read_text(encoding="utf-8"))}
    return found


OF_OTHERS = {
    "from-servomexlib.rst": {"--baud", "--fixture", "--out"},
    "freezing.rst": {"--exclude-module"},
    "influx.rst": {"--data-urlencode"},
}
"""Options of other programs."""


def test_every_option_and_variable_on_a_page_exists() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        known = {name for item in options() for name in item.opts} | {"--help", "--version"} | of_the_examples()
        known |= OF_OTHERS.get(page.name, set())
        assert {*re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text)} <= known
        variables = {str(item.envvar) for item in options() if item.envvar} | {
            "SERVOMEX_PORT",
            "SERVOMEX_",
            "SERVOMEX_MQTT_PASSWORD",
        }
        assert {*re.findall(r"(?<!_)\bSERVOMEX_[A-Z_]*", text)} <= variables


def words_of(name: str) -> str:
    """The text of a page of docs."""
    return (ROOT / "docs" / f"{name}.rst").read_text(encoding="utf-8")


def test_the_reference_is_complete() -> None:
    assert ".. click:: servomex.cli:servomex_group\n    :prog: servomex\n    :nested: full" in words_of(
        "reference/commands"
    )
    assert lacking("reference/rows", servomex.ROW_COLUMNS) == []
    assert lacking("reference/simulator", faults.FAULT_NAMES) == []
    assert lacking("reference/simulator", urls._OPTIONS) == []
    assert lacking("reference/traces", urls._REPLAY_OPTIONS) == []
    assert lacking("reference/exit-codes", re.findall(r"^  (\d+) ", EXIT_CODES, re.MULTILINE), "    * - {}") == []
    names = [name for name in vars(errors) if name.startswith("Servomex")]
    assert lacking("reference/errors", names, "    * - ``{}``\n") == []


def lacking(page: str, names: Iterable[str], form: str = "``{}``") -> list[str]:
    """Give the names that a page does not have."""
    text = words_of(page).replace(", ", "\n    * - ") if page == "reference/exit-codes" else words_of(page)
    return [name for name in names if form.format(name) not in text]


def test_the_variables_are_those_of_the_commands() -> None:
    rows = re.findall(
        r"^    \* - (``SERVOMEX(?:.|\n)*?)\n      - (.*)$", words_of("reference/environment"), re.MULTILINE
    )
    shown = {
        (name, command)
        for names, its in rows
        for name in re.findall(r"SERVOMEX_\w+", names)
        for command in re.findall(r"``(\w+)``", its)
    }
    context = click.Context(servomex_group)
    real = {
        (str(item.envvar), name)
        for name in servomex_group.list_commands(context)
        for command in commands(servomex_group, name)
        for item in command.params
        if item.envvar
    }
    assert shown == real, "variables of sinks name no command"


def public_names() -> set[str]:
    """The public names: of the package, and of its modules that programs use by themselves."""
    modules = [importlib.import_module(f"servomex.{name}") for name in ("registers", "telegram")]
    packages = [
        servomex,
        *(importlib.import_module(f"servomex.{name}") for name in ("simulator", "sinks", "testing")),
    ]
    found = {f"{package.__name__}.{name}" for package in packages for name in package.__all__}
    for module in modules:
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        names = [item.name for item in tree.body if isinstance(item, ast.FunctionDef | ast.ClassDef)]
        names += [
            ast.unparse(target) for item in tree.body if isinstance(item, ast.Assign) for target in item.targets
        ]
        found |= {f"{module.__name__}.{name}" for name in names if not name.startswith("_")}
    return found - {"servomex.sinks.open_sink", "servomex.testing.FakeTransport"}  # as those of servomex


def test_every_public_name_is_documented_exactly_once() -> None:
    pages = [page.read_text(encoding="utf-8") for page in DOCS if page.parent.name == "api"]
    directive = r"^\.\. (?:auto(?:class|data|exception|function|module)|data):: ([\w.]+)$"
    shown = Counter(name for page in pages for name in re.findall(directive, page, re.MULTILINE))
    assert {name for name, times in shown.items() if times > 1} == set()
    assert public_names() - set(shown) == set()
    for name in shown:
        named(name)


@needs_bash
def test_the_tutorial_runs_from_its_first_block_to_its_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {}
    install, *blocks = blocks_of(TUTORIAL)
    assert install.text == '$ python -m pip install ".[pandas,plot]"'
    for block in blocks:
        if "matplotlib" in block.text:
            pytest.importorskip("matplotlib").use("agg")
        if block.kind == "console":
            for command in Script(str(block), block.text).run_in(tmp_path):
                command.check()
        else:
            report: list[str] = []
            session = doctest.DocTestParser().get_doctest(
                f"{block.text}\n", known, str(block), str(TUTORIAL), block.line
            )
            runner = doctest.DocTestRunner(Checker(), verbose=False)
            runner.run(session, out=report.append, clear_globs=False)
            assert not runner.failures, "".join(report)
            known = session.globs
    assert shape_of(tmp_path / "first.png") == shape_of(TUTORIAL.with_suffix(".png"))


def shape_of(picture: Path) -> tuple[int, int]:
    """The width and height of a PNG file."""
    head = picture.read_bytes()[:24]
    assert head.startswith(b"\x89PNG"), picture
    width, height = struct.unpack(">II", head[16:])
    return width, height
