"""pyserial's handler of ``sim://`` URLs: a virtual line with the interface of a serial port, on every system."""

from typing import Any

from serial.serialutil import PortNotOpenError, SerialBase

from servomex.runtime.clock import time
from servomex.simulator.line import VirtualLine
from servomex.simulator.replay import ReplayLine
from servomex.simulator.urls import line_from_url, replay_from_url


class Serial(SerialBase):
    """A port at the end of a :class:`VirtualLine`, or of a :class:`ReplayLine`."""

    _line: VirtualLine | ReplayLine | None = None
    _reader = 0

    def open(self) -> None:
        """Open the line of the URL."""
        url = str(self.port)
        line = replay_from_url(url) or line_from_url(url, int(self.baudrate))
        self._reader = line.open(int(self.baudrate))
        self._line = line
        self.is_open: bool = True

    def close(self) -> None:
        """Release the line; a thread waiting for bytes returns."""
        line, self._line = self._line, None
        self.is_open = False
        if line is not None:
            line.close(self._reader)

    def _reconfigure_port(self, *_args: Any, **_options: Any) -> None:
        """Do nothing: settings are checked when the port is opened."""

    def _open_line(self) -> VirtualLine | ReplayLine:
        if self._line is None:
            raise PortNotOpenError
        self._line.check(self._reader)
        return self._line

    @property
    def in_waiting(self) -> int:
        """The number of bytes that can be read at once."""
        return self._open_line().waiting()

    def read(self, size: int = 1) -> bytes:
        """Read ``size`` bytes, or fewer if the timeout ends first."""
        deadline = None if self.timeout is None else time.monotonic() + float(self.timeout)
        data = b""
        line = self._open_line()
        with line.changed:
            while True:
                data += self._open_line().take(size - len(data))
                remaining = None if deadline is None else deadline - time.monotonic()
                if len(data) >= size or (remaining is not None and remaining <= 0):
                    return data
                waits = [wait for wait in (line.next_due(), remaining) if wait is not None]
                line.changed.wait(min(waits, default=None))

    def write(self, data: Any) -> int:
        """Send bytes."""
        payload = bytes(data)
        self._open_line().write(payload)
        return len(payload)

    def flush(self) -> None:
        """Do nothing: what is written is on its way."""
        self._open_line()

    def reset_input_buffer(self) -> None:
        """Drop what has arrived."""
        self._open_line().discard()

    def reset_output_buffer(self) -> None:
        """Do nothing: what is written is on its way."""
        self._open_line()
