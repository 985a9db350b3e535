"""Check what ``python -m build`` has made, install the wheel in an empty environment and read a virtual analyser.

Usage: python tests/package/check_wheel.py BUILT FROM_TREE

BUILT is a folder with a source archive and the wheel that was built from it, FROM_TREE one with a wheel that was
built without the archive. Both wheels must be the same.
"""

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
IN_SOURCE = (
    ".ci", ".github", ".pre-commit-config.yaml", "CHANGELOG.rst", "CITATION.cff", "CONTRIBUTING.rst", "LICENSE",
    "README.rst", "SECURITY.rst", "changes", "docs", "examples", "pyproject.toml", "servomex", "tests", "tox.ini",
)  # fmt: skip
"""What the source archive has, folders with all their files."""
ABOUT_WHEEL = {
    "METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE",
    "licenses/servomex/views/assets/uPlot.LICENSE.txt",
}  # fmt: skip
LEFT_BY_TOOLS = {"__pycache__", "_build", ".hypothesis"}


def main(built: Path, from_tree: Path) -> None:
    """Check the wheels and the source archive of two folders."""
    (wheel,), (source,), (other,) = built.glob("*.whl"), built.glob("*.tar.gz"), from_tree.glob("*.whl")
    problems = [*wrong_in_wheel(wheel), *wrong_in_source(source), *differences(wheel, other)]
    if problems:
        sys.exit("\n".join(problems))
    print(f"{wheel.name}: {len(members(wheel))} files, the same from the source archive and from the tree")
    use(wheel)


def members(wheel: Path) -> dict[str, bytes]:
    """Give the files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def files_of(*names: str) -> set[str]:
    """Give the files of the tree that these are, or that are in these folders."""
    found = {path for name in names for path in (ROOT / name, *(ROOT / name).rglob("*")) if path.is_file()}
    return {path.relative_to(ROOT).as_posix() for path in found if not LEFT_BY_TOOLS & {*path.parts}}


def wrong_in_wheel(wheel: Path) -> Iterator[str]:
    """Compare the wheel with the package: it has all of that, what tells about it, and nothing else."""
    name, version, *_ = wheel.name.split("-")
    wanted = files_of("servomex") | {f"{name}-{version}.dist-info/{item}" for item in ABOUT_WHEEL}
    yield from unequal(wheel.name, wanted, set(members(wheel)))


def wrong_in_source(source: Path) -> Iterator[str]:
    """Compare the source archive with the tree."""
    with tarfile.open(source) as archive:
        found = {item.name.partition("/")[2] for item in archive.getmembers() if item.isfile()}
    wanted = files_of(*IN_SOURCE)
    for name in IN_SOURCE:
        if not files_of(name):
            yield f"the tree has no {name}"
    yield from unequal(source.name, wanted, found - {".gitignore", "PKG-INFO"})


def differences(one: Path, other: Path) -> Iterator[str]:
    """Compare two wheels, byte by byte."""
    first, second = members(one), members(other)
    yield from unequal(f"{other} (compared with {one})", set(first), set(second))
    for name in sorted(first.keys() & second.keys()):
        if first[name] != second[name]:
            yield f"{name} is not the same in {one} and in {other}"


def unequal(where: str, wanted: set[str], found: set[str]) -> Iterator[str]:
    """Tell which files are missing, and which should not be there."""
    if wanted - found:
        yield f"{where} lacks {sorted(wanted - found)}"
    if found - wanted:
        yield f"{where} holds {sorted(found - wanted)}"


def use(wheel: Path) -> None:
    """Install a wheel in an empty environment and read a virtual analyser in each mode."""
    with tempfile.TemporaryDirectory() as empty:
        venv.create(empty, with_pip=True)
        programs = Path(empty) / ("Scripts" if sys.platform == "win32" else "bin")
        pip = [str(programs / "python"), "-m", "pip"]
        subprocess.run([*pip, "install", "--quiet", str(wheel)], check=True)
        subprocess.run([*pip, "check"], check=True)
        for protocol in ("auto", "modbus_rtu", "modbus_ascii", "continuous"):
            mode = "modbus_rtu" if protocol == "auto" else protocol
            url = f"sim://4100?mode={mode}&period=0.5"
            command = [str(programs / "servomex-read"), url, "--protocol", protocol]
            shown = subprocess.run(command, check=True, cwd=empty, capture_output=True, encoding="utf-8")
            if "20.376" not in shown.stdout:
                sys.exit(f"{command} printed {shown.stdout!r}")
        print(shown.stdout, end="")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
