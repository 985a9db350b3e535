"""The log beside an SQLite database: where it is, and whether it holds transactions that SQLite does not see.

SQLite reads a log up to the first frame whose checksum is wrong, since a loss of power can leave such an end.
It silently drops what follows. A damaged byte in the middle looks the same to it.

Source: the file format of SQLite, section 4 (https://www.sqlite.org/fileformat2.html#the_write_ahead_log).
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from servomex.runtime.logs import package_log
from servomex.sinks.places import real, unused

_log = package_log("servomex")

_MAGIC = 0x377F0682
"""Its last bit says whether the checksums take numbers in big-endian order."""
_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_PAGES = range(512, 65_537)

_Sum = tuple[int, int]


class _Log(NamedTuple):
    """The header of a log."""

    order: str
    page_size: int
    salt: _Sum
    checksum: _Sum


def log_of(path: Path) -> Path:
    """Return the log beside a database, which holds rows that are not in the database yet."""
    place = real(path)
    return place.with_name(f"{place.name}-wal")


def unseen_transactions(path: Path) -> int:
    """Count the transactions in a log that SQLite drops because of damage, or since the last one was torn.

    Raises:
        OSError: The log cannot be read.
    """
    with path.open("rb") as file:
        begun = _begun(file.read(_HEADER.size))
        if begun is None:
            file.seek(0, 2)
            return 1 if file.tell() > _HEADER.size else 0
        total = begun.checksum
        for fields, head, page in _frames(file, begun):
            total = _summed(begun.order, head + page, total)
            if fields[2:] != begun.salt + total:
                return bool(fields[1]) + sum(bool(later[1]) for later, _, _ in _frames(file, begun))
        return 0


def _begun(header: bytes) -> _Log | None:
    """Read the header of a log; ``None`` when it is damaged."""
    if len(header) < _HEADER.size:
        return None
    magic, _, page_size, _, *rest = _HEADER.unpack(header)
    order = ">" if magic & 1 else "<"
    salt, total = (rest[0], rest[1]), (rest[2], rest[3])
    if magic & ~1 != _MAGIC or page_size not in _PAGES or total != _summed(order, header[:24], (0, 0)):
        return None
    return _Log(order, page_size, salt, total)


def _frames(file: BinaryIO, begun: _Log) -> Iterator[tuple[tuple[int, ...], bytes, bytes]]:
    """Yield the whole frames of this log; those left from the log before have another salt."""
    while len(frame := file.read(_FRAME.size + begun.page_size)) == _FRAME.size + begun.page_size:
        fields = _FRAME.unpack_from(frame)
        if fields[2] == begun.salt[0] or fields[3] == begun.salt[1]:
            yield fields, frame[:8], frame[_FRAME.size :]


def _summed(order: str, data: bytes, begin: _Sum) -> _Sum:
    one, other = begin
    for first, second in struct.iter_unpack(f"{order}2I", data):
        one = one + first + other & 0xFFFFFFFF
        other = other + second + one & 0xFFFFFFFF
    return one, other


def unlink_database(path: Path) -> None:
    """Remove a database and its log, as far as they exist."""
    real(path).unlink(missing_ok=True)
    unlink_log(path)


def unlink_log(path: Path) -> None:
    """Remove the log of a database and the index of it, as far as they exist."""
    for end in ("-wal", "-shm"):
        real(path).with_name(real(path).name + end).unlink(missing_ok=True)


def put_aside_log(path: Path) -> None:
    """Rename the log of a database that was renamed: SQLite would delete it, with the rows in it."""
    log = log_of(path)
    if not log.exists() or not log.stat().st_size:
        return
    kept = unused(log.with_name(f"{log.name}.1"))
    log.rename(kept)
    _log.warning(
        "%s is the log of a database that was renamed, moved or deleted: it is kept as %s. Give it the "
        "name of that database with -wal appended, in the same folder, to read its rows",
        log,
        kept.name,
    )
