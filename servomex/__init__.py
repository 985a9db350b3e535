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

import logging
from typing import TYPE_CHECKING, Any

from servomex import telegram
from servomex.analyzer import Analyzer
from servomex.calibration_report import CalibrationPhase, CalibrationProgress, CalibrationReport
from servomex.continuous import ContinuousReader
from servomex.enums import CalPhase, Capability, ChannelId, ChannelKind, ErrorPolicy, ProtocolKind, Quality
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
from servomex.settings import SerialSettings
from servomex.shared_port import DeviceResult
from servomex.units import Unit, UnitKind

if TYPE_CHECKING:
    from servomex.discovery import DiscoveryResult, discover_port, find_devices
    from servomex.modbus import ModbusClient

__version__ = "0.1.0"

__all__ = [
    "ROW_COLUMNS",
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
    "PortInfo",
    "ProtocolKind",
    "Quality",
    "Reading",
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
    "ServomexStaleError",
    "ServomexTimeoutError",
    "ServomexTransportError",
    "ServomexValidationError",
    "Unit",
    "UnitKind",
    "__version__",
    "discover_port",
    "find_devices",
    "open_continuous",
    "open_device",
    "present_ports",
    "telegram",
]

logging.getLogger("servomex").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """Import what needs pymodbus when it is first asked for: pymodbus takes longer than all the rest."""
    if name == "ModbusClient":
        from servomex.modbus import ModbusClient

        return ModbusClient
    if name in ("DiscoveryResult", "discover_port", "find_devices"):
        from servomex import discovery

        return getattr(discovery, name)
    raise AttributeError(f"module 'servomex' has no attribute {name!r}")
