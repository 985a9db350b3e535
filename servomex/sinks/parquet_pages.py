"""The pages of a Parquet file as their headers describe them, checked before pyarrow unpacks them.

pyarrow allocates what a page header claims, and packed text can grow a thousandfold, so that a small file could
take all memory. The sizes in the footer may be wrong; unpacking is limited by those in the headers.

Source: parquet.thrift of Apache Parquet (FileMetaData, PageHeader), and the compact protocol of Apache Thrift.
"""

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import attrs

LARGEST_PAGE = 10_000_000
"""Bytes of an unpacked page; writers usually end a page at 1 MB."""
LARGEST_ROW_OF_PAGES = 48_000_000
"""Bytes of the largest pages of all columns together, which are in memory at the same time."""
MOST_PAIRS = 6_000_000
"""Keys in the maps of a row group: a million rows with a few each. All of them may belong to one row."""
LARGEST_MAP = 100_000_000
"""Bytes of the unpacked pages with these keys and their values."""
MOST_PAGES = 5_000
"""Pages of a column in one row group."""
BATCH_ROWS = 5_000
"""Rows that are read at once."""
BATCH_BYTES = 16_000_000
"""Bytes that they may take; fewer rows are read if they are longer."""
_HEADER_SIZES = (512, 1_000_000)
"""Bytes that are read to find a page header; the larger number if the smaller one does not cover it."""
MOST_VALUES = 100_000
"""Values of a list in a footer, such as row groups."""
_DEEPEST = 8
_LIST = 9
_ROW_GROUPS = 4
"""The field of a footer that lists the row groups."""
_DICTIONARY_PAGE = 2
_TYPE, _UNPACKED, _PACKED = 1, 2, 3
"""Fields of a page header: its type, and its sizes."""
_PAGE_HEADERS = {0: 5, _DICTIONARY_PAGE: 7, 3: 8}
"""The field with the details of a page, by its type: data of version 1, dictionary, data of version 2."""

_Fields = dict[int, Any]


@attrs.frozen
class _Page:
    """The facts about a page.

    Attributes:
        size: Bytes when unpacked.
        values: How many values it holds; 0 for a dictionary.
    """

    size: int
    values: int


@attrs.frozen
class Group:
    """The facts about a row group in the footer.

    Attributes:
        rows: How many it has.
        columns: Where the pages of each column begin and end, in bytes.
    """

    rows: int
    columns: tuple[tuple[int, int], ...]


def groups_in(source: BinaryIO) -> Iterator[Group]:
    """Read the row groups from the footer of a file; pyarrow ends the process on some damage there.

    Raises:
        ValueError: The footer makes no sense.
    """
    end = source.seek(0, os.SEEK_END) - 8
    source.seek(max(0, end))
    size = int.from_bytes(source.read(4), "little")
    source.seek(max(0, end - size))
    footer = source.read(size)
    try:
        yield from _groups(footer)
    except IndexError:
        raise ValueError("its footer is not complete") from None


def _groups(footer: bytes) -> Iterator[Group]:
    place = number = 0
    while kind := footer[place]:
        number, place = _field(footer, place + 1, number)
        if number == _ROW_GROUPS and kind & 15 == _LIST:
            count, _, place = _list(footer, place)
            for _ in range(count):
                fields, place = _struct(footer, place, 0)
                yield _group(fields)
        else:
            _, place = _value(footer, place, kind & 15, 0)


def _group(fields: _Fields) -> Group:
    rows, columns = fields.get(3), fields.get(1)
    if not isinstance(rows, int) or rows < 0 or not isinstance(columns, list):
        raise ValueError("a row group has no columns or no rows")
    places = []
    for column in columns:
        found = column.get(3) if isinstance(column, dict) else None
        chunk: _Fields = found if isinstance(found, dict) else {}
        size, data, dictionary = (chunk.get(number) for number in (7, 9, 11))
        if not isinstance(size, int) or not isinstance(data, int) or size < 0 or data < 0:
            raise ValueError("a column has no place")
        start = min(data, dictionary) if isinstance(dictionary, int) and dictionary > 0 else data
        places.append((start, start + size))
    return Group(rows, tuple(places))


