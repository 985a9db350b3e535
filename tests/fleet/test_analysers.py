"""The analysers of a fleet are read each at its own rate; a change touches only those that it concerns."""

from collections import Counter
from collections.abc import Iterator, Sequence

import attrs
import pytest

from servomex.errors.mappings import FrozenMapping
from servomex.fleet.analysers import FleetAnalysers
from servomex.fleet.model import AnalyserEntry, Site
from servomex.models.sample import Sample
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.views.board import Board
from tests.helpers.waiting import wait_until

LOOPBACK = 8
SITE = Site(name="mill-3", tags={"line": "A"})


class Read:
    """What was read, and how often."""

    def __init__(self) -> None:
        self.board = Board()
        self.batches: Counter[str] = Counter()
        self.newest: dict[str, Sample] = {}
        self.fleet = FleetAnalysers(self.board, self.take)

    def take(self, samples: Sequence[Sample]) -> None:
        for sample in samples[:1]:
            self.batches[sample.device] += 1
            self.newest[sample.device] = sample
        self.board.take(samples)

    def comes(self, name: str, more: int = 2) -> None:
        """Wait until an analyser was read a few times more."""
        before = self.batches[name]
        wait_until(lambda: self.batches[name] >= before + more)


@pytest.fixture
def read() -> Iterator[Read]:
    read = Read()
    read.fleet.start()
    yield read
    read.fleet.close()


def entry(name: str, line: VirtualLine | None = None, **given: object) -> AnalyserEntry:
    port = line.url if line else "/dev/servomex-nowhere"
    return AnalyserEntry(name=name, port=port, protocol="modbus_rtu", **{"every": 0.05, **given})  # type: ignore[arg-type]


def test_each_is_read_at_its_own_rate_with_the_tags_of_site_and_analyser(read: Read) -> None:
    fast, slow = VirtualLine(), VirtualLine()
    read.fleet.apply([entry("fast", fast), entry("slow", slow, every=1000.0, tags={"line": "B"})], SITE)
    read.comes("fast", 5)
    wait_until(lambda: read.batches["slow"] == 1)
    assert dict(read.newest["fast"].metadata) == {"site": "mill-3", "line": "A"}
    assert dict(read.newest["slow"].metadata) == {"site": "mill-3", "line": "B"}


def test_one_that_is_not_there_is_an_error_and_stops_no_other(read: Read) -> None:
    line = VirtualLine()
    read.fleet.apply([entry("gone"), entry("here", line)], SITE)
    wait_until(lambda: "gone" in read.newest)
    read.comes("here")
    assert read.newest["gone"].error is not None
    assert [view.error is None for view in read.board.view()] == [False, True]


def test_a_change_touches_only_the_analyser_that_it_concerns(read: Read) -> None:
    lines = {name: VirtualLine() for name in ("stays", "changes", "goes", "comes")}
    before = [entry(name, lines[name]) for name in ("stays", "changes", "goes")]
    read.fleet.apply(before, SITE)
    for name in ("stays", "changes", "goes"):
        read.comes(name)
    after = [
        before[0],
        attrs.evolve(before[1], tags=FrozenMapping({"boiler": "2"})),
        entry("comes", lines["comes"]),
    ]
    assert sorted(read.fleet.apply(after, SITE)) == ["changes changed", "comes added", "goes removed"]
    for name in ("stays", "changes", "comes"):
        read.comes(name)
    seen = read.batches["goes"]
    assert read.newest["changes"].metadata["boiler"] == "2"
    assert [view.name for view in read.board.view()] == ["stays", "changes", "comes"]
    assert read.batches["goes"] == seen
    assert read.fleet.names == ("stays", "changes", "comes")


def test_the_port_of_one_that_stays_is_not_opened_again(read: Read) -> None:
    line, other = VirtualLine(VirtualAnalyzer()), VirtualLine()
    stays = entry("stays", line)
    read.fleet.apply([stays], SITE)
    read.comes("stays")
    assert any(data[1] == LOOPBACK for _, data in line.heard), "what a new connection begins with"
    heard = len(line.heard)
    assert read.fleet.apply([stays, entry("other", other)], SITE) == ["other added"]
    read.comes("stays")
    assert not any(data[1] == LOOPBACK for _, data in line.heard[heard:])
