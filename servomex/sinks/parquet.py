"""Parquet files: ``.parquet``, written as parts that stay readable whatever happens."""

import contextlib
import errno
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from servomex.errors import (
    ServomexSinkError,
    ServomexSinkSchemaError,
    ServomexSinkWriteError,
    ServomexValidationError,
)
from servomex.models.sample import Sample
from servomex.rows.formats import GROUPED
from servomex.runtime.clock import time
from servomex.runtime.logs import package_log
from servomex.sinks.base import FLUSH_S, FSYNC_S
from servomex.sinks.files import FileSink, explained, explained_reading, lost, plain_metadata
from servomex.sinks.parquet_draft import Draft, IsHeldError
from servomex.sinks.parquet_file import has_other_columns, imported_pyarrow, schema_of_rows
from servomex.sinks.parquet_parts import (
    GROUP_ROWS,
    MERGED,
    RECORDING,
    check_whole,
    groups_of,
    is_merged,
    merged_in,
    metadata_in,
    metadata_of,
    number_of,
    numbered,
    parts_of,
    recording_of,
    remove_merged,
    samples_in,
    sources_of,
)
from servomex.sinks.parquet_tables import table_of
from servomex.sinks.places import LockFile, OpenFolder, Place, check_one_name, real, sync_folder

_log = package_log("servomex")

PART_ROWS = 5_000
"""A flush rewrites the newest part until it has this many rows or was synced: few parts, small writes."""
MOST_WATCHED = 2_000
"""When there are more parts, the older ones are checked only with each sync."""
COMPRESSIONS = ("zstd", "snappy", "gzip", "brotli", "lz4", "none")
"""The first one is the default."""


