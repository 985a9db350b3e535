"""One call of a manager: the work for each analyser, on each port, and the results."""

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import attrs

from servomex.errors import ServomexError, ServomexValidationError
from servomex.errors.excerpts import shown
from servomex.manager.member import Member
from servomex.models.plain import json_value
from servomex.models.sample import Sample
from servomex.runtime.clock import time
from servomex.runtime.locks import Signal

T = TypeVar("T")
V = TypeVar("V")

WAKE_S = 0.2
"""How often a waiting caller wakes up: on Windows, Ctrl-C does not end the wait for a lock."""


@attrs.frozen
class DeviceResult(Generic[T]):
    """The result of one analyser of a manager: a value or an error, never both.

    Attributes:
        value: The value; ``None`` after an error, or if the operation returned ``None``.
        error: Why there is no value; ``None`` when all went well. For a reading it is a :class:`ServomexError`,
            whose context has the port, the address and the name, ``extra["device"]``; for
            :meth:`ServomexManager.execute_each` whatever the operation raised.
        name: The analyser's name in its manager.
    """

    value: T | None = None
    error: Exception | None = None
    name: str = ""

    @classmethod
    def success(cls, value: V) -> "DeviceResult[V]":
        """Return the result of an analyser that returned a value."""
        return DeviceResult(value)

    @classmethod
    def failure(cls, error: Exception) -> "DeviceResult[Any]":
        """Return the result of an analyser that failed.

        Raises:
            ServomexValidationError: It is not an exception; ``None`` would make the result a success.
        """
        if not isinstance(error, Exception):
            raise ServomexValidationError(
                f"error must be an exception, not {shown(error)}",
                cure="Use DeviceResult.success(value) for an operation that went well, whatever it returned",
            )
        return DeviceResult(error=error)

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object: the error as its text and the name of its class.

        Raises:
            ServomexValidationError: The value has no JSON form.
        """
        return {
            "name": json_value(self.name),
            "ok": self.ok,
            "value": json_value(self.value),
            "error": None if self.error is None else json_value(str(self.error)),
            "error_type": None if self.error is None else type(self.error).__name__,
        }

    @property
    def ok(self) -> bool:
        """Whether there was no error."""
        return self.error is None

    def __str__(self) -> str:
        """Return the result as text, after the name of the analyser."""
        what = self.value if self.error is None else str(self.error) or type(self.error).__name__
        return f"{self.name}: {what}" if self.name else str(what)


@attrs.define(eq=False)
class Round(Generic[T]):
    """One call of a manager: the work for each analyser, and the results so far.

    Attributes:
        work: Done with each analyser, in its port's thread.
        reads: Whether it only reads, so that nothing needs to be tried on a lost port.
        results: The results by the analyser's name.
        stopped: Whether the remaining analysers are skipped.
        fatal: What ``work`` raised if it is not an ``Exception``, such as ``SystemExit``.
    """

    work: Callable[[Member], T]
    reads: bool
    results: dict[str, DeviceResult[T]] = attrs.field(factory=dict)
    stopped: bool = False
    fatal: BaseException | None = None

    def is_answered_by(self, member: Member) -> bool:
        """Note the error of an analyser that was tried but not reached; return whether this is one."""
        awaited = member.awaited
        if awaited is None or not awaited.is_tried or not (self.reads or awaited.analyzer is None):
            return False
        self.results[member.name] = DeviceResult(error=awaited.error(), name=member.name)
        return True

    def ask(self, member: Member, loss: ServomexError | None) -> None:
        """Do the work with one analyser, unless its port is lost, and keep the result."""
        name = member.name
        try:
            if loss is None:
                self.results[name] = DeviceResult(self.work(member), name=name)
            else:
                self.results[name] = DeviceResult(error=loss.with_context(device=name), name=name)
        except ServomexError as error:
            self.results[name] = DeviceResult(error=error.with_context(device=name), name=name)
        except Exception as error:  # noqa: BLE001 (it is the result)
            self.results[name] = DeviceResult(error=error, name=name)
        except BaseException as error:  # noqa: BLE001 (it is raised in the caller's thread)
            self.fatal, self.stopped = error, True


class PortRound:
    """The part of a round that is done on one port.

    Args:
        asked: The round.
        members: The analysers on this port, in order.
    """

    def __init__(self, asked: Round[Any], members: list[Member]) -> None:
        self.asked = asked
        self.members = members
        self._ended = Signal()
        self._mutex = threading.Lock()

    def end(self) -> None:
        """Release the caller, with the results so far. May be called twice, and by any thread."""
        with self._mutex:
            self._ended.set()

    def wait(self) -> None:
        """Wait for the end."""
        while not self._ended.wait(WAKE_S):
            pass


def raise_failures(results: Mapping[str, DeviceResult[Any]]) -> None:
    """Raise the errors of a call together, if there are any.

    Raises:
        ExceptionGroup: Some analysers failed.
    """
    failures = {name: result.error for name, result in results.items() if result.error is not None}
    if not failures:
        return
    for name, error in failures.items():
        if not isinstance(error, ServomexError):  # it has no context
            error.add_note(f"the analyser was {name!r}")
    raise ExceptionGroup(
        f"{len(failures)} of {len(results)} analysers failed: {', '.join(failures)}", list(failures.values())
    )


def failed_row(member: Member, error: Exception | None) -> Sample:
    """Return the row that takes the place of a failed reading."""
    return Sample(
        member.name,
        member.protocol,
        datetime.now(UTC),
        time.monotonic_ns(),
        error=error,
        metadata=member.tags,
    )
