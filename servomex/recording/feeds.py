"""Feed: where an acquisition takes its readings from, and what it passes on."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Generic, TypeVar

from servomex.continuous.reader import ContinuousReader
from servomex.errors import ServomexError
from servomex.models.frame import Frame

T = TypeVar("T")


class Feed(ABC, Generic[T]):
    """The source of the readings, and what is passed on for each.

    Args:
        name: Names the source and the thread.
        reader: Receives the broadcasts of an analyser in continuous mode: without a rate each is passed on, and
            at a rate the refused ones are counted; ``None`` where there are no broadcasts.
    """

    def __init__(self, name: str, reader: ContinuousReader | None) -> None:
        self.name = name
        self.reader = reader

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether it is closed: nothing more will be read."""

    @abstractmethod
    def poll(self) -> T | None:
        """Read now; ``None`` when there is nothing newer than before.

        Raises:
            ServomexError: The reading failed.
        """

    @abstractmethod
    def taken(self, frame: Frame) -> T:
        """Return what is passed on for a broadcast."""

    @abstractmethod
    def failed(self, error: ServomexError) -> T:
        """Return what is passed on in place of a failed reading."""

    def outcomes(self, taken: T) -> Mapping[str, ServomexError | None]:  # noqa: ARG002 (one reading is of one source)
        """Return the sources of a reading that did not fail, each with its error, or ``None`` for a good one."""
        return {self.name: None}

    def end(self) -> None:
        """Close what was opened to read. Called by the thread that reads, after its last reading."""
