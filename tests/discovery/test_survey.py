"""On a line every analyser is found by reads only, and what is found in place of one is told for what it is."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from servomex import (
    ProtocolKind,
    ServomexForeignDeviceError,
    ServomexFrameError,
    ServomexIllegalDataAddressError,
    ServomexTimeoutError,
)
from servomex.discovery import survey
from servomex.simulator import Faults, VirtualAnalyzer, VirtualLine
from servomex.simulator.device import IllegalAddressError
from tests.helpers.searching import Damaged, Recorder, failure, search, wait_less

pytestmark = pytest.mark.virtual_time

MODBUS = ["modbus_rtu", "modbus_ascii"]
NAMES = ["Oxygen", "CO", "CO₂", None, None]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less: a virtual analyser that is not paced answers at once."""
    wait_less(monkeypatch)


class Refusing(VirtualAnalyzer):
    """A foreign Modbus device, which has no discrete inputs from address 1000 on."""

    def discrete_inputs(self, address: int, count: int) -> list[bool]:
        if address >= 1000:
            raise IllegalAddressError
        return super().discrete_inputs(address, count)


class Empty(VirtualAnalyzer):
    """A foreign Modbus device, whose registers hold nothing."""

    def input_registers(self, address: int, count: int) -> list[int]:
        return [0] * count


@pytest.mark.parametrize("mode", MODBUS)
@pytest.mark.parametrize("echo", [False, True], ids=["plain", "echo"])
def test_every_analyser_on_a_line_is_found_by_reads_and_by_loopbacks_behind_an_answered_read(
    mode: str, echo: bool
) -> None:
    line = Recorder(*(VirtualAnalyzer(mode=mode, address=address) for address in (2, 4)), echo=echo)
    results = search(line, addresses=[1, 4, 2])
    assert [(result.ok, result.address) for result in results] == [(True, 2), (True, 4)]
    for result in results:
        assert result.port == line.url
        assert result.info
        assert result.info.protocol == mode
        assert result.info.serial_settings.baudrate == 19200
        assert [item.name for item in result.info.channels] == NAMES
    requests = line.requests
    assert {address for address, _ in requests} == {1, 2, 4}
    assert (mode == "modbus_rtu") != any(data.startswith(b":02") for data in line.written)
    assert {address for address, function in requests if function != 2} == {2, 4}
    for address in (2, 4):
        heard = [function for place, function in requests if place == address]
        assert set(heard) == {2, 4, 8}
        assert 2 in heard[: heard.index(8)]
    assert [analyser.coil_log for analyser in line.analysers] == [[], []]


def test_an_analyser_at_another_baud_rate_is_found_and_ends_the_search() -> None:
    line = Recorder(VirtualAnalyzer(), baudrate=9600)
    (result,) = search(line, baudrates=(19200, 9600, 4800))
    assert result.info
    assert result.info.serial_settings.baudrate == 9600
    assert line.baudrates == [19200, 9600]


def test_a_paced_line_is_searched_with_the_usual_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    line = VirtualLine(VirtualAnalyzer(mode="modbus_ascii"), pace=True)
    assert search(line, protocols=["modbus_ascii"])[0].ok


def test_a_broadcast_is_found_and_ends_the_questions() -> None:
    line = Recorder(VirtualAnalyzer(mode="continuous", period=0.06))
    (result,) = search(line, addresses=range(1, 248))
    assert (result.ok, result.address) == (True, None)
    assert result.info
    assert (result.info.protocol, result.info.address) == (ProtocolKind.CONTINUOUS_ASCII, None)
    assert [item.name for item in result.info.channels] == ["Oxygen", "CO", "CO2", None, None]
    assert len(line.written) < 10


def test_a_broadcast_that_has_begun_is_waited_for_to_its_end() -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.25), baudrate=9600, pace=True)
    assert search(line, baudrates=[9600], protocols=["modbus_rtu", "continuous"], listen=0.35)[0].ok


def test_where_only_broadcasts_are_looked_for_nothing_is_sent() -> None:
    line = Recorder(VirtualAnalyzer(), VirtualAnalyzer(mode="continuous", period=0.06))
    (result,) = search(line, protocols=[ProtocolKind.CONTINUOUS_ASCII])
    assert result.ok
    assert line.written == []


def test_where_only_one_framing_is_looked_for_the_other_is_not_sent() -> None:
    line = Recorder(VirtualAnalyzer())
    error = failure(search(line, protocols=["modbus_ascii"], addresses=[1, 2]))
    assert "nothing answered Modbus ASCII at addresses 1 to 2; nothing was received" in error.message
    assert len(line.written) == 2
    assert all(data.startswith(b":") for data in line.written)


def test_the_first_request_may_get_lost() -> None:
    class Lossy(Recorder):
        def write(self, data: bytes) -> None:
            lost = len(self.written) < 2
            self.written.append(data) if lost else super().write(data)

    assert search(Lossy(VirtualAnalyzer()), listen=0.4)[0].ok


