"""The frame in an error: errors are below the models, and describe only what users read of it."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Protocol


class LastReading(Protocol):
    """A :class:`servomex.Reading`, as far as this protocol names it."""

    @property
    def channel(self) -> str:
        """The channel, such as ``I1``."""

    @property
    def name(self) -> str | None:
        """The name on the display."""

    @property
    def value(self) -> float | None:
        """The value; ``None`` when it is not valid."""

    @property
    def unit_text(self) -> str:
        """The unit, as the analyser writes it."""

    @property
    def quality(self) -> str:
        """How far the value can be trusted."""

    @property
    def ok(self) -> bool:
        """Whether it has no fault and no alarm."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as a row."""


class LastFrame(Protocol):
    """A :class:`servomex.Frame`, as far as this protocol names it."""

    @property
    def protocol(self) -> str:
        """The communication mode."""

    @property
    def readings(self) -> tuple[LastReading, ...]:
        """The populated channels."""

    @property
    def received_at(self) -> datetime:
        """Arrival of the last byte, UTC."""

    @property
    def monotonic_ns(self) -> int:
        """The same on the monotonic clock, in nanoseconds."""

    @property
    def age_s(self) -> float:
        """Seconds since then."""

    @property
    def ok(self) -> bool:
        """Whether the analyser has no fault and every reading is ok."""

    def get(self, channel: str, /) -> LastReading | None:
        """Return the reading of a channel, ``None`` when the frame does not hold it."""

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""

    def __getitem__(self, channel: str, /) -> LastReading: ...

    def __iter__(self) -> Iterator[LastReading]: ...

    def __len__(self) -> int: ...
