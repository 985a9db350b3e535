"""What a fleet file says: the site, its analysers, where their readings go, and who may look."""

from collections.abc import Mapping
from pathlib import Path

import attrs

from servomex.enums import ProtocolKind
from servomex.errors.mappings import FrozenMapping
from servomex.fleet import reads
from servomex.fleet.reads import Listen
from servomex.fleet.tables import key
from servomex.models.naming import asked_channels
from servomex.models.tags import NO_TAGS, name_of, tags_of

USUAL_EVERY_S = 1.0


@attrs.frozen
class Site:
    """The ``[site]``.

    Attributes:
        name: Its name, the tag ``site`` of every row.
        tags: Further tags of every row.
    """

    name: str | None = key(name_of, None)
    tags: Mapping[str, str] = key(tags_of, NO_TAGS)


@attrs.frozen
class AnalyserEntry:
    """An ``[[analyser]]``. The fields after ``tags`` are options of :meth:`ServomexManager.add`.

    Attributes:
        name: Its name in rows, topics and pages; each occurs once.
        port: Its port, as for :func:`open_device`.
        every_s: Seconds between its readings.
        tags: Tags of its rows, besides those of the site.
    """

    name: str = key(name_of)
    port: str = key(reads.text)
    every: float = key(reads.duration, USUAL_EVERY_S)
    tags: FrozenMapping[str] = key(tags_of, NO_TAGS)
    protocol: ProtocolKind = key(reads.protocol, ProtocolKind.AUTO)
    address: int = key(reads.number(1, 247), 1)
    channels: tuple[str, ...] | None = key(
        lambda value: tuple(map(str, asked_channels(reads.list_of(reads.text)(value)))), None
    )
    baudrate: int | None = key(reads.number(300, 115200), None)
    bytesize: int | None = key(reads.number(7, 8), None)
    parity: str | None = key(reads.one_of("N", "E", "O"), None)
    stopbits: int | None = key(reads.number(1, 2), None)
    rtscts: bool | None = key(reads.boolean, None)
    xonxoff: bool | None = key(reads.boolean, None)
    timeout: float | None = key(reads.duration, None)
    retries: int = key(reads.number(0, 10), 2)
    gap: float | None = key(reads.duration, None)


@attrs.frozen
class SinkEntry:
    """A ``[[sink]]``.

    Attributes:
        url: Where rows go, as for :func:`open_sink`; either this or ``path``.
        path: A file that rows go to.
        name: Its name in the outbox and in messages; the place without a password when omitted.
        password_file: A file with the password of the URL.
        rotate: When a file is followed by a new one.
        keep: How much of rotated files is kept.
        min_free: How much of the disk is to stay free.
        decimal: Decimal sign of csv.
    """

    url: str | None = key(reads.text, None)
    path: Path | None = key(reads.file, None)
    name: str | None = key(name_of, None)
    password_file: Path | None = key(reads.file, None)
    rotate: str | None = key(reads.rotate, None)
    keep: str | None = key(reads.keep, None)
    min_free: str | None = key(reads.free, None)
    decimal: str | None = key(reads.one_of(".", ","), None)


@attrs.frozen
class OutboxEntry:
    """The ``[outbox]``.

    Attributes:
        path: Its file.
        max_size: Bytes that it may hold.
        max_age: Seconds for which it keeps a row.
    """

    path: Path = key(reads.file)
    max_size: int = key(reads.size, 2_000_000_000)
    max_age: float = key(reads.duration, 14 * 86_400.0)


@attrs.frozen
class HttpEntry:
    """The ``[http]`` with the page, the health and the metrics.

    Attributes:
        listen: Its address.
        token_file: A file with the token that a reader from elsewhere must show.
    """

    listen: Listen = key(reads.listen)
    token_file: Path | None = key(reads.file, None)


@attrs.frozen
class AlertEntry:
    """An ``[[alert]]``: what is called when something happens.

    Attributes:
        on: ``alarm``, ``fault``, ``maintenance``, ``calibration``, ``lost``; each also when it is over.
        command: A program with its arguments; either this or ``webhook``.
        webhook: A URL to which the event is posted as JSON.
        min_interval: Seconds between two calls for one channel and one state.
    """

    on: tuple[str, ...] = key(reads.list_of(reads.one_of("alarm", "fault", "maintenance", "calibration", "lost")))
    command: tuple[str, ...] | None = key(reads.list_of(reads.text), None)
    webhook: str | None = key(reads.web_url, None)
    min_interval: float = key(reads.duration, 60.0)


@attrs.frozen(kw_only=True)
class Fleet:
    """All that a fleet file says."""

    site: Site = Site()
    analysers: tuple[AnalyserEntry, ...]
    sinks: tuple[SinkEntry, ...] = ()
    outbox: OutboxEntry | None = None
    http: HttpEntry | None = None
    alerts: tuple[AlertEntry, ...] = ()
