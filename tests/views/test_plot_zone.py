"""Local time on plots: named with its zone, right on the days on which the clocks change."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import attrs
import pytest

import servomex
from servomex.errors import ServomexValidationError
from servomex.models.sample import Sample
from servomex.views.plot.zone import LocalZone, changes, moment_of, zone_name
from tests.helpers.plotted import reading, sample

SetZone = Callable[[str], None]


@pytest.fixture
def set_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[SetZone]:
    if not hasattr(time, "tzset"):
        pytest.skip("the zone of a process can only be set on POSIX")

    def use(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield use
    monkeypatch.undo()
    time.tzset()


def seconds(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(("zone", "name"), [
    ("Europe/Berlin", "CEST, UTC+02:00 to CET, UTC+01:00"), ("Asia/Kolkata", "IST, UTC+05:30"),
    ("America/Caracas", "UTC-04:00"), ("UTC", "UTC"),
])  # fmt: skip
def test_the_zone_has_its_name_and_its_difference(set_zone: SetZone, zone: str, name: str) -> None:
    set_zone(zone)
    assert zone_name(seconds(2026, 10, 24, 18), seconds(2026, 10, 25, 6)) == name


def test_a_change_of_the_clocks_is_found_to_the_second(set_zone: SetZone) -> None:
    set_zone("Europe/Berlin")
    begin, end = seconds(2026, 1, 1), seconds(2026, 12, 31)
    assert changes(begin, end) == [
        (begin, 3600), (seconds(2026, 3, 29, 1), 7200), (seconds(2026, 10, 25, 1), 3600),
    ]  # fmt: skip


def test_the_axis_is_right_before_and_after_the_change(set_zone: SetZone) -> None:
    pytest.importorskip("matplotlib")
    set_zone("Europe/Berlin")
    found: list[Sample] = []
    for minute in range(0, 720, 5):
        moment = datetime.fromtimestamp(seconds(2026, 10, 24, 18) + minute * 60, UTC)
        found.append(attrs.evolve(sample(minute, reading(minute, "I1", 20.0)), received_at=moment))
    figure = servomex.plot(found)
    figure.canvas.draw()
    axis = figure.axes[-1]
    shown = dict(zip((round(at * 86_400) for at in axis.get_xticks()), axis.get_xticklabels(), strict=True))
    assert shown[round(seconds(2026, 10, 25, 0))].get_text() == "02:00"
    assert shown[round(seconds(2026, 10, 25, 3))].get_text() == "04:00"
    assert axis.get_xlabel() == "local time (CEST, UTC+02:00 to CET, UTC+01:00)"


def test_a_time_that_happens_twice_keeps_its_order(set_zone: SetZone) -> None:
    set_zone("Europe/Berlin")
    zone = LocalZone()
    first, second = (datetime(2026, 10, 25, hour, 30, tzinfo=UTC).astimezone(zone) for hour in (0, 1))
    assert (first.hour, second.hour) == (2, 2)
    assert (first.astimezone(UTC).hour, second.astimezone(UTC).hour) == (0, 1)


@pytest.mark.parametrize(("text", "hour"), [
    ("2026-07-01 12:30", 10), ("2026-01-01T12:30", 11), ("2026-07-01 12:30+05:00", 7), ("2026-07-01 12:30Z", 12),
])  # fmt: skip
def test_a_text_without_a_zone_is_local_time(set_zone: SetZone, text: str, hour: int) -> None:
    set_zone("Europe/Berlin")
    assert moment_of(text, "start").hour == hour


@pytest.mark.parametrize("wrong", ["", "noon", "2026-13-01", 3, None, datetime(2026, 1, 1)])  # noqa: DTZ001
def test_what_is_not_a_time_is_refused(wrong: object) -> None:
    with pytest.raises(ServomexValidationError, match="start"):
        moment_of(wrong, "start")  # type: ignore[arg-type]
