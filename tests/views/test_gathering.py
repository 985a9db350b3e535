"""Gathering reads each analyser by itself, passes everything on, and leaves no thread."""

import threading
from collections.abc import Iterator

import pytest

from servomex import ServomexManager
from servomex.errors import ServomexError
from servomex.models.sample import Sample
from servomex.recording.recording import Recording
from servomex.runtime.clock import time
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.views import Board, Gathering
from tests.helpers.managing import RTU
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def manager() -> Iterator[ServomexManager]:
    with ServomexManager() as manager:
        yield manager


def threads() -> list[str]:
    return [item.name for item in threading.enumerate() if item.name.startswith("servomex-gathering")]


def watched(manager: ServomexManager, **lines: VirtualLine) -> tuple[Board, Gathering]:
    board = Board()
    for name, line in lines.items():
        manager.add(name, line.url, wait=False, **RTU)
    gathering = Gathering(manager, 5.0, board.take)
    for name, line in lines.items():
        board.add(name, line.url, lambda name=name: gathering.figures(name))  # type: ignore[misc]
    return board, gathering


def test_a_line_that_falls_silent_is_stale_and_the_other_is_not(manager: ServomexManager) -> None:
    quiet, lively = VirtualAnalyzer(), VirtualAnalyzer()
    board, gathering = watched(manager, quiet=VirtualLine(quiet), lively=VirtualLine(lively))
    with gathering:
        wait_until(lambda: all(not view.stale for view in board.view()))
        quiet.faults.silent = True
        wait_until(lambda: board.view()[0].stale)
        assert not board.view()[1].stale
        assert board.view()[0].channels[0].word == "stale"
        quiet.faults.silent = False
        wait_until(lambda: not board.view()[0].stale)
    assert [event.over for event in board.events() if event.kind == "lost" and event.device == "quiet"][-2:] == [
        False, True,
    ]  # fmt: skip
    assert threads() == []


def test_the_figures_say_how_it_is_read(manager: ServomexManager) -> None:
    board, gathering = watched(manager, a=VirtualLine(VirtualAnalyzer()))
    assert gathering.figures("a").rate_hz == 5.0
    with gathering:
        wait_until(lambda: not board.view()[0].stale)
        shown = board.view()[0].figures
    assert (shown.mode, shown.rate_hz, shown.period_s) == ("modbus_rtu, address 1", 5.0, None)
    assert shown.summary.samples_emitted > 0


def test_an_analyser_may_come_and_go_while_others_are_read(manager: ServomexManager) -> None:
    taken: list[Sample] = []
    lines = [VirtualLine(VirtualAnalyzer()) for _ in range(2)]
    manager.add("a", lines[0].url, **RTU)
    with Gathering(manager, 5.0, taken.extend) as gathering:
        manager.add("b", lines[1].url, **RTU)
        gathering.add("b", 5.0)
        wait_until(lambda: {"a", "b"} <= {item.device for item in taken})
        gathering.remove("b")
        assert threads() == ["servomex-gathering a"]
    gathering.close()
    assert threads() == []


def test_all_threads_end_also_when_one_reading_does_not(
    manager: ServomexManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    close = Recording.close

    def stubborn(recording: Recording) -> None:
        close(recording)
        ended.append(str(recording.names))
        raise ServomexError("the thread did not end")

    lines = {name: VirtualLine(VirtualAnalyzer()) for name in ("a", "b")}
    for name, line in lines.items():
        manager.add(name, line.url, **RTU)
    gathering = Gathering(manager, 5.0, lambda _: None).start()
    time.sleep(0.5)
    monkeypatch.setattr(Recording, "close", stubborn)
    with pytest.raises(ServomexError, match="did not end"):
        gathering.close()
    monkeypatch.undo()
    assert len(ended) == 2
    assert threads() == []
