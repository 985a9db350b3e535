"""Naming a channel: by its id, or by the gas that it is named after. No I/O."""

import re
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from servomex.enums import ChannelId
from servomex.errors import ErrorContext, ServomexChannelNotFoundError, ServomexValidationError
from servomex.errors.excerpts import shown
from servomex.units import SUBSCRIPTS

_ID_SHAPED = re.compile(r"[IDE][0-9]+", re.ASCII | re.IGNORECASE)
"""A text that looks like an id but is not one is a typing error, not the name of a gas."""
LONGEST_OWN = 32
"""Characters of a user's own channel id."""
_SIMILAR = re.compile(r"[IDE]\s*\d+", re.IGNORECASE)
"""A text that could be a damaged or mistyped id of the analyser."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DIGITS = str.maketrans(SUBSCRIPTS, "0123456789")


class Named(Protocol):
    """Something that belongs to one channel."""

    @property
    def channel(self) -> str:
        """The channel."""

    @property
    def name(self) -> str | None:
        """Its name on the display; ``None`` when it has none."""


N = TypeVar("N", bound=Named)


def asked_channel(channel: ChannelId | str) -> ChannelId | str:
    """Check the text that names a channel: return its id, or a name that only a reading can turn into one.

    Raises:
        ServomexValidationError: It is not a text, is empty, or looks like an id but is not one.
    """
    text = channel.strip() if isinstance(channel, str) else ""
    try:
        return ChannelId(text)
    except ValueError:
        if text and not _ID_SHAPED.fullmatch(text):
            return text
    raise ServomexValidationError(f"unknown channel {channel!r}; known are {', '.join(ChannelId)}")


def asked_channels(channels: Iterable[ChannelId | str]) -> tuple[ChannelId | str, ...]:
    """Check a list of texts that name channels, as :func:`asked_channel` does.

    Raises:
        ServomexValidationError: It is a text or empty, or an item names no channel.
    """
    if isinstance(channels, str):
        raise ServomexValidationError(
            f"channels must be a list, even for a single one, not the text {channels!r}",
            cure="Write it as ['I1', 'I2']",
        )
    if not isinstance(channels, Iterable):
        raise ServomexValidationError(f"channels must be a list such as ['I1', 'I2'], not {channels!r}")
    asked = tuple(dict.fromkeys(map(asked_channel, channels)))
    if not asked:
        raise ServomexValidationError("an empty list of channels reads nothing", cure="Omit it to read all")
    return asked


def same_name(name: str | None, asked: str) -> bool:
    """Return whether a channel's name is the one asked for, in any case; a subscript is the same as its digit."""
    return name is not None and _plain(name) == _plain(asked)


def find(there: Iterable[N], asked: ChannelId | str, context: ErrorContext | None = None) -> N | None:
    """Return the item of the requested channel; ``None`` when there is none.

    An id is never taken for a name.

    Args:
        there: The items, one per channel.
        asked: An id or a name, from :func:`asked_channel`.
        context: Where, for the error.

    Raises:
        ServomexChannelNotFoundError: Several channels have the name.
    """
    items = list(there)
    for item in items:
        if item.channel == asked:
            return item
    if isinstance(asked, ChannelId):
        return None
    named = [item for item in items if same_name(item.name, asked)]
    if len(named) > 1:
        raise ServomexChannelNotFoundError(
            f"{asked!r} is the name of several channels: {listed(named)}", context, cure="Name one by its id"
        )
    return named[0] if named else None


def needed(
    there: Sequence[N],
    asked: ChannelId | str,
    context: ErrorContext | None = None,
    selected: frozenset[ChannelId] | None = None,
    *,
    holder: str = "this analyser",
) -> N:
    """Return the item of the requested channel, as :func:`find` does.

    Args:
        there: The items, one per channel.
        asked: An id or a name, from :func:`asked_channel`.
        context: Where, for the error.
        selected: The channels to which the items are limited; ``None`` for all of the analyser.
        holder: The owner of the channels, for the error.

    Raises:
        ServomexChannelNotFoundError: It is not there or was not selected, or several channels have the name.
    """
    check_selected(asked, selected, context)
    item = find(there, asked, context)
    if item is not None:
        return item
    if selected is not None and not isinstance(asked, ChannelId):
        raise ServomexChannelNotFoundError(
            f"of the channels that were selected with channels=..., none is named {asked!r}; selected are "
            + listed(there),
            context,
            cure="Omit channels where the analyser is opened, or add it there",
        )
    missing = (
        f"channel {asked} is not populated" if isinstance(asked, ChannelId) else f"no channel is named {asked!r}"
    )
    raise ServomexChannelNotFoundError(f"{missing}; {holder} has {listed(there)}", context)


def check_selected(
    asked: ChannelId | str, selected: frozenset[ChannelId] | None, context: ErrorContext | None = None
) -> None:
    """Refuse a channel that was not selected; a name passes, since only a reading can turn it into a channel.

    Raises:
        ServomexChannelNotFoundError: It is an id, and not one of those selected.
    """
    if selected is not None and isinstance(asked, ChannelId) and asked not in selected:
        raise ServomexChannelNotFoundError(
            f"channel {asked} was not selected: channels=... selected {', '.join(sorted(selected))}",
            context,
            cure="Omit channels where the analyser is opened, or add it there",
        )


def listed(channels: Iterable[Named]) -> str:
    """Name channels for an error text: ``I1 (Oxygen), E1 (no name)``."""
    return ", ".join(f"{item.channel} ({item.name or 'no name'})" for item in channels) or "none"


def _plain(name: str) -> str:
    return name.strip().translate(_DIGITS).casefold()


def own_channel(value: str) -> str:
    """Check the id of a channel from a user's own source.

    Raises:
        ServomexValidationError: It is not a text of 1 to 32 characters without control characters,
            begins or ends with a space, or has the shape of the analyser's, such as ``I1`` or ``e7``.
    """
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_OWN or _CONTROL.search(value):
        raise ServomexValidationError(
            f"a channel must be a ChannelId or a text of 1 to {LONGEST_OWN} characters on one line, "
            f"not {shown(value)}"
        )
    if _SIMILAR.fullmatch(value) or value.strip() != value:
        raise ServomexValidationError(
            f"{value!r} is not allowed as a channel of your own: it could be taken for one of the analyser's",
            cure="Choose another text, such as 'furnace', or write ChannelId.I1 for a channel of an analyser",
        )
    return str(value)
