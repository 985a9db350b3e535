"""A serial port that can be unplugged, for the tests of ports."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.terminals import Terminal


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "ttyUSB0")
    terminal.plug()
    yield terminal
    terminal.unplug()
