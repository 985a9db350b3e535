"""``servomex watch`` on a real terminal: what is on its screen, and that it is afterwards as it was."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from servomex.models.reading import ChannelStatus
from servomex.simulator import TcpServer, VirtualAnalyzer, VirtualChannel, VirtualLine, constant
from tests.helpers.commands import FAST
from tests.helpers.paths import ROOT
from tests.helpers.platforms import needs_pty, needs_signals
from tests.helpers.screens import on_terminal
from tests.helpers.waiting import wait_until

pytestmark = [needs_pty, needs_signals]

ALTERNATE, BACK = b"\x1b[?1049h", b"\x1b[?1049l"
HIDDEN, CURSOR = b"\x1b[?25l", b"\x1b[?25h"
RED, GREY = "ff6b60", "8b96a1"


@pytest.fixture
def analyser() -> VirtualAnalyzer:
    return VirtualAnalyzer([
        VirtualChannel("I1", "Oxygen", "%", constant(20.376)),
        VirtualChannel("I2", "CO", "vpm", constant(85.5), ChannelStatus(alarms=(False, True, False, False))),
        VirtualChannel("I3", "CO2", "%", constant(77.7), ChannelStatus(fault=True)),
    ])  # fmt: skip


@pytest.fixture
def port(analyser: VirtualAnalyzer) -> Iterator[str]:
    line = VirtualLine(analyser)
    with TcpServer(line) as server:
        yield server.port


def test_all_of_it_fits_a_usual_screen_and_ctrl_c_leaves_the_terminal_as_it_was(port: str) -> None:
    with on_terminal("watch", port, "--name", "mill", "--rate", "4", *FAST) as terminal:
        text = terminal.shows("Oxygen", "alarm 2 on")
        assert re.match(r" servomex  ALARM +\d\d:\d\d:\d\d UTC", text[0])
        assert text[1] == " I2 CO alarm 2  I3 CO2 fault"
        [oxygen] = [line for line in text if line.startswith(" I1 Oxygen")]
        assert re.match(r" I1 Oxygen +20\.376 +% +good +\.{8} +0\.\d s", oxygen)
        [co] = [line for line in text if line.startswith("!I2 CO")]
        assert co.index(".") == oxygen.index("."), "the points are below each other"
        assert ".....2.." in co
        [fault] = [line for line in text if line.startswith("!I3 CO2")]
        assert "77" not in fault, "a bad value is not shown"
        assert re.search(r" - +% +bad +F\.{7}", fault)
        assert {style[1:] for style in terminal.styles("I2 CO    ")} == {(True, True)}
        assert {style[0] for style in terminal.styles("I2 CO    ")} == {RED}
        assert ALTERNATE in terminal.seen
        assert terminal.end() == 0
        assert terminal.seen.rindex(BACK) > terminal.seen.rindex(ALTERNATE)
        assert terminal.seen.rindex(CURSOR) > terminal.seen.rindex(HIDDEN)
        assert terminal.seen.rstrip().endswith(b"stopped")


def test_a_silent_analyser_grows_old_turns_grey_and_is_back(port: str, analyser: VirtualAnalyzer) -> None:
    with on_terminal("watch", port, "--rate", "4", "--timeout", "0.4", "--retries", "0", *FAST) as terminal:
        terminal.shows("Oxygen")
        analyser.faults.silent = True
        terminal.shows("no readings", "stale")
        [style] = terminal.styles("I1 Oxygen")
        assert style == (GREY, False, False)
        assert {style[0] for style in terminal.styles("no readings for")} == {RED}
        wait_until(lambda: any(re.search(r"stale .* [2-9]\.\d s", line) for line in terminal.text))
        assert any(re.match(" I1 Oxygen +20.376 ", line) for line in terminal.text), (
            "the last value stays in sight"
        )
        analyser.faults.silent = False
        terminal.shows("is back after")


def test_it_follows_the_size_of_the_terminal(port: str) -> None:
    with on_terminal("watch", port, "--rate", "10", *FAST, size=(120, 40)) as terminal:
        assert "last 60" in terminal.shows("min", "max")[2]
        terminal.resize(40, 12)
        text = terminal.shows("!I2 CO", "!I3 CO2", ".....2..", "F.......")
        assert "min" not in text[2]
        terminal.resize(80, 24)
        assert "min" not in terminal.shows("last")[2]


def test_when_there_is_no_room_alarms_come_first_and_the_rest_is_counted(port: str) -> None:
    ports = (port, "sim://4100", "sim://moving")
    with on_terminal("watch", *ports, "--rate", "4", *FAST, size=(40, 12)) as terminal:
        terminal.shows("I3 CO2", "not shown", "!I2 CO")
        wait_until(lambda: sum(line.startswith("!") for line in terminal.text) == 3)  # the ports come one by one
        text = terminal.shows("not shown")
        assert any(re.match(r"\.\.\. \d+ more rows not shown", line) for line in text)


def test_without_colours_everything_is_in_words(port: str) -> None:
    with on_terminal("watch", port, "--rate", "4", *FAST, NO_COLOR="1") as terminal:
        terminal.shows("alarm 2", "bad", "ALARM")
        terminal.end()
        assert not re.search(rb"\x1b\[[0-9;]*(38;|48;|3[1-7]|4[1-7])", terminal.seen)


def test_a_terminal_that_cannot_be_drawn_on_gets_lines(port: str) -> None:
    with on_terminal("watch", port, "--rate", "4", *FAST, size=(120, 24), TERM="dumb") as terminal:
        terminal.shows("I1 Oxygen 20.376 % good", "ALARM I2 CO alarm 2 on")
        assert terminal.end() == 0
        assert b"\x1b" not in terminal.seen


def test_a_dead_port_is_shown_beside_one_that_works(port: str) -> None:
    with on_terminal("watch", port, "/dev/ttyNowhere", "--rate", "4", *FAST) as terminal:
        text = terminal.shows("no reading yet", "Oxygen")
        assert any("/dev/ttyNowhere  no reading yet" in line for line in text)
        assert terminal.end(signal.SIGTERM) == 143
        assert BACK in terminal.seen


def test_one_picture_stays_on_the_screen(port: str) -> None:
    with on_terminal("watch", port, "--once", *FAST) as terminal:
        assert terminal.end(None) == 0
        terminal.shows("I1 Oxygen", "20.376", "alarm 2")
        assert ALTERNATE not in terminal.seen


def test_it_ends_by_itself_after_its_duration(port: str) -> None:
    with on_terminal("watch", port, "--duration", "1s", *FAST) as terminal:
        assert terminal.end(None) == 0
        assert BACK in terminal.seen


def test_without_rich_there_are_lines_and_a_note_on_how_to_get_it(port: str, tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError('not here')\n")
    with on_terminal("watch", port, *FAST, size=(160, 24), PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}") as terminal:
        terminal.shows('pip install "servomex[tui]"', "I1 Oxygen 20.376 % good")
        assert terminal.end() == 0
        assert ALTERNATE not in terminal.seen
