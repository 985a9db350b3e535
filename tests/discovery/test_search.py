"""Ports are searched at the same time, and neither a failure nor an interrupt leaves anything behind."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from servomex import (
    SerialLink,
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexFrameError,
    ServomexValidationError,
    discover_port,
    find_devices,
)
from servomex.discovery import search as discovery
from servomex.discovery import survey
from servomex.simulator import Faults, PtyServer, VirtualAnalyzer, VirtualLine
from tests.helpers.platforms import needs_pty
from tests.helpers.searching import LISTEN_S, Recorder, search, wait_less
from tests.helpers.usb_ports import adapter, plug
from tests.helpers.virtual_time import VirtualTime

pytestmark = pytest.mark.virtual_time


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, virtual_time: VirtualTime | None) -> None:
    """Wait less: a virtual analyser that is not paced answers at once, but behind a real port it may take time."""
    if virtual_time:
        wait_less(monkeypatch)


@pytest.fixture(autouse=True)
def given_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test after which a port that was searched is still open."""
    opened: list[SerialLink] = []
    usual = SerialLink.open

    def note(link: SerialLink) -> SerialLink:
        opened.append(link)
        return usual(link)

    monkeypatch.setattr(SerialLink, "open", note)
    yield
    assert not any(link.is_open for link in opened)


def test_where_an_analyser_is_found_what_other_baud_rates_brought_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = survey.Survey.run

    def run(self: survey.Survey) -> None:
        if not line.opened_before:
            line.opened_before = True
            self.findings.append(survey.Found(5, error=ServomexFrameError("noise")))
        else:
            usual(self)

    class Line(VirtualLine):
        opened_before = False

    line = Line(baudrate=9600)
    monkeypatch.setattr(survey.Survey, "run", run)
    results = search(line, baudrates=[19200, 9600])
    assert [(result.address, result.ok) for result in results] == [(1, True)]


def test_several_ports_are_searched_at_once_and_reported_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [VirtualLine(VirtualAnalyzer(address=address)) for address in range(1, 4)]
    lines.append(VirtualLine(VirtualAnalyzer(mode="continuous", period=0.06)))
    threads: set[str] = set()
    monkeypatch.setattr(survey.Survey, "run", _noting(threads))
    results = find_devices([line.url for line in lines], addresses=range(1, 4), listen=LISTEN_S)
    assert [result.port for result in results] == [line.url for line in lines]
    assert [result.address for result in results] == [1, 2, 3, None]
    assert all(result.ok for result in results)
    assert threads == {f"servomex-discovery {line.url}" for line in lines}


def _noting(threads: set[str]) -> Any:
    usual = survey.Survey.run

    def run(self: survey.Survey) -> None:
        threads.add(threading.current_thread().name)
        usual(self)

    return run


def test_no_more_threads_run_than_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "AT_ONCE", 2)
    together = threading.Barrier(2, timeout=5)
    counts: list[int] = []

    def count(self: survey.Survey) -> None:
        together.wait()
        counts.append(sum(item.name.startswith("servomex-discovery") for item in threading.enumerate()))
        together.wait()

    monkeypatch.setattr(survey.Survey, "run", count)
    lines = [VirtualLine() for _ in range(4)]
    assert len(find_devices([line.url for line in lines])) == 4
    assert counts == [2, 2, 2, 2]


def test_a_port_that_cannot_be_opened_disturbs_no_other(line: VirtualLine) -> None:
    busy = VirtualLine()
    names = ["/dev/ttyNowhere", line.url, busy.url, "usb:", "sim://nobody"]
    with SerialLink(busy.url):
        results = find_devices(names, listen=LISTEN_S)
    assert [result.port for result in results] == names
    assert [result.ok for result in results] == [False, True, False, False, False]
    assert [type(result.error) for result in results] == [
        ServomexConnectionError,
        type(None),
        ServomexConnectionError,
        ServomexConfigurationError,
        ServomexConfigurationError,
    ]
    assert "it is in use" in str(results[2].error)


@needs_pty
@pytest.mark.real_time
def test_a_busy_device_is_distinguished_from_a_missing_one() -> None:
    with PtyServer(VirtualLine()) as server, SerialLink(server.port):
        (result,) = discover_port(server.port)
    assert isinstance(result.error, ServomexConnectionError)
    assert "is in use by another program" in result.error.message


def test_a_port_that_is_lost_is_reported_beside_what_was_found_on_it() -> None:
    class Pulled(VirtualLine):
        def write(self, data: bytes) -> None:
            if data.startswith(b"\x03"):
                self.unplug()
            super().write(data)

    found, lost = search(Pulled(VirtualAnalyzer()), addresses=range(1, 6))
    assert (found.ok, found.address) == (True, 1)
    assert (lost.ok, lost.address, type(lost.error)) == (False, None, ServomexConnectionError)


def test_without_names_all_ports_that_are_present_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [VirtualLine(), VirtualLine()]
    found = plug(monkeypatch, *(adapter(line.url) for line in lines))
    assert sorted(result.port for result in find_devices(listen=LISTEN_S)) == sorted(line.url for line in lines)
    found.clear()
    assert find_devices() == []


