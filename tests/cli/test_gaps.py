"""What record, read and stream say of gaps, of what a line allows, and of what they were asked to try."""

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest

from servomex import Analyzer, CalibrationReport, Recorder, load
from servomex.cli.calibrate import calibrate
from servomex.cli.convert import convert
from servomex.cli.diag.report import message_json
from servomex.cli.formats import json_line
from servomex.cli.read import read
from servomex.cli.record import record
from servomex.cli.stream import stream
from servomex.port.link import SerialLink
from servomex.port.reopening import Pauses
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.telegram import parse_frame
from servomex.traffic import Message
from tests.helpers.commands import FAST, invoke
from tests.helpers.frames import REAL
from tests.helpers.recordings import batches, joined, write

LOST = "sim://4100?fault=unplug:0.4"
"""A line that is unplugged after 0.4 s of use each time."""


@pytest.fixture(autouse=True)
def quick_reconnection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SerialLink, "pauses", Pauses(0.3, 0.3))


class TestRecord:
    @pytest.mark.parametrize("verbosity", [(), ("-v",)])
    def test_an_outage_is_a_line_when_it_begins_and_one_when_it_ends(
        self, verbosity: tuple[str, ...], tmp_path: Path
    ) -> None:
        args = ("--rate", "10", "--duration", "2s", *FAST, *verbosity)
        result = invoke(LOST, str(tmp_path / "run.csv"), *args, command=record)
        assert result.exit_code == 0
        lines = result.stderr.splitlines()
        began = [text for text in lines if "readings fail from now on: the port was lost" in text]
        ended = [
            text
            for text in lines
            if re.search(r"(is back|has still not returned at the end) after \d\.\d s", text)
        ]
        assert len(began) == len(ended) > 0
        summary = next(text for text in lines if re.match(r"\d+ readings, ", text))
        found = re.search(r"(\d+) failed, .* (\d+) outages? of (\d+\.\d) s", summary)
        assert found
        assert int(found[2]) == len(began)
        counted = [int(re.search(r"\((\d+) failed", text)[1]) for text in ended]  # type: ignore[index]
        assert sum(counted) == int(found[1]) == sum(1 for item in load(tmp_path / "run.csv") if item.error)
        times = [float(re.search(r"after (\d+\.\d) s", text)[1]) for text in ended]  # type: ignore[index]
        assert abs(sum(times) - float(found[3])) <= 0.1 * (len(times) + 1)

    def test_quiet_keeps_it_to_itself(self, tmp_path: Path) -> None:
        args = ("--rate", "10", "--duration", "1s", "-q", *FAST)
        result = invoke(LOST, str(tmp_path / "run.csv"), *args, command=record)
        assert (result.exit_code, result.stderr) == (0, "")

    @pytest.mark.parametrize("verbosity", [(), ("-v",)])
    def test_what_the_line_allows_is_one_line(self, verbosity: tuple[str, ...], tmp_path: Path) -> None:
        args = ("--protocol", "modbus_rtu", "--rate", "100", "--duration", "3s", *verbosity)
        result = invoke("sim://4100?pace=1", str(tmp_path / "run.csv"), *args, command=record)
        assert result.exit_code == 0
        (limit,) = [text for text in result.stderr.splitlines() if "allows" in text]
        assert re.search(
            r"this line allows about \d(\.\d)? readings a second, and 100 are requested: lower the rate", limit
        )

    def test_a_file_that_is_deleted_is_reported_and_ends_it_with_1(
        self, line: VirtualLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if sys.platform == "win32":
            pytest.skip("Windows keeps what is open where it is")
        file = tmp_path / "run.csv"

        join = Recorder.join

        def deleting(recorder: Recorder, timeout: float | None = None) -> bool:
            while not file.exists() or file.stat().st_size < 2000:
                assert not join(recorder, 0.01)
            file.unlink()
            monkeypatch.setattr(Recorder, "join", join)
            return join(recorder, timeout)

        monkeypatch.setattr(Recorder, "join", deleting)
        args = ("--rate", "20", "--count", "20", "--flush", "0", *FAST)
        result = invoke(line.url, str(file), *args, command=record)
        assert result.exit_code == 1
        assert re.search(
            r"run.csv was deleted while it was written, with \d+ rows: the rest goes to a new file",
            result.stderr,
        )
        left = len(list(load(file)))
        assert 0 < left < 100
        assert f", {100 - left} rows not written" in result.stderr
        assert re.search(rf"Error: .*: another program removed {100 - left} rows", result.stderr.splitlines()[-1])


class TestCount:
    def test_it_ends_reading_on_a_dead_port(self) -> None:
        result = invoke(LOST, "--watch", "0.05", "--count", "9", *FAST)
        readings = result.stdout.count("I1 ")
        failures = sum(text.startswith("Failed: ") for text in result.stderr.splitlines())
        assert readings + failures == 9
        assert failures > 0
        assert result.exit_code == 0

    def test_a_check_of_a_reading_that_failed_is_no_success(self) -> None:
        for number in range(1, 5):  # the port is lost within four readings
            result = invoke(
                "sim://4100?fault=unplug:0.3", "--watch", "0.2", "--count", str(number), "--check", *FAST
            )
            if "Failed" in result.stderr:
                break
        assert result.exit_code == 5
        assert "check failed: the last reading failed" in result.stderr

    @pytest.mark.parametrize("command", [record, stream, read])
    def test_the_help_of_each_command_says_the_same(self, command: object) -> None:
        text = " ".join(invoke("--help", command=command).output.split())  # type: ignore[arg-type]
        assert "Stop after this many readings, including failed ones" in text

    def test_recording_tries_as_often_as_streaming(self, tmp_path: Path) -> None:
        args = ("--rate", "10", "--count", "12", *FAST)
        result = invoke(LOST, str(tmp_path / "run.csv"), *args, command=record)
        rows = list(load(tmp_path / "run.csv"))
        assert len({item.monotonic_ns for item in rows}) == 12, result.stderr
        streamed = invoke(LOST, *args, "--format", "json", command=stream)
        failures = sum(text.startswith("Failed: ") for text in streamed.stderr.splitlines())
        assert streamed.stdout.count("\n") + failures == 12


def test_the_end_of_a_gap_is_a_line_in_a_stream() -> None:
    result = invoke(LOST, *FAST, "--rate", "10", "--count", "15", "--format", "csv", command=stream)
    failed = [text.startswith("Failed: the port was lost") for text in result.stderr.splitlines()]
    number = failed.index(False)
    back = result.stderr.splitlines()[number]
    assert re.fullmatch(rf"Readings are back after \d\.\d s \({number} failed readings?\)", back)
    shown, failures = len(result.stdout.splitlines()) // 5, sum(failed)
    assert result.stderr.splitlines()[-1] == f"{shown} readings, {failures} failed, 0 late, 0 dropped"
    assert shown + failures == 15


def test_a_gap_in_a_stream_is_not_reported_by_its_log_as_well() -> None:
    result = invoke(LOST, *FAST, "--rate", "10", "--count", "15", "--format", "csv", "-v", command=stream)
    lines = [text for text in result.stderr.splitlines() if re.search(r"(is|are) back after", text)]
    assert lines
    assert all(text.startswith("Readings are back after ") for text in lines)
    assert "readings fail from now on" not in result.stderr


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOON_TEXT = "2026-03-01T12:00:00.000000+00:00"


class TestTimesInJson:
    """A moment has six digits of a second always, also when all of them are 0."""

    def test_of_readings(self) -> None:
        frame = parse_frame(REAL, received_at=NOON, monotonic_ns=0)
        record = json.loads(json_line(frame, "rig"))
        assert record["received_at"] == NOON_TEXT
        assert {item["received_at"] for item in record["readings"]} == {NOON_TEXT}
        assert record["analyser"]["clock"] == "2020-10-06T02:54:12"

    def test_of_messages_that_pass_on_a_line(self) -> None:
        message = Message("broadcast", REAL, None, None, "a frame")
        assert json.loads(message_json(NOON, message))["received_at"] == NOON_TEXT

    @pytest.mark.virtual_time
    def test_of_a_calibration(self, monkeypatch: pytest.MonkeyPatch) -> None:
        watched = Analyzer.calibrate

        def at_noon(analyzer: Analyzer, *args: Any, **options: Any) -> CalibrationReport:
            report = watched(analyzer, *args, **options)
            phases = tuple(attrs.evolve(phase, started_at=NOON) for phase in report.phases)
            frame = parse_frame(REAL, received_at=NOON, monotonic_ns=0)
            return attrs.evolve(report, started_at=NOON, ended_at=NOON, phases=phases, before=frame, after=frame)

        monkeypatch.setattr(Analyzer, "calibrate", at_noon)
        analyser = VirtualAnalyzer()
        analyser.cal_phase_s = 0.2
        line = VirtualLine(analyser)
        args = "1 --yes --wait -q --protocol modbus_rtu --settle 0.1 --format json".split()
        report = json.loads(invoke("start", line.url, *args, command=calibrate).stdout)
        rows = [*report["phases"], *report["before"], *report["after"]]
        times = [report["started_at"], report["ended_at"]]
        times += [row.get("started_at") or row["received_at"] for row in rows]
        assert len(times) > 4
        assert set(times) == {NOON_TEXT}


class TestDecimalComma:
    @pytest.mark.parametrize("name", ["run.csv", "run.csv.gz"])
    def test_it_is_read_back_as_it_was_written(self, name: str, tmp_path: Path) -> None:
        samples = write(tmp_path / name, batches(9), decimal=",")
        assert list(load(tmp_path / name)) == samples

    def test_numbers_have_commas_and_cells_semicolons(self, tmp_path: Path) -> None:
        write(tmp_path / "run.csv", batches(1), decimal=",")
        header, first, *_ = (tmp_path / "run.csv").read_text("utf-8").splitlines()
        cells = dict(zip(header.split(";"), first.split(";"), strict=True))
        assert (cells["value"], cells["channel"], cells["unit"]) == ("20,0", "I1", "%")
        assert cells["received_at"].endswith("45.500000+00:00")

    def test_recordings_and_conversions_write_it(self, line: VirtualLine, tmp_path: Path) -> None:
        file, other, back = (str(tmp_path / name) for name in ("run.csv", "run.jsonl", "back.csv"))
        args = ("--rate", "10", "--count", "2", "--decimal", ",", *FAST)
        assert invoke(line.url, file, other, *args, command=record).exit_code == 0
        assert list(load(file)) == list(load(other))
        assert ";20,376;" in Path(file).read_text("utf-8")
        assert invoke(file, back, command=convert).exit_code == 0
        assert ",20.376," in Path(back).read_text("utf-8")
        assert invoke(back, str(tmp_path / "again.csv"), "--decimal", ",", command=convert).exit_code == 0
        assert (tmp_path / "again.csv").read_bytes() == Path(file).read_bytes()

    def test_a_file_keeps_its_sign(self, line: VirtualLine, tmp_path: Path) -> None:
        file = tmp_path / "run.csv"
        first = write(file, batches(2), decimal=",")
        refused = invoke(line.url, str(file), "--append", "--count", "1", *FAST, command=record)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "has the decimal sign ','" in refused.stderr
        assert not line.heard, "it is reported before the port is opened"
        rest = joined(batches(2, 2))
        write(file, [rest], append=True, decimal=",")
        assert list(load(file)) == first + rest

    @pytest.mark.parametrize("command", [record, convert])
    def test_without_a_csv_file_it_is_wrong_usage(self, command: object, tmp_path: Path) -> None:
        source = tmp_path / "in.csv"
        write(source, batches(1))
        first = "/dev/ttyNowhere" if command is record else str(source)
        result = invoke(first, str(tmp_path / "run.jsonl"), "--decimal", ",", command=command)  # type: ignore[arg-type]
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--decimal is for csv files" in result.stderr
