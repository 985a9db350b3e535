"""FanOut: batches of samples to several sinks; one that fails does not stop the others."""

import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from servomex.errors import (
    ServomexValidationError,
)
from servomex.models.sample import Sample
from servomex.recording.retry import RetryingSink, SinkState
from servomex.runtime.clock import time
from servomex.sinks.base import Sink
from servomex.sinks.opening import SinkOptions, check_targets, open_sink, options_of

Target = Sink | str | os.PathLike[str]
"""Where samples are written: an open sink, a file name, or a URL."""
_TARGETS = (Sink, str, os.PathLike)
NAME_FILES = "Name one or more files, as in ['run.csv']"


@attrs.frozen
class Standing:
    """A sink that is being written.

    Attributes:
        name: Its name.
        since: Since when, on the monotonic clock, it has made no progress.
    """

    name: str
    since: float

    @property
    def seconds(self) -> float:
        """For how long it has made no progress."""
        return time.monotonic() - self.since


class FanOut:
    """Writes to several sinks. One that keeps failing is closed and dropped; losing the last one ends the writing.

    A sink that cannot be written at the moment, because of a full disk or another program's lock, is retried for
    30 s, while its samples wait. When a sink refuses a sample, only that sample is lost.

    Args:
        sinks: Where to write; they are closed by :meth:`close`, and when they are dropped.
        given: Those of them that belong to the caller: they stay open, with everything synced at the end.
    """

    def __init__(self, sinks: Iterable[Sink], given: Iterable[Sink] = ()) -> None:
        stay_open = {*map(id, given)}
        self._outlets = [RetryingSink(sink, stays_open=id(sink) in stay_open) for sink in sinks]

    @property
    def standing(self) -> Standing | None:
        """The sink that is being written, and since when it has made no progress; ``None`` if there is none."""
        for outlet in self._outlets:
            if (since := outlet.standing_since) is not None:
                return Standing(outlet.name, since)
        return None

    @property
    def states(self) -> tuple[SinkState, ...]:
        """What each sink is doing now."""
        return tuple(outlet.state for outlet in self._outlets)

    def give_up(self) -> int:
        """Abandon the sinks, since one does not answer; return how many samples may not be in them."""
        for outlet in self._outlets:
            outlet.keep()
        return sum(outlet.lost + outlet.removed + outlet.unstored for outlet in self._outlets)

    @property
    def lost(self) -> int:
        """Samples that are not in a sink, counted for each. Certain once it is closed."""
        return sum(outlet.lost + outlet.removed for outlet in self._outlets)

    def write(self, samples: Sequence[Sample]) -> None:
        """Write one batch to each sink.

        Raises:
            ServomexSinkError: There is no sink left to write to.
        """
        for outlet in self._outlets:
            outlet.add(samples)
        for outlet in self._outlets:
            outlet.write()
        self._check_rest()

    def flush_if_due(self) -> None:
        """Flush each sink whose interval has passed, and retry what failed.

        Raises:
            ServomexSinkError: There is no sink left to write to.
        """
        for outlet in self._outlets:
            outlet.flush_if_due()
        self._check_rest()

    def close(self) -> None:
        """Write what still waits, and close all sinks. May be called twice.

        Raises:
            ServomexSinkError: One of them failed, now or before.
        """
        with contextlib.ExitStack() as ends:
            for outlet in reversed(self._outlets):
                ends.callback(outlet.close)
        for outlet in self._outlets:
            if outlet.failure:
                raise outlet.failure

    def _check_rest(self) -> None:
        failures = [outlet.failure for outlet in self._outlets if outlet.dropped]
        if len(failures) == len(self._outlets) and failures[-1]:
            raise failures[-1]


def open_fan_out(sinks: Target | Iterable[Target], options: SinkOptions) -> FanOut:
    """Open the sinks that are named. If one cannot be opened, close those that were opened here.

    Args:
        sinks: One or several. The writer closes those given by name, and leaves open those passed in open.
        options: For those given by name; each takes the options that apply to it.

    Raises:
        ServomexValidationError: There is none, or see :func:`open_sink`.
        ServomexSinkError: See :func:`open_sink`.
    """
    single = isinstance(sinks, _TARGETS) or hasattr(sinks, "write")  # as an open file has, which is refused below
    wanted: list[Any] = [sinks] if single or not isinstance(sinks, Iterable) else list(sinks)
    if not wanted:
        raise ServomexValidationError("there is no sink to write to", cure=NAME_FILES)
    for item in wanted:
        if not isinstance(item, _TARGETS):
            raise ServomexValidationError(f"a sink is a Sink or a file name, not {item!r}", cure=NAME_FILES)
    given = [item for item in wanted if isinstance(item, Sink)]
    if len({*map(id, given)}) < len(given):
        raise ServomexValidationError("a sink is passed twice: each sample would be in it twice")
    named = [item for item in wanted if not isinstance(item, Sink)]
    if not named and options.keys() - {"metadata"}:
        raise ServomexValidationError(
            "sink_options are for sinks given by name, but these are already open", cure="Omit sink_options"
        )
    check_targets(named, **options)  # before a file is made or emptied for one in front of it
    opened: list[Sink] = []
    with contextlib.ExitStack() as undo:
        for item in wanted:
            sink = item if isinstance(item, Sink) else open_sink(item, **options_of(item, options))
            if sink is not item:
                undo.callback(sink.close)
            opened.append(sink)
        undo.pop_all()
    return FanOut(opened, given)
