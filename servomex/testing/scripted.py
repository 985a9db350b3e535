"""``ScriptedPort``: a port that follows a strict script."""

from collections import deque
from collections.abc import Iterable
from types import TracebackType

from servomex.errors import ServomexValidationError
from servomex.errors.validation import flag
from servomex.testing.memory import MemoryPort, is_loopback


class ScriptedPort(MemoryPort):
    """A port of pyserial that follows a script: it expects requests and sends the replies.

    Pass it wherever a port is expected. One call of :meth:`write` is one request. An unexpected one
    fails at once, and :meth:`check` fails when part of the script is left over. As a context
    manager it is closed and checked at the end of the block::

        with ScriptedPort([(request, reply)]) as port:
            ...

    If the order of requests does not matter, or some are unknown, use :class:`FakeTransport`.

    Args:
        dialogue: Pairs of the request that is expected and the reply that follows; an empty reply is silence.
        loopbacks: Answer Modbus loopbacks (function 08) that the script does not name, as an analyser does. The
            driver sends one with a fresh number before it believes a line, so that no script can have its bytes.

    Raises:
        ServomexValidationError: The dialogue is something else.
    """

    def __init__(self, dialogue: Iterable[tuple[bytes, bytes]] = (), *, loopbacks: bool = False) -> None:
        super().__init__("scripted")
        self._dialogue = deque(_exchanges(dialogue))
        self._loopbacks = flag(loopbacks, "loopbacks")
        self._failure: str | None = None

    def check(self) -> None:
        """Fail if the script was broken, part of it did not happen, or bytes were not read.

        A request that the script did not expect fails here again: it may have been written in a thread, or by a
        program that hides errors.

        Raises:
            AssertionError: The message says what is left over.
        """
        with self._changed:
            self._take_arrived()
            if self._failure:
                raise AssertionError(self._failure)
            if self._dialogue:
                raise AssertionError(f"{len(self._dialogue)} requests of the script were never sent")
            if self._input:
                raise AssertionError(f"{bytes(self._input)!r} was never read")
            if self._coming:
                raise AssertionError(f"{b''.join(data for _, data in self._coming)!r} is still on its way")

    def write(self, data: bytes, /) -> int:
        """Accept a request and deliver its reply.

        Returns:
            The number of bytes written: all of them.

        Raises:
            AssertionError: It is not the request that the script expects next.
            serial.PortNotOpenError: The port was closed.
        """
        return super().write(data)

    def _answer(self, request: bytes) -> None:
        with self._changed:
            expected = self._dialogue[0][0] if self._dialogue else None
            if request == expected:
                self.feed(self._dialogue.popleft()[1])
            elif self._loopbacks and is_loopback(request):
                self.feed(request)
            else:
                raise AssertionError(self._fail(request, expected))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        if error is None:
            self.check()
        elif self._failure and self._failure not in str(error):
            error.add_note(self._failure)

    def _fail(self, request: bytes, expected: bytes | None) -> str:
        """Note the first request that broke the script, and return what is wrong with this one."""
        wanted = "nothing" if expected is None else expected.hex(" ")
        text = f"{request.hex(' ')} was written where the script expects {wanted}"
        self._failure = self._failure or text
        return text


def _exchanges(dialogue: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the exchanges of a dialogue.

    Raises:
        ServomexValidationError: It is something else.
    """
    exchanges: list[object] = list(dialogue) if isinstance(dialogue, Iterable) else [dialogue]
    pairs: list[tuple[bytes, bytes]] = []
    for exchange in exchanges:
        match exchange:
            case (bytes() as request, bytes() as reply):
                pairs.append((request, reply))
            case _:
                raise ServomexValidationError(
                    f"a dialogue must be a list of pairs of bytes, (request, reply), but has {exchange!r}"
                )
    return pairs
