"""What a recording shows on a terminal: the screen of ``servomex watch``, or without rich a bar or a line."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

import servomex
from servomex.cli.interrupts import interrupts_wait
from servomex.cli.output import BAR, STDERR, Held, one_line
from servomex.durations import counted
from servomex.errors import ServomexError
from servomex.errors.excerpts import plain
from servomex.models.reading import value_text

if TYPE_CHECKING:
    from rich.text import Text

    from servomex.recording.recorder import Recorder
    from servomex.recording.retry import SinkState
    from servomex.views.looks import Level

TICK_S = 0.5
"""How often the bar or the line is updated, and the end is looked for."""
DRAW_S = 0.25
"""How often the screen is drawn."""
BAR_STEPS = 1000
HUNG_S = 2.0
"""When a write that does not return is shown."""


def show_progress(
    recorder: "Recorder", analyzer: "servomex.Analyzer", port: str, *, quiet: bool, verbose: bool
) -> None:
    """Wait for the end of a recording; on a terminal, show how it goes."""
    if quiet or not STDERR.isatty():
        while not recorder.join(TICK_S):
            pass
    elif not verbose and _has_screen():
        _show_screen(recorder, analyzer, port)
    elif recorder.recording.progress is not None:
        _show_bar(recorder)
    else:
        _show_line(recorder, analyzer)


def _has_screen() -> bool:
    if os.environ.get("TERM", "") in ("dumb", "unknown"):
        return False
    with interrupts_wait():
        try:
            import servomex.views.terminal.screen  # noqa: F401
        except ImportError:
            return False
    return True


def _show_screen(recorder: "Recorder", analyzer: "servomex.Analyzer", port: str) -> None:
    """Show the screen until the end. It is fed by the thread that reads: a disk that hangs does not stop it."""
    with interrupts_wait():
        from servomex.views.board import Board
        from servomex.views.gathering import figures_of
        from servomex.views.terminal.picture import Shown, picture
        from servomex.views.terminal.screen import Screen
    board, recording = Board(), recorder.recording
    board.add(analyzer.name, port, lambda: figures_of(analyzer, recording.rate_hz, recording.summary))
    recording.watch(board.take)

    def drawn(width: int, height: int) -> "list[Text]":
        notes, trouble = _notes(recorder, held)
        shown = Shown(
            views=board.view(),
            events=board.events(8),
            now=datetime.now(UTC),
            title="servomex record",
            notes=notes,
            bars=screen.bars,
            trouble=trouble,
        )
        return picture(shown, width, height)

    screen = Screen(BAR, drawn)
    with STDERR.held() as held:
        try:
            with screen:
                screen.draw()
                while not recorder.join(DRAW_S):
                    screen.draw()
        finally:
            STDERR.write("")  # what comes next begins a line


def _notes(recorder: "Recorder", held: Held) -> "tuple[list[Text], Level]":
    """Return the lines on the recording itself, and how loud they are."""
    from rich.text import Text

    from servomex.views.looks import Level
    from servomex.views.terminal.rows import LOUD, QUIET

    progress = recorder.recording.progress
    done = "" if progress is None else f"{100 * progress:.0f} % done, "
    lines, trouble = [Text(f" {done}{recorder.summary.counts}")], Level.GOOD
    for state in recorder.sink_states:
        wrong = _wrong(state)
        trouble = Level.ALARM if wrong else trouble
        name = state.name if "://" in state.name else Path(state.name).name
        text = f"{plain(name)}: {wrong or counted(state.rows, 'row')}"
        lines.append(Text(f" {text}", LOUD if wrong else ""))
    if warnings := held.texts:
        lines.append(Text(f" {plain(warnings[-1])}", QUIET))
    return lines, trouble


def _wrong(state: "SinkState") -> str:
    """Return what is wrong with a sink, in words; an empty text when nothing is."""
    waiting = f", {counted(state.waiting, 'row')} waiting" if state.waiting else ""
    if state.dropped:
        return f"DROPPED: {plain(str(state.failure))}"
    if state.standing_s >= HUNG_S:
        return f"does not answer for {state.standing_s:.0f} s{waiting}"
    return f"CANNOT BE WRITTEN: {plain(str(state.failure))}{waiting}" if state.failure else ""


def _show_bar(recorder: "Recorder") -> None:
    with click.progressbar(length=BAR_STEPS, label="Recording", file=BAR) as bar:
        for _ in _ticks(recorder):
            bar.update(int(BAR_STEPS * (recorder.recording.progress or 0)) - bar.pos)


def _show_line(recorder: "Recorder", analyzer: "servomex.Analyzer") -> None:
    width = 0
    try:
        for _ in _ticks(recorder):
            line = one_line(f"{recorder.summary.counts}{_values(analyzer, recorder)}")
            STDERR.write(f"\r{line:<{width}}")
            STDERR.flush()
            width = len(line)
    finally:
        STDERR.write("\n")


def _ticks(recorder: "Recorder") -> Iterator[None]:
    """Yield regularly until the end, and again at the end."""
    ended = False
    while not ended:
        ended = recorder.join(TICK_S)
        yield


def _values(analyzer: "servomex.Analyzer", recorder: "Recorder") -> str:
    """Return the newest values, or for how long there have been none."""
    try:
        frame = analyzer.snapshot()
    except ServomexError:
        return ""
    if frame.age_s > analyzer.fresh_for_s(recorder.recording.rate_hz):
        return f"; no reading for {frame.age_s:.0f} s"
    return "".join(f"; {item.channel} {value_text(item)}" for item in frame)
