"""Analysers that are added without waiting: they start nothing late, and are read soon after they appear."""

import logging
import time
from typing import Any

import pytest

from servomex import (
    Recorder,
    SerialLink,
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexForeignDeviceError,
    ServomexManager,
    ServomexTimeoutError,
    ServomexValidationError,
    record,
)
from servomex.simulator import ForeignInstrument, VirtualLine
from servomex.sinks import InMemorySink
from tests.helpers.managing import (
    MODES,
    SOON_S,
    added,
    failure,
    line_in,
    line_of,
    read,
    silenced,
    unit,
    unplugged,
    values,
    workers,
)
from tests.helpers.waiting import seconds_until, wait_until

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize("missing", MODES)
@pytest.mark.parametrize("dead", MODES)
def test_a_manager_of_four_starts_without_two_reads_the_others_at_once_and_those_soon_after_they_appear(
    missing: str, dead: str, manager: ServomexManager
) -> None:
    first, fourth = line_in("modbus_rtu", 1), VirtualLine(unit(4, "continuous", period=0.25))
    second, third = unplugged(line_in(missing, 2)), silenced(line_in(dead, 3))
    started = time.monotonic()
    added(manager, "first", first, "modbus_rtu")
    added(manager, "second", second, missing)
    added(manager, "third", third, dead)
    added(manager, "fourth", fourth, "continuous")
    assert time.monotonic() - started < 0.5, "it starts at once"
    results = manager.poll()
    assert time.monotonic() - started < SOON_S
    assert [name for name, result in results.items() if result.ok] == ["first", "fourth"]
    for name in ("second", "third"):
        assert "not reached yet" in str(results[name].error)
        assert f"device {name}" in str(results[name].error)
    started = time.monotonic()
    assert list(values(manager).values()) == [1.0, None, None, 4.0]
    assert time.monotonic() - started < 0.5, "those that are not there cost nothing"
    second.plug()
    assert seconds_until(lambda: read(manager, "second")) < SOON_S
    third.analysers[0].faults.silent = False
    assert seconds_until(lambda: read(manager, "third")) < SOON_S
    assert list(values(manager).values()) == [1.0, 2.0, 3.0, 4.0]
    for name, mode in (("second", missing), ("third", dead)):
        assert manager.get(name).protocol == mode.removeprefix("auto ")
        assert manager.get(name).info is not None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("later_s", [0.05, 0.4, 0.75, 1.1, 1.45, 1.8, 61.3])
@pytest.mark.parametrize("how", ["plugged in", "switched on"])
def test_it_is_read_soon_whenever_it_appears(
    mode: str, later_s: float, how: str, manager: ServomexManager
) -> None:
    line = line_in(mode, 5)
    (unplugged if how == "plugged in" else silenced)(line)
    added(manager, "late", line, mode)
    assert not read(manager, "late")
    time.sleep(later_s)
    line.plug()
    line.analysers[0].faults.silent = False
    assert seconds_until(lambda: read(manager, "late")) < SOON_S


def test_an_analyser_that_is_there_is_read_by_the_first_call(manager: ServomexManager) -> None:
    for mode in ("modbus_rtu", "modbus_ascii", "continuous", "auto modbus_rtu"):
        line = line_in(mode, 7)
        added(manager, mode, line, mode)
        assert values(manager, mode) == {mode: 7.0}, mode
        manager.remove(mode)


def test_a_recording_shows_the_gap_and_then_the_readings(manager: ServomexManager) -> None:
    good, late = line_in("modbus_rtu", 1), unplugged(line_in("continuous", 2))
    added(manager, "good", good, "modbus_rtu", tags={"site": "a"})
    added(manager, "late", late, "continuous", tags={"site": "b"})
    with record(manager, rate_hz=2, count=16) as recording:
        batches = []
        for batch in recording.stream:
            batches.append(batch)
            if len(batches) == 6:
                late.plug()
    rows = [[row for row in batch if row.device == "late"] for batch in batches]
    assert all(any(row.device == "good" and row.reading for row in batch) for batch in batches)
    assert [bool(found[0].error) for found in rows] == sorted(
        (bool(found[0].error) for found in rows), reverse=True
    )
    assert all("not reached yet" in str(found[0].error) for found in rows[:6])
    assert all(found[0].reading and found[0].metadata == {"site": "b"} for found in rows[11:])
    assert all(found[0].metadata == {"site": "b"} for found in rows)


