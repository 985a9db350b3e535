"""A table has a URL, which stands where the name of a file may stand; its password is never shown."""

import io
import logging
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

import servomex
from servomex import load, load_metadata, open_sink
from servomex.errors import ServomexError, ServomexSinkWriteError, ServomexValidationError
from servomex.sinks import PostgresConfig, PostgresSink, SinkOptions, check_targets
from tests.helpers.paths import ROOT
from tests.helpers.recorded import OwnSource
from tests.helpers.recordings import batch, batches, joined
from tests.servers.postgres_server import PASSWORD, PostgresServer
from tests.servers.tables import rows


def run(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command of this package."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-W", "error", "-m", "servomex", *arguments]
    environment = os.environ | {"PYTHONPATH": paths}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=60, check=False
    )


@pytest.fixture
def tcp(postgres: PostgresServer, database: str) -> str:
    """The URL of a new database over TCP, with the password of its superuser."""
    return f"postgresql://postgres:{quote(PASSWORD, safe='')}@127.0.0.1:{postgres.port}/{database}"


class TestProgram:
    @pytest.mark.parametrize("scheme", ["postgresql://", "postgres://"])
    def test_it_is_written_and_read_like_a_file(self, url: str, scheme: str) -> None:
        url = url.replace("postgresql://", scheme)
        with open_sink(url, append=True, flush_s=0, metadata={"port": "COM3"}) as sink:
            assert isinstance(sink, PostgresSink)
            sink.write(batch(0))
        assert list(load(url)) == batch(0)
        assert load_metadata(url) == {"port": "COM3"}

    def test_its_table_may_be_named_apart(self, url: str) -> None:
        with open_sink(url, table="trials") as sink:
            sink.write(batch(0))
        assert list(load(url, table="trials")) == list(load(f"{url}&table=trials")) == batch(0)

    def test_options_of_files_are_for_files(self, url: str, tmp_path: Path) -> None:
        for option in ({"overwrite": True}, {"decimal": ","}, {"compression": "zstd"}):
            with pytest.raises(ServomexValidationError, match=next(iter(option))):
                open_sink(url, **option)
        with pytest.raises(ServomexValidationError, match="is not a file: it cannot be rotated"):
            open_sink(url, rotate="1d")
        with pytest.raises(ServomexValidationError, match="is not csv, as postgresql:// shows"):
            open_sink(url, file_format="csv")
        with pytest.raises(ServomexValidationError, match="rotate"):
            check_targets([url], rotate="1d")
        names: list[str | Path] = [tmp_path / "run.csv", url]
        for_files: SinkOptions = {"rotate": "1d", "decimal": ","}
        with servomex.Recorder(OwnSource(), names, sink_options=for_files, rate_hz=50, count=3) as it:
            it.join()
        assert list(load(tmp_path.glob("*.csv"))) == list(load(url))

    def test_a_recorder_takes_it_and_says_what_recording_it_is(self, url: str) -> None:
        with (
            servomex.open_device("sim://4100", protocol="modbus_rtu", name="stack-1") as analyzer,
            servomex.Recorder(analyzer, url, rate_hz=50, count=3, tags={"site": "mill-3"}) as recorder,
        ):
            recorder.join()
        found = list(load(url))
        assert len(found) == 15
        assert {(item.device, item.metadata["site"]) for item in found} == {("stack-1", "mill-3")}
        assert load_metadata(url)["port"] == "sim://4100"
        assert len(servomex.to_pandas(url)) == 15

    def test_it_cannot_be_named_twice_however_it_is_written(self, url: str) -> None:
        other = url.replace("postgresql://postgres@/", "postgres://postgres@/").replace(
            "&port", "&table=samples&port"
        )
        with pytest.raises(ServomexValidationError, match="is named twice"):
            check_targets([url, other])

    def test_a_file_beside_a_table_that_cannot_be_written_is_not_begun(self, url: str, tmp_path: Path) -> None:
        rows(url, "CREATE TABLE samples (note text)")
        with pytest.raises(ServomexError, match="does not have the columns that this package writes"):
            servomex.Recorder(OwnSource(), [tmp_path / "run.csv", url], rate_hz=1)
        assert list(tmp_path.iterdir()) == []

    def test_samples_of_files_and_tables_are_read_one_after_the_other(self, url: str, tmp_path: Path) -> None:
        with open_sink(tmp_path / "run.csv") as sink:
            sink.write(batch(1))
        with open_sink(url) as sink:
            sink.write(batch(0))
        assert list(load([url, tmp_path / "run.csv", url])) == batch(0) + batch(1)


