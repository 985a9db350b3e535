"""The closed vocabularies: communication modes, channels, quality."""

from enum import Flag, StrEnum, auto


class ProtocolKind(StrEnum):
    """The communication mode of an analyser; it is chosen on its front panel, not by software."""

    AUTO = "auto"
    CONTINUOUS_ASCII = "continuous"
    MODBUS_RTU = "modbus_rtu"
    MODBUS_ASCII = "modbus_ascii"


class Capability(Flag):
    """What can be done with an analyser in its communication mode; the last two over Modbus only."""

    READ_CHANNELS = auto()
    READ_STATUS = auto()
    IDENTIFY = auto()
    AUTOCAL = auto()
    LOOPBACK = auto()


class Availability(StrEnum):
    """Whether a capability can be used, as far as that is known without trying it."""

    AVAILABLE = "available"
    """It was seen to work."""
    UNAVAILABLE = "unavailable"
    """The communication mode lacks it, or the device refused it as a function that it does not know."""
    UNKNOWN = "unknown"
    """The mode has it, but it has not been used so far."""


class SafetyTier(StrEnum):
    """What an operation does to an analyser."""

    READONLY = "readonly"
    """It changes nothing: it never sends a request that writes."""
    STATEFUL = "stateful"
    """It writes, for example to start a calibration, and is refused without ``confirm=True``."""


class ChannelKind(StrEnum):
    """Where a channel's value comes from."""

    TRANSDUCER = "transducer"
    DERIVED = "derived"
    EXTERNAL_INPUT = "external_input"


class ChannelId(StrEnum):
    """A channel, in the order in which the analyser lists them.

    I1 to I4 are from the transducers, D1 to D4 are derived from them, E1 and E2 are external milliampere inputs
    (installation manual, table 3.7).
    """

    I1 = "I1"
    I2 = "I2"
    I3 = "I3"
    I4 = "I4"
    D1 = "D1"
    D2 = "D2"
    D3 = "D3"
    D4 = "D4"
    E1 = "E1"
    E2 = "E2"

    @classmethod
    def _missing_(cls, value: object) -> "ChannelId | None":
        """Find a channel by its id in any case, such as ``i1``."""
        return cls.__members__.get(value.upper()) if isinstance(value, str) and value.isascii() else None

    @property
    def kind(self) -> ChannelKind:
        """Where the channel's value comes from."""
        return _KINDS[self.value[0]]


_KINDS = {"I": ChannelKind.TRANSDUCER, "D": ChannelKind.DERIVED, "E": ChannelKind.EXTERNAL_INPUT}
EXTERNAL_CHANNELS = frozenset({ChannelId.E1, ChannelId.E2})


class Quality(StrEnum):
    """How far a value may be trusted, from the state that accompanies it.

    ``BAD``: it is missing, or its channel has a fault. ``UNCERTAIN``: maintenance, calibration or warm-up.
    """

    GOOD = "good"
    UNCERTAIN = "uncertain"
    BAD = "bad"


class CalPhase(StrEnum):
    """The phase of an autocalibration group: sample, or one of its two calibration gases.

    ``SAMPLING`` is sample while the group's calibration continues, as between its gases. The instrument does not
    show that: only the program that started the calibration knows it, see :meth:`Analyzer.calibration_status`. A
    group on sample is ``IDLE`` otherwise, also during a calibration that was started at the panel.
    """

    IDLE = "idle"
    SAMPLING = "sampling"
    CAL_GAS_1 = "cal_gas_1"
    CAL_GAS_2 = "cal_gas_2"


class ErrorPolicy(StrEnum):
    """What a manager of several analysers does with their errors: raise them in a group, or return them."""

    RAISE = "raise"
    RETURN = "return"


class OverflowPolicy(StrEnum):
    """What happens to readings that arrive faster than they are taken, once there is no more room for them.

    ``BLOCK`` delays the next reading, ``DROP_NEWEST`` drops the one that has just arrived, ``DROP_OLDEST`` the one
    that has waited longest.
    """

    BLOCK = "block"
    DROP_NEWEST = "drop_newest"
    DROP_OLDEST = "drop_oldest"


class StreamMode(StrEnum):
    """How a stream gets its readings: by polling at a rate, or by taking each broadcast."""

    POLL = "poll"
    AUTOPRINT = "autoprint"
