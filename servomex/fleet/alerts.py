"""Alerts: programs that are started, and web hooks that are called, when something happens to an analyser."""

import contextlib
import json
import os
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Self

import attrs

from servomex.enums import OverflowPolicy
from servomex.errors import ServomexTimeoutError
from servomex.errors.excerpts import plain, without_password
from servomex.fleet.model import AlertEntry
from servomex.runtime.clock import time
from servomex.runtime.logs import package_log
from servomex.runtime.queues import BoundedQueue, Closed
from servomex.runtime.worker import Worker
from servomex.views.events import Event

_log = package_log("servomex.fleet")

WAITING = 1000
"""Events that may wait while a program runs; then the oldest are dropped, which the log says."""
CALL_S = 30.0
"""How long a program may run."""
HOOK_S = 4.0
"""How long a web hook may take: less than the thread has to end."""
TICK_S = 0.2
LOG_CHARS = 300
"""The end of what a program wrote to stderr that the log shows."""


@attrs.define
class _Held:
    """The last call for one state, and the newest event since, which waits for the interval to pass."""

    called_at: float
    over: bool
    waiting: Event | None = None


class Alerts:
    """Calls what the ``[[alert]]`` tables of a fleet file name, in a thread of its own. A context manager.

    Between two calls for one state of one channel ``min_interval`` passes. What happened meanwhile is not
    forgotten: when it has passed, the newest event is told, unless the state is what was told last.

    Args:
        entries: The tables.
    """

    def __init__(self, entries: Sequence[AlertEntry]) -> None:
        self._entries = tuple(entries)
        self._held: dict[tuple[int, str, str | None, str], _Held] = {}
        self._events: BoundedQueue[Event] = BoundedQueue(WAITING, OverflowPolicy.DROP_OLDEST)
        self._dropping = False
        self._worker = Worker("servomex-alerts", self._run)

    def take(self, events: Sequence[Event]) -> None:
        """Take what happened; never waits."""
        for event in events if self._entries else ():
            for dropped in self._events.put(event):
                _log.error(
                    "an alert was dropped, since %d wait already: %s %s", WAITING, dropped.device, dropped.text
                )

    def start(self) -> Self:
        """Start, unless there is nothing to call.

        Raises:
            ServomexError: The system cannot start another thread.
        """
        if self._entries:
            self._worker.start()
        return self

    def close(self) -> None:
        """End; a program that runs is ended too. May be called twice.

        Raises:
            ServomexError: The thread did not end within 5 s.
        """
        self._events.close()
        self._worker.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _run(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            with contextlib.suppress(ServomexTimeoutError):
                try:
                    event = self._events.take(1, TICK_S)[0]
                except Closed:
                    return
                for number, entry in enumerate(self._entries):
                    if event.kind in entry.on:
                        self._consider(number, event, stopping)
            self._call_waiting(stopping)

    def _consider(self, number: int, event: Event, stopping: threading.Event) -> None:
        """Call for an event, or let it wait for the interval to pass."""
        key = (number, event.device, event.channel, event.state)
        held = self._held.get(key)
        if held is not None and time.monotonic() - held.called_at < self._entries[number].min_interval:
            held.waiting = event
            return
        self._held[key] = _Held(time.monotonic(), event.over)
        self._call(self._entries[number], event, stopping)

    def _call_waiting(self, stopping: threading.Event) -> None:
        for (number, *_), held in list(self._held.items()):
            entry, event = self._entries[number], held.waiting
            if event is None or time.monotonic() - held.called_at < entry.min_interval:
                continue
            held.waiting = None
            if event.over != held.over:
                held.called_at, held.over = time.monotonic(), event.over
                self._call(entry, event, stopping)

    def _call(self, entry: AlertEntry, event: Event, stopping: threading.Event) -> None:
        message = json.dumps(event.as_json()).encode()
        if entry.command is not None:
            _start(entry.command, message, stopping)
        elif entry.webhook is not None:
            _post(entry.webhook, message)


def _start(command: Sequence[str], message: bytes, stopping: threading.Event) -> None:
    """Run a program with the event as JSON on its stdin, for at most :data:`CALL_S` seconds."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(message)
        given.seek(0)
        try:
            program = subprocess.Popen(  # noqa: S603 (see above)
                command, stdin=given, stdout=subprocess.DEVNULL, stderr=said
            )
        except OSError as error:
            _log.error("the alert %s cannot be started: %s", command[0], error.strerror or error)
            return
        with program:
            if not _ends(program, stopping):
                program.kill()
                _log.error("the alert %s was ended: it ran for too long, or this program ends", command[0])
        if program.returncode > 0:
            said.seek(max(0, said.seek(0, os.SEEK_END) - LOG_CHARS))
            why = plain(said.read().decode("utf-8", "replace"))
            _log.error("the alert %s ended with %d: %s", command[0], program.returncode, why)


def _ends(program: "subprocess.Popen[bytes]", stopping: threading.Event) -> bool:
    """Return whether a program ends in time."""
    end = time.monotonic() + CALL_S
    while time.monotonic() < end and not stopping.is_set():
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(TICK_S)
            return True
    return False


def _post(url: str, message: bytes) -> None:
    """Post an event as JSON."""
    request = urllib.request.Request(  # noqa: S310 (the scheme is checked with the file)
        url, data=message, headers={"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=HOOK_S) as reply:  # noqa: S310
            reply.read(LOG_CHARS)
    except (OSError, ValueError) as error:
        _log.error("the alert %s failed: %s", without_password(url), plain(str(error)))