class TestCommands:
    def test_record_and_convert_in_both_directions(self, url: str, tmp_path: Path) -> None:
        own = url.replace("postgres@", "postgres@")
        done = run("record", "sim://4100", own, "run.csv", "--protocol", "rtu", "--count", "3", cwd=tmp_path)
        assert (done.returncode, "3 readings, 0 failed" in done.stderr) == (0, True), done.stderr
        done = run("convert", own, "back.jsonl", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "15 rows written to back.jsonl\n")
        assert list(load(tmp_path / "back.jsonl")) == list(load(tmp_path / "run.csv")) == list(load(own))
        done = run("convert", "run.csv", own, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, f"15 rows written to {own}\n")
        assert len(list(load(own))) == 15

    def test_a_table_is_not_written_while_it_is_read(self, url: str, tmp_path: Path) -> None:
        with open_sink(url) as sink:
            sink.write(batch(0))
        done = run("convert", url, url, cwd=tmp_path)
        assert (done.returncode, "cannot be written while it is read" in done.stderr) == (2, True)

    @pytest.mark.parametrize("option", ["--overwrite", "--rotate=1d", "--decimal=,", "--format=csv"])
    def test_what_is_for_files_is_refused(self, option: str, url: str, tmp_path: Path) -> None:
        for command in (["record", "sim://4100", url], ["convert", url, url]):
            done = run(*command, option, cwd=tmp_path)
            assert (done.returncode, "Error: " in done.stderr) == (2, True), done.stderr
        assert rows(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]

    def test_to_append_is_what_it_does(self, url: str, tmp_path: Path) -> None:
        for _ in range(2):
            command = ["record", "sim://4100", url, "--protocol", "rtu", "--count", "1", "--append", "-q"]
            assert run(*command, cwd=tmp_path).returncode == 0
        assert len(list(load(url))) == 10

    def test_a_server_that_is_not_there_ends_it_before_anything_is_begun(self, tmp_path: Path) -> None:
        done = run("record", "sim://4100", "run.csv", "postgresql://u@127.0.0.1:1/plant", cwd=tmp_path)
        assert (done.returncode, "the server cannot be reached" in done.stderr) == (2, True), done.stderr
        assert "Check host and port, and whether the server runs" in done.stderr
        assert list(tmp_path.iterdir()) == []

    def test_the_port_comes_first(self, tmp_path: Path) -> None:
        for arguments in (["postgresql://u:secret@h/db"], ["postgresql://u:secret@h/db", "run.csv"]):
            done = run("record", *arguments, cwd=tmp_path)
            assert (done.returncode, "PORT is missing" in done.stderr) == (2, True)
            assert "secret" not in done.stderr


