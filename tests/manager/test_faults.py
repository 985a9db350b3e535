"""What goes wrong with several analysers: one dies, a port is lost, broadcasts stop, a caller is interrupted."""

import threading
import time
from typing import Any

import pytest

from servomex import (
    Analyzer,
    SerialLink,
    SerialSettings,
    ServomexFrameError,
    ServomexIllegalDataAddressError,
    ServomexManager,
    ServomexModbusError,
    ServomexTimeoutError,
)
from servomex.modbus.client import ModbusClient
from servomex.simulator import VirtualLine
from tests.helpers.managing import (
    RTU,
    failure,
    filled,
    heard,
    line_of,
    pause_of,
    silence,
    unanswered,
    unit,
    values,
)
from tests.helpers.threads import GENEROUS_S, in_thread

pytestmark = [pytest.mark.virtual_time, pytest.mark.usefixtures("short_waits")]


def test_a_dead_analyser_costs_the_others_its_timeout_once(manager: ServomexManager) -> None:
    line = filled(manager, line_of(1, 2, 3), timeout=0.4)
    first = silence(manager, line)
    del line.heard[:]
    started = time.monotonic()
    for _ in range(5):
        assert values(manager) == {"a1": None, "a2": 2.0, "a3": 3.0}
    assert time.monotonic() - started < 0.4 + 5 * 0.1
    assert heard(line, 1) == []
    later, again = failure(manager, "a1"), failure(manager, "a1")
    assert type(later) is type(first) is ServomexTimeoutError
    assert later is not again
    assert f"did not answer, and is asked again in 0.{int(str(later).split(' in 0.')[1][0])} s" in str(later)
    assert first.message in later.message
    assert (later.context.port, later.context.address) == (line.url, 1)


def test_a_dead_analyser_is_asked_after_pauses_that_grow(manager: ServomexManager) -> None:
    line = filled(manager, line_of(1))
    silence(manager, line)
    pauses = []
    for _ in range(8):
        pauses.append(pause_of(manager))
        manager.execute_each(unanswered)
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60], abs=0.5)


def test_a_dead_analyser_is_asked_for_little_until_it_answers(manager: ServomexManager) -> None:
    line = filled(manager, line_of(1, 2), retries=10)
    silence(manager, line)
    time.sleep(1.1)
    del line.heard[:]
    started = time.monotonic()
    assert values(manager, timeout=GENEROUS_S) == {"a1": None, "a2": 2.0}
    assert time.monotonic() - started < 1.0
    assert heard(line, 1)


def test_an_analyser_is_back_with_its_first_answer_and_its_pauses_start_over(manager: ServomexManager) -> None:
    line = filled(manager, line_of(1, 2))
    silence(manager, line)
    line.analysers[0].faults.silent = False
    time.sleep(1.1)
    assert values(manager) == {"a1": 1.0, "a2": 2.0}
    silence(manager, line)
    assert pause_of(manager) <= 1.0


@pytest.mark.usefixtures("short_question")
def test_the_short_question_leaves_enough_time_on_a_slow_line(manager: ServomexManager) -> None:
    line = VirtualLine(unit(1, "modbus_ascii"), baudrate=9600, pace=True)
    options = {**RTU, "protocol": "modbus_ascii", "channels": ["I1"]}
    manager.add("a1", line.url, serial_settings=SerialSettings(baudrate=9600), **options)
    silence(manager, line)
    line.analysers[0].faults.silent = False
    time.sleep(1.1)
    assert values(manager) == {"a1": 1.0}


@pytest.mark.usefixtures("short_question")
def test_the_short_question_leaves_enough_time_to_a_slow_analyser(manager: ServomexManager) -> None:
    line = filled(manager, line_of(1), channels=["I1"])
    line.analysers[0].faults.late = 0.1
    silence(manager, line)
    line.analysers[0].faults.silent = False
    time.sleep(1.1)
    assert values(manager) == {"a1": 1.0}


def test_an_analyser_that_refuses_is_alive(manager: ServomexManager) -> None:
    line = filled(manager, line_of(1, 2))
    manager.poll()
    line.analysers[0].largest_read = 0
    for _ in range(3):
        assert isinstance(failure(manager, "a1"), ServomexIllegalDataAddressError)
    assert values(manager, "a2") == {"a2": 2.0}


