"""Fleet files: read whole, with every problem found, each with its line."""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from servomex.errors import ServomexError
from servomex.errors.excerpts import without_password
from servomex.fleet.lines import lines_of
from servomex.fleet.model import (
    AlertEntry,
    AnalyserEntry,
    Fleet,
    HttpEntry,
    OutboxEntry,
    SinkEntry,
    Site,
)
from servomex.fleet.tables import Problem, Tables
from servomex.sinks.opening import place_of, sink_class

SINGLE: dict[str, type[Any]] = {
    "site": Site,
    "outbox": OutboxEntry,
    "http": HttpEntry,
}
ARRAYS: tuple[str, ...] = ("analyser", "sink", "alert")
LARGEST = 1_000_000
"""Bytes of a fleet file: more is not one."""
_SETTINGS = ("baudrate", "bytesize", "parity", "stopbits", "rtscts", "xonxoff", "gap")
"""What analysers on one port have in common."""


def read_fleet(path: Path) -> tuple[Fleet | None, list[Problem]]:
    """Read a fleet file, without opening anything that it names.

    Returns:
        The fleet, ``None`` when there are problems; and all problems, in the order of the lines.
    """
    try:
        if path.stat().st_size > LARGEST:
            return None, [Problem(None, f"a fleet file has at most {LARGEST} bytes")]
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        return None, [Problem(None, error.strerror or str(error))]
    except UnicodeDecodeError as error:
        return None, [Problem(1 + error.object[: error.start].count(b"\n"), "it is not UTF-8")]
    return parse_fleet(text)


def parse_fleet(text: str) -> tuple[Fleet | None, list[Problem]]:
    """Return what :func:`read_fleet` does, of the text of a file."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return None, [_not_toml(str(error), text)]
    tables = Tables(lines_of(text))
    tables.check_names(document, [*SINGLE, *ARRAYS])
    single: dict[str, Any] = {
        name: tables.read(kind, document[name], name) for name, kind in SINGLE.items() if name in document
    }
    analysers = tables.read_all(AnalyserEntry, document.get("analyser", []), "analyser")
    sinks = tables.read_all(SinkEntry, document.get("sink", []), "sink")
    alerts = tables.read_all(AlertEntry, document.get("alert", []), "alert")
    if not document.get("analyser"):
        tables.note("there is no analyser: add a table [[analyser]] with name and port")
    _check_analysers(tables, analysers)
    _check_sinks(tables, sinks)
    if document.get("sink") and "outbox" not in document:
        tables.note(
            "sinks need an [outbox], which keeps the rows until they are stored: add one with a path", "sink", 0
        )
    for number, alert in alerts:
        if (alert.command is None) == (alert.webhook is None):
            tables.note(f"[[alert]] number {number + 1} needs either command or webhook", "alert", number)
    if tables.problems:
        return None, sorted(tables.problems, key=lambda problem: problem.line or 0)
    return Fleet(analysers=_items(analysers), sinks=_items(sinks), alerts=_items(alerts), **single), []


def _items(numbered: Iterable[tuple[int, Any]]) -> tuple[Any, ...]:
    return tuple(item for _, item in numbered)


def _not_toml(message: str, text: str) -> Problem:
    """Return the problem of a text that is not TOML; the parser names the line in its message."""
    what, _, place = message.rpartition(" (at ")
    if place.startswith("line "):
        return Problem(int(place.split()[1].strip(",)")), what)
    return Problem(text.count("\n") + 1, what or message)


def _check_analysers(tables: Tables, analysers: Iterable[tuple[int, AnalyserEntry]]) -> None:
    """Note names and addresses that are used twice, and ports with different settings."""
    names: dict[str, int] = {}
    ports: dict[str, AnalyserEntry] = {}
    taken: dict[tuple[str, int], str] = {}
    for number, item in analysers:
        if item.name in names:
            tables.note(f"the name {item.name!r} is used twice", "analyser", number, "name")
        names[item.name] = number
        other = taken.setdefault((item.port, item.address), item.name)
        if other != item.name:
            what = f"address {item.address} on {item.port} is that of {other!r} already"
            tables.note(f"{what}: give each analyser on a port its own", "analyser", number, "address")
        first = ports.setdefault(item.port, item)
        for setting in (*_SETTINGS, "protocol"):
            if getattr(first, setting) != getattr(item, setting):
                text = f"{setting} on {item.port} differs from that of {first.name!r}: a port has one"
                tables.note(text, "analyser", number, setting)


def _check_sinks(tables: Tables, sinks: Iterable[tuple[int, SinkEntry]]) -> None:
    """Note sinks that cannot be opened as they are written, and places that are used twice."""
    places: dict[object, int] = {}
    names: set[str] = set()
    for number, sink in sinks:
        if (sink.url is None) == (sink.path is None):
            tables.note(f"[[sink]] number {number + 1} needs either url or path", "sink", number)
            continue
        field = "path" if sink.url is None else "url"
        target = str(sink.path) if sink.url is None else sink.url
        try:
            sink_class(target)
            place = place_of(target)
        except (ServomexError, ValueError) as error:
            tables.note(f"{field} in [[sink]] number {number + 1}: {error}", "sink", number, field)
            continue
        if place in places:
            tables.note(f"{without_password(target)} is named twice", "sink", number, field)
        places[place] = number
        if sink.name in names:
            tables.note(f"the name {sink.name!r} is used twice", "sink", number, "name")
        names |= {sink.name} if sink.name else set()
        _check_options(tables, sink, number)


def _check_options(tables: Tables, sink: SinkEntry, number: int) -> None:
    if sink.url is not None:
        for name in ("rotate", "keep", "min_free", "decimal"):
            if getattr(sink, name) is not None:
                tables.note(f"{name} is for files, and this sink is a URL", "sink", number, name)
        if sink.password_file and urlsplit(sink.url).password:
            tables.note("there is a password in the url and a password_file: keep one", "sink", number, "url")
    elif sink.password_file is not None:
        tables.note("password_file is for a url, and this sink is a file", "sink", number, "password_file")
    for name in ("keep", "min_free"):
        if getattr(sink, name) and not sink.rotate and sink.url is None:
            tables.note(f"{name} is for rotated files: add rotate", "sink", number, name)
    if sink.password_file is not None and sink.url and "@" not in sink.url:
        tables.note("a password needs a user: write the url as scheme://user@host", "sink", number, "url")
    if sink.password_file is not None and not sink.password_file.is_file():
        tables.note(f"there is no file {sink.password_file}", "sink", number, "password_file")
