"""A manager whose port is lost, whose broadcasts stop, and whose calls are interrupted or outlive it."""

import _thread
import threading
import time

import pytest

from servomex import (
    Analyzer,
    SerialLink,
    SerialSettings,
    ServomexConnectionError,
    ServomexManager,
    ServomexStaleError,
    open_device,
)
from servomex.manager.port import SharedPort
from servomex.manager.rounds import Round
from servomex.port import connection
from servomex.port.connect import open_port
from servomex.port.reopening import Pauses
from servomex.simulator import VirtualLine
from tests.helpers.managing import (
    failure,
    filled,
    heard,
    is_free,
    line_of,
    pause_of,
    silence,
    unanswered,
    unit,
    values,
)
from tests.helpers.threads import GENEROUS_S, in_thread
from tests.helpers.waiting import wait_until

pytestmark = [pytest.mark.virtual_time, pytest.mark.usefixtures("short_waits")]


def test_the_analysers_of_a_lost_port_fail_at_once_and_are_read_as_soon_as_it_is_back(
    manager: ServomexManager,
) -> None:
    line, other = filled(manager, line_of(1, 2)), filled(manager, line_of(3))
    manager.poll()
    line.unplug()
    for _ in range(3):
        started = time.monotonic()
        results = manager.poll(timeout=GENEROUS_S)
        assert time.monotonic() - started < 1.0
        assert isinstance(results["a1"].error, ServomexConnectionError)
        assert isinstance(results["a2"].error, ServomexConnectionError)
        assert results["a1"].error is not results["a2"].error
        assert results["a3"].ok
    line.plug()
    wait_until(lambda: manager.poll(["a2"])["a2"].ok)
    assert values(manager) == {"a1": 1.0, "a2": 2.0, "a3": 3.0}
    assert other.heard


def test_an_analyser_that_was_dead_before_its_port_was_lost_is_read_when_that_is_back(
    manager: ServomexManager,
) -> None:
    line = filled(manager, line_of(1, 2))
    silence(manager, line)
    while pause_of(manager) < 30:
        manager.execute_each(unanswered, ["a1"])
    line.unplug()
    line.analysers[0].faults.silent = False
    wait_until(lambda: isinstance(failure(manager, "a2"), ServomexConnectionError))
    line.plug()
    wait_until(lambda: manager.poll(["a2"])["a2"].ok)
    assert values(manager) == {"a1": 1.0, "a2": 2.0}


def test_the_pauses_start_over_on_a_port_that_is_back(
    manager: ServomexManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SerialLink, "pauses", Pauses(0.05, 0.1))
    line = filled(manager, line_of(1, 2))
    silence(manager, line)
    for _ in range(3):
        manager.execute_each(unanswered, ["a1"])
    assert pause_of(manager) > 5
    line.unplug()
    wait_until(lambda: isinstance(failure(manager, "a2"), ServomexConnectionError))
    line.plug()
    wait_until(lambda: manager.poll(["a2"])["a2"].ok)
    assert "no reply" in failure(manager, "a1", timeout=0.3).message
    assert pause_of(manager) <= 1.0


