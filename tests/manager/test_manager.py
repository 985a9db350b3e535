"""Several analysers in one manager: what a call asks, in which thread, what it gives, and how it all ends."""

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from servomex import (
    Analyzer,
    DeviceResult,
    ErrorPolicy,
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexError,
    ServomexManager,
    ServomexTimeoutError,
    ServomexValidationError,
    open_device,
)
from servomex.simulator import VirtualLine
from tests.helpers.managing import RTU, filled, heard, is_free, line_of, unit, values, workers
from tests.helpers.threads import GENEROUS_S, in_thread
from tests.helpers.waiting import wait_until

pytestmark = [pytest.mark.virtual_time, pytest.mark.usefixtures("short_waits")]


def test_analysers_on_all_ports_are_read_and_come_in_the_order_in_which_they_were_added(
    manager: ServomexManager,
) -> None:
    lines = line_of(1, 2), line_of(3)
    for name, line, address in [("z", lines[0], 2), ("y", lines[1], 3), ("x", lines[0], 1)]:
        manager.add(name, line.url, address=address, **RTU)
    assert list(values(manager).items()) == [("z", 2.0), ("y", 3.0), ("x", 1.0)]
    assert manager.names == ("z", "y", "x")


def test_only_the_analysers_that_are_named_are_asked_each_once_and_in_that_order(manager: ServomexManager) -> None:
    line = filled(manager, line_of(1, 2, 3))
    manager.poll()
    del line.heard[:]
    assert list(values(manager, "a3", "a1", "a3")) == ["a3", "a1"]
    assert heard(line, 2) == []
    assert len(heard(line, 3)) == len(heard(line, 1))
    assert manager.poll(iter(["a2"]))["a2"].ok
    assert manager.poll([]) == {}


def test_a_name_that_is_not_there_is_an_error_that_lists_those_that_are(manager: ServomexManager) -> None:
    with pytest.raises(ServomexValidationError, match="there are none"):
        manager.get("a1")
    line = filled(manager, line_of(1, 2))
    del line.heard[:]
    calls: list[Callable[[], object]] = [
        lambda: manager.get("b"),
        lambda: manager.remove("b"),
        lambda: manager.poll(["a1", "b"]),
        lambda: manager.poll_samples(names=["b"]),
        lambda: manager.execute_each(Analyzer.snapshot, ["b"]),
    ]
    for call in calls:
        with pytest.raises(ServomexValidationError, match="no analyser 'b'; there are a1, a2"):
            call()
    with pytest.raises(ServomexValidationError, match="not 'a1'"):
        manager.poll("a1")
    with pytest.raises(ServomexValidationError, match="timeout"):
        manager.poll(timeout=0)
    assert line.heard == []


def test_samples_carry_the_name_of_their_analyser_and_an_error_takes_the_place_of_a_reading(
    manager: ServomexManager,
) -> None:
    line = filled(manager, line_of(1, 2))
    manager.poll()
    line.analysers[0].faults.silent = True
    before = time.monotonic_ns()
    lost, *rows = manager.poll_samples(timeout=0.15)
    assert [(row.device, row.channel) for row in rows] == [("a2", "I1"), ("a2", "E1"), ("a2", "E2")]
    assert (lost.device, lost.protocol, lost.reading) == ("a1", "modbus_rtu", None)
    assert lost.error is not None
    assert line.url in str(lost.error)
    assert before < lost.monotonic_ns <= time.monotonic_ns()
    assert lost.as_dict()["received_at"] is not None
    assert {row.device for row in manager.poll_samples(names=["a2"])} == {"a2"}
    assert manager.get("a2").poll_samples()[0].device == "a2"


def test_an_analyser_that_was_passed_in_keeps_its_own_name_and_gives_samples_under_the_managers() -> None:
    line = line_of(1)
    with open_device(line.url, protocol="modbus_rtu", gap=0.005) as analyzer, ServomexManager() as manager:
        assert manager.add("mine", analyzer) is analyzer
        assert manager.poll_samples()[0].device == "mine"
        assert analyzer.name == f"{line.url}:1"


