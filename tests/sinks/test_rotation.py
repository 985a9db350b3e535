"""Rotation: new files by size and by the time of the data, with names that sort."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from servomex.errors import ServomexSinkError, ServomexSinkWriteError, ServomexValidationError
from servomex.models.sample import Sample
from servomex.recording import retry
from servomex.recording.fan_out import FanOut
from servomex.recording.load import load
from servomex.sinks import Sink, open_sink
from servomex.sinks.rotation import Rotation, parse_rotation
from tests.helpers.recordings import ONE_EACH, batch, batches, joined

START = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def at(*moments: datetime) -> list[list[Sample]]:
    """Give a batch for each of these times."""
    return [batch(0, start=moment) for moment in moments]


def record(sink: Sink, parts: list[list[Sample]]) -> list[Sample]:
    with sink:
        for part in parts:
            sink.write(part)
    assert sink.rows == len(joined(parts))
    return joined(parts)


class TestByTime:
    @pytest.mark.parametrize("name", ONE_EACH)
    def test_files_begin_at_multiples_of_the_period_in_utc(self, name: str, tmp_path: Path) -> None:
        minutes = [0, 10, 14, 15, 16, 29, 45]
        parts = at(*(START + timedelta(minutes=minute, seconds=5) for minute in minutes))
        written = record(open_sink(tmp_path / name, rotate="15m"), parts)
        stem, _, suffix = name.partition(".")
        expected = [f"{stem}-20261122T{clock}Z.{suffix}" for clock in ("103005", "104505", "111505")]
        assert names(tmp_path) == expected
        assert [len(list(load(tmp_path / item))) for item in expected] == [15, 15, 5]
        assert list(load(f"{tmp_path}/run-*")) == written

    def test_days_are_those_of_utc_wherever_the_times_come_from(self, tmp_path: Path) -> None:
        midnight = datetime(2026, 11, 22, tzinfo=UTC)
        east = timezone(timedelta(hours=5, minutes=30))
        moments = [midnight - timedelta(seconds=1), midnight, midnight + timedelta(hours=23)]
        record(open_sink(tmp_path / "run.csv", rotate="1d"), at(*(moment.astimezone(east) for moment in moments)))
        assert names(tmp_path) == ["run-20261121T235959Z.csv", "run-20261122T000000Z.csv"]

    def test_a_batch_is_not_divided(self, tmp_path: Path) -> None:
        mixed = batch(0, start=START - timedelta(seconds=1)) + batch(0, start=START + timedelta(seconds=1))
        record(open_sink(tmp_path / "run.csv", rotate="15m"), [mixed])
        assert names(tmp_path) == ["run-20261122T102959Z.csv"]

    def test_a_clock_that_was_ahead_and_is_set_right_begins_a_new_file(self, tmp_path: Path) -> None:
        moments = [START, START + timedelta(days=400), START + timedelta(seconds=2), START + timedelta(minutes=15)]
        record(open_sink(tmp_path / "run.csv", rotate="15m"), at(*moments))
        stamps = ["20261122T103000Z", "20261122T103002Z", "20261122T104500Z", "20271227T103000Z"]
        assert names(tmp_path) == [f"run-{stamp}.csv" for stamp in stamps]

    def test_a_sample_that_comes_late_goes_to_the_file_that_is_open(self, tmp_path: Path) -> None:
        before, after = START - timedelta(seconds=1), START + timedelta(seconds=1)
        record(open_sink(tmp_path / "run.csv", rotate="15m"), at(before, after, before, after, before))
        assert [len(list(load(tmp_path / name))) for name in names(tmp_path)] == [5, 20]


class TestBySize:
    @pytest.mark.parametrize("name", ONE_EACH)
    def test_a_file_ends_with_the_batch_that_fills_it(self, name: str, tmp_path: Path) -> None:
        limits = {"run.csv.gz": 2000, "run.jsonl.gz": 2000, "run.sqlite": 60_000, "run.parquet": 12_000}
        limit = limits.get(name, 10_000)
        parts = batches(100)
        written = record(open_sink(tmp_path / name, rotate=f"{limit}B", flush_s=1000), parts)
        found = sorted(tmp_path.iterdir())
        assert 2 <= len(found) <= 40
        assert list(load(found)) == written
        for file in found:
            rows = list(load(file))
            begun = next(number for number, part in enumerate(parts) if part[0].received_at == rows[0].received_at)
            assert rows == joined(parts[begun:])[: len(rows)]
            if name in ("run.csv", "run.jsonl"):
                assert file.stat().st_size < limit + 5000
                assert file == found[-1] or file.stat().st_size >= limit

    def test_both_limits_hold(self, tmp_path: Path) -> None:
        parts = batches(200)
        record(open_sink(tmp_path / "run.csv", rotate="20kB,5m"), parts)
        found = sorted(tmp_path.iterdir())
        assert len(found) > 3
        starts = [next(iter(load(item))).received_at for item in found]
        assert any(moment.minute % 5 == 0 and moment.second < 2 for moment in starts[1:])
        assert any(moment.minute % 5 or moment.second >= 2 for moment in starts[1:])

    def test_files_of_one_second_are_counted(self, tmp_path: Path) -> None:
        parts = at(*[START] * 4)
        record(open_sink(tmp_path / "run.csv", rotate="1B"), parts)
        expected = [f"run-20261122T103000Z{end}.csv" for end in ("", "_02", "_03", "_04")]
        assert names(tmp_path) == expected
        assert list(load(f"{tmp_path}/*.csv")) == joined(parts)
        record(open_sink(tmp_path / "run.csv", rotate="1d"), parts)
        assert names(tmp_path) == [*expected, "run-20261122T103000Z_05.csv"]


class TestTheSink:
    def test_nothing_is_opened_before_the_first_sample(self, tmp_path: Path) -> None:
        with open_sink(tmp_path / "run.csv", rotate="1d") as sink:
            sink.flush()
            sink.sync()
            sink.flush_if_due()
            sink.write([])
            assert names(tmp_path) == []
            assert sink.name == str(tmp_path / "run.csv")
        sink.close()
        with pytest.raises(ServomexSinkError, match="is closed"):
            sink.write(batch(0))

    def test_options_go_to_every_file(self, tmp_path: Path) -> None:
        with open_sink(tmp_path / "run.csv", rotate="1B", flush_s=0) as sink:
            for part in batches(2):
                sink.write(part)
            assert list(load(f"{tmp_path}/*")) == joined(batches(2))

    def test_what_is_due_is_done_in_the_current_file(self, tmp_path: Path) -> None:
        with open_sink(tmp_path / "run.csv", rotate="1d", flush_s=1000) as sink:
            sink.write(batch(0))
            assert list(load(f"{tmp_path}/*")) == []
            sink.flush_if_due()
            assert list(load(f"{tmp_path}/*")) == []
            sink.flush()
            assert list(load(f"{tmp_path}/*")) == batch(0)
            sink.write(batch(1))
            sink.sync()
            assert list(load(f"{tmp_path}/*")) == joined(batches(2))

    def test_a_following_file_that_cannot_be_opened_leaves_the_current_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_args: object, **_options: object) -> None:
            raise PermissionError(13, "no")

        sink = open_sink(tmp_path / "run.csv", rotate="1s", flush_s=1000)
        sink.write(batch(0))
        with monkeypatch.context() as patch:
            patch.setattr("servomex.sinks.places.io.FileIO", refuse)
            with pytest.raises(ServomexSinkWriteError, match="cannot be written: permission denied"):
                sink.write(batch(1))
            assert sink.rows == 5
        sink.write(batch(2))
        sink.close()
        assert list(load(f"{tmp_path}/*")) == batch(0) + batch(2)

    def test_a_current_file_that_cannot_be_flushed_stays_the_current_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_args: object) -> None:
            raise ServomexSinkWriteError("the disk is full")

        sink = open_sink(tmp_path / "run.csv", rotate="1s", flush_s=1000)
        sink.write(batch(0))
        with monkeypatch.context() as patch:
            patch.setattr(sink._current, "_store", refuse)  # type: ignore[attr-defined]
            with pytest.raises(ServomexSinkWriteError, match="is full"):
                sink.write(batch(1))
        assert len(names(tmp_path)) == 1
        sink.write(batch(2))
        sink.close()
        assert [list(load(tmp_path / name)) for name in names(tmp_path)] == [batch(0), batch(2)]

    def test_what_is_lost_on_closing_is_not_counted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_args: object) -> None:
            raise OSError(28, "full")

        sink = open_sink(tmp_path / "run.csv", rotate="1d", flush_s=1000)
        sink.write(batch(0))
        sink.flush()
        sink.write(batch(1))
        monkeypatch.setattr("servomex.sinks.text._write_all", refuse)
        with pytest.raises(ServomexSinkWriteError, match="The last 5 rows are lost"):
            sink.close()
        assert (sink.rows, sink.closed) == (5, True)

    def test_a_file_that_cannot_be_finished_holds_up_none_and_is_reported_at_the_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_self: object) -> None:
            raise ServomexSinkWriteError("the disk is full")

        sink = open_sink(tmp_path / "run.csv", rotate="15m")
        with monkeypatch.context() as patch:
            patch.setattr("servomex.sinks.text.TextSink._finish", fail)
            writer = FanOut([sink])
            for part in at(START, START + timedelta(minutes=15)):
                writer.write(part)
        with pytest.raises(ServomexSinkWriteError, match="the disk is full"):
            writer.close()
        assert sink.closed
        assert [len(list(load(tmp_path / name))) for name in names(tmp_path)] == [5, 5]

    @pytest.mark.parametrize("options", [{"append": True}, {"overwrite": True}])
    def test_rotated_files_are_new_ones(self, options: Any, tmp_path: Path) -> None:
        with pytest.raises(ServomexValidationError, match=r"always new ones\. Omit append and overwrite"):
            open_sink(tmp_path / "run.csv", file_format=None, rotate="1d", **options)
        open_sink(tmp_path / "run.csv", rotate="1d", append=False, overwrite=False).close()

    def test_a_folder_that_is_missing_is_reported_on_opening(self, tmp_path: Path) -> None:
        with pytest.raises(ServomexSinkWriteError, match="there is no folder"):
            open_sink(tmp_path / "nowhere" / "run.csv", rotate="1d")

    def test_a_sync_that_fails_repeats_no_row(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fails = iter([OSError(5, "Input/output error")] * 2)

        def sync(_descriptor: int) -> None:
            for error in fails:
                raise error

        monkeypatch.setattr("os.fsync", sync)
        monkeypatch.setattr(retry, "RETRY_S", 0.0)
        sink = open_sink(tmp_path / "run.csv", rotate="1d", flush_s=0, fsync_s=0)
        writer = FanOut([sink])
        for part in batches(5):
            writer.write(part)
        writer.close()
        assert list(load(f"{tmp_path}/run-*.csv")) == joined(batches(5))
        assert writer.lost == 0

    def test_suffixes_keep_their_case(self, tmp_path: Path) -> None:
        record(open_sink(tmp_path / "RUN.CSV.gz", rotate="1d"), at(START))
        assert names(tmp_path) == ["RUN-20261122T103000Z.CSV.gz"]


class TestLimits:
    @pytest.mark.parametrize(("text", "limits"), [
        ("100MB", Rotation(100_000_000, None)), ("1d", Rotation(None, 86_400)), ("15m", Rotation(None, 900)),
        ("100MB,1d", Rotation(100_000_000, 86_400)), ("1h, 1GB", Rotation(10**9, 3600)),
    ])  # fmt: skip
    def test_they_are_a_size_a_time_or_both(self, text: str, limits: Rotation) -> None:
        assert parse_rotation(text) == limits

    @pytest.mark.parametrize(("text", "words"), [
        ("", "not a duration"), ("daily", "not a duration"), ("1d,2d", "more than one size or time"),
        ("1MB,2MB", "more than one"), ("1d,", "more than one"), ("0.5s", "1 s or more"), ("0B", "from 1 byte to"),
        ("1.2.3MB", "not a size"),
    ])  # fmt: skip
    def test_what_is_none_is_reported(self, text: str, words: str, tmp_path: Path) -> None:
        with pytest.raises(ServomexValidationError, match=words):
            open_sink(tmp_path / "run.csv", rotate=text)
