"""A Parquet file while it is written: under a temporary name until it is complete."""

import contextlib
import os
from pathlib import Path
from typing import Any

from servomex.runtime.forks import keep_forever
from servomex.sinks.parquet_file import imported_pyarrow, schema_of_rows
from servomex.sinks.places import OpenFolder, sync_file


class IsHeldError(Exception):
    """A file cannot be replaced."""


class Draft:
    """A file that gets its name when it is complete.

    Args:
        folder: Where it is written.
        target: Its name in this folder, or its path when it is to be moved elsewhere.
        notes: Its key-value metadata.
        compression: How it is compressed.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(
        self, folder: OpenFolder, target: str | Path, notes: dict[bytes, bytes], compression: str
    ) -> None:
        arrow = imported_pyarrow()
        self._folder = folder
        self._target = target
        self._name = f"{Path(target).name}.tmp"
        folder.remove(self._name)
        self._file = folder.create(self._name)
        self._writer = arrow.parquet.ParquetWriter(
            self._file, schema_of_rows().with_metadata(notes), compression=compression, write_page_checksum=True
        )

    def add(self, table: Any) -> None:
        """Write a table as one row group.

        Raises:
            OSError: That failed.
        """
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    @property
    def is_whole(self) -> bool:
        """Whether all that was written is still there: other programs may remove files."""
        self._file.flush()
        return self._folder.has(self._name) and self._folder.size(self._name) == self._file.tell()

    def complete(self, more_notes: dict[bytes, bytes] | None = None, *, sync: bool = False) -> None:
        """End the file and give it its name.

        Raises:
            IsHeldError: The target cannot be replaced: on Windows, while another program reads it.
            OSError: That failed.
        """
        if more_notes:
            self._writer.add_key_value_metadata(more_notes)
        with self._file:
            self._writer.close()
            if sync:
                self._file.flush()
                sync_file(self._file.fileno())
        try:
            self._folder.rename(self._name, self._target)
        except PermissionError as error:
            target = self._target
            if not (self._folder.has(target) if isinstance(target, str) else target.exists()):
                raise
            raise IsHeldError from error

    def drop(self) -> None:
        """Remove what was written so far, as far as that is possible."""
        with contextlib.suppress(Exception):  # it may be closed already, or the disk full
            self._writer.close()
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._folder.remove(self._name)

    def let_go(self) -> None:
        """Leave it to the parent in a forked child: nothing more is written to the file they share."""
        keep_forever(self._writer)
        keep_forever(self._file)
        os.close(self._file.fileno())