def test_the_timeout_is_each_analysers_own_and_begins_with_its_turn(manager: ServomexManager) -> None:
    line = filled(manager, line_of(1, 2, 3))
    for analyser in line.analysers:
        analyser.faults.late = 0.04
    started = time.monotonic()
    assert values(manager, timeout=0.4) == {"a1": 1.0, "a2": 2.0, "a3": 3.0}
    assert time.monotonic() - started > 0.4


def test_ports_are_asked_at_the_same_time(manager: ServomexManager) -> None:
    lines = [filled(manager, line_of(number)) for number in range(1, 5)]
    manager.poll()
    for line in lines:
        line.analysers[0].faults.late = 0.06

    def seconds(*names: str) -> float:
        started = time.monotonic()
        assert None not in values(manager, *names).values()
        return time.monotonic() - started

    alone = [seconds(name) for name in manager.names]
    assert seconds() < 0.6 * sum(alone)


def test_a_round_of_eight_takes_the_time_of_its_bytes_and_little_more(manager: ServomexManager) -> None:
    line = filled(manager, line_of(*range(1, 9), pace=True, turnaround=0.01), channels=["I1"])
    started = time.monotonic()
    assert values(manager) == {f"a{number}": float(number) for number in range(1, 9)}
    took_s = time.monotonic() - started
    bound_s = 0.0
    for request in (request for number in range(1, 9) for _, request in heard(line, number)):
        count = int.from_bytes(request[4:6], "big")
        reply = {2: 5 + (count + 7) // 8, 4: 5 + 2 * count, 8: 8}[request[1]]
        bound_s += 0.005 + 0.01 + (len(request) + reply) * 10 / 19200
    assert bound_s > 0.5
    assert took_s < 1.25 * bound_s


def test_an_operation_is_carried_out_with_each_analyser_in_the_thread_of_its_port(
    manager: ServomexManager,
) -> None:
    first, second = filled(manager, line_of(1, 2)), filled(manager, line_of(3))

    def operation(analyzer: Analyzer) -> tuple[str, str]:
        return analyzer.name, threading.current_thread().name

    results = manager.execute_each(operation, ["a3", "a2"])
    assert results == {
        "a3": DeviceResult(("a3", f"servomex-port {second.url}"), name="a3"),
        "a2": DeviceResult(("a2", f"servomex-port {first.url}"), name="a2"),
    }


def test_what_an_operation_raises_is_its_result_and_kills_no_thread(manager: ServomexManager) -> None:
    filled(manager, line_of(1, 2))

    def operation(analyzer: Analyzer) -> float:
        return 1 / (analyzer.name != "a1")

    results = manager.execute_each(operation)
    assert isinstance(results["a1"].error, ZeroDivisionError)
    assert (results["a1"].ok, results["a1"].value) == (False, None)
    assert results["a2"] == DeviceResult(1.0, name="a2")
    assert values(manager) == {"a1": 1.0, "a2": 2.0}


def test_a_result_is_a_success_or_a_failure() -> None:
    trouble = ValueError("in the caller's own code")
    good, bad = DeviceResult.success(20.9), DeviceResult.failure(trouble)
    assert (good.value, good.error, good.name, good.ok) == (20.9, None, "", True)
    assert (bad.value, bad.error, bad.name, bad.ok) == (None, trouble, "", False)
    assert DeviceResult(20.9, None, "a1") == attrs.evolve(good, name="a1")
    assert DeviceResult.success(None).ok


@pytest.mark.parametrize("error", [None, "no reply", ValueError, KeyboardInterrupt()])
def test_a_failure_needs_an_exception(error: Any) -> None:
    with pytest.raises(ServomexValidationError, match=r"error must be an exception, not .*success"):
        DeviceResult.failure(error)


@pytest.mark.parametrize("policy", ErrorPolicy)
def test_an_operation_that_ends_the_program_ends_the_call_and_kills_no_thread(policy: ErrorPolicy) -> None:
    begun: list[str] = []

    def operation(analyzer: Analyzer) -> None:
        begun.append(analyzer.name)
        raise SystemExit(3)

    with ServomexManager(error_policy=policy) as manager:
        filled(manager, line_of(1, 2))
        with pytest.raises(SystemExit):
            manager.execute_each(operation)
        assert begun == ["a1"]
        assert values(manager) == {"a1": 1.0, "a2": 2.0}


def test_an_operation_that_calls_the_manager_is_refused_and_does_not_wait_for_itself(
    manager: ServomexManager,
) -> None:
    filled(manager, line_of(1))
    filled(manager, line_of(2))
    calls: list[Callable[[], object]] = [
        manager.poll,
        manager.poll_samples,
        manager.close,
        lambda: manager.remove("a2"),
        lambda: manager.add("a3", "sim://4100"),
        lambda: manager.execute_each(Analyzer.snapshot),
    ]
    for call in calls:
        result = in_thread(manager.execute_each, lambda _analyzer, call=call: call()).result(GENEROUS_S)
        for item in result.values():
            assert isinstance(item.error, ServomexConfigurationError), call
            assert "use the analyser passed to it" in str(item.error)
    assert manager.execute_each(lambda analyzer: manager.get("a1") is analyzer)["a1"].value is True


def test_raise_asks_all_first_and_raises_all_failures_with_the_names_of_their_analysers() -> None:
    with ServomexManager() as manager:
        assert manager.error_policy is ErrorPolicy.RAISE
        line, other = filled(manager, line_of(1, 2, 3)), filled(manager, line_of(4))
        manager.poll()
        for analyser in (line.analysers[0], other.analysers[0]):
            analyser.faults.silent = True
        del line.heard[:]
        with pytest.raises(ExceptionGroup, match="2 of 4 analysers failed: a1, a4") as caught:
            manager.poll(timeout=0.15)
        assert heard(line, 3), "not all were asked"
        for error, name, where in zip(caught.value.exceptions, ["a1", "a4"], [line, other], strict=True):
            assert isinstance(error, ServomexTimeoutError)
            assert error.context.extra == {"device": name}
            assert where.url in str(error)
            assert f", device {name}]" in str(error)
        with pytest.raises(ExceptionGroup, match="a1, a4"):
            manager.poll_samples(timeout=0.15)
        with pytest.raises(ExceptionGroup, match="a1, a2, a3, a4"):
            manager.execute_each(lambda analyzer: analyzer.read_channel("I4", timeout=0.1))
        assert manager.poll(["a2", "a3"])["a3"].ok


def test_return_gives_each_result_its_error(manager: ServomexManager) -> None:
    assert manager.error_policy == "return"
    line = filled(manager, line_of(1, 2))
    manager.poll()
    line.analysers[1].faults.silent = True
    good, bad = manager.poll(timeout=0.15).values()
    assert (good.name, good.ok, good.error) == ("a1", True, None)
    assert good.value is not None
    assert (bad.name, bad.ok, bad.value) == ("a2", False, None)
    assert isinstance(bad.error, ServomexTimeoutError)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ServomexValidationError, match="known are raise, return"):
        ServomexManager(error_policy="ignore")


