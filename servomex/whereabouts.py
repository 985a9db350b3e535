"""Where the analyser of a line is: its mode, and when nothing answers where it should, what answers elsewhere."""

import contextlib
from collections.abc import Callable, Iterable

import attrs

from servomex.detect import FRAMINGS, Detection, Ear, detect
from servomex.enums import ProtocolKind
from servomex.errors import (
    ErrorContext,
    ServomexConfigurationError,
    ServomexError,
    ServomexFrameError,
    ServomexProtocolError,
    ServomexTimeoutError,
)
from servomex.link import SerialLink
from servomex.survey import Found, Place, Survey

ADDRESSES = range(1, 11)
"""Where an analyser is looked for that does not answer at its address."""
BAUDRATES = (2400, 4800, 9600, 19200)
"""What the analyser offers (installation manual, section 3.4)."""
BROADCAST_S = 2.5
"""How long another baud rate is listened to for a broadcast, on a line from which bytes came unasked."""

Say = Callable[[str], None]


def find(link: SerialLink, address: int, ear: Ear, listen_s: float, say: Say) -> Detection:
    """Find the mode of the analyser at an address, by reads only; else say what there is in its place.

    Where nothing answers, other addresses and other baud rates are asked. The port is closed behind that.

    Args:
        link: An open port.
        address: Modbus slave address.
        ear: What was heard on the line so far.
        listen_s: Seconds to wait for a broadcast, or for an answer at this address.
        say: Is told what is being tried.

    Raises:
        ServomexTimeoutError: Nothing was found, or an analyser elsewhere.
        ServomexProtocolError: Who answers is no analyser, or not alone at its address.
        ServomexConnectionError: The port was lost.
    """
    if ear.frame is not None:
        return Detection(ProtocolKind.CONTINUOUS_ASCII, ear.frame)
    say(f"looking for an analyser at address {address}, for {listen_s:.0f} s at most")
    try:
        with link.tap(ear.hear):
            found = detect(link, address, listen=listen_s)
    except ServomexTimeoutError as error:
        if ear.broadcast or ear.sign:
            raise
        raise _elsewhere(link, address, ear, say) or _nowhere(link, error) from error
    if found.frame is None:
        say(f"looking at what answers at address {address}")
        for item in _survey(link, [Place(address, found.protocol)]):
            if isinstance(item.error, ServomexProtocolError):
                raise _with_cure(item)
    return found


def _elsewhere(link: SerialLink, address: int, ear: Ear, say: Say) -> ServomexError | None:
    """Look at other addresses and baud rates; first at those of which what came speaks."""
    unasked = ear.bytes_heard > 0 and not link.echo
    if unasked:
        return _at_other_rates(link, address, BROADCAST_S, say) or _at_other_addresses(link, address, ear, say)
    return _at_other_addresses(link, address, ear, say) or _at_other_rates(link, address, None, say)


def _at_other_addresses(link: SerialLink, address: int, ear: Ear, say: Say) -> ServomexError | None:
    asked = sorted({*ADDRESSES, address})
    say(f"asking the addresses {asked[0]} to {asked[-1]}")
    with link.open().tap(ear.hear):
        found = _survey(link, [Place(item, framing) for item in asked for framing in FRAMINGS])
    if ear.broadcast:
        return _misplaced(
            link, "a broadcast came only now: the analyser is in continuous mode. Use a longer --listen"
        )
    here = [item for item in found if item.address == address]
    if any(item.info or isinstance(item.error, ServomexTimeoutError) for item in here):
        longer = f"Try a longer gap, such as --gap {max(0.1, 2 * link.gap_s):g}, and check the wiring"
        return _misplaced(link, f"who is at address {address} answers only now and then. {longer}")
    there = [item.address for item in found if item.info]
    if not there:
        return next((_with_cure(item) for item in (*here, *found) if item.error), None)
    if len(there) == 1:
        cure = f"Use --address {there[0]}, or set address {address} on its panel"
        return _misplaced(link, f"an analyser answers at address {there[0]}, not {address}. {cure}")
    cure = f"Use --address {' or --address '.join(map(str, there))}"
    return _misplaced(
        link, f"analysers answer at the addresses {', '.join(map(str, there))}, not {address}. {cure}"
    )


def _at_other_rates(link: SerialLink, address: int, listen_s: float | None, say: Say) -> ServomexError | None:
    if not _has_rates(link):
        return None
    link.close()
    used = link.settings.baudrate
    for rate in BAUDRATES:
        if rate != used and any(item.info for item in _survey_at(link, rate, address, listen_s, say)):
            cure = f"Use --baudrate {rate}, or set {used} baud on its panel"
            return _misplaced(link, f"an analyser is heard at {rate} baud, not {used}. {cure}")
    return None


def _survey_at(link: SerialLink, rate: int, address: int, listen_s: float | None, say: Say) -> list[Found]:
    """Ask an address at another baud rate; an adapter may not have it."""
    say(f"trying {rate} baud")
    settings = attrs.evolve(link.settings, baudrate=rate)
    places = [Place(address, framing) for framing in FRAMINGS]
    with (
        contextlib.suppress(ServomexConfigurationError),
        SerialLink(link.port, settings, gap=link.gap_s, reconnect=False, trace=link.trace) as other,
    ):
        return _survey(other, places, listen_s)
    return []


def _survey(link: SerialLink, places: Iterable[Place], listen_s: float | None = None) -> list[Found]:
    survey = Survey(link, list(places), listen_s, lambda: None)
    survey.run()
    return survey.findings


def _nowhere(link: SerialLink, error: ServomexTimeoutError) -> ServomexTimeoutError:
    """Say that nothing answered anywhere else either."""
    seen, _, cure = error.message.rpartition(". ")
    rates = [str(rate) for rate in BAUDRATES if rate != link.settings.baudrate] if _has_rates(link) else []
    tried = [f"the addresses {ADDRESSES[0]} to {ADDRESSES[-1]}", *([f"{', '.join(rates)} baud"] if rates else [])]
    return ServomexTimeoutError(f"{seen}; nor did anything at {', or at '.join(tried)}. {cure}", error.context)


def _has_rates(link: SerialLink) -> bool:
    """Whether the baud rate is this computer's to choose; on a plain socket it is the server's."""
    return not link.port.lower().startswith("socket://")


def _with_cure(found: Found) -> ServomexError:
    """Say what to do about a device that is no analyser, or is not alone at its address."""
    error = found.error
    assert error is not None  # noqa: S101 (only such a finding comes here)
    if found.advised:
        return error
    cure = "Look which instrument this cable leads to"
    if isinstance(error, ServomexFrameError):
        cure = "Switch one of them off, and give each an address of its own on its panel"
    elif isinstance(error, ServomexTimeoutError):
        cure = "Check the wiring, and its gap with servomex diag gap"
    return type(error)(f"{error.message}. {cure}", error.context)


def _misplaced(link: SerialLink, text: str) -> ServomexTimeoutError:
    return ServomexTimeoutError(text, ErrorContext(port=link.port))
