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
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any

from servomex import telegram
from servomex.acquisition import AcquisitionSummary
from servomex.analyzer import Analyzer
from servomex.calibration_report import CalibrationPhase, CalibrationProgress, CalibrationReport
from servomex.continuous import ContinuousReader
from servomex.enums import (
    CalPhase,
    Capability,
    ChannelId,
    ChannelKind,
    ErrorPolicy,
    OverflowPolicy,
    ProtocolKind,
    Quality,
    StreamMode,
)
from servomex.errors import (
    ErrorContext,
    ServomexCalibrationError,
    ServomexChecksumError,
    ServomexConfigurationError,
    ServomexConfirmationRequiredError,
    ServomexConnectionError,
    ServomexError,
    ServomexFrameError,
    ServomexIllegalDataAddressError,
    ServomexIllegalDataValueError,
    ServomexIllegalFunctionError,
    ServomexModbusError,
    ServomexParseError,
    ServomexProtocolError,
    ServomexProtocolUnsupportedError,
    ServomexSinkDependencyError,
    ServomexSinkError,
    ServomexSinkReadError,
    ServomexSinkSchemaError,
    ServomexSinkWriteError,
    ServomexStaleError,
    ServomexTimeoutError,
    ServomexTransportError,
    ServomexValidationError,
)
from servomex.link import SerialLink
from servomex.manager import ServomexManager
from servomex.models import (
    ROW_COLUMNS,
    AnalyserStatus,
    CalGroupState,
    ChannelInfo,
    ChannelStatus,
    DeviceInfo,
    Frame,
    Reading,
    Sample,
)
from servomex.opening import open_continuous, open_device
from servomex.portnames import PortInfo, present_ports
from servomex.recording import Recording, record
from servomex.settings import SerialSettings
from servomex.shared_port import DeviceResult
from servomex.streaming import StreamingSession
from servomex.subscription import Subscription
from servomex.units import Unit, UnitKind

if TYPE_CHECKING:
    from servomex.dataframes import to_pandas
    from servomex.discovery import DiscoveryResult, discover_port, find_devices
    from servomex.loading import load
    from servomex.modbus import ModbusClient
    from servomex.recorder import Recorder, pipe
    from servomex.sinks import open_sink

__version__ = "0.1.0"

__all__ = [
    "ROW_COLUMNS",
    "AcquisitionSummary",
    "AnalyserStatus",
    "Analyzer",
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
    "ContinuousReader",
    "DeviceInfo",
    "DeviceResult",
    "DiscoveryResult",
    "ErrorContext",
    "ErrorPolicy",
    "Frame",
    "ModbusClient",
    "OverflowPolicy",
    "PortInfo",
    "ProtocolKind",
    "Quality",
    "Reading",
    "Recorder",
    "Recording",
    "Sample",
    "SerialLink",
    "SerialSettings",
    "ServomexCalibrationError",
    "ServomexChecksumError",
    "ServomexConfigurationError",
    "ServomexConfirmationRequiredError",
    "ServomexConnectionError",
    "ServomexError",
    "ServomexFrameError",
    "ServomexIllegalDataAddressError",
    "ServomexIllegalDataValueError",
    "ServomexIllegalFunctionError",
    "ServomexManager",
    "ServomexModbusError",
    "ServomexParseError",
    "ServomexProtocolError",
    "ServomexProtocolUnsupportedError",
    "ServomexSinkDependencyError",
    "ServomexSinkError",
    "ServomexSinkReadError",
    "ServomexSinkSchemaError",
    "ServomexSinkWriteError",
    "ServomexStaleError",
    "ServomexTimeoutError",
    "ServomexTransportError",
    "ServomexValidationError",
    "StreamMode",
    "StreamingSession",
    "Subscription",
    "Unit",
    "UnitKind",
    "__version__",
    "discover_port",
    "find_devices",
    "load",
    "open_continuous",
    "open_device",
    "open_sink",
    "pipe",
    "present_ports",
    "record",
    "telegram",
    "to_pandas",
]

_LATER = {
    "DiscoveryResult": "servomex.discovery",
    "ModbusClient": "servomex.modbus",
    "Recorder": "servomex.recorder",
    "discover_port": "servomex.discovery",
    "find_devices": "servomex.discovery",
    "load": "servomex.loading",
    "open_sink": "servomex.sinks",
    "pipe": "servomex.recorder",
    "to_pandas": "servomex.dataframes",
}

logging.getLogger("servomex").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """Import what not every program needs when it is first asked for: pymodbus takes longer than all the rest."""
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'servomex' has no attribute {name!r}")
