"""What the page on PostgreSQL shows is run from its first block to its last, against a real server."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from servomex.sinks.postgres import PostgresSink
from tests.helpers.pages import WITH_SERVER, Block, Script, blocks_of, needs_bash, replaced, stand_ins, workplace
from tests.helpers.recordings import batch
from tests.servers.postgres_server import PostgresServer, program

(PAGE,) = [page for page in WITH_SERVER if page.stem == "postgresql"]
NOT_RUN = ("$ sudo apt ", "$ docker ")
"""They install a server, which is there."""


@pytest.fixture
def names(postgres: PostgresServer) -> Iterator[dict[str, str]]:
    """What stands in for what the page names."""
    address = f"127.0.0.1:{postgres.port}"
    yield {
        "sudo -u postgres psql": f"psql -h {postgres.folder} -p {postgres.port} -U postgres",
        "db1:5432": address,
        "@db1/": f"@{address}/",
        'host="db1"': f'host="127.0.0.1", port={postgres.port}',
    }
    postgres.execute("DROP DATABASE IF EXISTS plant WITH (FORCE)")
    postgres.execute("DROP DATABASE IF EXISTS byhand WITH (FORCE)")
    postgres.execute("DROP ROLE IF EXISTS logger")


@needs_bash
def test_the_page_runs_from_its_first_block_to_its_last(
    postgres: PostgresServer, names: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = workplace(tmp_path)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("PATH", f"{Path(program('psql')).parent}{os.pathsep}{os.environ['PATH']}")
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    found = [block for block in blocks_of(PAGE) if block.kind != "text"]
    by_hand = [block for block in found if block.text.startswith(("CREATE TABLE", "GRANT"))]
    assert len(by_hand) == 2
    for block in found:
        text = replaced(block.text, names)
        if block.kind == "console" and not text.startswith(NOT_RUN):
            for command in Script(str(block), text).run_in(folder):
                command.check()
        elif block.kind == "python":
            monkeypatch.setenv("PGPASSFILE", str(folder / ".pgpass"))
            _execute(block, text)
        elif block.kind == "sql" and block not in by_hand:
            with psycopg.connect(postgres.url("plant", "logger")) as connection:
                cursor = connection.execute(text.encode())
                assert cursor.description is None or cursor.rowcount > 0 or "gap" in text or "error" in text, text
    _check_table_by_hand(postgres, by_hand)


def _execute(block: Block, text: str) -> None:
    with stand_ins(text) as ports:
        exec(compile("\n" * block.line + replaced(text, ports), str(PAGE), "exec"), {"__name__": "__main__"})


def _check_table_by_hand(postgres: PostgresServer, blocks: list[Block]) -> None:
    postgres.execute("CREATE DATABASE byhand")
    for block in blocks:
        with psycopg.connect(postgres.url("byhand")) as connection:
            connection.execute(block.text.encode())
    url = postgres.url("byhand", "logger", create_table="0")
    with PostgresSink(url, metadata={"port": "COM3"}) as sink:
        sink.write(batch(0))
    assert list(PostgresSink.read(url)) == batch(0)


@pytest.mark.parametrize("gap", [True, False])
def test_the_query_for_gaps_finds_them(gap: bool, url: str) -> None:
    (query,) = [block.text for block in blocks_of(PAGE) if "lead(" in block.text]
    numbers = [0, 1, 2, 20, 21] if gap else [0, 1, 2, 3]
    with PostgresSink(url) as sink:
        for number in numbers:
            sink.write(batch(number, device="stack-1"))
    with psycopg.connect(url) as connection:
        assert connection.execute(query.encode()).rowcount == gap
