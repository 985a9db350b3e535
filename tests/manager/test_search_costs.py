"""Analysers that are searched for cost the others little, and the search ends at once."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from servomex import (
    ServomexConnectionError,
    ServomexManager,
)
from servomex.port import connection
from tests.helpers.managing import (
    MODES,
    SOON_S,
    added,
    failure,
    heard,
    is_free,
    line_in,
    line_of,
    read,
    silenced,
    unplugged,
    workers,
)
from tests.helpers.threads import GENEROUS_S, in_thread
from tests.helpers.waiting import seconds_until

pytestmark = pytest.mark.virtual_time


def test_one_that_is_off_costs_the_others_on_its_line_a_try_between_rounds_and_no_more(
    manager: ServomexManager,
) -> None:
    line = line_of(1, 2, pace=True)
    line.analysers[1].faults.silent = True
    manager.add("a1", line.url, protocol="modbus_rtu")
    alone = [_took(manager) for _ in range(20)]
    manager.add("a2", line.url, protocol="modbus_rtu", address=2, wait=False)
    manager.poll()
    rounds = [_took(manager) for _ in range(100)]
    assert max(rounds) < max(alone) + 0.6, "one try"
    assert sum(rounds) < 2 * 100 * max(alone), "half of the time"
    assert len(heard(line, 2)) <= 3 * (sum(rounds) / 0.7 + 1)


def test_many_that_are_off_leave_most_of_the_time_of_their_line_to_the_others(manager: ServomexManager) -> None:
    line = line_of(1, 2, 3, 4, 5, pace=True)
    manager.add("a1", line.url, protocol="modbus_rtu")
    alone = [_took(manager) for _ in range(20)]
    for number, analyser in enumerate(line.analysers[1:], 2):
        analyser.faults.silent = True
        manager.add(f"a{number}", line.url, protocol="modbus_rtu", address=number, wait=False)
    manager.poll()
    assert sum(_took(manager) for _ in range(60)) < 1.9 * 3 * sum(alone)


def _took(manager: ServomexManager) -> float:
    started = time.monotonic()
    assert manager.poll()["a1"].ok
    return time.monotonic() - started


def test_a_device_that_is_missing_costs_a_look_and_not_an_opening(
    manager: ServomexManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def counted(*_given: Any) -> Any:
        tried.append(time.monotonic())
        raise ServomexConnectionError("there is no port")

    monkeypatch.setattr(connection, "open_port", counted)
    manager.add("late", tmp_path / "ttyUSB0", protocol="modbus_rtu", wait=False)
    time.sleep(20)
    assert "not reached yet" in failure(manager, "late").message
    assert len(tried) == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["missing", "dead"])
@pytest.mark.parametrize("end", ["remove", "close"])
def test_the_search_ends_at_once_and_leaves_nothing_open(mode: str, how: str, end: str) -> None:
    line = line_in(mode, 3)
    (unplugged if how == "missing" else silenced)(line)
    with ServomexManager(error_policy="return") as manager:
        added(manager, "late", line, mode)
        time.sleep(1.234)
        started = time.monotonic()
        if end == "remove":
            manager.remove("late")
        else:
            manager.close()
        assert time.monotonic() - started < 0.5
        assert workers() == []
        line.plug()
        assert is_free(line)
    assert [item.name for item in threading.enumerate() if item.name.startswith("servomex-")] == []


def test_one_of_two_can_be_removed_while_they_are_searched_for(manager: ServomexManager) -> None:
    line = line_of(1, 2, pace=True)
    for analyser in line.analysers:
        analyser.faults.silent = True
    for address in (1, 2):
        manager.add(f"a{address}", line.url, address=address, wait=False)
    time.sleep(1.0)
    manager.remove("a1")
    assert manager.names == ("a2",)
    del line.heard[:]
    time.sleep(3.0)
    assert [item for item in heard(line, 1) if item[0] > line.heard[0][0] + 1.5] == []
    for analyser in line.analysers:
        analyser.faults.silent = False
    assert seconds_until(lambda: read(manager, "a2")) < SOON_S


def test_calls_of_other_threads_go_on_while_it_is_searched_for(manager: ServomexManager) -> None:
    good, dead = line_in("modbus_rtu", 1), silenced(line_in("auto modbus_rtu", 2))
    added(manager, "good", good, "modbus_rtu")
    added(manager, "dead", dead, "auto")
    manager.poll()
    calls = [in_thread(_took_of, manager) for _ in range(4)]
    assert max(call.result(GENEROUS_S) for call in calls) < 1.5


def _took_of(manager: ServomexManager) -> float:
    started = time.monotonic()
    assert manager.poll()["good"].ok
    return time.monotonic() - started
