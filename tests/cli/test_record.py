"""``servomex record`` and ``servomex stream``: rows as they come, files that are complete however it ends."""

import json
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from servomex import Recorder, ServomexSinkWriteError, load
from servomex.cli.record import record
from servomex.cli.stream import stream
from servomex.simulator import TcpServer, VirtualAnalyzer, VirtualLine
from servomex.sinks.csv import CsvSink
from tests.helpers.commands import FAST, finish, invoke, start

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def broadcasting() -> VirtualLine:
    return VirtualLine(VirtualAnalyzer(mode="continuous", period=0.1))


class TestStream:
    def test_rows_come_at_the_rate(self, line: VirtualLine) -> None:
        result = invoke(line.url, *FAST, "--rate", "20", "--count", "4", "--format", "json", command=stream)
        assert result.exit_code == 0
        frames = [json.loads(text) for text in result.stdout.splitlines()]
        assert [frame["readings"][0]["value"] for frame in frames] == [20.376] * 4
        assert result.stderr == "4 readings, 0 failed, 0 late, 0 dropped\n"

    def test_each_broadcast_comes_once(self, broadcasting: VirtualLine) -> None:
        args = ("--protocol", "continuous", "--channels", "I1", "--count", "4", "--format", "csv", "-q")
        result = invoke(broadcasting.url, *args, command=stream)
        assert (result.exit_code, result.stderr) == (0, "")
        times = [text.split(",")[1] for text in result.stdout.splitlines()[1:]]
        assert len(times) == len(set(times)) == 4

    def test_a_failed_reading_is_a_line_on_stderr(self) -> None:
        url = "sim://4100?fault=unplug:0.6"
        result = invoke(url, *FAST, "--rate", "10", "--count", "8", "--format", "csv", command=stream)
        assert result.exit_code == 0
        assert "Failed: the port was lost" in result.stderr

    def test_a_rate_in_continuous_mode_is_wrong_usage(self, broadcasting: VirtualLine) -> None:
        result = invoke(broadcasting.url, "--protocol", "continuous", "--rate", "2", command=stream)
        assert (result.exit_code, result.stdout) == (2, "")


