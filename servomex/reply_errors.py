"""What is said when a Modbus request stays without a reply that can be believed: what happened, and what to do."""

import attrs

from servomex.clock import time
from servomex.durations import counted
from servomex.enums import ProtocolKind
from servomex.errors import (
    ErrorContext,
    ServomexError,
    ServomexFrameError,
    ServomexTimeoutError,
)
from servomex.linesigns import line_sign
from servomex.link import SerialLink
from servomex.link_client import (
    DamagedFault,
    DisputeFault,
    DoubleFault,
    EchoOnlyFault,
    GatewayFault,
    LinkClient,
    Query,
    ReplyFault,
    TimeUpFault,
    UnquietFault,
)
from servomex.pdu import refusal
from servomex.telegram import HEADER


@attrs.frozen
class Circumstances:
    """What an error tells of a request.

    Attributes:
        link: The port.
        framing: ``MODBUS_RTU`` or ``MODBUS_ASCII``.
        address: Slave address.
        query: The request.
        client: What sent it and received since; ``None`` when it was not sent.
        stray: Bytes that came and answered nothing.
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
    def hints(self) -> str:
        """What else is known of the line, as further sentences; empty when nothing is."""
        late, others = self.late_replies, str(self.link.others)
        texts = [others[:1].upper() + others[1:]] if others else []
        if late:
            replies = "1 late reply was" if late == 1 else f"{late} late replies were"
            texts.append(f"{replies} refused: allow a longer timeout")
        if self.retries is not None:
            texts.append(f"It was given up after {counted(self.retries, 'repetition')}: allow more retries")
        return "".join(f". {text}" for text in texts)


def failure_of(fault: ReplyFault, about: Circumstances) -> ServomexError:
    """Make the error of a request that stayed without a reply: what went wrong, who is at fault and what to do."""
    context, hints = about.context, about.hints
    if HEADER.search(about.stray):
        return ServomexFrameError(
            "the analyser is in continuous mode: it broadcasts by itself and answers nothing. "
            "Open it with protocol='continuous'",
            context,
        )
    if sign := line_sign(bytes(about.client.received) if about.client else b"") or line_sign(about.stray):
        return ServomexFrameError(sign, context)
    if isinstance(fault, GatewayFault):
        return refusal(fault.code, context)
    if isinstance(fault, TimeUpFault):
        return ServomexTimeoutError(f"the time was up before the reading was complete{hints}", context)
    if isinstance(fault, EchoOnlyFault):
        return ServomexTimeoutError(
            f"only the adapter's echo came back: no analyser answers at address {about.address}{hints}", context
        )
    if isinstance(fault, DoubleFault | DisputeFault | UnquietFault | DamagedFault):
        return ServomexFrameError(f"{_damage(fault, about)}{hints}", context)
    return ServomexTimeoutError(
        f"no reply from address {about.address}: check that the analyser is on, its communication mode, "
        f"address and serial settings, and the wiring{hints}",
        context,
    )


def _damage(fault: ReplyFault, about: Circumstances) -> str:
    if isinstance(fault, DoubleFault):
        return (
            f"two different replies came to one request: another device has the address {about.address} too. "
            "Give each its own"
        )
    if isinstance(fault, DisputeFault):
        return "the replies to one request differ each time it is repeated, so that none can be believed"
    if isinstance(fault, UnquietFault):
        return f"{fault}: the rest of a late reply, another master or noise is on it"
    return f"only damaged replies came ({fault}): check the wiring, the gap and the serial settings"
