"""Whether a capability is available: what is known of it without sending anything."""

import contextlib
from collections.abc import Callable

import pytest

from servomex import (
    Analyzer,
    Availability,
    Capability,
    ServomexError,
    ServomexIllegalFunctionError,
    ServomexTimeoutError,
    ServomexValidationError,
    open_device,
)
from servomex.analyzer.abilities import Abilities
from servomex.errors import ErrorContext
from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.helpers.calibrating import shorten_waits
from tests.helpers.hook_port import HookPort, answering
from tests.helpers.modbus_bytes import rtu

AVAILABLE, UNAVAILABLE, UNKNOWN = Availability.AVAILABLE, Availability.UNAVAILABLE, Availability.UNKNOWN
READING = Capability.READ_CHANNELS | Capability.READ_STATUS


def refusing(*functions: int) -> HookPort:
    """An analyser that does not know some functions."""
    answer = answering(VirtualAnalyzer(mode="modbus_rtu"))

    def reply(port: HookPort, data: bytes) -> None:
        port.feed(rtu(f"01 {0x80 | data[1]:02x} 01") if data[1] in functions else answer(data))

    return HookPort(reply)


def known(analyzer: Analyzer) -> dict[str, Availability]:
    return {str(item.name): analyzer.availability(item) for item in Capability}


def test_over_modbus_all_is_unknown_until_it_was_used() -> None:
    port = refusing()
    with open_device(port, protocol="modbus_rtu", identify=False) as analyzer:
        assert set(known(analyzer).values()) == {UNKNOWN}
        assert not port.writes
        analyzer.poll()
        assert known(analyzer) == {
            "READ_CHANNELS": AVAILABLE, "READ_STATUS": AVAILABLE, "IDENTIFY": UNKNOWN, "AUTOCAL": UNKNOWN,
            "LOOPBACK": UNKNOWN,
        }  # fmt: skip
        analyzer.identify()
        analyzer.loopback(b"ab")
        assert [name for name, word in known(analyzer).items() if word is UNKNOWN] == ["AUTOCAL"]


@pytest.mark.parametrize(("use", "shown"), [
    (lambda analyzer: analyzer.read_channel("I1"), READING), (lambda analyzer: analyzer.read_all(), READING),
    (lambda analyzer: analyzer.status("I1"), Capability.READ_STATUS),
    (lambda analyzer: analyzer.analyser_status(), Capability.READ_STATUS),
    (lambda analyzer: analyzer.calibration_status(), Capability.READ_STATUS),
    (lambda analyzer: analyzer.poll_samples(), READING),
    (lambda analyzer: analyzer.start_calibration(1, confirm=True, verify=False), Capability(0)),
])  # fmt: skip
def test_what_was_used_is_available(use: Callable[[Analyzer], object], shown: Capability) -> None:
    with open_device(refusing(), protocol="modbus_rtu", identify=False) as analyzer:
        use(analyzer)
        assert {item for item in Capability if analyzer.availability(item) is AVAILABLE} == set(shown)


def test_a_calibration_is_available_once_it_was_seen_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_waits(monkeypatch)
    line = VirtualLine(VirtualAnalyzer())
    with open_device(line.url, protocol="modbus_rtu") as analyzer:
        analyzer.start_calibration(1, confirm=True)
        assert analyzer.availability(Capability.AUTOCAL) is AVAILABLE


def test_in_continuous_mode_reading_is_available_and_the_rest_is_not() -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.1))
    with open_device(line.url, protocol="continuous", identify=False) as analyzer:
        assert analyzer.availability(Capability.AUTOCAL) is UNAVAILABLE
        analyzer.poll(timeout=5)
        assert list(known(analyzer).values()) == [AVAILABLE, AVAILABLE, AVAILABLE, UNAVAILABLE, UNAVAILABLE]


@pytest.mark.parametrize(("function", "use", "refused"), [
    (8, lambda analyzer: analyzer.loopback(b"ab"), Capability.LOOPBACK),
    (2, lambda analyzer: analyzer.status("I1"), Capability.READ_STATUS),
    (2, lambda analyzer: analyzer.poll(), Capability.READ_STATUS),
    (4, lambda analyzer: analyzer.poll(), Capability.READ_CHANNELS | Capability.IDENTIFY),
    (5, lambda analyzer: analyzer.start_calibration(1, confirm=True), Capability.AUTOCAL),
    (5, lambda analyzer: analyzer.calibrate(1, confirm=True, timeout=5), Capability.AUTOCAL),
])  # fmt: skip
def test_what_the_device_refused_is_unavailable(
    function: int, use: Callable[[Analyzer], object], refused: Capability, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_waits(monkeypatch)
    with open_device(refusing(function), protocol="modbus_rtu", identify=False) as analyzer:
        with contextlib.suppress(ServomexError):
            use(analyzer)
        assert {item for item in Capability if analyzer.availability(item) is UNAVAILABLE} == set(refused)


def test_of_several_one_that_is_not_is_enough_and_all_must_be() -> None:
    abilities = Abilities()
    abilities.note(Capability.READ_CHANNELS | Capability.READ_STATUS)
    everything = Capability.READ_CHANNELS | Capability.READ_STATUS | Capability.IDENTIFY
    assert abilities.availability(READING, everything) is AVAILABLE
    assert abilities.availability(everything, everything) is UNKNOWN
    assert abilities.availability(everything | Capability.AUTOCAL, everything) is UNAVAILABLE


def test_the_later_of_two_that_contradict_each_other_counts() -> None:
    abilities = Abilities()
    refusal = ServomexIllegalFunctionError("no", ErrorContext(function_code=8))
    for _ in range(2):
        with pytest.raises(ServomexIllegalFunctionError), abilities.shown_by(Capability.LOOPBACK):
            raise refusal
        assert abilities.availability(Capability.LOOPBACK, Capability.LOOPBACK) is UNAVAILABLE
        with abilities.shown_by(Capability.LOOPBACK):
            pass
        assert abilities.availability(Capability.LOOPBACK, Capability.LOOPBACK) is AVAILABLE


def test_a_failure_of_the_line_shows_nothing() -> None:
    abilities = Abilities()
    with pytest.raises(ServomexTimeoutError), abilities.shown_by(READING):
        raise ServomexTimeoutError("silent")
    assert abilities.availability(READING, READING) is UNKNOWN


@pytest.mark.parametrize("wrong", ["autocal", None, 1, Capability(0)])
def test_what_is_no_capability_is_refused(wrong: object) -> None:
    with pytest.raises(ServomexValidationError, match="is not a capability"):
        Abilities().availability(wrong, READING)  # type: ignore[arg-type]
