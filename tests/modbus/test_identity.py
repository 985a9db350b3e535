"""Ours or refused: an instrument with another Modbus map is refused wherever it is met, and named."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from servomex import (
    Analyzer,
    ErrorContext,
    ServomexError,
    ServomexForeignDeviceError,
    ServomexManager,
    Unit,
    discover_port,
    open_device,
)
from servomex.cli.record import record
from servomex.modbus import identity
from servomex.models.reading import ChannelStatus
from servomex.simulator import VirtualAnalyzer, VirtualChannel, VirtualLine, constant
from servomex.simulator.device import IllegalAddressError
from servomex.simulator.foreign import ForeignInstrument
from tests.helpers.commands import invoke
from tests.helpers.examining import check_problem, examine_quickly, page

MODBUS = ("modbus_rtu", "modbus_ascii")
QUICK: dict[str, Any] = {"gap": 0.005, "timeout": 5}
FAMILY = r"not an analyser of the SERVOPRO 4000 series .*text, '05500A1701'.*MultiExact"
NOTHING = bytes(14)
SPACES = b"\0" * 4 + b" " * 6 + b"\0" * 4
MILLIAMPS = b"\0" * 4 + b" " * 6 + b" mA\0"


def block(value: float, name: bytes, unit: bytes) -> bytes:
    """A channel's fourteen bytes as the manual has them: float32, six characters, three characters and NUL."""
    return struct.pack(">f", value) + name.ljust(6) + unit.rjust(3) + b"\0"


def words(*blocks: bytes, first: int = 0) -> dict[int, int]:
    raw = b"".join(blocks)
    return {first + place: word for place, word in enumerate(struct.unpack(f">{len(raw) // 2}H", raw))}


def whole(*channels: bytes, external: bytes = MILLIAMPS, empty: bytes = SPACES) -> dict[int, int]:
    """All seventy registers: these I and D channels, the others empty, and twice an external input."""
    return words(*channels, *[empty] * (8 - len(channels)), external, external)


OXYGEN = block(20.376, b"Oxygen", b"%")
ODD = block(3.5, b"Dust", b"g/m")
NAMELESS_UNIT = block(3.5, b"Dust", b"")
TEXT = b"05500A1701\0\0\0\0" + b"08430_3.10\0\0\0\0" + b"\0\0"

OURS = {
    "the bench 4100D": whole(OXYGEN, block(0.084, b"CO", b"%"), block(0.25, b"CO\x82", b"%")),
    "a single channel": whole(OXYGEN),
    "an odd unit on one channel": whole(OXYGEN, ODD),
    "no unit on one channel": whole(OXYGEN, NAMELESS_UNIT),
    "an odd unit on the only channel": whole(ODD),
    "no unit on the only channel": whole(NAMELESS_UNIT),
    "an odd unit, and external inputs without one": whole(ODD, external=SPACES),
    "no named channel": whole(),
    "no named channel, zeros": whole(empty=NOTHING),
    "volts at the external inputs": whole(external=block(4.0, b"", b"V")),
    "external inputs without a unit": whole(OXYGEN, external=NOTHING),
    "no value": whole(block(float("nan"), b"Oxygen", b"%")),
}
FOREIGN = {
    "serial number and version, then zeros": words(TEXT, bytes(140 - len(TEXT))),
    "padded with spaces": words(b"05500A1701".ljust(14) + b"08430_3.10".ljust(16), bytes(110)),
    "fourteen characters": words(b"05500A17010042" + b"VERSION_3.10.42\0", bytes(110)),
    "ends in what looks like a unit": words(b"05500A1701ABC\0", bytes(126)),
    "fewer than five characters": words(b"4711".ljust(14, b"\0"), bytes(126)),
    "nothing but zeros": words(bytes(140)),
    "nothing but spaces": words(b" " * 140),
    "counters": {place: place for place in range(70)},
    "all ones": dict.fromkeys(range(70), 0xFFFF),
}


@pytest.mark.parametrize("registers", OURS.values(), ids=OURS)
def test_registers_of_the_series_are_taken(registers: dict[int, int]) -> None:
    assert identity.is_ours(registers, complete=True)


@pytest.mark.parametrize("registers", FOREIGN.values(), ids=FOREIGN)
def test_registers_of_other_instruments_are_not(registers: dict[int, int]) -> None:
    assert not identity.is_ours(registers)
    assert not identity.is_ours(registers, complete=True)


@pytest.mark.parametrize("name", OURS)
def test_weak_signs_count_only_when_all_was_read(name: str) -> None:
    weak = ("an odd unit, and external inputs without one", "volts at the external inputs")
    assert identity.is_ours(OURS[name]) is (name not in weak)


