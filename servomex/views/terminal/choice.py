"""Which rows are shown when there are more than the screen holds: the loudest, so that no alarm is cut off."""

from collections.abc import Sequence

import attrs

from servomex.views.board import AnalyserView, ChannelView
from servomex.views.looks import Level


@attrs.frozen
class Chosen:
    """The rows that are shown.

    Attributes:
        groups: The analysers with those of their channels that are shown, in the order of the screen.
        hidden: The levels of the channels and analysers that are not, the loudest first.
    """

    groups: tuple[tuple[AnalyserView, tuple[ChannelView, ...]], ...]
    hidden: tuple[Level, ...] = ()


def choose(views: Sequence[AnalyserView], room: int | None) -> Chosen:
    """Choose the rows for a number of lines: everything in its order, or the loudest first.

    One line is kept for what is hidden.

    Args:
        views: The analysers. Each takes a line of its own, above those of its channels.
        room: The lines; ``None`` for as many as are needed.
    """
    if room is None or sum(1 + len(view.channels) for view in views) <= room:
        return Chosen(tuple((view, view.channels) for view in views))
    rows: list[tuple[float, int, ChannelView | None]] = []
    for number, view in enumerate(views):
        own = float(Level.ALARM) if view.stale else -1.0
        rows.append((own, number, None))
        rows += [(_loudness(channel), number, channel) for channel in view.channels]
    rows.sort(key=lambda row: -row[0])  # which keeps the order among equals
    left, taken = room - 1, dict[int, list[ChannelView]]()
    hidden: list[Level] = []
    for _, number, channel in rows:
        lines = (number not in taken) + (channel is not None)
        if lines <= left:
            left -= lines
            taken.setdefault(number, []).extend([] if channel is None else [channel])
        elif channel is not None:
            hidden.append(channel.level)
    hidden += [Level.ALARM for number, view in enumerate(views) if number not in taken and not view.channels]
    groups = tuple((views[number], tuple(channels)) for number, channels in taken.items())
    return Chosen(groups, tuple(sorted(hidden, reverse=True)))


def _loudness(channel: ChannelView) -> float:
    """Return how early a channel is chosen: what is loud now comes before what was loud when it became stale."""
    return channel.level + 0.5 if not channel.stale else 2.0 + channel.level / 10
