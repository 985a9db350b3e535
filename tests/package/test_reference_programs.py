"""The programs of servomexlib's documentation, with ``async`` and ``await`` taken away, and plain imports."""

from pathlib import Path

import pytest

import servomex
from servomex import (
    ChannelId,
    ErrorContext,
    ErrorPolicy,
    FakeTransport,
    OverflowPolicy,
    ProtocolKind,
    ServomexConfirmationRequiredError,
    ServomexConnectionError,
    ServomexError,
    ServomexManager,
    ServomexProtocolUnsupportedError,
    ServomexValidationError,
    StreamMode,
    open_continuous,
    open_device,
    pipe,
    record,
)
from servomex.sinks import CsvSink, InMemorySink, JsonlSink, ParquetSink, Sink, SqliteSink
from servomex.testing import load_capture
from tests.helpers.managing import line_of
from tests.helpers.modbus_bytes import crc
from tests.helpers.paths import CAPTURE

RTU = "sim://4100?mode=modbus_rtu"


def test_an_analyser_in_continuous_mode_is_identified_polled_and_streamed() -> None:
    with open_device("sim://4100?mode=continuous&period=1", protocol=ProtocolKind.CONTINUOUS_ASCII) as anz:
        info = anz.identify()
        assert info.model == "SERVOPRO 4000 series"
        assert [c.channel for c in info.channels][-2:] == [ChannelId.E1, ChannelId.E2]

        frame = anz.poll()
        told = [(reading.channel, reading.value, reading.unit) for reading in frame.readings]
        assert told[0][0] is ChannelId.I1

        with anz.stream() as samples:
            assert samples.mode is StreamMode.AUTOPRINT
            for number, sample in enumerate(samples, 1):
                assert (sample.reading.value if sample.reading else None) == sample.reading.value  # type: ignore[union-attr]
                if number == len(info.channels):
                    break


def test_one_channel_all_channels_their_states_and_the_frame_at_hand_are_read() -> None:
    with open_device(RTU) as anz:
        reading = anz.read_channel("I1")
        assert f"{reading:.4f}" == f"{reading.value:.4f}"
        assert anz.read_all()[ChannelId.I1].name == "Oxygen"
        assert anz.status("I1").ok
        assert not anz.analyser_status().fault
        frame = anz.poll(wait_fresh=True, timeout=5)
        assert anz.snapshot() == frame
        assert frame.channel(ChannelId.I1) == frame.readings[0]
        with pytest.raises(ServomexValidationError):
            frame.channel(ChannelId.I4)


def test_a_modbus_stream_has_a_rate_of_its_own_and_refuses_the_other_mode() -> None:
    with open_device(RTU, address=1) as anz:
        with anz.stream(mode=StreamMode.POLL) as samples:
            assert next(samples).reading is not None
        with anz.stream(rate_hz=20) as samples:
            assert samples.mode is StreamMode.POLL
            assert next(samples).reading is not None
        with pytest.raises(ServomexValidationError):
            anz.stream(mode=StreamMode.AUTOPRINT)


def test_a_calibration_is_gated_started_watched_and_stopped() -> None:
    with open_device(RTU) as anz:
        with pytest.raises(ServomexConfirmationRequiredError):
            anz.start_calibration(group=1)
        anz.start_calibration(group=1, confirm=True)
        assert anz.calibration_status(1).active
        anz.stop_calibration(confirm=True)
        assert not anz.calibration_status(1).active
    with (
        open_device("sim://4100?mode=continuous&period=1") as anz,
        pytest.raises(ServomexProtocolUnsupportedError),
    ):
        anz.start_calibration(1, confirm=True)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(CsvSink, "run.csv"), (JsonlSink, "run.jsonl"), (SqliteSink, "run.sqlite"), (ParquetSink, "run.parquet")],
)
def test_a_recording_is_piped_to_each_sink(kind: type[Sink], name: str, tmp_path: Path) -> None:
    with (
        open_device(RTU) as anz,
        kind(tmp_path / name) as sink,
        record(anz, rate_hz=20, duration=0.5, overflow=OverflowPolicy.BLOCK, buffer_size=64) as recording,
    ):
        summary = pipe(recording.stream, sink)
        assert recording.rate_hz == 20
    assert summary.samples_emitted == recording.summary.samples_emitted
    assert summary.samples_emitted + recording.summary.samples_late == 10
    assert len(list(servomex.load(tmp_path / name))) == 5 * summary.samples_emitted


