"""A program that uses every public name as its type says. Type checkers read it strictly, and a test runs it."""

# pyright: strict

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, assert_type

import serial

import servomex
from servomex import (
    ROW_COLUMNS,
    AcquisitionSummary,
    AnalyserStatus,
    Analyzer,
    Argument,
    Availability,
    CalGroupState,
    CalibrationPhase,
    CalibrationProgress,
    CalibrationReport,
    CalPhase,
    Capability,
    ChannelId,
    ChannelInfo,
    ChannelKind,
    ChannelStatus,
    Closed,
    ContinuousReader,
    DeviceInfo,
    DeviceResult,
    DiscoveryResult,
    ErrorContext,
    ErrorPolicy,
    FakeTransport,
    Frame,
    ModbusClient,
    OverflowPolicy,
    PollSource,
    PortInfo,
    ProtocolKind,
    Quality,
    Reading,
    Recorder,
    Recording,
    SafetyTier,
    Sample,
    SerialLink,
    SerialSettings,
    ServomexConnectionError,
    ServomexError,
    ServomexManager,
    ServomexTimeoutError,
    StreamingSession,
    StreamMode,
    Subscription,
    Transport,
    Unit,
    UnitKind,
    __version__,
    discover_port,
    find_devices,
    load,
    load_metadata,
    open_continuous,
    open_device,
    open_sink,
    pipe,
    plot,
    present_ports,
    record,
    telegram,
    to_pandas,
)
from servomex.modbus.safety import TIERS
from servomex.sinks import SinkOptions
from servomex.testing import ScriptedPort, load_capture, load_script

SETTINGS = SerialSettings(
    port=None, baudrate=19200, bytesize=8, parity="N", stopbits=1, rtscts=False, xonxoff=False, exclusive=True
)
CHANNELS: Sequence[ChannelId | str] = [ChannelId.I1, "I2"]


def reading_of(reading: Reading) -> str:
    """Use a reading: a value that is not valid is ``None``, which a type checker sees."""
    assert_type(reading.value, float | None)
    assert_type(reading.unit, Unit)
    assert_type(reading.quality, Quality)
    status: ChannelStatus = reading.status
    alarm_1, *_ = status.alarms
    assert_type(alarm_1, bool)
    value = reading.to(Unit.VPM) if reading.unit.kind is UnitKind.CONCENTRATION else reading.value
    good = reading.quality is Quality.GOOD and reading.ok and status.ok and not status.fault
    row: dict[str, Any] = reading.as_dict()
    return f"{reading.channel} {reading.name}: {value} {reading.unit_text} {good} {len(row)} {reading.age_s:.1f}"


def frame_of(frame: Frame) -> list[Sample]:
    """Use a frame."""
    for reading in frame:
        reading_of(reading)
    assert_type(frame["I1"], Reading)
    assert_type(frame.channel(ChannelId.I1), Reading)
    assert_type(frame.get("I4"), Reading | None)
    analyser: AnalyserStatus = frame.analyser
    groups: tuple[CalGroupState, ...] = analyser.cal_groups
    phases: list[CalPhase] = [group.phase for group in groups if group.phase is not CalPhase.IDLE]
    times: list[datetime | None] = [frame.received_at, frame.requested_at, analyser.clock]
    latency_s: float | None = frame.latency_s
    assert frame.ok or phases or latency_s or times
    return frame.only(CHANNELS).as_samples(device="a1", metadata={"site": "mill-3"})


def opened(port: str | Path | SerialSettings | Transport | SerialLink, trace: Path) -> Analyzer:
    """Open an analyser with all that can be said."""
    if isinstance(port, SerialLink):
        return open_device(port, protocol="modbus_rtu", address=1, timeout=None, retries=2, listen=1)
    return open_device(
        port,
        protocol=ProtocolKind.MODBUS_RTU,
        address=1,
        serial_settings=None if isinstance(port, SerialSettings) else SETTINGS,
        timeout=5.0,
        identify=True,
        channels=CHANNELS,
        retries=1,
        gap=0.0,
        listen=2.0,
        auto_reconnect=True,
        trace=trace,
        shared_line=False,
        name="a1",
        tags={"site": "mill-3"},
    )


