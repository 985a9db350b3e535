"""A plot as a page of its own: one file with everything in it, which needs no network."""

import base64
import hashlib
import html
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from servomex.durations import counted
from servomex.models.texts import duration_text, number_text
from servomex.views.plot.curves import NO_VALUE, Curve
from servomex.views.plot.line import Point
from servomex.views.plot.picture import Panel, Picture
from servomex.views.plot.spans import Span, merged
from servomex.views.plot.style import (
    LETTERS,
    alarms_of,
    bands_of,
    colour_of_curve,
    colour_of_state,
    dark_colour_of_curve,
    dark_colour_of_state,
    rows_of,
    title_of,
)  # fmt: skip
from servomex.views.plot.zone import at, changes, local, zone_name

MOST_POINTS = 50_000
"""How many points a page has, so that it stays below 2 MB."""
MOST_SPANS = 20_000
HATCHES = {"fault": "x", "maintenance": ".", "calibrating": "/", "warming up": "\\"}
PLAIN = ("#555555", "#b8c0c8")

_ASSETS = Path(__file__).parents[1] / "assets"
_MS = 1000


def page_of(picture: Picture, title: str | None) -> str:
    """Return the page of a picture."""
    data, points = _data(picture)
    styles = [_asset("uPlot.min.css"), _asset("plot.css")]
    scripts = [_asset("uPlot.iife.min.js"), _asset("plot.js")]
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(map(_hash, scripts))}",
            f"style-src {' '.join(map(_hash, styles))}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    heading = html.escape(title_of(picture, title))
    panels = "".join(
        f'<section class="panel" aria-labelledby="panel{number}"><h2 id="panel{number}">'
        f"{html.escape(_heading(panel))}</h2></section>\n"
        for number, panel in enumerate(picture.panels)
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{heading}</title>\n{''.join(f'<style>{text}</style>' for text in styles)}\n</head>\n<body>\n"
        f"<main>\n<h1>{heading}</h1>\n{_about(picture, points)}{_TOOLS}{panels}"
        f"{_summary(picture)}{_events(picture)}</main>\n"
        f'<script type="application/json" id="data">{_embedded(data)}</script>\n'
        f"{''.join(f'<script>{text}</script>' for text in scripts)}\n</body>\n</html>\n"
    )