def test_a_recording_is_piped_to_memory_and_its_batches_can_be_taken_one_by_one() -> None:
    with open_device(RTU) as anz:
        with InMemorySink() as sink, record(anz, rate_hz=20, duration=0.2) as recording:
            pipe(recording.stream, sink)
        assert {sample.channel for sample in sink.samples} >= {ChannelId.I1, ChannelId.E2}
        with record(anz, rate_hz=20, duration=0.2) as recording:
            channels = [sample.channel for batch in recording.stream for sample in batch]
        assert channels[0] is ChannelId.I1


def test_a_manager_reads_two_addresses_of_one_line() -> None:
    line = line_of(1, 2)
    with ServomexManager(error_policy=ErrorPolicy.RETURN) as mgr:
        mgr.add("a1", line.url, address=1)
        mgr.add("a2", line.url, address=2)
        assert mgr.names == ("a1", "a2")
        samples = mgr.poll_samples()
        assert {sample.device for sample in samples} == {"a1", "a2"}
        results = mgr.poll(["a2"])
        assert results["a2"].ok
        assert results["a2"].value is not None
        each = mgr.execute_each(lambda analyzer: analyzer.identify(), names=["a1"])
        assert each["a1"].value is not None
        assert mgr.get("a1").info == each["a1"].value
        mgr.remove("a2")
        with record(mgr, rate_hz=10, duration=0.3, names=["a1"]) as recording:
            assert {sample.device for batch in recording.stream for sample in batch} == {"a1"}
    assert mgr.closed


def test_a_fake_transport_broadcasts_a_capture() -> None:
    fake = FakeTransport()
    with open_continuous(fake, name="bench", identify=False) as anz:
        for frame in load_capture(CAPTURE):
            fake.feed(frame)
        assert anz.poll().channel(ChannelId.I1).name == "Oxygen"
        assert {sample.device for sample in anz.poll_samples()} == {"bench"}
    assert fake.writes == ()


def test_a_fake_transport_answers_from_a_script() -> None:
    """The registers of I1 alone, as the manual's tables have them, and a loopback that returns what it is sent."""
    registers = bytes.fromhex("41a30312 4f7879 67656e 25000000")  # 20.3765, "Oxygen", "%"
    requests: list[bytes] = []

    def answer(request: bytes) -> bytes:
        requests.append(request)
        address, function = request[:2]
        first, count = int.from_bytes(request[2:4], "big"), int.from_bytes(request[4:6], "big")
        if function == 8:
            return request
        if function == 4:
            words = (registers + bytes(140))[2 * first : 2 * (first + count)]
            body = bytes([address, 4, len(words)]) + words
            return body + crc(body)
        bits = bytes((count + 7) // 8)
        body = bytes([address, 2, len(bits)]) + bits
        return body + crc(body)

    with open_device(FakeTransport(answer), protocol="modbus_rtu") as anz:
        reading = anz.poll().channel("I1")
        assert (reading.name, reading.unit, reading.ok) == ("Oxygen", servomex.Unit.PERCENT, True)
    assert {request[1] for request in requests} <= {2, 4, 8}


def test_an_error_reports_where_it_happened_and_can_be_reported_more() -> None:
    with pytest.raises(ServomexConnectionError) as caught:
        open_device("/dev/no-such-port")
    error = caught.value
    assert error.context.port == "/dev/no-such-port"
    richer = error.with_context(address=3, rack="B2")
    assert (richer.context.address, richer.context.extra["rack"]) == (3, "B2")
    assert "rack" not in error.context.extra
    assert type(richer) is type(error)
    assert ErrorContext(port="COM11").merged(port="COM12", rack="B2").port == "COM12"
    with pytest.raises(ServomexConnectionError):
        raise richer
    assert ServomexError().context == ErrorContext()