def test_a_refusal_is_an_answer_to_the_short_question_too(
    manager: ServomexManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = filled(manager, line_of(1))
    silence(manager, line)
    line.analysers[0].faults.silent = False
    monkeypatch.setattr(ModbusClient, "read_analyser", refusing)
    time.sleep(1.1)
    assert values(manager) == {"a1": 1.0}


def refusing(*_arguments: Any, **_options: Any) -> None:
    raise ServomexModbusError("refused")


def test_a_time_that_is_too_short_does_not_make_an_analyser_dead(manager: ServomexManager) -> None:
    line = filled(manager, line_of(1))
    manager.poll()
    for _ in range(3):
        assert isinstance(failure(manager, "a1", timeout=0.001), ServomexTimeoutError)
    assert values(manager) == {"a1": 1.0}
    failure(manager, "a1", timeout=0.001)
    line.analysers[0].faults.silent = True
    failure(manager, "a1", timeout=0.1)
    assert pause_of(manager) == pytest.approx(1.0, abs=0.3)


def test_damage_counts_as_no_answer_and_stays_damage(manager: ServomexManager) -> None:
    line = filled(manager, line_of(1), retries=0)
    manager.poll()
    line.analysers[0].faults.corrupt = 1.0
    assert isinstance(failure(manager, "a1"), ServomexFrameError)
    del line.heard[:]
    later = failure(manager, "a1")
    assert isinstance(later, ServomexFrameError)
    assert "asked again in" in str(later)
    assert line.heard == []


def test_an_answer_that_another_caller_got_counts(manager: ServomexManager) -> None:
    line = filled(manager, line_of(1))
    silence(manager, line)
    line.analysers[0].faults.silent = False
    assert "asked again in" in str(failure(manager, "a1"))
    manager.get("a1").poll(timeout=2)
    assert values(manager) == {"a1": 1.0}


def test_an_operation_is_carried_out_on_a_dead_analyser_and_shows_whether_it_is_back(
    manager: ServomexManager,
) -> None:
    line = filled(manager, line_of(1))
    silence(manager, line)
    assert manager.execute_each(lambda _analyzer: "done")["a1"].value == "done"
    assert "asked again in" in str(failure(manager, "a1")), "nothing was heard of it"
    line.analysers[0].faults.silent = False
    assert manager.execute_each(lambda analyzer: analyzer.status("I1", timeout=2))["a1"].ok
    assert values(manager) == {"a1": 1.0}


def test_an_operation_that_gets_no_answer_shows_that_an_analyser_is_dead(manager: ServomexManager) -> None:
    line = filled(manager, line_of(1, 2))
    manager.poll()
    line.analysers[0].faults.silent = True
    results = manager.execute_each(lambda analyzer: analyzer.status("I1", timeout=0.1))
    assert isinstance(results["a1"].error, ServomexTimeoutError)
    assert "asked again in" in str(failure(manager, "a1"))
    assert values(manager, "a2") == {"a2": 2.0}


def test_an_operation_that_fails_by_itself_says_nothing_about_the_analyser(manager: ServomexManager) -> None:
    filled(manager, line_of(1))

    def operation(_analyzer: Analyzer) -> None:
        raise ValueError

    manager.execute_each(operation)
    assert values(manager) == {"a1": 1.0}


def test_a_port_that_others_keep_busy_is_not_a_dead_analyser(
    manager: ServomexManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servomex.manager.port.TURN_S", 0.05)
    line = line_of(1, 2)
    with SerialLink(line.url, gap=0.005) as link:
        for address in (1, 2):
            manager.add(f"a{address}", link, protocol="modbus_rtu", address=address, identify=False)
        with link.lock_held():
            results = in_thread(manager.poll).result(GENEROUS_S)
        for result in results.values():
            assert isinstance(result.error, ServomexTimeoutError)
            assert "kept the port busy" in str(result.error)
        assert values(manager) == {"a1": 1.0, "a2": 2.0}


def test_waiting_for_others_on_the_port_takes_nothing_from_the_timeout(manager: ServomexManager) -> None:
    filled(manager, line_of(1, 2))
    manager.poll()
    link = manager.get("a1").link
    begun, ended = threading.Event(), threading.Event()

    def busy() -> None:
        while not ended.is_set():
            with link.lock_held():
                begun.set()
                ended.wait(0.25)

    other = in_thread(busy)
    assert begun.wait(GENEROUS_S)
    assert values(manager, timeout=0.2) == {"a1": 1.0, "a2": 2.0}
    ended.set()
    other.result(GENEROUS_S)
