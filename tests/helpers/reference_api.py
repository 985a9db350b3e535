"""The public names of the asynchronous servomexlib 0.1 as its documentation lists them, for a comparison.

Signatures are those of its coroutines as plain calls. Defaults that are members of an enumeration stand as their
values, which are equal to the members here. What differs here on purpose is in the mappings at the end; each entry
is a row of ``docs/howto/from-servomexlib.rst``.
"""

NAMES = (
    "AcquisitionSummary AnalyserStatus Analyzer Availability CalGroupState CalPhase CalibrationProgress "
    "Capability "
    "ChannelId ChannelInfo ChannelKind ChannelStatus DeviceInfo DeviceResult ErrorContext ErrorPolicy "
    "FakeTransport "
    "Frame OverflowPolicy PollSource ProtocolKind Reading Recording SafetyTier Sample SerialSettings "
    "ServomexCapabilityError ServomexChecksumError ServomexConfigurationError ServomexConfirmationRequiredError "
    "ServomexConnectionError ServomexError ServomexFrameError ServomexManager ServomexModbusError "
    "ServomexParseError ServomexProtocolError ServomexProtocolUnsupportedError ServomexTimeoutError "
    "ServomexTransportError ServomexValidationError StreamMode StreamingSession Transport Unit UnitKind "
    "__version__ "
    "open_continuous open_device record"
).split()
"""At the top level of the package."""

ELSEWHERE = {
    "servomex.errors": (
        "ServomexIllegalDataAddressError ServomexIllegalFunctionError ServomexSinkDependencyError "
        "ServomexSinkError "
        "ServomexSinkSchemaError ServomexSinkWriteError"
    ),
    "servomex.sinks": "CsvSink InMemorySink JsonlSink ParquetSink PostgresConfig PostgresSink SqliteSink",
    "servomex.testing": "FakeTransport",
    "servomex.units": "Unit UnitKind VPM_PER_PERCENT percent_to_vpm to_pint vpm_to_percent",
    "servomex": "DiscoveryResult discover_port find_devices pipe",
}
"""In modules of its own; here, by the module that has them."""

ENUMS = {
    "Availability": "AVAILABLE=available UNAVAILABLE=unavailable UNKNOWN=unknown",
    "CalPhase": "IDLE=idle SAMPLING=sampling CAL_GAS_1=cal_gas_1 CAL_GAS_2=cal_gas_2",
    "Capability": "READ_CHANNELS=1 READ_STATUS=2 IDENTIFY=4 AUTOCAL=8 LOOPBACK=16",
    "ChannelId": "I1=I1 I2=I2 I3=I3 I4=I4 D1=D1 D2=D2 D3=D3 D4=D4 E1=E1 E2=E2",
    "ChannelKind": "TRANSDUCER=transducer DERIVED=derived EXTERNAL_INPUT=external_input",
    "ErrorPolicy": "RAISE=raise RETURN=return",
    "OverflowPolicy": "BLOCK=block DROP_NEWEST=drop_newest DROP_OLDEST=drop_oldest",
    "ProtocolKind": "AUTO=auto CONTINUOUS_ASCII=continuous MODBUS_RTU=modbus_rtu MODBUS_ASCII=modbus_ascii",
    "SafetyTier": "READONLY=readonly STATEFUL=stateful",
    "StreamMode": "POLL=poll AUTOPRINT=autoprint",
    "Unit": "PERCENT=% VPM=vpm PPM=ppm MILLIAMP=mA UNKNOWN=?",
    "UnitKind": "CONCENTRATION=concentration CURRENT=current UNKNOWN=unknown",
}

