"""A plot as a figure of matplotlib, without the global figures of pyplot."""

import functools
import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servomex.errors import ServomexSinkDependencyError
from servomex.errors.missing import how_to_get
from servomex.views.plot.line import COLUMNS, Point
from servomex.views.plot.picture import Panel, Picture
from servomex.views.plot.spans import Span
from servomex.views.plot.style import (
    ALARM,
    LETTERS,
    Row,
    alarms_of,
    bands_of,
    colour_of_curve,
    colour_of_state,
    rows_of,
    title_of,
)  # fmt: skip
from servomex.views.plot.zone import LocalZone, zone_name

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 100
DAY_S = 86_400.0
PANEL_PX, ROW_PX, EDGE_PX, TALLEST_PX = 260, 18, 110, 10_000
HATCHES = {"fault": "xxx", "maintenance": "...", "calibrating": "///", "warming up": "\\\\\\"}
LINE_PX = 19
LETTER_PX = 14
"""How wide a band must be for its letter."""
_LARGEST = 1e300
"""Beyond, matplotlib cannot find the limits of an axis."""


def check_installed() -> None:
    """Check that matplotlib is installed.

    Raises:
        ServomexSinkDependencyError: It is not.
    """
    try:
        import matplotlib.figure  # noqa: F401 (only whether it can be imported)
    except ImportError as error:
        raise ServomexSinkDependencyError(
            f"plots need matplotlib: {how_to_get('matplotlib', 'plot')} ({error})", cure="Or write a .html file"
        ) from error


def figure_of(picture: Picture, title: str | None, size: tuple[int, int]) -> "Figure":
    """Return a figure that shows a picture."""
    from matplotlib.figure import Figure

    figure = Figure(dpi=DPI)
    draw(picture, figure, title, size)
    figure._repr_png_ = functools.partial(_png, figure)  # type: ignore[attr-defined]  # for notebooks without pyplot
    return figure


def _png(figure: "Figure") -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return written.getvalue()


def save(picture: Picture, path: Path, kind: str, title: str | None, size: tuple[int, int]) -> None:
    """Write a picture as ``png``, ``svg`` or ``pdf``."""
    figure = figure_of(picture, title, size)
    about: dict[str, Any] = {"Title": drawable(title_of(picture, title))}
    if kind == "svg":
        about["Date"] = None
    figure.savefig(path, format=kind, dpi=DPI, metadata=about)


def draw(picture: Picture, figure: "Figure", title: str | None, size: tuple[int, int]) -> None:
    """Draw a picture on a figure."""
    rows = [rows_of(panel) for panel in picture.panels]
    heights: list[float] = []
    for panel, its in zip(picture.panels, rows, strict=True):
        heights += [max(PANEL_PX, LINE_PX * _legend_lines(panel)), max(1, len(its)) * ROW_PX]
    height = size[1] or min(TALLEST_PX, EDGE_PX + round(sum(heights)))
    figure.set_size_inches(size[0] / DPI, height / DPI)
    figure.set_layout_engine("constrained", h_pad=0.02, hspace=0.0)
    axes = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    begin, end = picture.begin / DAY_S, picture.end / DAY_S
    margin = (end - begin) * 0.01 or 1 / DAY_S
    axes[0].set_xlim(begin - margin, end + margin)
    for place, (panel, its) in enumerate(zip(picture.panels, rows, strict=True)):
        _draw_panel(axes[2 * place], panel, place, size[0] / (end - begin + 2 * margin))
        _draw_rows(axes[2 * place + 1], its, place)
        if panel is not picture.panels[-1]:
            axes[2 * place + 1].spines["bottom"].set_visible(False)
            axes[2 * place + 1].tick_params(axis="x", bottom=False)
    axes[0].set_title(drawable(title_of(picture, title)), parse_math=False, fontsize="medium", pad=12)
    _draw_times(axes, picture)


@functools.cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def drawable(text: str) -> str:
    """Return a text of characters that the font has: the others would be warnings and boxes."""
    return "".join(char if char.isprintable() and ord(char) in _glyphs() else "\ufffd" for char in text)


def _draw_times(axes: Iterable["Axes"], picture: Picture) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    lowest = [*axes][-1]
    locator: Any = AutoDateLocator(tz=LocalZone())  # type: ignore[no-untyped-call]
    lowest.xaxis.set_major_locator(locator)
    names: Any = ConciseDateFormatter(locator, tz=LocalZone())  # type: ignore[no-untyped-call]
    lowest.xaxis.set_major_formatter(names)
    lowest.set_xlabel(drawable(f"local time ({zone_name(picture.begin, picture.end)})"), parse_math=False)


def _draw_panel(axes: "Axes", panel: Panel, number: int, px_per_day: float) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    legend: list[tuple[Artist, str]] = []
    dashed = False
    for place, (curve, label) in enumerate(zip(panel.curves, panel.labels, strict=True)):
        colour = colour_of_curve(place)
        for part in curve.line.parts(COLUMNS):
            dashed |= _draw_part(axes, part, colour, f"{number}-{place}")
        legend.append((Line2D([], [], color=colour), label))
    if dashed:
        legend.append((Line2D([], [], color="#555555", linestyle=(0, (3, 2))), "uncertain"))
    for word, spans in bands_of(panel):
        colour = colour_of_state(word)
        _draw_band(axes, word, spans, f"band-{number}-{word.replace(' ', '-')}")
        _draw_letters(axes, word, spans, px_per_day)
        patch = Patch(facecolor=f"{colour}30", edgecolor=f"{colour}90", hatch=HATCHES[word])
        legend.append((patch, f"{word} ({LETTERS[word]})"))
    if alarms := alarms_of(panel):
        (marks,) = axes.plot(
            [begin / DAY_S for begin in alarms], [1.0] * len(alarms), linestyle="none", marker="v", color=ALARM,
            markersize=7, clip_on=False, transform=axes.get_xaxis_transform(), gid=f"alarms-{number}", zorder=4,
        )  # fmt: skip
        legend.append((marks, "alarm begins"))
    axes.set_ylabel(drawable(panel.unit_text), parse_math=False)
    axes.grid(alpha=0.25)
    axes.tick_params(labelbottom=False, bottom=False)
    _draw_legend(axes, legend)


