"""The tables of a PostgreSQL server."""

from typing import Any

import psycopg

from servomex.models.sample import Sample
from servomex.sinks.postgres import PostgresSink


def read(url: str) -> list[Sample]:
    return list(PostgresSink.read(url))


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []
