"""A network that stalls, a program that stands still: nothing old is given as current, all is accounted for."""

import ast
import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Self

import pytest

from servomex import Analyzer, Frame, Recorder, Sample, ServomexError, ServomexStaleError, open_continuous
from servomex.sinks import InMemorySink
from tests.helpers.background import ended, repeating
from tests.helpers.frames import EXTERNALS, block, make

PERIOD = 0.25
SLACK_S = 0.3
UNSET = b"00-00-00;00:00:00"


class Server:
    """A serial server on the network. Each value that it sends is the moment at which it was measured.

    Args:
        has_clock: Whether the analyser's clock is set.
    """

    def __init__(self, *, has_clock: bool) -> None:
        self._has_clock = has_clock
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connection: socket.socket | None = None
        self.begun = time.monotonic()
        self.sent = 0
        self.url = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._connection is not None:
            self._connection.close()
        self._listener.close()

    def accept(self) -> None:
        self._listener.settimeout(30.0)
        self._connection, _ = self._listener.accept()

    def broadcast(self) -> bytes:
        """What the analyser sends now."""
        clock = f"{datetime.now(UTC):%d-%m-%y;%H:%M:%S}".encode() if self._has_clock else UNSET
        value = b"%6.2f" % (time.monotonic() - self.begun)
        self.sent += 1
        return make(block(value=value), *EXTERNALS, clock=clock) + b"\r\n"

    def send(self, *messages: bytes) -> None:
        assert self._connection is not None
        self._connection.sendall(b"".join(messages))

    def run(self, seconds: float, *, stalled: bool = False) -> None:
        """Broadcast for some time; with a stall all of it goes out at its end."""
        held: list[bytes] = []
        for _ in range(round(seconds / PERIOD)):
            threading.Event().wait(PERIOD)
            held.append(self.broadcast())
            if not stalled:
                self.send(*held)
                held.clear()
        if held:
            self.send(*held)


class Judge:
    """Sees whether what is given as current is so."""

    def __init__(self, server: Server, analyzer: Analyzer) -> None:
        self._server = server
        self._analyzer = analyzer
        self.stale: list[str] = []
        self.frames = 0

    def frame(self, where: str, frame: Frame, limit_s: float | None = None) -> None:
        limit_s = self._analyzer.fresh_for_s() if limit_s is None else limit_s
        self.look(where, frame["I1"].value, frame.age_s, limit_s)

    def look(self, where: str, value: float | None, age_s: float, limit_s: float) -> None:
        assert value is not None
        self.frames += 1
        true_s = time.monotonic() - self._server.begun - value
        if age_s <= limit_s and true_s > limit_s + SLACK_S:
            self.stale.append(f"{where}: {true_s:.2f} s old, says {age_s:.2f}, limit {limit_s:.2f}")


def polling(judge: Judge, analyzer: Analyzer) -> contextlib.AbstractContextManager[None]:
    def poll() -> None:
        with contextlib.suppress(ServomexStaleError):
            judge.frame("poll", analyzer.poll(timeout=0.05))
        with contextlib.suppress(ServomexStaleError):
            judge.frame("max_age", analyzer.poll(timeout=0.05, max_age=0.1), 0.1)
        with contextlib.suppress(ServomexStaleError):
            called = time.monotonic()
            frame = analyzer.poll(timeout=0.3, wait_fresh=True)
            judge.frame("wait_fresh", frame, time.monotonic() - called)

    return repeating(poll, 0.02)


