"""Pseudo-terminals that are unplugged and plugged in again, and what a link reads from them."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from servomex.errors import ServomexConnectionError
from servomex.port.link import SerialLink
from tests.helpers.modbus_bytes import PROBE, STATE
from tests.helpers.threads import GENEROUS_S, in_thread
from tests.helpers.waiting import soon


class Terminal:
    """A pseudo-terminal at a path that stays the same when it is plugged in again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.master = -1

    def plug(self) -> None:
        import pty
        import tty

        self.master, self._client = pty.openpty()
        tty.setraw(self._client)
        self.path.symlink_to(os.ttyname(self._client))

    def unplug(self) -> None:
        if self.master >= 0:
            self.path.unlink()
            os.close(self._client)
            os.close(self.master)
            self.master = -1


def read_all(link: SerialLink, size: int) -> bytes:
    data, deadline = b"", soon()
    while len(data) < size and (piece := link.read(deadline)):
        data += piece
    return data


def reading(link: SerialLink) -> "Future[bytes]":
    """Let a thread read for a long time; return when it holds the port."""
    begun = threading.Event()

    def read() -> bytes:
        with link.conversation(soon()):
            begun.set()
            return link.read(soon())

    future = in_thread(read)
    assert begun.wait(GENEROUS_S)
    return future


def talk(link: SerialLink) -> bytes:
    with link.conversation(soon()):
        link.write(PROBE)
        return read_all(link, len(STATE))


def lost(call: Callable[[], object]) -> str:
    with pytest.raises(ServomexConnectionError) as caught:
        call()
    assert type(caught.value) is ServomexConnectionError
    return caught.value.text