def test_a_host_that_takes_long_to_fail_holds_up_no_round(
    manager: ServomexManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a network address does whose host is off: it may take five seconds to fail."""
    line = filled(manager, line_of(1, 2, 3))
    manager.poll()
    go_on = threading.Event()

    def slow(port: str, settings: SerialSettings) -> object:
        go_on.wait(10)
        return open_port(port, settings)

    monkeypatch.setattr(connection, "open_port", slow)
    line.unplug()
    line.plug()
    manager.poll()
    time.sleep(0.15)
    started = time.monotonic()
    for _ in range(3):
        assert set(values(manager, timeout=GENEROUS_S).values()) == {None}
    assert time.monotonic() - started < 3 * 0.3
    go_on.set()
    wait_until(lambda: manager.poll(["a1"])["a1"].ok)
    assert values(manager) == {"a1": 1.0, "a2": 2.0, "a3": 3.0}


def test_an_analyser_that_its_user_has_closed_is_not_called_dead(manager: ServomexManager) -> None:
    line = line_of(1)
    with SerialLink(line.url) as link:
        with open_device(link, protocol="modbus_rtu", identify=False) as analyzer:
            manager.add("mine", analyzer)
        for _ in range(2):
            assert failure(manager, "mine").message == "the analyser was closed"


def test_an_operation_is_carried_out_on_a_lost_port(manager: ServomexManager) -> None:
    line = filled(manager, line_of(1))
    manager.poll()
    line.unplug()
    manager.poll()
    assert manager.execute_each(Analyzer.snapshot)["a1"].value is not None


def test_a_silent_continuous_analyser_costs_its_timeout_once_until_it_is_heard_again(
    manager: ServomexManager,
) -> None:
    line = VirtualLine(unit(1, "continuous"))
    manager.add("loud", line.url, protocol="continuous", timeout=0.2)
    analyzer = manager.get("loud")
    wait_until(lambda: analyzer.poll(wait_fresh=True).ok and analyzer.period_s is not None)
    assert manager.poll()["loud"].ok
    line.analysers[0].faults.silent = True
    time.sleep(0.15)
    started = time.monotonic()
    assert isinstance(failure(manager, "loud"), ServomexStaleError)
    assert time.monotonic() - started > 0.15
    for _ in range(3):
        assert isinstance(failure(manager, "loud"), ServomexStaleError)
    assert time.monotonic() - started < 0.5
    line.analysers[0].faults.silent = False
    wait_until(lambda: manager.poll(["loud"])["loud"].ok)
    line.analysers[0].faults.silent = True
    time.sleep(0.15)
    started = time.monotonic()
    failure(manager, "loud")
    assert time.monotonic() - started > 0.15, "it is waited for again"


def test_ctrl_c_ends_the_call_begins_with_nothing_more_and_leaves_all_usable(manager: ServomexManager) -> None:
    filled(manager, line_of(1, 2))
    begun: list[str] = []
    go_on = threading.Event()

    def operation(analyzer: Analyzer) -> None:
        begun.append(analyzer.name)
        _thread.interrupt_main()
        go_on.wait(GENEROUS_S)

    with pytest.raises(KeyboardInterrupt):
        manager.execute_each(operation)
    go_on.set()
    assert values(manager) == {"a1": 1.0, "a2": 2.0}
    assert begun == ["a1"]
    filled(manager, line_of(3))
    manager.remove("a1")
    assert values(manager) == {"a2": 2.0, "a3": 3.0}


@pytest.mark.parametrize("foreign", [False, True], ids=["its own port", "a link that was passed in"])
def test_closing_ends_the_calls_that_wait(foreign: bool) -> None:
    line = line_of(1, 2)
    with SerialLink(line.url) as link:
        if not foreign:
            link.close()
        manager = ServomexManager(error_policy="return")
        for address in (1, 2):
            source = link if foreign else line.url
            manager.add(f"a{address}", source, protocol="modbus_rtu", address=address, identify=False)
            line.analysers[address - 1].faults.silent = True
        calls = [in_thread(manager.poll, timeout=0.6) for _ in range(3)]
        wait_until(lambda: bool(line.heard))
        started = time.monotonic()
        closing = in_thread(manager.close)
        for call in calls:
            for result in call.result(GENEROUS_S).values():
                assert isinstance(result.error, ServomexConnectionError)
        assert time.monotonic() - started < 0.5
        closing.result(GENEROUS_S)
        assert link.is_open is foreign


def test_a_call_that_comes_while_a_port_is_closed_ends_too() -> None:
    line = line_of(1)
    port = SharedPort(SerialLink(line.url), owned=True)
    port.start()
    port.close()
    turn = port.submit(Round(lambda _member: None, reads=True), [])
    in_thread(turn.wait).result(GENEROUS_S)


def test_closing_ends_an_opening_that_waits_for_its_analyser() -> None:
    manager = ServomexManager()
    line = VirtualLine(unit(1, "continuous", period=0))
    adding = in_thread(manager.add, "a", line.url)
    wait_until(lambda: bool(line.heard) or not is_free(line))
    threading.Event().wait(0.1)
    started = time.monotonic()
    manager.close()
    assert isinstance(adding.exception(GENEROUS_S), ServomexConnectionError)
    assert time.monotonic() - started < 2.0
    assert manager.names == ()
    assert is_free(line)


def test_an_analyser_that_is_removed_while_a_call_waits_is_not_asked_any_more(manager: ServomexManager) -> None:
    line = filled(manager, line_of(1, 2))
    begun, go_on = threading.Event(), threading.Event()

    def operation(analyzer: Analyzer) -> str:
        begun.set()
        go_on.wait(GENEROUS_S)
        return analyzer.name

    call = in_thread(manager.execute_each, operation)
    assert begun.wait(GENEROUS_S)
    manager.remove("a2")
    go_on.set()
    results = call.result(GENEROUS_S)
    assert results["a1"].value == "a1"
    assert isinstance(results["a2"].error, ServomexConnectionError)
    assert "removed" in str(results["a2"].error)
    assert heard(line, 2) == []
