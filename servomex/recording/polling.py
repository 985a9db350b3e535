"""Reading a source of samples at a moment: the protocol of sources, and which samples are new."""

import functools
import inspect
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import attrs

from servomex.enums import ChannelId, ErrorPolicy, ProtocolKind
from servomex.errors import ServomexConfigurationError, ServomexValidationError
from servomex.errors.mappings import FrozenMapping
from servomex.models.sample import Sample
from servomex.models.tags import NO_TAGS, tags_of
from servomex.port.link import SerialLink

KEPT = 256
"""For how many analysers the merged tags are cached."""


@runtime_checkable
class PollSource(Protocol):
    """What can be recorded: an :class:`Analyzer`, a :class:`ServomexManager`, or anything with this method.

    If it has a ``name``, a ``protocol`` or ``tags``, the rows of failed readings carry them. If it has ``closed``,
    an error ends the recording once that is true.
    """

    def poll_samples(
        self, *, names: Sequence[str] | None = None, timeout: float | None = None
    ) -> Sequence[Sample]:
        """Return the samples of this moment.

        Args:
            names: The analysers to read; all when ``None``.
            timeout: Seconds that each reading may take; the source's default when ``None``.

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


def checked_names(names: Iterable[str], here: Iterable[str] | None) -> tuple[str, ...]:
    """Return the names of analysers that are to be read, each once.

    Args:
        names: The names asked for.
        here: The names that exist; ``None`` when only the source knows them.

    Raises:
        ServomexValidationError: They are a text or empty, or there is no analyser of this name.
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ServomexValidationError(f"names must be a list such as ['a', 'b'], not {names!r}")
    wanted, known = tuple(dict.fromkeys(names)), None if here is None else tuple(here)
    if not wanted:
        raise ServomexValidationError("an empty list of names reads nothing", cure="Omit it to read all")
    for name in wanted:
        if not isinstance(name, str) or (known is not None and name not in known):
            there = f"; there are: {', '.join(known) or 'none'}" if known is not None else ""
            raise ServomexValidationError(f"no analyser is named {name!r}{there}")
    return wanted


def names_here(source: PollSource) -> tuple[str, ...] | None:
    """Return the names of the analysers of an ``Analyzer`` or a manager; ``None`` for a source of the user's own.

    Sources of this package reopen a lost port by themselves.
    """
    if is_manager(source):
        return tuple(getattr(source, "names", ()))
    return (str(getattr(source, "name", "")),) if isinstance(getattr(source, "link", None), SerialLink) else None


def is_manager(source: PollSource) -> bool:
    """Return whether a source has a policy for errors, as a ``ServomexManager`` does."""
    return isinstance(getattr(source, "error_policy", None), ErrorPolicy)


class Poll:
    """Reads a source, and omits what it returned before.

    Failures of a manager's analysers are samples with errors, whatever its error policy is.

    Args:
        source: What is read.
        names: The analysers that are read; all when ``None``.
        timeout: Seconds that the reading of each may take.
        tags: Tags of the recording for every sample; they take precedence over those of the analyser.
    """

    def __init__(
        self,
        source: PollSource,
        *,
        names: Sequence[str] | None = None,
        timeout: float | None = None,
        tags: FrozenMapping[str] = NO_TAGS,
    ) -> None:
        self._source = source
        self._options: dict[str, Any] = {"names": names, "timeout": timeout}
        if is_manager(source):
            self._options["error_policy"] = ErrorPolicy.RETURN
        self._tags = tags
        self._metadata = functools.lru_cache(maxsize=KEPT)(self._merged)
        self._given: dict[tuple[str, ChannelId | str | None], set[int]] = {}

    def __call__(self) -> list[Sample] | None:
        """Return the samples of this moment; ``None`` when there is nothing newer than before."""
        samples = self._source.poll_samples(**self._options)
        fresh = [self._tagged(item) for item in samples if not self._was_given(item)]
        given = defaultdict[tuple[str, ChannelId | str | None], set[int]](set)
        for item in samples:
            given[item.device, item.channel].add(item.monotonic_ns)
        self._given |= given
        return fresh or None

    def _tagged(self, item: Sample) -> Sample:
        return attrs.evolve(item, metadata=self._metadata(item.metadata)) if self._tags else item

    def _merged(self, metadata: Mapping[str, str]) -> FrozenMapping[str]:
        return tags_of({**metadata, **self._tags})

    def _was_given(self, item: Sample) -> bool:
        """Return whether it is the broadcast that was already the newest at the moment before."""
        repeats = item.protocol is ProtocolKind.CONTINUOUS_ASCII and item.error is None
        return repeats and item.monotonic_ns in self._given.get((item.device, item.channel), ())
