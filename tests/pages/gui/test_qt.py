"""The monitor of Qt against virtual analysers, off screen."""

import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import servomex
from servomex.simulator import VirtualAnalyzer, VirtualLine, constant
from tests.helpers.monitors import (
    BLOCKED_S,
    DEAD_S,
    Breathe,
    assert_ends_on_ctrl_c,
    assert_nothing_left,
    is_stale,
    longest,
    opened_until,
    raise_alarm,
)
from tests.helpers.waiting import wait_until

if TYPE_CHECKING:
    import qt_monitor

BEATS = 30
"""So often at least a window is free in these seconds, of 300 times. One that reads by itself is free twice."""


@pytest.mark.usefixtures("app")
class TestQt:
    @staticmethod
    def card(monitor: "qt_monitor.Monitor", channel: str) -> "qt_monitor.ChannelCard":
        return monitor.cards[servomex.ChannelId(channel)]

    def test_it_shows_what_the_analyser_measures(self, monitor: "qt_monitor.Monitor") -> None:
        shown = [(card.title.text(), card.value.text(), card.quality.text()) for card in monitor.cards.values()]
        assert shown == [
            ("I1  Oxygen", "20.376 %", "GOOD"),
            ("I2  CO", "0.084 %", "GOOD"),
            ("I3  CO₂", "0.25 %", "GOOD"),
            ("E1", "0 mA", "GOOD"),
            ("E2", "0 mA", "GOOD"),
        ]
        assert monitor.state.text() == "READING"
        assert monitor.fault.text() == "○ analyser fault"
        assert not any(lamp.lit for card in monitor.cards.values() for lamp in card.lamps.values())

    def test_continuous_mode_is_shown_as_well(
        self,
        analyser: VirtualAnalyzer,
        line: VirtualLine,
        open_monitor: "Callable[..., qt_monitor.Monitor]",
        breathe: Breathe,
    ) -> None:
        analyser.period = 0.1
        analyser.power_cycle("continuous")
        monitor = open_monitor(line, protocol="auto")
        wait_until(lambda: monitor.cards and not monitor.latest.stale, pause=breathe)
        assert self.card(monitor, "I1").value.text() == "20.376 %"
        breathe(1.0)
        analyser.faults.silent = True
        wait_until(lambda: "STALE" in self.card(monitor, "I1").quality.text(), pause=breathe)

    @pytest.mark.parametrize("number", [1, 2, 3, 4])
    def test_an_alarm_lights_its_lamp(
        self,
        analyser: VirtualAnalyzer,
        monitor: "qt_monitor.Monitor",
        breathe: Breathe,
        number: int,
    ) -> None:
        lamps = self.card(monitor, "I2").lamps
        raise_alarm(analyser, number)
        wait_until(lambda: lamps[f"alarm {number}"].lit, pause=breathe)
        assert lamps[f"alarm {number}"].text() == f"● alarm {number}"
        assert [text for text, lamp in lamps.items() if lamp.lit] == [f"alarm {number}"]
        raise_alarm(analyser, 0)
        wait_until(lambda: not lamps[f"alarm {number}"].lit, pause=breathe)

    @pytest.mark.parametrize(
        ("state", "quality"),
        [
            ("fault", "BAD"),
            ("maintenance", "UNCERTAIN"),
            ("calibrating", "UNCERTAIN"),
            ("warming_up", "UNCERTAIN"),
        ],
    )
    def test_a_state_lights_its_lamp_and_shows_in_the_quality(
        self,
        analyser: VirtualAnalyzer,
        monitor: "qt_monitor.Monitor",
        breathe: Breathe,
        state: str,
        quality: str,
    ) -> None:
        card = self.card(monitor, "I1")
        flags: dict[str, Any] = {state: True}
        analyser["I1"].status = servomex.ChannelStatus(**flags)
        wait_until(lambda: card.lamps[state.replace("_", " ")].lit, pause=breathe)
        assert card.quality.text() == quality

    def test_the_analyser_s_own_state_is_shown(
        self, analyser: VirtualAnalyzer, monitor: "qt_monitor.Monitor", breathe: Breathe
    ) -> None:
        analyser.fault = analyser.maintenance = True
        analyser.write_coils(1, [True])
        wait_until(lambda: monitor.fault.lit and monitor.maintenance.lit and monitor.groups[1].lit, pause=breathe)
        assert monitor.groups[1].text() == "● group 2: cal gas 1"
        assert monitor.groups[0].text() == "○ group 1: sample"

    def test_no_value_is_no_number(
        self, analyser: VirtualAnalyzer, monitor: "qt_monitor.Monitor", breathe: Breathe
    ) -> None:
        analyser["I1"].signal = constant(None)
        wait_until(lambda: self.card(monitor, "I1").value.text() == "-", pause=breathe)
        assert self.card(monitor, "I1").quality.text() == "BAD"

    def test_another_unit_begins_another_course(
        self, analyser: VirtualAnalyzer, monitor: "qt_monitor.Monitor", breathe: Breathe
    ) -> None:
        card = self.card(monitor, "I2")
        analyser["I2"].unit, analyser["I2"].signal = "vpm", constant(840.0)
        wait_until(lambda: card.value.text() == "840 vpm", pause=breathe)
        breathe(0.3)
        assert set(finite(card.chart)) == {840.0}

    def test_a_pulled_cable_is_a_gap_and_reported_until_it_is_back(
        self, line: VirtualLine, monitor: "qt_monitor.Monitor", breathe: Breathe
    ) -> None:
        card = self.card(monitor, "I1")
        raise_alarm(line.analysers[0], 1)
        wait_until(
            lambda: len(finite(card.chart)) > 3 and self.card(monitor, "I2").lamps["alarm 1"].lit, pause=breathe
        )
        line.unplug()
        wait_until(lambda: monitor.state.text() == "NO READINGS", pause=breathe)
        assert "unplugged" in monitor.message.text()
        wait_until(lambda: is_stale(card.quality.text()), pause=breathe)
        assert card.value.text() == "20.376 %"
        assert "italic" in card.value.look
        lamp = self.card(monitor, "I2").lamps["alarm 1"]
        assert (lamp.lit, lamp.stale, lamp.text()) == (True, True, "● alarm 1 ?")
        line.plug()
        wait_until(lambda: monitor.state.text() == "I2 CO: alarm 1", pause=breathe)
        assert "italic" not in card.value.look
        wait_until(lambda: len(pieces(card.chart)) > 1, pause=breathe)

    def test_silence_alone_makes_it_stale(self, monitor: "qt_monitor.Monitor", breathe: Breathe) -> None:
        monitor._bridge.came.disconnect()  # as if the threads had died without a word
        wait_until(lambda: is_stale(self.card(monitor, "I1").quality.text()), pause=breathe)
        assert monitor.state.text() == "NO READINGS"
        assert "nothing has arrived since" in monitor.message.text()

    @pytest.mark.alone
    def test_a_line_that_dies_never_stops_the_window(
        self, analyser: VirtualAnalyzer, monitor: "qt_monitor.Monitor", breathe: Breathe
    ) -> None:
        with heartbeat() as beats:
            analyser.faults.silent = True
            wait_until(lambda: monitor.latest.trouble is not None, pause=breathe)
            assert "Check that the analyser is on" in monitor.message.text()
            before = len(beats)
            breathe(DEAD_S)
            assert len(beats) - before > BEATS
            analyser.faults.silent = False
            wait_until(lambda: not monitor.latest.stale, pause=breathe)
        assert longest(beats) < BLOCKED_S

    @pytest.mark.alone
    def test_opening_a_dead_line_never_stops_the_window(
        self,
        analyser: VirtualAnalyzer,
        line: VirtualLine,
        open_monitor: "Callable[..., qt_monitor.Monitor]",
        breathe: Breathe,
    ) -> None:
        analyser.faults.silent = True
        with heartbeat() as beats:
            monitor = open_monitor(line, protocol="auto")
            breathe(DEAD_S)
            assert monitor.state.text() == "OPENING"
            assert line.url in monitor.message.text()
            assert not monitor.lamps.isVisible()
            analyser.faults.silent = False
            wait_until(lambda: monitor.state.text() == "READING", pause=breathe)
        assert longest(beats) < BLOCKED_S

    @pytest.mark.parametrize("state", ["reading", "opening", "dead", "unplugged"])
    @pytest.mark.alone
    def test_it_closes_at_any_time_and_leaves_nothing(
        self,
        line: VirtualLine,
        open_monitor: "Callable[..., qt_monitor.Monitor]",
        breathe: Breathe,
        state: str,
    ) -> None:
        before = set(threading.enumerate())
        monitor = opened_until(state, line, open_monitor, lambda monitor: monitor.cards, lambda _: breathe)
        with heartbeat() as beats:
            monitor.close()
            wait_until(lambda: not monitor.isVisible(), 5.0, pause=breathe)
        assert longest(beats) < BLOCKED_S
        assert_nothing_left(before, line)

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for other programs")
    def test_ctrl_c_closes_the_program(self, line: VirtualLine) -> None:
        assert_ends_on_ctrl_c("qt_monitor.py", line)


class heartbeat:  # noqa: N801 (it is used like a function)
    """Notes the moments at which the window's thread was free, every 10 ms."""

    def __enter__(self) -> list[float]:
        from PySide6.QtCore import QTimer

        self.beats = [time.monotonic()]
        self.timer = QTimer()
        self.timer.timeout.connect(lambda: self.beats.append(time.monotonic()))
        self.timer.start(10)
        return self.beats

    def __exit__(self, *_: object) -> None:
        self.timer.stop()
        self.beats.append(time.monotonic())


def drawn(chart: "qt_monitor.Chart") -> list[float]:
    """The values that a chart draws, NaN in the gaps."""
    found = chart.good.getOriginalDataset()[1]
    return [] if found is None else list(found)


def finite(chart: "qt_monitor.Chart") -> list[float]:
    return [value for value in drawn(chart) if value == value]


def pieces(chart: "qt_monitor.Chart") -> list[list[float]]:
    """The unbroken pieces that a chart draws; only its line is looked at, which ends at NaN."""
    assert chart.good.opts["connect"] == "finite"
    found: list[list[float]] = [[]]
    for value in drawn(chart):
        if value == value:
            found[-1].append(value)
        else:
            found.append([])
    return [piece for piece in found if piece]
