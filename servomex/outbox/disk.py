"""The file of an outbox in spite of its disk: one that fails is tried again, and a damaged file is put aside."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from servomex.errors import ServomexSinkError
from servomex.outbox.database import PAGE, check_kind, explained, is_damage, name_of, sidecars
from servomex.outbox.ledger import Ledger
from servomex.outbox.limits import Reserve, log_bytes
from servomex.runtime.clock import time
from servomex.runtime.forks import keep_forever
from servomex.runtime.logs import package_log
from servomex.sinks.places import LockFile, real, unused

_log = package_log("servomex")

RETRY_S = 1.0
"""How soon a disk that took nothing is tried again."""
LOOK_S = 1.0
"""How often the file is checked for having been moved."""

T = TypeVar("T")


class Disk:
    """The file of an outbox. After it is open, no method raises because of the disk.

    Args:
        path: The file.
        max_size: Bytes that it may have.
        is_strict: Whether each transaction waits until it survives a loss of power.

    Attributes:
        error: Why it took nothing when it was last tried; ``None`` when it did.
        put_aside: Where a file was put aside.
        why_aside: Why.
        owes_reserve: Whether the reserve was used and is to be made again.
        is_full: Whether it failed a moment ago because it is full, and nothing was done about that yet.
        renewed: Called when a new file has taken the place of a damaged one.

    Raises:
        ServomexSinkError: It cannot be opened.
    """

    def __init__(self, path: Path, *, max_size: int, is_strict: bool) -> None:
        self.error: str | None = None
        self.put_aside: Path | None = None
        self.why_aside: str = ""
        self.is_full: bool = False
        self.owes_reserve: bool = False
        self.renewed: Callable[[], None] = lambda: None
        self._path = real(path)
        self._log_bytes = log_bytes(max_size)
        self._is_strict = is_strict
        self._reserve = Reserve(self._path, self._log_bytes)
        self._retry_at = self._look_at = 0.0
        with self._opening():
            check_kind(self._path)
            self._lock = LockFile(self._path.with_name(f"{self._path.name}-lock"), path)
        try:
            with self._opening():
                try:
                    self.ledger: Ledger = self._opened()
                except sqlite3.Error as error:
                    if not is_damage(error):
                        raise
                    self.begin_anew(error)
        except BaseException:
            self._lock.close()
            raise

    @contextlib.contextmanager
    def _opening(self) -> Iterator[None]:
        try:
            yield
        except ServomexSinkError:
            raise
        except (sqlite3.Error, OSError) as error:
            raise explained(self._path, error) from error

    def _opened(self) -> Ledger:
        ledger = Ledger(self._path, autocheckpoint=self._log_bytes // PAGE, is_strict=self._is_strict)
        self._opened_as = self._path.stat()
        return ledger

    def write(self, act: Callable[[], object]) -> bool:
        """Do something in a transaction; return whether the disk took it."""
        return self._attempt(lambda: self._in_transaction(act))

    def do(self, act: Callable[[], object]) -> bool:
        """Do something without a transaction; return whether that succeeded."""
        return self._attempt(act)

    def _in_transaction(self, act: Callable[[], object]) -> None:
        with self.ledger.transaction():
            act()

    def _attempt(self, act: Callable[[], object]) -> bool:
        if time.monotonic() < self._retry_at:
            return False
        try:
            self._check_place()
            act()
        except sqlite3.Error as error:
            self._failed(error)
            return False
        if self.error is not None:
            _log.warning("the outbox %s can be written again", self._path)
            self.error = None
        return True

    def read(self, act: Callable[[], list[T]]) -> list[T]:
        """Return what a reading call returns; nothing when it fails."""
        try:
            return act()
        except sqlite3.Error as error:
            self._failed(error)
            return []

    def number(self, act: Callable[[], int]) -> int:
        """Return the number that a reading call returns; 0 when it fails."""
        return sum(self.read(lambda: [act()]))

    def _failed(self, error: sqlite3.Error) -> None:
        if is_damage(error):
            self._renew(error)
            return
        self._retry_at = time.monotonic() + RETRY_S
        self.is_full = name_of(error).startswith("SQLITE_FULL")
        reason = explained(self._path, error)
        if self.error is None:
            _log.warning("%s. Rows wait in memory until it can be written", reason.text)
        self.error = reason.text

    def try_at_once(self) -> None:
        """Try the disk again with the next call, although it failed a moment ago."""
        self._retry_at = 0.0

    def use_reserve(self) -> None:
        """Remove the reserve, since the disk is full, and let the next call try it again at once."""
        self._reserve.remove()
        self._retry_at, self.is_full, self.owes_reserve = 0.0, False, True

    def make_reserve(self, *, at_once: bool = False) -> bool:
        """Make the reserve if it is not there; return whether it is.

        Args:
            at_once: Whether to try although it failed a moment ago.
        """
        if self.error is None:
            self._reserve.make(at_once=at_once)
            self.owes_reserve = self.owes_reserve and not self._reserve.is_there
        return self._reserve.is_there

    def _check_place(self) -> None:
        """Begin a new file when another program has removed or replaced this one."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_S
        try:
            now = self._path.stat()
        except OSError:
            now = None
        if now is None or (now.st_dev, now.st_ino) != (self._opened_as.st_dev, self._opened_as.st_ino):
            self._renew(sqlite3.DatabaseError("another program has removed or replaced it"))

    def _renew(self, error: sqlite3.Error) -> None:
        try:
            self.begin_anew(error)
        except (sqlite3.Error, OSError) as second:
            self._retry_at = time.monotonic() + RETRY_S
            self.error = explained(self._path, second).text
            _log.error("%s", self.error)
            return
        self.renewed()

    def begin_anew(self, error: sqlite3.Error) -> None:
        """Put the file aside, and make a new one.

        Raises:
            sqlite3.Error: That failed.
            OSError: That failed.
        """
        if hasattr(self, "ledger"):
            with contextlib.suppress(sqlite3.Error):
                self.ledger.close()
        kept = unused(self._path.with_name(f"{self._path.stem}-damaged{self._path.suffix}"))
        if self._path.exists():
            self._path.rename(kept)
            self.put_aside = kept
        for old, new in zip(sidecars(self._path), sidecars(kept), strict=True):
            if old.exists():
                old.replace(new)
        self.why_aside = f"{explained(self._path, error).message}; it was put aside as {kept.name}"
        _log.error("%s, and a new one was begun", self.why_aside)
        self.ledger = self._opened()

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(sqlite3.Error):
            self.ledger.close()
        self._lock.close()

    def let_go(self) -> None:
        """Leave it to the process that this one was forked from."""
        keep_forever(self.ledger)
        self._lock.let_go()
