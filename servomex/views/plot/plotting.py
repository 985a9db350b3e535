"""``plot``: a recording as a figure of matplotlib, as a picture, or as a page of its own."""

import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack, overload

from servomex.enums import ChannelId
from servomex.errors import Argument, ServomexSinkWriteError, ServomexValidationError
from servomex.errors.validation import flag, path_text
from servomex.models.naming import asked_channels
from servomex.models.sample import Sample
from servomex.recording.load import Source
from servomex.sinks.files import explained
from servomex.views.plot.line import COLUMNS
from servomex.views.plot.picture import Picture, picture_of
from servomex.views.plot.window import samples_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE_COLUMNS = 2 * COLUMNS
"""Of a page, which can be zoomed."""
PICTURES = (".png", ".svg", ".pdf")
SUFFIXES = (*PICTURES, ".html")
BY = ("unit", "channel")
SIZE = (1200, 0)
"""Width and height in pixels; a height of 0 is chosen by the number of panels."""
SMALLEST, LARGEST = 200, 10_000


class _Choices(TypedDict, total=False):
    """What is plotted: the arguments of :func:`plot` that a figure, a file and a window have in common."""

    channels: Iterable[ChannelId | str] | None
    start: datetime | str | None
    end: datetime | str | None
    last: float | str | None
    by: str
    good_only: bool
    title: str | None
    size: tuple[int, int] | None


@overload
def plot(
    source: Source | Iterable[Source | Sample],
    output: None = None,
    *,
    channels: Iterable[ChannelId | str] | None = None,
    start: datetime | str | None = None,
    end: datetime | str | None = None,
    last: float | str | None = None,
    by: str = "unit",
    good_only: bool = False,
    title: str | None = None,
    size: tuple[int, int] | None = None,
    overwrite: bool = False,
) -> "Figure": ...


@overload
def plot(
    source: Source | Iterable[Source | Sample],
    output: str | os.PathLike[str],
    *,
    channels: Iterable[ChannelId | str] | None = None,
    start: datetime | str | None = None,
    end: datetime | str | None = None,
    last: float | str | None = None,
    by: str = "unit",
    good_only: bool = False,
    title: str | None = None,
    size: tuple[int, int] | None = None,
    overwrite: bool = False,
) -> None: ...


def plot(
    source: Source | Iterable[Source | Sample],
    output: str | os.PathLike[str] | None = None,
    *,
    channels: Iterable[ChannelId | str] | None = None,
    start: datetime | str | None = None,
    end: datetime | str | None = None,
    last: float | str | None = None,
    by: str = "unit",
    good_only: bool = False,
    title: str | None = None,
    size: tuple[int, int] | None = None,
    overwrite: bool = False,
) -> "Figure | None":
    """Plot a recording: curves with their gaps, and when which state and which alarm was raised.

    Pictures need the extra ``plot``; a ``.html`` file needs nothing, neither here nor where it is opened. Any
    thread may plot: the global figures of ``pyplot`` are not used.

    A line is broken by a failed reading, a bad value, and a pause of more than 2.5 usual intervals. Uncertain
    values are dashed. Concentrations of a channel are in the first unit that it has in the recording; any other
    unit, or another name of a channel, begins another curve. A long recording is reduced so that every extreme,
    gap, state and alarm stays.

    Args:
        source: What :func:`servomex.load` takes, or samples. Files are put in the order of time.
        output: The file to write: ``.png``, ``.svg``, ``.pdf`` or ``.html``. ``None`` returns a figure.
        channels: Only these, by id or by the name of their gas.
        start: From when: a ``datetime`` with a zone, or a text such as ``2026-03-01 12:30``, local time.
        end: Until when.
        last: Only the end of the recording: seconds, or a text such as ``1h``.
        by: A panel for each ``unit``, or for each ``channel``.
        good_only: Leave uncertain values out.
        title: The title; by default the analysers and the day.
        size: Width and height in pixels, of a picture.
        overwrite: Replace the file if it exists.

    Returns:
        The figure; ``None`` when it was written to ``output``.

    Raises:
        ServomexValidationError: An argument is invalid, or there are no readings.
        ServomexChannelNotFoundError: A channel is not there, or several have the name.
        ServomexSinkError: A file is missing, damaged, cannot be read or written, or matplotlib is not installed.
    """
    choices = _Choices(
        channels=channels, start=start, end=end, last=last, by=by, good_only=good_only, title=title, size=size
    )  # fmt: skip
    if output is not None:
        plot_to(source, output, overwrite=overwrite, **choices)
        return None
    flag(overwrite, "overwrite")
    from servomex.views.plot.figure import check_installed, figure_of

    check_installed()
    picture, pixels = _picture(source, **choices)
    return figure_of(picture, title, pixels)


