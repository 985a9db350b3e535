"""What goes wrong with a database while it is written: nothing is lost, nothing is twice, nothing hangs."""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

import psycopg
import pytest

from servomex import Recorder
from servomex.errors import ServomexSinkError, ServomexSinkSchemaError, ServomexSinkWriteError
from servomex.models.sample import Sample
from servomex.sinks import InMemorySink
from servomex.sinks.postgres import PostgresSink
from tests.helpers.paths import ROOT
from tests.helpers.recorded import OwnSource
from tests.helpers.recordings import batch, batches, joined
from tests.helpers.waiting import wait_until
from tests.servers.postgres_server import PASSWORD, PostgresServer
from tests.servers.proxy import Cutting
from tests.servers.tables import read, rows

QUICK = "&command_timeout_s=2"


def numbers(samples: list[Sample]) -> list[int]:
    return [item.monotonic_ns for item in samples]


@contextlib.contextmanager
def recording(url: str, **options: object) -> Iterator[tuple[Recorder, PostgresSink, InMemorySink]]:
    """Record 100 readings a second to a table and to a list."""
    sink, memory = PostgresSink(url, flush_s=0.05, **options), InMemorySink()  # type: ignore[arg-type]
    with sink, Recorder(OwnSource(), [sink, memory], rate_hz=100, buffer_size=100_000) as recorder:
        wait_until(lambda: sink.rows - sink.unstored > 20)
        yield recorder, sink, memory
        more = sink.rows - sink.unstored + 20
        wait_until(lambda: sink.rows - sink.unstored > more)


