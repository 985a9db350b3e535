"""Synchronous driver for Servomex SERVOPRO 4000-series gas analysers.

An analyser broadcasts ASCII frames on its own, or answers Modbus RTU or Modbus ASCII. All three are decoded into
one set of frozen models behind one :class:`Analyzer`::

    import servomex

    with servomex.open_device("/dev/ttyUSB0") as analyzer:
        frame = analyzer.poll()
        for reading in frame:
            print(reading.name, reading.value, reading.unit_text, reading.quality)

An invalid value is ``None``; a frame that is too old, or a reply that cannot be proven to be the answer,
is an error. No hardware at hand? ``open_device("sim://4100")`` opens a virtual analyser.

The public names, each with a page of its own, such as ``help(servomex.open_device)``:

* Opening: ``open_device`` ``open_continuous`` ``Analyzer`` ``SerialSettings`` ``ProtocolKind`` ``Capability``
  ``Availability`` ``SafetyTier``
* Data: ``Frame`` ``Reading`` ``ChannelStatus`` ``AnalyserStatus`` ``CalGroupState`` ``Quality`` ``Unit``
  ``UnitKind`` ``ChannelId`` ``ChannelKind`` ``ChannelInfo`` ``DeviceInfo`` ``Sample`` ``ROW_COLUMNS``
* Several analysers: ``ServomexManager`` ``DeviceResult`` ``ErrorPolicy``
* Live data: ``Subscription`` ``StreamingSession`` ``StreamMode`` ``OverflowPolicy``
* To files and back: ``Recorder`` ``record`` ``Recording`` ``PollSource`` ``Closed`` ``pipe``
  ``AcquisitionSummary`` ``open_sink`` ``load`` ``load_metadata`` ``to_pandas`` ``plot``
* Autocalibration: ``CalibrationReport`` ``CalibrationPhase`` ``CalibrationProgress`` ``CalPhase``
* Ports: ``present_ports`` ``PortInfo`` ``find_devices`` ``discover_port`` ``DiscoveryResult``
* Errors: ``ServomexError`` and its kinds, drawn as a tree in ``help("servomex.errors")``; ``ErrorContext``,
  ``Argument``
* For tests: ``FakeTransport``; more in ``servomex.testing``
* The parts of an analyser: ``SerialLink`` ``Transport`` ``ContinuousReader`` ``ModbusClient``, and ``telegram``,
  the parser of broadcasts

``servomex.registers``, ``servomex.simulator``, ``servomex.sinks``, ``servomex.testing`` and ``servomex.units`` are
public as well. The other modules are not, except for what the reference in the manual lists, and may change in any
version. Durations are in seconds, and times of day in UTC.
"""

import logging
import time as _time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from servomex import telegram as telegram
    from servomex.analyzer.analyzer import Analyzer as Analyzer
    from servomex.analyzer.opening import open_continuous as open_continuous
    from servomex.analyzer.opening import open_device as open_device
    from servomex.calibration.report import CalibrationPhase as CalibrationPhase
    from servomex.calibration.report import CalibrationProgress as CalibrationProgress
    from servomex.calibration.report import CalibrationReport as CalibrationReport
    from servomex.continuous.reader import ContinuousReader as ContinuousReader
    from servomex.discovery.search import DiscoveryResult as DiscoveryResult
    from servomex.discovery.search import discover_port as discover_port
    from servomex.discovery.search import find_devices as find_devices
    from servomex.enums import Availability as Availability
    from servomex.enums import CalPhase as CalPhase
    from servomex.enums import Capability as Capability
    from servomex.enums import ChannelId as ChannelId
    from servomex.enums import ChannelKind as ChannelKind
    from servomex.enums import ErrorPolicy as ErrorPolicy
    from servomex.enums import OverflowPolicy as OverflowPolicy
    from servomex.enums import ProtocolKind as ProtocolKind
    from servomex.enums import Quality as Quality
    from servomex.enums import SafetyTier as SafetyTier
    from servomex.enums import StreamMode as StreamMode
    from servomex.errors import *  # noqa: F403
    from servomex.manager.manager import ServomexManager as ServomexManager
    from servomex.manager.rounds import DeviceResult as DeviceResult
    from servomex.modbus.client import ModbusClient as ModbusClient
    from servomex.models.analyser import AnalyserStatus as AnalyserStatus
    from servomex.models.analyser import CalGroupState as CalGroupState
    from servomex.models.columns import ROW_COLUMNS as ROW_COLUMNS
    from servomex.models.frame import Frame as Frame
    from servomex.models.info import ChannelInfo as ChannelInfo
    from servomex.models.info import DeviceInfo as DeviceInfo
    from servomex.models.reading import ChannelStatus as ChannelStatus
    from servomex.models.reading import Reading as Reading
    from servomex.models.sample import Sample as Sample
    from servomex.port.link import SerialLink as SerialLink
    from servomex.port.names import PortInfo as PortInfo
    from servomex.port.names import present_ports as present_ports
    from servomex.port.transport import Transport as Transport
    from servomex.recording.dataframes import to_pandas as to_pandas
    from servomex.recording.load import load as load
    from servomex.recording.load import load_metadata as load_metadata
    from servomex.recording.pipe import pipe as pipe
    from servomex.recording.polling import PollSource as PollSource
    from servomex.recording.recorder import Recorder as Recorder
    from servomex.recording.recording import Recording as Recording
    from servomex.recording.recording import record as record
    from servomex.recording.streaming import StreamingSession as StreamingSession
    from servomex.recording.subscription import Subscription as Subscription
    from servomex.recording.summary import AcquisitionSummary as AcquisitionSummary
    from servomex.runtime.queues import Closed as Closed
    from servomex.settings import SerialSettings as SerialSettings
    from servomex.sinks.opening import open_sink as open_sink
    from servomex.testing.fake import FakeTransport as FakeTransport
    from servomex.units import Unit as Unit
    from servomex.units import UnitKind as UnitKind
    from servomex.version import __version__ as __version__
    from servomex.views.plot.plotting import plot as plot