MEMBERS = {
    "AcquisitionSummary": (
        "started_at finished_at samples_emitted samples_late max_drift_ms tick_duration_ms_p50 "
        "tick_duration_ms_p99 "
        "disconnects"
    ),
    "AnalyserStatus": "fault maintenance cal_groups clock",
    "Analyzer": "protocol capabilities info dropped_frames",
    "CalGroupState": "group calibrating cal_gas",
    "CalibrationProgress": "group active phase",
    "ChannelInfo": "channel kind name unit",
    "ChannelStatus": "fault maintenance calibrating warming_up alarms ok",
    "DeviceInfo": "model channels protocol address serial_settings",
    "DeviceResult": "value error ok",
    "DiscoveryResult": "port protocol info error ok is_broadcaster",
    "ErrorContext": "port protocol address channel register function_code request response elapsed_s extra",
    "FakeTransport": "label is_open writes",
    "Frame": "readings analyser protocol received_at monotonic_ns raw",
    "Reading": "channel kind name value unit status protocol received_at monotonic_ns raw",
    "Recording": "stream summary rate_hz",
    "Sample": ("device channel reading protocol monotonic_ns received_at requested_at latency_s metadata error"),
    "SerialSettings": "port baudrate bytesize parity stopbits rtscts xonxoff exclusive",
    "ServomexError": "context",
    "ServomexManager": "error_policy names closed",
    "StreamingSession": "mode",
    "sinks.InMemorySink": "samples",
    "sinks.ParquetSink": "path compression",
    "sinks.PostgresConfig": (
        "dsn host port user password database schema table statement_timeout_ms command_timeout_s create_table "
        "use_copy"
    ),
    "sinks.PostgresSink": "config",
    "sinks.SqliteSink": "path table",
}
"""Attributes and properties."""

CALLS = """
open_device(port, *, protocol="auto", address=1, serial_settings=None, timeout=1.0, identify=True)
open_continuous(port, *, device="", timeout=1.0, serial_settings=None)
record(source, *, rate_hz, duration=None, names=None, timeout=None, overflow="block", buffer_size=64, \
auto_reconnect=False, reconnect_factory=None)
pipe(stream, sink, *, batch_size=64, flush_interval=1.0)
discover_port(port, *, address=1, timeout=1.0, serial_settings=None)
find_devices(ports, *, address=1, timeout=1.0)
Analyzer.poll(*, wait_fresh=False, timeout=None)
Analyzer.read_channel(channel, *, timeout=None)
Analyzer.read_all(*, timeout=None)
Analyzer.status(channel, *, timeout=None)
Analyzer.analyser_status(*, timeout=None)
Analyzer.identify(*, timeout=None)
Analyzer.snapshot()
Analyzer.poll_samples(*, names=None, timeout=None)
Analyzer.start_calibration(group, *, confirm=False, timeout=None)
Analyzer.stop_calibration(*, confirm=False, timeout=None)
Analyzer.calibration_status(group=1, *, timeout=None)
Analyzer.stream(*, mode=None, rate_hz=None)
Frame.channel(cid)
Frame.as_samples(*, device="")
Reading.as_dict()
ErrorContext.merged(**updates)
ErrorContext(port=None, protocol=None, address=None, channel=None, register=None, function_code=None, \
request=None, \
response=None, elapsed_s=None)
ServomexError(message="", *, context=None)
ServomexError.with_context(**updates)
ServomexManager(*, error_policy="raise")
ServomexManager.add(name, source, *, protocol="modbus_rtu", address=1, serial_settings=None, timeout=1.0)
ServomexManager.remove(name)
ServomexManager.get(name)
ServomexManager.close()
ServomexManager.poll(names=None, *, timeout=None)
ServomexManager.poll_samples(*, names=None, timeout=None)
ServomexManager.execute_each(op, names=None)
DeviceResult.success(value)
DeviceResult.failure(error)
PollSource.poll_samples(*, names=None, timeout=None)
SerialSettings(port, baudrate=19200, bytesize=8, parity="N", stopbits=1, rtscts=False, xonxoff=False, \
exclusive=True)
FakeTransport(script=None, *, label="fake://test")
FakeTransport.feed(data)
FakeTransport.emit(frames, *, interval=0.0)
FakeTransport.add_script(request, reply)
sinks.CsvSink(path)
sinks.JsonlSink(path)
sinks.InMemorySink()
sinks.SqliteSink(path, *, table="samples")
sinks.ParquetSink(path, *, compression="zstd")
sinks.PostgresSink(config)
sinks.PostgresConfig(dsn=None, host=None, port=5432, user=None, password=None, database=None, schema="public", \
table="samples", statement_timeout_ms=30000, command_timeout_s=10.0, create_table=False, use_copy=True)
units.percent_to_vpm(percent)
units.vpm_to_percent(vpm)
units.to_pint(unit)
"""
"""One call a line; a default that is missing means that the argument must be given."""

