"""``servomex convert``: between all formats, with a count, and with what is good of a damaged recording."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from servomex.cli import servomex_group
from servomex.cli.convert import convert
from servomex.recording.load import load, load_metadata
from servomex.sinks import open_sink
from servomex.sinks.jsonl import JsonlSink
from tests.helpers.commands import converted, finish, invoke, program, start
from tests.helpers.platforms import needs_pty
from tests.helpers.recordings import ONE_EACH, batch, batches, joined, write


def stderr_lines(result: Result) -> list[str]:
    """Return the lines on stderr, when nothing is written to stdout."""
    assert result.stdout == ""
    return result.stderr.splitlines()


class TestFormats:
    @pytest.mark.parametrize("name", ONE_EACH)
    def test_each_becomes_another(self, name: str, tmp_path: Path) -> None:
        source, target = tmp_path / name, tmp_path / f"to.{ONE_EACH[ONE_EACH.index(name) - 1]}"
        written = write(source, batches(20))
        result = converted(source, target)
        assert (result.exit_code, stderr_lines(result)) == (0, [f"92 rows written to {target}"])
        assert list(load(target)) == written

    def test_what_is_said_of_the_whole_goes_along(self, tmp_path: Path) -> None:
        write(tmp_path / "a.sqlite", batches(1), metadata={"port": "COM3", "note": "a"})
        write(tmp_path / "b.parquet", batches(1), metadata={"note": "b"})
        for target in (tmp_path / "c.parquet", tmp_path / "c.db"):
            assert converted(tmp_path / "a.sqlite", tmp_path / "b.parquet", target).exit_code == 0
            assert load_metadata(target) == {"port": "COM3", "note": "b"}

    def test_several_become_one(self, tmp_path: Path) -> None:
        for number, name in enumerate(("a.csv", "b.sqlite", "c.parquet")):
            write(tmp_path / name, batches(2, 2 * number))
        assert converted(f"{tmp_path}/[bc].*", tmp_path / "a.csv", tmp_path / "all.jsonl").exit_code == 0
        assert list(load(tmp_path / "all.jsonl")) == joined([*batches(4, 2), *batches(2)])

    def test_what_a_kill_left_becomes_a_whole_recording(self, tmp_path: Path) -> None:
        sink = open_sink(tmp_path / "run.csv.gz")
        sink.write(batch(0))
        sink.flush()
        content = (tmp_path / "run.csv.gz").read_bytes()
        sink.close()
        (tmp_path / "run.csv.gz").write_bytes(content[:-3])
        result = converted(tmp_path / "run.csv.gz", tmp_path / "run.csv")
        warning, count = stderr_lines(result)
        assert result.exit_code == 0
        assert "was not ended properly: it has 5 whole rows" in warning
        assert count == f"5 rows written to {tmp_path / 'run.csv'}"

    def test_one_row_is_counted_in_words_that_fit(self, tmp_path: Path) -> None:
        write(tmp_path / "run.csv", [batch(6)])
        target = tmp_path / "run.db"
        assert stderr_lines(converted(tmp_path / "run.csv", target)) == [f"1 row written to {target}"]


class TestTargets:
    def test_a_target_that_exists_stays_unless_an_option_says_otherwise(self, tmp_path: Path) -> None:
        source, target = tmp_path / "run.csv", tmp_path / "out.jsonl"
        write(source, [batch(0)])
        write(target, [batch(1)])
        result = converted(source, target)
        assert (result.exit_code, stderr_lines(result)) == (
            2,
            [
                f"Error: {target} exists already. Append to it with --append, replace it with --overwrite, "
                "or choose another name"
            ],
        )  # fmt: skip
        assert list(load(target)) == batch(1)
        assert converted(source, target, "--append").exit_code == 0
        assert list(load(target)) == batch(1) + batch(0)
        assert converted(source, target, "--overwrite").exit_code == 0
        assert list(load(target)) == batch(0)

    def test_it_is_rotated_by_the_time_of_the_data(self, tmp_path: Path) -> None:
        written = write(tmp_path / "run.csv", batches(40))
        result = converted(tmp_path / "run.csv", tmp_path / "out.csv.gz", "--rotate", "1m")
        assert stderr_lines(result) == [f"{len(written)} rows written to {tmp_path / 'out.csv.gz'}"]
        assert sorted(item.name for item in tmp_path.glob("out*")) == [
            "out-20260301T123045Z.csv.gz", "out-20260301T123101Z.csv.gz", "out-20260301T123201Z.csv.gz",
        ]  # fmt: skip
        assert list(load(f"{tmp_path}/out*")) == written

    @pytest.mark.parametrize("name", ["run.csv", "run.sqlite", "run.parquet"])
    def test_it_is_none_of_the_sources(self, name: str, tmp_path: Path) -> None:
        written = write(tmp_path / name, batches(2))
        (tmp_path / f"{name}.parts").mkdir()
        (tmp_path / "link").symlink_to(tmp_path)
        (tmp_path / f"same-{name}").hardlink_to(tmp_path / name)
        for source in (
            tmp_path / name,
            tmp_path / "link" / name,
            tmp_path / f"{name}.parts",
            tmp_path / f"same-{name}",
        ):
            for option in ("--append", "--overwrite"):
                result = converted(source, tmp_path / name, option)
                words = f"{tmp_path / name} cannot be written while it is read: choose another name for OUT"
                assert (result.exit_code, stderr_lines(result)) == (2, [f"Error: {words}"])
        assert list(load(tmp_path / name)) == written

    @pytest.mark.parametrize(("name", "text"), [("wrong.csv", "a,b,c\n1,2,3\n"), ("wrong.jsonl", '{"a":1}\n')])
    def test_it_is_not_touched_for_a_source_that_cannot_be_read(
        self, name: str, text: str, tmp_path: Path
    ) -> None:
        write(tmp_path / "run.csv", [batch(0)])
        write(tmp_path / "good.sqlite", [batch(1)])
        (tmp_path / name).write_text(text)
        for sources in ([name], ["run.csv", name]):
            args = [str(tmp_path / source) for source in sources]
            result = converted(*args, tmp_path / "good.sqlite", "--overwrite")
            assert result.exit_code == 2
            assert converted(*args, tmp_path / "new.csv").exit_code == 2
        assert list(load(tmp_path / "good.sqlite")) == batch(1)
        assert not (tmp_path / "new.csv").exists()

    def test_a_target_with_other_columns_is_not_continued(self, tmp_path: Path) -> None:
        write(tmp_path / "run.csv", [batch(0)])
        (tmp_path / "out.csv").write_text("a,b,c\n")
        assert converted(tmp_path / "run.csv", tmp_path / "out.csv", "--append").exit_code == 2
        assert (tmp_path / "out.csv").read_text() == "a,b,c\n"


class TestErrors:
    @pytest.mark.parametrize(("args", "code", "words"), [
        (["run.csv"], 2, "Missing argument"), (["run.csv", "out.txt"], 2, "ends with .csv, .csv.gz"),
        (["nope.csv", "out.csv"], 2, "there is no file nope.csv"),
        (["n-*.csv", "out.csv"], 2, "no file matches n-*.csv"), (["run.xls", "out.csv"], 2, "ends with .csv"),
        (["run.csv", "memory://"], 2, "name a file"),
        (["run.csv", "out.csv", "--append", "--overwrite"], 2, "not both"),
        (["run.csv", "out.csv", "--rotate", "daily"], 2, "Write it as 500ms, 90s"),
        (["run.csv", "out.csv", "--rotate", "1d", "--append"], 2, "always new ones"),
        (["run.csv", "nowhere/out.csv"], 2, "there is no folder nowhere"),
    ])  # fmt: skip
    def test_what_is_impossible_is_reported_in_a_line(
        self, args: list[str], code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        write(tmp_path / "run.csv", batches(1))
        result = converted(*args)
        assert result.exit_code == code
        assert words in stderr_lines(result)[0]
        assert len(stderr_lines(result)) <= 2
        assert [item.name for item in tmp_path.iterdir()] == ["run.csv"]

    @pytest.mark.parametrize("target", ["run.csv", "run.parquet"])
    def test_what_is_in_front_of_the_damage_is_written(self, target: str, tmp_path: Path) -> None:
        source = tmp_path / "in.csv"
        written = write(source, batches(300))
        lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
        source.write_text("".join([*lines[:1201], "damage\n", *lines[1201:]]), encoding="utf-8")
        result = converted(source, tmp_path / target)
        assert (result.exit_code, stderr_lines(result)) == (
            1, [f"1200 rows written to {tmp_path / target}", f"Error: {source}, line 1202: 1 cells instead of 29"]
        )  # fmt: skip
        assert list(load(tmp_path / target)) == written[:1200]

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
    def test_a_full_disk_is_reported_and_what_fits_stays(self, tmp_path: Path) -> None:
        written = write(tmp_path / "run.csv", batches(500))
        command = program("convert", str(tmp_path / "run.csv"), str(tmp_path / "out.csv"), main="main")
        bash = 'ulimit -f 60; export PYTHONDONTWRITEBYTECODE=1; exec "$@"'  # or bytecode would be cut off as well
        limited = ["bash", "-c", bash, "bash", *command]
        done = subprocess.run(limited, capture_output=True, text=True, timeout=90, check=False)
        count, error = done.stderr.splitlines()
        assert done.returncode == 1
        assert "out.csv has reached the largest size" in error
        found = list(load(tmp_path / "out.csv"))
        assert count == f"{len(found)} rows written to {tmp_path / 'out.csv'}"
        assert found == written[: len(found)]

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    @pytest.mark.skipif(sys.platform == "win32", reason="the signals are those of POSIX")
    def test_ctrl_c_keeps_what_is_written(self, number: int, code: int, tmp_path: Path) -> None:
        written = write(tmp_path / "run.csv", batches(100)) * 100
        header, _, lines = (tmp_path / "run.csv").read_bytes().partition(b"\n")
        (tmp_path / "run.csv").write_bytes(header + b"\n" + lines * 100)
        child = start("convert", str(tmp_path / "run.csv"), str(tmp_path / "out.jsonl"), main="main")
        while not (tmp_path / "out.jsonl").exists() or (tmp_path / "out.jsonl").stat().st_size < 1e5:
            assert child.poll() is None
        child.send_signal(number)
        done, stdout, stderr = finish(child)
        found = list(load(tmp_path / "out.jsonl"))
        assert (done, stdout, stderr) == (code, "", f"{len(found)} rows written to {tmp_path / 'out.jsonl'}\n")
        assert 0 < len(found) < len(written)
        assert found == written[: len(found)]

    def test_a_ctrl_c_within_a_write_comes_after_its_rows_were_counted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, stored = JsonlSink._store, list[int]()

        def interrupted(sink: JsonlSink, rows: list[Any]) -> None:
            store(sink, rows)
            stored.append(len(rows))
            if len(stored) == 3:
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(JsonlSink, "_store", interrupted)
        monkeypatch.setattr(JsonlSink, "_flush_is_due", lambda sink: sink.pending > 0)
        write(tmp_path / "run.csv", batches(20))
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            result = converted(tmp_path / "run.csv", tmp_path / "out.jsonl")
        finally:
            signal.signal(signal.SIGINT, before)
        found = list(load(tmp_path / "out.jsonl"))
        assert (result.exit_code, len(found)) == (130, sum(stored))
        assert stderr_lines(result) == [f"{len(found)} rows written to {tmp_path / 'out.jsonl'}"]


class TestTerminal:
    @needs_pty
    def test_there_the_rows_are_counted_while_they_are_written(self, tmp_path: Path) -> None:
        write(tmp_path / "run.csv", batches(600))
        command = program("convert", str(tmp_path / "run.csv"), str(tmp_path / "out.jsonl"), main="main")
        master, terminal = os.openpty()
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=terminal, timeout=90, env={**os.environ, "TERM": "xterm"},
                check=False,
            )  # fmt: skip
            shown = os.read(master, 100_000).decode()
        finally:
            os.close(master)
            os.close(terminal)
        assert (done.returncode, done.stdout) == (0, b"")
        counts = [int(number) for number in re.findall(r"Converting [^\r]*?(\d+) rows", shown)]
        assert counts == sorted(counts)
        assert len(counts) > 3
        assert shown.splitlines()[-1] == f"2660 rows written to {tmp_path / 'out.jsonl'}"

    def test_elsewhere_there_is_the_count_alone(self, tmp_path: Path) -> None:
        write(tmp_path / "run.csv", batches(2))
        assert len(stderr_lines(converted(tmp_path / "run.csv", tmp_path / "out.jsonl"))) == 1

    def test_it_is_one_of_the_commands_and_its_help_shows_examples(self) -> None:
        for command, args in ((convert, ["--help"]), (servomex_group, ["convert", "--help"])):
            result = invoke(*args, command=command)
            assert result.exit_code == 0
            for words in ("servomex convert run.csv run.parquet", "--rotate LIMIT", "130  ended", ".ndjson"):
                assert words in result.stdout
