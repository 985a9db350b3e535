"""Every import is one that the page on modules allows: none upwards, so no circle; no package without its row."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import servomex

PACKAGE = Path(servomex.__file__).parent
PAGE = PACKAGE.parent / "docs" / "explanation" / "modules.rst"
TEXT = PAGE.read_text(encoding="utf-8")

FLOORS = [line.partition("|")[0].split() for line in re.findall(r"^    (\w[\w ]*\|.*)$", TEXT, re.MULTILINE)][::-1]
"""The folders and files of each floor, the lowest floor first."""

ROWS: dict[str, set[str]] = {
    file: set(packages.replace(",", " ").split())
    for file, packages in re.findall(r"^    ``(\S+\.py)`` \|[^|\n]*\|?(.*)$", TEXT, re.MULTILINE)
}
"""The packages that each file may use, in the order of the page: in a folder, from the bottom to the top."""

PACKAGE_OF = {"serial": "pyserial"}


def file_of(parts: list[str]) -> str | None:
    """Return the file of ``servomex.a.b``, as the page names it."""
    path = PACKAGE.joinpath(*parts)
    found = [one for one in (path.with_suffix(".py"), path / "__init__.py") if parts and one.is_file()]
    return found[0].relative_to(PACKAGE).as_posix() if found else None


def imported(file: Path) -> Iterator[str]:
    """Yield the full name of everything that a file imports, wherever it does so and whatever for."""
    package = ["servomex", *file.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (item.name for item in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("import_module", "__import__"):
            texts = [getattr(one, "value", None) for one in node.args]
            yield from (text for text in texts if isinstance(text, str))
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{item.name}" for item in node.names)


def code_of(file: Path) -> str:
    """Return a file without its comments and texts."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            node.value = ""
    return ast.unparse(tree)


def passed_on(file: Path) -> Iterator[str]:
    """Yield the modules in the table of a folder that passes their names on."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "hand_on" and len(node.args) > 1:
            table = node.args[1]
            assert isinstance(table, ast.Dict) or file.parent == PACKAGE, f"{file} has no table that can be read"
            if isinstance(table, ast.Dict):
                yield from (ast.literal_eval(key) for key in table.keys if key)


def ours_of(file: Path) -> set[str]:
    """Return the files of the package that a file imports."""
    names = [name.split(".")[1:] for name in imported(file) if name.partition(".")[0] == "servomex"]
    return {file_of(name) or file_of(name[:-1]) or "__init__.py" for name in names}


def place_of(file: str) -> tuple[int, int]:
    """Return the floor of a file, and its place among the files of its folder."""
    entry = file.partition("/")[0].removesuffix(".py")
    (floor,) = [number for number, entries in enumerate(FLOORS) if entry in entries]
    return floor, [*ROWS].index(file) if file in ROWS else -1


def is_upwards(file: str, other: str) -> bool:
    """Return whether a file imports one that is neither below it nor above it in the table of their folder."""
    folder, its = file.partition("/")[0], other.partition("/")[0]
    (floor, place), (its_floor, its_place) = place_of(file), place_of(other)
    return its_place >= place if folder == its else its_floor >= floor


def test_the_page_names_each_file_once() -> None:
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    silent = {name for name, path in files.items() if path.name == "__init__.py" and not [*imported(path)]}
    assert {*files} - silent - {*ROWS} == set(), "without a row"
    assert {*ROWS} - {*files} == set(), "without a file"
    assert len(re.findall(r"^    ``\S+\.py`` \|", TEXT, re.MULTILINE)) == len(ROWS)


def test_the_tree_and_the_floors_hold_what_the_package_holds() -> None:
    entries = sorted({path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")})
    assert sorted(entry for floor in FLOORS for entry in floor) == entries
    assert sorted(re.findall(r"^      (\w+)(?:/|\.py) ", TEXT, re.MULTILINE)) == entries


def test_no_file_imports_one_of_its_own_floor_or_above() -> None:
    upwards = {
        (file, other)
        for file in (path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
        for other in ours_of(PACKAGE / file)
        if is_upwards(file, other)
    }
    assert upwards == set()


def test_no_folder_imports_its_own_modules_before_they_are_used() -> None:
    eager = set()
    for file in PACKAGE.rglob("__init__.py"):
        statements = ast.parse(file.read_text(encoding="utf-8")).body
        names = [node.module or "" for node in statements if isinstance(node, ast.ImportFrom)]
        folder = file.parent.relative_to(PACKAGE.parent).as_posix().replace("/", ".")
        names += [item.name for node in statements if isinstance(node, ast.Import) for item in node.names]
        if any(f"{name}.".startswith(f"{folder}.") for name in names):
            eager.add(folder)
    assert eager == set(), "threads that import such a folder and its modules can wait for each other forever"


def test_each_file_uses_the_packages_that_its_row_names() -> None:
    for file, packages in ROWS.items():
        names = {name.partition(".")[0] for name in imported(PACKAGE / file)} - {
            *sys.stdlib_module_names,
            "servomex",
        }
        assert {PACKAGE_OF.get(name, name) for name in names} == packages, file


def test_a_folder_passes_on_names_of_its_own_modules_only() -> None:
    for file in PACKAGE.rglob("__init__.py"):
        for module in passed_on(file):
            assert file_of([*file.parent.relative_to(PACKAGE).parts, *module.split(".")]), f"{file}: {module}"


def test_no_file_below_the_package_uses_the_names_that_the_package_passes_on() -> None:
    users = set()
    for path in PACKAGE.rglob("*.py"):
        file = path.relative_to(PACKAGE).as_posix()
        if file != "__init__.py" and is_upwards(file, "__init__.py"):
            used = re.findall(r"\bservomex\.([A-Za-z_]+)", code_of(path))
            users |= {(file, name) for name in used if file_of([name]) is None}
    assert users == set()
