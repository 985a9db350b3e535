"""``servomex record`` on a terminal: the same screen, with its progress and the state of its files."""

import re
import signal
from pathlib import Path

from servomex import load
from tests.helpers.commands import FAST
from tests.helpers.platforms import needs_pty, needs_signals
from tests.helpers.screens import on_terminal

pytestmark = [needs_pty, needs_signals]

BACK = b"\x1b[?1049l"


def test_it_shows_readings_progress_and_files_and_reports_at_its_end(tmp_path: Path) -> None:
    run = tmp_path / "run.csv"
    args = ("record", "sim://4100", str(run), "--rate", "4", "--duration", "2s", *FAST)
    with on_terminal(*args) as terminal:
        text = terminal.shows("servomex record", "I1 Oxygen", "% done", "run.csv: ", " rows")
        assert text[0].startswith(" servomex record  all good")
        assert {style[0] for style in terminal.styles("servomex record")} == {"56d364"}
        assert terminal.end(None) == 0
        after = terminal.seen[terminal.seen.rindex(BACK) :]
        found = re.search(rb"(\d+) readings, 0 failed", after)
        assert found is not None, "it is written after the screen"
    assert len(list(load(run))) == int(found[1]) * 5


def test_warnings_that_the_screen_covers_are_written_after_it(tmp_path: Path) -> None:
    args = ("record", "sim://4100?fault=unplug:1.5", str(tmp_path / "run.csv"), "--rate", "8", *FAST)
    with on_terminal(*args, size=(120, 40)) as terminal:
        terminal.shows("is back after")
        assert terminal.end(signal.SIGINT) == 130
        after = terminal.seen[terminal.seen.rindex(BACK) :]
        assert after.count(b"readings fail from now on") == 1
        assert after.index(b"fail from now on") < after.index(b" is back after") < after.index(b"1 disconnect")


def test_a_terminal_that_cannot_be_drawn_on_has_a_line(tmp_path: Path) -> None:
    args = ("record", "sim://4100", str(tmp_path / "run.csv"), "--rate", "8", "--count", "12", *FAST)
    with on_terminal(*args, TERM="dumb") as terminal:
        assert terminal.end(None) == 0
        assert b"Recording" in terminal.seen
        assert BACK not in terminal.seen
