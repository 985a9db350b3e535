"""A port in memory that answers by request, and the files of its scripts."""

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import serial

import servomex
from servomex import (
    FakeTransport,
    ServomexConnectionError,
    ServomexTimeoutError,
    ServomexValidationError,
    Transport,
    open_continuous,
    open_device,
)
from servomex.simulator import VirtualAnalyzer
from servomex.testing import load_capture
from tests.helpers.hook_port import answering
from tests.helpers.modbus_bytes import Framing, ascii_, rtu
from tests.helpers.paths import CAPTURE
from tests.helpers.threads import in_thread

pytestmark = pytest.mark.virtual_time

GENEROUS_S = 5.0


def block(value: str, name: bytes, unit: bytes) -> str:
    return (bytes.fromhex(value) + name.ljust(6) + unit.ljust(4, b"\0")).hex()


OXYGEN = block("41A3020C", b"Oxygen", b"%")
EMPTY = block("00000000", b"", b"")
OUTPUT = block("00000000", b"", b" mA")
ALL = OXYGEN + EMPTY * 7 + OUTPUT * 2


def script(framing: Framing) -> dict[bytes, bytes]:
    """What an analyser with one channel answers."""
    return {
        framing(request): framing(reply)
        for request, reply in {
            "01 02 03E8 0002": "01 02 01 00",
            "01 02 03E8 0010": "01 02 02 01 00",
            "01 04 0000 0046": "01 04 8C" + ALL,
            "01 02 0000 0050": "01 02 0A" + "00" * 10,
            "01 04 0000 0007": "01 04 0E" + OXYGEN,
            "01 04 0038 000E": "01 04 1C" + OUTPUT * 2,
            "01 02 0000 0008": "01 02 01 00",
            "01 02 0000 0010": "01 02 02 00 00",
        }.items()
    }


MODES: list[Any] = [("modbus_rtu", rtu), ("modbus_ascii", ascii_)]


def test_it_is_a_transport_of_its_label() -> None:
    port = FakeTransport(label="fake://stack")
    assert isinstance(port, Transport)
    assert (port.label, port.port, port.is_open, port.writes) == ("fake://stack", "fake://stack", True, ())
    with pytest.raises(ServomexTimeoutError, match=r"\[fake://stack, modbus_rtu, address 1"):
        open_device(port, protocol="modbus_rtu", timeout=0.3)
    assert FakeTransport().label == "fake://test"


def test_requests_are_answered_in_any_order_and_as_often_as_they_come() -> None:
    port = FakeTransport({b"one": b"1", b"two": b"22"})
    for request, reply in [(b"two", b"22"), (b"one", b"1"), (b"one", b"1"), (b"two", b"22")]:
        assert port.write(request) == len(request)
        assert port.read(len(reply)) == reply
    assert port.writes == (b"two", b"one", b"one", b"two")


def test_an_unknown_request_is_met_with_silence() -> None:
    port = FakeTransport({b"one": b"1", b"never": b""})
    for request in (b"two", b"on", b"oneone", b"never", b""):
        port.write(request)
        assert port.in_waiting == 0
    start = time.monotonic()
    assert port.read(1) == b""
    assert time.monotonic() - start >= 0.05


def test_a_reply_may_come_in_pieces() -> None:
    port = FakeTransport({b"one": [b"1", b"2", b"3"]})
    port.write(b"one")
    assert port.read(1) == b"1"
    assert port.in_waiting == 0
    assert port.read(2) == b"23"


def test_a_reply_may_be_a_function_of_the_request() -> None:
    count = itertools.count(1)
    port = FakeTransport({b"n": lambda request: request + str(next(count)).encode(), b"p": lambda _: [b"a", b"b"]})
    for expected in (b"n1", b"n2"):
        port.write(b"n")
        assert port.read(2) == expected
    port.write(b"p")
    assert port.read(2) == b"ab"


