"""Synchronous driver for Servomex SERVOPRO 4000-series gas analysers.

An analyser broadcasts ASCII frames by itself, or answers Modbus RTU or Modbus ASCII. All three are decoded into
one set of frozen models behind one :class:`Analyzer`::

    import servomex

    with servomex.open_device("/dev/ttyUSB0") as analyzer:
        frame = analyzer.poll()
        for reading in frame:
            print(reading.name, reading.value, reading.unit_text, reading.quality)

A value that is not valid is ``None``; a frame that is too old, or a reply that cannot be proven to be the answer,
is an error. No hardware at hand? ``open_device("sim://4100")`` opens a virtual analyser.

The public names, each with a page of its own, such as ``help(servomex.open_device)``:

* Opening: ``open_device`` ``open_continuous`` ``Analyzer`` ``SerialSettings`` ``ProtocolKind`` ``Capability``
  ``Availability`` ``SafetyTier``
* What is read: ``Frame`` ``Reading`` ``ChannelStatus`` ``AnalyserStatus`` ``CalGroupState`` ``Quality`` ``Unit``
  ``UnitKind`` ``ChannelId`` ``ChannelKind`` ``ChannelInfo`` ``DeviceInfo`` ``Sample`` ``ROW_COLUMNS``
* Several analysers: ``ServomexManager`` ``DeviceResult`` ``ErrorPolicy``
* As it comes: ``Subscription`` ``StreamingSession`` ``StreamMode`` ``OverflowPolicy``
* To files and back: ``Recorder`` ``record`` ``Recording`` ``PollSource`` ``Closed`` ``pipe``
  ``AcquisitionSummary`` ``open_sink`` ``load`` ``load_metadata`` ``to_pandas``
* Autocalibration: ``CalibrationReport`` ``CalibrationPhase`` ``CalibrationProgress`` ``CalPhase``
* Ports: ``present_ports`` ``PortInfo`` ``find_devices`` ``discover_port`` ``DiscoveryResult``
* Errors: ``ServomexError`` and its kinds, drawn as a tree in ``help("servomex.errors")``; ``ErrorContext``,
  ``Argument``
* For tests: ``FakeTransport``; more in ``servomex.testing``
* The parts of an analyser: ``SerialLink`` ``Transport`` ``ContinuousReader`` ``ModbusClient``, and ``telegram``,
  the parser of broadcasts

``servomex.registers``, ``servomex.simulator``, ``servomex.sinks``, ``servomex.testing`` and ``servomex.units`` are
public as well. The other modules are not, but for what the reference of the manual lists, and may change with any
version. Durations are in seconds, and times of day in UTC.
"""

import importlib
import logging
from typing import TYPE_CHECKING

import servomex.runtime.clock  # noqa: F401 (with the package: a test may stop the clocks before the first use)
from servomex.version import __version__