def test_sixteen_threads_get_the_right_values_only(manager: ServomexManager) -> None:
    filled(manager, line_of(1, 2), channels=["I1"])
    filled(manager, line_of(3, 4), channels=["I1"])
    expected = {f"a{number}": float(number) for number in range(1, 5)}

    def rounds(number: int) -> bool:
        one = f"a{1 + number % 4}"
        asked = manager.execute_each(lambda analyzer: analyzer.read_channel("I1").value, [one])
        rows = manager.poll_samples(names=[one])
        return (
            values(manager) == expected
            and asked[one].value == expected[one] == rows[0].as_dict()["value"]
            and {row.device for row in rows} == {one}
        )

    assert all(future.result(30) for future in [in_thread(rounds, number) for number in range(16)])


@pytest.mark.real_time
def test_analysers_may_come_and_go_while_others_are_read(manager: ServomexManager) -> None:
    line, other = filled(manager, line_of(1, 2)), line_of(3)
    going = threading.Event()

    def coming_and_going() -> None:
        while not going.is_set():
            manager.add("a3", other.url, address=3, **RTU)
            manager.remove("a3")
            manager.remove("a2")
            manager.add("a2", line.url, address=2, **RTU)

    coming = in_thread(coming_and_going)
    for _ in range(8):
        results = manager.poll()
        assert results["a1"].value is not None
        for name, result in results.items():
            assert result.ok or isinstance(result.error, ServomexConnectionError), name
    going.set()
    coming.result(GENEROUS_S)
    assert values(manager) == {"a1": 1.0, "a2": 2.0}