class TestPassword:
    @pytest.fixture
    def log(self) -> Iterator[io.StringIO]:
        """All that is logged, by any package, with tracebacks."""
        written = io.StringIO()
        handler = logging.StreamHandler(written)
        root, level = logging.getLogger(), logging.getLogger().level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        yield written
        root.removeHandler(handler)
        root.setLevel(level)

    def test_each_way_to_give_it_works(
        self, tcp: str, postgres: PostgresServer, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bare = f"postgresql://postgres@127.0.0.1:{postgres.port}/{database}"
        with open_sink(tcp) as sink:
            sink.write(batch(0))
        secret = tmp_path / "pw"
        secret.write_text(f"{PASSWORD}\n", encoding="utf-8")
        assert list(load(f"{bare}?password_file={secret}")) == batch(0)
        with monkeypatch.context() as patch:
            patch.setenv("PGPASSWORD", PASSWORD)
            assert list(load(bare)) == batch(0)
        passfile = tmp_path / "pgpass"
        escaped = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
        passfile.write_text(f"127.0.0.1:{postgres.port}:*:postgres:{escaped}\n", encoding="utf-8")
        passfile.chmod(0o600)
        monkeypatch.setenv("PGPASSFILE", str(passfile))
        assert list(load(bare)) == batch(0)
        service = tmp_path / "services"
        service.write_text(f"[plant]\nhost=127.0.0.1\nport={postgres.port}\nuser=postgres\ndbname={database}\n")
        monkeypatch.setenv("PGSERVICEFILE", str(service))
        assert list(load("postgresql://?service=plant")) == batch(0)
        config = PostgresConfig(
            host="127.0.0.1", port=postgres.port, user="postgres", password=PASSWORD, database=database
        )
        assert list(PostgresSink.read(config)) == batch(0)

    def test_it_is_in_no_log_no_error_and_no_repr(
        self, tcp: str, postgres: PostgresServer, log: io.StringIO, tmp_path: Path
    ) -> None:
        shown = []

        def attempt(act: object) -> None:
            try:
                act()  # type: ignore[operator]
            except ServomexError as error:
                shown.append(_everything(error))
            else:
                shown.append("it worked")

        sink = open_sink(tcp, flush_s=0)
        sink.write(batch(0))
        shown += [repr(sink), str(sink), sink.name, repr(vars(sink))]
        wrong = tcp.replace("/plant_", "/missing_")
        host = tcp.replace("127.0.0.1:", "nowhere.invalid:")
        attempt(lambda: open_sink(tcp.replace("%2F", "/")))
        attempt(lambda: open_sink(tcp + "?foo=1"))
        attempt(lambda: open_sink(tcp, overwrite=True))
        attempt(lambda: open_sink(tcp, rotate="1d"))
        attempt(lambda: check_targets([tcp, tcp]))
        attempt(lambda: open_sink(tcp.replace("postgresql", "mysql")))
        attempt(lambda: next(load(tcp.replace("postgresql", "mysql"))))
        attempt(lambda: next(load(wrong)))
        attempt(lambda: load_metadata(host))
        attempt(lambda: list(load(tcp, table="nope")))
        attempt(lambda: open_sink(wrong))
        attempt(lambda: open_sink(tcp.replace("postgres:", "nobody:")))
        attempt(lambda: servomex.Recorder(OwnSource(), [tmp_path / "run.csv", wrong], rate_hz=1))
        postgres.stop("immediate")
        attempt(lambda: sink.write(batch(1)))
        postgres.start()
        sink.close()
        shown += [log.getvalue()]
        assert sum("it worked" in text for text in shown) == 0
        for secret in (PASSWORD, quote(PASSWORD, safe=""), "battery", "staple"):
            assert [text for text in shown if secret in text] == []

    def test_a_wrong_one_is_said_to_be_wrong(self, tcp: str) -> None:
        wrong = "".join(("ses", "ame"))  # a traceback shows the lines of this file
        with pytest.raises(ServomexSinkWriteError, match="the server refuses this user") as caught:
            open_sink(tcp.replace(quote(PASSWORD, safe=""), wrong))
        assert "password authentication failed" in str(caught.value)
        assert wrong not in _everything(caught.value)

    def test_one_that_was_typed_is_warned_of_and_not_repeated(self, tcp: str, tmp_path: Path) -> None:
        with open_sink(tcp) as sink:
            sink.write(batch(0))
        done = run("convert", tcp, "run.csv", cwd=tmp_path)
        assert done.returncode == 0
        warning, result = done.stderr.splitlines()
        assert "postgres:***@127.0.0.1" in warning
        assert "PGPASSFILE" in warning
        assert result == "5 rows written to run.csv"
        again = run("convert", "run.csv", tcp, cwd=tmp_path)
        assert again.returncode == 0
        for text in (done.stdout + done.stderr, again.stdout + again.stderr):
            assert "battery" not in text

    def test_the_server_is_not_shown_it_either(self, tcp: str, postgres: PostgresServer) -> None:
        with open_sink(tcp) as sink:
            sink.write(batch(0))
        seen = postgres.execute("SELECT query, application_name FROM pg_stat_activity")
        assert "battery" not in repr(seen) + postgres.log


def _everything(error: BaseException | None) -> str:
    """Return all that can be shown of an error and of those that it is from."""
    if error is None:
        return ""
    shown = f"{error} {error!r} {''.join(traceback.format_exception(error))} {getattr(error, '__notes__', '')}"
    return shown + repr(vars(error)) + _everything(error.__cause__) + _everything(error.__context__)


def test_many_rows_are_quick(url: str) -> None:
    parts = batches(2000)
    begun = time.monotonic()
    with open_sink(url) as sink:
        for part in parts:
            sink.write(part)
    assert sink.rows / (time.monotonic() - begun) > 500
    assert sum(1 for _ in load(url)) == len(joined(parts))
