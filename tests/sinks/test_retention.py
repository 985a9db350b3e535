"""Rotated files are kept as long and as large as was asked for; the oldest go, and nothing else ever does."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from pytest_mock import MockerFixture

from servomex.errors import ServomexValidationError
from servomex.recording.load import load
from servomex.sinks import Sink, open_sink, retention
from servomex.sinks.retention import Retention, parse_keep
from tests.helpers.recordings import ONE_EACH, batch

START = datetime(2026, 11, 22, tzinfo=UTC)
DAY = timedelta(days=1)


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def stamps(folder: Path) -> list[str]:
    """Return the days in the names of the files."""
    return [name.split("-")[1][6:8] for name in names(folder)]


def record(sink: Sink, *days: float) -> None:
    """Write one batch on each of these days after the start."""
    with sink:
        for day in days:
            sink.write(batch(0, start=START + day * DAY))


@pytest.mark.parametrize(("text", "expected"), [
    ("90d", Retention(90 * 86_400.0)),
    ("20GB", Retention(None, 20_000_000_000)),
    ("90d,20GB", Retention(90 * 86_400.0, 20_000_000_000)),
    ("20gb, 12h", Retention(12 * 3600.0, 20_000_000_000)),
])  # fmt: skip
def test_a_time_and_a_size_can_be_asked_for(text: str, expected: Retention) -> None:
    assert parse_keep(text) == expected


@pytest.mark.parametrize("text", ["", "90", "1d,2d", "1GB,2GB", "90 daze", "0d"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ServomexValidationError):
        parse_keep(text)


@pytest.mark.parametrize("option", ["keep", "min_free"])
def test_only_rotated_files_are_removed(option: str, tmp_path: Path) -> None:
    with pytest.raises(ServomexValidationError, match="is for rotated files"):
        open_sink(tmp_path / "run.csv", **{option: "1GB"})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ONE_EACH)
def test_files_whose_last_sample_is_too_old_go_when_a_new_one_begins(name: str, tmp_path: Path) -> None:
    record(open_sink(tmp_path / name, rotate="1d", keep="2d"), *range(6))
    assert stamps(tmp_path) == ["24", "25", "26", "27"]  # the one of the 24th ended two days before the 27th
    assert len(list(load(f"{tmp_path}/run-*"))) == 4 * 5


def test_files_of_an_earlier_run_count_as_well(tmp_path: Path) -> None:
    record(open_sink(tmp_path / "run.csv", rotate="1d"), 0, 1, 2)
    record(open_sink(tmp_path / "run.csv", rotate="1d", keep="1d"), 3, 4)
    assert stamps(tmp_path) == ["24", "25", "26"]


def test_the_oldest_go_when_all_together_are_too_large(tmp_path: Path) -> None:
    record(open_sink(tmp_path / "run.csv", rotate="1d"), *range(6))
    size = (tmp_path / names(tmp_path)[0]).stat().st_size
    record(open_sink(tmp_path / "run.csv", rotate="1d", keep=f"{3.5 * size:.0f}B"), 6)
    assert stamps(tmp_path) == ["25", "26", "27", "28"]


def test_what_is_not_of_this_recording_stays(tmp_path: Path) -> None:
    others = [
        "run-20200101T000000Z.csv.gz", "run2-20200101T000000Z.csv", "run-20200101T000000Z.csv.bak", "run.csv",
        "run-20200101.csv", "my-run-20200101T000000Z.csv",
    ]  # fmt: skip
    for name in others:
        (tmp_path / name).write_text("mine")
    (tmp_path / "run-20200102T000000Z.csv").mkdir()
    record(open_sink(tmp_path / "run.csv", rotate="1d", keep="1s,1B"), *range(4))
    assert set(others) < set(names(tmp_path))
    assert len(names(tmp_path)) == len(others) + 2  # the folder, and the file that was written last


def test_a_clock_that_is_far_ahead_for_a_moment_takes_two_files_at_most(tmp_path: Path) -> None:
    record(open_sink(tmp_path / "run.csv", rotate="1d", keep="10d"), *range(8), 4000, 8, 9)
    assert stamps(tmp_path).count("22") == 0
    assert len(names(tmp_path)) == 8 + 1 + 2 - 2


def test_a_file_that_cannot_be_removed_is_told_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mocker: MockerFixture
) -> None:
    record(open_sink(tmp_path / "run.csv", rotate="1d"), 0, 1)
    with open_sink(tmp_path / "run.csv", rotate="1d", keep="1h") as sink:
        refused = mocker.patch.object(Path, "unlink", side_effect=PermissionError(13, "in use"))
        sink.write(batch(0, start=START + 2 * DAY))
        assert "cannot be removed: in use" in caplog.text
        mocker.stop(refused)
        sink.write(batch(0, start=START + 3 * DAY))
    assert stamps(tmp_path) == ["24", "25"]


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_disk_that_is_nearly_full_takes_the_oldest_and_says_when_none_is_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mocker: MockerFixture
) -> None:
    mocker.patch.object(retention, "LOOK_S", 0.0)
    free = mocker.patch("shutil.disk_usage", return_value=Usage(100, 50, 2_000_000))
    record(open_sink(tmp_path / "run.csv", rotate="1d"), 0, 1)
    caplog.set_level(logging.INFO, "servomex")
    with open_sink(tmp_path / "run.csv", rotate="1d", min_free="1MB") as sink:
        sink.write(batch(0, start=START + 2 * DAY))
        sink.flush_if_due()
        assert stamps(tmp_path) == ["22", "23", "24"]
        free.return_value = Usage(100, 99, 500_000)
        for left in (["23", "24"], ["24"], ["24"], ["24"]):
            sink.flush_if_due()
            assert stamps(tmp_path) == left
    assert caplog.text.count("no older file can be removed") == 1
    assert caplog.text.count("was removed: the disk is nearly full") == 2
    assert (tmp_path / names(tmp_path)[0]).stat().st_size > 0