def test_analysers_that_are_added_at_the_same_time_share_their_port(manager: ServomexManager) -> None:
    line = line_of(1, 2, 3)

    def add(address: int) -> Analyzer:
        return manager.add(f"a{address}", line.url, protocol="modbus_rtu", address=address, gap=0.005)

    added = [future.result(GENEROUS_S) for future in [in_thread(add, address) for address in (1, 2, 3)]]
    assert len({analyzer.link for analyzer in added}) == 1
    assert set(values(manager).values()) == {1.0, 2.0, 3.0}


def test_adding_an_analyser_that_is_waited_for_holds_up_no_call(manager: ServomexManager) -> None:
    filled(manager, line_of(1))
    silent = VirtualLine(unit(1, "continuous", period=0))
    adding = in_thread(manager.add, "late", silent.url, protocol="continuous", listen=0.3)
    for _ in range(2):
        assert values(manager) == {"a1": 1.0}
    assert not adding.done()
    with pytest.raises(ServomexTimeoutError):
        adding.result(GENEROUS_S)


def test_a_closed_manager_says_so_and_may_be_closed_again() -> None:
    manager = ServomexManager()
    assert not manager.closed
    line = filled(manager, line_of(1))
    assert repr(manager) == "<ServomexManager a1>"
    manager.close()
    manager.close()
    assert manager.closed
    assert manager.names == ()
    assert repr(manager) == "<ServomexManager closed>"
    assert is_free(line)
    calls: list[Callable[[], object]] = [
        manager.poll,
        manager.poll_samples,
        lambda: manager.get("a1"),
        lambda: manager.remove("a1"),
        lambda: manager.add("a1", line.url),
        lambda: manager.execute_each(Analyzer.snapshot),
    ]
    for call in calls:
        with pytest.raises(ServomexConnectionError, match="manager was closed"):
            call()


def test_a_forgotten_close_is_reported_and_made_up_for() -> None:
    line = line_of(1)

    def forget() -> None:
        filled(ServomexManager(), line)
        gc.collect()

    with pytest.warns(ResourceWarning, match="the manager of a1 was never closed"):
        forget()
    assert is_free(line)


def test_an_operation_that_does_not_come_back_is_reported_and_the_rest_is_closed() -> None:
    manager = ServomexManager()
    first, second = filled(manager, line_of(1, 3)), filled(manager, line_of(2))
    begun: list[str] = []
    go_on = threading.Event()

    def stuck(analyzer: Analyzer) -> None:
        begun.append(analyzer.name)
        go_on.wait(10 * GENEROUS_S)

    call = in_thread(manager.execute_each, stuck, ["a1", "a3"])
    wait_until(lambda: bool(begun))
    with pytest.raises(ServomexError, match="did not end"):
        manager.close()
    assert is_free(first)
    assert is_free(second)
    assert isinstance(call.exception(GENEROUS_S), ExceptionGroup)
    go_on.set()
    wait_until(lambda: workers() == [])
    assert begun == ["a1"]