_TOOLS = """<noscript><p><strong>The curves need JavaScript. The tables below do not.</strong></p></noscript>
<div class="tools" role="toolbar" aria-label="Time shown">
<button type="button" id="closer">Zoom in</button>
<button type="button" id="wider">Zoom out</button>
<button type="button" id="earlier">Earlier</button>
<button type="button" id="later">Later</button>
<button type="button" id="all">All</button>
<span class="soft">Drag in a plot to zoom, double-click for all.</span>
<strong id="moment"></strong>
<span id="spoken" class="unseen" role="status" aria-live="polite"></span>
</div>
"""


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(data: object) -> str:
    """Return JSON that cannot end the element that it is in."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode("utf-8", "replace").decode("utf-8")


def _heading(panel: Panel) -> str:
    return f"{', '.join(panel.labels[:6])}{' ...' if len(panel.labels) > 6 else ''} [{panel.unit_text}]"


def _data(picture: Picture) -> tuple[dict[str, Any], int]:
    """Return what the script draws, and how many points that are."""
    curves = sum(len(panel.curves) for panel in picture.panels)
    rows = sum(len(rows_of(panel)) for panel in picture.panels)
    columns, spans = max(20, MOST_POINTS // (4 * max(1, curves))), max(20, MOST_SPANS // max(1, rows))
    begin = picture.begin
    panels = [_panel(panel, begin, columns, spans) for panel in picture.panels]
    points = sum(len(part["v"]) for panel in panels for curve in panel["curves"] for part in curve["parts"])
    return {
        "begin": begin,
        "end": picture.end,
        "margin": (picture.end - begin) * 0.01 or 1.0,
        "zones": changes(begin, picture.end),
        "alarm": (colour_of_state("alarm 1"), dark_colour_of_state("alarm 1")),
        "plain": PLAIN,
        "panels": panels,
    }, points


def _panel(panel: Panel, begin: float, columns: int, most: int) -> dict[str, Any]:
    return {
        "heading": _heading(panel),
        "unit": panel.unit_text,
        "curves": [
            {
                "label": label,
                "colour": (colour_of_curve(place), dark_colour_of_curve(place)),
                "width": curve.line.width_s(columns),
                "parts": [_part(part, begin) for part in curve.line.parts(columns)],
            }
            for place, (curve, label) in enumerate(zip(panel.curves, panel.labels, strict=True))
        ],
        "rows": [
            {
                "label": row.label,
                "word": row.word,
                "curves": row.curves,
                "colour": (colour_of_state(row.word), dark_colour_of_state(row.word)),
                "spans": _spans(row.spans, most),
            }
            for row in rows_of(panel)
        ],
        "bands": [
            {
                "word": word,
                "letter": LETTERS[word],
                "hatch": HATCHES[word],
                "colour": (colour_of_state(word), dark_colour_of_state(word)),
                "spans": _spans(spans, most),
            }
            for word, spans in bands_of(panel)
        ],
        "alarms": [round(moment, 3) for moment in alarms_of(panel)],
    }


def _part(points: list[Point], begin: float) -> dict[str, Any]:
    """Return points in few characters: the times as differences in ms."""
    times = [round((point.at - begin) * _MS) for point in points]
    return {
        "t": [later - sooner for sooner, later in zip([0, *times], times, strict=False)],
        "v": [_short(point.value) for point in points],
        "u": [place for place, point in enumerate(points) if point.uncertain],
        "b": [place for place, point in enumerate(points) if point.broken],
    }


def _short(value: float) -> float:
    """Return a value in few characters: no analyser gives ten digits."""
    short = float(f"{value:.10g}")
    return short if math.isfinite(short) else value


def _spans(spans: list[Span], most: int) -> list[tuple[float, float]]:
    return [(round(begin, 3), round(end, 3)) for begin, end in merged(spans, most)]


def _clock(seconds: float) -> str:
    return f"{local(at(seconds)):%Y-%m-%d %H:%M:%S}"


def _about(picture: Picture, points: int) -> str:
    zone = zone_name(picture.begin, picture.end)
    values = sum(curve.good + curve.uncertain for panel in picture.panels for curve in panel.curves)
    lines = [
        f"{_clock(picture.begin)} to {_clock(picture.end)}, local time ({zone}). "
        f"{picture.readings:,} readings, {picture.failures:,} failed."
    ]
    if points < values:
        lines.append(
            f"Shown: {points:,} of {values:,} values. All gaps, states and alarms are there, and the lowest and "
            "the highest value of each short time, which the cursor shows; the values between them are omitted."
        )
    return "".join(f'<p class="soft">{html.escape(line)}</p>\n' for line in lines)


def _table(
    caption: str, headings: Iterable[str], rows: Iterable[Iterable[str]], numbers: frozenset[int] = frozenset()
) -> str:
    def cells(kind: str, texts: Iterable[str], more: str = "") -> Iterator[str]:
        for place, text in enumerate(texts):
            side = ' class="number"' if place in numbers else ""
            yield f"<{kind}{more}{side}>{html.escape(text)}</{kind}>"

    body = "".join(f"<tr>{''.join(cells('td', row))}</tr>\n" for row in rows)
    head = "".join(cells("th", headings, ' scope="col"'))
    kind = ' class="wide"' if numbers else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(caption)}"><table{kind}>'
        f"<caption>{html.escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )


def _summary(picture: Picture) -> str:
    headings = (
        "analyser", "channel", "name", "unit", "good", "uncertain", "bad", "lowest good", "highest good", "last",
        "gaps", "without a value", "states",
    )  # fmt: skip
    curves = [curve for panel in picture.panels for curve in panel.curves]
    return _table("Channels", headings, map(_summary_row, curves), frozenset({4, 5, 6, 7, 8, 9, 10, 11}))


def _summary_row(curve: Curve) -> Iterator[str]:
    gaps = list(curve.spans.get(NO_VALUE, ()))
    yield from (curve.device, str(curve.channel), curve.name or "", curve.unit_text)
    yield from (f"{count:,}" for count in (curve.good, curve.uncertain, curve.bad))
    for value in (curve.lowest, curve.highest, curve.last):
        yield "" if value is None or math.isinf(value) else number_text(value)
    yield str(len(gaps))
    yield duration_text(sum(end - begin for begin, end in gaps)) if gaps else ""
    yield ", ".join(
        f"{word} ({counted(len(list(spans)), 'time')})"
        for word, spans in curve.spans.items()
        if word != NO_VALUE and spans
    )


def _events(picture: Picture) -> str:
    if not picture.events:
        return "<p>No events.</p>\n"
    rows = (
        (f"{local(event.at):%Y-%m-%d %H:%M:%S}", event.device, event.text, event.level.word)
        for event in picture.events
    )
    more = f" (and {counted(picture.more_events, 'quieter one')} not shown)" if picture.more_events else ""
    return _table(f"Events{more}", ("time", "analyser", "what happened", "level"), rows)
