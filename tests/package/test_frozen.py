"""Programs that PyInstaller has made one file of do what they did before, with no option for this package.

``tox -e frozen`` has PyInstaller. Freezing takes a minute.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from servomex import load
from servomex.cli import servomex_group
from servomex.simulator import TcpServer, VirtualAnalyzer, VirtualLine
from tests.helpers.pages import blocks_of
from tests.helpers.paths import ROOT
from tests.helpers.rfc2217_server import Rfc2217Server

pytest.importorskip("PyInstaller", reason="tox -e frozen has it")
pytestmark = pytest.mark.timeout(900)

PAGE = ROOT / "docs" / "howto" / "freezing.rst"
RUN_S = 60.0
LARGEST = 40_000_000
"""Bytes of a program without pyarrow and pandas, which tox -e frozen has as well."""

Frozen = Callable[..., "subprocess.CompletedProcess[str]"]


def freeze(source: Path, *options: str) -> Path:
    """Make a program of a script and return it."""
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", *options, str(source)]
    done = subprocess.run(
        command, cwd=source.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout[-5000:]
    name = source.stem + (".exe" if sys.platform == "win32" else "")
    return source.parent / "dist" / name if "-F" in options else source.parent / "dist" / source.stem / name


def runner(program: Path, folder: Path) -> Frozen:
    """Return what runs a program in a folder, without the settings of this Python and of the commands."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "SERVOMEX_"))}

    def run(*arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [str(program), *arguments], cwd=folder, env={**kept, "PYTHONUTF8": "1"}, capture_output=True,
            encoding="utf-8", timeout=RUN_S, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands, as the page shows how to freeze them."""
    folder = tmp_path_factory.mktemp("commands")
    (block,) = (block for block in blocks_of(PAGE) if "import main" in block.text)
    source = folder / "gas.py"
    source.write_text(block.text, encoding="utf-8")
    return freeze(source, "-F", "--exclude-module", "numpy", "--exclude-module", "PIL")


@pytest.fixture
def run(commands: Path, tmp_path: Path) -> Frozen:
    return runner(commands, tmp_path)


def test_a_program_reads_ports_of_every_kind(tmp_path: Path) -> None:
    source = tmp_path / "read_once.py"
    source.write_bytes((ROOT / "examples" / "read_once.py").read_bytes())
    read = runner(freeze(source, "-F"), tmp_path)
    assert "Oxygen: 20.376 %" in read("sim://4100").stdout
    with TcpServer(VirtualLine(VirtualAnalyzer())) as server:
        assert "Oxygen: 20.376 %" in read(server.port).stdout
    with Rfc2217Server(VirtualLine(VirtualAnalyzer())) as server:
        assert "Oxygen: 20.376 %" in read(server.port).stdout
    missing = read("hwgrep://no such adapter", code=1)
    assert "no port matches hwgrep://no such adapter" in missing.stderr


def test_the_commands_read(run: Frozen) -> None:
    assert "20.376" in run("read", "sim://4100").stdout
    assert "20.376" in run("read", "sim://4100?mode=continuous&period=0.3").stdout
    assert "verdict: ok" in run("doctor", "sim://4100").stdout


def test_every_command_is_there(run: Frozen) -> None:
    for name in servomex_group.list_commands(click.Context(servomex_group)):
        assert f"servomex {name}" in run(name, "--help").stdout


@pytest.mark.parametrize("name", ["run.csv", "run.csv.gz", "run.jsonl", "run.sqlite"])
def test_the_commands_record_and_what_they_wrote_is_read_back(name: str, run: Frozen, tmp_path: Path) -> None:
    run("record", "sim://4100", name, "--rate", "20", "--count", "5")
    rows = [sample.as_dict() for sample in load(tmp_path / name)]
    assert [row["value"] for row in rows if row["channel"] == "I1"] == [20.376] * 5
    run("convert", name, "again.csv")
    assert len(list(load(tmp_path / "again.csv"))) == 25


def test_a_program_that_does_not_need_them_has_no_pandas_and_no_pyarrow(run: Frozen, commands: Path) -> None:
    assert commands.stat().st_size < LARGEST
    done = run("record", "sim://4100", "run.parquet", "--count", "1", code=2)
    assert "Parquet files need pyarrow: add 'import pyarrow' to the program, and freeze it again" in done.stderr


def test_a_program_that_imports_pyarrow_records_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    source = tmp_path / "with_parquet.py"
    source.write_text("import pyarrow\nfrom servomex.cli import main\nmain()\n", encoding="utf-8")
    run = runner(freeze(source, "-D"), tmp_path)
    run("record", "sim://4100", "run.parquet", "--rate", "20", "--count", "5")
    run("convert", "run.parquet", "run.csv")
    assert len(list(load(tmp_path / "run.parquet"))) == len(list(load(tmp_path / "run.csv"))) == 25
