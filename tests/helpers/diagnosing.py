"""What the commands of ``servomex diag`` write."""

import json
from typing import Any

from servomex.cli.diag.command import diag
from tests.helpers.commands import invoke

RTU = ("--protocol", "modbus_rtu", "--gap", "0.002")
CONTINUOUS = "sim://4100?mode=continuous&period=0.05"


def run(*args: str, code: int = 0) -> tuple[str, str]:
    """Run a command of the group: its stdout and its stderr."""
    result = invoke(*args, command=diag)
    assert result.exit_code == code, result.stderr
    return result.stdout, result.stderr


def found(*args: str) -> dict[str, Any]:
    """Run a command of the group and give the object that it writes."""
    stdout, stderr = run(*args, "--format", "json")
    assert (stdout.count("\n"), stderr) == (1, "")
    record: dict[str, Any] = json.loads(stdout)
    return record