if TYPE_CHECKING:
    from servomex import telegram
    from servomex.analyzer.analyzer import Analyzer
    from servomex.analyzer.opening import open_continuous, open_device
    from servomex.calibration.report import CalibrationPhase, CalibrationProgress, CalibrationReport
    from servomex.continuous.reader import ContinuousReader
    from servomex.discovery.search import DiscoveryResult, discover_port, find_devices
    from servomex.enums import (
        Availability,
        CalPhase,
        Capability,
        ChannelId,
        ChannelKind,
        ErrorPolicy,
        OverflowPolicy,
        ProtocolKind,
        Quality,
        SafetyTier,
        StreamMode,
    )
    from servomex.errors import (
        Argument,
        ErrorContext,
        ServomexCalibrationError,
        ServomexCapabilityError,
        ServomexChannelError,
        ServomexChannelNotFoundError,
        ServomexChecksumError,
        ServomexConfigurationError,
        ServomexConfirmationRequiredError,
        ServomexConnectionError,
        ServomexError,
        ServomexForeignDeviceError,
        ServomexFrameError,
        ServomexGatewayError,
        ServomexIllegalDataAddressError,
        ServomexIllegalDataValueError,
        ServomexIllegalFunctionError,
        ServomexModbusError,
        ServomexNoFrameError,
        ServomexNotFoundError,
        ServomexParseError,
        ServomexProtocolError,
        ServomexProtocolUnsupportedError,
        ServomexSinkDependencyError,
        ServomexSinkError,
        ServomexSinkReadError,
        ServomexSinkSchemaError,
        ServomexSinkSyncError,
        ServomexSinkWriteError,
        ServomexStaleError,
        ServomexTimeoutError,
        ServomexTransportError,
        ServomexValidationError,
    )
    from servomex.manager.manager import ServomexManager
    from servomex.manager.rounds import DeviceResult
    from servomex.modbus.client import ModbusClient
    from servomex.models.analyser import AnalyserStatus, CalGroupState
    from servomex.models.columns import ROW_COLUMNS
    from servomex.models.frame import Frame
    from servomex.models.info import ChannelInfo, DeviceInfo
    from servomex.models.reading import ChannelStatus, Reading
    from servomex.models.sample import Sample
    from servomex.port.link import SerialLink
    from servomex.port.names import PortInfo, present_ports
    from servomex.port.transport import Transport
    from servomex.recording.dataframes import to_pandas
    from servomex.recording.load import load, load_metadata
    from servomex.recording.pipe import pipe
    from servomex.recording.polling import PollSource
    from servomex.recording.recorder import Recorder
    from servomex.recording.recording import Recording, record
    from servomex.recording.streaming import StreamingSession
    from servomex.recording.subscription import Subscription
    from servomex.recording.summary import AcquisitionSummary
    from servomex.runtime.queues import Closed
    from servomex.settings import SerialSettings
    from servomex.sinks import open_sink
    from servomex.testing.fake import FakeTransport
    from servomex.units import Unit, UnitKind

__all__ = [
    "ROW_COLUMNS",
    "AcquisitionSummary",
    "AnalyserStatus",
    "Analyzer",
    "Argument",
    "Availability",
    "CalGroupState",
    "CalPhase",
    "CalibrationPhase",
    "CalibrationProgress",
    "CalibrationReport",
    "Capability",
    "ChannelId",
    "ChannelInfo",
    "ChannelKind",
    "ChannelStatus",
    "Closed",
    "ContinuousReader",
    "DeviceInfo",
    "DeviceResult",
    "DiscoveryResult",
    "ErrorContext",
    "ErrorPolicy",
    "FakeTransport",
    "Frame",
    "ModbusClient",
    "OverflowPolicy",
    "PollSource",
    "PortInfo",
    "ProtocolKind",
    "Quality",
    "Reading",
    "Recorder",
    "Recording",
    "SafetyTier",
    "Sample",
    "SerialLink",
    "SerialSettings",
    "ServomexCalibrationError",
    "ServomexCapabilityError",
    "ServomexChannelError",
    "ServomexChannelNotFoundError",
    "ServomexChecksumError",
    "ServomexConfigurationError",
    "ServomexConfirmationRequiredError",
    "ServomexConnectionError",
    "ServomexError",
    "ServomexForeignDeviceError",
    "ServomexFrameError",
    "ServomexGatewayError",
    "ServomexIllegalDataAddressError",
    "ServomexIllegalDataValueError",
    "ServomexIllegalFunctionError",
    "ServomexManager",
    "ServomexModbusError",
    "ServomexNoFrameError",
    "ServomexNotFoundError",
    "ServomexParseError",
    "ServomexProtocolError",
    "ServomexProtocolUnsupportedError",
    "ServomexSinkDependencyError",
    "ServomexSinkError",
    "ServomexSinkReadError",
    "ServomexSinkSchemaError",
    "ServomexSinkSyncError",
    "ServomexSinkWriteError",
    "ServomexStaleError",
    "ServomexTimeoutError",
    "ServomexTransportError",
    "ServomexValidationError",
    "StreamMode",
    "StreamingSession",
    "Subscription",
    "Transport",
    "Unit",
    "UnitKind",
    "__version__",
    "discover_port",
    "find_devices",
    "load",
    "load_metadata",
    "open_continuous",
    "open_device",
    "open_sink",
    "pipe",
    "present_ports",
    "record",
    "telegram",
    "to_pandas",
]

