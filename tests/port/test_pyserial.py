"""Another module called ``serial`` is named when it hides pyserial."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT


def imported(folder: Path) -> str:
    """Import the package where a folder comes first, and return what stderr says at last."""
    program = "import sys; sys.path.insert(0, sys.argv[1]); import servomex; servomex.open_device"
    command = [sys.executable, "-c", program, str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    return ended.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("name", ["serial.py", "serial/__init__.py"])
def test_the_file_is_named_with_the_cure(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    place.parent.mkdir(exist_ok=True)
    place.write_text("VERSION = 1\n")
    assert imported(tmp_path) == (
        f"ImportError: {place} is imported as 'serial' and is not pyserial. Rename it if it is yours; if it is "
        "the package 'serial', run: python -m pip uninstall serial, then python -m pip install --force-reinstall "
        "pyserial"
    )


def test_a_folder_without_a_file_is_named_as_well(tmp_path: Path) -> None:
    (tmp_path / "serial" / "tools").mkdir(parents=True)
    (tmp_path / "serial" / "tools" / "list_ports.py").touch()
    program = (
        "import sys; sys.path[:] = [sys.argv[1], *(path for path in sys.path if 'site-packages' not in path)]; "
        "sys.path.append(sys.argv[2]); import servomex.port.pyserial"
    )
    command = [sys.executable, "-S", "-c", program, str(tmp_path), str(ROOT)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert f"ImportError: {tmp_path / 'serial'} is imported as 'serial'" in ended.stderr


def test_pyserial_that_is_missing_is_missing(tmp_path: Path) -> None:
    program = "import sys; sys.path.append(sys.argv[1]); import servomex.port.pyserial"
    command = [sys.executable, "-S", "-c", program, str(ROOT)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stderr.strip().endswith("ModuleNotFoundError: No module named 'serial'")