@pytest.mark.parametrize("has_clock", [True, False], ids=["clock", "no clock"])
def test_a_network_that_stalls_gives_nothing_old_as_current(has_clock: bool) -> None:
    with Server(has_clock=has_clock) as server:
        accepting = threading.Thread(target=server.accept)
        accepting.start()
        with open_continuous(server.url, identify=False) as analyzer:
            accepting.join()
            server.run(5 * PERIOD)
            threading.Event().wait(0.15)
            judge, memory = Judge(server, analyzer), InMemorySink()
            before = server.sent
            recorder = Recorder(analyzer, [memory])
            given: list[Frame | ServomexError] = []

            def take(item: Frame | ServomexError) -> None:
                given.append(item)
                if isinstance(item, Frame):
                    judge.frame("subscribe", item)

            with analyzer.subscribe(take), analyzer.stream() as stream, recorder, polling(judge, analyzer):
                server.run(12 * PERIOD)
                server.run(14 * PERIOD, stalled=True)
                server.run(6 * PERIOD)
                threading.Event().wait(0.3)
                samples = list(waiting(stream.get))
            assert judge.stale == []
            assert judge.frames > 50
            for sample in (*samples, *memory.samples):
                if sample.reading and sample.channel == "I1":
                    assert sample.reading.value is not None
                    assert sample.monotonic_ns / 1e9 - server.begun - sample.reading.value < SLACK_S + PERIOD
            sent = server.sent - before
            rows = {sample.monotonic_ns for sample in memory.samples if sample.reading}
            good = recorder.summary.samples_emitted - recorder.summary.errors
            assert len(rows) == good == sent == len([x for x in given if isinstance(x, Frame)])
            assert recorder.summary.delayed >= 13
            assert f", {recorder.summary.delayed} delayed on the way" in str(recorder.summary)


def waiting(get: Callable[[float], Sample]) -> Iterator[Sample]:
    """What a stream holds."""
    with contextlib.suppress(ServomexError):
        while True:
            yield get(0.1)


CHILD = """
import sys, threading, time
from servomex import open_continuous, Recorder, Frame
from servomex.sinks import InMemorySink
url, begun = sys.argv[1], float(sys.argv[2])
bad, seen = [], [0]

def judge(where, frame):
    seen[0] += 1
    true_s, limit_s = time.monotonic() - begun - frame["I1"].value, analyzer.fresh_for_s()
    if frame.age_s <= limit_s and true_s > limit_s + 0.3:
        bad.append(f"{where}: {true_s:.2f} s old, says {frame.age_s:.2f}")

with open_continuous(url, identify=False) as analyzer:
    memory = InMemorySink()
    def take(item):
        if isinstance(item, Frame):
            judge("subscribe", item)
    with Recorder(analyzer, [memory]) as recorder, analyzer.subscribe(take):
        print("ready", flush=True)
        until, stood_still = time.monotonic() + 60, False
        while time.monotonic() < until:
            if not stood_still and any("did not run" in str(row.error) for row in memory.samples):
                until, stood_still = time.monotonic() + 1, True
            try:
                judge("poll", analyzer.poll(timeout=0.1))
            except TimeoutError:
                pass
            time.sleep(0.01)
    summary = recorder.summary
    for row in memory.samples:
        if row.reading and row.channel == "I1" and row.monotonic_ns / 1e9 - begun - row.reading.value > 0.6:
            bad.append(f"row: {row}")
    shown = [str(row.error) for row in memory.samples if row.error]
    good = summary.samples_emitted - summary.errors
    print(repr((bad, seen[0], good, summary.dropped, shown)), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGSTOP on Windows")
@pytest.mark.parametrize("has_clock", [True, False], ids=["clock", "no clock"])
def test_what_waited_while_the_program_stood_still_is_dropped_and_counted(has_clock: bool) -> None:
    """At 900 broadcasts it waits longer than a second in a socket, which gives it byte by byte."""
    with Server(has_clock=has_clock) as server:
        accepting = threading.Thread(target=server.accept)
        accepting.start()
        arguments = [sys.executable, "-c", CHILD, server.url, repr(server.begun)]
        with ended(subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)) as child:
            accepting.join()
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            server.run(8 * PERIOD)
            child.send_signal(signal.SIGSTOP)
            threading.Event().wait(0.1)
            server.send(*(server.broadcast() for _ in range(900)))
            server.run(8 * PERIOD)
            child.send_signal(signal.SIGCONT)
            with contextlib.suppress(OSError):
                while child.poll() is None:
                    server.run(PERIOD)
            bad, seen, good, dropped, shown = ast.literal_eval(child.stdout.read())
        assert bad == []
        assert seen > 50
        assert dropped >= 900
        assert server.sent - 4 <= good + dropped <= server.sent
        assert any("did not run" in text and f"{dropped} broadcasts" in text for text in shown)
