"""Reading a recording in Parquet: the merged file, and the parts that are not in it yet."""

import contextlib
import errno
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from servomex.errors import ServomexSinkReadError, ServomexSinkSchemaError
from servomex.models.sample import Sample
from servomex.rows.cells import TYPED
from servomex.runtime.clock import time
from servomex.runtime.logs import package_log
from servomex.sinks.parquet_file import Part, has_other_columns, imported_pyarrow, opened, understood, values_of
from servomex.sinks.places import real

_log = package_log("servomex")

GROUP_ROWS = 100_000
"""Rows of a row group of the merged file."""
RECORDING = b"servomex.recording.recording"
"""Metadata of each part and of the merged file: which recording it belongs to."""
MERGED = b"servomex.merged_parts"
"""Metadata of a merged file: as JSON, for each recording in it the number of its last part."""
TRIES = 20
"""How often reading is retried while another program finishes the recording."""
PAUSE_S = 0.05


def parts_of(path: Path) -> Path:
    """Return the folder that holds the parts of a file until it is closed."""
    place = real(path)
    return place.with_name(f"{place.name}.parts")


def numbered(folder: Path) -> list[Path]:
    """Return the parts in a folder in their order."""
    return sorted((file for file in folder.glob("*.parquet") if file.stem.isdecimal()), key=number_of)


def number_of(part: Path) -> int:
    """Return the number of a part, from its name."""
    return int(part.stem)


def _notes_in(path: Path) -> dict[bytes, bytes]:
    with opened(path) as part:
        return part.notes


def metadata_of(sources: list[Path]) -> dict[bytes, bytes]:
    """Return the metadata of a recording, from its newest undamaged file, which has all of it."""
    for source in reversed(sources):
        with contextlib.suppress(ServomexSinkSchemaError):
            return {key: text for key, text in _notes_in(source).items() if key != MERGED}
    return {}


def merged_in(path: Path) -> dict[str, int]:
    """Return the number of the last part of each recording in a merged file; empty when there is no such file."""
    return _merged(_notes_in(path)) if path.exists() else {}


def _merged(notes: dict[bytes, bytes]) -> dict[str, int]:
    try:
        found = json.loads(notes.get(MERGED, b"{}"))
        return {str(recording): int(number) for recording, number in found.items()}
    except (ValueError, AttributeError, TypeError, RecursionError):
        return {}  # it was not written by this package


def recording_of(part: Path) -> str:
    """Return which recording a part belongs to; an empty text for a damaged or unmarked one."""
    try:
        return _notes_in(part).get(RECORDING, b"").decode("utf-8", "replace")
    except ServomexSinkSchemaError:
        return ""


def is_merged(part: Path, merged: dict[str, int]) -> bool:
    """Return whether the rows of a part are already in the merged file, as after a kill during the merge."""
    return bool(merged) and number_of(part) <= merged.get(recording_of(part), 0)


def remove_merged(parts: Iterable[Path]) -> None:
    """Remove parts that are in the file; on Windows one that is being read stays, and is ignored."""
    for part in parts:
        with contextlib.suppress(PermissionError):
            part.unlink()


def check_whole(path: Path) -> None:
    """Check all rows of a file.

    Raises:
        ServomexSinkSchemaError: It is damaged.
    """
    with opened(path) as file:
        for _ in file.batches():
            pass


def sources_of(path: Path) -> list[Path]:
    """Return the files that hold a recording: those of a folder, or the merged file and the parts not in it."""
    with contextlib.ExitStack() as held:
        return [source for source, _ in _sources(path, held)]


