"""Models as HTML, for notebooks: tables without script or style, every text escaped."""

from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, caption: Sequence[str] = ()) -> str:
    """Return an HTML table.

    Args:
        headings: The headings of the columns; empty for a table whose first column names each row.
        rows: The cells; ``None`` is empty.
        caption: Lines above the table.
    """
    from html import escape

    above = "<br>".join(map(escape, caption))
    head = f"<thead>{_row('th', headings)}</thead>" if headings else ""
    body = "".join(_row("td", row) for row in rows)
    return f"<table>{above and f'<caption>{above}</caption>'}{head}<tbody>{body}</tbody></table>"


def _row(tag: str, cells_: Iterable[object]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_cell(cell)}</{tag}>' for cell in cells_)}</tr>"


def _cell(cell: object) -> str:
    from html import escape

    return "" if cell is None else escape(str(cell))
