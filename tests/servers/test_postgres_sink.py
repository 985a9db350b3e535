"""A table of PostgreSQL holds each row once and gives it back; what does not fit is refused with what to do."""

import logging
import threading
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import attrs
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from servomex.errors import (
    ServomexSinkError,
    ServomexSinkReadError,
    ServomexSinkSchemaError,
    ServomexSinkWriteError,
    ServomexTimeoutError,
)
from servomex.models.columns import ROW_COLUMNS
from servomex.models.sample import Sample
from servomex.sinks.postgres import PostgresSink
from servomex.sinks.postgres_config import PostgresConfig
from tests.helpers.any_samples import samples
from tests.helpers.recordings import batch, batches, joined
from tests.servers.postgres_server import PASSWORD, PostgresServer
from tests.servers.tables import read, rows, write

HOSTILE = [
    "\0",
    "a\0b\\x00c\\",
    "'\\x00",
    "'\\",
    "it's",
    "\\N",
    "\\.",
    "\t\n\r",
    "NULL",
    "",
    " ",
    "é😀\u2028",
    "x" * 20_000,
]


@pytest.fixture
def role(postgres: PostgresServer, database: str) -> Iterator[str]:
    """A role that owns nothing, with a password."""
    name = f"logger_of_{database}"
    postgres.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    yield name
    postgres.execute(f"DROP OWNED BY {name} CASCADE", database)
    postgres.execute(f"DROP ROLE {name}")


@pytest.fixture(params=["", "&use_copy=0"], ids=["copy", "arrays"])
def either(url: str, request: pytest.FixtureRequest) -> str:
    """The URL of a new, empty database, for each way to send rows."""
    return url + str(request.param)


class TestRows:
    def test_what_is_written_is_read(self, either: str) -> None:
        parts = batches(300)
        sink = write(either, parts)
        assert (sink.rows, sink.repeated, sink.refused, sink.unstored) == (len(joined(parts)), 0, 0, 0)
        assert read(either) == joined(parts)

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(parts=st.lists(st.lists(samples(), max_size=4), max_size=3))
    def test_every_sample_returns_as_it_was(self, either: str, parts: list[list[Sample]]) -> None:
        rows(either.removesuffix("&use_copy=0"), "DROP TABLE IF EXISTS samples")
        numbers = iter(range(100))
        parts = [[_numbered(sample, next(numbers)) for sample in part] for part in parts]
        write(either, parts)
        assert sorted(read(either), key=lambda item: item.monotonic_ns) == joined(parts)

    @pytest.mark.parametrize("text", HOSTILE)
    def test_every_text_returns_as_it_was(self, url: str, text: str) -> None:
        (sample, *_) = batch(0)
        assert sample.reading is not None
        written = [
            attrs.evolve(sample, device=text),
            attrs.evolve(sample, reading=attrs.evolve(sample.reading, name=text, unit_text=text)),
            attrs.evolve(sample, reading=None, analyser=None, error=ServomexTimeoutError(text)),
        ]
        write(url, [written])
        assert sorted(map(str, read(url))) == sorted(map(str, written))
        assert all(item in written for item in read(url))

    def test_they_come_in_the_order_of_arrival_and_of_the_channels(self, url: str) -> None:
        parts = batches(30)
        write(url, [part[::-1] for part in parts[::-1]])
        assert read(url) == joined(parts)

    def test_columns_have_types_and_times_are_moments(self, url: str) -> None:
        write(url, batches(1))
        with psycopg.connect(url) as connection:
            connection.execute("SET timezone = 'Asia/Kathmandu'; SET datestyle = ISO")
            found = connection.execute("SELECT * FROM samples LIMIT 1").description or ()
            assert [item.name for item in found] == ROW_COLUMNS
            (row,) = connection.execute(
                "SELECT received_at, pg_typeof(value)::text, pg_typeof(ok)::text, pg_typeof(tags)::text, "
                "extract(epoch FROM analyser_clock) FROM samples WHERE channel = 'I1'"
            ).fetchall()
        sample = batch(0)[0]
        assert sample.analyser is not None
        assert sample.analyser.clock is not None
        assert row[:4] == (sample.received_at, "double precision", "boolean", "jsonb")
        assert float(row[4]) == sample.analyser.clock.replace(tzinfo=UTC).timestamp()

    def test_tags_can_be_searched(self, url: str) -> None:
        tagged = [attrs.evolve(item, metadata={"site": "mill 3", "line": "A"}) for item in batch(0)]
        write(url, [tagged, batch(1)])
        assert rows(url, "SELECT count(*) FROM samples WHERE tags->>'site' = 'mill 3'") == [(len(tagged),)]
        assert read(url) == [*tagged, *batch(1)]

    def test_reading_takes_no_more_memory_for_more_rows(self, url: str) -> None:
        write(url, batches(200))
        rows(
            url,
            "DO $$ DECLARE r samples; BEGIN FOR i IN 1..25 LOOP FOR r IN SELECT * FROM samples WHERE "
            "monotonic_ns < 400000000000 LOOP r.monotonic_ns := r.monotonic_ns + i * 400000000000; "
            "INSERT INTO samples SELECT r.*; END LOOP; END LOOP; END $$",
        )
        tracemalloc.start()
        try:
            number = sum(1 for _ in PostgresSink.read(url))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert number > 20_000
        assert peak < 10_000_000

    def test_a_reader_that_stops_early_leaves_nothing_open(
        self, url: str, database: str, postgres: PostgresServer
    ) -> None:
        write(url, batches(100))
        found = PostgresSink.read(url)
        assert next(iter(found)) == batch(0)[0]
        found.close()  # type: ignore[attr-defined]
        assert _sessions(postgres, database) == 0