def single_settings(port: str) -> SerialSettings:
    """Open analysers with serial settings as arguments."""
    with open_continuous(
        FakeTransport(),
        baudrate=19200,
        bytesize=8,
        parity="N",
        stopbits=1,
        rtscts=False,
        xonxoff=False,
        exclusive=True,
        identify=False,
    ) as analyzer:
        assert analyzer.protocol is ProtocolKind.CONTINUOUS_ASCII
    with open_device(
        port, baudrate=19200, bytesize=8, parity="N", stopbits=1, rtscts=False, xonxoff=False, exclusive=True
    ) as analyzer:
        return analyzer.identify().serial_settings


def read_modbus(port: str, folder: Path) -> None:
    """Use what every analyser offers, and what Modbus adds."""
    trace = folder / "trace.txt"
    with opened(port, trace) as analyzer:
        frame_of(analyzer.poll())
        frame_of(analyzer.poll(wait_fresh=True, timeout=2, max_age=10.0))
        frame_of(analyzer.snapshot())
        everything: dict[ChannelId, Reading] = analyzer.read_all(timeout=2.0)
        one: Reading = analyzer.read_channel(ChannelId.I1, timeout=2.0)
        assert everything[ChannelId.I1].name == one.name
        status: ChannelStatus = analyzer.status("I1", timeout=2.0)
        analyser: AnalyserStatus = analyzer.analyser_status(timeout=2.0)
        assert not status.fault
        assert not analyser.fault
        info: DeviceInfo = analyzer.identify(timeout=2.0)
        channel: ChannelInfo = info.channels[0]
        assert channel.kind is ChannelKind.TRANSDUCER
        assert_type(info.address, int | None)
        assert_type(analyzer.info, DeviceInfo | None)
        assert analyzer.loopback(b"ab", timeout=2.0) == b"ab"
        wanted = Capability.READ_CHANNELS | Capability.LOOPBACK
        assert wanted in analyzer.capabilities
        assert analyzer.availability(wanted) is Availability.AVAILABLE
        assert_type(analyzer.client, ModbusClient | None)
        samples: list[Sample] = analyzer.poll_samples(names=["a1"], timeout=2.0, channels=CHANNELS)
        tags: Mapping[str, str] = samples[0].metadata
        assert tags == analyzer.tags
    answers: dict[bytes, bytes] = load_script(trace)
    with FakeTransport(answers, label="fake://a1") as fake, opened(fake, folder / "again.txt") as analyzer:
        assert isinstance(analyzer.poll(), Frame)
        assert_type(fake.writes, tuple[bytes, ...])


def of_pyserial(port: serial.Serial) -> Transport:
    """Pass a port of pyserial where a transport is asked for."""
    return port


def read_links(port: str) -> None:
    """Use the parts of an analyser."""
    with SerialLink(port, SETTINGS, gap=0.0, auto_reconnect=True, trace=None, shared_line=None) as link:
        client = ModbusClient(link, 1, ProtocolKind.MODBUS_RTU, retries=2, channels=None)
        frame: Frame = client.read_frame(time.monotonic() + 5)
        assert frame.channels
        with opened(link, Path()) as analyzer:
            assert analyzer.link is link


def read_broadcasts(capture: Path) -> None:
    """Use continuous mode, with broadcasts that were captured."""
    frames: list[bytes] = load_capture(capture)
    parsed: Frame = telegram.parse_frame(frames[0])
    frame_of(parsed)
    with FakeTransport() as fake:
        fake.schedule(frames, interval=0.2)
        with open_continuous(
            fake,
            serial_settings=SETTINGS,
            timeout=2.0,
            identify=True,
            channels=None,
            listen=5.0,
            auto_reconnect=False,
            trace=None,
            name=None,
            tags=None,
        ) as analyzer:
            assert_type(analyzer.reader, ContinuousReader | None)
            assert_type(analyzer.period_s, float | None)
    scripted = ScriptedPort([], loopbacks=True)
    transports: list[Transport] = [scripted, FakeTransport(lambda request: request)]
    assert all(isinstance(item, Transport) for item in transports)