else:
    _MODULES = {
        "analyzer.analyzer": "Analyzer",
        "analyzer.opening": "open_continuous open_device",
        "calibration.report": "CalibrationPhase CalibrationProgress CalibrationReport",
        "continuous.reader": "ContinuousReader",
        "discovery.search": "DiscoveryResult discover_port find_devices",
        "enums": (
            "Availability CalPhase Capability ChannelId ChannelKind ErrorPolicy OverflowPolicy "
            "ProtocolKind Quality SafetyTier StreamMode"
        ),
        "errors": (
            "Argument ErrorContext ServomexCalibrationError ServomexCapabilityError "
            "ServomexChannelError ServomexChannelNotFoundError ServomexChecksumError "
            "ServomexConfigurationError ServomexConfirmationRequiredError ServomexConnectionError "
            "ServomexError ServomexForeignDeviceError ServomexFrameError ServomexGapError ServomexGatewayError "
            "ServomexIllegalDataAddressError ServomexIllegalDataValueError ServomexIllegalFunctionError "
            "ServomexModbusError ServomexNoFrameError ServomexNotFoundError ServomexParseError "
            "ServomexProtocolError ServomexProtocolUnsupportedError ServomexSinkDependencyError "
            "ServomexSinkError ServomexSinkReadError ServomexSinkSchemaError ServomexSinkSyncError "
            "ServomexSinkWriteError ServomexStaleError ServomexTimeoutError ServomexTransportError "
            "ServomexValidationError"
        ),
        "manager.manager": "ServomexManager",
        "manager.rounds": "DeviceResult",
        "modbus.client": "ModbusClient",
        "models.analyser": "AnalyserStatus CalGroupState",
        "models.columns": "ROW_COLUMNS",
        "models.frame": "Frame",
        "models.info": "ChannelInfo DeviceInfo",
        "models.reading": "ChannelStatus Reading",
        "models.sample": "Sample",
        "port.link": "SerialLink",
        "port.names": "PortInfo present_ports",
        "port.transport": "Transport",
        "recording.dataframes": "to_pandas",
        "recording.load": "load load_metadata",
        "recording.pipe": "pipe",
        "recording.polling": "PollSource",
        "recording.recorder": "Recorder",
        "recording.recording": "Recording record",
        "recording.streaming": "StreamingSession",
        "recording.subscription": "Subscription",
        "recording.summary": "AcquisitionSummary",
        "runtime.queues": "Closed",
        "settings": "SerialSettings",
        "sinks.opening": "open_sink",
        "telegram": "",
        "testing.fake": "FakeTransport",
        "units": "Unit UnitKind",
        "version": "__version__",
        "views.plot.plotting": "plot",
    }

    def __getattr__(name):
        # Not sooner: a thread that imports a folder could wait here for one that waits for that folder.
        from servomex.runtime.lazy import hand_on

        find, globals()["__dir__"] = hand_on(__name__, _MODULES)
        globals()["__getattr__"] = find
        return find(name)

    def __dir__():
        __getattr__("__all__")
        return globals()["__dir__"]()


logging.getLogger("servomex").addHandler(logging.NullHandler())

_clocks = (_time.monotonic, _time.monotonic_ns, _time.time, _time.sleep)
"""Those of the system, for :mod:`servomex.runtime.clock`: a test may stop the clocks before the first use."""