def _numbered(sample: Sample, number: int) -> Sample:
    reading = None if sample.reading is None else attrs.evolve(sample.reading, monotonic_ns=number)
    return attrs.evolve(sample, monotonic_ns=number, reading=reading)


def _sessions(postgres: PostgresServer, database: str) -> object:
    return postgres.execute(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'")[0][0]


class TestOnce:
    def test_rows_that_are_sent_again_are_stored_once(self, either: str) -> None:
        parts = batches(50)
        write(either, parts[:30])
        again = write(either, parts)
        assert again.repeated == len(joined(parts[:30]))
        assert again.refused == 0
        assert read(either) == joined(parts)

    def test_so_are_those_that_come_twice_in_a_batch(self, either: str) -> None:
        sink = write(either, [batch(0) + batch(0)])
        assert sink.repeated == len(batch(0))
        assert read(either) == batch(0)

    def test_two_failures_at_the_same_moment_are_two_rows(self, either: str) -> None:
        (failed,) = batch(6)
        others = [attrs.evolve(failed, error=ServomexTimeoutError(text)) for text in ("a", "b", "b" * 5000)]
        write(either, [[failed, *others]])
        assert len(read(either)) == 4

    def test_the_same_moment_on_another_monotonic_clock_is_another_row(self, either: str) -> None:
        later = [_numbered(item, 77) for item in batch(0)]
        assert write(either, [batch(0), later]).repeated == 0
        assert len(read(either)) == 2 * len(batch(0))

    def test_a_row_whose_place_has_another_is_reported_and_the_rest_stored(
        self, either: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        write(either, [batch(0)])
        changed = attrs.evolve(batch(0)[0], latency_s=0.5)
        sink = PostgresSink(either)
        sink.write([changed, *batch(1)])
        with pytest.raises(ServomexSinkSchemaError, match="did not accept 1 row"):
            sink.close()
        assert (sink.refused, sink.repeated) == (1, 0)
        assert "did not accept 1 row: rig A I1 of 2026-03-01 12:30:45.500000+00:00" in caplog.text
        assert "another row already has its key" in caplog.text
        assert read(either) == [*batch(0), *batch(1)]


class TestRowsThatTheServerRefuses:
    def test_they_cost_no_other_row_and_are_counted(self, either: str, caplog: pytest.LogCaptureFixture) -> None:
        bare = either.removesuffix("&use_copy=0")
        write(either, [])
        rows(bare, "ALTER TABLE samples ADD CHECK (value < 20.05 OR value > 20.06)")
        parts = batches(100)
        sink = PostgresSink(either, flush_s=1000)
        for part in parts:
            sink.write(part)
        with pytest.raises(ServomexSinkSchemaError, match=r"did not accept \d+ rows; the others are in it"):
            sink.close()
        taken = [
            item for item in joined(parts) if not (item.reading and 20.05 <= (item.reading.value or 0) <= 20.06)
        ]
        assert read(bare) == taken
        assert sink.refused == len(joined(parts)) - len(taken) > 10
        assert "violates check constraint" in caplog.text

    def test_a_trigger_that_drops_rows_is_noticed(self, url: str) -> None:
        write(url, [])
        rows(
            url,
            "CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
            "CREATE TRIGGER drop_it BEFORE INSERT ON samples FOR EACH ROW WHEN (NEW.channel = 'I2') "
            "EXECUTE FUNCTION drop_it()",
        )
        sink = PostgresSink(url)
        sink.write(batch(0))
        with pytest.raises(ServomexSinkSchemaError, match="did not accept 1 row"):
            sink.close()
        assert [item.channel for item in read(url)] == ["I1", "I3", "E1", "E2"]


class TestRights:
    def test_one_who_may_not_create_is_shown_what_to_grant(
        self, role: str, database: str, postgres: PostgresServer
    ) -> None:
        with pytest.raises(
            ServomexSinkWriteError, match=r"lacks a privilege \(permission denied for schema public\)"
        ):
            PostgresSink(postgres.url(database, role))

    def test_one_who_may_only_insert_and_select_writes_to_a_table_that_is_there(
        self, role: str, url: str, database: str, postgres: PostgresServer
    ) -> None:
        write(url, [], metadata={"port": "COM3"})
        own = postgres.url(database, role)
        with pytest.raises(ServomexSinkWriteError, match=f"the user {role} may not write to the table") as caught:
            PostgresSink(own)
        rows(url, caught.value.cure.removeprefix("Run "))
        rows(url, f"GRANT SELECT, INSERT ON samples_metadata TO {role}")
        write(own, batches(3), metadata={"port": "COM4"})
        assert read(own) == joined(batches(3))

    def test_one_who_may_not_make_temporary_tables_sends_arrays(
        self, role: str, url: str, database: str, postgres: PostgresServer
    ) -> None:
        rows(url, f"REVOKE TEMP ON DATABASE {database} FROM PUBLIC; GRANT CREATE ON SCHEMA public TO {role}")
        own = postgres.url(database, role)
        with pytest.raises(ServomexSinkWriteError, match="use_copy=0"):
            PostgresSink(own)
        write(f"{own}&use_copy=0", batches(3))
        write(f"{own}&use_copy=0", batches(5))
        assert read(own) == joined(batches(5))

    def test_a_database_that_may_only_be_read_is_reported(
        self, url: str, database: str, postgres: PostgresServer
    ) -> None:
        write(url, batches(2))
        postgres.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        with pytest.raises(ServomexSinkWriteError, match="is read-only"):
            write(url, batches(3))
        assert read(url) == joined(batches(2))


class TestReading:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ("value = 'NaN'", "invalid value: nan"),
            ("received_at = 'infinity'", "timestamp too large"),
            ("name = repeat('x', 50000000)", "invalid name: 'xxx"),
            ("channel = 'I9', kind = 'what'", "I9"),
            ("""tags = '{"a": 1}'""", "invalid tags"),
        ],
    )
    def test_a_row_that_is_not_ours_is_an_error(self, url: str, change: str, words: str) -> None:
        write(url, batches(1))
        rows(url, f"UPDATE samples SET {change} WHERE channel = 'I2'")
        with pytest.raises(ServomexSinkError, match=words):
            read(url)

    def test_no_table_and_no_database(self, url: str, postgres: PostgresServer) -> None:
        with pytest.raises(ServomexSinkReadError, match="there is no such table"):
            read(url)
        assert PostgresSink.read_metadata(url) == {}
        with pytest.raises(ServomexSinkReadError, match=r"there is no such database.*nowhere"):
            read(postgres.url("nowhere"))