def several(port: str) -> None:
    """Use a manager."""
    with ServomexManager(error_policy=ErrorPolicy.RETURN) as manager:
        manager.add("a1", SerialSettings(port=port), protocol="modbus_rtu", address=1, gap=0.0)
        polled: dict[str, DeviceResult[Frame]] = manager.poll(["a1"], timeout=5)
        for name, result in polled.items():
            assert_type(result.value, Frame | None)
            assert result.ok
            assert result.name == name
        names: dict[str, DeviceResult[str]] = manager.execute_each(lambda analyzer: analyzer.name)
        assert names["a1"] == DeviceResult("a1", None, "a1")
        source: PollSource = manager
        assert len(source.poll_samples(names=None, timeout=None))
        assert_type(manager.get("a1"), Analyzer)
        manager.remove("a1")
    assert DeviceResult.success(3).value == 3
    assert not DeviceResult.failure(ServomexTimeoutError("late")).ok


def streams(port: str) -> None:
    """Use streams, subscriptions and recordings."""
    given: list[Frame | ServomexError] = []
    with open_device(port, protocol="modbus_rtu", gap=0.0) as analyzer:
        with analyzer.stream(
            mode=StreamMode.POLL, rate_hz=20.0, buffer_size=10, overflow=OverflowPolicy.DROP_OLDEST
        ) as session:
            assert_type(session, StreamingSession)
            assert_type(session.get(timeout=5.0), Sample)
            assert_type(next(iter(session)), Sample)
        with analyzer.subscribe(given.append, rate_hz=20.0, buffer_size=10) as subscription:
            assert_type(subscription, Subscription)
            while not given:
                time.sleep(0.01)
        with record(
            analyzer,
            rate_hz=20.0,
            duration=60.0,
            count=2,
            overflow=OverflowPolicy.BLOCK,
            buffer_size=10,
            auto_reconnect=True,
            names=None,
            timeout=5.0,
            tags={"run": "7"},
        ) as recording:
            assert_type(recording, Recording)
            with contextlib.suppress(Closed):
                while True:
                    batch: Sequence[Sample] = recording.get(timeout=5.0)
                    assert batch[0].error is None


def files(port: str, folder: Path) -> None:
    """Use what writes and reads files."""
    path, other = folder / "run.csv", folder / "other.jsonl"
    with open_device(port, protocol="modbus_rtu", gap=0.0) as analyzer:
        with Recorder(analyzer, [path], rate_hz=20.0, count=3) as recorder:
            recorder.join(timeout=30.0)
        summary: AcquisitionSummary = recorder.summary
        assert (summary.samples_emitted, summary.errors, summary.samples_late) == (3, 0, 0)
        with record(analyzer, rate_hz=20.0, count=1) as recording:
            assert_type(pipe(recording, other), AcquisitionSummary)
        options: SinkOptions = {"append": True, "flush_s": 0.5}
        with Recorder(analyzer, path, rate_hz=20.0, count=1, timeout=5.0, sink_options=options) as recorder:
            recorder.join(timeout=30.0)
        batches: list[Sequence[Sample]] = [analyzer.poll_samples(channels=["I1"]) for _ in range(2)]
        assert pipe(batches, other, sink_options=options).samples_emitted == 2
        with analyzer.stream(rate_hz=20.0) as session:
            assert_type(next(session), Sample)
            assert_type(session.mode, StreamMode)
    samples: Iterator[Sample] = load(path)
    first = next(samples)
    row: dict[str, Any] = first.as_dict()
    assert list(row) == ROW_COLUMNS
    with open_sink(folder / "copy.csv", append=False, overwrite=True, decimal=",") as sink:
        sink.write([first, *samples])
    with open_sink(folder / "copy.sqlite", flush_s=1.0, fsync_s=None, metadata={"a": "b"}) as sink:
        sink.write([first])
    assert assert_type(load_metadata(folder / "copy.sqlite"), dict[str, str]) == {"a": "b"}
    assert len(to_pandas(folder / "copy.csv", wide=False)) == 20
    plot(folder / "copy.csv", folder / "copy.html", channels=[ChannelId.I1], last="1h")


