"""The output of ``servomex convert --wide``: a wide table as csv, or as a spreadsheet workbook."""

import csv
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, Self

from servomex.cli.errors import RequestError
from servomex.errors import ServomexSinkDependencyError, ServomexSinkError, ServomexSinkWriteError
from servomex.errors.excerpts import without_password
from servomex.errors.missing import how_to_get
from servomex.models.plain import time_text
from servomex.models.sample import Sample
from servomex.rows.formats import SEPARATORS, guarded
from servomex.rows.wide import QUALITY, Layout, qualities_kept, value_in

Cell = float | str | None
SEPARATOR_NAMES = {",": ",", ";": ";", "tab": "\t"}
"""The separators of csv cells, by how they are given."""
BOM = "\ufeff"
SUFFIXES = (".csv", ".xlsx")
SHEET_ROWS = 1_048_576
"""Rows that a sheet of a workbook can have."""
MOST_COLUMNS = 16_384
_UNPRINTABLE = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF], "\ufffd")


class _Table(Protocol):
    """A table that is written row by row, and is complete at the end of its ``with`` block."""

    def write(self, received_at: datetime, cells: list[Cell]) -> None:
        """Write a row."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: object, *_exc: object) -> None: ...


def write_wide(load: Callable[[], Iterator[Sample]], target: str, options: dict[str, Any]) -> int:
    """Write a wide table, and return how many rows it has. The file appears once it is complete.

    The samples are read twice, first for the columns. Those before any damage are written before it is raised.

    Args:
        load: Starts reading the samples.
        target: The file; its suffix decides its format.
        options: The given options of the command.

    Raises:
        RequestError: The options contradict each other, or the file exists.
        ServomexSinkError: The samples cannot be read, or the file cannot be written.
    """
    if "://" in target:
        raise RequestError(f"{without_password(target)} is not a file: a wide table is .csv or .xlsx")
    path = Path(target)
    kind = path.suffix.lower()
    _check(path, kind, options)
    damage: list[ServomexSinkError] = []  # in the second pass: it is raised once the rest is written
    layout = Layout(_until_damage(load(), []))
    kept = qualities_kept(options.get("keep"))
    part = path.with_name(f"{path.name}.part")
    count = 0
    try:
        with (_open_workbook if kind == ".xlsx" else _Csv)(part, layout, options) as table:
            for received_at, readings in layout.rows(_until_damage(load(), damage)):
                cells: list[Cell] = []
                for place, unit in enumerate(layout.units):
                    reading = readings.get(place)
                    quality = None if reading is None else reading.quality.value
                    cells += (value_in(unit, reading, kept), quality)
                table.write(received_at, cells)
                count += 1
        _sync(part)
        part.replace(path)
    except OSError as error:
        if isinstance(error, ServomexSinkError):
            raise
        raise ServomexSinkWriteError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    if damage:
        raise damage[0]
    return count


def _check(path: Path, kind: str, options: dict[str, Any]) -> None:
    if kind not in SUFFIXES or options.get("file_format") not in (None, "csv"):
        raise RequestError(f"a wide table is written to a file that ends with {' or '.join(SUFFIXES)}, not {path}")
    for option in ("append", "rotate"):
        if options.get(option):
            raise RequestError(f"--{option} cannot be combined with --wide, whose columns depend on all of it")
    for option in ("decimal", "separator", "bom"):
        if options.get(option) and kind != ".csv":
            raise RequestError(f"--{option} is for csv files: a workbook needs none")
    if options.get("separator") == options.get("decimal", "."):
        raise RequestError("--decimal , and --separator , contradict each other: use --separator ';'")
    if path.exists() and not options.get("overwrite"):
        raise RequestError(f"{path} exists: add --overwrite to replace it")


def _until_damage(samples: Iterator[Sample], damage: list[ServomexSinkError]) -> Iterator[Sample]:
    try:
        yield from samples
    except ServomexSinkError as error:
        damage.append(error)


def _sync(path: Path) -> None:
    """Flush a file to the disk before it is renamed."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _headings(layout: Layout, received_at: str, options: dict[str, Any]) -> Iterator[str]:
    yield received_at
    if options.get("local_time"):
        yield f"local_time ({_zone_names()})"
    for label in layout.labels:
        yield label
        yield QUALITY.format(label)


