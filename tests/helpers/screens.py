"""A terminal with a program on it: a pseudo-terminal, and an emulator that shows what is on the screen."""

import contextlib
import os
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Iterator

import pyte

from tests.helpers.commands import program
from tests.helpers.waiting import wait_until


class Terminal:
    """A terminal of some size, and the program that runs on it.

    Attributes:
        child: The program.
        seen: All bytes that it has written.
    """

    def __init__(self, child: "subprocess.Popen[bytes]", master: int, columns: int, lines: int) -> None:
        self.child = child
        self.seen = b""
        self._master = master
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the program has ended
                return
            with self._lock:
                self.seen += data
                self._stream.feed(data)

    @property
    def text(self) -> list[str]:
        """The lines on the screen."""
        with self._lock:
            return [line.rstrip() for line in self._screen.display]

    def styles(self, word: str) -> set[tuple[str, bool, bool]]:
        """The colour of a word's characters where it is first on the screen, and whether bold and reversed."""
        with self._lock:
            for number, line in enumerate(self._screen.display):
                if (at := line.find(word)) >= 0:
                    cells = [self._screen.buffer[number][at + offset] for offset in range(len(word))]
                    return {(cell.fg, cell.bold, cell.reverse) for cell in cells}
        raise AssertionError(f"{word} is not on the screen")

    def shows(self, *words: str, limit_s: float = 10.0) -> list[str]:
        """Wait until all of these are on the screen, and return its lines."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: all(any(word in line for line in self.text) for word in words), limit_s)
        text = self.text
        assert all(any(word in line for line in text) for word in words), (words, "\n".join(text))
        return text

    def resize(self, columns: int, lines: int) -> None:
        """Make it another size."""
        import fcntl
        import termios

        with self._lock:
            self._screen.resize(lines, columns)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.child.send_signal(signal.SIGWINCH)

    def end(self, number: signal.Signals | None = signal.SIGINT) -> int:
        """End the program by a signal, or wait for its own end; return its exit code."""
        if number is not None:
            self.child.send_signal(number)
        code = self.child.wait(30)
        time.sleep(0.05)
        return code

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        self._reader.join()
        os.close(self._master)


@contextlib.contextmanager
def on_terminal(
    *args: str, size: tuple[int, int] = (80, 24), main: str = "main", **environment: str
) -> Iterator[Terminal]:
    """Run a command with stdin, stdout and stderr on a terminal of its own."""
    import fcntl
    import pty
    import termios

    master, slave = pty.openpty()
    columns, lines = size
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    env = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    env |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONUTF8": "1", "TZ": "UTC", **environment}
    child = subprocess.Popen(program(*args, main=main), stdin=slave, stdout=slave, stderr=slave, env=env)
    os.close(slave)
    terminal = Terminal(child, master, columns, lines)
    try:
        yield terminal
    finally:
        terminal.close()
