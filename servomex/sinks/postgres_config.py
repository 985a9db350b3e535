"""Which table of which PostgreSQL server, and how to reach it: ``PostgresConfig`` and ``postgresql://`` URLs."""

import os
import re
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

import attrs

from servomex.errors import ServomexSinkDependencyError, ServomexValidationError
from servomex.errors.excerpts import plain, without_password
from servomex.errors.missing import how_to_get
from servomex.errors.validation import flag, path_text, seconds
from servomex.sinks import urls

LONGEST_IDENTIFIER = 63
"""Bytes of a name that PostgreSQL keeps."""
LONGEST_TABLE = LONGEST_IDENTIFIER - len("_metadata")
"""Characters of a table's name: the tables and indexes beside it have longer ones."""
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCHEME = re.compile(r"postgres(ql)?://", re.IGNORECASE)


def _identifier(longest: int) -> Any:
    """Return the check of a name that needs no quotation marks in SQL."""

    def check(_config: object, attribute: "attrs.Attribute[str]", value: object) -> None:
        if not isinstance(value, str) or len(value) > longest or not _IDENTIFIER.fullmatch(value):
            raise ServomexValidationError(
                f"the {attribute.name} must be a word of up to {longest} letters, digits and '_' that does not "
                f"begin with a digit, not {value!r}"
            )

    return check


PORT = 5432
"""Of PostgreSQL, unless it was set up otherwise."""