class ParquetSink(FileSink):
    """Writes a Parquet file, with the metadata in its key-value metadata. Needs the extra ``parquet``.

    The columns are :data:`servomex.ROW_COLUMNS`: times are timestamps in microseconds, UTC except for
    ``analyser_clock``, which has no zone; flags are boolean, ``monotonic_ns`` is a 64-bit integer, ``value`` and
    ``latency_s`` are doubles, ``tags`` are a map of texts, all else is text with a dictionary.

    A Parquet file cannot be read before it is complete. So rows go to ``NAME.parquet.parts/000001.parquet``
    and so on, each complete in itself; closing merges them into ``NAME.parquet`` and then removes them.
    The merged file of a new recording is written ahead, every 100,000 rows, so that closing takes seconds.

    Args:
        path: The file.
        append: Append to the file if it exists.
        overwrite: Replace the file if it exists.
        flush_s: Seconds until a row survives the death of the process, 0 for at once.
        fsync_s: Seconds until a row survives a loss of power, 0 for at once; ``None`` leaves that to the system.
        metadata: Facts about the whole recording.
        compression: ``zstd``, ``snappy``, ``gzip``, ``brotli``, ``lz4`` or ``none``.

    Raises:
        ServomexSinkError: See :class:`FileSink`.
        ServomexValidationError: The compression is another one, or see :class:`FileSink`.
    """

    _format = GROUPED

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        append: bool = False,
        overwrite: bool = False,
        flush_s: float = FLUSH_S,
        fsync_s: float | None = FSYNC_S,
        metadata: Mapping[str, str] | None = None,
        compression: str = COMPRESSIONS[0],
    ) -> None:
        if compression not in COMPRESSIONS:
            raise ServomexValidationError(
                f"compression must be one of {', '.join(COMPRESSIONS)}, not {compression!r}"
            )
        self.compression = compression
        self.metadata: dict[str, str] = plain_metadata(metadata)
        super().__init__(path, append=append, overwrite=overwrite, flush_s=flush_s, fsync_s=fsync_s)

    def _open(self) -> None:
        self._schema = schema_of_rows()
        self._parts = parts_of(self.path)
        self._unsynced: set[str] = set()
        self._rows_of: dict[str, int] = {}
        self._size_of: dict[str, int] = {}
        self._draft: Draft | None = None
        self._drafted = self._undrafted_rows = 0
        self._link = contextlib.ExitStack()
        self._held.callback(self._link.close)
        with explained(self.name):
            if not (self.append or self.overwrite) and self.exists(self.path):
                raise FileExistsError(errno.EEXIST, "exists")
            check_one_name(self.path)
            if self.append and self.path.exists():
                check_whole(self.path)  # or the merge would fail at the end
            merged = merged_in(self.path) if self.append else {}
            self._lock_parts()
            if self.overwrite:
                real(self.path).unlink(missing_ok=True)
                _remove(self._parts.glob("*.parquet"))
            _remove(self._parts.glob("*.tmp"))
            self._take_up_parts(merged)
            self._is_drafting = not numbered(self._parts) and not self.path.exists()
            self._notes = self._all_notes()
            own = self._notes[RECORDING].decode("utf-8", "replace")
            self._number = max([merged.get(own, 0), *map(number_of, numbered(self._parts))]) + 1
            if self._fsync_s is not None:
                sync_folder(self._parts.parent)
        self._placed = True
        self._part = self._schema.empty_table()
        self._size = self._size_before_part = 0

    def _remove_empty_folder(self) -> None:
        """Remove the folder of the parts, unless something was set aside in it."""
        with contextlib.suppress(OSError):
            self._parts.rmdir()

    def _lock_parts(self) -> None:
        """Make the folder of the parts, and keep other recordings away from it."""
        try:
            self._parts.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise ServomexSinkWriteError(
                f"{self._parts} is not a folder, and the parts of {self.name} go there", cure="Move it away"
            ) from error
        self._link.callback(self._remove_empty_folder)
        self._lock_files()
        self._folder = OpenFolder(self._parts)
        self._link.callback(self._folder.close)
        self._link.callback(self._drop_draft)

    def _lock_files(self) -> None:
        self._lock = LockFile(self._parts / ".lock", self.path)  # which readers of a folder omit
        self._link.callback(self._lock.close)

    def _take_up_parts(self, merged: dict[str, int]) -> None:
        """Continue after the parts of a killed run; set aside parts that a loss of power damaged."""
        _remove(part for part in numbered(self._parts) if is_merged(part, merged))
        for part in numbered(self._parts):
            try:
                check_whole(part)
            except ServomexSinkSchemaError as error:
                if has_other_columns(part):
                    raise
                _log.warning("%s; it is set aside", error.message)
                part.replace(part.with_name(f"{part.name}.damaged"))
        self._merged = merged

    def _all_notes(self) -> dict[bytes, bytes]:
        """Return the metadata of earlier runs, updated with that of this one."""
        before = metadata_of(sources_of(self.path))
        now = {key.encode(): text.encode() for key, text in self.metadata.items()}
        return {RECORDING: uuid.uuid4().hex.encode()} | before | now

    def _let_go(self) -> None:
        """Leave the folder and its lock to the parent in a forked child."""
        self._lock.let_go()
        if self._draft is not None:
            self._draft.let_go()
        self._folder.close()
        self._link.pop_all()
        super()._let_go()

    @classmethod
    def check_installed(cls) -> None:
        """Check that pyarrow is installed."""
        imported_pyarrow()

    @classmethod
    def exists(cls, path: Path) -> bool:
        """Return whether there is the file, or parts of it."""
        # The second check finds the file if another program merged the parts after the first one.
        return path.exists() or any(parts_of(path).glob("*.parquet")) or path.exists()

    @property
    def size(self) -> int:
        """Bytes that the parts of this run have so far; merging makes them fewer."""
        return self._size

    def _store(self, rows: list[Any]) -> None:
        arrow = imported_pyarrow()
        new = table_of(rows)
        try:
            self._write_part(arrow.concat_tables([self._part, new]).unify_dictionaries().combine_chunks())
        except IsHeldError:
            self._begin_part()
            self._write_part(new)
        if self._part.num_rows >= PART_ROWS:
            self._begin_part()
        if self._undrafted_rows >= GROUP_ROWS and self._is_drafting:
            self._draft_parts()

    @property
    def _part_name(self) -> str:
        return f"{self._number:06d}.parquet"

    def _write_part(self, table: Any) -> None:
        """Write the newest part, with all its rows.

        Raises:
            IsHeldError: Another program reads it, see :meth:`_write`.
        """
        name = self._part_name
        with explained(self.name):
            if not self._part.num_rows and self._folder.has(name):
                self._leave_to_another()
            try:
                self._write(name, self._notes, [table])
            except OSError as error:
                if self._draft is None or error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                self._drop_draft()  # which makes room
                self._write(name, self._notes, [table])
            self._size = self._size_before_part + self._folder.size(name)
        self._unsynced.add(name)
        self._part = table

    def _check_place(self) -> None:
        """Continue in a new folder of parts when this one was deleted or moved; count parts that are gone."""
        if self._placed:
            with explained(self.name):
                place = self._folder.place
                is_missed = self._part.num_rows and not self._folder.has(self._part_name)
            if place is Place.HERE:
                if is_missed or len(self._rows_of) <= MOST_WATCHED:
                    self._check_parts()
                if not self._lock.is_kept:
                    self._lock.close()
                    self._lock_files()
                return
            if place is Place.MOVED and self._part.num_rows:
                self._begin_part()
            self._note_place(place, sum(self._rows_of.values()))
            self._rows_of.clear()
            self._unsynced.clear()
            self._link.close()
            self._placed = False
        with self._starting_over(), explained(self.name):
            self._parts = parts_of(self.path)
            self._lock_parts()
        self._placed = True
        if self._part.num_rows:
            self._write_again()  # it is still in memory

    def _check_parts(self) -> None:
        """Count the parts of this run that another program has removed; write the newest one again."""
        with explained(self.name):
            sizes = self._folder.sizes()
            changed = [name for name in self._rows_of if sizes.get(name) != self._size_of[name]]
            for name in changed:
                rows = self._rows_of.pop(name)
                done = "changed" if name in sizes else "deleted"
                _log.warning("%s was %s by another program: %s", self._parts / name, done, lost(rows))
                self._drop_draft()
                self._removed += rows
                if name in sizes:
                    self._folder.rename(name, f"{name}.damaged")
        self._unsynced.difference_update(changed)
        if self._part.num_rows and not self._folder.has(self._part_name):
            _log.warning("%s was deleted by another program: it is written again", self._parts / self._part_name)
            self._write_again()

    def _write_again(self) -> None:
        table, self._part = self._part, self._schema.empty_table()
        try:
            self._write_part(table)
        except BaseException:
            self._part = table
            raise

    def _begin_part(self) -> None:
        self._rows_of[self._part_name] = self._part.num_rows
        self._size_of[self._part_name] = self._size - self._size_before_part
        self._undrafted_rows += self._part.num_rows
        self._number += 1
        self._part = self._schema.empty_table()
        self._size_before_part = self._size

    def _draft_parts(self) -> None:
        """Put the parts that are complete into a draft of the file, so that closing does not take minutes."""
        try:
            if self._draft is None:
                self._draft = self._new_draft(real(self.path), self._notes)
            self._add(self._draft, groups_of(self._undrafted()))
        except (OSError, ServomexSinkError) as error:
            _log.debug("%s: its parts are merged at the end (%s)", self.name, error)
            self._drop_draft()
        self._drafted, self._undrafted_rows = self._number - 1, 0

    def _undrafted(self) -> list[Path]:
        """Return the complete parts of this run that are not in the draft."""
        return [self._parts / name for name in self._rows_of if int(name.partition(".")[0]) > self._drafted]

    def _drop_draft(self) -> None:
        """Remove the draft: the parts are merged at the end, as far as they are there."""
        draft, self._draft, self._is_drafting = self._draft, None, False
        if draft is not None:
            draft.drop()

    def _new_draft(self, target: str | Path, notes: dict[bytes, bytes]) -> Draft:
        return Draft(self._folder, target, notes, self.compression)

    def _add(self, draft: Draft, tables: Iterable[Any]) -> None:
        for table in tables:
            draft.add(table)
            self._moved_at = time.monotonic()

    def _write(
        self, target: str | Path, notes: dict[bytes, bytes], tables: Iterable[Any], *, sync: bool = False
    ) -> None:
        """Write a part, or another file by its path.

        Raises:
            IsHeldError: It exists already, and cannot be replaced, see :meth:`Draft.complete`.
        """
        draft = self._new_draft(target, notes)
        try:
            self._add(draft, tables)
            draft.complete(sync=sync)
        except BaseException:
            draft.drop()
            raise

    def _sync(self) -> None:
        self._check_parts()
        with explained(self.name):
            for name in self._unsynced:
                self._folder.sync(name)
            sync_folder(self._parts)
        self._unsynced.clear()
        if self._part.num_rows:
            self._begin_part()  # a loss of power may damage a part that is rewritten, so this one no longer is

    def _finish(self) -> None:
        """Merge the parts, and what the file held before, into the file."""
        self._check_parts()
        parts, path = numbered(self._parts), real(self.path)
        before = [path] if path.exists() else []
        with explained(self.name):
            if parts or not before:
                try:
                    self._merge(path, before, parts)
                except IsHeldError:
                    _log.warning(
                        "%s cannot be replaced, as another program reads it or its folder is not writable: "
                        "its new rows stay in %s, where load() finds them",
                        self.name,
                        self._parts,
                    )
                    return
                sync_folder(path.parent)
            remove_merged(parts)
        self._unsynced.clear()
        self._rows_of.clear()
        self._part = self._schema.empty_table()

    def _merge(self, path: Path, before: list[Path], parts: list[Path]) -> None:
        if self._part.num_rows:
            self._begin_part()
        are_known = not before and [part.name for part in parts] == [*self._rows_of]
        if self._draft is None or not are_known or not self._draft.is_whole:
            self._drop_draft()
            merged = self._merged | {recording_of(part): number_of(part) for part in parts}
            notes = self._notes | {MERGED: json.dumps(merged).encode()}
            self._write(path, notes, groups_of([*before, *parts]), sync=True)
            return
        self._add(self._draft, groups_of(self._undrafted()))
        merged = {self._notes[RECORDING].decode("utf-8", "replace"): self._number - 1}
        self._draft.complete({MERGED: json.dumps(merged).encode()}, sync=True)
        self._draft = None

    @classmethod
    def read(cls, path: Path) -> Iterator[Sample]:
        """Return the samples of a file and of its parts, or of a folder of parts."""
        with explained_reading(path):
            yield from samples_in(path)

    @classmethod
    def read_metadata(cls, path: Path) -> dict[str, str]:
        """Return the key-value metadata."""
        with explained_reading(path):
            found = metadata_in(path)
        return {
            key.decode("utf-8", "replace"): text.decode("utf-8", "replace")
            for key, text in found.items()
            if key != RECORDING
        }


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink()
