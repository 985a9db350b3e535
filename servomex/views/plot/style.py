"""How the parts of a plot look, on paper and on a page."""

import colorsys
from collections.abc import Iterator
from typing import NamedTuple

from servomex.views.looks import BANDS, COLOURS, STALE_COLOUR, STATES, Level
from servomex.views.plot.curves import NO_VALUE
from servomex.views.plot.picture import Lane, Panel, Picture
from servomex.views.plot.spans import MOST_SPANS, Span, merged
from servomex.views.plot.zone import at, local

CURVES = ("#0072b2", "#d55e00", "#009e73", "#b0508c", "#8a6d00", "#3b9bd1", "#5d3a9b", "#333333", "#7a4419")
"""Colours of curves, which the colour-blind can tell apart as well."""
DARK_CURVES = ("#4db2ec", "#ff8f4d", "#33cfa0", "#e58cc5", "#d8c14a", "#9bd4ff", "#b79cf7", "#d5dbe1", "#d09a6f")
"""The same on a dark ground."""
MOST_NAMED = 4
"""How many channels the label of a row names."""
ALARM = "#c62828"
MISSING = "#5f6a73"
DARK = {
    "fault": COLOURS[Level.ALARM],
    "maintenance": COLOURS[Level.WARNING],
    "calibrating": COLOURS[Level.NOTICE],
    "warming up": "#b79cf7",
    NO_VALUE: STALE_COLOUR,
}
WORDS = (*(state.word for state in STATES), NO_VALUE)
"""The states that a row of a plot can show, in their order."""
LETTERS = {state.word: state.letter for state in STATES}


def colour_of_curve(place: int) -> str:
    """Return the colour of a curve by its number in the panel."""
    if place < len(CURVES):
        return CURVES[place]
    return _other(place, 0.35)


def dark_colour_of_curve(place: int) -> str:
    """Return its colour on a dark ground."""
    return DARK_CURVES[place] if place < len(DARK_CURVES) else _other(place, 0.7)


def _other(place: int, lightness: float) -> str:
    red, green, blue = colorsys.hls_to_rgb(place * 0.381966 % 1, lightness, 0.7)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def colour_of_state(word: str) -> str:
    """Return the colour of a state on a light ground."""
    return MISSING if word == NO_VALUE else BANDS.get(word, ALARM)


def dark_colour_of_state(word: str) -> str:
    """Return the colour of a state on a dark ground."""
    return DARK.get(word, COLOURS[Level.ALARM])


class Row(NamedTuple):
    """A row below a panel: a state, of the curves that had it at the same times, or of an analyser.

    Attributes:
        label: Whose state it is, and its word.
        word: Its word.
        curves: The numbers of the curves; none for an analyser.
        spans: When it was raised.
    """

    label: str
    word: str
    curves: tuple[int, ...]
    spans: list[Span]

    @property
    def colour(self) -> int | None:
        """The number of the curve whose colour the label has; ``None`` for that of other texts."""
        return self.curves[0] if len(self.curves) == 1 else None


def rows_of(panel: Panel) -> list[Row]:
    """Return the rows below a panel. Channels with the same states, as in an outage, share a row."""
    alike: dict[tuple[str, bool, str, tuple[Span, ...]], list[Lane]] = {}
    for lane in panel.lanes:
        for word in WORDS:
            if spans := tuple(lane.spans.get(word, ())):
                alike.setdefault((lane.owner, lane.channel is None, word, spans), []).append(lane)
    rows: list[Row] = []
    for (owner, _, word, its), lanes in alike.items():
        channels = [lane.channel for lane in lanes if lane.channel]
        named = ", ".join(channels[:MOST_NAMED]) + (" ..." if len(channels) > MOST_NAMED else "")
        label = " ".join(filter(None, (owner, named, word)))
        rows.append(Row(label, word, tuple(lane.curve for lane in lanes if lane.curve is not None), [*its]))
    return rows


def bands_of(panel: Panel) -> Iterator[tuple[str, list[Span]]]:
    """Yield when any curve of a panel, or its analyser, was in a state that has a band behind the curves."""
    for word in BANDS:
        spans = [span for lane in panel.lanes for span in lane.spans.get(word, ())]
        if spans:
            yield word, merged(spans, MOST_SPANS)


def alarms_of(panel: Panel) -> list[float]:
    """Return when the alarms of a panel began."""
    alarms = [word for word in WORDS if word.startswith("alarm")]
    return sorted({begin for lane in panel.lanes for word in alarms for begin, _ in lane.spans.get(word, ())})


def title_of(picture: Picture, title: str | None) -> str:
    """Return the given title; else the analysers and the days."""
    if title is not None:
        return title
    names = ", ".join(picture.analysers[:3]) + (" ..." if len(picture.analysers) > 3 else "")
    days = dict.fromkeys(f"{local(at(moment)):%Y-%m-%d}" for moment in (picture.begin, picture.end))
    return f"{names}, {' to '.join(days)}"
