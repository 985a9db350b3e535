"""Short waits, for the tests of calibrations that ask for them."""

import pytest

from tests.helpers.calibrating import shorten_waits


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a calibration wait for less."""
    shorten_waits(monkeypatch)