def ports(port: str) -> None:
    """Use what finds ports and analysers."""
    known: list[PortInfo] = present_ports()
    assert all(info.device for info in known)
    steps: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        steps.append((done, total))

    found: list[DiscoveryResult] = discover_port(
        port, addresses=[1], baudrates=[19200], protocols=["modbus_rtu"], listen=0.1, on_progress=progress
    )
    assert steps
    for result in [*found, *find_devices([port], protocols=[ProtocolKind.MODBUS_RTU])]:
        assert_type(result.info, DeviceInfo | None)
        assert result.ok


def calibrated(port: str) -> None:
    """Use the autocalibration of a virtual analyser."""
    assert TIERS["calibrate"] is SafetyTier.STATEFUL
    seen: list[CalibrationProgress] = []
    with open_device(port, protocol="modbus_rtu", gap=0.0) as analyzer:
        started: CalibrationProgress = analyzer.start_calibration(1, confirm=True, verify=True, timeout=5.0)
        assert started.active
        coils_left: tuple[int, ...] = analyzer.stop_calibration(confirm=True, timeout=5.0)
        assert coils_left == ()
        report: CalibrationReport = analyzer.calibrate(
            1, confirm=True, timeout=60.0, settle=0.0, on_progress=seen.append
        )
    phases: tuple[CalibrationPhase, ...] = report.phases
    assert phases[0].duration_s >= 0
    assert seen
    assert report.ended_at - report.started_at >= timedelta(0)
    assert report.started_at < datetime.now(UTC)


ERRORS: tuple[type[ServomexError], ...] = (
    servomex.ServomexCalibrationError,
    servomex.ServomexCapabilityError,
    servomex.ServomexChannelError,
    servomex.ServomexChannelNotFoundError,
    servomex.ServomexChecksumError,
    servomex.ServomexConfigurationError,
    servomex.ServomexConfirmationRequiredError,
    servomex.ServomexConnectionError,
    servomex.ServomexForeignDeviceError,
    servomex.ServomexFrameError,
    servomex.ServomexGatewayError,
    servomex.ServomexIllegalDataAddressError,
    servomex.ServomexIllegalDataValueError,
    servomex.ServomexIllegalFunctionError,
    servomex.ServomexModbusError,
    servomex.ServomexNoFrameError,
    servomex.ServomexNotFoundError,
    servomex.ServomexParseError,
    servomex.ServomexProtocolError,
    servomex.ServomexProtocolUnsupportedError,
    servomex.ServomexGapError,
    servomex.ServomexSinkDependencyError,
    servomex.ServomexSinkError,
    servomex.ServomexSinkReadError,
    servomex.ServomexSinkSchemaError,
    servomex.ServomexSinkSyncError,
    servomex.ServomexSinkWriteError,
    servomex.ServomexStaleError,
    servomex.ServomexTransportError,
    servomex.ServomexValidationError,
)


def errors(port: str) -> list[str]:
    """Use what errors carry."""
    try:
        open_device(port, protocol="modbus_rtu", address=9, timeout=0.2)
    except ServomexTimeoutError as error:
        context: ErrorContext = error.context
        argument: Argument | None = error.argument
        assert context.address == 9
        assert argument is None or argument.name
        named = error.with_context(device="a9", channel=ChannelId.I1)
        assert assert_type(named, ServomexTimeoutError).context.extra["device"] == "a9"
        return [error.message, error.cure, str(context.merged(channel=str(ChannelId.I1)))]
    raise ServomexConnectionError("another analyser answered", ErrorContext(port=port), cure="Change its address")


def main(port: str, capture: Path, folder: Path) -> None:
    """Do all of it."""
    assert __version__
    assert len(ERRORS) == len(set(ERRORS))
    assert single_settings(port).port == port
    with contextlib.closing(serial.serial_for_url(port, baudrate=19200)) as within:
        assert isinstance(of_pyserial(within), Transport)
    read_modbus(port, folder)
    read_links(port)
    read_broadcasts(capture)
    several(port)
    streams(port)
    files(port, folder)
    ports(port)
    calibrated(port)
    assert all(errors(port))