def test_a_server_that_crashes_and_comes_back_costs_no_row(
    postgres: PostgresServer, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with recording(url) as (recorder, sink, memory):
        for _ in range(2):
            postgres.stop("immediate")
            wait_until(lambda: "Retrying for 30 s" in caplog.text)
            postgres.start()
            wait_until(lambda: "can be written again" in caplog.text)
            caplog.clear()
    assert numbers(read(url)) == numbers(memory.samples)
    assert (recorder.summary.unwritten, sink.refused, sink.removed) == (0, 0, 0)


def test_a_server_that_is_restarted_at_the_end_costs_no_row(postgres: PostgresServer, url: str) -> None:
    sink = PostgresSink(url, flush_s=1000)
    sink.write(batch(0))
    sink.flush()
    sink.write(batch(1))
    postgres.stop()
    postgres.start()
    sink.close()
    assert read(url) == joined(batches(2))


def test_the_last_rows_wait_for_a_server_that_is_away_at_the_end(
    postgres: PostgresServer, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    sink, memory = PostgresSink(url, flush_s=1000), InMemorySink()
    recorder = Recorder(OwnSource(), [sink, memory], rate_hz=100).start()
    wait_until(lambda: sink.pending > 20)
    postgres.stop()
    ender = threading.Thread(target=recorder.close)
    ender.start()
    wait_until(lambda: "Retrying" in caplog.text)
    postgres.start()
    ender.join()
    sink.close()
    assert numbers(read(url)) == numbers(memory.samples)
    assert recorder.summary.unwritten == 0


def test_sessions_that_are_cut_at_any_moment_cost_no_row(
    postgres: PostgresServer, url: str, database: str
) -> None:
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
    with recording(url) as (recorder, _, memory):
        for _ in range(40):
            postgres.execute(cut)
            time.sleep(0.03)
    assert numbers(read(url)) == numbers(memory.samples)
    assert recorder.summary.unwritten == 0


def test_a_session_that_is_cut_in_the_middle_of_copy_leaves_no_half_batch(
    postgres: PostgresServer, url: str, database: str
) -> None:
    # A trigger stands still in the middle of the batch, as long as a lock is held.
    PostgresSink(url).close()
    rows(
        url,
        "CREATE FUNCTION stand() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(4711); "
        "RETURN NEW; END'; CREATE TRIGGER stand BEFORE INSERT ON samples FOR EACH ROW "
        "WHEN (NEW.monotonic_ns = 20000000000) EXECUTE FUNCTION stand()",
    )
    sink = PostgresSink(url, flush_s=1000)
    for part in batches(20):
        sink.write(part)
    with psycopg.connect(url, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(4711)")
        flush = threading.Thread(target=sink.flush)
        flush.start()
        waiting = f"SELECT pid FROM pg_stat_activity WHERE datname = '{database}' AND wait_event = 'advisory'"
        wait_until(lambda: postgres.execute(waiting))
        assert read(url) == []
        ((first,),) = postgres.execute(waiting)
        postgres.execute(f"SELECT pg_terminate_backend({first})")
        wait_until(lambda: postgres.execute(f"{waiting} AND pid <> {first}"))  # it is sent again at once
        assert read(url) == []
    flush.join()
    sink.close()
    assert read(url) == joined(batches(20))
    assert sink.repeated == 0


def test_rows_whose_commit_was_not_confirmed_are_sent_again_and_stored_once(
    postgres: PostgresServer, url: str, database: str
) -> None:
    with Cutting(postgres.port, b"COMMIT\0") as proxy:
        sink = PostgresSink(
            f"postgresql://postgres:{quote(PASSWORD, '')}@127.0.0.1:{proxy.port}/{database}", flush_s=0
        )
        sink.write(batch(0))
        proxy.cuts = 1
        sink.write(batch(1))
        assert proxy.cuts == 0
        sink.close()
    assert sink.repeated == 5
    assert read(url) == joined(batches(2))


def test_a_table_that_is_dropped_is_made_again_and_its_rows_are_counted(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    sink = PostgresSink(url, flush_s=0, metadata={"port": "COM3"})
    for number in range(3):
        sink.write(batch(number))
    rows(url, "DROP TABLE samples, samples_metadata")
    for number in range(3, 6):
        sink.write(batch(number))
    assert sink.removed == 15
    assert "was dropped while it was written, with 15 rows: the rest goes to a new file" in caplog.text
    with pytest.raises(ServomexSinkWriteError, match="another program removed 15 rows"):
        sink.close()
    assert read(url) == joined(batches(3, 3))
    assert PostgresSink.read_metadata(url) == {"port": "COM3"}


def test_a_table_that_another_writer_has_made_again_is_noticed(url: str) -> None:
    sink = PostgresSink(url, flush_s=0)
    sink.write(batch(0))
    rows(url, "DROP TABLE samples")
    with PostgresSink(url) as other:
        other.write(batch(1))
    sink.write(batch(2))
    assert sink.removed == 5
    with pytest.raises(ServomexSinkWriteError, match="another program removed 5 rows"):
        sink.close()
    assert read(url) == batch(1) + batch(2)


def test_a_table_that_is_put_in_its_place_is_not_touched_and_the_rows_wait(url: str) -> None:
    sink = PostgresSink(url, flush_s=0)
    sink.write(batch(0))
    rows(url, "DROP TABLE samples; CREATE TABLE samples (note text)")
    for _ in range(2):
        with pytest.raises(ServomexSinkWriteError, match="the columns that this package writes"):
            sink.write(batch(1))
    rows(url, "DROP TABLE samples")
    sink.write(batch(1))
    with pytest.raises(ServomexSinkWriteError, match="removed 5 rows"):
        sink.close()
    assert read(url) == batch(1)


def test_rights_that_are_withdrawn_hold_the_rows_up_until_they_are_back(
    postgres: PostgresServer, url: str, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    PostgresSink(url).close()
    role = f"reader_of_{database}"
    rows(url, f"CREATE ROLE {role} LOGIN; GRANT SELECT, INSERT ON samples TO {role}")
    try:
        with recording(postgres.url(database, role)) as (recorder, _, memory):
            rows(url, f"REVOKE INSERT ON samples FROM {role}")
            wait_until(lambda: "Retrying" in caplog.text)
            assert "may not write to the table. Run GRANT SELECT, INSERT" in caplog.text
            rows(url, f"GRANT INSERT ON samples TO {role}")
        assert numbers(read(url)) == numbers(memory.samples)
        assert recorder.summary.unwritten == 0
    finally:
        rows(url, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_lock_of_another_session_is_waited_for_and_then_named(url: str) -> None:
    sink = PostgresSink(url + QUICK, flush_s=0)
    sink.write(batch(0))
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE samples")
        begun = time.monotonic()
        with pytest.raises(ServomexSinkWriteError, match="another session has locked the table"):
            sink.write(batch(1))
        assert 0.9 < time.monotonic() - begun < 8
    sink.write(batch(1))
    sink.close()
    assert read(url) == joined(batches(2))


class TestServerThatHangs:
    @pytest.fixture
    def hang(self, postgres: PostgresServer) -> Iterator[Callable[[], None]]:
        yield postgres.hang
        postgres.wake()

    def test_it_is_given_up_and_what_it_did_not_take_is_sent_again(
        self, postgres: PostgresServer, url: str, hang: Callable[[], None]
    ) -> None:
        sink = PostgresSink(url + QUICK, flush_s=0)
        sink.write(batch(0))
        hang()
        begun = time.monotonic()
        with pytest.raises(ServomexSinkWriteError, match=r"does not answer \(nothing received for 2 s\)"):
            sink.write(batch(1))
        assert 1.9 < time.monotonic() - begun < 8
        with pytest.raises(ServomexSinkWriteError, match="cannot be reached"):
            sink.write(batch(1))
        postgres.wake()
        sink.write(batch(1))
        sink.close()
        assert read(url) == joined(batches(2))

    def test_the_end_of_a_recording_does_not_wait_for_it(
        self, postgres: PostgresServer, url: str, hang: Callable[[], None]
    ) -> None:
        sink, memory = PostgresSink(f"{url}&command_timeout_s=3", flush_s=0.05), InMemorySink()
        recorder = Recorder(OwnSource(), [sink, memory], rate_hz=50).start()
        wait_until(lambda: sink.rows > 20)
        hang()
        wait_until(lambda: sink.unstored > 0)
        begun = time.monotonic()
        with pytest.raises(ServomexSinkError):
            recorder.close()
        assert time.monotonic() - begun < 25
        assert recorder.summary.unwritten > 0
        postgres.wake()
        wait_until(lambda: not [item for item in threading.enumerate() if "servomex-recorder" in item.name])
        assert len(read(url)) + recorder.summary.unwritten >= recorder.summary.samples_emitted
        sink.close()


KILLED = """
import sys
from servomex.sinks.postgres import PostgresSink
from tests.helpers.recordings import batch
sink = PostgresSink(sys.argv[1], flush_s=0)
for number in range(100_000):
    sink.write(batch(number))
    print(number, flush=True)
"""


def test_rows_that_were_confirmed_survive_a_kill_and_sending_again_is_harmless(url: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, url],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        for _ in range(40):
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        last = max([last, *map(int, process.stdout.read().split())])
    stored = read(url)
    assert len(stored) >= len(joined(batches(last + 1)))
    assert stored == joined(batches(last + 2))[: len(stored)]
    with PostgresSink(url) as again:
        for part in batches(last + 10):
            again.write(part)
    assert again.repeated == len(stored)
    assert read(url) == joined(batches(last + 10))


def test_a_full_disk_of_the_server_is_named_and_takes_rows_again_when_there_is_room(
    postgres: PostgresServer, url: str, database: str
) -> None:
    place = postgres.folder / f"small-{database}"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        data, ballast = place / "data", place / "ballast"
        data.mkdir()
        shutil.chown(data, "postgres", "postgres")
        ballast.write_bytes(bytes(2_000_000))
        postgres.execute(f"CREATE TABLESPACE {database}_small LOCATION '{data}'")
        postgres.execute(f"ALTER DATABASE {database} SET default_tablespace = {database}_small")
        sink = PostgresSink(url, flush_s=0)
        number = 0

        def fill() -> None:
            nonlocal number
            for number in range(0, 100_000, 100):
                sink.write(joined(batches(100, number)))

        with pytest.raises(ServomexSinkWriteError, match="the disk of the server is full"):
            fill()
        ballast.unlink()
        sink.write(joined(batches(100, number)))
        sink.close()
        assert read(url) == joined(batches(number + 100))
        rows(url, "DROP TABLE samples, samples_metadata")
        postgres.execute(f"ALTER DATABASE {database} RESET default_tablespace")
        postgres.execute(f"DROP TABLESPACE {database}_small")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_does_not_end_the_connection_of_its_parent(url: str) -> None:
    sink = PostgresSink(url, flush_s=1000)
    sink.write(batch(0))
    child = os.fork()
    if not child:
        del sink
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    sink.write(batch(1))
    sink.close()
    assert read(url) == joined(batches(2))


def test_one_that_is_forgotten_is_closed_with_a_warning(url: str) -> None:
    sink = PostgresSink(url, flush_s=1000)
    sink.write(batch(0))
    with pytest.warns(ResourceWarning, match=r"samples was never closed"):
        del sink
    assert read(url) == batch(0)


def test_refused_rows_end_a_recording_with_an_error_and_are_counted(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    PostgresSink(url).close()
    rows(url, "ALTER TABLE samples ADD CHECK (monotonic_ns <> 7)")
    sink, memory = PostgresSink(url, flush_s=0.05), InMemorySink()
    with (
        pytest.raises(ServomexSinkWriteError, match="1 row of this recording was refused or removed"),
        Recorder(OwnSource(), [sink, memory], rate_hz=100) as recorder,
    ):
        wait_until(lambda: sink.rows - sink.unstored > 20)
    assert recorder.summary.unwritten == 1
    with pytest.raises(ServomexSinkSchemaError, match="did not accept 1 row"):
        sink.close()
    assert numbers(read(url)) == [number for number in numbers(memory.samples) if number != 7]
