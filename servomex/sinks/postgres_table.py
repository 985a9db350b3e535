"""The table of a PostgreSQL server that holds samples, and the one with the metadata of recordings."""

from collections.abc import Collection, Mapping
from uuid import UUID

from psycopg import sql

from servomex.enums import ChannelId
from servomex.errors import ServomexSinkSchemaError, ServomexSinkWriteError
from servomex.errors.excerpts import shown
from servomex.models.columns import ROW_COLUMNS
from servomex.rows.kinds import COLUMN_KINDS, ColumnKind
from servomex.runtime.logs import package_log
from servomex.sinks.postgres_config import PostgresConfig
from servomex.sinks.postgres_connection import Connection

_log = package_log("servomex")

_TYPES = {
    ColumnKind.TIME: "timestamp with time zone",
    ColumnKind.CLOCK: "timestamp without time zone",
    ColumnKind.INTEGER: "bigint",
    ColumnKind.NUMBER: "double precision",
    ColumnKind.FLAG: "boolean",
    ColumnKind.TEXT: "text",
    ColumnKind.TAGS: "jsonb",
}
TYPES = {column: _TYPES[kind] for column, kind in COLUMN_KINDS.items()}
"""The columns, each with its type as PostgreSQL shows it."""
NEVER_EMPTY = ("received_at", "monotonic_ns", "device", "protocol")
KEY = (
    "received_at",
    "monotonic_ns",
    "COALESCE(channel, ''::text)",
    "hashtextextended(device, (0)::bigint)",
    "hashtextextended(COALESCE(error, ''::text), (0)::bigint)",
)
"""The key that no two rows share, as PostgreSQL shows it: an index takes no NULL and no long text."""
METADATA_TYPES = {
    "begun_at": "timestamp with time zone",
    "recording": "uuid",
    "key": "text",
    "value": "text",
}
MOST_NOTES = 10_000
"""Rows of the table of metadata that are read; a recording writes some dozens."""
COLUMNS = sql.SQL(", ").join(map(sql.Identifier, ROW_COLUMNS))

INCOMING = sql.Identifier("pg_temp", "servomex_incoming")
"""The temporary table that takes rows before they are stored."""
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('servomex'), hashtext(%s))"
_KNOWN_COLUMNS = """
SELECT attname, pg_catalog.format_type(atttypid, atttypmod), attnotnull, attgenerated <> '' OR attidentity <> ''
FROM pg_catalog.pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
_KEYS = """
SELECT array(SELECT pg_catalog.pg_get_indexdef(indexrelid, place, false)
             FROM generate_series(1, indnkeyatts) AS place ORDER BY place)