_NAMES = {
    "servomex.analyzer.analyzer": "Analyzer",
    "servomex.calibration.report": "CalibrationPhase CalibrationProgress CalibrationReport",
    "servomex.models.columns": "ROW_COLUMNS",
    "servomex.continuous.reader": "ContinuousReader",
    "servomex.recording.dataframes": "to_pandas",
    "servomex.discovery.search": "DiscoveryResult discover_port find_devices",
    "servomex.enums": (
        "Availability CalPhase Capability ChannelId ChannelKind ErrorPolicy OverflowPolicy ProtocolKind Quality "
        "SafetyTier StreamMode"
    ),
    "servomex.errors": (
        "Argument ErrorContext ServomexCalibrationError ServomexCapabilityError ServomexChannelError "
        "ServomexChannelNotFoundError ServomexChecksumError ServomexConfigurationError "
        "ServomexConfirmationRequiredError ServomexConnectionError ServomexError "
        "ServomexForeignDeviceError ServomexFrameError ServomexGatewayError "
        "ServomexIllegalDataAddressError ServomexIllegalDataValueError ServomexIllegalFunctionError "
        "ServomexModbusError ServomexNoFrameError ServomexNotFoundError ServomexParseError "
        "ServomexProtocolError ServomexProtocolUnsupportedError ServomexSinkDependencyError "
        "ServomexSinkError ServomexSinkReadError ServomexSinkSchemaError ServomexSinkSyncError "
        "ServomexSinkWriteError ServomexStaleError ServomexTimeoutError ServomexTransportError "
        "ServomexValidationError"
    ),
    "servomex.port.link": "SerialLink",
    "servomex.recording.load": "load load_metadata",
    "servomex.manager.manager": "ServomexManager",
    "servomex.modbus.client": "ModbusClient",
    "servomex.models.analyser": "AnalyserStatus CalGroupState",
    "servomex.models.frame": "Frame",
    "servomex.models.info": "ChannelInfo DeviceInfo",
    "servomex.models.reading": "ChannelStatus Reading",
    "servomex.models.sample": "Sample",
    "servomex.analyzer.opening": "open_continuous open_device",
    "servomex.recording.pipe": "pipe",
    "servomex.recording.polling": "PollSource",
    "servomex.port.names": "PortInfo present_ports",
    "servomex.runtime.queues": "Closed",
    "servomex.recording.recorder": "Recorder",
    "servomex.recording.recording": "Recording record",
    "servomex.settings": "SerialSettings",
    "servomex.manager.rounds": "DeviceResult",
    "servomex.sinks": "open_sink",
    "servomex.recording.streaming": "StreamingSession",
    "servomex.recording.subscription": "Subscription",
    "servomex.recording.summary": "AcquisitionSummary",
    "servomex.telegram": "",
    "servomex.testing.fake": "FakeTransport",
    "servomex.port.transport": "Transport",
    "servomex.units": "Unit UnitKind",
}
"""What each module gives to this one. A module is imported when the first of its names is asked for, so that a
program starts fast and loads only what it uses; of threads that ask at once, one imports and the others wait."""
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}

logging.getLogger("servomex").addHandler(logging.NullHandler())


if not TYPE_CHECKING:  # which would take any name for one that there is

    def __getattr__(name: str) -> object:
        if f"servomex.{name}" in _NAMES:
            return importlib.import_module(f"servomex.{name}")
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'servomex' has no attribute {name!r}")
        found = globals()[name] = getattr(importlib.import_module(_MODULE_OF[name]), name)
        return found


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
