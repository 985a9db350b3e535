"""Stores: the outbox of a fleet and the delivery to its sinks, which can be exchanged one by one."""

import functools
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from servomex.durations import MS
from servomex.errors import ServomexSinkWriteError
from servomex.fleet.model import Fleet, OutboxEntry, SinkEntry
from servomex.models.sample import Sample
from servomex.outbox.delivery import Delivery
from servomex.outbox.figures import OutboxFigures
from servomex.outbox.outbox import Outbox
from servomex.sinks.base import Sink
from servomex.sinks.opening import name_of, open_sink

LONGEST_NAME = 128


def sink_name(entry: SinkEntry) -> str:
    """Return the name of a sink in the outbox: its own, or its place without a password."""
    return entry.name or name_of(entry.url or str(entry.path))[-LONGEST_NAME:]


class Stores:
    """What is read goes to the outbox, and from there to each sink.

    Args:
        outbox: The outbox.
        sinks: The sinks.

    Raises:
        ServomexError: The outbox cannot be opened.
    """

    def __init__(self, outbox: OutboxEntry, sinks: Sequence[SinkEntry]) -> None:
        self._entries = {sink_name(entry): entry for entry in sinks}
        self._outbox = Outbox(outbox.path, list(self._entries), max_size=outbox.max_size, max_age=outbox.max_age)
        openers = {name: functools.partial(_open, entry) for name, entry in self._entries.items()}
        self._delivery = Delivery(self._outbox, openers)

    def add(self, samples: Sequence[Sample]) -> None:
        """Add what was read; it is on disk when this returns, unless the disk takes nothing."""
        self._outbox.add(samples)

    def figures(self) -> OutboxFigures:
        """Return how the outbox and its sinks fare."""
        return self._delivery.figures()

    def start(self) -> None:
        """Start to deliver.

        Raises:
            ServomexError: The system cannot start another thread.
        """
        self._delivery.start()

    def apply(self, sinks: Sequence[SinkEntry]) -> list[str]:
        """Deliver to these sinks from now on, and return what was changed, in words; others are not touched.

        The rows of a sink that is gone stay in the outbox, within its limits, until it is named again.
        """
        wanted = {sink_name(entry): entry for entry in sinks}
        before = self._entries
        changed: list[str] = []
        for name in [name for name, entry in before.items() if wanted.get(name) != entry]:
            self._delivery.stop_sink(name)
            changed.append(f"{name} changed" if name in wanted else f"{name} removed")
        self._outbox.name_sinks(list(wanted))
        for name, entry in wanted.items():
            if before.get(name) != entry:
                self._delivery.start_sink(name, functools.partial(_open, entry))
                changed += [f"{name} added"] * (name not in before)
        self._entries = wanted
        return changed

    def close(self) -> None:
        """Deliver what can be delivered at once, and close. May be called twice."""
        self._delivery.close()
        self._outbox.close()


def stores_of(fleet: Fleet) -> Stores | None:
    """Return the stores of a fleet; ``None`` when it has no outbox.

    Raises:
        ServomexError: The outbox cannot be opened.
    """
    return None if fleet.outbox is None else Stores(fleet.outbox, fleet.sinks)


def steps_of(stores: Stores | None) -> dict[str, float]:
    """Return the counts that grow while the threads of the delivery move, by the name of their sink."""
    if stores is None:
        return {}
    return {f"sink {item.name}": MS * (item.moved_at or 0.0) for item in stores.figures().sinks}


def _open(entry: SinkEntry) -> Sink:
    """Open a sink; the password of its file is read anew each time, so that it may be changed."""
    options: dict[str, Any] = {
        name: value for name in ("rotate", "keep", "min_free", "decimal") if (value := getattr(entry, name))
    }
    if entry.url is not None:
        return open_sink(_with_password(entry))
    if entry.rotate is None:
        options["append"] = True
    return open_sink(str(entry.path), **options)


def _with_password(entry: SinkEntry) -> str:
    """Return the URL of a sink with the password of its file.

    Raises:
        ServomexSinkWriteError: The file cannot be read, or is empty.
    """
    url = entry.url or ""
    if entry.password_file is None:
        return url
    try:
        password = entry.password_file.read_text(encoding="utf-8").splitlines()[0]
    except (OSError, UnicodeDecodeError, IndexError) as error:
        why = getattr(error, "strerror", None) or "it is empty or not text"
        raise ServomexSinkWriteError(f"the password in {entry.password_file} cannot be read: {why}") from error
    scheme, _, rest = url.partition("://")
    user, _, place = rest.rpartition("@")
    return f"{scheme}://{user}:{quote(password, safe='')}@{place}"