def _zone_names() -> str:
    """Return what the time zone of this computer is called, in winter and in summer where these differ."""
    year = datetime.now(UTC).year
    names = [datetime(year, month, 1, tzinfo=UTC).astimezone().tzname() for month in (1, 7)]
    return "/".join(dict.fromkeys(filter(None, names)))


def _local(moment: datetime) -> datetime:
    """Return the time of this computer's clock on the wall, without a zone, as spreadsheets have times."""
    return moment.astimezone().replace(tzinfo=None)


class _Csv:
    """A wide table as csv, with guarded texts and, unless told otherwise, the separators of recordings."""

    def __init__(self, path: Path, layout: Layout, options: dict[str, Any]) -> None:
        self._decimal: str = options.get("decimal", ".")
        self._local: bool = options.get("local_time", False)
        given = options.get("separator")
        separator = SEPARATORS[self._decimal] if given is None else SEPARATOR_NAMES[given]
        self._file = path.open("w", encoding="utf-8", newline="")
        self._file.write(BOM if options.get("bom") else "")
        self._writer = csv.writer(self._file, delimiter=separator, lineterminator="\n")
        self._writer.writerow(map(guarded, _headings(layout, "received_at", options)))

    def write(self, received_at: datetime, cells: list[Cell]) -> None:
        """Write a row."""
        local = [_local(received_at).isoformat(" ", "milliseconds").replace(".", self._decimal)] * self._local
        self._writer.writerow([time_text(received_at), *local, *map(self._text, cells)])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._file.close()

    def _text(self, cell: Cell) -> str | None:
        return repr(cell).replace(".", self._decimal) if isinstance(cell, float) else cell


def _open_workbook(path: Path, layout: Layout, options: dict[str, Any]) -> "_Table":
    try:
        import openpyxl
    except ImportError as error:
        raise ServomexSinkDependencyError(
            f".xlsx needs openpyxl: {how_to_get('openpyxl', 'xlsx')} ({error})"
        ) from error
    headings = [*_headings(layout, "received_at (UTC)", options)]
    if len(headings) > MOST_COLUMNS:
        raise RequestError(f"a sheet has at most {MOST_COLUMNS} columns: write .csv")
    return _Workbook(openpyxl.Workbook(write_only=True), path, headings, local=options.get("local_time", False))


class _Workbook:
    """A wide table as a workbook; a full sheet is followed by another.

    A spreadsheet has no time zones: times are written without one, and the heading says that they are UTC.
    """

    def __init__(self, book: Any, path: Path, headings: list[str], *, local: bool) -> None:
        self._book = book
        self._path = path
        self._headings = headings
        self._local = local
        self._rows = SHEET_ROWS
        self._sheet: Any = None
        self._begin_sheet()

    def write(self, received_at: datetime, cells: list[Cell]) -> None:
        """Write a row."""
        if self._rows >= SHEET_ROWS:
            self._begin_sheet()
        times = [received_at.astimezone(UTC).replace(tzinfo=None), *[_local(received_at)] * self._local]
        self._append([*map(self._time, times), *map(self._cell, cells)])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_exc: object) -> None:
        if kind is None:
            self._book.save(self._path)
            return
        for sheet in self._book.worksheets:  # openpyxl removes its own temporary files when the program ends
            sheet.close()

    def _begin_sheet(self) -> None:
        self._sheet = self._book.create_sheet()
        self._sheet.freeze_panes = "C2" if self._local else "B2"
        self._rows = 0
        self._append(map(self._cell, self._headings))

    def _append(self, cells: Iterable[Any]) -> None:
        self._sheet.append(list(cells))
        self._rows += 1

    def _time(self, moment: datetime) -> Any:
        cell = self._new(moment)
        cell.number_format = "yyyy-mm-dd hh:mm:ss.000"
        return cell

    def _cell(self, value: Cell) -> Any:
        if not isinstance(value, str):
            return value
        cell = self._new(value.translate(_UNPRINTABLE))
        cell.data_type = "s"  # never a formula, whatever it begins with
        return cell

    def _new(self, value: Any) -> Any:
        from openpyxl.cell import WriteOnlyCell

        return WriteOnlyCell(self._sheet, value=value)
