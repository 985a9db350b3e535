"""open_device and open_continuous: opening a port, finding the mode, and checking that an analyser is there."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from servomex.analyzer.analyzer import Analyzer
from servomex.enums import ChannelId, ProtocolKind
from servomex.errors import (
    ServomexChannelError,
    ServomexConfigurationError,
    ServomexTimeoutError,
)
from servomex.errors.validation import choice, flag, seconds, whole
from servomex.models.frame import Frame
from servomex.models.naming import asked_channels, needed
from servomex.models.tags import name_of, tags_of
from servomex.port.link import GAP_S, SerialLink
from servomex.port.transport import Transport
from servomex.settings import Parity, SerialSettings, check_carries, settings_given

if TYPE_CHECKING:
    from servomex.continuous.reader import ContinuousReader
    from servomex.modbus.client import ModbusClient

HELP = "'servomex doctor PORT' looks for the cause, 'servomex discover PORT' for an analyser at another address"


def open_device(
    port: str | os.PathLike[str] | SerialSettings | Transport | SerialLink,
    *,
    protocol: ProtocolKind | str = ProtocolKind.AUTO,
    address: int = 1,
    serial_settings: SerialSettings | None = None,
    baudrate: int | None = None,
    bytesize: int | None = None,
    parity: Parity | None = None,
    stopbits: int | None = None,
    rtscts: bool | None = None,
    xonxoff: bool | None = None,
    exclusive: bool | None = None,
    timeout: float | None = None,
    identify: bool = True,
    channels: Iterable[ChannelId | str] | None = None,
    retries: int = 2,
    gap: float | None = None,
    listen: float = 10.0,
    auto_reconnect: bool | None = None,
    trace: str | os.PathLike[str] | None = None,
    shared_line: bool | None = None,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Analyzer:
    """Open an analyser and make sure that it is there.

    Args:
        port: A device path, ``COM11``, ``usb:SERIAL``, a pyserial URL (``socket://``, ``rfc2217://``,
            ``hwgrep://``), ``sim://``, :class:`SerialSettings` that name one of these, an open
            :class:`SerialLink`, or an open port, see :class:`Transport`. A link or open port that is passed in
            stays open when the analyser is closed.
        protocol: The communication mode set on the analyser's panel; ``auto`` finds it.
        address: Modbus slave address, 1 to 247.
        serial_settings: Must equal those on the panel; 19200 8N1 when omitted. Not together with a link.
        baudrate: This and the next six are the fields of :class:`SerialSettings`, for one or a few of them; the
            others have their defaults. Not together with ``serial_settings``, a link or an open port.
        bytesize: Data bits, 7 or 8.
        parity: ``N``, ``E`` or ``O``.
        stopbits: 1 or 2.
        rtscts: Hardware flow control.
        xonxoff: Software flow control.
        exclusive: Take the port for this program alone; :class:`SerialSettings` lists the risks of ``False``.
        timeout: Seconds that each call may take; when omitted, one that suits mode and line, see
            :attr:`Analyzer.timeout_s`. Opening itself may take 5 s over Modbus, whatever this is, and ``listen``
            in continuous mode.
        identify: Read the channels, which proves that the analyser is there. Otherwise nothing is sent or waited
            for, except that ``auto`` must find the mode.
        channels: Read only these, by their ids or names, such as ``["I1", "CO2"]``; all that are populated when
            omitted. Which channel has a name is read when the analyser is opened, also without ``identify``; the
            channel is read from then on. A change of its name is reported like that of any other, as a row of its
            own in recordings.
        retries: How often a Modbus read is repeated within its deadline, 0 to 10.
        gap: Seconds of silence before each Modbus request, 0 to 10; 0.05 when omitted. Not together with a link.
        listen: Seconds to wait for the first broadcast, and for ``auto`` to find the mode.
        auto_reconnect: Reopen a port that was unplugged; ``True`` when omitted. Not together with a link.
        trace: A file to which every byte of both directions is appended, see :mod:`servomex.trace`. Not together
            with a link.
        shared_line: Whether another master, or another program on the same serial server, uses this line; see
            :class:`SerialLink`. Each Modbus call then takes an extra exchange. Not together with a link.
        name: Names the analyser in rows and recordings, 1 to 128 characters on one line; when omitted the port,
            over Modbus with ``:`` and the address. Two computers with a ``/dev/ttyUSB0`` each need one.
        tags: Added to every row of the analyser, such as ``{"site": "mill-3"}``: up to 32 texts
            of 256 characters, under keys of letters, digits, ``_``, ``.`` and ``-``.

    Raises:
        ServomexValidationError: An argument is out of range.
        ServomexChannelNotFoundError: A channel of ``channels`` is not populated, none has this name, or several
            have it.
        ServomexConfigurationError: Arguments contradict each other, or the settings can never work on this port.
        ServomexConnectionError: The port is missing, busy or forbidden.
        ServomexNotFoundError: No analyser was found, with ``auto``.
        ServomexTimeoutError: The analyser did not answer in the given mode.
        ServomexFrameError: The bytes received are damaged.
        ServomexForeignDeviceError: The device that answers is not an analyser of the 4000 series.
    """
    kind = choice(ProtocolKind, protocol, "protocol")
    address = whole(address, "address", 1, 247)
    retries = whole(retries, "retries", 0, 10)
    identify = flag(identify, "identify")
    listen_s = seconds(listen, "listen")
    timeout_s = None if timeout is None else seconds(timeout, "timeout")
    asked = None if channels is None else asked_channels(channels)
    given_name = None if name is None else name_of(name)
    given_tags = tags_of(tags)
    settings = settings_given(serial_settings, baudrate, bytesize, parity, stopbits, rtscts, xonxoff, exclusive)
    with contextlib.ExitStack() as undo:
        if isinstance(port, SerialLink):
            _check_belongings(
                serial_settings=settings,
                gap=gap,
                auto_reconnect=auto_reconnect,
                trace=trace,
                shared_line=shared_line,
            )
            link = port
        else:
            link = SerialLink(
                port,
                settings,
                gap=GAP_S if gap is None else gap,
                auto_reconnect=True if auto_reconnect is None else auto_reconnect,
                trace=trace,
                shared_line=shared_line,
            )
            undo.callback(link.close)
            link.open()
        first: Frame | None = None
        if kind is ProtocolKind.AUTO:
            from servomex.analyzer.detect import detect

            with pointing_to_help():
                found = detect(link, address, listen=listen_s)
            kind, first = found.protocol, found.frame
        selected = ids_of(asked)
        if asked is not None and selected is None:
            source = source_of(link, kind, address, retries, None, first)
            with Analyzer(link, source, owns_link=False) as unselected:
                meet(unselected, listen_s)
                first = unselected.snapshot()
            selected = frozenset(ChannelId(needed(first.readings, item).channel) for item in asked)
        analyzer = Analyzer(
            link,
            source_of(link, kind, address, retries, selected, first),
            timeout=timeout_s,
            owns_link=link is not port,
            name=given_name,
            tags=given_tags,
        )
        undo.callback(analyzer.close)
        if identify:
            meet(analyzer, listen_s, asked)
        undo.pop_all()
    return analyzer


def open_continuous(
    port: str | os.PathLike[str] | SerialSettings | Transport | SerialLink,
    *,
    serial_settings: SerialSettings | None = None,
    baudrate: int | None = None,
    bytesize: int | None = None,
    parity: Parity | None = None,
    stopbits: int | None = None,
    rtscts: bool | None = None,
    xonxoff: bool | None = None,
    exclusive: bool | None = None,
    timeout: float | None = None,
    identify: bool = True,
    channels: Iterable[ChannelId | str] | None = None,
    listen: float = 10.0,
    auto_reconnect: bool | None = None,
    trace: str | os.PathLike[str] | None = None,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Analyzer:
    """Open an analyser in continuous mode: :func:`open_device` without the arguments that only Modbus has.

    ``listen`` is how many seconds to wait for the first broadcast. Arguments and errors are those of
    :func:`open_device`.
    """
    return open_device(
        port,
        protocol=ProtocolKind.CONTINUOUS_ASCII,
        serial_settings=serial_settings,
        baudrate=baudrate,
        bytesize=bytesize,
        parity=parity,
        stopbits=stopbits,
        rtscts=rtscts,
        xonxoff=xonxoff,
        exclusive=exclusive,
        timeout=timeout,
        identify=identify,
        channels=channels,
        listen=listen,
        auto_reconnect=auto_reconnect,
        trace=trace,
        name=name,
        tags=tags,
    )


def _check_belongings(**given: object) -> None:
    """Refuse settings that are passed together with a link, which has its own.

    Raises:
        ServomexConfigurationError: Something was given.
    """
    for name, value in given.items():
        if value is not None:
            raise ServomexConfigurationError(f"{name} belongs to the SerialLink: pass it there")


def source_of(
    link: SerialLink,
    protocol: ProtocolKind,
    address: int,
    retries: int,
    channels: frozenset[ChannelId] | None,
    first: Frame | None = None,
) -> "ContinuousReader | ModbusClient":
    """Return the reader or client of an analyser in a known mode, without sending or waiting.

    Args:
        link: The port.
        protocol: The communication mode.
        address: Modbus slave address.
        retries: How often a Modbus read is repeated.
        channels: Channels to read; all when ``None``.
        first: The broadcast by which the mode was found.

    Raises:
        ServomexConfigurationError: The settings of the line do not suit the mode.
    """
    check_carries(link.settings, protocol, link.port)
    if protocol is ProtocolKind.CONTINUOUS_ASCII:
        from servomex.continuous.reader import ContinuousReader

        reader = ContinuousReader(link, channels=channels, first=first)
        reader.start()
        return reader
    from servomex.modbus.client import ModbusClient

    return ModbusClient(link, address, protocol, retries=retries, channels=channels)


@contextlib.contextmanager
def pointing_to_help() -> Iterator[None]:
    """Add the command that finds the cause to the error of a silent line."""
    try:
        yield
    except ServomexTimeoutError as error:
        error.cure = ". ".join(filter(None, [error.cure, HELP]))
        raise


def ids_of(asked: tuple[ChannelId | str, ...] | None) -> frozenset[ChannelId] | None:
    """Return the requested channels; ``None`` for all, and when some are given by name."""
    ids = frozenset(item for item in asked or () if isinstance(item, ChannelId))
    return ids if asked is not None and all(isinstance(item, ChannelId) for item in asked) else None


def meet(analyzer: Analyzer, listen_s: float, asked: tuple[ChannelId | str, ...] | None = None) -> None:
    """Read the channels of an analyser for the first time.

    Args:
        analyzer: The analyser.
        listen_s: Seconds to wait for the first broadcast.
        asked: The requested channels. A name that moved meanwhile would belong to another gas.

    Raises:
        ServomexChannelNotFoundError: A selected channel is not populated.
        ServomexError: As :meth:`Analyzer.poll` does.
    """
    with pointing_to_help():
        try:
            analyzer.identify(timeout=analyzer.mode.opening_s(analyzer.timeout_s, listen_s))
        except (ServomexChannelError, ServomexTimeoutError) as error:
            explained = analyzer.mode.explained(error)
            if explained is error:
                raise
            raise explained from error
    for item in asked or ():
        needed(analyzer.snapshot().readings, item, selected=analyzer.mode.selected)
