"""Which channels there are: one that vanishes is an error until that is confirmed, an alarm stays."""

import contextlib
import itertools
import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from servomex import (
    Analyzer,
    ChannelId,
    ChannelStatus,
    ErrorContext,
    Frame,
    Recorder,
    ServomexChannelError,
    ServomexError,
    ServomexTimeoutError,
    ServomexValidationError,
    load,
    open_device,
)
from servomex.models.channelset import ChannelSet
from servomex.models.reading import Reading
from servomex.simulator import VirtualAnalyzer, VirtualChannel, VirtualLine, constant
from servomex.telegram import parse_frame
from tests.helpers.frames import capture_frames
from tests.helpers.waiting import wait_until

MODBUS = ("modbus_rtu", "modbus_ascii")
MODES = (*MODBUS, "continuous")
ALARM = ChannelStatus(alarms=(True, False, False, False))
WAIT_S = 10.0
WHERE = ErrorContext(port="COM7")


def captured() -> Frame:
    return parse_frame(capture_frames()[0])


@pytest.fixture
def readings() -> dict[str, Reading]:
    return {str(reading.channel): reading for reading in captured()}


class TestSet:
    """The decision, without any line."""

    @pytest.fixture(autouse=True)
    def _begin(self, readings: dict[str, Reading]) -> None:
        self.readings = readings

    def see(self, channels: ChannelSet, *names: str, **options: Any) -> None:
        channels.check([self.readings[name] for name in names], WHERE, **options)

    def test_a_missing_channel_is_an_error_until_the_next_reading_agrees(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        channels = ChannelSet()
        self.see(channels, "I1", "I2", "E1")
        with pytest.raises(ServomexChannelError, match=r"channel I2 \(CO\) is missing .*\[COM7\]"):
            self.see(channels, "I1", "E1")
        assert caplog.text == ""
        self.see(channels, "I1", "E1")
        (event,) = caplog.records
        assert (event.levelno, event.name) == (logging.WARNING, "servomex")
        assert "COM7: channel I2 (CO) is not populated any more" in event.message
        self.see(channels, "I1", "E1")
        assert len(caplog.records) == 1

    def test_one_that_is_back_was_never_confirmed_as_gone(self, caplog: pytest.LogCaptureFixture) -> None:
        channels = ChannelSet()
        self.see(channels, "I1", "I2")
        for _ in range(3):
            with pytest.raises(ServomexChannelError, match="channel I2"):
                self.see(channels, "I1")
            self.see(channels, "I1", "I2")
        assert caplog.text == ""

    def test_two_readings_that_lack_different_channels_confirm_neither(self) -> None:
        channels = ChannelSet()
        self.see(channels, "I1", "I2", "I3")
        for seen in (("I1", "I3"), ("I1", "I2"), ("I1",)):
            with pytest.raises(ServomexChannelError):
                self.see(channels, *seen)
        self.see(channels, "I1")

    def test_what_the_caller_has_confirmed_is_taken_at_once(self, caplog: pytest.LogCaptureFixture) -> None:
        channels = ChannelSet()
        self.see(channels, "I1", "I2", confirmed=True)
        self.see(channels, "I1", confirmed=True)
        assert "channel I2 (CO) is not populated any more" in caplog.text

    @pytest.mark.parametrize("confirmed", [False, True])
    def test_one_that_was_asked_for_stays_an_error(self, confirmed: bool) -> None:
        channels = ChannelSet(frozenset({ChannelId.I1, ChannelId.I2}))
        for _ in range(4):
            with pytest.raises(ServomexChannelError, match="not populated: I2 "):
                self.see(channels, "I1", confirmed=confirmed)
        self.see(channels, "I1", "I2", confirmed=confirmed)

    def test_a_channel_that_was_not_looked_at_is_not_missing(self) -> None:
        channels = ChannelSet()
        self.see(channels, "I1", "I2")
        self.see(channels, "I1", looked_at=frozenset({ChannelId.I1}))
        with pytest.raises(ServomexChannelError, match="channel I2"):
            self.see(channels, "I1")

    def test_one_that_appears_is_accepted_and_reported(self, caplog: pytest.LogCaptureFixture) -> None:
        channels = ChannelSet()
        self.see(channels, "I1")
        self.see(channels, "I1", "I3")
        assert "a channel was added: I3" in caplog.text
        with pytest.raises(ServomexChannelError, match="channel I3"):
            self.see(channels, "I1")

    def test_several_are_named_together(self) -> None:
        channels = ChannelSet()
        self.see(channels, "I1", "I2", "E1")
        with pytest.raises(ServomexChannelError, match=r"the channels I1 \(Oxygen\) and I2 \(CO\) are missing"):
            self.see(channels, "E1")


class TestFrame:
    def test_only_takes_ids_in_any_case(self) -> None:
        assert captured().only(["i1", "E1"]).channels == ("I1", "E1")
        assert captured()["i1"] is captured().get("I1") or captured()["i1"].channel is ChannelId.I1
        assert "i1" in captured()
        assert "I9" not in captured()
        assert 1 not in captured()

    @pytest.mark.parametrize("wanted", [["I9"], ["I1", ""], "I1", [], [None]])
    def test_only_refuses_unknown_channels(self, wanted: Any) -> None:
        with pytest.raises(ServomexValidationError):
            captured().only(wanted)

    @pytest.mark.parametrize("wanted", [["I4"], ["I1", "D2"]])
    def test_only_refuses_channels_that_are_not_there(self, wanted: list[str]) -> None:
        with pytest.raises(
            ServomexValidationError, match=f"channel {wanted[-1]} is not populated; this frame has"
        ):
            captured().only(wanted)

    def test_a_frame_without_readings_is_not_ok(self) -> None:
        assert captured().ok
        assert not attrs.evolve(captured(), readings=()).ok

    @pytest.mark.parametrize(
        ("change", "there"),
        [
            ({}, False),
            ({"value": None}, False),
            ({"value": 0.001}, True),
            ({"value": -3.0}, True),
            ({"status": ALARM}, True),
            ({"value": None, "status": ChannelStatus(fault=True)}, True),
            ({"status": ChannelStatus(warming_up=True)}, True),
            ({"channel": ChannelId.E1}, True),
            ({"name": "CO"}, True),
        ],
    )
    def test_an_unlabelled_channel_is_there_with_a_state_or_a_value(
        self, readings: dict[str, Reading], change: dict[str, Any], there: bool
    ) -> None:
        bare = attrs.evolve(readings["I2"], name=None, value=0.0)
        frame = attrs.evolve(captured(), readings=(readings["I1"], attrs.evolve(bare, **change)))
        assert (len(frame.populated()) == 2) is there


def bench(mode: str) -> VirtualAnalyzer:
    return VirtualAnalyzer(mode=mode, period=0.05)


def opened(line: VirtualLine, mode: str, **options: Any) -> Analyzer:
    return open_device(line.url, protocol=mode, timeout=5, gap=0.005, **options)


def unlabel(analyser: VirtualAnalyzer, channel: str) -> None:
    """Take everything from a channel by which it shows: the name at last, so that it vanishes at one moment."""
    analyser[channel].signal = constant(0.0)
    analyser[channel].name = ""


def polls(analyzer: Analyzer) -> Iterator[Frame | ServomexError]:
    """Fresh readings and errors, until the test has waited long enough."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        try:
            yield analyzer.poll(wait_fresh=True)
        except ServomexError as error:
            yield error
    raise AssertionError("it was waited for in vain")


def first(analyzer: Analyzer, wanted: Callable[[Frame | ServomexError], bool]) -> Frame | ServomexError:
    return next(filter(wanted, polls(analyzer)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "change",
    [{"status": ALARM}, {"status": ChannelStatus(fault=True)}, {"signal": constant(0.5)}],
    ids=["alarm", "fault", "value"],
)
@pytest.mark.parametrize("channel", ["I1", "I4", "D3"])
def test_an_unlabelled_channel_that_shows_something_is_read_in_every_mode(
    mode: str, change: dict[str, Any], channel: str
) -> None:
    analyser = bench(mode)
    bare = VirtualChannel(channel, "", "%", constant(0.0))
    analyser.channels = dict(sorted({**analyser.channels, bare.channel: bare}.items(), key=order))
    for name, value in change.items():
        setattr(bare, name, value)
    line = VirtualLine(analyser)
    with opened(line, mode) as analyzer:
        reading = analyzer.poll()[channel]
        assert (reading.name, reading.status) == (None, bare.status)
        assert analyzer.status(channel) == bare.status
        assert analyzer.read_channel(channel).status == bare.status
        assert set(analyzer.poll().channels) == {"I1", "I2", "I3", "E1", "E2", channel}
    with opened(line, mode, channels=[channel]) as analyzer:
        assert analyzer.poll().channels == (channel,)


def order(item: tuple[ChannelId, VirtualChannel]) -> int:
    return list(ChannelId).index(item[0])


@pytest.mark.parametrize("mode", MODBUS)
def test_an_alarm_of_a_channel_that_was_not_there_shows_in_the_next_sweep(mode: str) -> None:
    analyser = bench(mode)
    line = VirtualLine(analyser)
    with opened(line, mode) as analyzer:
        analyzer.poll()
        bare = VirtualChannel("I4", "", "", constant(0.0), ALARM)
        analyser.channels = dict(sorted({**analyser.channels, bare.channel: bare}.items(), key=order))
        assert analyzer.poll()["I4"].status == ALARM


@pytest.mark.parametrize("mode", MODES)
def test_the_same_unlabelled_channel_without_state_and_value_is_in_no_mode(mode: str) -> None:
    analyser = bench(mode)
    unlabel(analyser, "I2")
    line = VirtualLine(analyser)
    with opened(line, mode) as analyzer:
        assert analyzer.poll().channels == ("I1", "I3", "E1", "E2")
        for call in (analyzer.status, analyzer.read_channel):
            with pytest.raises(ServomexValidationError, match="channel I2 is not populated"):
                call("I2")
            with pytest.raises(ServomexValidationError, match="channel I4 is not populated"):
                call("I4")


@pytest.mark.parametrize("mode", MODES)
def test_a_channel_that_loses_its_name_keeps_its_alarm(mode: str) -> None:
    analyser = bench(mode)
    line = VirtualLine(analyser)
    with opened(line, mode) as analyzer:
        analyser["I1"].name, analyser["I1"].status = "", ALARM
        found = first(analyzer, lambda item: isinstance(item, Frame) and item["I1"].name is None)
        assert isinstance(found, Frame)
        assert (found["I1"].value, found["I1"].status) == (20.376, ALARM)
        assert not found.ok


@pytest.mark.parametrize("mode", MODBUS)
def test_a_vanished_channel_is_an_error_and_then_an_event(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    analyser = bench(mode)
    line = VirtualLine(analyser)
    with opened(line, mode) as analyzer:
        unlabel(analyser, "I1")
        with pytest.raises(ServomexChannelError, match=r"channel I1 \(Oxygen\) is missing"):
            analyzer.poll()
        assert analyzer.poll().channels == ("I2", "I3", "E1", "E2")
        assert "channel I1 (Oxygen) is not populated any more" in caplog.text
        assert analyzer.info is not None
        assert [item.channel for item in analyzer.info.channels] == ["I2", "I3", "E1", "E2"]
        analyser["I1"].name = "Oxygen"
        assert "I1" in [item.channel for item in analyzer.identify().channels]
        assert [item.channel for item in analyzer.info.channels] == ["I1", "I2", "I3", "E1", "E2"]


def test_in_continuous_mode_it_is_an_event_once_two_broadcasts_agree(caplog: pytest.LogCaptureFixture) -> None:
    analyser = bench("continuous")
    line = VirtualLine(analyser)
    with opened(line, "continuous") as analyzer:
        unlabel(analyser, "I1")
        found = first(analyzer, lambda item: isinstance(item, Frame) and "I1" not in item)
        assert isinstance(found, Frame)
        assert found.channels == ("I2", "I3", "E1", "E2")
        assert analyzer.dropped_frames >= 1
        assert "channel I1 (Oxygen) is not populated any more" in caplog.text
        assert analyzer.info is not None
        assert "I1" not in [item.channel for item in analyzer.info.channels]


@pytest.mark.parametrize("mode", MODES)
def test_one_that_was_asked_for_is_an_error_for_as_long_as_it_is_missing(mode: str) -> None:
    analyser = bench(mode)
    line = VirtualLine(analyser)
    with opened(line, mode, channels=["I1"]) as analyzer:
        unlabel(analyser, "I1")
        first(analyzer, lambda item: isinstance(item, ServomexChannelError))
        for item in itertools.islice(polls(analyzer), 5):
            assert isinstance(item, ServomexChannelError | ServomexTimeoutError)
            assert isinstance(item, ServomexTimeoutError) or "not populated: I1" in item.message
        analyser["I1"].name = "Oxygen"
        found = first(analyzer, lambda item: isinstance(item, Frame))
        assert isinstance(found, Frame)
        assert found.channels == ("I1",)


@pytest.mark.parametrize("mode", MODES)
def test_without_a_first_look_it_is_an_error_too(mode: str) -> None:
    line = VirtualLine(bench(mode))
    with opened(line, mode, channels=["D4"], identify=False) as analyzer:
        for _ in range(3):
            with pytest.raises(ServomexChannelError, match="not populated: D4"):
                analyzer.poll()


@contextlib.contextmanager
def recorded(mode: str, file: Path, channels: list[str] | None) -> Iterator[Recorder]:
    """Record an analyser that loses a channel once there are some readings of it."""
    analyser = bench(mode)
    line = VirtualLine(analyser)
    pace: dict[str, Any] = {} if mode == "continuous" else {"rate_hz": 20}
    with opened(line, mode, channels=channels) as analyzer, Recorder(analyzer, [file], **pace) as recorder:
        wait_until(lambda: recorder.summary.samples_emitted >= 3)
        unlabel(analyser, "I1")
        yield recorder


@pytest.mark.parametrize("mode", MODES)
def test_a_recording_has_one_error_row_for_it_until_that_is_confirmed(mode: str, tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    with recorded(mode, file, None) as recorder:
        wait_until(lambda: recorder.summary.errors)
        before = recorder.summary.samples_emitted
        wait_until(lambda: recorder.summary.samples_emitted >= before + 2)
    rows = list(load(file))
    (place,) = [place for place, row in enumerate(rows) if row.error]
    unconfirmed = "no second broadcast has confirmed it yet"
    words = unconfirmed if mode == "continuous" else "channel I1 (Oxygen) is missing"
    assert words in str(rows[place].error)
    assert {row.channel for row in rows[:place]} == {"I1", "I2", "I3", "E1", "E2"}
    assert {row.channel for row in rows[place + 1 :]} == {"I2", "I3", "E1", "E2"}


@pytest.mark.parametrize("mode", MODES)
def test_a_recording_of_one_that_was_asked_for_has_error_rows_for_as_long(mode: str, tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    with recorded(mode, file, ["I1"]) as recorder:
        wait_until(lambda: recorder.summary.errors >= 3)
    first, *others = [str(row.error) for row in load(file) if row.error]
    assert len(others) == recorder.summary.errors - 1 >= 2
    # The first broadcast of a new set of channels is refused as long as no second one confirms it.
    assert "not populated: I1" in first or (mode == "continuous" and "confirmed" in first)
    assert all("not populated: I1" in text for text in others)


@pytest.mark.parametrize("mode", MODES)
def test_rows_of_a_channel_that_is_not_there_cannot_be_asked_for(mode: str) -> None:
    line = VirtualLine(bench(mode))
    with opened(line, mode) as analyzer:
        assert [sample.channel for sample in analyzer.poll_samples(channels=["i1", "E2"])] == ["I1", "E2"]
        with pytest.raises(ServomexValidationError, match="channel I4 is not populated"):
            analyzer.poll_samples(channels=["I1", "I4"])


@pytest.mark.parametrize("mode", MODES)
def test_the_only_analyser_that_an_analyser_knows_is_itself(mode: str) -> None:
    line = VirtualLine(bench(mode))
    with opened(line, mode) as analyzer:
        assert len(analyzer.poll_samples(names=[analyzer.name], channels=["I1"])) == 1
        for wrong in (["I1"], [analyzer.name, "kiln"], [], analyzer.name):
            with pytest.raises(ServomexValidationError):
                analyzer.poll_samples(names=wrong)
        with pytest.raises(ServomexValidationError, match=f"'kiln'.*{re.escape(analyzer.name)}"):
            analyzer.poll_samples(names=["kiln"])


def test_a_state_that_is_asked_for_again_costs_one_request() -> None:
    line = VirtualLine(bench("modbus_rtu"))
    with opened(line, "modbus_rtu") as analyzer:
        analyzer.status("I1")
        del line.heard[:]
        analyzer.status("I1")
        assert [sent[1] for _, sent in line.heard] == [2]
