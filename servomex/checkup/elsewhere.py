"""Finding the analyser of a line: its mode or, when it does not answer where it should, what answers elsewhere."""

import contextlib
from collections.abc import Callable, Iterable

import attrs

from servomex.analyzer.detect import FRAMINGS, BroadcastListener, Detection, detect
from servomex.discovery.survey import Found, Place, Survey
from servomex.enums import ProtocolKind
from servomex.errors import (
    Argument,
    ErrorContext,
    ServomexConfigurationError,
    ServomexError,
    ServomexNotFoundError,
    ServomexProtocolError,
    ServomexTimeoutError,
)
from servomex.modbus.line import ModbusLine
from servomex.port.link import SerialLink

ADDRESSES = range(1, 11)
"""The addresses that are searched when an analyser does not answer at its own."""
BAUDRATES = (2400, 4800, 9600, 19200)
"""What the analyser offers (installation manual, section 3.4)."""
BROADCAST_S = 2.5
"""How long to listen for a broadcast at another baud rate, on a line with unrequested bytes."""

Report = Callable[[str], None]


def find(
    link: SerialLink, address: int, listener: BroadcastListener, listen_s: float, report: Report
) -> Detection:
    """Find the mode of the analyser at an address, by reads only; otherwise raise an error with what was found.

    If nothing answers, try other addresses and other baud rates; the port is closed after that.

    Args:
        link: An open port.
        address: Modbus slave address.
        listener: What was heard on the line so far.
        listen_s: Seconds to wait for a broadcast, or for an answer at this address.
        report: Called with a text about each step before it is tried.

    Raises:
        ServomexNotFoundError: Nothing was found, or an analyser elsewhere.
        ServomexProtocolError: The device that answers is not an analyser, or not alone at its address.
        ServomexConnectionError: The port was lost.
    """
    if listener.frame is not None:
        return Detection(ProtocolKind.CONTINUOUS_ASCII, listener.frame)
    report(f"looking for an analyser at address {address}, for {listen_s:.0f} s at most")
    try:
        with link.tap(listener.feed):
            found = detect(link, address, listen=listen_s)
    except ServomexNotFoundError as error:
        if listener.broadcast or listener.symptom:
            raise
        raise _elsewhere(link, address, listener, report) or _nowhere(link, error) from error
    if found.frame is None:
        report(f"identifying what answers at address {address}")
        for item in _survey(link, [Place(address, found.protocol)]):
            if isinstance(item.error, ServomexProtocolError):
                raise item.error
    return found


def _elsewhere(
    link: SerialLink, address: int, listener: BroadcastListener, report: Report
) -> ServomexError | None:
    """Try other addresses and baud rates, first where the bytes received suggest it."""
    unrequested = listener.bytes_heard > 0 and not link.state(ModbusLine).echo
    if unrequested:
        return _at_other_rates(link, address, BROADCAST_S, report) or _at_other_addresses(
            link, address, listener, report
        )
    return _at_other_addresses(link, address, listener, report) or _at_other_rates(link, address, None, report)


def _at_other_addresses(
    link: SerialLink, address: int, listener: BroadcastListener, report: Report
) -> ServomexError | None:
    asked = sorted({*ADDRESSES, address})
    report(f"asking the addresses {asked[0]} to {asked[-1]}")
    with link.open().tap(listener.feed):
        found = _survey(link, [Place(item, framing) for item in asked for framing in FRAMINGS])
    if listener.broadcast:
        longer = Argument("listen")
        seen = "a broadcast arrived only now: the analyser is in continuous mode"
        return _misplaced(link, seen, f"Use a longer {longer}", longer)
    here = [item for item in found if item.address == address]
    if any(item.info or isinstance(item.error, ServomexTimeoutError) for item in here):
        longer = Argument("gap", round(max(0.1, 2 * link.gap_s), 3))
        seen = f"the device at address {address} answers only intermittently"
        return _misplaced(link, seen, f"Try a longer gap, such as {longer}, and check the wiring", longer)
    there = [item.address for item in found if item.info]
    if not there:
        return next((item.error for item in (*here, *found) if item.error), None)
    choices = [Argument("address", item) for item in there]
    if len(there) == 1:
        seen = f"an analyser answers at address {there[0]}, not {address}"
        return _misplaced(link, seen, f"Use {choices[0]}, or set address {address} on its panel", choices[0])
    seen = f"analysers answer at the addresses {', '.join(map(str, there))}, not {address}"
    return _misplaced(link, seen, f"Use {' or '.join(map(str, choices))}", Argument("address"))


def _at_other_rates(
    link: SerialLink, address: int, listen_s: float | None, report: Report
) -> ServomexError | None:
    if not _has_rates(link):
        return None
    link.close()
    used = link.settings.baudrate
    for rate in BAUDRATES:
        if rate != used and any(item.info for item in _survey_at(link, rate, address, listen_s, report)):
            right = Argument("baudrate", rate)
            seen = f"an analyser is heard at {rate} baud, not {used}"
            return _misplaced(link, seen, f"Use {right}, or set {used} baud on its panel", right)
    return None


def _survey_at(link: SerialLink, rate: int, address: int, listen_s: float | None, report: Report) -> list[Found]:
    """Ask an address at another baud rate, which an adapter may not support."""
    report(f"trying {rate} baud")
    settings = attrs.evolve(link.settings, baudrate=rate)
    places = [Place(address, framing) for framing in FRAMINGS]
    with (
        contextlib.suppress(ServomexConfigurationError),
        SerialLink(link.port, settings, gap=link.gap_s, auto_reconnect=False, trace=link.trace) as other,
    ):
        return _survey(other, places, listen_s)
    return []


def _survey(link: SerialLink, places: Iterable[Place], listen_s: float | None = None) -> list[Found]:
    survey = Survey(link, list(places), listen_s, lambda: None)
    survey.run()
    return survey.findings


def _nowhere(link: SerialLink, error: ServomexNotFoundError) -> ServomexNotFoundError:
    """Return the error that says that nothing answered anywhere else either."""
    rates = [str(rate) for rate in BAUDRATES if rate != link.settings.baudrate] if _has_rates(link) else []
    tried = [f"the addresses {ADDRESSES[0]} to {ADDRESSES[-1]}", *([f"{', '.join(rates)} baud"] if rates else [])]
    return ServomexNotFoundError(
        f"{error.message}; nothing answered at {', or at '.join(tried)} either",
        error.context,
        cure=error.cure,
        argument=error.argument,
    )


def _has_rates(link: SerialLink) -> bool:
    """Return whether the baud rate is this computer's to choose; on a plain socket it is the server's."""
    return not link.port.lower().startswith("socket://")


def _misplaced(link: SerialLink, seen: str, cure: str, argument: Argument) -> ServomexNotFoundError:
    return ServomexNotFoundError(seen, ErrorContext(port=link.port), cure=cure, argument=argument)