ERRORS = {
    "ServomexConfigurationError": "ServomexError",
    "ServomexValidationError": "ServomexConfigurationError",
    "ServomexConfirmationRequiredError": "ServomexConfigurationError",
    "ServomexTransportError": "ServomexError",
    "ServomexTimeoutError": "ServomexTransportError",
    "ServomexConnectionError": "ServomexTransportError",
    "ServomexProtocolError": "ServomexError",
    "ServomexParseError": "ServomexProtocolError",
    "ServomexChecksumError": "ServomexProtocolError",
    "ServomexFrameError": "ServomexProtocolError",
    "ServomexProtocolUnsupportedError": "ServomexProtocolError",
    "ServomexModbusError": "ServomexProtocolError",
    "ServomexIllegalFunctionError": "ServomexModbusError",
    "ServomexIllegalDataAddressError": "ServomexModbusError",
    "ServomexCapabilityError": "ServomexError",
    "ServomexSinkError": "ServomexError",
    "ServomexSinkDependencyError": "ServomexSinkError ServomexConfigurationError",
    "ServomexSinkSchemaError": "ServomexSinkError",
    "ServomexSinkWriteError": "ServomexSinkError",
}

REQUIRED = "required"
"""The default of an argument that has none."""

DEFAULTS_HERE: dict[str, object] = {
    "open_device(timeout)": None,
    "open_continuous(timeout)": None,
    "record(rate_hz)": None,
    "record(buffer_size)": 1000,
    "record(auto_reconnect)": True,
    "ServomexManager.add(protocol)": "auto",
    "ServomexManager.add(timeout)": None,
    "SerialSettings(port)": None,
    "find_devices(ports)": None,
    "sinks.PostgresConfig(create_table)": True,
}
"""Arguments whose default is another one here."""

RENAMED_HERE = {
    "open_continuous(device)": "name",
    "discover_port(address)": "addresses",
    "find_devices(address)": "addresses",
}
"""Arguments with another name here."""

GONE_HERE = {
    "pipe(sink)",  # several may follow
    "pipe(batch_size)",
    "pipe(flush_interval)",
    "discover_port(timeout)",
    "discover_port(serial_settings)",
    "find_devices(timeout)",
}
"""Arguments that are not needed here."""

HERE: dict[str, str] = {
    "Analyzer.availability": "capability",
    "Frame.as_json": "",
    "Reading.as_json": "",
    "Recorder": (
        "source sinks *rate_hz *duration *count *names *timeout *overflow *buffer_size *auto_reconnect "
        "*reconnect_factory *tags *sink_options"
    ),
    "Recorder.close": "",
    "Recording.__next__": "",
    "Sample.as_json": "",
    "ServomexManager.add": "name source *baudrate *parity *exclusive *tags *wait=True",
    "StreamingSession.__next__": "",
    "open_device": "port *baudrate *bytesize *parity *stopbits *rtscts *xonxoff *exclusive *name *tags",
    "open_sink": (
        "target *file_format *rotate *append=False *overwrite=False *flush_s *fsync_s *metadata *decimal *table "
        "*compression"
    ),
    "testing.ScriptedPort": "dialogue *loopbacks=False",
    "testing.load_script": "path",
    "units.Unit.coerce": "text",
}
"""What stands beside the reference here: the parameters of each call, with a ``*`` those given by name only."""

PUBLIC_HERE = {
    "servomex": "FakeTransport PollSource Recorder Transport load open_sink pipe record",
    "servomex.sinks": "open_sink",
    "servomex.testing": "FakeTransport ScriptedPort load_capture load_script",
}
"""Names in the ``__all__`` of a module."""

ERRORS_HERE = {
    "ServomexChannelNotFoundError": "ServomexValidationError LookupError",
    "ServomexChecksumError": "ServomexParseError",
    "ServomexFrameError": "ServomexParseError",
    "ServomexIllegalFunctionError": "ServomexModbusError ServomexCapabilityError",
    "ServomexNoFrameError": "ServomexValidationError ServomexTimeoutError",
    "ServomexNotFoundError": "ServomexConnectionError ServomexTimeoutError",
    "ServomexProtocolUnsupportedError": "ServomexProtocolError ServomexCapabilityError",
}
"""Errors that are several things at once."""

TRANSPORT = "read write in_waiting timeout reset_input_buffer"
"""The members of a ``Transport``."""

STATEFUL = "start_calibration stop_calibration calibrate"
"""The methods of an ``Analyzer`` that change its state."""
