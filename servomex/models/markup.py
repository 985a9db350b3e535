"""Models as HTML, for notebooks: tables without script or style, every text escaped."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from servomex.enums import Quality
from servomex.models.texts import HEADINGS, analyser_text, cells, clock_text

if TYPE_CHECKING:
    from servomex.models.models import Frame, Reading

_VALUE = HEADINGS.index("value")


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, caption: Sequence[str] = ()) -> str:
    """Write a table.

    Args:
        headings: Of the columns; empty for a table whose first column names each row.
        rows: The cells; ``None`` is empty.
        caption: Lines above the table.
    """
    above = "<br>".join(map(escape, caption))
    head = f"<thead>{_row('th', headings)}</thead>" if headings else ""
    body = "".join(_row("td", row) for row in rows)
    return f"<table>{above and f'<caption>{above}</caption>'}{head}<tbody>{body}</tbody></table>"


def readings_table(readings: "Iterable[Reading]", *, caption: Sequence[str] = ()) -> str:
    """Write readings; a value that is bad is left empty, and its quality says so."""
    return table(HEADINGS, map(_shown, readings), caption=caption)


def frame_table(frame: "Frame") -> str:
    """Write a frame, with its time of arrival, and its age at a time that is named: it stays where it is shown."""
    state = f"{frame.protocol}: {analyser_text(frame.analyser)}"
    return readings_table(frame, caption=[state, arrival_text(frame.received_at, frame.age_s)])


def arrival_text(received_at: datetime, age_s: float) -> str:
    """Write when something came, and how old it is now."""
    return f"received {clock_text(received_at)}; {age_s:.1f} s old at {clock_text(datetime.now(UTC))}"


def _shown(reading: "Reading") -> list[str]:
    shown = list(cells(reading))
    if reading.quality is Quality.BAD:
        shown[_VALUE] = ""
    return shown


def _row(tag: str, cells_: Iterable[object]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_cell(cell)}</{tag}>' for cell in cells_)}</tr>"


def _cell(cell: object) -> str:
    return "" if cell is None else escape(str(cell))
