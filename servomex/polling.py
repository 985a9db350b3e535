"""How a source of samples is read at a moment: the protocol of sources, and what was given before already."""

import inspect
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from servomex.enums import ChannelId, ProtocolKind
from servomex.errors import ServomexConfigurationError, ServomexValidationError
from servomex.models import Sample


@runtime_checkable
class PollSource(Protocol):
    """What can be recorded: an :class:`Analyzer`, a :class:`ServomexManager`, or anything with this method.

    Its ``name``, ``protocol`` and ``tags``, if it has them, are those of the rows of failed readings. Once its
    ``closed``, if it has that, is true, an error ends the recording.
    """

    def poll_samples(
        self, *, names: Sequence[str] | None = None, timeout: float | None = None
    ) -> Sequence[Sample]:
        """Return the samples of this moment.

        Args:
            names: The analysers to read; all when ``None``.
            timeout: Seconds that the reading of each may take; what is usual for the source when ``None``.

        Raises:
            ServomexError: The reading failed; that is a gap in a recording.
        """


def check_source(source: object) -> None:
    """Check whether something can be recorded.

    Raises:
        ServomexConfigurationError: It has no ``poll_samples`` that takes ``names`` and ``timeout``.
    """
    if not isinstance(source, PollSource):
        raise ServomexConfigurationError(
            f"{source!r} cannot be recorded",
            cure="Record what open_device() returns, a ServomexManager, or a PollSource of your own",
        )
    try:
        inspect.signature(source.poll_samples).bind(names=None, timeout=None)
    except TypeError as error:
        raise ServomexConfigurationError(
            f"poll_samples of {source!r} cannot be called with names and timeout ({error})",
            cure="Define it as poll_samples(self, *, names=None, timeout=None)",
        ) from error


def checked_names(names: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Return the names of analysers that are to be read, each once.

    Raises:
        ServomexValidationError: They are a text or none at all, or an analyser of this name is not here.
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ServomexValidationError(f"names are a list such as ['a', 'b'], not {names!r}")
    wanted, here = tuple(dict.fromkeys(names)), tuple(known)
    if not wanted:
        raise ServomexValidationError("an empty list of names reads nothing", cure="Omit it to read all")
    for name in wanted:
        if name not in here:
            raise ServomexValidationError(
                f"no analyser is named {name!r}", cure=f"Choose from: {', '.join(here) or 'none are here'}"
            )
    return wanted


class Poll:
    """Reads a source, and leaves out what it has given before.

    Args:
        source: What is read.
    """

    def __init__(self, source: PollSource) -> None:
        self._source = source
        self._given: dict[tuple[str, ChannelId | None], set[int]] = {}

    def __call__(self) -> list[Sample] | None:
        """Return the samples of this moment; ``None`` when there is nothing newer than before."""
        samples = self._source.poll_samples(names=None, timeout=None)
        fresh = [item for item in samples if not self._was_given(item)]
        given = defaultdict[tuple[str, ChannelId | None], set[int]](set)
        for item in samples:
            given[item.device, item.channel].add(item.monotonic_ns)
        self._given |= given
        return fresh or None

    def _was_given(self, item: Sample) -> bool:
        """Whether it is the broadcast that was the newest at the moment before already."""
        repeats = item.protocol is ProtocolKind.CONTINUOUS_ASCII and item.error is None
        return repeats and item.monotonic_ns in self._given.get((item.device, item.channel), ())
