"""``servomex decode``: decode captured broadcasts, and show what is wrong with the damaged ones."""

import contextlib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import attrs
import click

from servomex.cli import formats
from servomex.cli.errors import RequestError
from servomex.cli.hextext import bytes_of
from servomex.cli.options import format_settings
from servomex.cli.output import colour_wanted, note, write_data, write_text
from servomex.cli.program import Program, version_option
from servomex.durations import counted
from servomex.errors import ServomexChecksumError, ServomexParseError
from servomex.models.frame import Frame, frame_text
from servomex.models.plain import json_text
from servomex.models.texts import unpainted
from servomex.rows.file_kinds import BEGINNINGS
from servomex.telegram import FrameSplitter, checksums, parse_frame
from servomex.trace import MAGIC

NO_FRAME = 4
CHUNK = 16384
SHOWN = 24
"""Bytes of a damaged piece that are shown in a table."""

_LINE_ENDS = re.compile(rb"[\r\n]+")
_MORE = """\b
Examples:
  servomex decode capture.bin
  servomex decode --format json capture.bin | jq .readings[0].value
  cat capture.hex | servomex decode --hex --format csv > capture.csv
  servomex decode --hex "20 30 36 2d 31 30 ..."

The exit code is 0 if every frame is good, 4 if there is none or anything is damaged. A capture that begins in the
middle of a frame starts with a damaged piece.
"""


@attrs.frozen
class _Damage:
    """A piece of a capture that is not a good frame.

    Attributes:
        offset: Where it begins, in bytes from the start.
        reason: What is wrong with it.
        raw: The piece.
        is_checksum: Whether only its checksum is wrong.
    """

    offset: int
    reason: str
    raw: bytes
    is_checksum: bool


_OTHERS = (
    (MAGIC.encode(), "a trace", "replay"),
    *((beginning, "a recording", "convert") for beginning in BEGINNINGS),
)
"""How the files of other commands begin, what they are, and the command."""


@click.command(cls=Program, short_help="Decode captured broadcasts.", epilog=_MORE)
@click.argument("inputs", metavar="[FILE]", nargs=-1)
@click.option(
    "--hex",
    "is_hex",
    is_flag=True,
    help="FILE is a file of hexadecimal text, or the text itself: '20 30 0d', 20:30:0D, or one argument per byte.",
)
@click.option(
    "--format",
    "output_format",
    **format_settings(
        ["table", "json", "csv"],
        "How frames are written to stdout. Damage is reported among them; with csv, on stderr.",
    ),
)
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Also show the bytes of each channel: an unknown glyph, or text in place of a value.",
)
@version_option
def decode(inputs: tuple[str, ...], is_hex: bool, output_format: str, verbose: bool) -> None:
    """Decode the broadcasts captured in FILE, or on stdin if FILE is '-' or omitted.

    A capture does not show when it was received: the columns for that stay empty.
    """
    frames = damaged = 0
    with _bytes_in(inputs, is_hex=is_hex) as chunks:
        show_frame, show_damage = _WRITERS[output_format](verbose)
        for item in _decoded(chunks):
            if isinstance(item, _Damage):
                damaged += 1
                show_damage(item)
            else:
                frames += 1
                show_frame(item)
    note(f"{counted(frames, 'frame')}, {counted(damaged, 'damaged piece')}")
    raise click.exceptions.Exit(NO_FRAME if damaged or not frames else 0)


@contextlib.contextmanager
def _bytes_in(inputs: tuple[str, ...], *, is_hex: bool) -> Iterator[Iterator[bytes]]:
    """Yield the bytes of the named file, of stdin, or of hexadecimal arguments.

    Raises:
        UsageError: There are several files, a file cannot be read, or the text is not hexadecimal.
    """
    if is_hex and inputs not in ((), ("-",)) and not os.path.isfile(inputs[0]):  # noqa: PTH113 (any text may come)
        yield bytes_of([" ".join(inputs).encode("utf-8", "replace")])
        return
    if len(inputs) > 1:
        raise click.UsageError("name one FILE; only --hex accepts several arguments, as bytes")
    name = inputs[0] if inputs else "-"
    try:
        file: IO[bytes] = click.open_file(name, "rb")
    except OSError as error:
        raise click.BadParameter(f"{name!r}: {error.strerror or error}", param_hint="FILE") from error
    with file:
        chunks = _checked(_chunks(file))
        yield bytes_of(chunks) if is_hex else chunks


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the available bytes without waiting for more: the input may be a pipe that is still being written."""
    read: Callable[[int], bytes] = getattr(file, "read1", file.read)
    while data := read(CHUNK):
        yield data


def _checked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Return the chunks; refuse a file that belongs to another command.

    Raises:
        RequestError: It is such a file.
    """
    first = next(chunks, b"")
    for beginning, what, command in _OTHERS:
        if first.startswith(beginning):
            raise RequestError(f"this is {what}, not a capture of broadcasts: use 'servomex {command}'")
    return itertools.chain([first], chunks)


