"""One policy for every thread of this package: named, owned, stoppable, joined, and never silent when it dies."""

import threading
from collections.abc import Callable

from servomex.errors import ServomexConfigurationError, ServomexError
from servomex.runtime.forks import ProcessBound
from servomex.runtime.locks import Signal
from servomex.runtime.logs import package_log

_log = package_log("servomex")

JOIN_S = 5.0
"""How long :meth:`Worker.stop` waits for the thread; every loop checks its stop event far more often."""


class Worker(ProcessBound):
    """A thread that runs one function until it is asked to stop.

    The function takes an event, checks it often and returns soon after it is set. An uncaught exception
    ends the thread, is kept in :attr:`error`, reported to ``on_death``, and logged. In a forked child, which
    has no copy of the thread, it counts as ended.

    Args:
        name: Name of the thread: its task and its port.
        run: The function.
        on_death: Called in the thread with the exception that ended it.

    Raises:
        ServomexConfigurationError: This interpreter does not support such threads.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[threading.Event], None],
        on_death: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.error: BaseException | None = None
        self.name = name
        self._stopping = threading.Event()
        self._ended = Signal()  # after Ctrl-C, Thread.join() takes a thread that still runs for one that ended
        self._run = run
        self._on_death = on_death
        try:
            self._thread = threading.Thread(target=self._guard, name=name, daemon=True)
        except RuntimeError as error:
            raise ServomexConfigurationError(
                f"this interpreter does not allow the thread {name!r} ({error}): use the main interpreter"
            ) from error

    def start(self) -> None:
        """Start the thread.

        Raises:
            ServomexError: The system or this interpreter cannot start another thread.
        """
        try:
            self._thread.start()
        except RuntimeError as error:
            raise ServomexError(
                f"the thread {self.name!r} cannot be started ({error}): this program has as many threads as the "
                "system allows, or runs in a subinterpreter that allows none"
            ) from error

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self.made_here and self._thread.ident is not None and not self._ended.is_set()

    @property
    def is_current(self) -> bool:
        """Whether the caller is this thread."""
        return self._thread is threading.current_thread()

    def join(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds for it to end by itself; return whether it has."""
        if not self.made_here:
            return True
        if not self._ended.wait(timeout):
            return False
        self._thread.join()
        return True

    def ask_to_stop(self) -> None:
        """Ask the thread to stop, without waiting for it."""
        self._stopping.set()

    def stop(self, timeout: float = JOIN_S) -> None:
        """Ask the thread to stop, and wait for it. May be called twice, and from the thread itself.

        Raises:
            ServomexError: The thread is still alive after ``timeout`` seconds.
        """
        if not self.made_here:
            return
        self.ask_to_stop()
        if self._thread.ident is None or self.is_current:
            return
        if not self.join(timeout):
            raise ServomexError(f"the thread {self._thread.name!r} did not end within {timeout:g} s")

    def _guard(self) -> None:
        try:
            self._run(self._stopping)
        except BaseException as error:  # noqa: BLE001 (whatever it is, its owner must hear of it)
            self.error = error
            try:
                if self._on_death is not None:
                    self._on_death(error)  # before the log, whose handlers are the program's
            finally:
                known = isinstance(error, ServomexError)  # its message is enough
                _log.error(
                    "the thread %r died%s", self.name, f": {error}" * known, exc_info=error if not known else None
                )
        finally:
            self._ended.set()
