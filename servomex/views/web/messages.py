"""What the page is sent, as JSON: analysers, their channels, and what happened to them."""

import json
from collections.abc import Iterable
from typing import Any

from servomex.models.plain import json_value
from servomex.models.sample import Sample
from servomex.runtime import suspend as awake
from servomex.runtime.clock import time
from servomex.views.board import AnalyserView, Board, ChannelView
from servomex.views.events import Event
from servomex.views.looks import STATES, Level

EVENTS_SENT = 200
"""How many events the page gets when it is opened; it shows no more."""


def encoded(value: Any) -> bytes:
    """Return a value as JSON on one line, without spaces; its texts are Unicode, its numbers finite."""
    return json.dumps(json_value(value), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def of_channel(channel: ChannelView) -> dict[str, Any]:
    """Return a channel as it is shown."""
    reading = channel.reading
    return {
        "id": str(reading.channel),
        "name": reading.name or "",
        "unit": reading.unit_text,
        "value": None if channel.value_text == "-" else reading.value,
        "text": channel.value_text,
        "age": round(channel.age_s, 3),
        "quality": reading.quality.value,
        "level": channel.level.word,
        "states": list(reading.status.words),
        "lowest": channel.lowest,
        "highest": channel.highest,
        "decimals": channel.decimals,
    }


def of_analyser(view: AnalyserView, *, channels: bool) -> dict[str, Any]:
    """Return an analyser as it is shown.

    Args:
        view: The analyser.
        channels: Whether its channels are included.
    """
    figures = view.figures
    summary = figures.summary
    found: dict[str, Any] = {
        "name": view.name,
        "where": view.where,
        "mode": figures.mode,
        "rate": figures.rate_hz,
        "period": figures.period_s,
        "fresh": round(figures.fresh_s, 3),
        "silent": round(view.silent_s, 3),
        "level": view.level.word,
        "error": view.error,
        "started": view.status is not None,
        "states": _states(view),
        "readings": summary.samples_emitted,
        "failed": summary.errors,
        "late": summary.samples_late,
    }
    if channels:
        found["channels"] = [of_channel(channel) for channel in view.channels]
    return found


def of_now(board: Board) -> dict[str, Any]:
    """Return the state of each analyser at this moment, without its channels."""
    return {**_moment(), "analysers": [of_analyser(view, channels=False) for view in board.view()]}


def of_all(board: Board) -> dict[str, Any]:
    """Return everything that a page shows when it is opened, except the course of the values."""
    return {
        **_moment(),
        "levels": [level.word for level in Level],
        "states": [{"word": state.word, "letter": state.letter, "level": state.level.word} for state in STATES],
        "analysers": [of_analyser(view, channels=True) for view in board.view()],
        "events": [event.as_json() for event in board.events(EVENTS_SENT)],
    }


def of_frame(view: AnalyserView, samples: Iterable[Sample], events: Iterable[Event]) -> dict[str, Any]:
    """Return one reading of an analyser: the analyser after it, with the channels that it contained.

    A reading that failed has no channels, and the error is that of the analyser.
    """
    samples = list(samples)
    read = {str(sample.channel) for sample in samples if sample.reading is not None}
    shown = [channel for channel in view.channels if str(channel.reading.channel) in read]
    return {
        **of_analyser(view, channels=False),
        "now": _now(),
        "t": max(sample.received_at for sample in samples).timestamp(),
        "channels": [of_channel(channel) for channel in shown],
        "events": [event.as_json() for event in events],
    }


def _moment() -> dict[str, float]:
    """Return when a message is sent: on a clock that sleep does not stop, and as the time of day."""
    return {"now": _now(), "wall": round(time.time(), 3)}


def _now() -> float:
    return round(awake.now().lasting_s, 3)


def _states(view: AnalyserView) -> list[str]:
    """Return the raised states of the analyser itself, in words."""
    if view.status is None:
        return []
    flags = ((view.status.fault, "fault"), (view.status.maintenance, "maintenance"))
    return [*(word for raised, word in flags if raised), *view.status.cal_words]