def test_a_recorder_writes_the_gap_of_one_whose_mode_is_not_known_yet(manager: ServomexManager) -> None:
    good, late = line_in("modbus_rtu", 1), unplugged(line_in("auto continuous", 2))
    added(manager, "good", good, "modbus_rtu")
    added(manager, "late", late, "auto continuous")
    with InMemorySink() as sink, Recorder(manager, sink, rate_hz=2, count=3) as recorder:
        recorder.join()
    assert {row.device for row in sink.samples if row.reading} == {"good"}
    assert {row.device for row in sink.samples if row.error} == {"late"}


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"source": "foo://x"}, ServomexConfigurationError, "nothing can be opened"),
        ({"source": "socket://192.168.0.7"}, ServomexConfigurationError, "host and port"),
        ({"source": ""}, ServomexValidationError, "must not be empty"),
        ({"address": 0}, ServomexValidationError, "address"),
        ({"address": 1}, ServomexValidationError, "taken"),
        ({"name": "a1"}, ServomexValidationError, "already"),
        ({"protocol": "continuous"}, ServomexConfigurationError, "alone"),
        ({"protocol": "modbus_ascii"}, ServomexConfigurationError, "same mode"),
        ({"baudrate": 9600}, ServomexConfigurationError, "9600"),
        ({"wait": "no"}, ServomexValidationError, "wait must be True or False"),
        ({"wait": None}, ServomexValidationError, "wait must be True or False"),
    ],
    ids=str,
)
def test_what_can_never_be_is_an_error_at_once(
    options: dict[str, Any], error: type[Exception], match: str, manager: ServomexManager
) -> None:
    line = unplugged(line_of(1, 2))
    manager.add("a1", line.url, protocol="modbus_rtu", wait=False)
    given = {"name": "a2", "source": line.url, "address": 2, "wait": False, **options}
    with pytest.raises(error, match=match):
        manager.add(**given)
    assert manager.names == ("a1",)
    assert len(workers()) == 1


def test_the_analyser_can_be_had_as_soon_as_its_mode_is_known(manager: ServomexManager) -> None:
    known, unknown = unplugged(line_in("modbus_rtu", 1)), unplugged(line_in("auto modbus_ascii", 2))
    analyzer = added(manager, "known", known, "modbus_rtu")
    assert analyzer is manager.get("known")
    assert analyzer is not None
    assert analyzer.info is None
    with pytest.raises(ServomexConnectionError):
        analyzer.poll(timeout=0.1)
    assert added(manager, "unknown", unknown, "auto") is None
    with pytest.raises(ServomexConnectionError, match="not reached yet"):
        manager.get("unknown")
    unknown.plug()
    wait_until(lambda: read(manager, "unknown"))
    assert manager.get("unknown").protocol == "modbus_ascii"


def test_without_identification_an_answer_is_enough(manager: ServomexManager) -> None:
    line = silenced(line_in("modbus_rtu", 3))
    added(manager, "late", line, "modbus_rtu", identify=False)
    assert not read(manager, "late")
    line.analysers[0].faults.silent = False
    assert seconds_until(lambda: read(manager, "late")) < SOON_S
    assert manager.get("late").info is None


def test_a_port_that_another_program_has_is_taken_when_it_is_free(manager: ServomexManager) -> None:
    line = line_in("modbus_rtu", 3)
    with SerialLink(line.url):
        added(manager, "late", line, "modbus_rtu")
        assert "in use" in failure(manager, "late").message
    assert seconds_until(lambda: read(manager, "late")) < SOON_S


def test_a_link_that_is_passed_in_is_used_once_its_owner_has_opened_it(manager: ServomexManager) -> None:
    line = line_in("modbus_rtu", 3)
    link = SerialLink(line.url)
    manager.add("late", link, protocol="modbus_rtu", address=3, wait=False)
    assert "closed" in failure(manager, "late").message
    with link:
        assert seconds_until(lambda: read(manager, "late")) < SOON_S
        manager.remove("late")
        assert link.is_open
        assert not link.eager


def test_a_port_that_is_not_to_be_reopened_is_opened_once(manager: ServomexManager) -> None:
    line = unplugged(line_in("modbus_rtu", 3))
    added(manager, "late", line, "modbus_rtu", auto_reconnect=False)
    assert not read(manager, "late")
    line.plug()
    assert seconds_until(lambda: read(manager, "late")) < SOON_S
    line.unplug()
    assert not read(manager, "late")
    line.plug()
    time.sleep(5)
    assert "lost" in failure(manager, "late").message


