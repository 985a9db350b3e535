"""What real databases that take lines of InfluxDB hold of a recording."""

import itertools
import json
import logging
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest

import servomex
from servomex.errors import ServomexSinkSchemaError, ServomexSinkWriteError
from servomex.models.sample import Sample
from servomex.sinks import InfluxConfig, InfluxSink, check_targets, open_sink
from tests.helpers.recordings import batch, batches, joined, write
from tests.servers.influx_server import PASSWORD, InfluxServer, victoria_metrics

QUOTED = "correct%20horse%2Fbattery%3Fstaple%40100%25"
QUERY = "SELECT value, quality, quality_code, fault FROM servomex WHERE channel='I1'"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[InfluxServer]:
    """A server of InfluxDB 1, the same for all tests of this file."""
    found = InfluxServer()
    try:
        found.start()
        yield found
    finally:
        found.remove()


@pytest.fixture
def database(server: InfluxServer) -> str:
    """The name of a new, empty database."""
    name = f"plant_{next(_numbers)}"
    server.query(f"CREATE DATABASE {name}")
    return name


def micros(sample: Sample) -> int:
    """Give the time of a sample in microseconds."""
    return (sample.received_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.mark.parametrize("packed", [True, False])
def test_what_is_written_is_there_once(server: InfluxServer, database: str, packed: bool) -> None:
    parts = batches(8)
    with open_sink(f"{server.url(database)}&gzip={int(packed)}", flush_s=1000) as sink:
        for part in parts * 2:
            sink.write(part)
        assert (sink.rows, sink.unstored) == (72, 72)
        sink.flush()
        assert (sink.rows, sink.unstored, sink.refused) == (72, 0, 0)
    (oxygen,) = server.query(
        "SELECT value, quality, quality_code, fault FROM servomex WHERE channel='I1'", database
    )
    rows = [part[0] for part in parts if part[0].reading]
    assert [(line[1], line[2], line[3], line[4]) for line in oxygen["values"]] == [
        (row.reading and row.reading.value, "good", 2, False) for row in rows
    ]
    assert [line[0] // 1000 for line in oxygen["values"]] == [*map(micros, rows)]
    (errors,) = server.query("SELECT error, error_type, failed FROM servomex WHERE failed=1", database)
    assert [line[1:] for line in errors["values"]] == [["no reply to 6", "ServomexTimeoutError", 1]]
    (tagged,) = server.query("SELECT count(value) FROM servomex WHERE site='mill-3' AND channel='I1'", database)
    assert tagged["values"][0][1] == 3


def test_a_recording_and_a_conversion_go_there(server: InfluxServer, database: str, tmp_path: Path) -> None:
    url = server.url(database)
    with (
        servomex.open_device("sim://4100", protocol="modbus_rtu", channels=["I1"], name="stack 1") as analyzer,
        servomex.Recorder(analyzer, [url, tmp_path / "run.csv"], rate_hz=20, count=5) as recorder,
    ):
        recorder.join()
    (found,) = server.query("SELECT count(value) FROM servomex WHERE device='stack 1'", database)
    assert found["values"][0][1] == 5


def test_a_poison_row_does_not_stop_the_rest(
    server: InfluxServer, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    sink = InfluxSink(server.url(database), flush_s=1000)
    reading = batch(1)[0].reading
    assert reading is not None
    endless = "€" * 19_999  # two of these are longer than a key may be
    poison = attrs.evolve(batch(1)[0], device=endless, reading=attrs.evolve(reading, name=endless))
    sink.write([*batch(0), poison, *batch(2)])
    sink.flush()
    assert (sink.rows, sink.refused, sink.unstored) == (11, 1, 0)
    assert "did not accept 1 row" in caplog.text
    (found,) = server.query("SELECT count(value) FROM servomex WHERE channel='I1'", database)
    assert found["values"][0][1] == 2
    with pytest.raises(ServomexSinkSchemaError, match=r"did not accept 1 row; the others are in it"):
        sink.close()


def test_a_field_of_another_type_refuses_only_the_rows_that_have_it(server: InfluxServer, database: str) -> None:
    write_line(server, database, f"servomex error=1 {micros(batch(0)[0]) * 1000}")
    sink = InfluxSink(server.url(database), flush_s=1000)
    for part in batches(8):
        sink.write(part)
    with pytest.raises(ServomexSinkSchemaError, match=r"did not accept 1 row"):
        sink.close()
    (found,) = server.query("SELECT count(value) FROM servomex WHERE channel='I1'", database)
    assert found["values"][0][1] == 7


def write_line(server: InfluxServer, database: str, line: str) -> None:
    """Write a line of another program."""
    url = f"http://127.0.0.1:{server.port}/write?db={database}"
    with urllib.request.urlopen(urllib.request.Request(url, line.encode()), timeout=10):
        pass


def test_a_database_that_is_not_there_says_what_to_do(server: InfluxServer) -> None:
    wanted = r"no such database or path .HTTP 404: database not found: .nope.*\. Create it"
    with pytest.raises(ServomexSinkWriteError, match=wanted):
        InfluxSink(server.url("nope"))
    with pytest.raises(ServomexSinkWriteError, match=wanted):
        check_targets([server.url("nope")])


def test_a_database_that_is_dropped_may_come_back(server: InfluxServer, database: str) -> None:
    with InfluxSink(server.url(database), flush_s=0) as sink:
        sink.write(batch(0))
        server.query(f"DROP DATABASE {database}")
        with pytest.raises(ServomexSinkWriteError, match=r"HTTP 404"):
            sink.write(batch(1))
        assert (sink.rows, sink.pending, sink.refused) == (5, 0, 0)
        server.query(f"CREATE DATABASE {database}")
        sink.write(batch(1))
        assert sink.rows == 10


def test_a_server_that_is_restarted_loses_nothing() -> None:
    server = InfluxServer()
    try:
        server.start()
        with InfluxSink(server.url(), flush_s=0) as sink:
            sink.write(batch(0))
            server.stop()
            with pytest.raises(ServomexSinkWriteError, match=r"the server cannot be reached"):
                sink.write(batch(1))
            server.start()
            for number in (1, 2):
                sink.write(batch(number))
        (found,) = server.query("SELECT count(value) FROM servomex WHERE channel='I1'")
        assert found["values"][0][1] == 3
    finally:
        server.remove()


def test_passwords(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server = InfluxServer(auth=True)
    try:
        server.start()
        (tmp_path / "pw").write_text(f"{PASSWORD}\n")
        place = f"127.0.0.1:{server.port}/write?db=plant"
        for url in (
            f"influx+http://admin:{QUOTED}@{place}",
            f"influx+http://admin@{place}&password_file={tmp_path}/pw",
        ):
            with InfluxSink(url, flush_s=0) as sink:
                sink.write(batch(0))
                assert "horse" not in f"{sink!r} {sink.config!r} {sink.name}"
        for user in ("admin:wrong-horse@", ""):
            with pytest.raises(
                ServomexSinkWriteError, match=r"does not know this user or token .HTTP 401"
            ) as caught:
                InfluxSink(f"influx+http://{user}{place}")
            assert "horse" not in f"{caught.value!s} {caught.value!r} {caught.value.as_json()}"
        assert "horse" not in caplog.text
    finally:
        server.remove()


def test_victoria_metrics_takes_values_and_qualities_as_numbers() -> None:
    with victoria_metrics() as port:
        moment = datetime.now(UTC)
        rows = [
            attrs.evolve(
                item, received_at=moment, reading=item.reading and attrs.evolve(item.reading, received_at=moment)
            )
            for item in batch(0) + batch(6)
        ]
        config = InfluxConfig("127.0.0.1", port)
        with InfluxSink(config) as sink:
            sink.write(rows)
        assert sink.refused == 0
        url = f"http://127.0.0.1:{port}/api/v1/export?match[]={{__name__=~%22servomex_.*%22}}"
        found: dict[tuple[str, str | None], list[float]] = {}
        deadline = time.monotonic() + 20
        wanted = {("servomex_value", "I1"), ("servomex_quality_code", "I1"), ("servomex_failed", None)}
        while not wanted <= {*found}:
            assert time.monotonic() < deadline, found
            urllib.request.urlopen(f"http://127.0.0.1:{port}/internal/force_flush", timeout=10).close()
            with urllib.request.urlopen(url, timeout=10) as response:
                for item in map(json.loads, response):
                    found[item["metric"]["__name__"], item["metric"].get("channel")] = item["values"]
        assert found["servomex_value", "I1"] == [20.0]
        assert found["servomex_quality_code", "I1"] == [2]
        assert found["servomex_failed", None] == [1]


def test_a_recording_is_converted(server: InfluxServer, database: str, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from servomex.cli.convert import convert

    write(tmp_path / "run.csv", batches(8))
    result = CliRunner().invoke(convert, [str(tmp_path / "run.csv"), server.url(database)])
    assert (result.exit_code, result.stderr.split()[:3]) == (0, [str(len(joined(batches(8)))), "rows", "written"])
    (found,) = server.query("SELECT count(value) FROM servomex WHERE channel='I1'", database)
    assert found["values"][0][1] == 7