@needs_pty
@pytest.mark.real_time
def test_a_result_carries_the_adapter_behind_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with PtyServer(VirtualLine()) as server:
        plug(monkeypatch, adapter(server.port, "A50285BI"))
        (result,) = discover_port("usb:A50285BI", listen=LISTEN_S)
    assert (result.port, result.ok) == ("usb:A50285BI", True)
    assert result.usb
    assert (result.usb.device, result.usb.serial_number, result.usb.vendor_id) == (server.port, "A50285BI", 0x0403)
    assert result.info
    assert result.info.port == "usb:A50285BI"


class TestProgress:
    def test_it_is_reported_in_the_calling_thread_and_reaches_the_end(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(discovery, "TICK_S", 0.002)
        told: list[tuple[int, int, str]] = []

        def on_progress(done: int, total: int) -> None:
            told.append((done, total, threading.current_thread().name))

        lines = [VirtualLine(), VirtualLine(VirtualAnalyzer(mode="continuous", period=0.06))]
        names = [line.url for line in lines] + ["/dev/ttyNowhere"]
        find_devices(names, addresses=[1, 1, 2], baudrates=[19200, 9600], listen=LISTEN_S, on_progress=on_progress)
        assert {total for _, total, _ in told} == {3 * 2 * 2 * 2}
        assert {name for *_, name in told} == {threading.current_thread().name}
        done = [done for done, *_ in told]
        assert done == sorted(set(done))
        assert done[-1] == 24

    @pytest.mark.parametrize(("protocols", "total"), [(None, 8), (["continuous"], 2), (["modbus_rtu"], 4)])
    def test_of_one_port_every_question_is_reported(self, protocols: list[str] | None, total: int) -> None:
        told: list[tuple[int, int]] = []
        line = VirtualLine(VirtualAnalyzer(address=9))
        options = {"addresses": [1, 2], "baudrates": [19200, 9600], "protocols": protocols}
        search(line, **options, on_progress=lambda *step: told.append(step))
        assert {of for _, of in told} == {total}
        assert [done for done, _ in told] == list(range(1, total + 1))


@pytest.mark.parametrize("address", [1, 9], ids=["while one is identified", "while nobody answers"])
def test_an_interrupt_ends_all_threads_and_closes_all_ports(address: int) -> None:
    lines = [VirtualLine(VirtualAnalyzer(faults=Faults(late=0.1))) for _ in range(3)]

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        find_devices([line.url for line in lines], addresses=[2, address], listen=60, on_progress=interrupt)
    assert time.monotonic() - started < 3
    assert not [item for item in threading.enumerate() if item.name.startswith("servomex-discovery")]
    for line in lines:
        with SerialLink(line.url) as link:
            assert link.is_open


def test_an_interrupt_of_a_single_search_closes_the_port(line: VirtualLine) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        discover_port(line.url, on_progress=interrupt)


def test_a_search_that_is_cancelled_before_it_begins_sends_nothing() -> None:
    line = Recorder()
    request = discovery._request([1], [19200], None, 60)
    search = discovery._Search(line.url, request)
    search.cancel()
    search.run()
    assert line.written == []
    assert "the search was cancelled" in str(search.results[0].error)


def test_a_mistake_in_a_thread_is_raised(
    monkeypatch: pytest.MonkeyPatch, line: VirtualLine, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: survey.Survey) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(survey.Survey, "run", fail)
    with caplog.at_level(logging.CRITICAL), pytest.raises(RuntimeError, match="a mistake"):
        find_devices([line.url])


IMPOSSIBLE: list[dict[str, Any]] = [
    {"addresses": []},
    {"addresses": [1, 0]},
    {"addresses": [248]},
    {"addresses": [True]},
    {"addresses": ["1"]},
    {"addresses": "1-10"},
    {"addresses": 1},
    {"baudrates": []},
    {"baudrates": [19200, 299]},
    {"baudrates": [230400]},
    {"baudrates": 19200},
    {"protocols": []},
    {"protocols": ["auto"]},
    {"protocols": ["modbus"]},
    {"protocols": "modbus_rtu"},
    {"listen": 0},
    {"listen": -1},
    {"listen": float("nan")},
    {"listen": "1"},
    {"ports": "sim://4100"},
    {"ports": ["sim://4100", ""]},
    {"ports": ["sim://4100", None]},
]


def test_arguments_that_cannot_be_are_refused_before_a_port_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_port(*_args: object) -> None:
        raise AssertionError("a port was opened")

    monkeypatch.setattr("servomex.port.connection.open_port", open_port)
    for arguments in IMPOSSIBLE:
        with pytest.raises(ServomexValidationError):
            find_devices(**{"ports": ["sim://4100"], **arguments})
        if "ports" not in arguments:
            with pytest.raises(ServomexValidationError):
                discover_port("sim://4100", **arguments)


def test_a_path_is_a_port_as_well(tmp_path: Any) -> None:
    (result,) = find_devices([tmp_path / "ttyNowhere"])
    assert result.port == os.fspath(tmp_path / "ttyNowhere")
    assert isinstance(result.error, ServomexConnectionError)
