"""The errors of Modbus requests without a credible reply: what happened, and what to do."""

import attrs

from servomex.durations import counted
from servomex.enums import ProtocolKind
from servomex.errors import (
    Argument,
    ErrorContext,
    ServomexError,
    ServomexFrameError,
    ServomexTimeoutError,
)
from servomex.modbus.faults import (
    DamagedFault,
    DisputeFault,
    DoubleFault,
    EchoOnlyFault,
    GatewayFault,
    ReplyFault,
    TimeUpFault,
    UnquietFault,
)
from servomex.modbus.framing import LinkClient
from servomex.modbus.line import ModbusLine
from servomex.modbus.others import CURE
from servomex.modbus.query import Query
from servomex.port.link import SerialLink
from servomex.runtime.clock import time
from servomex.telegram import HEADER
from servomex.traffic.symptoms import symptom_of
from servomex.traffic.words import refusal


@attrs.frozen
class Circumstances:
    """The facts about a request that an error reports.

    Attributes:
        link: The port.
        framing: ``MODBUS_RTU`` or ``MODBUS_ASCII``.
        address: Slave address.
        query: The request.
        client: The client that sent it; ``None`` when it was not sent.
        stray: Bytes that arrived and answered nothing.
        late_replies: How many late replies were refused.
        retries: How often a request was repeated, when that ended the call before its deadline; else ``None``.
    """

    link: SerialLink
    framing: ProtocolKind
    address: int
    query: Query
    client: LinkClient | None
    stray: bytes
    late_replies: int
    retries: int | None

    @property
    def context(self) -> ErrorContext:
        """Where it happened."""
        return ErrorContext(
            port=self.link.port,
            protocol=self.framing.value,
            address=self.address,
            register=self.query.number,
            function_code=self.query.function,
            request=self.client.sent if self.client else None,
            response=bytes(self.client.received) if self.client else None,
            elapsed_s=time.monotonic() - self.link.talking_since,
        )

    @property
    def hints(self) -> "tuple[_Hint, ...]":
        """What else is known of the line."""
        late, others, hints = self.late_replies, self.link.state(ModbusLine).others, []
        if others.heard:
            hints.append(_Hint(others.seen, CURE))
        if late:
            longer = Argument("timeout")
            replies = "1 late reply was" if late == 1 else f"{late} late replies were"
            hints.append(_Hint(f"{replies} refused", f"Allow a longer {longer}", longer))
        if self.retries is not None:
            more = Argument("retries")
            given_up = f"it was given up after {counted(self.retries, 'repetition')}"
            hints.append(_Hint(given_up, f"Allow more {more}", more))
        return tuple(hints)


@attrs.frozen
class _Hint:
    """Something that is known of the line beside the fault, and what to do about it."""

    seen: str
    cure: str
    argument: Argument | None = None


def failure_of(fault: ReplyFault, about: Circumstances) -> ServomexError:
    """Return the error of a request without a reply: what went wrong, who is at fault and what to do."""
    context = about.context
    if HEADER.search(about.stray):
        mode = Argument("protocol", ProtocolKind.CONTINUOUS_ASCII)
        return ServomexFrameError(
            "the analyser is in continuous mode: it broadcasts by itself and answers nothing",
            context,
            cure=f"Open it with {mode}",
            argument=mode,
        )
    if symptom := symptom_of(bytes(about.client.received) if about.client else b"") or symptom_of(about.stray):
        return ServomexFrameError(symptom.seen, context, cure=symptom.cure)
    if isinstance(fault, GatewayFault):
        return refusal(fault.code, context)
    damaged = isinstance(fault, DoubleFault | DisputeFault | UnquietFault | DamagedFault)
    kind = ServomexFrameError if damaged else ServomexTimeoutError
    seen, cure = _damage(fault, about) if damaged else _silence(fault, about)
    hints = about.hints
    arguments = [hint.argument for hint in hints if hint.argument]
    return kind(
        "; ".join([seen, *(hint.seen for hint in hints)]),
        context,
        cure=". ".join(filter(None, [cure, *(hint.cure for hint in hints)])),
        argument=arguments[0] if len(arguments) == 1 else None,
    )


def _silence(fault: ReplyFault, about: Circumstances) -> tuple[str, str]:
    """Return what was seen of a request without a reply, and what to do."""
    if isinstance(fault, TimeUpFault):
        return "the time was up before the reading was complete", ""
    if isinstance(fault, EchoOnlyFault):
        return f"only the adapter's echo came back: no analyser answers at address {about.address}", (
            "Check that the analyser is on, its address, and the wiring"
        )
    return f"no reply from address {about.address}", (
        "Check that the analyser is on, its communication mode, address and serial settings, and the wiring"
    )


def _damage(fault: ReplyFault, about: Circumstances) -> tuple[str, str]:
    """Return what was seen of replies that cannot be believed, and what to do."""
    if isinstance(fault, DoubleFault):
        seen = f"one request got two different replies: another device has the address {about.address} too"
        return seen, "Give each device its own"
    if isinstance(fault, DisputeFault):
        return "the replies to one request differ each time it is repeated, so that none can be believed", ""
    if isinstance(fault, UnquietFault):
        return f"{fault}: the rest of a late reply, another master or noise is on it", ""
    return f"only damaged replies arrived ({fault})", "Check the wiring, the gap and the serial settings"