@pytest.mark.parametrize("late", [0.03, 0.08])
def test_a_late_reply_is_not_taken_for_another_masters(late: float) -> None:
    line = VirtualLine(VirtualAnalyzer(faults=Faults(late=late)))
    results = search(line, addresses=range(1, 4))
    assert [(result.ok, result.address) for result in results] == [(True, 1)]


@pytest.mark.parametrize(
    ("build", "options", "words"),
    [
        (lambda: VirtualLine(VirtualAnalyzer(faults=Faults(silent=True))), {}, "nothing was received"),
        (
            lambda: VirtualLine(VirtualAnalyzer(address=9)),
            {},
            "nothing answered Modbus RTU or Modbus ASCII at address 1, ",
        ),
        (
            lambda: VirtualLine(VirtualAnalyzer(address=9)),
            {"addresses": [3, 5]},
            "at 2 addresses from 3 to 5, and no b",
        ),
        (
            lambda: VirtualLine(VirtualAnalyzer(), baudrate=9600),
            {"baudrates": [19200, 4800]},
            "at 19200, 4800 baud: ",
        ),
        (
            lambda: VirtualLine(VirtualAnalyzer(mode="continuous", period=0.06), baudrate=9600),
            {"baudrates": [19200, 4800]},
            "bytes arrived that fit no mode. Check the baud rate",
        ),
        (
            lambda: VirtualLine(VirtualAnalyzer(mode="continuous", period=0.06)),
            {"protocols": MODBUS, "addresses": range(1, 9)},
            "baud; a broadcast was heard: the analyser is in continuous mode, which was not looked for",
        ),
        (
            lambda: VirtualLine(VirtualAnalyzer(faults=Faults(silent=True)), echo=True),
            {},
            "only the adapter's echo came back",
        ),
        (
            lambda: VirtualLine(Damaged(mode="continuous", period=0.06), baudrate=9600),
            {"addresses": [1, 2, 3], "baudrates": [19200, 9600]},
            "baud; a broadcast was heard, but no undamaged frame arrived",
        ),
    ],
    ids=[
        "silent",
        "other address",
        "other addresses",
        "baud rate",
        "broadcast at another baud rate",
        "not looked for",
        "echo only",
        "damaged broadcast",
    ],
)
def test_nothing_found_says_what_was_seen(
    build: Callable[[], VirtualLine], options: dict[str, Any], words: str
) -> None:
    line = build()
    error = failure(search(line, **options))
    assert type(error) is ServomexTimeoutError
    assert error.message.startswith("no analyser found in ")
    assert words in error.text
    assert error.context.port == line.url


def test_a_foreign_modbus_device_is_reported_as_one() -> None:
    line = VirtualLine(Refusing(address=1), VirtualAnalyzer(address=2), Empty(address=3))
    refusing, found, empty = search(line, addresses=[1, 2, 3])
    assert (found.ok, found.address) == (True, 2)
    assert (refusing.address, type(refusing.error)) == (1, ServomexIllegalDataAddressError)
    words = "a Modbus device answers at address 1, but not like a SERVOPRO 4000: the analyser refused the request"
    assert f"{words} with exception 02" in str(refusing.error)
    assert (empty.address, type(empty.error)) == (3, ServomexForeignDeviceError)
    words = "a Modbus device answers at address 3, but this is not an analyser of the SERVOPRO 4000 series "
    assert words in str(empty.error)
    assert "none of the channels in its registers has a known unit" in str(empty.error)
    assert "got 03 04 8c 00 00" in str(empty.error)


def test_a_device_that_answers_only_once_is_no_analyser() -> None:
    class Tired(VirtualAnalyzer):
        def input_registers(self, address: int, count: int) -> list[int]:
            self.faults.silent = True
            return super().input_registers(address, count)

    error = failure(search(VirtualLine(Tired()), addresses=[1, 2]))
    assert "a Modbus device answers at address 1, but cannot be identified: no reply" in error.message


@pytest.mark.parametrize("mode", MODBUS)
@pytest.mark.parametrize("same", [True, False], ids=["same replies", "different replies"])
def test_two_analysers_at_one_address_are_no_analyser(mode: str, same: bool) -> None:
    analysers = [VirtualAnalyzer(mode=mode, address=3) for _ in range(2)]
    analysers[1].fault = not same
    (result,) = search(VirtualLine(*analysers), addresses=[3])
    assert (result.ok, result.address, type(result.error)) == (False, 3, ServomexFrameError)
    assert "replies arrive from address 3: most likely two devices there have the same address" in str(
        result.error
    )


