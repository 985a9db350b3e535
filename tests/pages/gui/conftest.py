"""The examples with a window can be imported, and show a virtual analyser."""

import pytest

from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.helpers.paths import EXAMPLES


@pytest.fixture(autouse=True)
def examples_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


@pytest.fixture
def analyser() -> VirtualAnalyzer:
    return VirtualAnalyzer()


@pytest.fixture
def line(analyser: VirtualAnalyzer) -> VirtualLine:
    return VirtualLine(analyser)