FROM pg_catalog.pg_index WHERE indrelid = %s AND indisunique AND indisvalid AND indpred IS NULL
"""


def table(config: PostgresConfig, suffix: str = "") -> sql.Identifier:
    """Return the name of the table, or of one that belongs to it."""
    return sql.Identifier(config.schema, config.table + suffix)


def oid_of(connection: Connection, config: PostgresConfig, suffix: str = "") -> int | None:
    """Return the number of the table; ``None`` when there is none. One that was created again has another."""
    found = connection.execute(
        "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s",
        (config.schema, config.table + suffix),
    ).fetchone()
    return None if found is None else int(found[0])


def prepare(connection: Connection, config: PostgresConfig) -> int:
    """Create missing tables, check existing ones, and return the number of the table.

    Raises:
        ServomexSinkWriteError: There is no table, and ``create_table`` is off; or a right is missing.
        ServomexSinkSchemaError: The table is not one of this package.
        psycopg.Error: The server refuses something.
    """
    with connection.transaction():
        _check_encoding(connection, config)
        if config.create_table and None in (oid_of(connection, config), oid_of(connection, config, "_metadata")):
            _create(connection, config)
        number = check(connection, config)
    if number is None:
        raise ServomexSinkWriteError(
            f"{config.target()}: there is no such table", cure="Create it, or let create_table=1 do so"
        )
    if config.use_copy:
        connection.execute(_create_incoming())
    return number


def check(connection: Connection, config: PostgresConfig, *, writing: bool = True) -> int | None:
    """Check the table, if there is one, and return its number.

    Args:
        connection: A connection to the server.
        config: Which table it is.
        writing: Whether it is to be written.

    Raises:
        ServomexSinkWriteError: It may not be written.
        ServomexSinkSchemaError: It is not one of this package.
    """
    number = oid_of(connection, config)
    if number is None:
        return None
    where = config.target()
    _check_columns(connection, number, f"the table {where}", TYPES, NEVER_EMPTY)
    if not writing:
        return number
    keys = [tuple(key) for (key,) in connection.execute(_KEYS, (number,))]
    if KEY not in keys:
        raise ServomexSinkSchemaError(
            f"the table {where} has no unique index that keeps a row from being stored twice",
            cure=f"Run {_unique_index(config).as_string(connection)}",
        )
    allowed = connection.execute(
        "SELECT has_table_privilege(%s::oid, 'INSERT') AND has_table_privilege(%s::oid, 'SELECT'), current_user",
        (number, number),
    ).fetchone()
    if allowed is not None and not allowed[0]:
        grant = sql.SQL("GRANT SELECT, INSERT ON {} TO {}").format(table(config), sql.Identifier(allowed[1]))
        raise ServomexSinkWriteError(
            f"{where}: the user {allowed[1]} may not write to the table", cure=f"Run {grant.as_string(connection)}"
        )
    return number


def note_metadata(
    connection: Connection, config: PostgresConfig, recording: UUID, metadata: Mapping[str, str]
) -> None:
    """Write the metadata of a whole recording, unless that was done before.

    Raises:
        ServomexSinkWriteError: There is no table for it.
        ServomexSinkSchemaError: Its table is not one of this package.
    """
    if not metadata:
        return
    number = oid_of(connection, config, "_metadata")
    where = f"{config.target()}_metadata"
    if number is None:
        raise ServomexSinkWriteError(
            f"{where}: there is no such table, which would hold the metadata of the recording",
            cure="Create it, or let create_table=1 do so",
        )
    _check_columns(connection, number, f"the table {where}", METADATA_TYPES, ())
    insert = sql.SQL(
        "INSERT INTO {} (begun_at, recording, key, value) VALUES (now(), %s, %s, %s) ON CONFLICT DO NOTHING"
    ).format(table(config, "_metadata"))
    with connection.transaction():
        for key, value in metadata.items():
            connection.execute(insert, (recording, key, value))


def stored_metadata(connection: Connection, config: PostgresConfig) -> dict[str, str]:
    """Return the metadata of the recordings in a table; for equal keys the newest.

    Raises:
        ServomexSinkSchemaError: The table is not one of this package, or too large.
    """
    number = oid_of(connection, config, "_metadata")
    if number is None:
        return {}
    where = f"{config.target()}_metadata"
    _check_columns(connection, number, f"the table {where}", METADATA_TYPES, ())
    select = sql.SQL("SELECT left(key, 1000), left(value, 100000) FROM {} ORDER BY begun_at, recording LIMIT {}")
    found = connection.execute(select.format(table(config, "_metadata"), sql.Literal(MOST_NOTES + 1))).fetchall()
    if len(found) > MOST_NOTES:
        raise ServomexSinkSchemaError(f"{where} has more than {MOST_NOTES} rows", cure="Delete the oldest")
    return {str(key): str(value) for key, value in found}


def reading_order() -> sql.Composed:
    """Return the one order in which rows are read: that of their arrival, and of the channels of a frame."""
    channels = sql.SQL(", ").join(sql.Literal(channel.value) for channel in ChannelId)
    return sql.SQL(
        'received_at, device COLLATE "C", monotonic_ns, array_position(ARRAY[{}]::text[], channel), '
        'channel COLLATE "C", error COLLATE "C"'
    ).format(channels)


def _check_encoding(connection: Connection, config: PostgresConfig) -> None:
    encoding = connection.execute("SHOW server_encoding").fetchone()
    if encoding != ("UTF8",):
        raise ServomexSinkSchemaError(
            f"{config.target()}: the database has the encoding {encoding[0] if encoding else 'unknown'}, which "
            "cannot hold every text",
            cure="Create the database with ENCODING 'UTF8'",
        )


def _create(connection: Connection, config: PostgresConfig) -> None:
    """Create the tables; if several writers start at the same time, one of them does."""
    connection.execute(_LOCK, (f"{config.schema}.{config.table}",))
    if oid_of(connection, config) is None:
        columns = [
            sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(f"{kind}{' NOT NULL' * (name in NEVER_EMPTY)}"))
            for name, kind in TYPES.items()
        ]
        connection.execute(sql.SQL("CREATE TABLE {} ({})").format(table(config), sql.SQL(", ").join(columns)))
        _make_hypertable(connection, config)
        connection.execute(_unique_index(config))
    if oid_of(connection, config, "_metadata") is None:
        columns = [
            sql.SQL("{} {} NOT NULL").format(sql.Identifier(name), sql.SQL(kind))
            for name, kind in METADATA_TYPES.items()
        ]
        connection.execute(
            sql.SQL("CREATE TABLE {} ({}, PRIMARY KEY (recording, key))").format(
                table(config, "_metadata"), sql.SQL(", ").join(columns)
            )
        )


def _make_hypertable(connection: Connection, config: PostgresConfig) -> None:
    """Divide the new table by time, if the database has the TimescaleDB extension."""
    found = connection.execute(
        "SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace "
        "WHERE e.extname = 'timescaledb'"
    ).fetchone()
    if found is None:
        return
    make = sql.SQL("SELECT {}({}::regclass, 'received_at'::name, create_default_indexes => false)").format(
        sql.Identifier(found[0], "create_hypertable"), sql.Literal(table(config).as_string(connection))
    )
    connection.execute(make)
    _log.info("%s is a hypertable of TimescaleDB", config.target())


def _unique_index(config: PostgresConfig) -> sql.Composed:
    return sql.SQL("CREATE UNIQUE INDEX {} ON {} ({})").format(
        sql.Identifier(f"{config.table}_once"), table(config), sql.SQL(", ".join(KEY))
    )


def _create_incoming() -> sql.Composed:
    columns = [
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))  # no NOT NULL: every row must arrive
        for name, kind in TYPES.items()
    ]
    return sql.SQL("CREATE TEMPORARY TABLE IF NOT EXISTS {} ({}) ON COMMIT DELETE ROWS").format(
        sql.Identifier("servomex_incoming"), sql.SQL(", ").join(columns)
    )


def _check_columns(
    connection: Connection, number: int, where: str, types: Mapping[str, str], never_empty: tuple[str, ...]
) -> None:
    found = {name: row for name, *row in connection.execute(_KNOWN_COLUMNS, (number,))}
    kind = connection.execute("SELECT relkind FROM pg_catalog.pg_class WHERE oid = %s", (number,)).fetchone()
    if kind not in (("r",), ("p",)):
        raise ServomexSinkSchemaError(f"{where} is not a table", cure="Name another table")
    _check_names(where, found, types)
    for name, wanted in types.items():
        kind_there, is_never_empty, is_computed = found[name]
        if kind_there != wanted or is_computed:
            there = f"{kind_there}, computed" if is_computed else kind_there
            raise ServomexSinkSchemaError(f"{where}: the column {shown(name)} is {there} instead of {wanted}")
        if is_never_empty and types is TYPES and name not in never_empty:
            raise ServomexSinkSchemaError(
                f"{where}: the column {shown(name)} may not be empty (NOT NULL), which it is in some rows"
            )


def _check_names(where: str, found: Collection[str], wanted: Collection[str]) -> None:
    differences = (
        ("lacks", [name for name in wanted if name not in found]),
        ("also has", [name for name in found if name not in wanted]),
    )
    said = [f"it {verb} {', '.join(map(shown, names))}" for verb, names in differences if names]
    if said:
        raise ServomexSinkSchemaError(
            f"{where} does not have the columns that this package writes: {' and '.join(said)}",
            cure="Name another table",
        )
