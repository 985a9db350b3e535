"""Install the one wheel of a folder in an empty environment and let it read a virtual analyser.

Usage: python tests/check_wheel.py FOLDER
"""

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

NEEDED = ("servomex/py.typed", "servomex/cli/read.py", "servomex/simulator/protocol_sim.py")


def main(folder: Path) -> None:
    """Check the wheel and the source archive in ``folder``."""
    (wheel,) = folder.glob("*.whl")
    (source,) = folder.glob("*.tar.gz")
    inside = set(zipfile.ZipFile(wheel).namelist())
    missing = [name for name in NEEDED if name not in inside]
    strangers = [name for name in inside if not name.startswith(("servomex/", "servomex-"))]
    if missing or strangers:
        sys.exit(f"the wheel lacks {missing} or holds {strangers}")
    with tarfile.open(source) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    if not {"tox.ini", "tests/conftest.py", "README.rst", "LICENSE", "docs/index.rst"} <= names:
        sys.exit("the source archive is not complete")
    with tempfile.TemporaryDirectory() as empty:
        venv.create(empty, with_pip=True)
        programs = Path(empty) / ("Scripts" if sys.platform == "win32" else "bin")
        python = str(programs / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True)
        for protocol in ("auto", "modbus_rtu", "modbus_ascii", "continuous"):
            mode = "modbus_rtu" if protocol == "auto" else protocol
            command = [
                str(programs / "servomex-read"),
                f"sim://4100?mode={mode}&period=0.5",
                "--protocol",
                protocol,
            ]
            shown = subprocess.run(command, check=True, cwd=empty, capture_output=True, encoding="utf-8")
            if "20.376" not in shown.stdout:
                sys.exit(f"{command} printed {shown.stdout!r}")
        print(shown.stdout, end="")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