def test_a_part_is_enough_where_it_has_a_known_unit() -> None:
    assert identity.is_ours(words(MILLIAMPS, first=63))
    assert identity.is_ours(words(OXYGEN))
    assert not identity.is_ours(words(ODD))
    assert not identity.is_ours(words(OXYGEN[:12])), "half a block"
    assert not identity.is_ours({})


@pytest.mark.parametrize(
    ("registers", "why"),
    [
        (words(TEXT), "hold text, '05500A1701' and '08430_3.10', as the maker's newer instruments"),
        (words(TEXT[:14]), "hold text, '05500A1701', as the maker's newer instruments"),
        (words(bytes(140)), "none of the channels in its registers has a known unit"),
        ({}, "refuses to read its channels with exception 02; the maker's newer instruments"),
    ],
)
def test_the_error_says_why_and_for_what_the_driver_is(registers: dict[int, int], why: str) -> None:
    error = identity.foreign_device(registers, ErrorContext(port="COM7"))
    assert why in error.message
    assert "the SERVOPRO 4000 series (4100, 4200, 4900), which this driver is for" in error.message
    assert error.text.endswith(". Check which instrument this cable leads to")
    assert str(error).endswith("[COM7]")


@pytest.fixture(params=[False, True], ids=["zeros", "exception 02"])
def refuses(request: pytest.FixtureRequest) -> bool:
    """What another instrument does with registers that it does not have."""
    return bool(request.param)


def foreign_line(refuses: bool, mode: str = "modbus_rtu", address: int = 1) -> VirtualLine:
    return VirtualLine(ForeignInstrument(refuses_unassigned=refuses, mode=mode, address=address))


@pytest.mark.parametrize("mode", MODBUS)
@pytest.mark.parametrize("protocol", ["auto", "named"])
def test_opening_refuses_it(refuses: bool, mode: str, protocol: str) -> None:
    line = foreign_line(refuses, mode)
    with pytest.raises(ServomexForeignDeviceError, match=FAMILY):
        open_device(line.url, protocol=mode if protocol == "named" else "auto", **QUICK)


@pytest.mark.parametrize("channels", [["I1"], ["I2", "E1"], ["I4"], ["E1", "E2"]])
def test_opening_for_some_channels_refuses_it(refuses: bool, channels: list[str]) -> None:
    line = foreign_line(refuses)
    with pytest.raises(ServomexForeignDeviceError, match=FAMILY):
        open_device(line.url, protocol="modbus_rtu", channels=channels, **QUICK)


