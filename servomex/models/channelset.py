"""The channels that an analyser has, and how one that vanishes is treated. No I/O."""

from collections.abc import Iterable

from servomex.enums import ChannelId
from servomex.errors import ErrorContext, ServomexChannelError
from servomex.models.naming import listed
from servomex.models.reading import Reading
from servomex.runtime.logs import package_log

_log = package_log("servomex")

ALL_CHANNELS = frozenset(ChannelId)


class ChannelSet:
    """The channels that an analyser is known to have, from its successive readings.

    A channel that goes missing is an error, until the next reading lacks the same channels: then the analyser was
    set up differently, which is logged as a warning, and readings continue without them. A requested channel stays
    an error for as long as it is missing. A channel that appears is accepted at once.

    Args:
        selected: The requested channels; ``None`` for all that are populated.
    """

    def __init__(self, selected: frozenset[ChannelId] | None = None) -> None:
        self._selected = selected or frozenset()
        self._known: dict[ChannelId, str | None] = {}
        self._missed: frozenset[ChannelId] = frozenset()

    def check(
        self,
        readings: Iterable[Reading],
        context: ErrorContext,
        *,
        looked_at: frozenset[ChannelId] = ALL_CHANNELS,
        confirmed: bool = False,
    ) -> None:
        """Compare the channels of a reading with those that are known, and remember them.

        Args:
            readings: What was read.
            context: Where.
            looked_at: The channels that this reading would have shown.
            confirmed: The caller has already seen two readings in a row that agree.

        Raises:
            ServomexChannelError: A channel is missing.
        """
        present = {ChannelId(item.channel): item.name for item in readings}
        if present == self._known and self._selected <= present.keys():
            self._missed = frozenset()
            return
        missing = (self._known.keys() | self._selected) & looked_at - present.keys()
        if asked := missing & self._selected:
            there = f"; this analyser has {listed(readings)}" if looked_at == ALL_CHANNELS else ""
            raise ServomexChannelError(
                f"not populated: {', '.join(sorted(asked))} (no name, no state and no value){there}",
                context,
                cure="Check the setup of the analyser, or read other channels",
            )
        if missing and not confirmed and missing != self._missed:
            self._missed = frozenset(missing)
            raise ServomexChannelError(
                f"{self._named(missing)} missing from this reading: no name, no state and no value",
                context,
                cure="Read again: if the next reading confirms that, readings continue without",
            )
        if missing:
            _log.warning(
                "%s: %s not populated any more: readings continue without", context.port, self._named(missing)
            )
        if self._known and (added := present.keys() - self._known.keys()):
            _log.warning("%s: a channel was added: %s", context.port, ", ".join(sorted(added)))
        kept = {channel: name for channel, name in self._known.items() if channel not in looked_at}
        self._known = kept | present
        self._missed = frozenset()

    @property
    def there(self) -> str:
        """The channels known to be there, as the end of a sentence; empty when none are known."""
        known = ", ".join(f"{channel} ({name or 'no name'})" for channel, name in self._known.items())
        return f"; this analyser has {known}" if known else ""

    def _named(self, channels: Iterable[ChannelId]) -> str:
        """Return the channels in words, as the subject of a sentence with its verb."""
        texts = [
            f"{channel} ({name})" if (name := self._known.get(channel)) else str(channel)
            for channel in ChannelId
            if channel in set(channels)
        ]
        return f"channel {texts[0]} is" if len(texts) == 1 else f"the channels {' and '.join(texts)} are"
