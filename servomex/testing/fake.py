"""``FakeTransport``: a port in memory that answers requests by a script, in any order."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from servomex.errors import ServomexValidationError
from servomex.testing.memory import MemoryPort, is_loopback

Reply: TypeAlias = bytes | Sequence[bytes]
"""What arrives after a request: at once, or in pieces."""
Answer: TypeAlias = Callable[[bytes], Reply]
"""Returns the reply to a request; empty for none."""

PIECE_S = 0.005
"""Seconds between the pieces of a reply: typical of a USB adapter, and far too short to end the reply."""


class FakeTransport(MemoryPort):
    """A port in memory with the answers of an analyser. Pass it wherever a port is expected.

    Each request is answered every time it arrives, in any order. An unknown one gets no reply, as on a
    silent line; :attr:`writes` shows what was asked. Modbus loopbacks (function 08) are answered, as an analyser
    does, at each address and in the framing in which the script has another request: the driver sends them with a
    fresh number, so that no script can have their bytes::

        with FakeTransport({request: reply}) as port, open_device(port, protocol="modbus_rtu") as analyzer:
            ...

    In continuous mode there is nothing to answer: feed, schedule or emit frames.

    Args:
        script: The reply to each request, as bytes, as a sequence of pieces that arrive one after the other, or as
            a function that is called with the request and returns either. A function in place of the mapping
            is called with every request. An ``OSError`` that a function raises simulates the loss of the port.
        label: Its name in errors and rows.

    Raises:
        ServomexValidationError: A request or reply is something else, or the script or the label is.
    """

    def __init__(
        self, script: Mapping[bytes, Reply | Answer] | Answer | None = None, *, label: str = "fake://test"
    ) -> None:
        if not isinstance(label, str) or not label:
            raise ServomexValidationError(f"label must be a text that is not empty, not {label!r}")
        super().__init__(label)
        self._script: dict[bytes, Reply | Answer] = {}
        self._otherwise: Answer | None = None
        if callable(script):
            self._otherwise = script
        elif script is None or isinstance(script, Mapping):
            for request, reply in (script or {}).items():
                self.add_script(request, reply)
        else:
            raise ServomexValidationError(f"script must be a mapping of requests to replies, not {script!r}")

    @property
    def label(self) -> str:
        """Its name in errors and rows."""
        return self.port

    def add_script(self, request: bytes, reply: Reply | Answer) -> None:
        """Answer a request from now on, replacing its previous answer.

        Args:
            request: Its bytes, all of them.
            reply: As for the values of ``script``; empty for silence.

        Raises:
            ServomexValidationError: A request or reply is something else.
        """
        if not isinstance(request, bytes) or not request:
            raise ServomexValidationError(f"a request of a script must be bytes, not {request!r}")
        checked = reply if callable(reply) else _pieces(reply)
        with self._changed:
            self._script[request] = checked

    def _answer(self, request: bytes) -> None:
        with self._changed:
            reply = self._script.get(request, self._otherwise)
            if reply is None and is_loopback(request) and self._knows_place_of(request):
                reply = request
        pieces = _pieces(reply(request) if callable(reply) else reply or b"")
        with self._changed:
            self._arrive((PIECE_S * number, piece) for number, piece in enumerate(pieces))

    def _knows_place_of(self, request: bytes) -> bool:
        """Return whether the script has a request to the same address in the same framing."""
        place = request[:3] if request[:1] == b":" else request[:1]
        return any(known.startswith(place) for known in self._script)


def _pieces(reply: Reply) -> tuple[bytes, ...]:
    """Return the pieces of a reply.

    Raises:
        ServomexValidationError: It is something else.
    """
    pieces: Sequence[bytes] = [reply] if isinstance(reply, bytes) else reply
    if not isinstance(pieces, Sequence) or not all(isinstance(piece, bytes) for piece in pieces):
        raise ServomexValidationError(f"a reply must be bytes, a sequence of bytes or a function, not {reply!r}")
    return tuple(pieces)
