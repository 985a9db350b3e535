"""One connection to PostgreSQL: in UTC, and abandoned when the server is silent."""

import math
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.rows import TupleRow

from servomex.runtime.clock import time
from servomex.sinks.postgres_config import PostgresConfig
from servomex.sinks.postgres_errors import SilentServerError

if TYPE_CHECKING:
    from psycopg.abc import PQGen

RV = TypeVar("RV")

_SHORTEST_CONNECT_S = 2
"""The value that libpq uses for a shorter ``connect_timeout``."""
_KEEPALIVE = {"keepalives": "1", "keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}


class Connection(psycopg.Connection[TupleRow]):
    """A connection that is closed when no data moves for a while during a command.

    Neither a limit of the server nor one of TCP ends the wait for a computer whose kernel answers but whose server
    does not, such as one that is stopped or swapping.

    Attributes:
        patience_s: For how long; ``None`` for no limit.
    """

    patience_s: float | None = None

    def wait(self, gen: "PQGen[RV]", *args: Any, **options: Any) -> RV:
        """Carry out a command of psycopg."""
        return super().wait(self._bounded(gen), *args, **options)

    def _bounded(self, gen: "PQGen[RV]") -> "PQGen[RV]":
        moved = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    moved = time.monotonic()
                elif self.patience_s is not None and time.monotonic() - moved >= self.patience_s:
                    self.pgconn.finish()
                    raise SilentServerError(f"nothing received for {self.patience_s:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: RV = end.value
            return result


def connected(config: PostgresConfig, *, reading: bool = False) -> Connection:
    """Connect, with a session in UTC and without prepared statements.

    Args:
        config: Where to.
        reading: Whether it is for reading, when a statement may take any time.

    Raises:
        ServomexSinkWriteError: The file of the password cannot be read.
        psycopg.Error: The server is not there, or refuses the user.
    """
    patience_s = config.command_timeout_s
    defaults = _KEEPALIVE | {
        "connect_timeout": str(max(_SHORTEST_CONNECT_S, math.ceil(patience_s))),
        "tcp_user_timeout": str(max(1, round(patience_s * 1000))),
        "fallback_application_name": "servomex",
    }
    parameters = {**defaults, **config.parameters(), "client_encoding": "UTF8"}
    connection = Connection.connect(autocommit=True, prepare_threshold=None, **parameters)  # type: ignore[arg-type]
    try:
        connection.patience_s = patience_s
        _set_up(connection, config, reading=reading)
        if reading:
            connection.patience_s = None
    except BaseException:
        connection.close()
        raise
    return connection


def _set_up(connection: Connection, config: PostgresConfig, *, reading: bool) -> None:
    settings = {"TimeZone": "UTC", "DateStyle": "ISO, YMD"}
    if not reading:
        settings |= {
            "statement_timeout": str(config.statement_timeout_ms),
            "lock_timeout": str(max(1, round(config.command_timeout_s * 500))),
        }
        if connection.execute("SHOW synchronous_commit").fetchone() == ("off",):
            settings["synchronous_commit"] = "on"  # a row that is committed survives a loss of power
    for name, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
