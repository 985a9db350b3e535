"""What a plot shows of samples: where lines break, when states were raised, what shares a curve."""

import itertools
import math
import random
from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servomex.errors import ServomexChannelNotFoundError, ServomexValidationError
from servomex.models.naming import asked_channels
from servomex.models.reading import ChannelStatus
from servomex.models.sample import Sample
from servomex.units import Unit
from servomex.views.plot.curves import Curve
from servomex.views.plot.line import Line, Point
from servomex.views.plot.picture import Picture, picture_of
from servomex.views.plot.spans import merged
from tests.helpers.any_samples import samples as any_samples
from tests.helpers.plotted import (
    ALARM_1,
    ALARM_2,
    BEGIN,
    CALIBRATING,
    FAULT,
    HOUR,
    MAINTENANCE,
    OUTAGE,
    PAUSE,
    SPIKE,
    WARMING_UP,
    carbon_monoxide,
    course,
    hour,
    reading,
    sample,
)

START = BEGIN.timestamp()


def seconds(curve: Curve, word: str) -> list[tuple[float, float]]:
    """When a state was raised, in seconds from the beginning."""
    return [(round(begin - START, 3), round(end - START, 3)) for begin, end in curve.spans.get(word, ())]


def curves(picture: Picture) -> dict[str, Curve]:
    return {
        label: curve for panel in picture.panels for label, curve in zip(panel.labels, panel.curves, strict=True)
    }


def only(samples: Sequence[Sample]) -> Curve:
    (curve,) = curves(picture_of(samples)).values()
    return curve


def breaks(curve: Curve) -> list[float]:
    """The times of the points before which the line is broken, besides the first."""
    return [round(point.at - START, 3) for part in curve.line.parts() for point in part[1:] if point.broken]


class TestGaps:
    def test_an_outage_and_a_pause_break_the_line_and_a_regular_course_does_not(self) -> None:
        oxygen = curves(picture_of(hour()))["I1 Oxygen"]
        assert seconds(oxygen, "no value") == [(OUTAGE[0] - 1, OUTAGE[1]), (PAUSE[0] - 1, PAUSE[1])]
        assert breaks(oxygen) == [OUTAGE[1], PAUSE[1]]

    def test_a_bad_value_breaks_the_line_for_as_long_as_it_lasts(self) -> None:
        curve = only(course([1.0, 2.0, None, None, 3.0]))
        assert seconds(curve, "no value") == [(2, 4)]
        assert breaks(curve) == [4]

    def test_a_value_with_a_fault_is_never_drawn(self) -> None:
        faulty = ChannelStatus(fault=True)
        curve = only(
            [sample(n, reading(n, "I1", 5.0, status=faulty if n == 4 else ChannelStatus())) for n in range(9)]
        )
        assert [round(point.at - START) for part in curve.line.parts() for point in part] == [
            0,
            1,
            2,
            3,
            5,
            6,
            7,
            8,
        ]
        assert (breaks(curve), seconds(curve, "no value"), curve.bad) == ([5], [(4, 5)], 1)

    def test_a_single_failed_reading_breaks_the_line(self) -> None:
        assert breaks(only(course([1.0, 1.0, math.nan, 1.0, 1.0]))) == [3]

    @pytest.mark.parametrize("before", [1, 2, 20])
    def test_a_pause_is_seen_however_early_it_comes(self, before: int) -> None:
        times = [*range(before), *range(before + 600, before + 620)]
        curve = only([sample(time, reading(time, "I1", 1.0)) for time in times])
        assert breaks(curve) == [before + 600]

    def test_a_new_rate_becomes_the_usual_one(self) -> None:
        times = [*range(20), *range(20, 1000, 30)]
        curve = only([sample(time, reading(time, "I1", 1.0)) for time in times])
        assert all(time < 300 for time in breaks(curve))

    def test_pauses_never_become_usual(self) -> None:
        times = [begin * 3600 + second for begin in range(30) for second in range(60)]
        curve = only([sample(time, reading(time, "I1", 1.0)) for time in times])
        assert breaks(curve) == [begin * 3600 for begin in range(1, 30)]

    def test_failures_at_the_beginning_and_at_the_end_are_gaps(self) -> None:
        curve = only(course([math.nan, math.nan, 1.0, 1.0, math.nan, math.nan]))
        assert seconds(curve, "no value") == [(0, 2), (3, 5)]

    def test_a_channel_that_vanishes_has_no_value_from_then_on(self) -> None:
        both = [
            sample(n, reading(n, channel, 1.0))
            for n in range(30)
            for channel in ("I1", "I2")
            if n < 20 or channel == "I1"
        ]
        found = curves(picture_of(both))
        assert seconds(found["I2 Oxygen"], "no value") == [(19, 29)]
        assert seconds(found["I1 Oxygen"], "no value") == []

    def test_a_clock_that_is_set_back_begins_another_part(self) -> None:
        times = [*range(10), *range(5, 20)]
        parts = only([sample(time, reading(time, "I1", 1.0)) for time in times]).line.parts()
        assert [(len(part), part[0].broken) for part in parts] == [(10, True), (15, True)]


