"""The check-up reports the state of the analyser and its clock, with the cure."""

import re
import time
from datetime import UTC, datetime, timedelta

import attrs
import pytest

from servomex.checkup import examination as checkup
from servomex.models.frame import Frame
from servomex.models.reading import ChannelStatus
from servomex.simulator import VirtualAnalyzer, VirtualLine, constant
from tests.helpers.examining import examine_quickly, page
from tests.helpers.platforms import needs_pty

pytestmark = pytest.mark.virtual_time


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less."""
    examine_quickly(monkeypatch)


GAS = "It is on calibration gas: wait until that ends, or stop it"
PANEL = "Look at the messages on its panel"


@pytest.mark.parametrize("mode", ["modbus_rtu", "continuous"])
def test_the_state_of_the_analyser_is_reported_with_its_cure(mode: str) -> None:
    analyser = VirtualAnalyzer(mode=mode, period=0.1)
    analyser.maintenance = True
    analyser.write_coils(1, [True])
    analyser["I1"].status = ChannelStatus(warming_up=True, alarms=(False, True, False, False))
    analyser["I3"].signal = constant(None)
    analyser["E1"].status = ChannelStatus(fault=True)
    found = page(VirtualLine(analyser))
    assert (found.code, found.record["verdict"]) == (0, "WARNING")
    cure = "It needs maintenance: look at the messages on its panel"
    assert found["analyser"] == ("WARNING", "maintenance, group 2 on calibration gas 1", cure)
    wait = "Wait until it has reached its temperature"
    connected = "The input is invalid: check what is connected to it, if anything"
    oxygen, monoxide, dioxide, first, second = found.all("channel")
    assert oxygen == ("WARNING", "I1 Oxygen 20.376 % (warming up, alarm 2)", wait)
    assert monoxide == ("WARNING", "I2 CO 0.084 % (calibrating)", GAS)
    assert dioxide[::2] == ("WARNING", PANEL)
    assert first == ("WARNING", "E1 no value (fault)", connected)
    assert second == ("ok", "E2 0.0 mA", "")


def test_alarms_alone_and_groups_alone_have_their_own_cures() -> None:
    analyser = VirtualAnalyzer()
    analyser["I1"].status = ChannelStatus(alarms=(True, False, False, False))
    analyser.write_coils(0, [False, False, False, True])
    whole, oxygen, *others = checkup.state(analyser.frame())
    assert (whole.verdict, whole.seen, whole.cure) == ("WARNING", "group 4 on calibration gas 1", GAS)
    assert (oxygen.verdict, oxygen.cure) == (
        "WARNING",
        "An alarm is active: the measured value is beyond its limit",
    )
    assert {item.verdict for item in others} == {"ok"}


@pytest.mark.parametrize(
    ("shift", "verdict", "seen"),
    [
        (timedelta(hours=1), "WARNING", r"it shows .*, 1:00:00 ahead of this computer's"),
        (timedelta(days=-900), "WARNING", r"it shows .*, 900 days, 0:00:00 behind this computer's"),
        (timedelta(seconds=-61), "WARNING", r"it shows .*, 0:01:01 behind this computer's"),
        (timedelta(seconds=30), "ok", r"it shows 20[0-9: -]{17}, 30\.0 s ahead of this computer's"),
    ],
)
def test_the_clock_of_the_analyser_is_compared(shift: timedelta, verdict: str, seen: str) -> None:
    received_at = datetime.now(UTC).replace(microsecond=0)
    shown = received_at.astimezone().replace(tzinfo=None) + shift
    found = checkup.clock(broadcast_at(received_at, shown))
    assert found.verdict == verdict
    assert re.fullmatch(seen, found.seen)
    assert found.cure.startswith("Set it on the panel" if verdict == "WARNING" else "")


@needs_pty
def test_the_clock_of_the_analyser_shows_the_time_of_this_place(monkeypatch: pytest.MonkeyPatch) -> None:
    received_at = datetime(2026, 3, 1, 12, 30, 45, tzinfo=UTC)
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "XYZ-05:00")
        time.tzset()
        found = checkup.clock(broadcast_at(received_at, datetime(2026, 3, 1, 17, 30, 44)))  # noqa: DTZ001
    time.tzset()
    assert (found.verdict, found.seen) == ("ok", "it shows 2026-03-01 17:30:44, 1.0 s behind this computer's")


def test_a_clock_that_is_not_set_is_reported() -> None:
    found = checkup.clock(broadcast_at(datetime.now(UTC), None))
    assert (found.verdict, found.seen) == ("WARNING", "it is not set")


def broadcast_at(received_at: datetime, clock: datetime | None) -> Frame:
    frame = VirtualAnalyzer().frame()
    return attrs.evolve(frame, received_at=received_at, analyser=attrs.evolve(frame.analyser, clock=clock))