def test_one_that_was_reached_and_is_lost_is_treated_as_any_other(manager: ServomexManager) -> None:
    line = unplugged(line_in("modbus_rtu", 3))
    added(manager, "late", line, "modbus_rtu")
    line.plug()
    wait_until(lambda: read(manager, "late"))
    line.unplug()
    assert "the port was lost" in failure(manager, "late").message
    assert not manager.get("late").link.eager
    line.plug()
    wait_until(lambda: read(manager, "late"))
    silenced(line)
    assert "not reached" not in failure(manager, "late").message
    assert "asked again in" in failure(manager, "late").message


def test_two_on_one_missing_port_are_both_read_when_it_is_there(manager: ServomexManager) -> None:
    line = unplugged(line_of(1, 2, pace=True))
    for address in (1, 2):
        manager.add(f"a{address}", line.url, protocol="modbus_rtu", address=address, wait=False)
    assert len(workers()) == 1
    assert values(manager) == {"a1": None, "a2": None}
    line.plug()
    assert seconds_until(lambda: None not in values(manager).values()) < SOON_S + 1.0


def test_a_port_that_is_missing_is_still_an_error_for_one_that_is_waited_for(manager: ServomexManager) -> None:
    line = unplugged(line_of(1, 2))
    manager.add("a1", line.url, protocol="modbus_rtu", wait=False)
    with pytest.raises(ServomexConnectionError):
        manager.add("a2", line.url, protocol="modbus_rtu", address=2)
    assert manager.names == ("a1",)


def test_all_on_a_port_have_the_mode_in_which_one_of_them_was_found(manager: ServomexManager) -> None:
    line = VirtualLine(unit(1, "modbus_ascii"), unit(2, "modbus_ascii"), pace=True)
    line.unplug()
    for address in (1, 2):
        assert manager.add(f"a{address}", line.url, address=address, wait=False) is None
    line.plug()
    wait_until(lambda: None not in values(manager).values())
    assert {manager.get(name).protocol for name in manager.names} == {"modbus_ascii"}


def test_a_mode_that_is_given_later_is_that_of_all_on_the_port(manager: ServomexManager) -> None:
    line = unplugged(line_of(1, 2))
    assert manager.add("a1", line.url, wait=False) is None
    assert manager.add("a2", line.url, protocol="modbus_rtu", address=2, wait=False) is not None
    assert manager.get("a1").protocol == "modbus_rtu"
    line.plug()
    wait_until(lambda: values(manager) == {"a1": 1.0, "a2": 2.0})


def test_a_broadcast_on_a_port_that_is_to_have_several_is_named(manager: ServomexManager) -> None:
    line = line_in("continuous", 1)
    for address in (1, 2):
        manager.add(f"a{address}", line.url, address=address, wait=False)
    wait_until(lambda: "must be alone" in str(manager.poll(["a1"])["a1"].error))
    assert "a2 is there too" in failure(manager, "a1").message
    manager.remove("a2")
    assert seconds_until(lambda: read(manager, "a1")) < 10 + SOON_S


def test_a_channel_that_is_not_there_is_an_error_each_time(manager: ServomexManager) -> None:
    for mode in ("modbus_rtu", "continuous"):
        line = line_in(mode, 1)
        added(manager, mode, line, mode, channels=["I4"])
        wait_until(lambda name=mode: "I4" in failure(manager, name).message)  # type: ignore[misc]
        for _ in range(3):
            time.sleep(1.1)
            assert "I4" in failure(manager, mode).message
        manager.remove(mode)


def test_another_instrument_is_named_and_the_right_one_is_read_in_its_place(manager: ServomexManager) -> None:
    line = VirtualLine(ForeignInstrument(), pace=True)
    manager.add("late", line.url, protocol="modbus_rtu", wait=False)
    wait_until(lambda: isinstance(failure(manager, "late"), ServomexForeignDeviceError))
    line.analysers = (unit(1),)
    assert seconds_until(lambda: read(manager, "late")) < 12


def test_an_operation_is_carried_out_where_the_mode_is_known_and_fails_at_once_elsewhere(
    manager: ServomexManager,
) -> None:
    known, unknown = silenced(line_in("modbus_rtu", 1)), silenced(line_in("auto modbus_rtu", 2))
    added(manager, "known", known, "modbus_rtu")
    added(manager, "unknown", unknown, "auto")
    manager.poll()
    seen: list[str] = []
    started = time.monotonic()
    results = manager.execute_each(lambda analyzer: seen.append(analyzer.name))
    assert time.monotonic() - started < 1.0
    assert seen == ["known"]
    assert results["known"].ok
    assert isinstance(results["unknown"].error, ServomexTimeoutError)


