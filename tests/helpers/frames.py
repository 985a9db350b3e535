"""Hand-made continuous frames, and what of a frame counts as its data."""

from collections.abc import Iterator
from datetime import UTC, datetime

from servomex.models.analyser import AnalyserStatus
from servomex.models.frame import Frame
from servomex.models.reading import ChannelStatus
from servomex.units import Unit
from tests.helpers.paths import CAPTURE

RECEIVED_AT = datetime(2026, 3, 1, 12, 30, 45, 500_000, tzinfo=UTC)
MONOTONIC_NS = 5_000_000_000

# The first frame of the capture, byte for byte.
REAL = (
    b" 06-10-20;02:54:12;  ;S1S1S1S1;05;"
    b"I1;Oxygen;20.376; % ;    ;  ; ; ;"
    b"I2;CO    ; 0.084; % ;    ;  ; ; ;"
    b"I3;CO2   ; 0.250; % ;    ;  ; ; ;"
    b"E1;||||||;   0.0; mA;    ;  ; ; ;"
    b"E2;||||||;   0.0; mA;    ;  ; ; ;"
    b"2A1D;"
)
WIRE = REAL + b"\r\n"

Facts = tuple[object, ...]


def capture_frames() -> list[bytes]:
    """Give the frames of the bench capture, whose line ends are LF."""
    return CAPTURE.read_bytes().splitlines()


def sealed(body: bytes) -> bytes:
    """Put the start space in front of a body and the right checksum behind it."""
    return b" %b%04X;" % (body, sum(body) % 65536)


def resealed(frame: bytes) -> bytes:
    """Give a frame whose checksum is right again after a change to its body."""
    return sealed(frame[1:-5])


def block(
    channel: bytes = b"I1",
    name: bytes = b"Oxygen",
    value: bytes = b"20.376",
    unit: bytes = b" % ",
    alarms: bytes = b"    ",
    flags: bytes = b"  ",
    cal: bytes = b" ",
    warm: bytes = b" ",
) -> bytes:
    """Write one channel block from the texts of its fields."""
    return b"".join(field + b";" for field in (channel, name, value, unit, alarms, flags, cal, warm))


def external(channel: bytes, value: bytes = b"   0.0", flags: bytes = b"  ") -> bytes:
    """Write the block of an unlabelled external input."""
    return block(channel, b"||||||", value, b" mA", flags=flags)


EXTERNALS = (external(b"E1"), external(b"E2"))


def make(
    *blocks: bytes,
    clock: bytes = b"06-10-20;02:54:12",
    flags: bytes = b"  ",
    cal: bytes = b"S1S1S1S1",
    count: bytes | None = None,
) -> bytes:
    """Write a frame with a right checksum; its count is the number of blocks unless it is given."""
    count = b"%02d" % len(blocks) if count is None else count
    return sealed(b"".join(field + b";" for field in (clock, flags, cal, count)) + b"".join(blocks))


def of_channels(*channels: bytes) -> bytes:
    """Write a frame that holds these channels, in this order."""
    return make(*(external(channel) if channel[:1] == b"E" else block(channel) for channel in channels))


GOOD_3 = of_channels(b"I1", b"E1", b"E2")
GOOD_10 = of_channels(b"I1", b"I2", b"I3", b"I4", b"D1", b"D2", b"D3", b"D4", b"E1", b"E2")


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    """Cut data into chunks of one size."""
    return (data[start : start + size] for start in range(0, len(data), size))


def measurements(frame: Frame) -> dict[str, tuple[float | None, Unit, str, ChannelStatus]]:
    """Give what a wrong frame must never change: values, units and channel states."""
    return {item.channel: (item.value, item.unit, item.unit_text, item.status) for item in frame}


def facts(frame: Frame) -> Facts:
    """Give everything a frame says, its names, its clock and the time of its arrival aside."""
    analyser: AnalyserStatus = frame.analyser
    return (
        frame.channels,
        tuple(measurements(frame).items()),
        (analyser.fault, analyser.maintenance, analyser.cal_groups),
    )


def names(frame: Frame) -> tuple[str | None, ...]:
    """Give the channel names of a frame."""
    return tuple(reading.name for reading in frame)
