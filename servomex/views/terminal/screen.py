"""Screen: the terminal while the view is on it. It is drawn in place, and is afterwards as it was."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from servomex.views.terminal.texts import ASCII_BARS, BARS

Draw = Callable[[int, int], Sequence[Text]]
"""Returns the lines for a width and a height."""


class Screen:
    """Draws lines on a terminal, on its alternate screen. A context manager, for one thread.

    Args:
        file: The terminal.
        draw: Returns the lines.
    """

    def __init__(self, file: TextIO, draw: Draw) -> None:
        self._console = Console(file=file, highlight=False, emoji=False, markup=False)
        self._draw = draw
        self._live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    @property
    def bars(self) -> str:
        """The heights of courses that it can show."""
        return bars_of(self._console)

    def draw(self) -> None:
        """Draw the lines as they are now.

        Raises:
            OSError: The terminal is gone.
        """
        width, height = self._console.size
        lines = [fitting(line, self._console.encoding) for line in self._draw(width, height)]
        self._live.update(Group(*lines), refresh=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        with contextlib.suppress(OSError):  # it is gone
            self._live.stop()


def show_once(file: TextIO, draw: Callable[[int, str], Sequence[Text]]) -> None:
    """Write lines to a terminal, and leave them there."""
    console = Console(file=file, highlight=False, emoji=False, markup=False)
    for line in draw(console.width, bars_of(console)):
        console.print(fitting(line, console.encoding), crop=True)


def bars_of(console: Console) -> str:
    """Return the heights of courses that a terminal can show."""
    try:
        BARS.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return ASCII_BARS
    return BARS


def fitting(line: Text, encoding: str) -> Text:
    """Return a line with ``?`` in place of each character that the terminal does not have."""
    try:
        line.plain.encode(encoding)
    except UnicodeEncodeError:
        line.plain = line.plain.encode(encoding, "replace").decode(encoding)
    return line
