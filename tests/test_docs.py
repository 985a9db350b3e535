"""What README.rst and docs/*.rst name exists: pages, names, options, variables, modules, errors."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import click

import servomex
from servomex import errors
from servomex.cli import servomex_group
from servomex.simulator import faults
from tests.test_readme import DOCS, INSTALL, PAGES, README, ROOT, TEST


def test_the_two_commands_stand_in_the_readme_word_for_word() -> None:
    text = README.read_text(encoding="utf-8")
    assert f"\n    $ {INSTALL}servomex-read sim://4100\n" in text
    assert f"\n    $ {TEST}\n" in text


def test_every_page_is_found_from_the_index_and_every_link_leads_somewhere() -> None:
    index = (ROOT / "docs" / "index.rst").read_text(encoding="utf-8")
    missing = [page.name for page in DOCS if page.name != "index.rst" and f"<{page.name}>" not in index]
    assert missing == [], "docs/index.rst does not lead there"
    for page in PAGES:
        for target in re.findall(r"<([^<>\s]+)>`_", page.read_text(encoding="utf-8")):
            assert (page.parent / target).is_file(), f"{page.name} leads to {target}"


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
        files = r"(?:rst|py|toml|typed)\b"
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


def options() -> list[click.Option]:
    """The options of all commands."""
    return [
        item for command in commands(servomex_group) for item in command.params if isinstance(item, click.Option)
    ]


def commands(group: click.Group) -> Iterator[click.Command]:
    """Give the commands of a group, those of its groups among them."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield from commands(command) if isinstance(command, click.Group) else [command]


def test_every_option_and_variable_on_a_page_exists() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        known = {name for item in options() for name in item.opts} | {"--help", "--version"}
        assert {*re.findall(r"(?<![\w-])--[a-z]+", text)} <= known
        variables = {str(item.envvar) for item in options() if item.envvar} | {"SERVOMEX_PORT", "SERVOMEX_"}
        assert {*re.findall(r"(?<!_)\bSERVOMEX_[A-Z]*", text)} <= variables


def words_of(name: str) -> str:
    """The text of a page of docs."""
    return (ROOT / "docs" / f"{name}.rst").read_text(encoding="utf-8")


def test_the_commands_are_documented_completely() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in DOCS)
    assert [name for item in options() for name in item.opts if f"``{name}``" not in text] == []
    assert [column for column in servomex.ROW_COLUMNS if f"``{column}``" not in text] == []


def test_the_simulator_is_documented_completely() -> None:
    text = words_of("simulator")
    assert [name for name in faults.FAULT_NAMES if f"``{name}``" not in text] == []


def test_every_error_has_its_place_in_the_architecture() -> None:
    text = words_of("architecture")
    assert [name for name in vars(errors) if name.startswith("Servomex") and name not in text] == []


def test_modules_import_what_the_architecture_lets_them() -> None:
    row = re.compile(r"^    \* - (``.+\.py``)\n(?:      .*\n)*?      -(.*)\n(?=    \*|\n)", re.MULTILINE)
    rows = row.findall(words_of("architecture"))
    package = ROOT / "servomex"
    above: set[str] = set()
    for files, others in rows:
        for file in re.findall(r"``(.+?)``", files):
            found = set(_imports(package / file))
            allowed = above | {name for name in LIBRARIES if LIBRARIES[name] in others}
            assert found <= allowed, f"{file} imports {sorted(found - allowed)}"
            above.add(_module(file))
    assert {_module(path.relative_to(package).as_posix()) for path in package.rglob("*.py")} == above


LIBRARIES = {
    "attrs": "attrs", "click": "click", "pandas": "pandas", "pyarrow": "pyarrow", "pymodbus": "pymodbus",
    "serial": "pyserial",
}  # fmt: skip


def _module(file: str) -> str:
    return f"servomex.{file.removesuffix('.py').removesuffix('__init__')}".replace("/", ".").rstrip(".")


def _imports(file: Path) -> Iterator[str]:
    """Give what a module imports beside the standard library, wherever it does; not what its types alone need."""
    waiting: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        waiting += ast.iter_child_nodes(node)
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [item.name for item in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module in ("servomex", "servomex.cli"):
            names = [f"{node.module}.{item.name}" for item in node.names if item.name[0].islower()]
        for name in names:
            top = name.partition(".")[0]
            if top in LIBRARIES or top == "servomex":
                yield name if top == "servomex" else top
