"""Joining others on a port: all share one link and one framing, and each has an address of its own."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import attrs

from servomex.analyzer.analyzer import Analyzer
from servomex.enums import ProtocolKind
from servomex.errors import ErrorContext, ServomexConfigurationError, ServomexError, ServomexValidationError
from servomex.manager.member import Member
from servomex.manager.port import SharedPort
from servomex.manager.reaching import Awaited, Options
from servomex.port.link import GAP_S, SerialLink
from servomex.port.names import device_of
from servomex.port.transport import Transport, port_and_settings
from servomex.settings import SerialSettings

Source: TypeAlias = str | os.PathLike[str] | SerialSettings | Transport | SerialLink | Analyzer


@attrs.frozen(eq=False)
class Entry:
    """An analyser of a manager with its port.

    Attributes:
        member: The analyser.
        port: The port that it is on, whose thread reads it.
    """

    member: Member
    port: SharedPort


def port_identity(port: str, *, windows: bool = os.name == "nt") -> str:
    """Return the same text for every name that a port currently has."""
    with contextlib.suppress(ServomexError):  # usb:SERIAL while the adapter is away
        port = device_of(port)
    if "://" in port:
        return port
    return port.removeprefix("\\\\.\\").upper() if windows else os.path.realpath(port)


def link_for(source: Source, in_use: Iterable[SerialLink], options: Options) -> SerialLink:
    """Return the link of a source; for a port that is not in use, a new one that is not open yet.

    Raises:
        ServomexConfigurationError: Its port is in use through another link.
        ServomexValidationError: It is not a source, or the gap is out of range.
    """
    links = list(in_use)
    if isinstance(source, SerialLink | Analyzer):
        link = source.link if isinstance(source, Analyzer) else source
        if _in_use(link.port, link.transport, links) not in (None, link):
            raise _two_links(link.port)
        return link
    name, transport, _ = port_and_settings(source, options.serial_settings)
    found = _in_use(name, transport, links)
    if found and transport and found.transport is not transport:
        raise _two_links(name)
    gap_s = GAP_S if options.gap is None else options.gap
    auto_reconnect = options.auto_reconnect is not False
    return found or SerialLink(source, options.serial_settings, gap=gap_s, auto_reconnect=auto_reconnect)


def _two_links(port: str) -> ServomexConfigurationError:
    return ServomexConfigurationError(
        "the port is in use here already, and two links to one port would mix up its bytes: add the analyser "
        "by the name of the port",
        ErrorContext(port=port),
    )


def _in_use(port: str, transport: Transport | None, links: list[SerialLink]) -> SerialLink | None:
    """Return the link to a port; open ports that were passed in are compared as objects, not by name."""
    for link in links:
        if transport is not None and link.transport is not None:
            if link.transport is transport:
                return link
        elif port_identity(link.port) == port_identity(port):
            return link
    return None


def mode_for(link: SerialLink, here: Sequence[Member], source: Source, options: Options) -> ProtocolKind:
    """Return the mode in which a source may be opened beside those on its link; ``AUTO`` for any.

    Raises:
        ServomexConfigurationError: The port is used in another mode or with other settings.
        ServomexValidationError: The address is taken.
    """
    if isinstance(source, Analyzer):
        if options != Options():
            raise ServomexConfigurationError(
                "an Analyzer is open already: pass its protocol, address, tags and other options where it is "
                "opened",
                ErrorContext(link.port, source.protocol),
            )
        return mode_beside(here, source.protocol, source.mode.address, link.port)
    _check_same(link, source if isinstance(source, SerialSettings) else options.serial_settings, options)
    if link.has_reader and not here:
        raise ServomexConfigurationError(
            "an analyser in continuous mode is read on this port already: it must be alone there",
            ErrorContext(port=link.port),
        )
    return mode_beside(here, options.protocol, options.address, link.port)


def _check_same(link: SerialLink, settings: SerialSettings | None, options: Options) -> None:
    for what, asked, used in (
        ("serial_settings", settings and attrs.evolve(settings, port=link.settings.port), link.settings),
        ("gap", options.gap, link.gap_s),
        ("auto_reconnect", options.auto_reconnect, link.auto_reconnect),
    ):
        if asked is not None and asked != used:
            raise ServomexConfigurationError(
                f"the port is in use with {what} {used}, not {asked}: omit it, or release the port first",
                ErrorContext(port=link.port),
            )


def mode_beside(here: Sequence[Member], protocol: ProtocolKind, address: int | None, port: str) -> ProtocolKind:
    """Return the mode for an analyser beside those on its port; ``AUTO`` if none of theirs is known.

    Raises:
        ServomexConfigurationError: The port is used in another mode.
        ServomexValidationError: The address is taken.
    """
    if not here:
        return protocol
    used = next((item.protocol for item in here if item.protocol is not ProtocolKind.AUTO), ProtocolKind.AUTO)
    names = ", ".join(member.name for member in here)
    context = ErrorContext(port, protocol, address)
    if ProtocolKind.CONTINUOUS_ASCII in (used, protocol):
        raise ServomexConfigurationError(
            f"an analyser in continuous mode must be alone on its port, and {names} is there in {used}", context
        )
    if used is not protocol and ProtocolKind.AUTO not in (used, protocol):
        raise ServomexConfigurationError(
            f"all analysers on a port must be in the same mode, and {names} is there in {used}", context
        )
    for member in here:
        if member.address == address:
            raise ServomexValidationError(
                f"the address is taken by {member.name}: each may occur once on a port", context
            )
    return protocol if used is ProtocolKind.AUTO else used


@contextlib.contextmanager
def joined(
    name: str,
    source: Source,
    options: Options,
    entries: Iterable[Entry],
    *,
    wait: bool,
    watch: Callable[[SerialLink], None],
) -> Iterator[Entry]:
    """Check whether a source can join the analysers here; open its port if need be, and its analyser.

    The body of the ``with`` statement registers the analyser. If that or anything before fails, nothing stays
    open.

    Args:
        name: The analyser's name.
        source: What is to join.
        options: How it is to be opened.
        entries: The analysers that are here.
        wait: Wait for it, and raise an error if it or its port is not there.
        watch: Called with a port before and after it is opened here; raises when it is no longer wanted.

    Raises:
        ServomexError: As :meth:`ServomexManager.add` does.
    """
    ports = {entry.port.link: entry.port for entry in entries}
    link = link_for(source, ports, options)
    shared = ports.get(link)
    protocol = mode_for(link, shared.members if shared else (), source, options)
    with contextlib.ExitStack() as undo:
        port = shared or SharedPort(link, owned=not isinstance(source, SerialLink | Analyzer))
        missing = None
        if not shared:
            undo.callback(port.close)
        if port.owned:
            watch(link)
            missing = None if shared else port.open(wait=wait)
            watch(link)
        analyser = _analyser_of(name, source, options, link, protocol, missing, wait=wait)
        member = Member(name, analyser, link, owned=analyser is not source)
        undo.callback(member.close)
        if not shared:
            port.start()
        undo.callback(port.remove, member)
        with port.joining:  # once more: what was waited for may have been found meanwhile
            mode_beside(port.members, member.protocol, member.address, link.port)
            port.add(member)
        yield Entry(member, port)
        undo.pop_all()


def _analyser_of(
    name: str,
    source: Source,
    options: Options,
    link: SerialLink,
    protocol: ProtocolKind,
    missing: ServomexError | None,
    *,
    wait: bool,
) -> Analyzer | Awaited:
    if isinstance(source, Analyzer):
        return source
    return options.open(name, link, protocol) if wait else Awaited(name, link, options, protocol, missing)


def leave(entry: Entry) -> None:
    """Remove an analyser from its port, and close what was opened for it: with the last one, the port.

    Raises:
        ServomexError: The thread of its port did not end.
    """
    member, port = entry.member, entry.port
    member.removed = True
    port.remove(member)
    with contextlib.ExitStack() as rest:  # the last callback runs first
        if not port.members:
            port.end()
            rest.callback(port.close)
        rest.callback(member.close)