def _decoded(chunks: Iterable[bytes]) -> Iterator[Frame | _Damage]:
    for offset, piece in _pieces(chunks):
        try:
            yield parse_frame(piece)
        except ServomexParseError as error:
            yield _Damage(offset, error.reason, piece, isinstance(error, ServomexChecksumError))


def _pieces(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the pieces of a capture and where they begin. Only line ends lie between pieces."""
    splitter = FrameSplitter()
    held = b""
    start = 0
    for chunk in itertools.chain(chunks, [None]):
        window = held + (chunk or b"")
        place = 0
        for piece in splitter.flush() if chunk is None else splitter.feed(chunk):
            place += _line_ends(window, place) - _line_ends(piece, 0)
            yield start + place, piece
            place += len(piece)
        held = window[len(window) - splitter.pending :]
        start += len(window) - len(held)


def _line_ends(data: bytes, start: int) -> int:
    """Return the number of CR and LF bytes at a place."""
    found = _LINE_ENDS.match(data, start)
    return found.end() - start if found else 0


_Shows = tuple[Callable[[Frame], None], Callable[[_Damage], None]]


def _table(verbose: bool) -> _Shows:
    colour = colour_wanted()
    paint = formats.coloured if colour else unpainted
    count = 0

    def show_frame(frame: Frame) -> None:
        nonlocal count
        count += 1
        title = f"frame {count}, {_verdict(frame.raw)}"
        raw = "".join(f"{item.channel} {item.raw!r}\n" for item in frame) if verbose else ""
        write_text(f"{frame_text(frame, title, arrived=False, paint=paint)}\n{raw}\n")

    def show_damage(damage: _Damage) -> None:
        line = f"DAMAGED {_damage_text(damage)}"
        write_text((click.style(line, fg="red") if colour else line) + "\n\n")

    return show_frame, show_damage


def _json(verbose: bool) -> _Shows:
    def show_frame(frame: Frame) -> None:
        record = formats.json_record(frame, None)
        record["checksum"] = _checksum_record(frame.raw)
        if verbose:
            for row, reading in zip(record["readings"], frame, strict=True):
                row["raw"] = reading.raw.hex()
        write_data(json_text(record))

    def show_damage(damage: _Damage) -> None:
        found = _checksum_record(damage.raw)
        record = {"error": damage.reason, "offset": damage.offset, "raw": damage.raw.hex(), "checksum": found}
        write_data(json_text(record))

    return show_frame, show_damage


def _csv(verbose: bool) -> _Shows:
    if verbose:
        raise click.UsageError("csv has no column for the bytes of a channel: use -v with table or json")
    write_data(formats.csv_header())
    return (
        lambda frame: write_data(formats.csv_rows(frame, None)),
        lambda damage: note(f"Damaged {_damage_text(damage)}"),
    )


def _damage_text(damage: _Damage) -> str:
    verdict = _verdict(damage.raw)
    reasons = [verdict] if damage.is_checksum else [damage.reason, *filter(None, [verdict])]
    more = " ..." if len(damage.raw) > SHOWN else ""
    return f"at byte {damage.offset}: {'; '.join(reasons)}: {damage.raw[:SHOWN]!r}{more}"


def _verdict(raw: bytes) -> str:
    """Return whether the checksum is valid, as text; empty where there is none."""
    found = checksums(raw.rstrip(b"\r\n"))
    if found is None:
        return ""
    stated, computed = found
    return (
        f"checksum valid {stated}"
        if stated == computed
        else f"checksum invalid: stated {stated} computed {computed}"
    )


def _checksum_record(raw: bytes) -> dict[str, Any] | None:
    found = checksums(raw.rstrip(b"\r\n"))
    return found and {"stated": found[0], "computed": found[1], "valid": found[0] == found[1]}


_WRITERS: dict[str, Callable[[bool], _Shows]] = {"table": _table, "json": _json, "csv": _csv}
