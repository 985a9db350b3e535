"""What is known of an outbox at one moment: what waits in it, for whom, and how its delivery fares."""

from pathlib import Path

import attrs


@attrs.frozen(kw_only=True)
class SinkFigures:
    """One sink of an outbox.

    Attributes:
        name: Its name.
        waiting: Rows that wait for it.
        gaps: Gaps that it has not been sent yet.
        delivered: Rows that it has stored, since the outbox was made.
        dropped: Rows that were dropped before it had them, since the outbox was made.
        poison: Rows that it refused and that were set aside.
        is_named: Whether the program that has the outbox open delivers to it; ``None`` when that is not known.
        is_open: Whether it is open; ``None`` without a :class:`Delivery`.
        failures: How many attempts have failed since the last success.
        last_error: Why the last failed attempt did; ``None`` when none did.
        moved_at: When its thread last made progress, on the monotonic clock; ``None`` without a
            :class:`Delivery`. A thread that waits to try again makes progress, one in a call that does not return
            makes none.
    """

    name: str
    waiting: int
    gaps: int = 0
    delivered: int = 0
    dropped: int = 0
    poison: int = 0
    is_named: bool | None = None
    is_open: bool | None = None
    failures: int = 0
    last_error: str | None = None
    moved_at: float | None = None


@attrs.frozen(kw_only=True)
class OutboxFigures:
    """An outbox at one moment.

    Attributes:
        path: Its file.
        rows: Rows that at least one sink does not have yet.
        size: Bytes in use, the log included.
        oldest_age_s: For how many seconds the oldest of these rows has waited; ``None`` when there is none.
        sinks: The sinks, by name.
        in_memory: How many of the rows are in memory only, since the disk takes none.
        lost: Rows that were given up in memory, since the outbox was made; every sink gets a row that says so.
        poison: Rows that were set aside, for all sinks together.
        last_error: Why the disk took no rows, or the file had to be put aside; ``None`` when all is well.
        put_aside: Where a damaged file was put aside since the outbox was opened; ``None`` when none was.
    """

    path: Path
    rows: int
    size: int
    oldest_age_s: float | None
    sinks: tuple[SinkFigures, ...]
    in_memory: int = 0
    lost: int = 0
    poison: int = 0
    last_error: str | None = None
    put_aside: Path | None = None

    def sink(self, name: str) -> SinkFigures:
        """Return the figures of one sink.

        Raises:
            KeyError: There is none of this name.
        """
        found = {item.name: item for item in self.sinks}
        return found[name]
