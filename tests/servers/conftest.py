"""The servers of the tests."""

import itertools
import sys
from collections.abc import Iterator

import pytest

if sys.platform == "win32":
    collect_ignore_glob = ["test_*.py"]  # a server is started, and its user chosen, as on POSIX systems
else:
    from tests.servers.postgres_server import PostgresServer

    _numbers = itertools.count(1)

    @pytest.fixture(scope="session")
    def postgres() -> Iterator[PostgresServer]:
        """A PostgreSQL server, the same for all tests of a process."""
        server = PostgresServer()
        yield server
        server.remove()

    @pytest.fixture
    def database(postgres: PostgresServer) -> Iterator[str]:
        """The name of a new, empty database."""
        name = f"plant_{next(_numbers)}"
        postgres.execute(f"CREATE DATABASE {name}")
        yield name
        postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")

    @pytest.fixture
    def url(postgres: PostgresServer, database: str) -> str:
        """The URL of a new, empty database."""
        return postgres.url(database)
