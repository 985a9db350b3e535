"""Pages of ``servomex doctor`` on virtual lines, without waiting long."""

import json
import re
from typing import Any

import attrs
import pytest

from servomex.analyzer import modbus_mode
from servomex.checkup import elsewhere, losses
from servomex.checkup import examination as checkup
from servomex.checkup.examination import CHECKS
from servomex.cli.doctor import doctor
from servomex.discovery import survey
from servomex.modbus.line import ModbusLine
from servomex.port.link import SerialLink
from servomex.simulator import Faults, VirtualLine
from tests.helpers.commands import invoke
from tests.helpers.searching import wait_less

LISTEN_S = 0.12
SHORT = ("--listen", str(LISTEN_S), "--gap", "0.005")
"""For what is not there."""
PATIENT = ("--listen", "2", "--gap", "0.005")
"""For what is there: it is found in less, also by a computer that is busy."""
SILENT = Faults(silent=True)
PORT_CHECKS, LINE_CHECKS = CHECKS[:4], CHECKS[4:]


def examine_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less: a virtual analyser that is not paced answers at once."""
    wait_less(monkeypatch)
    for module in (survey, modbus_mode):
        monkeypatch.setattr(module, "OPENING_S", 1.0)
    monkeypatch.setattr(ModbusLine, "timing", attrs.evolve(ModbusLine.timing, first_guess_s=0.02))
    monkeypatch.setattr(checkup, "SNIFF_S", 0.05)
    monkeypatch.setattr(checkup, "GAP_REQUESTS", 3)
    monkeypatch.setattr(losses, "ANSWER_S", 0.15)
    monkeypatch.setattr(elsewhere, "ADDRESSES", range(1, 3))
    monkeypatch.setattr(elsewhere, "BAUDRATES", (9600, 19200))
    monkeypatch.setattr(elsewhere, "BROADCAST_S", 0.15)


@attrs.frozen
class Page:
    """What the command wrote as JSON, and how it ended."""

    record: dict[str, Any]
    code: int

    def __getitem__(self, check: str) -> tuple[str, str, str]:
        """Give verdict, what was seen, and cure of the only finding of a check."""
        (found,) = self.all(check)
        return found

    def all(self, check: str) -> list[tuple[str, str, str]]:
        found = [item for item in self.record["findings"] if item["check"] == check]
        return [(item["verdict"], item["seen"], item["cure"]) for item in found]

    @property
    def checks(self) -> list[str]:
        return list(dict.fromkeys(item["check"] for item in self.record["findings"]))

    def verdicts(self, *checks: str) -> set[str]:
        return {verdict for check in checks for verdict, _, _ in self.all(check)}


def page_of(port: str, *args: str) -> Page:
    result = invoke(port, "--format", "json", *args, command=doctor)
    assert (result.stdout.count("\n"), result.stderr) == (1, "")
    return Page(json.loads(result.stdout), result.exit_code)


def page(line: VirtualLine, *args: str) -> Page:
    """Examine a line; nothing but reads and loopbacks may be sent, and the port must be free again."""
    found = page_of(line.url, *PATIENT, *args)
    functions = {int(sent[3:5], 16) if sent.startswith(b":") else sent[1] for _, sent in line.heard}
    assert functions <= {1, 2, 4, 8}
    if line.plugged:
        with SerialLink(line.url):
            pass
    assert found.checks[: len(CHECKS)] == CHECKS
    return found


def check_problem(found: Page, check: str, seen: str, cure: str, code: int = 4) -> None:
    """Make sure that a page names one problem, with its cure, also as the thing to do first."""
    verdict, was_seen, its_cure = found[check]
    assert verdict == "PROBLEM", found
    assert re.fullmatch(seen, was_seen)
    assert its_cure == cure
    assert found.verdicts(*(name for name in CHECKS if name != check)) <= {"ok", "WARNING", "skipped"}
    assert found.code == code
    assert {key: found.record[key] for key in ("verdict", "check", "cure")} == {
        "verdict": "PROBLEM", "check": check, "cure": cure,
    }  # fmt: skip