class TestSeveral:
    def test_writers_that_begin_at_the_same_time_write_one_table(self, url: str) -> None:
        start, failures = threading.Barrier(6), []

        def act(number: int) -> None:
            try:
                start.wait()
                common = batches(40)
                own = [batch(item, device=f"rig {number}") for item in range(40)]
                write(f"{url}&use_copy={number % 2}", common + own, flush_s=0, metadata={"of": str(number)})
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=act, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        found = read(url)
        assert len(found) == len(joined(batches(40))) * 7
        assert [item for item in found if item.device == "rig A"] == joined(batches(40))


class TestBatches:
    def test_rows_wait_for_a_second_or_a_thousand(self, url: str) -> None:
        with PostgresSink(url, flush_s=1000) as sink:
            for number in range(150):
                sink.write(batch(number))
            assert sink.pending == sink.rows
            for number in range(150, 250):
                sink.write(batch(number))
            stored = rows(url, "SELECT count(*) FROM samples")[0][0]
            assert stored == sink.rows - sink.pending >= 1000
        with PostgresSink(url, flush_s=0) as sink:
            sink.write([attrs.evolve(item, device="B") for item in batch(0)])
            assert rows(url, "SELECT count(*) FROM samples WHERE device = 'B'") == [(5,)]

    def test_it_is_written_in_any_thread_and_by_none_after_its_end(self, url: str) -> None:
        sink = PostgresSink(url, flush_s=0)
        thread = threading.Thread(target=sink.write, args=(batch(0),))
        thread.start()
        thread.join()
        sink.close()
        sink.close()
        with pytest.raises(ServomexSinkError, match="is closed: nothing more can be written"):
            sink.write(batch(1))
        assert read(url) == batch(0)

    def test_nothing_is_logged_when_nothing_is_wrong(self, url: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        write(url, batches(3), metadata={"port": "COM3"})
        write(url, batches(3), metadata={"port": "COM3"})
        read(url)
        assert caplog.messages == []


def test_a_config_says_the_same_as_a_url(postgres: PostgresServer, database: str) -> None:
    config = PostgresConfig(host=str(postgres.folder), port=postgres.port, user="postgres", database=database)
    with PostgresSink(config) as sink:
        sink.write(batch(0))
        assert sink.name == config.target() == f"{postgres.folder}:{postgres.port}/{database}.public.samples"
    assert read(postgres.url(database)) == batch(0)


def test_times_from_the_first_to_the_last_year_return(url: str) -> None:
    moments = [datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC) + timedelta(microseconds=1)]
    written = [attrs.evolve(batch(6)[0], received_at=moment, requested_at=moment) for moment in moments]
    write(url, [written])
    assert read(url) == written
