"""Outages, damage and changes in a recording: lines when they begin and end, marks in the file, and a count."""

import contextlib
import itertools
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import attrs
import pytest

from servomex import (
    AcquisitionSummary,
    Analyzer,
    ChannelId,
    ProtocolKind,
    Recording,
    Sample,
    ServomexConnectionError,
    ServomexManager,
    ServomexTimeoutError,
    open_device,
    record,
)
from servomex.continuous.queue import FrameQueue
from servomex.errors import ServomexChannelError, ServomexChecksumError, ServomexParseError
from servomex.port.link import SerialLink
from servomex.port.reopening import Pauses
from servomex.recording.outages import Outages
from servomex.runtime import clock
from servomex.simulator import TcpServer, VirtualAnalyzer, VirtualLine
from tests.helpers.recorded import OwnSource, sample


def opened(port: str, mode: str = "modbus_rtu") -> Analyzer:
    """Open an analyser called ``rig`` that does not wait for long."""
    return open_device(port, protocol=mode, gap=0.002, timeout=0.3, retries=0, name="rig")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, "servomex")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture(autouse=True)
def quick_reconnection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SerialLink, "pauses", Pauses(0.05, 0.1))


def until(rec: Recording, wanted: Callable[[list[Sample]], bool]) -> list[Sample]:
    """Take batches until one is as wanted."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        batch = rec.get(30)  # the cadence is known after some broadcasts; until then silence takes 10 s
        if wanted(batch):
            return batch
    raise AssertionError("no such batch came")


def failed(batch: list[Sample]) -> bool:
    return any(item.error for item in batch)


def worked(batch: list[Sample]) -> bool:
    return not failed(batch)


class TestOneSource:
    @pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii", "continuous"])
    @pytest.mark.parametrize("how", ["unplugged", "mute"])
    @pytest.mark.virtual_time
    def test_a_line_reports_the_loss_and_one_of_the_return(
        self, mode: str, how: str, log: Callable[[], list[str]]
    ) -> None:
        line = VirtualLine(VirtualAnalyzer(mode=mode, period=0.05))
        with opened(line.url, mode) as analyzer:
            with record(analyzer, rate_hz=None if mode == "continuous" else 20) as rec:
                until(rec, worked)
                self.set(line, how, lost=True)
                first = until(rec, failed)
                until(rec, failed)
                self.set(line, how, lost=False)
                until(rec, worked)
            summary = rec.summary
        lines = [text for text in log() if text.startswith("rig")]
        assert len(lines) == 2
        assert lines[0] == f"rig: readings fail from now on: {first[0].error}"
        assert lines[1].startswith("rig is back after ")
        assert lines[1].endswith(f" s ({summary.errors} failed readings)")
        assert (summary.outages, summary.damaged) == (1, 0)
        assert f"{summary.outage_s:.1f} s" in lines[1]
        assert f", 1 outage of {summary.outage_s:.1f} s" in str(summary)

    @staticmethod
    def set(line: VirtualLine, how: str, *, lost: bool) -> None:
        if how == "mute":
            line.analysers[0].faults.silent = lost
        elif lost:
            line.unplug()
        else:
            line.plug()

    def test_a_server_that_dies_is_an_outage(self, log: Callable[[], list[str]]) -> None:
        line = VirtualLine(VirtualAnalyzer())
        with TcpServer(line) as server:
            analyzer = opened(server.port)
            rec = record(analyzer, rate_hz=20).start()
            until(rec, worked)
        with analyzer, contextlib.closing(rec):
            until(rec, failed)
        lines = log()
        assert len([text for text in lines if "readings fail from now on" in text]) == 1
        assert lines[-1].startswith("rig has still not returned at the end after ")
        assert rec.summary.outages == 1
        assert rec.summary.outage_s > 0 or sys.platform == "win32"  # whose clock moves every 15.6 ms

    def test_each_outage_is_counted_and_their_times_add_up(self, log: Callable[[], list[str]]) -> None:
        def act(number: int) -> None:
            if number in (2, 3, 5):
                raise ServomexTimeoutError("no reply")

        with record(OwnSource(act=act), rate_hz=20, count=6) as rec:
            list(rec)
        ends = [text for text in log() if "is back after" in text]
        assert [text.rpartition(" (")[2] for text in ends] == ["2 failed readings)", "1 failed reading)"]
        assert (rec.summary.outages, rec.summary.errors, rec.summary.attempts) == (2, 3, 6)
        assert (0.05 if sys.platform == "win32" else 0.1) < rec.summary.outage_s < 5

    def test_a_source_whose_samples_have_other_names_is_back_as_well(self, log: Callable[[], list[str]]) -> None:
        class Two:
            name = "both"

            def __init__(self) -> None:
                self.numbers = itertools.count(1)

            def poll_samples(
                self, *, names: Sequence[str] | None = None, timeout: float | None = None
            ) -> list[Sample]:
                number = next(self.numbers)
                if number == 2:
                    raise ServomexTimeoutError("no reply")
                return [sample(number, device="a"), sample(number, device="b")]

        with record(Two(), rate_hz=50, count=3) as rec:
            list(rec)
        assert [text.partition(" after")[0] for text in log()] == [
            "both: readings fail from now on: no reply",
            "both is back",
        ]


class TestManagers:
    def test_each_analyser_has_its_own_lines(self, log: Callable[[], list[str]]) -> None:
        lines = [VirtualLine(VirtualAnalyzer()) for _ in range(2)]
        with ServomexManager(error_policy="return") as manager:
            for name, line in zip("ab", lines, strict=True):
                manager.add(name, line.url, protocol="modbus_rtu", gap=0.0, timeout=5.0)
            with record(manager, rate_hz=10) as rec:
                until(rec, worked)
                lines[1].unplug()
                until(rec, failed)
                lines[1].plug()
                until(rec, worked)
        told = log()
        assert [text[:2] for text in told] == ["b:", "b "]
        assert "the port was lost" in told[0]
        assert "is back after" in told[1]
        assert rec.summary.outages == 1


class TestDamage:
    @pytest.fixture
    def feeding(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Analyzer, FrameQueue]]:
        """Give an analyser in continuous mode, and the queue that its recording will take from."""
        line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.05))
        with opened(line.url, "continuous") as analyzer:
            assert analyzer.reader
            queue = analyzer.reader.subscribe(100)
            monkeypatch.setattr(analyzer.reader, "subscribe", lambda _size: queue)
            yield analyzer, queue

    @pytest.mark.parametrize("kind", [ServomexParseError, ServomexChecksumError])
    def test_a_damaged_broadcast_is_an_error_row_and_no_loss(
        self, kind: type[ServomexParseError], feeding: tuple[Analyzer, FrameQueue], log: Callable[[], list[str]]
    ) -> None:
        analyzer, queue = feeding
        with record(analyzer, auto_reconnect=False) as rec:
            until(rec, worked)
            for number in range(3):
                queue.put(kind(f"damage {number}"))
            rows = [until(rec, failed)[0].error for _ in range(3)]
            until(rec, worked)
        assert [(type(row), str(row)) for row in rows] == [(kind, f"damage {number}") for number in range(3)]
        summary = rec.summary
        assert (summary.errors, summary.damaged, summary.outages, summary.disconnects) == (3, 3, 0, 0)
        assert ", 3 failed (3 damaged broadcasts), " in str(summary)
        assert log() == [
            "rig: 1 broadcast refused (last: damage 0)",
            "rig: 2 broadcasts refused (last: damage 2)",
        ], "one at once, and the rest together: after a minute, or at the end"

    def test_damage_that_waits_at_the_end_is_part_of_it(self, feeding: tuple[Analyzer, FrameQueue]) -> None:
        analyzer, queue = feeding
        with record(analyzer, count=10_000, buffer_size=1) as rec:
            until(rec, worked)
            deadline = time.monotonic() + 5
            while rec.summary.samples_emitted < 3 and time.monotonic() < deadline:  # it waits for room
                time.sleep(0.01)
            queue.put(ServomexParseError("damage"))
        assert [str(batch[0].error) for batch in rec if batch[0].error] == ["damage"]
        assert rec.summary.damaged == 1

    def test_damage_that_had_to_make_way_is_no_loss_of_the_port(self) -> None:
        queue = FrameQueue(1)
        queue.put(ServomexParseError("damage"))
        queue.put(ServomexConnectionError("lost"))
        queue.put(ServomexParseError("damage"))
        assert (queue.dropped, queue.dropped_errors) == (2, 1)

    def test_long_damage_is_a_line_a_minute(
        self, monkeypatch: pytest.MonkeyPatch, log: Callable[[], list[str]]
    ) -> None:
        now = 0.0
        monkeypatch.setattr(clock.time, "monotonic", lambda: now)
        summary = AcquisitionSummary()
        outages = Outages(summary)
        for second in range(130):
            now = float(second)
            outages.note_damage("rig", f"damage {second}", 1)
        outages.end("rig")
        assert [text.split()[1] for text in log()] == ["1", "60", "60", "9"]
        assert summary.damaged == 130


class TestRate:
    def test_a_line_that_is_too_slow_is_reported_once(self, log: Callable[[], list[str]]) -> None:
        with record(OwnSource(takes_s=0.06), rate_hz=100, duration=1) as rec:
            list(rec)
        (line,) = log()
        assert line.startswith("own: this line allows about ")
        assert line.endswith(" readings a second, and 100 are requested: lower the rate")
        assert rec.summary.possible_hz is not None
        assert 2 < rec.summary.possible_hz < 17

    def test_one_that_is_late_now_and_then_is_not_blamed(self, log: Callable[[], list[str]]) -> None:
        source = OwnSource(act=lambda number: time.sleep(0.5) if number == 8 else None)
        with record(source, rate_hz=10, duration=2) as rec:
            list(rec)
        assert rec.summary.samples_late > 0
        assert log() == []

    def test_failures_are_not_taken_for_slowness(self, log: Callable[[], list[str]]) -> None:
        def act(number: int) -> None:
            if number > 5:
                time.sleep(0.25)
                raise ServomexTimeoutError("no reply")

        with record(OwnSource(act=act), rate_hz=10, duration=2) as rec:
            list(rec)
        assert rec.summary.samples_late > 0
        assert not [text for text in log() if "allows" in text]


class TestCount:
    def test_it_is_of_what_was_tried_and_moments_that_passed_are_none(self) -> None:
        def act(number: int) -> None:
            time.sleep(0.12)
            if number % 2:
                raise ServomexTimeoutError("no reply")

        with record(OwnSource(act=act), rate_hz=20, count=6) as rec:
            batches = list(rec)
        assert len(batches) == rec.summary.attempts == rec.expected == 6
        assert rec.summary.errors == 3
        assert rec.summary.samples_late > 0
        assert rec.progress == 1.0

    def test_progress_is_that_of_the_nearer_end(self) -> None:
        assert record(OwnSource(), rate_hz=1).progress is None
        assert record(OwnSource(), rate_hz=1, duration=10).progress == 0
        with record(OwnSource(), rate_hz=100, count=4, duration=1000) as rec:
            rec.get(5)
            assert 0.25 <= (rec.progress or 0) <= 1


class TestIdentities:
    def changing(self, **fields: object) -> list[list[Sample]]:
        """Give the batches of four readings, from the third on with these fields of I1 changed."""
        numbers = itertools.count(1)

        class Changing:
            name = "rig"
            protocol = ProtocolKind.MODBUS_RTU

            def poll_samples(
                self, *, names: Sequence[str] | None = None, timeout: float | None = None
            ) -> list[Sample]:
                number = next(numbers)
                item = sample(number, device="rig")
                assert item.reading
                changed = attrs.evolve(item.reading, **fields) if number > 2 else item.reading  # type: ignore[arg-type]
                return [attrs.evolve(item, reading=changed, protocol=ProtocolKind.MODBUS_RTU)]

        with record(Changing(), rate_hz=50, count=4) as self.rec:
            return list(self.rec)

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"name": "CO"}, "I1 changed from Oxygen (%) to CO (%)"),
            ({"unit_text": "vpm"}, "I1 changed from Oxygen (%) to Oxygen (vpm)"),
            ({"name": None, "unit_text": ""}, "I1 changed from Oxygen (%) to no name (no unit)"),
        ],
    )
    def test_a_change_is_a_row_in_front_of_the_first_new_reading(
        self, fields: dict[str, object], words: str, log: Callable[[], list[str]]
    ) -> None:
        batches = self.changing(**fields)
        assert [len(batch) for batch in batches] == [1, 1, 2, 1]
        event, reading = batches[2]
        assert isinstance(event.error, ServomexChannelError)
        assert (str(event.error), event.reading, event.device) == (words, None, "rig")
        assert (event.received_at, event.monotonic_ns) == (reading.received_at, reading.monotonic_ns)
        assert log() == [f"rig: {words}"]

    def test_it_is_no_failure(self) -> None:
        self.changing(name="CO")
        summary = self.rec.summary
        assert (summary.samples_emitted, summary.errors, summary.outages, summary.changes) == (4, 0, 0, 1)
        assert ", 1 changed channel" in str(summary)

    @pytest.mark.virtual_time
    @pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
    def test_it_is_marked_also_when_the_first_new_reading_was_dropped(
        self, overflow: str, log: Callable[[], list[str]]
    ) -> None:
        numbers = itertools.count(1)

        class Changing:
            def poll_samples(
                self, *, names: Sequence[str] | None = None, timeout: float | None = None
            ) -> list[Sample]:
                number = next(numbers)
                item = sample(number)
                assert item.reading
                return [attrs.evolve(item, reading=attrs.evolve(item.reading, name="O2" if number < 5 else "CO"))]

        with record(Changing(), rate_hz=20, overflow=overflow, buffer_size=2) as rec:
            batches = [rec.get(2)]
            time.sleep(0.5)  # two of ten wait, and the others are dropped
            batches += [rec.get(2) for _ in range(5)]
        events = [str(item.error) for batch in batches for item in batch if item.error]
        assert events == ["I1 changed from O2 (%) to CO (%)"]
        assert log() == [f"own: {events[0]}"]
        names = [item.reading.name if item.reading else "mark" for batch in batches for item in batch]
        place = names.index("mark")
        assert (set(names[:place]), set(names[place + 1 :])) == ({"O2"}, {"CO"})
        assert rec.summary.changes == 1

    @pytest.mark.parametrize("mode", ["modbus_rtu", "continuous"])
    @pytest.mark.virtual_time
    def test_it_is_seen_on_the_line(self, mode: str) -> None:
        line = VirtualLine(VirtualAnalyzer(mode=mode, period=0.05))
        with (
            opened(line.url, mode) as analyzer,
            record(analyzer, rate_hz=None if mode == "continuous" else 10) as rec,
        ):
            until(rec, worked)
            line.analysers[0].channels[ChannelId.I1].name = "CO"
            event = until(rec, failed)[0]
            while "no second broadcast has confirmed it yet" in str(event.error):  # the first of the new name
                event = until(rec, failed)[0]
        assert str(event.error) == "I1 changed from Oxygen (%) to CO (%)"