def _sources(path: Path, held: contextlib.ExitStack) -> list[tuple[Path, Part | None]]:
    """Return the files that hold a recording, the merged one opened: another program may replace it.

    Raises:
        FileNotFoundError: Another program has just merged the parts into the file.
    """
    if path.is_dir():
        found = sorted(path.glob("*.parquet"))
        if not found and path.suffix != ".parts":
            raise ServomexSinkReadError(f"{path} is a folder without parts of a recording")
        _check_numbers(path, [part for part in found if part.stem.isdecimal()], 0)
        return [(part, None) for part in found]
    merged = held.enter_context(opened(path)) if path.exists() else None
    parts = _parts_beside(path, merged)
    if merged is None and path.exists():
        raise FileNotFoundError(errno.ENOENT, "its parts are being merged")
    if merged is not None and not merged.is_at(path):
        raise FileNotFoundError(errno.ENOENT, "it is being replaced")
    first: list[tuple[Path, Part | None]] = [] if merged is None else [(path, merged)]
    return first + [(part, None) for part in parts]


def _parts_beside(path: Path, merged: Part | None) -> list[Path]:
    """Return the parts that are not in the merged file: later ones, and those of another recording."""
    parts = numbered(parts_of(path))
    if merged is None:
        _check_numbers(path, parts, 0)
        return parts
    done = _merged(merged.notes)
    recordings = {part: recording_of(part) for part in parts}
    left = [part for part, recording in recordings.items() if number_of(part) > done.get(recording, 0)]
    if len({*recordings.values()}) == 1:  # the numbers of several do not follow each other
        _check_numbers(path, left, max(done.get(recording, 0) for recording in recordings.values()))
    return left


def _check_numbers(path: Path, parts: list[Path], before: int) -> None:
    """Report parts that are missing among those of a recording."""
    missing = max(map(number_of, parts), default=before) - before - len(parts)
    if missing > 0:
        _log.warning("%s: %d of its parts are missing, and the rows in them", path, missing)


def groups_of(sources: Iterable[Path]) -> Iterator[Any]:
    """Yield the contents of files, with small pieces combined."""
    arrow = imported_pyarrow()
    held: list[Any] = []
    for source in sources:
        with opened(source) as part:
            for batch in part.batches():
                held.append(arrow.Table.from_batches([batch]))
                if sum(table.num_rows for table in held) >= GROUP_ROWS:
                    yield arrow.concat_tables(held).unify_dictionaries()
                    held = []
    if held:
        yield arrow.concat_tables(held).unify_dictionaries()


def samples_in(path: Path) -> Iterator[Sample]:
    """Yield the samples of a recording, even while another program merges its parts.

    Raises:
        OSError: It cannot be read.
        ServomexSinkSchemaError: It is damaged; the error names the row.
    """
    given = 0
    for left in reversed(range(TRIES)):
        number = 0
        try:
            for sample in _samples_once(path):
                number += 1
                if number > given:
                    given = number
                    yield sample
        except FileNotFoundError:
            if not left or not (path.exists() or parts_of(path).exists()):
                raise
            time.sleep(PAUSE_S)  # what was yielded is in the merged file too, in the same order
        else:
            return


def _samples_once(path: Path) -> Iterator[Sample]:
    with contextlib.ExitStack() as held:
        sources = _sources(path, held)
        for source, merged in sources:
            with contextlib.ExitStack() as opening:
                try:
                    part = merged or opening.enter_context(opened(source))
                except ServomexSinkSchemaError as error:
                    if source == path or source != sources[-1][0] or has_other_columns(source):
                        raise
                    _log.warning("%s; it is omitted: the recording was not ended properly", error.message)
                    return
                yield from _samples_of(part)


def metadata_in(path: Path) -> dict[bytes, bytes]:
    """Return the metadata of a recording, even while another program merges its parts.

    Raises:
        OSError: It cannot be read.
    """
    for _ in range(TRIES):
        try:
            return metadata_of(sources_of(path))
        except FileNotFoundError:
            time.sleep(PAUSE_S)
    return metadata_of(sources_of(path))


def _samples_of(part: Part) -> Iterator[Sample]:
    number = 0
    for batch in part.batches():
        with understood(part.path):
            rows = [*zip(*map(values_of, batch.columns), strict=True)]
        for row in rows:
            number += 1
            try:
                sample = TYPED.sample(row)
            except ValueError as error:
                raise ServomexSinkSchemaError(f"{part.path}, row {number}: {error}") from error
            yield sample