CALLS: dict[str, Callable[[Analyzer], object]] = {
    "poll": lambda analyzer: analyzer.poll(),
    "read_channel": lambda analyzer: analyzer.read_channel("I1"),
    "an empty channel": lambda analyzer: analyzer.read_channel("D3"),
    "read_all": lambda analyzer: analyzer.read_all(),
    "status": lambda analyzer: analyzer.status("I1"),
    "analyser_status": lambda analyzer: analyzer.analyser_status(),
    "calibration_status": lambda analyzer: analyzer.calibration_status(1),
    "identify": lambda analyzer: analyzer.identify(),
    "start_calibration": lambda analyzer: analyzer.start_calibration(1, confirm=True),
    "stop_calibration": lambda analyzer: analyzer.stop_calibration(confirm=True),
    "calibrate": lambda analyzer: analyzer.calibrate(1, confirm=True, timeout=5),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_without_a_first_look_every_call_refuses_it(refuses: bool, call: Callable[[Analyzer], object]) -> None:
    line = foreign_line(refuses)
    with open_device(line.url, protocol="modbus_rtu", identify=False, **QUICK) as analyzer:
        for _ in range(2):
            with pytest.raises(ServomexForeignDeviceError, match=FAMILY):
                call(analyzer)
    assert not [sent for _, sent in line.heard if sent[1] in (5, 15)], "a coil was written"


def test_one_that_takes_the_place_of_an_analyser_is_refused(refuses: bool) -> None:
    line = VirtualLine(VirtualAnalyzer())
    with open_device(line.url, protocol="modbus_rtu", **QUICK) as analyzer:
        line.analysers = foreign_line(refuses).analysers
        with pytest.raises(ServomexForeignDeviceError, match=FAMILY):
            analyzer.poll()


def test_a_manager_refuses_it_and_reads_the_others(refuses: bool) -> None:
    line = VirtualLine(VirtualAnalyzer(address=2), ForeignInstrument(refuses_unassigned=refuses))
    with ServomexManager(error_policy="return") as manager:
        manager.add("ours", line.url, protocol="modbus_rtu", address=2, gap=0.005)
        with pytest.raises(ServomexForeignDeviceError, match=FAMILY):
            manager.add("other", line.url, address=1)
        assert manager.names == ("ours",)
        manager.add("other", line.url, address=1, identify=False)
        for _ in range(3):
            results = manager.poll()
            assert results["ours"].ok
            assert isinstance(results["other"].error, ServomexForeignDeviceError)
        ours, other = manager.poll_samples()[0], manager.poll_samples()[-1]
        assert ours.reading is not None
        assert (other.reading, other.device) == (None, "other")


def test_discovery_names_it_beside_the_analysers(refuses: bool) -> None:
    line = VirtualLine(VirtualAnalyzer(address=2), ForeignInstrument(refuses_unassigned=refuses))
    other, ours = discover_port(line.url, addresses=[1, 2], listen=0.1)
    assert (other.ok, other.address, ours.ok, ours.address) == (False, 1, True, 2)
    assert isinstance(other.error, ServomexForeignDeviceError)
    assert other.error.message.startswith("a Modbus device answers at address 1, but this is not an analyser of")
    assert "MultiExact" in other.error.message


@pytest.mark.parametrize("preset", ["foreign", "foreign02"])
def test_read_and_record_refuse_it(preset: str, tmp_path: Path) -> None:
    file = tmp_path / "run.csv"
    for arguments, command in (((), {}), ((str(file), "--rate", "5", "--count", "3"), {"command": record})):
        result = invoke(f"sim://{preset}", *arguments, "--protocol", "modbus_rtu", **command)
        assert (result.exit_code, result.stdout) == (4, "")
        assert "MultiExact" in result.stderr
    assert not file.exists()


def test_the_doctor_names_it(refuses: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    examine_quickly(monkeypatch)
    found = page(foreign_line(refuses))
    seen = "a Modbus device answers at address 1, but this is not an analyser of .*MultiExact.*"
    check_problem(found, "mode", seen, "Check which instrument this cable leads to")


def test_a_foreign_instrument_does_not_broadcast() -> None:
    with pytest.raises(ServomexError, match="does not broadcast"):
        open_device("sim://foreign?mode=continuous")


@pytest.mark.parametrize("mode", [*MODBUS, "continuous"])
@pytest.mark.parametrize(
    "channels",
    [
        [VirtualChannel("I1", "Dust", "g/m", constant(3.5))],
        [VirtualChannel("I1", "Dust", "", constant(3.5))],
        [VirtualChannel("I1", "Oxygen", "%", constant(20.9)), VirtualChannel("I2", "Dust", "???", constant(1.0))],
        [],
    ],
    ids=["odd unit", "no unit", "odd unit beside another", "no channel"],
)
def test_an_odd_analyser_is_read_in_every_mode(mode: str, channels: list[VirtualChannel]) -> None:
    line = VirtualLine(VirtualAnalyzer(channels, mode=mode, period=0.05))
    with open_device(line.url, protocol=mode, **QUICK) as analyzer:
        frame = analyzer.poll()
        assert frame.channels == (*(item.channel for item in channels), "E1", "E2")
        for item in channels:
            assert analyzer.read_channel(item.channel).unit_text == item.unit
            assert analyzer.status(item.channel) == ChannelStatus()
    if channels and channels[0].unit != "%":
        assert frame["I1"].unit is Unit.UNKNOWN
        with open_device(line.url, protocol=mode, channels=["I1"], **QUICK) as analyzer:
            assert analyzer.poll().channels == ("I1",)


def test_an_analyser_without_a_channel_s_registers_says_so_and_is_not_called_foreign() -> None:
    analyser = VirtualAnalyzer()
    analyser.refuses_gaps = True
    line = VirtualLine(analyser)
    with (
        open_device(line.url, protocol="modbus_rtu", identify=False, **QUICK) as analyzer,
        pytest.raises(ServomexError) as caught,
    ):
        analyzer.read_channel("I4")
    assert "exception 02" in caught.value.message
    assert not isinstance(caught.value, ServomexForeignDeviceError)


def test_the_virtual_foreign_instrument_has_nothing_but_its_texts() -> None:
    zeros, strict = ForeignInstrument(), ForeignInstrument(refuses_unassigned=True)
    assert zeros.input_registers(0, 2) == [0x3035, 0x3530]
    assert zeros.input_registers(14, 4) == [0, 0, 0, 0]
    assert strict.input_registers(0, 15) == zeros.input_registers(0, 15)
    for call in (strict.input_registers, strict.discrete_inputs, strict.coils):
        with pytest.raises(IllegalAddressError):
            call(15, 1)
    with pytest.raises(ServomexError, match="too long"):
        ForeignInstrument(serial_number="0123456789ABCDE")