@attrs.frozen
class PostgresConfig:
    """A table of a PostgreSQL server, and how to connect to it.

    Anything not given comes from libpq: ``PGHOST``, ``PGUSER``, ``PGPASSWORD``, ``PGPASSFILE``, ``~/.pgpass``,
    ``PGSERVICE`` and so on. The ``repr`` shows neither the password nor the ``dsn``.

    Attributes:
        dsn: A connection string or URL of libpq, in place of ``host``, ``port``, ``user`` and ``database``.
        host: Name or address of the server, or the folder of its socket.
        port: TCP port.
        user: The role that connects.
        password: Its password. One in ``~/.pgpass``, ``PGPASSFILE`` or ``password_file`` is not in your program.
        password_file: A file whose first line is the password, as with secrets of systemd or Docker.
        database: Name of the database.
        schema: Schema of the table.
        table: Name of the table, up to 54 characters.
        statement_timeout_ms: The server ends a statement that takes longer; 0 for no limit.
        command_timeout_s: A server that sends nothing for this long is given up, as is a connection that takes
            this long, or a lock after half of it.
        create_table: Create the table, with what belongs to it, when it does not exist.
        use_copy: Send rows by ``COPY`` into a temporary table. Without it they are sent as arrays, which is slower
            and works for a role that may not create temporary tables.

    Raises:
        ServomexValidationError: A value is out of range, a name cannot be used, or ``dsn`` is not valid or is
            given together with what it replaces.
        ServomexSinkDependencyError: There is a ``dsn``, and psycopg is not installed.
    """

    dsn: str | None = attrs.field(default=None, repr=False)
    host: str | None = None
    port: int = PORT
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    password_file: str | os.PathLike[str] | None = None
    database: str | None = None
    schema: str = attrs.field(default="public", validator=_identifier(LONGEST_IDENTIFIER))
    table: str = attrs.field(default="samples", validator=_identifier(LONGEST_TABLE))
    statement_timeout_ms: int = 30_000
    command_timeout_s: float = 10.0
    create_table: bool = True
    use_copy: bool = True

    def __attrs_post_init__(self) -> None:
        for name in ("dsn", "host", "user", "password", "database"):
            given = getattr(self, name)
            if given is not None and not isinstance(given, str):  # and it may be a password
                raise ServomexValidationError(f"{name} must be a text, not of type {type(given).__name__}")
        if self.password_file is not None:
            path_text(self.password_file, "password_file")
        flag(self.create_table, "create_table")
        flag(self.use_copy, "use_copy")
        seconds(self.command_timeout_s, "command_timeout_s")
        for name, value, largest in (
            ("port", self.port, 65_535),
            ("statement_timeout_ms", self.statement_timeout_ms, 2**31 - 1),
        ):
            lowest = 1 if name == "port" else 0
            if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= largest:
                raise ServomexValidationError(
                    f"{name} must be a whole number from {lowest} to {largest}, not {value!r}"
                )
        if self.password is not None and self.password_file is not None:
            raise ServomexValidationError("the password comes from password or from password_file, not from both")
        if self.dsn is not None:
            for name in ("host", "user", "database"):
                if getattr(self, name) is not None:
                    raise ServomexValidationError(
                        f"{name} is given together with a dsn", cure="Put it into the dsn"
                    )
            if self.port != PORT:
                raise ServomexValidationError("port is given together with a dsn", cure="Put it into the dsn")
            _parsed(self.dsn)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Return the configuration of a URL: ``postgresql://user@host:5432/database?schema=public&table=samples``.

        Beside the parameters of libpq, such as ``sslmode``, the query may have those attributes of this class that
        are not parts of the ``dsn``: ``schema``, ``table``, ``password_file``, ``statement_timeout_ms``,
        ``command_timeout_s``, ``create_table=0`` and ``use_copy=0``.

        Raises:
            ServomexValidationError: The URL is not valid.
            ServomexSinkDependencyError: psycopg is not installed.
        """
        scheme = _SCHEME.match(url)
        if not scheme:
            raise ServomexValidationError(
                f"{without_password(url)!r} is not the URL of a PostgreSQL server",
                cure="Write postgresql://user@host/database",
            )
        rest = url[scheme.end() :]
        if "@" in re.sub(r"^[^/?@]*@", "", rest):
            # Part of a password would be taken for a host, a port or a database, and shown as such.
            raise ServomexValidationError(
                f"{without_password(url)!r} has an @ in the wrong place",
                cure="Percent-encode user and password: / as %2F, ? as %3F, @ as %40",
            )
        place, _, query = f"postgresql://{rest}".partition("?")
        given: dict[str, Any] = {}
        others: list[str] = []
        for parameter in filter(None, query.split("&")):
            name, _, text = parameter.partition("=")
            if name not in _READERS:
                others.append(parameter)  # libpq checks and decodes it
            elif name in given:
                raise ServomexValidationError(f"{name} is given twice in a postgresql:// URL")
            else:
                given[name] = _READERS[name](name, unquote(text))
        return cls(dsn=place + (f"?{'&'.join(others)}" if others else ""), **given)

    def parameters(self) -> dict[str, str]:
        """Return the parameters of the connection as libpq takes them, the password among them.

        Raises:
            ServomexSinkWriteError: The file of the password cannot be read.
        """
        if self.dsn is not None:
            found = _parsed(self.dsn)
        else:
            named = {"host": self.host, "port": str(self.port), "user": self.user, "dbname": self.database}
            found = {name: value for name, value in named.items() if value is not None}
        if self.password_file is not None:
            found["password"] = urls.first_line(Path(self.password_file))
        elif self.password is not None:
            found["password"] = self.password
        return found

    def target(self) -> str:
        """Return ``host:port/database.schema.table``, which has no password and may be logged."""
        if self.dsn is not None:
            known = _parsed(self.dsn)
        else:
            known = {"host": self.host or "", "port": str(self.port), "dbname": self.database or ""}
            known["user"] = self.user or ""
        if service := known.get("service"):
            where = f"service {service}"
        else:
            host = known.get("host") or known.get("hostaddr") or os.environ.get("PGHOST") or "local"
            port = known.get("port", "").strip(",") or os.environ.get("PGPORT") or "5432"
            user = known.get("user") or os.environ.get("PGUSER")
            where = f"{host}:{port}/{known.get('dbname') or os.environ.get('PGDATABASE') or user or 'default'}"
        return plain(f"{where}.{self.schema}.{self.table}")


def check_psycopg() -> None:
    """Check that psycopg is installed.

    Raises:
        ServomexSinkDependencyError: It is not; the error names the extra to install.
    """
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise ServomexSinkDependencyError(
            f"PostgreSQL needs psycopg: {how_to_get('psycopg', 'postgres')} ({error})"
        ) from error


def _parsed(dsn: str) -> dict[str, str]:
    """Return the parts of a connection string; an error never quotes it.

    Raises:
        ServomexValidationError: It is not valid.
    """
    found = _parts_of(dsn)
    if isinstance(found, str) and "://" not in dsn and "password" in dsn.lower():
        raise ServomexValidationError(
            "the dsn is not a connection string of PostgreSQL",
            cure="Check its quotation marks, or give its parts separately, as host='db1', password='...'",
        )
    if isinstance(found, str):
        shown = without_password(dsn)
        reason = _parts_of(shown)  # libpq's message may quote the password
        if not isinstance(reason, str):
            reason = "its password has characters that must be percent-encoded"
        raise ServomexValidationError(f"{shown!r} is not a connection string of PostgreSQL: {plain(reason)}")
    return found


def _parts_of(dsn: str) -> dict[str, str] | str:
    """Return the parts of a connection string, or what is wrong with it."""
    check_psycopg()
    from psycopg import Error
    from psycopg.conninfo import conninfo_to_dict

    try:
        return {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    except Error as error:
        return str(error)


_READERS: dict[str, Any] = {
    "schema": urls.text,
    "table": urls.text,
    "password_file": urls.text,
    "statement_timeout_ms": urls.integer,
    "command_timeout_s": urls.number,
    "create_table": urls.flag,
    "use_copy": urls.flag,
}
"""The parameters of a URL that are ours, and how each is read."""
