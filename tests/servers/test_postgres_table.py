"""The table that holds the rows: made where it is missing, refused where it does not fit."""

import pytest

from servomex.errors import (
    ServomexSinkSchemaError,
    ServomexSinkWriteError,
)
from servomex.sinks.postgres import PostgresSink
from servomex.sinks.postgres_table import KEY, TYPES
from tests.helpers.recordings import batches, joined
from tests.servers.postgres_server import PostgresServer
from tests.servers.tables import read, rows, write


class TestTable:
    def test_what_is_not_there_is_created(self, url: str) -> None:
        rows(url, "CREATE SCHEMA plant")
        own = f"{url}&schema=plant&table=Stack_1"
        write(own, batches(2), metadata={"port": "COM3"})
        assert read(own) == joined(batches(2))
        assert rows(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'plant' ORDER BY 1") == [
            ("Stack_1",),
            ("Stack_1_metadata",),
        ]

    def test_the_longest_name_has_room_for_what_belongs_to_it(self, url: str) -> None:
        own = f"{url}&table={'x' * 54}"
        write(own, batches(2), metadata={"port": "COM3"})
        write(own, batches(2), metadata={"port": "COM3"})
        assert PostgresSink.read_metadata(own) == {"port": "COM3"}

    def test_one_that_was_made_by_hand_is_written_whatever_the_order_of_its_columns(self, url: str) -> None:
        columns = ", ".join(f"{name} {kind}" for name, kind in sorted(TYPES.items()))
        rows(url, f"CREATE TABLE samples ({columns}); CREATE UNIQUE INDEX any_name ON samples ({', '.join(KEY)})")
        write(f"{url}&create_table=0", batches(3))
        assert read(url) == joined(batches(3))

    def test_none_is_created_when_that_is_not_wanted(self, url: str) -> None:
        with pytest.raises(ServomexSinkWriteError, match="there is no such table") as caught:
            PostgresSink(f"{url}&create_table=0")
        assert "create_table=1" in caught.value.cure
        assert rows(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ("ALTER TABLE samples ADD note text", "it also has 'note'"),
            ("ALTER TABLE samples DROP unit", "it lacks 'unit'"),
            ("ALTER TABLE samples RENAME unit TO einheit", "it lacks 'unit' and it also has 'einheit'"),
            ("ALTER TABLE samples ALTER name TYPE varchar(20)", "'name' is character varying(20) instead of text"),
            ("ALTER TABLE samples ALTER value TYPE real", "'value' is real instead of double precision"),
            (
                "ALTER TABLE samples ALTER received_at TYPE timestamptz(3)",
                "'received_at' is timestamp(3) with time zone instead of timestamp with time zone",
            ),
            ("TRUNCATE samples; ALTER TABLE samples ALTER tags SET NOT NULL", "'tags' may not be empty"),
            ("ALTER TABLE samples RENAME TO other; CREATE VIEW samples AS SELECT * FROM other", "is not a table"),
            (
                "ALTER TABLE samples DROP latency_s; ALTER TABLE samples "
                "ADD latency_s double precision GENERATED ALWAYS AS (value) STORED",
                "'latency_s' is double precision, computed instead of double precision",
            ),
        ],
    )
    def test_one_of_another_make_is_refused_with_the_difference(self, url: str, change: str, words: str) -> None:
        write(url, batches(1))
        rows(url, change)
        for attempt in (PostgresSink, PostgresSink.check_url):
            with pytest.raises(ServomexSinkSchemaError) as caught:
                attempt(url)
            assert words in str(caught.value)
        if "NOT NULL" not in change:
            with pytest.raises(ServomexSinkSchemaError):
                read(url)

    def test_one_that_would_store_rows_twice_is_refused_with_the_statement_that_helps(self, url: str) -> None:
        write(url, batches(1))
        rows(url, "DROP INDEX samples_once")
        with pytest.raises(ServomexSinkSchemaError, match="no unique index") as caught:
            PostgresSink(url)
        rows(url, caught.value.cure.removeprefix("Run "))
        assert write(url, batches(1)).repeated == 5

    def test_a_database_that_cannot_hold_every_text_is_refused(self, postgres: PostgresServer) -> None:
        postgres.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
        try:
            with pytest.raises(ServomexSinkSchemaError, match=r"encoding LATIN1.*ENCODING 'UTF8'"):
                PostgresSink(postgres.url("latin"))
        finally:
            postgres.execute("DROP DATABASE latin")

    def test_a_commit_is_on_the_disk_whatever_the_database_prefers(
        self, url: str, database: str, postgres: PostgresServer
    ) -> None:
        postgres.execute(f"ALTER DATABASE {database} SET synchronous_commit = off")
        write(url, [])
        rows(
            url,
            "CREATE TABLE seen (value text); CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN INSERT INTO seen VALUES (current_setting(''synchronous_commit'')); RETURN NULL; END';"
            "CREATE TRIGGER look AFTER INSERT ON samples FOR EACH STATEMENT EXECUTE FUNCTION look()",
        )
        write(url, batches(1))
        assert rows(url, "SELECT DISTINCT value FROM seen") == [("on",)]

    def test_timescaledb_is_asked_to_divide_a_new_table(self, url: str) -> None:
        # The extension itself is not in Debian: what stands in for it notes what it was called with.
        rows(
            url,
            "SET allow_system_table_mods = on; CREATE SCHEMA ts; CREATE TABLE ts.calls (relation text, by_ name);"
            "CREATE FUNCTION ts.create_hypertable(relation regclass, time_column_name name, "
            "create_default_indexes boolean DEFAULT true) RETURNS int LANGUAGE sql AS "
            "'INSERT INTO ts.calls SELECT relation::text, time_column_name WHERE NOT create_default_indexes "
            "RETURNING 1';"
            "INSERT INTO pg_extension "
            "SELECT 99999, 'timescaledb', 10, 'ts'::regnamespace, false, '2.17', NULL, NULL",
        )
        write(url, batches(1))
        write(url, batches(2))
        assert rows(url, "SELECT * FROM ts.calls") == [("samples", "received_at")]
        rows(url, "SET allow_system_table_mods = on; DELETE FROM pg_extension WHERE oid = 99999")


class TestMetadata:
    def test_the_newest_of_several_recordings_counts(self, url: str) -> None:
        write(url, [], metadata={"port": "COM3", "a\0b": "'\\x00"})
        write(url, [], metadata={"port": "COM4"})
        assert PostgresSink.read_metadata(url) == {"port": "COM4", "a\0b": "'\\x00"}
        assert rows(url, "SELECT count(DISTINCT recording), count(*) FROM samples_metadata") == [(2, 3)]

    def test_it_is_never_dropped_without_a_word(self, url: str) -> None:
        write(url, [])
        rows(url, "DROP TABLE samples_metadata")
        with pytest.raises(ServomexSinkWriteError, match="samples_metadata: there is no such table"):
            PostgresSink(f"{url}&create_table=0", metadata={"port": "COM3"})
        write(f"{url}&create_table=0", batches(1))
        assert PostgresSink.read_metadata(url) == {}