def _legend_lines(panel: Panel) -> int:
    """Return how many lines the legend of a panel has at most."""
    return sum(1 + _folded(label).count("\n") for label in panel.labels) + len(list(bands_of(panel))) + 3


def _draw_legend(axes: "Axes", entries: list[tuple["Artist", str]]) -> None:
    # The texts are set afterwards: a label that begins with an underscore would be omitted.
    handles = [handle for handle, _ in entries]
    legend = axes.legend(
        handles, ["-"] * len(entries), loc="upper left", bbox_to_anchor=(1.005, 1.0), borderaxespad=0.0,
        fontsize="small", frameon=False,
    )  # fmt: skip
    for text, (_, label) in zip(legend.get_texts(), entries, strict=True):
        text.set_parse_math(False)
        text.set_text(_folded(drawable(label)))


def _folded(text: str, width: int = 28) -> str:
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines[:6])


def _draw_part(axes: "Axes", points: list[Point], colour: str, gid: str) -> bool:
    """Draw a part of a curve; return whether some of it is uncertain."""
    solid: list[tuple[float, float]] = []
    dashed: list[tuple[float, float]] = []
    single: list[tuple[float, float]] = []
    nothing = (math.nan, math.nan)
    before: tuple[float, float] | None = None
    uncertain = False
    for place, point in enumerate(points):
        here = (point.at / DAY_S, max(-_LARGEST, min(point.value, _LARGEST)))
        follows = place + 1 < len(points) and not points[place + 1].broken
        if before is None or point.broken:
            solid.append(nothing)
            dashed.append(nothing)
            if not follows:
                single.append(here)
        elif point.uncertain or uncertain:
            dashed += [here] if dashed[-1] == before else [nothing, before, here]
            solid.append(nothing)
        if not point.uncertain:
            solid.append(here)
        before, uncertain = here, point.uncertain
    if points:
        axes.plot(
            *zip(*solid or [nothing], strict=True), color=colour, linewidth=1.2, gid=f"curve-{gid}", zorder=3
        )
    if not all(math.isnan(item) for item, _ in dashed):
        axes.plot(
            *zip(*dashed, strict=True), color=colour, linewidth=1.2, linestyle=(0, (3, 2)),
            gid=f"uncertain-{gid}", zorder=3,
        )  # fmt: skip
    if single:
        axes.plot(
            *zip(*single, strict=True), color=colour, linestyle="none", marker=".", markersize=4,
            gid=f"single-{gid}", zorder=3,
        )  # fmt: skip
    return any(point.uncertain for point in points)


def _bars(spans: Iterable[Span]) -> list[tuple[float, float]]:
    return [(begin / DAY_S, (end - begin) / DAY_S) for begin, end in spans]


def _draw_band(axes: "Axes", word: str, spans: list[Span], gid: str) -> None:
    colour = colour_of_state(word)
    axes.broken_barh(
        _bars(spans), (0.0, 1.0), transform=axes.get_xaxis_transform(), facecolor=f"{colour}30",
        edgecolor=f"{colour}90", hatch=HATCHES[word], linewidth=0.6, zorder=1, gid=gid,
    )  # fmt: skip


def _draw_letters(axes: "Axes", word: str, spans: list[Span], px_per_day: float) -> None:
    """Write the letter of a state into its bands, where these are wide enough."""
    height = {"fault": 0.98, "maintenance": 0.91, "calibrating": 0.84, "warming up": 0.77}[word]
    for begin, end in spans:
        if (end - begin) / DAY_S * px_per_day >= LETTER_PX:
            axes.annotate(
                LETTERS[word], (begin / DAY_S, height), (4, 0), xycoords=axes.get_xaxis_transform(),
                textcoords="offset points", color=colour_of_state(word), fontsize="small", fontweight="bold",
                va="top", zorder=4, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8},
            )  # fmt: skip


def _draw_rows(axes: "Axes", rows: list[Row], number: int) -> None:
    """Draw a row for each state, below a panel."""
    from matplotlib.ticker import FixedFormatter

    axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)
    for spine in ("top", "right", "left"):
        axes.spines[spine].set_visible(False)
    axes.set_yticks(range(len(rows)), [""] * len(rows), fontsize="small")
    axes.tick_params(axis="y", length=0)
    for place, (tick, row) in enumerate(zip(axes.yaxis.get_major_ticks(), rows, strict=True)):
        tick.label1.set_parse_math(False)
        if row.colour is not None:
            tick.label1.set_color(colour_of_curve(row.colour))
        colour = colour_of_state(row.word)
        axes.broken_barh(
            _bars(row.spans), (place - 0.35, 0.7), facecolor=colour, edgecolor=colour, linewidth=1.0,
            gid=f"row-{number}-{place}",
        )  # fmt: skip
    labels = [drawable(row.label) for row in rows]
    axes.yaxis.set_major_formatter(FixedFormatter(labels))
