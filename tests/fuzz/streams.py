"""What is fuzzed of continuous mode: one frame, a stream that is cut into frames, and what a reader accepts."""

import calendar
import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import attrs

from servomex import ServomexError, ServomexParseError, telegram
from servomex.continuous import reader as continuous
from servomex.continuous.queue import FrameQueue
from servomex.models.frame import Frame
from servomex.models.reading import Reading
from servomex.runtime import suspend as awake
from tests.fuzz import oracle
from tests.fuzz.wrong import need
from tests.helpers.frames import GOOD_3, GOOD_10, WIRE, block, capture_frames, external, make

RECEIVED_AT = datetime(2026, 3, 1, tzinfo=UTC)
GLYPHS = {0x80 + digit: chr(0x2080 + digit) for digit in range(10)}
UNITS = {"%", "vpm", "ppm", "mA"}
MIXED = 3
"""After so many frames that were doubted two analysers may send in turn, and then none is believed."""
WITHIN = 100
"""Among so many frames."""
QUIET = 10
"""So many frames behind the last doubt one is alone again, or as many as were between the doubts."""
CLOCK_ALIKE_S = 2.0


def text(raw: bytes) -> str:
    """Read a text of the display."""
    letters = "".join(GLYPHS.get(byte, chr(byte)) for byte in raw.strip(b" \0"))
    return "".join("\ufffd" if ord(item) < 0x20 or 0x7F <= ord(item) < 0xA0 else item for item in letters)


def name_of(channel: oracle.Channel) -> str | None:
    """The name of a channel; one of spaces, NULs or bars alone is none."""
    return text(channel.name) if channel.name.strip(b" \0|") else None


def same_reading(reading: Reading, channel: oracle.Channel) -> bool:
    unit, status = text(channel.unit), reading.status
    known = next((item for item in UNITS if item.lower() == unit.lower()), "?")
    return (reading.channel, reading.name, reading.value, reading.unit_text, reading.unit.value) == (
        channel.id, name_of(channel), channel.value, unit, known,
    ) and (status.fault, status.maintenance, status.calibrating, status.warming_up, status.alarms) == (
        channel.fault, channel.maintenance, channel.calibrating, channel.warming_up, channel.alarms,
    )  # fmt: skip


def same_frame(frame: Frame, true: oracle.Broadcast) -> bool:
    analyser = frame.analyser
    whole = (analyser.fault, analyser.maintenance, analyser.cal_text, len(frame))
    return whole == (true.fault, true.maintenance, true.groups, len(true.channels)) and all(
        map(same_reading, frame, true.channels)
    )


def run_telegram(data: bytes) -> bool:
    """Parse one frame."""
    true = oracle.broadcast(data)
    try:
        frame = telegram.parse_frame(data, received_at=RECEIVED_AT, monotonic_ns=1)
    except ServomexParseError as error:
        need(true is None, "a good frame was refused", error)
        return False
    need(true is not None, "damage was believed")
    need(true is not None and same_frame(frame, true), "a frame was misread", frame, true)
    return True


def pieces_of(data: bytes) -> list[bytes]:
    """Cut an input into chunks whose sizes its own bytes tell."""
    chunks, place = [], 0
    while place < len(data):
        size = (1, 3, 7, 40, 206, 500)[data[place] % 6]
        chunks.append(data[place : place + size])
        place += size
    return chunks


def run_splitter(data: bytes) -> bool:
    """Cut a stream: whatever its chunks are, nothing is lost, and the same frames come out."""
    splitter = telegram.FrameSplitter()
    found: list[bytes] = []
    for chunk in pieces_of(data):
        found += splitter.feed(chunk)
        need(splitter.pending <= telegram.MAX_JUNK, "the buffer grows", splitter.pending)
    found += splitter.flush()
    need(splitter.pending == 0, "flush left something")
    rest = _without_ends(data)
    need(_without_ends(b"".join(found)) == rest, "bytes were lost, added or moved")
    good = {piece.rstrip(b"\r\n") for piece in found if oracle.broadcast(piece)}
    for line in data.split(b"\n"):
        whole = line.rstrip(b"\r")
        alone = telegram.HEADER.search(whole, 1) is None
        need(not (alone and oracle.broadcast(whole)) or whole in good, "a good frame was lost", whole)
    return bool(good)


def _without_ends(data: bytes) -> bytes:
    return data.translate(None, b"\r\n\0")


class _NoLink:
    """What a reader that was not started wants to know of its link."""

    port = "none"


