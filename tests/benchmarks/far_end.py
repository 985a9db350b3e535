"""The other end of the line, in a process of its own, so that what it costs is not counted as the driver's.

``serve`` answers Modbus like an analyser; ``send`` writes broadcasts, in the pieces in which a serial port hands
them out, and notes when. Both open pseudo-terminals, name them in one line of JSON, and end with their input.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import attrs

from servomex.simulator import PtyServer, VirtualAnalyzer, VirtualLine
from servomex.telegram import format_frame
from tests.benchmarks.figures import Unavailable
from tests.benchmarks.machine import environment
from tests.benchmarks.samples import numbered_frames
from tests.helpers.paths import ROOT

PIECE = 16
"""Bytes that a serial port hands out at once: the receiver of a 16550 interrupts after 14 of 16."""
WAIT_S = 20.0


@attrs.frozen
class FarEnd:
    """A process at the other end.

    Attributes:
        ports: What to open.
    """

    ports: list[str]
    _process: "subprocess.Popen[str]"

    def go(self) -> None:
        """Let it begin to send."""
        self._tell("go")

    def sent_ns(self) -> list[int]:
        """When the last byte of each broadcast was sent, on the monotonic clock; waits until all are sent."""
        stamps: list[int] = _said(self._process)
        return stamps

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()


@contextlib.contextmanager
def far_end(job: str, **options: Any) -> Iterator[FarEnd]:
    """Start a process that serves or sends, and end it.

    Raises:
        Unavailable: This system has no pseudo-terminals.
    """
    if not hasattr(os, "openpty"):
        raise Unavailable("this system has no pseudo-terminals")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.far_end", job, json.dumps(options)],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        yield FarEnd(_said(process), process)
    finally:
        with contextlib.suppress(OSError):
            process.stdin and process.stdin.close()
        try:
            process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout and process.stdout.close()


def _said(process: "subprocess.Popen[str]") -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("the process at the other end of the line has ended")
    return json.loads(line)


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def serve(ports: int = 1, late: float = 0.0, mode: str = "modbus_rtu", analysers: int = 1, **line: Any) -> None:
    """Answer Modbus on so many pseudo-terminals.

    Args:
        ports: How many.
        late: Seconds after which the replies come; all their bytes at once unless the line is paced.
        mode: The mode of the analysers.
        analysers: How many there are on each line, with addresses from 1 on.
        line: Options of the line, such as ``pace`` and ``baudrate``.
    """
    with contextlib.ExitStack() as servers:
        served = [servers.enter_context(PtyServer(_line(late, mode, analysers, line))) for _ in range(ports)]
        _say([item.port for item in served])
        sys.stdin.read()


def _line(late: float, mode: str, analysers: int, options: dict[str, Any]) -> VirtualLine:
    served = [VirtualAnalyzer(mode=mode, address=1 + number) for number in range(analysers)]
    for analyser in served:
        analyser.faults.late = late
    return VirtualLine(*served, **options)


FASTEST_S = 1e-4
"""About the time between two broadcasts that come as fast as they are taken."""


def send(count: int | None = None, ports: int = 1, baudrate: int | None = None, period: float = 0.0) -> None:
    """Write broadcasts to so many pseudo-terminals.

    Args:
        count: How many to each; without end when ``None``.
        ports: How many pseudo-terminals.
        baudrate: The pieces come as fast as on such a line; each broadcast at once, when ``None``.
        period: Seconds from the start of a broadcast to that of the next.
    """
    pairs = [_open_pair() for _ in range(ports)]
    _say([os.ttyname(client) for _, client in pairs])
    sys.stdin.readline()
    # Their clock runs on and does not race: of a clock that jumps, the first broadcast is refused.
    messages = [format_frame(frame) for frame in numbered_frames(count or 500, period_s=period or FASTEST_S)]
    stamps: list[int] = []
    begun = time.monotonic()
    while count is None or len(stamps) < count:
        if period and _is_told_to_end(begun + len(stamps) * period):
            return
        stamps.append(_send(messages[len(stamps) % len(messages)], [master for master, _ in pairs], baudrate))
    _say(stamps)
    sys.stdin.read()


def _open_pair() -> tuple[int, int]:
    import tty

    master, client = os.openpty()
    tty.setraw(client)
    return master, client


def _send(message: bytes, masters: Sequence[int], baudrate: int | None) -> int:
    """Write a message everywhere, piece by piece, and tell when the last one was written."""
    size = len(message) if baudrate is None else PIECE
    first = len(message) % size or size  # the last piece is a whole one, so that it holds the whole checksum
    cuts = [0, *range(first, len(message) + 1, size)]
    begun, now_ns = time.monotonic(), 0
    for start, end in pairwise(cuts):
        if baudrate is not None:
            _wait_until(begun + 10 * end / baudrate)
        now_ns = time.monotonic_ns()
        for master in masters:
            rest = message[start:end]
            while rest:
                rest = rest[os.write(master, rest) :]
    return now_ns


def _wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _is_told_to_end(moment: float) -> bool:
    """Wait until a moment, or until the other process says or closes something."""
    return bool(select.select([sys.stdin], [], [], max(0.0, moment - time.monotonic()))[0])


JOBS: dict[str, Callable[..., None]] = {"serve": serve, "send": send}

if __name__ == "__main__":
    JOBS[sys.argv[1]](**json.loads(sys.argv[2]))
