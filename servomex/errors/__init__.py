"""The errors of this package: who is at fault, where, and what to do.

::

    ServomexError
    ├── ServomexConfigurationError (ValueError)   the request cannot be met
    │   ├── ServomexValidationError               an argument is out of range or unknown
    │   │   ├── ServomexChannelNotFoundError (LookupError)   the analyser does not show this channel
    │   │   └── ServomexNoFrameError              (also a TimeoutError) a snapshot before the first frame
    │   └── ServomexConfirmationRequiredError     confirm=True is missing
    ├── ServomexTransportError                    the line
    │   ├── ServomexTimeoutError (TimeoutError)   nothing usable arrived in time
    │   │   └── ServomexStaleError                only an old broadcast is at hand
    │   └── ServomexConnectionError (ConnectionError)   the port is missing, busy, forbidden or lost
    │       └── ServomexNotFoundError             (also a TimeoutError) protocol='auto' finds no analyser
    ├── ServomexProtocolError                     the bytes received are not as they should be
    │   ├── ServomexParseError (ValueError)       the bytes received cannot be read or believed
    │   │   ├── ServomexChecksumError             a broadcast is complete, but its checksum is wrong
    │   │   └── ServomexFrameError                broken structure: of a broadcast, or of a Modbus reply
    │   ├── ServomexModbusError                   the analyser refused: an exception reply
    │   │   ├── ServomexIllegalFunctionError      exception 01 (also a ServomexCapabilityError)
    │   │   ├── ServomexIllegalDataAddressError   exception 02
    │   │   ├── ServomexIllegalDataValueError     exception 03
    │   │   └── ServomexGatewayError              exceptions 0A and 0B: a gateway has no answer from the analyser
    │   ├── ServomexForeignDeviceError            the device is not an analyser of the 4000 series
    │   ├── ServomexChannelError                  a channel is gone, or has another name or unit
    │   └── ServomexProtocolUnsupportedError      the mode cannot do this (also a ServomexCapabilityError)
    ├── ServomexCapabilityError                   not available on this device or in this mode
    ├── ServomexCalibrationError                  an autocalibration did not start or end as requested
    └── ServomexSinkError                         the files of a recording
        ├── ServomexSinkSchemaError (ValueError)  a file, or a sample, does not hold what it should
        ├── ServomexSinkWriteError (OSError)      a file cannot be written
        │   └── ServomexSinkSyncError             it is written, but may not survive a loss of power
        ├── ServomexSinkReadError (OSError)       a file is missing or cannot be read
        ├── ServomexGapError                      rows are missing here (in rows, never raised)
        └── ServomexSinkDependencyError (ImportError)   a package is not installed (also a configuration error)

Every error says what to do as data: ``cure`` is the advice, and ``argument`` the :class:`Argument` to change, if
that is the advice. ``str()`` shows the message, the advice and the :class:`ErrorContext`.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from servomex.errors.tree import *  # noqa: F403
else:

    def __getattr__(name: str) -> object:
        # Not when this folder is imported: one thread may import it while another imports a module in it.
        tree = importlib.import_module("servomex.errors.tree")
        if name != "__all__" and name not in tree.__all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(tree, name)

    def __dir__() -> list[str]:
        return sorted({*__getattr__("__all__"), *(name for name in globals() if name.startswith("__"))})