@pytest.mark.parametrize("mode", MODBUS)
def test_an_address_from_which_only_damage_comes_is_reported(mode: str) -> None:
    line = VirtualLine(
        VirtualAnalyzer(mode=mode, faults=Faults(corrupt=1.0, seed=2)), VirtualAnalyzer(mode=mode, address=2)
    )
    damaged, found = search(line, addresses=[1, 2])
    assert found.ok
    assert (damaged.address, type(damaged.error)) == (1, ServomexFrameError)
    assert "only damaged or doubled replies arrive from address 1" in str(damaged.error)


@pytest.mark.parametrize("fault", ["duplicate", "corrupt", "garbage"])
def test_one_bad_reply_does_not_hide_an_analyser(fault: str) -> None:
    class Once(VirtualLine):
        def write(self, data: bytes) -> None:
            setattr(self.analysers[0].faults, fault, 0.0 if self.heard else 1.0)
            super().write(data)

    assert search(Once(VirtualAnalyzer()))[0].ok


@pytest.mark.parametrize("period", [0.03, 0.12])
def test_bytes_that_come_by_themselves_are_not_a_reply(period: float) -> None:
    line = Recorder(VirtualAnalyzer(mode="continuous", period=period), baudrate=9600)
    started = time.monotonic()
    error = failure(search(line, addresses=range(1, 4)))
    assert "bytes arrived that fit no mode" in error.message
    assert time.monotonic() - started < 8


def test_a_line_that_never_falls_silent_is_soon_left_alone() -> None:
    line = Recorder(VirtualAnalyzer(mode="continuous", period=0.004), baudrate=9600)
    started = time.monotonic()
    failure(search(line, addresses=range(1, 248)))
    assert line.written == []
    assert time.monotonic() - started < 3


class Talkative(VirtualLine):
    """A line with an instrument of another make, which answers what it does not know with a text."""

    def write(self, data: bytes) -> None:
        super().write(data)
        if data[0] % 2:
            text = b"?ERROR 17: THIS COMMAND IS NOT KNOWN, PLEASE CONSULT THE MANUAL OF THIS BALANCE\r\n"
            self._send(None, self.clock(), text)


def test_an_instrument_that_answers_with_a_text_is_no_modbus_device() -> None:
    line = Talkative(VirtualAnalyzer(address=9), pace=True)
    error = failure(search(line, addresses=[1, 3], protocols=["modbus_rtu"]))
    assert "bytes arrived that fit no mode" in error.message


def test_a_line_that_falls_silent_now_and_then_is_searched_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "RESTLESS_PLACES", 2)
    line = Talkative(VirtualAnalyzer(address=6))
    (found,) = search(line, addresses=range(1, 7), protocols=["modbus_rtu"])
    assert (found.address, found.ok) == (6, True)


def test_bytes_that_always_come_just_behind_a_question_come_without_one_as_well() -> None:
    class Ticking(VirtualLine):
        ticked_at = 0.0

        def _broadcast(self, now: float) -> None:
            if now >= self.ticked_at + 0.025:
                self.ticked_at = now
                self._send(None, now, b"tick!\n")

    error = failure(search(Ticking(VirtualAnalyzer(address=9)), addresses=[1, 2]))
    assert "bytes arrived that fit no mode" in error.message


def test_the_slower_one_of_two_analysers_at_one_address_is_heard() -> None:
    slower = VirtualAnalyzer(address=3, faults=Faults(late=0.01))
    found, doubled = search(VirtualLine(VirtualAnalyzer(), VirtualAnalyzer(address=3), slower), addresses=[1, 3])
    assert (found.ok, doubled.ok) == (True, False)
    assert "two devices there have the same address" in str(doubled.error)


def test_an_analyser_that_is_far_too_late_is_asked_again_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "LATE_WAIT_S", 0.05)
    line = Recorder(VirtualAnalyzer(faults=Faults(late=0.1)))
    failure(search(line, addresses=range(1, 12), protocols=["modbus_rtu"]))
    assert line.requests.count((1, 2)) == 2


def test_what_a_slow_device_still_sends_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Noting(VirtualLine):
        def write(self, data: bytes) -> None:
            under_way.append(len(self._bursts))
            super().write(data)

    def give_up(*_args: object, **_options: object) -> None:
        line._send(None, line.clock() + 0.1, b"late")
        raise ServomexTimeoutError("no reply")

    under_way: list[int] = []
    line = Noting(VirtualAnalyzer())
    monkeypatch.setattr(survey, "open_device", give_up)
    failure(search(line, addresses=[1, 2], protocols=["modbus_rtu"]))
    assert under_way == [0, 0]


def test_damage_is_asked_for_again_with_more_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    usual = survey.Survey._answer_s

    def note(self: survey.Survey, place: survey.Place, wait_s: float) -> float:
        waits.append(wait_s / survey.WAIT_S)
        return usual(self, place, wait_s)

    monkeypatch.setattr(survey.Survey, "_answer_s", note)
    search(VirtualLine(VirtualAnalyzer(faults=Faults(corrupt=1.0, seed=2))), protocols=["modbus_rtu"])
    assert waits == [1, 2, 4]
