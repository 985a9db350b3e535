"""Log messages whose handlers cannot disturb the package: a thread that reports a loss must not die from it."""

import contextlib
import logging
import sys
import traceback
from typing import TYPE_CHECKING, Any

from servomex.runtime.signals import pass_on_interruption

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter


class PackageLog(_Adapter):
    """A logger of this package. Exceptions of the program's handlers and filters are not raised here.

    They are written to stderr, as :mod:`logging` does, or dropped when ``logging.raiseExceptions`` is false.
    """

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        """Log a message as ``logging.Logger.log`` does."""
        if not self.isEnabledFor(level):
            return
        try:
            self.logger.log(level, msg, *args, stacklevel=2, **options)
        except Exception as error:  # noqa: BLE001 (it is the handler's own, and reported)
            pass_on_interruption(error)
            if logging.raiseExceptions and sys.stderr is not None:
                with contextlib.suppress(OSError, ValueError):  # stderr is closed, or its reader is gone
                    traceback.print_exception(error)


def package_log(name: str) -> PackageLog:
    """Return the logger of a name whose handlers cannot disturb the program."""
    return PackageLog(logging.getLogger(name), {})