def test_a_function_may_feed_its_port_and_lose_it() -> None:
    def far_end(request: bytes) -> bytes:
        if request == b"die":
            raise serial.SerialException("pulled")
        port.feed(b"more")
        return b""

    port = FakeTransport(far_end)
    port.write(b"one")
    assert port.read(4) == b"more"
    with (
        servomex.SerialLink(port) as link,
        pytest.raises(ServomexConnectionError, match="the port was lost"),
    ):
        link.write(b"die")


def test_an_answer_can_be_replaced_and_added() -> None:
    port = FakeTransport(lambda _: b"?")
    port.add_script(b"one", b"1")
    for request, reply in ((b"one", b"1"), (b"two", b"?")):
        port.write(request)
        assert port.read(1) == reply
    port.add_script(b"one", b"")
    port.write(b"one")
    assert port.in_waiting == 0


WRONG: list[Any] = [
    {"01": b"1"}, {b"": b"1"}, {b"one": "1"}, {b"one": 1}, {b"one": None}, {b"one": [b"1", "2"]}, {b"one": [1]},
    {bytearray(b"one").hex(): b""},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_script_of_something_else_is_refused(wrong: Mapping[bytes, bytes]) -> None:
    with pytest.raises(
        ServomexValidationError, match=r"^a re(quest of a script must be bytes|ply must be bytes, a seq)"
    ):
        FakeTransport(wrong)


def test_a_function_that_returns_something_else_fails_where_it_is_asked() -> None:
    wrong: Any = lambda _: None  # noqa: E731
    with pytest.raises(
        ServomexValidationError, match="a reply must be bytes, a sequence of bytes or a function, not None"
    ):
        FakeTransport({b"one": wrong}).write(b"one")


LOOPBACKS: dict[Framing, bytes] = {rtu: rtu("01 08 0000 A537"), ascii_: ascii_("01 08 0000 A537")}


@pytest.mark.parametrize("framing", LOOPBACKS)
def test_loopbacks_are_answered_where_the_script_has_an_analyser(framing: Framing) -> None:
    loopback, request = LOOPBACKS[framing], framing("01 02 03E8 0002")
    port = FakeTransport({request: b"1"})
    port.write(loopback)
    assert port.read(len(loopback)) == loopback
    other = ascii_ if framing is rtu else rtu
    for silent in ({}, {framing("02 02 03E8 0002"): b"1"}, {other("01 02 03E8 0002"): b"1"}):
        port = FakeTransport(silent)
        port.write(loopback)
        assert port.in_waiting == 0
    port = FakeTransport({request: b"1", loopback: b""})
    port.write(loopback)
    assert port.in_waiting == 0


@pytest.mark.parametrize(("mode", "framing"), [*MODES, ("auto", rtu), ("auto", ascii_)])
def test_an_analyser_of_literal_bytes_is_read(mode: str, framing: Framing) -> None:
    with FakeTransport(script(framing)) as port, open_device(port, protocol=mode) as analyzer:
        for _ in range(3):
            assert analyzer.poll()["I1"].value == 20.376
            assert analyzer.read_channel("I1").name == "Oxygen"
        assert analyzer.loopback(b"ab") == b"ab"
        assert analyzer.info is not None
        assert analyzer.info.port == "fake://test"
    assert not port.is_open


@pytest.mark.parametrize(("mode", "framing"), MODES)
def test_replies_in_pieces_of_one_byte_are_read_as_well(mode: str, framing: Framing) -> None:
    pieces = {request: [bytes([byte]) for byte in reply] for request, reply in script(framing).items()}
    with FakeTransport(pieces) as port, open_device(port, protocol=mode, timeout=10) as analyzer:
        assert analyzer.poll()["I1"].value == 20.376


@pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii"])
def test_a_whole_analyser_may_be_one_function(mode: str) -> None:
    with (
        FakeTransport(answering(VirtualAnalyzer(mode=mode))) as port,
        open_device(port, protocol=mode) as analyzer,
    ):
        assert [str(reading.channel) for reading in analyzer.poll()] == ["I1", "I2", "I3", "E1", "E2"]


def test_a_reply_that_stays_away_is_an_error_of_that_reading_only() -> None:
    answers = script(rtu)
    request = rtu("01 04 0000 0046")
    with FakeTransport(answers) as port, open_device(port, protocol="modbus_rtu", retries=0) as analyzer:
        port.add_script(request, b"")
        with pytest.raises(ServomexTimeoutError):
            analyzer.poll(timeout=0.5)
        port.add_script(request, answers[request])
        assert analyzer.poll()["I1"].value == 20.376


def test_scheduled_broadcasts_are_found_and_read() -> None:
    frames = load_capture(CAPTURE)
    with FakeTransport() as port:
        port.schedule(frames, interval=0.5)
        with open_continuous(port) as analyzer:
            clocks = [analyzer.poll(wait_fresh=True).analyser.clock for _ in range(3)]
    assert [clock.second for clock in clocks if clock] == [14, 16, 18]


def test_auto_finds_broadcasts() -> None:
    with FakeTransport() as port:
        port.schedule(load_capture(CAPTURE), interval=0.5)
        with open_device(port) as analyzer:
            assert analyzer.protocol == "continuous"


def test_fed_broadcasts_are_read_one_by_one() -> None:
    frames = load_capture(CAPTURE)
    with FakeTransport() as port, open_continuous(port, identify=False) as analyzer:
        for frame, second in zip(frames[:3], (12, 14, 16), strict=True):
            port.feed(frame)
            clock = analyzer.poll(wait_fresh=second > 12).analyser.clock
            assert clock is not None
            assert clock.second == second


def test_emitted_frames_come_one_by_one_and_the_last_is_waited_for() -> None:
    port = FakeTransport()
    start = time.monotonic()
    port.emit([b"1", b"2", b"3"], interval=0.2)
    assert 0.4 <= time.monotonic() - start < GENEROUS_S
    assert port.read(3) == b"123"
    port.emit(iter([b"4", b"5"]))
    assert port.read(2) == b"45"


def test_closing_ends_an_emission_that_never_ends() -> None:
    frames = load_capture(CAPTURE)
    port = FakeTransport()
    future = in_thread(lambda: port.emit(itertools.cycle(frames), interval=0.5))
    with port, open_continuous(port) as analyzer:
        assert analyzer.poll()["I1"].value == 20.376
        assert not future.done()
    assert future.result(GENEROUS_S) is None
    with pytest.raises(serial.PortNotOpenError):
        port.emit(frames)


@pytest.mark.parametrize("interval", [-1, float("nan"), "1", None])
def test_an_interval_that_cannot_be_is_refused(interval: Any) -> None:
    for call in (FakeTransport().emit, FakeTransport().schedule):
        with pytest.raises(ServomexValidationError, match="interval must be"):
            call([b"1"], interval=interval)
    for call in (FakeTransport().emit, FakeTransport().schedule):
        with pytest.raises(ServomexValidationError, match=r"not bytes\. Write \[data\]"):
            call(b"1", interval=1)  # type: ignore[arg-type]  # an iterable of numbers


def test_many_threads_may_write_and_feed() -> None:
    port = FakeTransport({b"%d" % number: b"x" for number in range(8)})

    def busy(number: int) -> None:
        for _ in range(200):
            port.write(b"%d" % number)
            port.feed(b"y")

    threads = [threading.Thread(target=busy, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(port.writes) == 1600
    assert sorted(port.read(4000)) == sorted(b"xy" * 1600)


def test_a_closed_port_takes_nothing() -> None:
    port = FakeTransport({b"one": b"1"})
    port.close()
    port.close()
    uses: list[Callable[[], object]] = [port.read, port.reset_input_buffer, lambda: port.write(b"one")]
    for use in uses:
        with pytest.raises(serial.PortNotOpenError):
            use()
    assert port.writes == ()
