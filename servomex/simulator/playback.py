"""Recordings to replay: a wire trace, or a capture of broadcasts, as a sequence of events."""

import itertools
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import attrs

from servomex.enums import ProtocolKind
from servomex.errors import ServomexConfigurationError, ServomexParseError
from servomex.errors.validation import LONGEST_S, seconds
from servomex.settings import SerialSettings
from servomex.telegram import HEADER, FrameSplitter, parse_frame
from servomex.trace import TraceLine, is_trace, read_trace
from servomex.traffic.messages import crc16

PERIOD_S = 2.0
"""Time between the broadcasts of a capture whose clocks do not show it: that of the bench unit."""
LONGEST_PERIOD_S = 9999.0
"""The longest frame frequency of the instrument (installation manual, section 3.4)."""

LARGEST = 25_000_000
"""Bytes of a recording: all of it is in memory."""

_ASCII = re.compile(rb":(?:[0-9A-F]{2}){3,}\r\n")
_LOOPBACK = 8


@attrs.frozen
class Piece:
    """Bytes that were received, or the loss of the port.

    Attributes:
        delay_s: Seconds since the request, or since the port was opened.
        data: The bytes; empty when the port was lost.
    """

    delay_s: float
    data: bytes


@attrs.frozen
class Section:
    """A request and the bytes received until the next one.

    Attributes:
        request: Its bytes; empty for bytes before the first request, and for all bytes of a line without requests.
        at_s: Seconds from the beginning of the recording.
        pieces: The bytes received.
    """

    request: bytes
    at_s: float
    pieces: tuple[Piece, ...] = ()


@attrs.frozen
class Playback:
    """A recording to replay.

    Attributes:
        parts: What happened from each opening of the port to its loss. The first section of each has no request.
        timed: Whether bytes are replayed at their own times, and requests are ignored: broadcasts.
        settings: The settings of the port.
        gap_s: Seconds of silence before each request.
    """

    parts: tuple[tuple[Section, ...], ...]
    timed: bool
    settings: SerialSettings = SerialSettings()  # noqa: RUF009 (it is immutable)
    gap_s: float = 0.05

    @property
    def asked(self) -> list[Section]:
        """The requests in their order."""
        return [section for part in self.parts for section in part if section.request]


def body_of(message: bytes) -> bytes:
    """Return address, function and data of a Modbus message in either framing; empty for other bytes."""
    if _ASCII.fullmatch(message):
        return bytes.fromhex(message[1:-4].decode("ascii"))
    return message[:-2] if len(message) >= 4 and crc16(message) == 0 else b""


def framing_of(message: bytes) -> ProtocolKind:
    """Return the framing of a Modbus message."""
    return ProtocolKind.MODBUS_ASCII if _ASCII.fullmatch(message) else ProtocolKind.MODBUS_RTU


def same_request(one: bytes, other: bytes) -> bool:
    """Return whether two requests are equivalent. All loopbacks are: the driver sends random numbers."""
    if one == other:
        return True
    if len(one) != len(other) or one[:4] != other[:4]:
        return False
    head = body_of(one)[:4]
    return len(head) == 4 and head[1] == _LOOPBACK and head == body_of(other)[:4]


def load_recording(path: str | Path, period: float | None = None) -> Playback:
    """Read a trace, or a capture: the bytes of broadcasts and nothing else.

    Args:
        path: The file.
        period: Seconds between the broadcasts of a capture; as their clocks show when ``None``.

    Raises:
        ServomexConfigurationError: It cannot be read or is neither, or a trace was given a period.
    """
    _check_size(path)
    if is_trace(path):
        if period is not None:
            raise ServomexConfigurationError(f"{path} is a trace: it has its own times; change the speed instead")
        lines = [*read_trace(path)]
        if not lines and b"\n" not in Path(path).read_bytes():
            raise ServomexConfigurationError(
                f"{path} is a trace that ends in its first line: there is nothing to play"
            )
        return _of_trace(path, lines)
    return _of_capture(path, None if period is None else seconds(period, "period"))


def _check_size(path: str | Path) -> None:
    """Refuse a file that does not fit in memory or has no size, such as an endless device.

    Raises:
        ServomexConfigurationError: It does not fit, or is not a file.
    """
    if Path(path).exists() and not Path(path).is_file():
        raise ServomexConfigurationError(f"cannot read {path}: it is not a file")
    if Path(path).exists() and Path(path).stat().st_size > LARGEST:
        raise ServomexConfigurationError(
            f"{path} has more than {LARGEST // 1_000_000} MB, which is more than can be played: play a part of it"
        )