class TestStates:
    def test_each_state_has_its_time(self) -> None:
        found = curves(picture_of(hour()))
        oxygen, monoxide = found["I1 Oxygen"], found["I2 CO (in part converted from %)"]
        wanted = {
            "calibrating": CALIBRATING, "warming up": WARMING_UP, "maintenance": MAINTENANCE, "alarm 1": ALARM_1,
            "alarm 2": ALARM_2,
        }  # fmt: skip
        assert {word: seconds(oxygen, word) for word in oxygen.spans if word != "no value"} == {
            word: [span] for word, span in wanted.items()
        }
        assert seconds(monoxide, "fault") == [FAULT]

    def test_a_state_ends_where_the_readings_do(self) -> None:
        raised = ChannelStatus(alarms=(True, False, False, False))
        on = [sample(n, reading(n, "I1", 1.0, status=raised)) for n in range(10)]
        off = [sample(n, reading(n, "I1", 1.0)) for n in range(1000, 1010)]
        assert seconds(only([*on, *off]), "alarm 1") == [(0, 9)]

    def test_the_state_of_the_analyser_has_its_own_row(self) -> None:
        (lane,) = [lane for panel in picture_of(hour()).panels for lane in panel.lanes if lane.curve is None]
        assert lane.owner == "analyser"
        assert {word: len(list(spans)) for word, spans in lane.spans.items()} == {
            "calibrating": 1, "fault": 1, "maintenance": 1,
        }  # fmt: skip

    def test_events_are_in_order_and_last_as_long_as_they_did(self) -> None:
        texts = [event.text for event in picture_of(hour()).events]
        assert "I1 Oxygen alarm 1 off after 2 min 0 s" in texts
        assert "is back after 3 min 0 s (36 failed readings)" in texts

    def test_uncertain_values_can_be_left_out(self) -> None:
        curve = curves(picture_of(hour(), good_only=True))["I1 Oxygen"]
        assert min(point.value for part in curve.line.parts() for point in part) > 20
        assert not any(point.uncertain for part in curve.line.parts() for point in part)
        assert CALIBRATING[1] in breaks(curve)


class TestUnits:
    def test_concentrations_are_converted_and_share_a_curve(self) -> None:
        monoxide = curves(picture_of(hour()))["I2 CO (in part converted from %)"]
        assert monoxide.unit_text == "vpm"
        points = {round(point.at - START): point.value for part in monoxide.line.parts() for point in part}
        assert points[100] == carbon_monoxide(100)
        assert points[3500] == pytest.approx(carbon_monoxide(3500), abs=0.01)

    def test_another_quantity_is_another_panel(self) -> None:
        found = [sample(n, reading(n, "I1", 5.0, "%" if n < 5 else "mA")) for n in range(10)]
        picture = picture_of(found)
        assert [(panel.unit_text, len(panel.curves)) for panel in picture.panels] == [("%", 1), ("mA", 1)]

    def test_an_unknown_unit_is_never_taken_for_a_known_one(self) -> None:
        unknown = attrs.evolve(reading(0, "I2", 5.0), unit=Unit.UNKNOWN)
        found = [sample(n, its) for n in range(10) for its in (reading(n, "I1", 5.0), attrs.evolve(unknown))]
        assert [panel.labels for panel in picture_of(found).panels] == [["I1 Oxygen"], ["I2 Oxygen"]]

    def test_a_unit_is_the_same_however_it_is_written(self) -> None:
        texts = [attrs.evolve(reading(n, "E1", 5.0, "mA"), unit_text=("mA", "", "MA")[n % 3]) for n in range(10)]
        assert only([sample(n, its) for n, its in enumerate(texts)]).unit_text == "mA"

    def test_another_name_is_another_curve(self) -> None:
        found = [sample(n, reading(n, "I1", 5.0, name="Oxygen" if n < 5 else "Argon")) for n in range(10)]
        assert [*curves(picture_of(found))] == ["I1 Oxygen", "I1 Argon"]

    def test_a_name_that_comes_back_continues_its_curve_after_a_gap(self) -> None:
        names = ["Oxygen"] * 9 + ["Argon"] + ["Oxygen"] * 9
        found = [sample(n, reading(n, "I1", 5.0, name=name)) for n, name in enumerate(names)]
        assert breaks(curves(picture_of(found))["I1 Oxygen"])[-1] == 10

    def test_a_panel_can_be_for_a_channel(self) -> None:
        assert [panel.labels[0][:2] for panel in picture_of(hour(), by_channel=True).panels] == [
            "I1",
            "I2",
            "I3",
            "E1",
        ]