def test_the_log_reports_once_that_it_is_not_there_and_once_that_it_is(
    manager: ServomexManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "servomex")
    line, good = unplugged(line_in("modbus_rtu", 3)), line_in("modbus_rtu", 4)
    added(manager, "good", good, "modbus_rtu")
    added(manager, "late", line, "modbus_rtu")
    for _ in range(20):
        manager.poll()
        time.sleep(0.5)
    line.plug()
    wait_until(lambda: read(manager, "late"))
    said = [item.getMessage() for item in caplog.records]
    assert len(said) == 2
    assert said[0].startswith("late: it was not reached yet: ")
    assert said[1].startswith("late: reached after 1")


def test_with_the_policy_raise_they_are_part_of_the_group() -> None:
    good, late = line_in("modbus_rtu", 1), unplugged(line_in("modbus_rtu", 2))
    with ServomexManager() as manager:
        added(manager, "good", good, "modbus_rtu")
        added(manager, "late", late, "modbus_rtu")
        with pytest.raises(ExceptionGroup, match="1 of 2 analysers failed: late"):
            manager.poll()
        assert manager.poll(["good"])["good"].ok


@pytest.mark.parametrize("mode", MODES)
def test_channels_may_be_named_by_their_gas(mode: str, manager: ServomexManager) -> None:
    line = unplugged(line_in(mode, 5))
    assert added(manager, "late", line, mode, channels=["Oxygen"]) is None
    with pytest.raises(ServomexConnectionError, match="not reached yet"):
        manager.get("late")
    line.plug()
    assert seconds_until(lambda: read(manager, "late")) < SOON_S + 0.5, "names are looked up by one reading more"
    frame = manager.poll()["late"].value
    assert frame is not None
    assert [str(channel) for channel in frame.channels] == ["I1"]


def test_a_gas_that_is_not_there_is_an_error_each_time(manager: ServomexManager) -> None:
    line = line_in("continuous", 5)
    added(manager, "late", line, "continuous", channels=["Argon"])
    for _ in range(3):
        wait_until(lambda: "Argon" in failure(manager, "late").message)
        time.sleep(1.3)


@pytest.mark.parametrize("mode", ["modbus_rtu", "auto modbus_rtu", "auto modbus_ascii"])
@pytest.mark.parametrize("late_s", [0.25, 0.6])
def test_one_whose_replies_are_slow_is_found_as_well(mode: str, late_s: float, manager: ServomexManager) -> None:
    line = line_in(mode, 5)
    line.analysers[0].faults.late = late_s
    added(manager, "slow", line, mode, timeout=20)
    assert seconds_until(lambda: read(manager, "slow")) < 20


def test_the_reason_is_always_that_of_the_last_try(manager: ServomexManager) -> None:
    for mode in ("modbus_rtu", "auto modbus_rtu"):
        line = silenced(unplugged(line_in(mode, 5)))
        added(manager, mode, line, mode)
        assert "unplugged" in failure(manager, mode).message
        line.plug()
        wait_until(lambda name=mode: isinstance(failure(manager, name), ServomexTimeoutError))  # type: ignore[misc]
        assert "unplugged" not in failure(manager, mode).message
        line.unplug()
        wait_until(lambda name=mode: "the port was lost" in failure(manager, name).message)  # type: ignore[misc]


def test_an_analyser_that_cannot_be_added_is_named_in_the_error(manager: ServomexManager) -> None:
    line = unplugged(line_in("modbus_rtu", 5))
    with pytest.raises(ServomexConnectionError, match="device kiln"):
        manager.add("kiln", line.url)


@pytest.mark.parametrize("late_s", [0.25, 0.6])
def test_all_on_a_slow_line_are_found(late_s: float, manager: ServomexManager) -> None:
    line = line_of(1, 2, 3, pace=True)
    for analyser in line.analysers:
        analyser.faults.late = late_s
        name = f"a{analyser.address}"
        manager.add(name, line.url, protocol="modbus_rtu", address=analyser.address, timeout=20, wait=False)
    line.analysers[2].faults.silent = True
    assert seconds_until(lambda: list(values(manager).values()) == [1.0, 2.0, None]) < 40
    for _ in range(5):
        assert list(values(manager).values()) == [1.0, 2.0, None]
    line.analysers[2].faults.silent = False
    assert seconds_until(lambda: read(manager, "a3")) < 20
