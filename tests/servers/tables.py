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


def write(url: str, parts: list[list[Sample]], **options: Any) -> PostgresSink:
    with PostgresSink(url, **options) as sink:
        for part in parts:
            sink.write(part)
    return sink
