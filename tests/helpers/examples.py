"""The examples, as programs and as modules."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

import servomex
from tests.helpers.paths import EXAMPLES

LONG_S = 100.0


def example(name: str) -> ModuleType:
    """Import an example."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def started(name: str, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
    """Start an example."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "MPLBACKEND": "Agg", "QT_QPA_PLATFORM": "offscreen"},
        **options,
    )


def run(name: str, *arguments: str, **options: Any) -> tuple[int, str, str]:
    """Run an example to its end; give its exit code and what it wrote."""
    with started(name, *arguments, **options) as process:
        try:
            out, err = process.communicate(timeout=LONG_S)
        finally:
            process.kill()
    return process.returncode, out, err


def servomex_program() -> str:
    """The command of this environment."""
    found = shutil.which("servomex", path=sysconfig.get_path("scripts"))
    assert found, "the package is not installed"
    return found


def recorded(arguments: list[str], port: str, folder: Path) -> list[servomex.Sample]:
    """Run ``servomex record`` as a service would, but for two readings of another port."""
    command = [servomex_program(), arguments[0], port, *arguments[2:], "--count", "2"]
    environment = {**os.environ, "SERVOMEX_PROTOCOL": "modbus_rtu"}
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=LONG_S, capture_output=True)
    return list(servomex.load(str(folder / "run-*.csv.gz")))
