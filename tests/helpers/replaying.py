"""What the tests of replays share: traces, and a reader with a clock of its own."""

from pathlib import Path
from typing import Any

from servomex.simulator.playback import load_recording
from servomex.simulator.replay import ReplayLine
from tests.helpers.bench import Clock
from tests.helpers.frames import WIRE
from tests.helpers.modbus_bytes import rtu

HEADER = "# servomex trace 1 version=0.1.0 started=2026-03-01T12:30:45+00:00 settings=9600,8E1 gap=0.07 port=COM3"
PROBE, STATE = rtu("01 02 03E8 0010"), rtu("01 02 02 0000")
OTHER, OTHER_STATE = rtu("01 02 0000 0010"), rtu("01 02 02 0100")
FENCE, FENCE_NOW = rtu("01 08 0000 1234"), rtu("01 08 0000 ABCD")

Step = tuple[float, str, bytes | str]


def trace(path: Path, *steps: Step) -> Path:
    """Write a trace from seconds, ``>``, ``<`` or ``!``, and bytes or an event; ``#`` begins a session."""
    lines = [HEADER]
    for at_s, way, what in steps:
        text = what if isinstance(what, str) else what.hex(" ")
        stamp = f"{700 + at_s:.9f} 2026-03-01T12:30:45.000000+00:00"
        lines.append(HEADER if way == "#" else f"{stamp} {way} {text}")
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


class Reader:
    """A reader of a line whose clock stands still until it is moved."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.clock = Clock()
        self.line = ReplayLine(load_recording(path), clock=self.clock, **options)
        self.open()

    def open(self) -> None:
        self.number = self.line.open(19200)
        self.line.discard()
        self.first = self.read()

    def read(self) -> bytes:
        """What one call of SerialLink.read gives."""
        self.line.check(self.number)
        data = self.line.take(1)
        while data and (waiting := self.line.waiting()):
            data += self.line.take(waiting)
        return data

    def after(self, seconds: float) -> bytes:
        self.clock.now += seconds
        return self.read()

    def ask(self, request: bytes) -> bytes:
        self.line.check(self.number)
        self.line.write(request)
        return self.read()


BROADCASTS: tuple[Step, ...] = (
    (0.0, "!", "opened"),
    (0.1, ">", PROBE),
    (1.0, "<", WIRE[:50]),
    (1.5, "<", WIRE[50:]),
    (4.0, "<", WIRE),
    (9.0, "!", "closed"),
)

REQUESTS: tuple[Step, ...] = (
    (0.0, "!", "opened"),
    (1.0, ">", PROBE),
    (1.2, "<", STATE[:3]),
    (1.3, "<", STATE[3:]),
    (3.0, ">", OTHER),
    (3.1, "<", OTHER_STATE),
    (5.0, ">", PROBE),
    (5.2, "<", STATE[:2]),
)

LOSS: tuple[Step, ...] = (
    *REQUESTS[:4],
    (2.0, "!", "lost device disconnected"),
    (60.0, "!", "reopened"),
    (60.1, ">", PROBE),
    (60.2, "<", OTHER_STATE),
    (61.0, "!", "lost"),
    (62.0, "!", "closed"),
)