class TestRecord:
    def test_all_files_get_all_rows(self, line: VirtualLine, tmp_path: Path) -> None:
        files = [tmp_path / name for name in ("run.csv", "run.sqlite", "run.jsonl")]
        args = ("--rate", "5", "--count", "5", *FAST)
        result = invoke(line.url, *map(str, files), *args, command=record)
        assert (result.exit_code, result.stdout) == (0, "")
        summary = next(text for text in result.stderr.splitlines() if re.match(r"\d+ readings?, ", text))
        counts = [int(item.split()[0]) for item in summary.split(";")[0].split(", ")]
        assert sum(counts) - counts[2] == 5, "moments that passed on a busy computer are none of the five"
        written = [list(load(file)) for file in files]
        assert written[0] == written[1] == written[2]
        assert len(written[0]) == 5 * counts[0] > 0

    def test_a_duration_in_words(self, line: VirtualLine, tmp_path: Path) -> None:
        args = ("--rate", "4", "--duration", "1.25s", "-q", *FAST)
        result = invoke(line.url, str(tmp_path / "run.csv"), *args, command=record)
        assert (result.exit_code, result.stderr) == (0, "")
        assert 0 < len(list(load(tmp_path / "run.csv"))) <= 25
        result = invoke(line.url, "x.csv", "--duration", "soon", *FAST, command=record)
        assert (result.exit_code, "Write it as 500ms, 90s, 15m, 8h or 2d" in result.stderr) == (2, True)

    def test_an_existing_file_is_not_touched_without_an_option(self, line: VirtualLine, tmp_path: Path) -> None:
        file = tmp_path / "run.csv"
        args = (line.url, str(file), "--rate", "2", "--count", "1", *FAST)
        assert invoke(*args, command=record).exit_code == 0
        before = file.read_bytes()
        refused = invoke(*args, command=record)
        assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
        assert file.read_bytes() == before
        assert invoke(*args, "--append", command=record).exit_code == 0
        assert len(list(load(file))) == 10
        assert invoke(*args, "--overwrite", command=record).exit_code == 0
        assert len(list(load(file))) == 5

    def test_an_unknown_format_is_refused_before_the_port_is_read(self, line: VirtualLine) -> None:
        result = invoke(line.url, "run.xyz", *FAST, command=record)
        assert (result.exit_code, result.stdout) == (2, "")
        assert ".csv" in result.stderr

    @pytest.mark.parametrize(
        ("name", "options", "words"),
        [
            ("other.csv", ("--append",), "does not have the columns|was not written by this package|no recording"),
            (
                "other.csv",
                (),
                "exists already. Append to it with --append, replace it with --overwrite, or choose another name",
            ),
            ("other.csv", ("--append", "--overwrite"), "can be appended to or overwritten, not both"),
            ("other.csv", ("--append", "--rotate", "1d"), "rotated files are always new ones"),
            ("missing/run.csv", (), "there is no folder .*missing. Create it"),
            ("run.xyz", (), r"ends with .csv, .csv.gz, .jsonl"),
            ("run.csv", ("--rotate", "8x"), "8x"),
            ("run.csv", ("--rate", "0"), "rate"),
            ("run.csv", ("--duration", "8x"), "90s, 15m, 8h or 2d"),
            ("run.csv", ("--count", "0"), "count"),
        ],
    )
    def test_what_is_impossible_is_reported_before_the_port_is_opened(
        self, name: str, options: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        other = tmp_path / "other.csv"
        other.write_bytes(b"time,gas\n1,2\n")
        result = invoke("/dev/ttyNowhere", name, *options, command=record)
        assert (result.exit_code, result.stdout) == (2, "")
        assert re.search(words, result.stderr), result.stderr
        assert "ttyNowhere" not in result.stderr
        assert [item.name for item in tmp_path.iterdir()] == ["other.csv"]
        assert other.read_bytes() == b"time,gas\n1,2\n"

    def test_with_flush_0_a_row_is_in_the_file_at_once(self, line: VirtualLine, tmp_path: Path) -> None:
        file = tmp_path / "run.csv"
        sizes: list[int] = []

        def look(*_args: object) -> bool:
            deadline = time.monotonic() + 10
            while len(set(sizes)) < 4 and time.monotonic() < deadline:
                sizes.append(file.stat().st_size)
                time.sleep(0.01)
            return True

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Recorder, "join", look)
            args = ("--rate", "20", "--flush", "0", *FAST)
            started = time.monotonic()
            assert invoke(line.url, str(file), *args, command=record).exit_code == 0
        assert len(set(sizes)) == 4
        assert time.monotonic() - started < 3, "four rows came to the file, a second apart"

    def test_a_file_that_fails_is_reported_while_the_others_continue(
        self, line: VirtualLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def failing(*_args: object) -> None:
            raise ServomexSinkWriteError("run.csv: the disk is full")

        monkeypatch.setattr(CsvSink, "_store", failing)
        monkeypatch.chdir(tmp_path)
        args = ("--rate", "20", "--count", "10", "--flush", "0", *FAST)
        result = invoke(line.url, "run.csv", "run.jsonl", *args, command=record)
        assert result.exit_code == 1
        assert "run.csv: the disk is full. Retrying for 30 s" in result.stderr
        assert ", 50 rows not written" in result.stderr
        assert "died" not in result.stderr
        assert result.stderr.splitlines()[-1] == "Error: run.csv: the disk is full"
        assert len(list(load("run.jsonl"))) == 50

    def test_broadcasts_are_recorded_once_each(self, broadcasting: VirtualLine, tmp_path: Path) -> None:
        file = tmp_path / "run.jsonl"
        args = ("--protocol", "continuous", "--count", "5")
        assert invoke(broadcasting.url, str(file), *args, command=record).exit_code == 0
        times = [item.monotonic_ns for item in load(file) if item.channel == "I1"]
        assert times == sorted(set(times))
        assert len(times) == 5

    @pytest.mark.skipif(sys.platform == "win32", reason="there are no signals to send to a program on Windows")
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    @pytest.mark.real_time
    def test_a_signal_ends_it_with_everything_written(
        self, line: VirtualLine, tmp_path: Path, number: int, code: int
    ) -> None:
        file = tmp_path / "run.csv"
        with TcpServer(line) as server:
            options = ("--protocol", "modbus_rtu", "--rate", "20", "--gap", "0.005")
            child = start("record", server.port, str(file), *options, main="main")
            deadline = time.monotonic() + 60
            while len(line.heard) < 30 and time.monotonic() < deadline:
                time.sleep(0.01)
            child.send_signal(number)
            exit_code, stdout, stderr = finish(child)
        assert (exit_code, stdout) == (code, "")
        summary = re.search(r"^(\d+) readings,", stderr, re.MULTILINE)  # a busy computer may be reported before
        assert summary is not None
        assert len(list(load(file))) == 5 * int(summary[1]) > 0

    def test_a_failed_file_is_reported_even_when_ctrl_c_ends_it(
        self, line: VirtualLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def failing(*_args: object) -> None:
            raise ServomexSinkWriteError("the disk is full")

        def interrupted(*_args: object) -> None:
            time.sleep(0.5)
            raise KeyboardInterrupt

        monkeypatch.setattr(CsvSink, "write", failing)
        monkeypatch.setattr(Recorder, "join", interrupted)
        args = (str(tmp_path / "run.csv"), str(tmp_path / "run.jsonl"), "--rate", "10", *FAST)
        result = invoke(line.url, *args, command=record)
        assert result.exit_code == 1
        assert "the disk is full" in result.stderr
        assert len(list(load(tmp_path / "run.jsonl"))) > 0
