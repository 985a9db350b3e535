"""A driver that decodes what it has read wrongly, for tests of those who are to notice it."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from servomex import registers
from servomex.models.reading import Reading


def change_readings(monkeypatch: pytest.MonkeyPatch, change: Callable[[Reading], Reading]) -> None:
    """Let everything that is read over Modbus come out changed."""
    one, many = registers.decode_channel, registers.decode_channels
    monkeypatch.setattr(registers, "decode_channel", lambda *read: change(one(*read)))
    monkeypatch.setattr(registers, "decode_channels", lambda *read: [change(item) for item in many(*read)])


def change_states(monkeypatch: pytest.MonkeyPatch, **states: Any) -> None:
    """Let the state of every channel that is read over Modbus come out changed."""
    decode = registers.decode_state
    # What is decoded wrongly here must not be remembered for the tests that follow.
    monkeypatch.setattr(registers, "_undated", registers._undated.__wrapped__)
    monkeypatch.setattr(registers, "decode_state", lambda *read: attrs.evolve(decode(*read), **states))
    change_readings(monkeypatch, lambda item: attrs.evolve(item, status=attrs.evolve(item.status, **states)))