class TestChoice:
    def test_several_analysers_share_the_time_and_have_names(self) -> None:
        both = [*course([1.0] * 9), *(attrs.evolve(item, device="rig B") for item in course([2.0] * 9))]
        picture = picture_of(both)
        assert [*curves(picture)] == ["rig A I1 Oxygen", "rig B I1 Oxygen"]
        assert len(picture.panels) == 1

    def test_channels_are_chosen_by_id_or_gas(self) -> None:
        chosen = picture_of(hour(), channels=asked_channels(["oxygen", "E1"]))
        assert [*curves(chosen)] == ["I1 Oxygen", "E1"]
        assert all(event.channel in (None, "I1", "E1") for event in chosen.events)

    def test_a_channel_that_is_not_there_is_an_error_that_lists_those_that_are(self) -> None:
        with pytest.raises(ServomexChannelNotFoundError, match=r"Argon.*I1 \(Oxygen\)"):
            picture_of(hour(), channels=asked_channels(["Argon"]))

    def test_a_name_of_several_channels_is_an_error(self) -> None:
        two = [sample(n, reading(n, channel, 1.0)) for n in range(9) for channel in ("I1", "I2")]
        with pytest.raises(ServomexChannelNotFoundError, match="several channels"):
            picture_of(two, channels=asked_channels(["Oxygen"]))

    @pytest.mark.parametrize("samples", [[], [sample(0), sample(1)]])
    def test_nothing_to_plot_is_an_error(self, samples: list[Sample]) -> None:
        with pytest.raises(ServomexValidationError, match="no readings to plot"):
            picture_of(samples)


class TestReduction:
    def test_a_spike_of_one_reading_stays(self) -> None:
        line = curves(picture_of(hour(), columns=100))["I1 Oxygen"].line
        (spike,) = [point for part in line.parts(100) for point in part if point.value == 25.0]
        assert spike.at - START == SPIKE

    @given(st.integers(0, 10**9), st.integers(1, 1500), st.integers(2, 60))
    @settings(max_examples=40, deadline=None)
    def test_no_extreme_and_no_gap_is_lost(self, seed: int, count: int, columns: int) -> None:
        chance = random.Random(seed)
        points = [
            Point(float(n), chance.gauss(0, 1), chance.random() < 0.3, chance.random() < 0.05)
            for n in range(count)
        ]
        line = Line(columns)
        for point in points:
            line.add(point)
        (part,) = line.parts(columns)
        assert len(part) <= 8 * (columns + 1)
        assert {*part} - {*points} <= {point._replace(broken=True) for point in points}
        assert [point.at for point in part] == sorted(point.at for point in part)
        for uncertain in (False, True):
            values = [point.value for point in points if point.uncertain is uncertain]
            kept = [point.value for point in part if point.uncertain is uncertain]
            assert (min(kept, default=0), max(kept, default=0)) == (min(values, default=0), max(values, default=0))
        for before, after in itertools.pairwise(part):
            between = points[round(before.at) + 1 : round(after.at) + 1]
            assert after.broken == any(point.broken for point in between)

    @given(
        st.lists(
            st.tuples(st.floats(0, 1e6), st.floats(0, 1e4)).map(lambda it: (it[0], it[0] + it[1])), min_size=1
        ),
        st.integers(1, 20),
    )
    def test_every_time_of_a_state_stays_in_one(self, spans: list[tuple[float, float]], most: int) -> None:
        found = merged(spans, most)
        assert len(found) <= max(most, 1)
        assert all(any(begin <= low and high <= end for begin, end in found) for low, high in spans)

    @given(st.lists(any_samples(), max_size=30))
    @settings(max_examples=30, deadline=None)
    def test_any_samples_make_a_picture_or_a_clear_error(self, samples: list[Sample]) -> None:
        try:
            picture = picture_of(samples)
        except ServomexValidationError:
            assert not any(item.reading for item in samples)
            return
        assert picture.readings == sum(item.reading is not None for item in samples)
        assert picture.begin <= picture.end


def test_the_hour_is_whole() -> None:
    picture = picture_of(hour())
    assert (round(picture.end - picture.begin), picture.failures) == (HOUR - 1, 36)