def run_reader(data: bytes) -> bool:
    """Receive a stream: a good frame is accepted when its configuration is the last one or was seen twice."""
    reader = continuous.ContinuousReader(_NoLink())  # type: ignore[arg-type]
    queue, splitter = reader.subscribe(1000), telegram.FrameSplitter()
    pieces: list[bytes] = []
    for chunk in pieces_of(data):
        reader._take(chunk, datetime.now(UTC), awake.now())
        pieces += splitter.feed(chunk)
    reader._release()
    expected = _believed(filter(None, map(oracle.broadcast, pieces)))
    found = list(_frames_in(queue))
    for frame in found:
        true = oracle.broadcast(frame.raw)
        need(true is not None and same_frame(frame, true), "damage was believed", frame.raw)
        need(frame.raw in data, "a frame was put together from pieces", frame.raw)
    allowed = iter(expected)
    believed_before = all(any(same_frame(frame, item.frame) for item in allowed) for frame in found)
    need(believed_before, "a change was not confirmed")
    need(_has_all(found, expected), "a good frame was lost")
    return bool(found)


def _frames_in(queue: FrameQueue) -> Iterator[Frame]:
    for _ in range(len(queue)):
        with contextlib.suppress(ServomexError):  # in the place of a frame that was refused
            yield queue.get(0)


@attrs.frozen
class _Expected:
    """A frame that may be believed.

    Attributes:
        frame: What it says.
        certain: It must be: no two analysers can be taken to send in turn.
    """

    frame: oracle.Broadcast
    certain: bool


def _has_all(found: list[Frame], expected: list[_Expected]) -> bool:
    """Whether what was found is what was expected, in its order, but for some that were not certain."""
    places = {0}  # how many of those that were found may have been met so far
    for item in expected:
        met = {place + 1 for place in places if place < len(found) and same_frame(found[place], item.frame)}
        places = met if item.certain else met | places
    return len(found) in places


class _Doubts:
    """Knows when two sources may send in turn: after some doubts, until it has been quiet for long enough."""

    def __init__(self) -> None:
        self._places: deque[int] = deque()
        self._until = -1

    def possible(self, place: int) -> bool:
        """Whether a frame at this place may be refused for that."""
        return place <= self._until

    def note(self, place: int) -> None:
        """Note a frame that looks like one of another source, which the frame behind it may show."""
        self._places.append(place)
        while place - self._places[0] > WITHIN:
            self._places.popleft()
        if len(self._places) >= MIXED:
            self._until = place + 1 + max(QUIET, place + 1 - self._places[0])


def _believed(frames: Iterable[oracle.Broadcast]) -> list[_Expected]:
    """The frames that may be believed.

    A new configuration, and a clock that went back, is believed from its second frame in a row on.
    """
    believed: object = None
    doubted: object = None
    shown = -1.0
    found: list[_Expected] = []
    doubts = _Doubts()
    for place, frame in enumerate(frames):
        names = [(item.id, name_of(item), text(item.unit)) for item in frame.channels]
        at = _time_shown(frame.clock)
        configuration = (names, at is None)
        changed = believed not in (None, configuration)
        back = at is not None and at < shown
        ahead = at is not None and at - shown >= CLOCK_ALIKE_S
        if changed or back or (ahead and doubts.possible(place)):
            doubts.note(place)
        if (not changed and not back) or doubted == configuration:
            believed, doubted = configuration, None
            shown = -1.0 if at is None else at
            found.append(_Expected(frame, certain=not doubts.possible(place)))
        else:
            doubted = configuration
    return found


def _time_shown(clock: bytes) -> float | None:
    """The analyser's clock as a number that grows with it; ``None`` when it shows no time."""
    if not _shows_time(clock):
        return None
    day, month, year, hour, minute, second = (int(clock[place : place + 2]) for place in (0, 3, 6, 9, 12, 15))
    return calendar.timegm((2000 + year, month, day, hour, minute, second))


def _shows_time(clock: bytes) -> bool:
    day, month, year, hour, minute, second = (clock[place : place + 2] for place in (0, 3, 6, 9, 12, 15))
    if (clock[2:3], clock[5:6], clock[11:12], clock[14:15]) != (b"-", b"-", b":", b":"):
        return False
    if not all(part.isdigit() for part in (day, month, year, hour, minute, second)):
        return False
    days = calendar.monthrange(2000 + int(year), int(month))[1] if 1 <= int(month) <= 12 else 0
    return 1 <= int(day) <= days and int(hour) < 24 and int(minute) < 60 and int(second) < 60


FULL = make(
    block(b"I1", b"CO\x82   ", b"-1.250", b"vpm", b"1 3 ", b"FM", b"C", b"W"), block(b"D2", value=b"------"),
    external(b"E1", flags=b"F "), external(b"E2"), flags=b"FM", cal=b"S1C2S1S1", clock=b"00-00-00;00:00:00",
) + b"\r\n"  # fmt: skip
FRAMES = (WIRE, GOOD_3, GOOD_10, FULL, make(block()), make(block(), external(b"E2")))
IN_TURN = (make(block(b"I1")) + b"\n", make(block(b"I2")) + b"\n")
STREAMS = (
    b"\r\n".join(capture_frames()),
    b"".join(IN_TURN) * MIXED + IN_TURN[0] * (QUIET + 3),
    WIRE + FULL + FULL,
    b"noise" + WIRE + b";;\n" + GOOD_10 + WIRE[50:] + WIRE,
    b"~" * 1300,
    WIRE[:40] * 30,
)
