"""What happened to an analyser, found in its samples: once, in words, and with how long it lasted."""

from datetime import UTC, datetime

import attrs
import pytest

from servomex.enums import ProtocolKind
from servomex.errors import ServomexError, ServomexParseError, ServomexTimeoutError
from servomex.models.analyser import AnalyserStatus, CalGroupState
from servomex.models.reading import ChannelStatus
from servomex.models.sample import Sample
from servomex.views.events import Event, EventFinder
from servomex.views.looks import Level
from tests.helpers.serving import OK, reading, sample

BEGUN = 1_772_368_200.0
ALARM_2 = ChannelStatus(alarms=(False, True, False, False))


def good(
    second: float, status: ChannelStatus | None = None, device: str = "a", analyser: AnalyserStatus = OK
) -> Sample:
    at_ns = round(second * 1e9)
    shown = attrs.evolve(reading(status=status, at_s=BEGUN + second), monotonic_ns=at_ns)
    return sample(device, shown, analyser)


def failed(second: float, error: ServomexError, device: str = "a") -> Sample:
    at = datetime.fromtimestamp(BEGUN + second, UTC)
    return Sample(device, ProtocolKind.MODBUS_RTU, at, round(second * 1e9), error=error)


def found(*samples: Sample) -> list[Event]:
    finder = EventFinder()
    return [event for one in samples for event in finder.events([one])]


def texts(*samples: Sample) -> list[str]:
    return [event.text for event in found(*samples)]


def test_an_alarm_is_told_when_it_begins_and_with_its_duration_when_it_ends() -> None:
    events = found(good(0), good(1, ALARM_2), good(2, ALARM_2), good(126), good(127))
    assert [event.text for event in events] == ["I1 Oxygen alarm 2 on", "I1 Oxygen alarm 2 off after 2 min 5 s"]
    assert [(event.kind, event.state, event.over) for event in events] == [
        ("alarm", "alarm 2", False), ("alarm", "alarm 2", True),
    ]  # fmt: skip
    assert [event.level for event in events] == [Level.ALARM, Level.GOOD]
    assert [event.number for event in events] == [1, 2]


@pytest.mark.parametrize(("status", "word", "kind", "level"), [
    (ChannelStatus(fault=True), "fault", "fault", Level.ALARM),
    (ChannelStatus(maintenance=True), "maintenance", "maintenance", Level.WARNING),
    (ChannelStatus(calibrating=True), "calibrating", "calibration", Level.NOTICE),
    (ChannelStatus(warming_up=True), "warming up", "warming up", Level.NOTICE),
])  # fmt: skip
def test_each_state_has_its_kind_and_its_level(status: ChannelStatus, word: str, kind: str, level: Level) -> None:
    [event] = found(good(0, status))
    assert (event.text, event.kind, event.level) == (f"I1 Oxygen {word} on", kind, level)


def test_a_calibration_of_a_group_and_a_fault_of_the_analyser_belong_to_no_channel() -> None:
    groups = (CalGroupState(1, True, 2), *OK.cal_groups[1:])
    busy = attrs.evolve(OK, fault=True, cal_groups=groups)
    events = found(good(0, analyser=busy), good(60))
    assert [(event.text, event.kind, event.channel) for event in events] == [
        ("analyser fault on", "fault", None),
        ("group 1 on calibration gas 2 on", "calibration", None),
        ("analyser fault off after 1 min 0 s", "fault", None),
        ("group 1 on calibration gas 2 off after 1 min 0 s", "calibration", None),
    ]


def test_an_outage_is_one_event_and_its_end_has_its_duration() -> None:
    error = ServomexTimeoutError("no reply")
    events = found(good(0), failed(1, error), failed(2, error), failed(3, error), good(43))
    assert [event.text for event in events] == ["no readings: no reply", "is back after 42 s (3 failed readings)"]
    assert [(event.level, event.over) for event in events] == [(Level.ALARM, False), (Level.NOTICE, True)]


def test_a_second_outage_begins_anew() -> None:
    error = ServomexTimeoutError("no reply")
    last = texts(failed(0, error), good(10), failed(20, error), good(25))[-1]
    assert last == "is back after 5 s (1 failed reading)"


def test_an_alarm_during_an_outage_lasts_until_it_is_seen_to_have_ended() -> None:
    assert texts(good(0, ALARM_2), failed(1, ServomexTimeoutError("no reply")), good(30))[-1] == (
        "I1 Oxygen alarm 2 off after 30 s"
    )


def test_a_damaged_broadcast_is_no_outage() -> None:
    events = found(good(0), failed(1, ServomexParseError("damaged")), good(2))
    assert [(event.kind, event.level, event.over) for event in events] == [("damage", Level.WARNING, False)]


def test_damage_that_goes_on_is_counted_and_does_not_displace_other_events() -> None:
    error = ServomexParseError("damaged")
    events = found(*(failed(second, error) for second in range(100)))
    assert [event.text for event in events] == ["damaged", "60 damaged broadcasts, the last: damaged"]


def test_a_changed_channel_beside_good_readings_is_a_warning() -> None:
    change = failed(1, ServomexError("I1 was Oxygen and is CO"))
    [event] = EventFinder().events([change, good(1)])
    assert (event.kind, event.level) == ("change", Level.WARNING)


def test_analysers_are_kept_apart_and_one_that_is_forgotten_begins_anew() -> None:
    finder = EventFinder()
    assert len(finder.events([good(0, ALARM_2, "a"), good(0, ALARM_2, "b")])) == 2
    finder.forget("a")
    assert [event.device for event in finder.events([good(1, None, "a"), good(1, None, "b")])] == ["b"]


def test_text_from_the_wire_cannot_control_a_terminal() -> None:
    [event] = found(failed(0, ServomexTimeoutError("no\x1b[2J reply\r\nfrom it")))
    assert event.text == "no readings: no\\x1b[2J reply from it"
    named = attrs.evolve(reading(status=ALARM_2), name="O\x1b]0;x\x07")
    [event] = found(sample("a", named))
    assert event.text.isprintable()