def _of_trace(path: str | Path, lines: list[TraceLine]) -> Playback:
    came = b"".join(line.data for line in lines if line.kind == "came")
    timed = HEADER.search(came) is not None or all(line.kind != "sent" for line in lines)
    if not lines:
        return Playback((), timed)
    _check_clock(path, lines)
    return Playback(tuple(_parts(lines, timed)), timed, lines[0].session.settings, lines[0].session.gap_s)


def _check_clock(path: str | Path, lines: list[TraceLine]) -> None:
    """Refuse a clock that jumps: the replay would wait for years.

    Raises:
        ServomexConfigurationError: The clock jumps.
    """
    for before, line in itertools.pairwise(lines):
        jump_s = abs(line.monotonic_ns - before.monotonic_ns) / 1e9
        if line.session is before.session and jump_s > LONGEST_S:
            raise ServomexConfigurationError(
                f"{path}, line {line.number}: its clock jumps by {jump_s:.0f} seconds"
            )


def _parts(lines: Iterable[TraceLine], timed: bool) -> Iterator[tuple[Section, ...]]:
    """Cut a trace where the port was lost, and each part at its requests."""
    part: list[tuple[bytes, float, list[Piece]]] = []
    for at_s, line in _on_one_clock(lines):
        if not part:
            part.append((b"", at_s, []))
        if line.kind == "sent" and not timed:
            part.append((line.data, at_s, []))
        elif line.kind in ("came", "lost"):
            _, since_s, pieces = part[-1]
            pieces.append(Piece(at_s - since_s, line.data))
        if line.kind == "lost":
            yield _frozen(part)
            part = []
    if part:
        yield _frozen(part)


def _frozen(part: list[tuple[bytes, float, list[Piece]]]) -> tuple[Section, ...]:
    return tuple(Section(request, at_s, tuple(pieces)) for request, at_s, pieces in part)


def _on_one_clock(lines: Iterable[TraceLine]) -> Iterator[tuple[float, TraceLine]]:
    """Yield each line with its seconds from the beginning. A session continues where the one before ended."""
    at_s = 0.0
    for _, session in itertools.groupby(lines, lambda line: id(line.session)):
        begun_s, first_ns = at_s, None
        for line in session:
            first_ns = line.monotonic_ns if first_ns is None else first_ns
            at_s = begun_s + (line.monotonic_ns - first_ns) / 1e9
            if line.kind != "closed":
                yield at_s, line


def _of_capture(path: str | Path, period_s: float | None) -> Playback:
    data = Path(path).read_bytes()
    frames = [*_frames(data)]
    if not frames:
        raise ServomexConfigurationError(f"{path} is neither a trace nor a capture: there is no broadcast in it")
    clocks = [clock for _, clock in frames]
    steps = [_step_s(*pair) if period_s is None else period_s for pair in itertools.pairwise(clocks)]
    times = itertools.accumulate([*(steps[:1] or [period_s or PERIOD_S]), *steps])
    starts = [0, *(start for start, _ in frames[1:]), len(data)]
    pieces = [
        Piece(at_s, data[start:end]) for at_s, (start, end) in zip(times, itertools.pairwise(starts), strict=True)
    ]
    return Playback(((Section(b"", 0.0, tuple(pieces)),),), timed=True)


def _frames(data: bytes) -> Iterator[tuple[int, datetime | None]]:
    """Find the good frames of a capture: where each begins, and the time on its clock."""
    splitter = FrameSplitter()
    place = 0
    for piece in [*splitter.feed(data), *splitter.flush()]:
        place = data.index(piece, place)
        try:
            clock = parse_frame(piece).analyser.clock
        except ServomexParseError:
            pass  # it is replayed with the frame before it
        else:
            yield place, clock
        place += len(piece)


def _step_s(before: datetime | None, after: datetime | None) -> float:
    """Return the time between two frames by their clocks, or the usual one if these do not show it."""
    step_s = (after - before).total_seconds() if before and after else 0.0
    return step_s if 0 < step_s <= LONGEST_PERIOD_S else PERIOD_S
