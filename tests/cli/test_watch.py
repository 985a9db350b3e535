"""``servomex watch`` without a terminal, and what it refuses."""

import re

import pytest

from servomex.cli.watch import watch
from servomex.models.reading import ChannelStatus
from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.helpers.commands import FAST, invoke, line_with
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.virtual_time
NOWHERE = "/dev/ttyNowhere"


def test_each_reading_is_a_line_with_its_local_time(line: VirtualLine) -> None:
    result = invoke(line.url, "--name", "mill", "--channels", "I1", "--duration", "4s", *FAST, command=watch)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert len(lines) >= 3
    for text in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d mill: I1 Oxygen 20\.376 % good", text)


def test_states_are_in_words_and_bad_values_are_not_there() -> None:
    line = line_with(("I1", ChannelStatus(alarms=(False, True, False, False))), ("I2", ChannelStatus(fault=True)))
    result = invoke(line.url, "--once", *FAST, command=watch)
    assert result.exit_code == 0
    assert result.stdout.rstrip().endswith(
        "I1 gas 1.5 % good, alarm 2; I2 gas - bad, fault; E1 0.0 mA good; E2 0.0 mA good"
    )


def test_an_outage_is_a_line_when_it_begins_and_when_it_ends(line: VirtualLine, analyser: VirtualAnalyzer) -> None:
    args = ("sim://4100?fault=unplug:3", line.url, "--name", "a", "--name", "b", "--duration", "5s", *FAST)
    result = invoke(*args, command=watch)
    assert result.exit_code == 0
    assert len(re.findall(r" a: ALARM no readings: the port was lost", result.stdout)) == 1
    assert len(re.findall(r" a: NOTICE is back after \d+ s", result.stdout)) == 1
    assert " b: ALARM" not in result.stdout


def test_one_picture_has_the_exit_code_of_what_is_missing(line: VirtualLine) -> None:
    result = invoke(line.url, NOWHERE, "--once", "--channels", "I1", *FAST, command=watch)
    assert result.exit_code == 3
    assert "I1 Oxygen 20.376 % good" in result.stdout
    assert f" {NOWHERE}: no reading: " in result.stdout
    assert result.stderr == f"Error: no reading from {NOWHERE}\n"


def test_one_picture_of_a_silent_analyser_is_no_answer(line: VirtualLine, analyser: VirtualAnalyzer) -> None:
    analyser.faults.silent = True
    result = invoke(line.url, "--once", "--timeout", "0.5", "--listen", "1", *FAST, command=watch)
    assert result.exit_code == 4
    assert result.stderr == f"Error: no reading from {line.url}\n"


@pytest.mark.parametrize(("args", "said"), [
    ((), "PORT"),
    (("sim://4100", "sim://4100"), "A port is given twice"),
    (("sim://4100", "--name", "a", "--name", "b"), "--name for each PORT"),
    (("sim://4100", "sim://moving", "--name", "a", "--name", "a"), "--name for each PORT"),
    (("sim://4100", "--rate", "1", "--every", "1s"), "cannot be combined"),
    (("sim://4100", "--trace", "x"), "--trace"),
])  # fmt: skip
def test_wrong_usage_is_named(args: tuple[str, ...], said: str) -> None:
    result = invoke(*args, command=watch)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_tags_and_names_are_those_of_the_samples(line: VirtualLine, monkeypatch: pytest.MonkeyPatch) -> None:
    from servomex.views.board import Board

    seen: list[tuple[str, str]] = []
    take = Board.take

    def taken(board: Board, samples: list) -> object:  # type: ignore[type-arg]
        seen.extend((item.device, item.metadata.get("site", "")) for item in samples)
        return take(board, samples)

    monkeypatch.setattr(Board, "take", taken)
    args = ("--name", "mill", "--tag", "site=north", "--once", *FAST)
    assert invoke(line.url, *args, command=watch).exit_code == 0
    wait_until(lambda: ("mill", "north") in seen)