def plot_to(
    source: Source | Iterable[Source | Sample],
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    **choices: Unpack[_Choices],
) -> int:
    """Write a plot to a file, as :func:`plot` does; return how many readings it shows."""
    target = check_output(output, overwrite=overwrite)
    is_page = target.suffix.lower() == ".html"
    if not is_page:
        from servomex.views.plot.figure import check_installed

        check_installed()
    picture, size = _picture(source, columns=PAGE_COLUMNS if is_page else COLUMNS, **choices)
    _write(picture, target, choices.get("title"), size)
    return picture.readings


def shown(source: Source | Iterable[Source | Sample], **choices: Unpack[_Choices]) -> bool:
    """Show a plot in a window until that is closed; return whether there is a display.

    Only for a program of its own, in its main thread: windows belong to pyplot.
    """
    from servomex.views.plot.figure import check_installed, draw

    check_installed()
    import matplotlib.pyplot as plt

    if plt.get_backend().lower() == "agg":
        return False
    picture, size = _picture(source, **choices)
    draw(picture, plt.figure(), choices.get("title"), size)
    plt.show()
    return True


def _picture(
    source: Source | Iterable[Source | Sample], columns: int = COLUMNS, **choices: Unpack[_Choices]
) -> tuple[Picture, tuple[int, int]]:
    """Check the arguments, and return what is shown, in which size."""
    by, title, channels = choices.get("by", "unit"), choices.get("title"), choices.get("channels")
    if by not in BY:
        raise ServomexValidationError(f"by must be 'unit' or 'channel', not {by!r}")
    if title is not None and not isinstance(title, str):
        raise ServomexValidationError(f"the title must be a text, not {title!r}")
    good_only = choices.get("good_only", False)
    flag(good_only, "good_only")
    size = _checked_size(choices.get("size"))
    asked = () if channels is None else asked_channels(channels)
    window = {name: choices.get(name) for name in ("start", "end", "last")}
    samples = samples_of(source, **window)  # type: ignore[arg-type]
    picture = picture_of(samples, channels=asked, by_channel=by == "channel", good_only=good_only, columns=columns)
    return picture, size


def _checked_size(size: tuple[int, int] | None) -> tuple[int, int]:
    if size is None:
        return SIZE
    if not (isinstance(size, tuple | list) and len(size) == 2 and all(isinstance(item, int) for item in size)):
        raise ServomexValidationError(f"the size must be a width and a height in pixels, not {size!r}")
    if not all(SMALLEST <= item <= LARGEST for item in size):
        raise ServomexValidationError(f"the size must be from {SMALLEST} to {LARGEST} pixels, not {size!r}")
    return size[0], size[1]


def check_output(output: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Check the file that is to be written.

    Raises:
        ServomexValidationError: Its suffix is not that of a plot.
        ServomexSinkWriteError: It exists, or its folder does not.
    """
    flag(overwrite, "overwrite")
    target = Path(path_text(output, "output"))
    if target.suffix.lower() not in SUFFIXES:
        raise ServomexValidationError(f"{target} is not a picture", cure=f"End it with {' '.join(SUFFIXES)}")
    if target.is_dir():
        raise ServomexSinkWriteError(f"{target} is a folder", cure="Add the name of a file")
    if target.exists() and not overwrite:
        raise ServomexSinkWriteError(
            f"{target} exists already",
            cure=f"Replace it with {Argument('overwrite', True)}, or choose another name",
        )
    if not target.absolute().parent.is_dir():
        raise ServomexSinkWriteError(f"there is no folder {target.parent}", cure="Create it, or choose another")
    return target


def _write(picture: Picture, target: Path, title: str | None, size: tuple[int, int]) -> None:
    """Write a file, which appears when it is complete."""
    part = target.with_name(f"{target.name}.part")
    kind = target.suffix.lower()
    try:
        with explained(str(target)):
            if kind == ".html":
                from servomex.views.plot.page import page_of

                part.write_text(page_of(picture, title), encoding="utf-8", newline="\n")
            else:
                from servomex.views.plot.figure import save

                save(picture, part, kind.removeprefix("."), title, size)
            part.replace(target)
    finally:
        part.unlink(missing_ok=True)
