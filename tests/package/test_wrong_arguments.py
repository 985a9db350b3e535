"""An argument of a wrong type is refused where it is given, by an error that names it."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import servomex
from servomex import (
    Analyzer,
    ErrorContext,
    FakeTransport,
    Recorder,
    SerialLink,
    ServomexConfigurationError,
    ServomexManager,
    ServomexValidationError,
    Unit,
    load,
    open_continuous,
    open_device,
    open_sink,
    record,
    sinks,
    testing,
    to_pandas,
    units,
)

pytestmark = pytest.mark.virtual_time

RTU = "sim://4100?mode=modbus_rtu"
BROADCASTS = "sim://4100?mode=continuous"
WRONG: Any = 5


@pytest.fixture
def analyzer() -> Iterator[Analyzer]:
    with open_device(RTU) as opened:
        yield opened


def refused(call: Callable[[], Any], *words: str, error: type[Exception] = ServomexValidationError) -> None:
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("option", ["shared_line", "auto_reconnect"])
@pytest.mark.parametrize("value", ["no", "", math.inf, [1], [], {}, 1, 0])
def test_a_link_takes_only_true_or_false_for_a_flag(option: str, value: Any) -> None:
    options: dict[str, Any] = {option: value}
    refused(lambda: SerialLink(RTU, **options), f"{option} must be True or False, not {value!r}")
    refused(lambda: open_device(RTU, **options), f"{option} must be True or False, not {value!r}")


def test_flags_are_true_or_false_everywhere(analyzer: Analyzer, tmp_path: Path) -> None:
    no: Any = "no"
    refused(lambda: open_device(RTU, identify=no), "identify", "'no'")
    refused(lambda: open_continuous(BROADCASTS, identify=no), "identify")
    refused(lambda: open_continuous(BROADCASTS, auto_reconnect=no), "auto_reconnect")
    refused(lambda: record(analyzer, rate_hz=1, auto_reconnect=no), "auto_reconnect")
    refused(lambda: analyzer.poll(wait_fresh=no), "wait_fresh")
    refused(lambda: analyzer.start_calibration(1, confirm=True, verify=no), "verify")
    refused(lambda: open_sink(tmp_path / "run.csv", append=no), "append")
    refused(lambda: sinks.JsonlSink(tmp_path / "run.jsonl", overwrite=no), "overwrite")
    refused(lambda: sinks.PostgresConfig(host="h", use_copy=no), "use_copy")
    refused(lambda: sinks.PostgresConfig(host="h", create_table=no), "create_table")
    refused(lambda: testing.ScriptedPort(loopbacks=no), "loopbacks")
    refused(lambda: to_pandas([], wide=no), "wide")
    with ServomexManager() as manager:
        refused(lambda: manager.add("a", RTU, identify=no), "identify")
        refused(lambda: manager.add("a", RTU, auto_reconnect=no), "auto_reconnect")
        refused(lambda: manager.add("a", RTU, wait=no), "wait")
    assert not list(tmp_path.iterdir())


def test_channels_are_a_list(analyzer: Analyzer) -> None:
    refused(lambda: open_device(RTU, channels=WRONG), "channels", "not 5")
    refused(lambda: analyzer.poll_samples(channels=WRONG), "channels", "not 5")
    refused(lambda: analyzer.poll().only(WRONG), "channels", "not 5")


@pytest.mark.parametrize("value", [5, b"run.csv", "run\0.csv"])
def test_the_name_of_a_file_is_a_text_or_a_path(value: Any) -> None:
    refused(lambda: open_device(RTU, trace=value), "trace", repr(value))
    refused(lambda: SerialLink(RTU, trace=value), "trace", repr(value))
    refused(lambda: open_sink(value), "target", repr(value))
    for kind in (sinks.CsvSink, sinks.JsonlSink, sinks.SqliteSink, sinks.ParquetSink):
        refused(lambda kind=kind: kind(value), "path", repr(value))  # type: ignore[misc]
    refused(lambda: load(value), "source", repr(value))
    refused(lambda: servomex.load_metadata(value), "source", repr(value))
    refused(lambda: to_pandas(value), "source", repr(value))
    refused(lambda: testing.load_script(value), "path", repr(value))
    refused(lambda: testing.load_capture(value), "path", repr(value))
    refused(lambda: sinks.PostgresConfig(host="h", password_file=value), "password_file", repr(value))


def test_a_recorder_writes_to_sinks(analyzer: Analyzer) -> None:
    refused(lambda: Recorder(analyzer, WRONG, rate_hz=1), "sink", "not 5")


@pytest.mark.parametrize("samples", [5, ["x"], "x"])
def test_a_sink_in_memory_takes_samples_only(samples: Any) -> None:
    with sinks.InMemorySink() as sink:
        refused(lambda: sink.write(samples), "samples", type(samples[0] if samples != 5 else 5).__name__)
        assert not sink.samples


def test_ports_in_memory_take_bytes() -> None:
    for script in (5, "x", b"x", ["x"]):
        refused(lambda script=script: FakeTransport(script), "script", repr(script))  # type: ignore[misc]
    refused(lambda: FakeTransport(label=WRONG), "label", "not 5")
    refused(lambda: testing.ScriptedPort(WRONG), "dialogue", "5")
    refused(lambda: testing.ScriptedPort([(b"a", "b")]), "dialogue", "'b'")  # type: ignore[list-item]
    with FakeTransport() as port:
        text: Any = "x"
        refused(lambda: port.feed(text), "bytes", "'x'")
        refused(lambda: port.emit(WRONG), "bytes", "not 5")
        refused(lambda: port.emit(text), "bytes", "'x'")
        refused(lambda: port.schedule([b"a", text], interval=0), "bytes", "'x'")
        assert port.in_waiting == 0


def test_a_file_for_tests_that_is_missing_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    for read in (testing.load_capture, testing.load_script):
        refused(lambda read=read: read(missing), str(missing), error=ServomexConfigurationError)  # type: ignore[misc]


@pytest.mark.parametrize("name", ["dsn", "host", "user", "database", "password"])
def test_a_server_is_named_by_texts_and_no_secret_is_shown(name: str) -> None:
    options: dict[str, Any] = {name: b"secret"}
    with pytest.raises(ServomexValidationError, match=f"{name} must be a text, not of type bytes") as caught:
        sinks.PostgresConfig(**options)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", [None, "12", True, 10**400])
def test_only_a_number_can_be_converted(value: Any) -> None:
    refused(lambda: units.percent_to_vpm(value), "the value")
    refused(lambda: units.vpm_to_percent(value), "the value")


def test_a_number_that_becomes_too_large_is_refused() -> None:
    refused(lambda: units.percent_to_vpm(1e305), "too large")
    assert units.percent_to_vpm(math.inf) == math.inf


def test_a_unit_is_meant_by_a_text() -> None:
    refused(lambda: Unit.coerce(None), "unit", "None")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["12", 10**400])
def test_a_reading_whose_value_is_no_number_is_not_written(analyzer: Analyzer, value: Any) -> None:
    reading = attrs.evolve(analyzer.poll()["I1"], value=value)
    refused(reading.as_json, "value")


def test_facts_of_an_error_have_names() -> None:
    refused(lambda: ErrorContext().merged(extra=5), "extra", "not 5")
    refused(lambda: ErrorContext(extra=WRONG), "extra", "not 5")


class OwnPort:
    """A transport of one's own with a mistake."""

    port = "own://"
    timeout: float | None = 0.05
    in_waiting = 0

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def read(self, size: int = 1, /) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def write(self, data: bytes, /) -> int:
        return len(data)

    def reset_input_buffer(self) -> None:
        """Nothing is there to drop."""


@pytest.mark.parametrize("answer", [None, "text", 5])
@pytest.mark.parametrize("protocol", ["modbus_rtu", "continuous"])
def test_a_port_of_ones_own_that_reads_no_bytes_is_named(answer: Any, protocol: str) -> None:
    port = OwnPort(answer)
    refused(lambda: open_device(port, protocol=protocol), "OwnPort", repr(answer), "servomex.Transport")


def test_a_mistake_in_a_port_of_ones_own_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        open_device(OwnPort(ZeroDivisionError()), protocol="modbus_rtu")
