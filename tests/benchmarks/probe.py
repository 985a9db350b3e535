"""Measurements that need a process of their own: ``python -m tests.benchmarks.probe NAME OPTIONS``."""

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.benchmarks import growing
from tests.benchmarks.machine import Usage, resident_mib

FIRST_FRAMES = 5_000
"""Frames after which all that is made once has been made."""
SILENCE_S = 0.2
"""Longer than any gap, so that the first round begins on silent lines like all others."""


def modbus_open() -> dict[str, Any]:
    """Open a virtual analyser, all imports included that this needs; servomex itself is there."""
    import servomex

    begun = time.perf_counter()
    servomex.open_device("sim://4100", protocol="modbus_rtu").close()
    return {"seconds": time.perf_counter() - begun}


def rounds(ports: list[str], protocol: str, period: float, rounds: int) -> dict[str, Any]:
    """Ask the analysers of many ports every so many seconds."""
    from servomex import ServomexManager

    found: dict[str, Any] = {"rounds_ms": [], "a_port_mib": []}
    with ServomexManager() as manager:
        manager.add("first", ports[0], protocol=protocol)
        manager.poll()
        before_mib = resident_mib()
        for number, port in enumerate(ports[1:]):
            manager.add(f"a{number}", port, protocol=protocol, identify=protocol != "continuous")
        manager.poll()
        after_mib = resident_mib()
        if before_mib is not None and after_mib is not None and ports[1:]:
            found["a_port_mib"] = [(after_mib - before_mib) / len(ports[1:])]
        never = threading.Event()
        never.wait(SILENCE_S)
        usage = Usage()
        begun = time.monotonic()
        for number in range(1, rounds + 1):
            asked = time.monotonic()
            manager.poll()
            found["rounds_ms"].append(1000 * (time.monotonic() - asked))
            never.wait(max(0.0, begun + number * period - time.monotonic()))
        found["percent"] = [usage.percent]
    return found


class Flood:
    """A port that gives bytes as fast as they are read.

    Args:
        stream: What it gives, again and again.
        size: How many bytes it gives in all.
        first: After how many bytes to look at the memory for the first time.
    """

    def __init__(self, stream: bytes, size: int, first: int) -> None:
        self.port = "flood"
        self.timeout: float | None = 0.05
        self.ended = threading.Event()
        self.memory_mib: list[float] = []
        self._stream = stream
        self._left = size
        self._looks = [size - first]
        self._place = 0

    @property
    def in_waiting(self) -> int:
        """How much can be read at once."""
        return min(self._left, 4096, len(self._stream) - self._place)

    def read(self, size: int = 1) -> bytes:
        """Give the next bytes; at the end, wait for the timeout."""
        if self._looks and self._left <= self._looks[0]:
            self._looks.pop()
            self.memory_mib.append(resident_mib() or 0.0)
        if not self._left:
            self.ended.set()
            time.sleep(self.timeout or 0.0)
            return b""
        data = self._stream[self._place : self._place + min(size, self._left)]
        self._place = (self._place + len(data)) % len(self._stream)
        self._left -= len(data)
        return data

    def write(self, data: bytes) -> int:
        """Take what nobody sends in continuous mode.

        Raises:
            RuntimeError: Something was sent.
        """
        raise RuntimeError(f"{data!r} was sent")

    def reset_input_buffer(self) -> None:
        """Have nothing that waits."""


def flood(case: str, frames: int) -> dict[str, Any]:
    """Let frames, or as many bytes without a line end, pass through a reader."""
    from servomex import open_continuous
    from tests.benchmarks.samples import broadcasts

    messages = broadcasts(500)
    stream, each = b"".join(messages), len(messages[0])
    if case == "endless":
        stream = stream.replace(b"\n", b"").replace(b";", b",")  # no line ends, and no headers either
    port = Flood(stream, frames * each, min(FIRST_FRAMES, frames // 2) * each)
    usage = Usage()
    with open_continuous(port, identify=False) as analyzer:
        queue = analyzer.reader.subscribe() if case == "lazy" and analyzer.reader else None
        port.ended.wait()
        seconds = usage.wall_s
        after_mib = resident_mib() or 0.0
        latest = analyzer.reader.latest if analyzer.reader else None
        dropped = queue.dropped if queue else 0
    if (latest is None) != (case == "endless") or (case == "lazy" and not dropped):
        raise RuntimeError(f"{case}: the last frame is {latest}, {dropped} frames were dropped")
    return {
        "grown_mib": after_mib - port.memory_mib[0],
        "after_mib": after_mib,
        "megabytes_per_s": frames * each / seconds / 1e6,
    }


PROBES: dict[str, Callable[..., dict[str, Any]]] = {
    "modbus_open": modbus_open,
    "rounds": rounds,
    "flood": flood,
    "analysers": growing.analysers,
    "rows": growing.rows,
    "rotated": growing.rotated,
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(PROBES[sys.argv[1]](**json.loads(sys.argv[2]))))