def rows_at_once(source: BinaryIO, group: Group, flat: int) -> int:
    """Return how many rows of a row group fit in memory.

    Args:
        source: The file.
        group: The row group.
        flat: How many columns have one value per row. The others are the keys and values of a map.

    Raises:
        ValueError: Its pages do not fit, or their headers make no sense.
    """
    largest, row_size = 0, 0.0
    for number, (start, end) in enumerate(group.columns, 1):
        pages = [*_pages(source, start, end)]
        values = sum(page.values for page in pages)
        if values != group.rows if number <= flat else not group.rows <= values <= MOST_PAIRS:
            raise ValueError(f"the pages of column {number} do not hold {group.rows} rows")
        if number > flat and sum(page.size for page in pages) > LARGEST_MAP:
            raise ValueError(f"the pages of column {number} are too large")
        largest += max((page.size for page in pages), default=0)
        row_size += max((page.size / page.values for page in pages if page.values), default=0.0)
    if largest > LARGEST_ROW_OF_PAGES:
        raise ValueError(f"its pages need {largest} bytes at the same time")
    return max(1, min(BATCH_ROWS, int(BATCH_BYTES / max(row_size, 1.0))))


def _pages(source: BinaryIO, place: int, end: int) -> Iterator[_Page]:
    count = 0
    while place != end:
        if place > end:
            raise ValueError(f"a page goes beyond byte {end}, where its column ends")
        fields, size = _header(source, place)
        unpacked, packed = fields.get(_UNPACKED), fields.get(_PACKED)
        if not isinstance(unpacked, int) or not isinstance(packed, int) or packed < 0 or place < 0:
            raise ValueError(f"the page at byte {place} has no size")
        if not 0 <= unpacked <= LARGEST_PAGE:
            raise ValueError(f"the page at byte {place} has {unpacked} bytes")
        count += 1
        if count > MOST_PAGES:
            raise ValueError(f"a column has more than {MOST_PAGES} pages in one row group")
        kind = fields.get(_TYPE)
        if kind not in _PAGE_HEADERS or not isinstance(header := fields.get(_PAGE_HEADERS[kind]), dict):
            raise ValueError(f"the page at byte {place} is of an unknown type")
        yield _Page(unpacked, 0 if kind == _DICTIONARY_PAGE else int(header.get(1, 0)))
        place += size + packed


def _header(source: BinaryIO, place: int) -> tuple[_Fields, int]:
    """Read the header of a page, and return its fields and its size."""
    for size in _HEADER_SIZES:
        source.seek(max(0, place))
        data = source.read(size)
        try:
            return _struct(data, 0, 0)
        except IndexError:
            continue
    raise ValueError(f"the page at byte {place} has no header")


def _struct(data: bytes, place: int, depth: int) -> tuple[_Fields, int]:
    """Read a structure of the compact protocol, and return its fields by their numbers, and where it ends."""
    if depth > _DEEPEST:
        raise ValueError("fields are nested too deeply")
    fields: _Fields = {}
    number = 0
    while kind := data[place]:
        number, place = _field(data, place + 1, number)
        fields[number], place = _value(data, place, kind & 15, depth)
    return fields, place + 1


def _field(data: bytes, place: int, before: int) -> tuple[int, int]:
    """Return the number of a field, whose first byte was just passed, and where its value begins."""
    step = data[place - 1] >> 4
    return (before + step, place) if step else _integer(data, place)


def _list(data: bytes, place: int) -> tuple[int, int, int]:
    """Return the size and the type of a list, and where its values begin."""
    head, place = data[place], place + 1
    count, place = _varint(data, place) if head >> 4 == 15 else (head >> 4, place)
    if count > MOST_VALUES:
        raise ValueError(f"a list has {count} values")
    return count, head & 15, place


def _value(data: bytes, place: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (1, 2):
        return kind == 1, place
    if kind in (4, 5, 6):
        return _integer(data, place)
    if kind == 8:
        size, place = _varint(data, place)
        return None, place + size
    if kind == 12:
        return _struct(data, place, depth + 1)
    if kind == _LIST:
        count, inner, place = _list(data, place)
        values = []
        for _ in range(count):
            value, place = (None, place + 1) if inner in (1, 2) else _value(data, place, inner, depth + 1)
            values.append(value)
        return values, place
    if kind in (3, 7):
        return None, place + (1 if kind == 3 else 8)
    raise ValueError(f"a field is of the type {kind}")


def _integer(data: bytes, place: int) -> tuple[int, int]:
    number, place = _varint(data, place)
    return number >> 1 ^ -(number & 1), place


def _varint(data: bytes, place: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
    raise ValueError("a number does not end")
