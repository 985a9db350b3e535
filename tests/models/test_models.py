"""The models: asking a frame, the quality of a reading, and the one flattening to a row."""

import copy
import pickle
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import attrs
import pytest

from servomex.enums import ChannelId, ChannelKind, ProtocolKind, Quality
from servomex.errors import (
    ServomexChannelNotFoundError,
    ServomexError,
    ServomexTimeoutError,
    ServomexValidationError,
)
from servomex.models.analyser import AnalyserStatus, CalGroupState
from servomex.models.columns import ROW_COLUMNS
from servomex.models.frame import Frame
from servomex.models.info import ChannelInfo, DeviceInfo
from servomex.models.reading import ChannelStatus, Reading, make_reading
from servomex.models.sample import Sample
from servomex.settings import SerialSettings
from servomex.telegram import parse_frame
from servomex.units import Unit
from tests.helpers.frames import MONOTONIC_NS, REAL, RECEIVED_AT, block, external, make

READING = Reading(
    ChannelId.I1, "Oxygen", 20.376, Unit.PERCENT, "%", ChannelStatus(), ProtocolKind.MODBUS_RTU, RECEIVED_AT, 7
)  # fmt: skip
REQUESTED_AT = RECEIVED_AT - timedelta(seconds=0.25)


@pytest.fixture
def frame() -> Frame:
    return parse_frame(REAL, received_at=RECEIVED_AT, monotonic_ns=MONOTONIC_NS)


@pytest.mark.parametrize(("channel", "value"), [("I1", 20.376), ("I2", 0.084), ("I3", 0.250), ("E2", 0.0)])
def test_a_frame_gives_a_channel_by_its_name_or_its_id(frame: Frame, channel: str, value: float) -> None:
    reading = frame[channel]
    assert reading.value == value
    assert frame[ChannelId(channel)] is frame.get(channel) is frame.get(ChannelId(channel)) is reading


@pytest.mark.parametrize("channel", ["X9", "i4", "I5", "", "Oxyge", "||||||", "I4", "D1", ChannelId.D4])
def test_a_channel_that_is_not_there_is_an_error_that_lists_those_that_are(frame: Frame, channel: str) -> None:
    with pytest.raises(ServomexValidationError) as caught:
        frame[channel]
    assert str(channel).upper() in str(caught.value).upper()
    assert all(present in str(caught.value) for present in ("I1", "I2", "I3", "E1", "E2"))


def test_a_channel_that_is_not_populated_is_distinguished_from_those_that_are(frame: Frame) -> None:
    with pytest.raises(ServomexValidationError) as caught:
        frame["I4"]
    assert str(caught.value) == (
        "channel I4 is not populated; this frame has I1 (Oxygen), I2 (CO), I3 (CO2), E1 (no name), E2 (no name)"
    )
    with pytest.raises(ServomexValidationError, match="has none"):
        attrs.evolve(frame, readings=())["I1"]


@pytest.mark.parametrize("channel", ["I4", "SO2", "X9"])
def test_get_gives_none_where_a_channel_is_an_error_that_is_a_lookup_error_too(frame: Frame, channel: str) -> None:
    assert frame.get(channel) is None
    for look in (frame.channel, frame.__getitem__):
        with pytest.raises(LookupError) as caught:
            look(channel)
        assert isinstance(caught.value, ServomexChannelNotFoundError)


@pytest.mark.parametrize("channel", ["I9", "e3", "D0", " ", "", None, 1])
def test_what_is_neither_an_id_nor_a_name_is_refused(frame: Frame, channel: Any) -> None:
    for look in (frame.channel, frame.__getitem__, frame.get):
        with pytest.raises(ServomexValidationError, match="unknown channel"):
            look(channel)
    assert channel not in frame


@pytest.mark.parametrize(("asked", "channel"), [
    ("I1", "I1"), ("i1", "I1"), (" i1 ", "I1"), (ChannelId.I1, "I1"), ("Oxygen", "I1"), ("OXYGEN", "I1"),
    (" oxygen ", "I1"), ("co", "I2"), ("CO2", "I3"), ("CO₂", "I3"), ("co₂", "I3"),
])  # fmt: skip
def test_a_channel_is_named_by_its_id_or_its_gas(frame: Frame, asked: str, channel: str) -> None:
    assert frame.channel(asked) is frame[asked] is frame.get(asked)
    assert frame[asked].channel == channel
    assert asked in frame
    assert frame.only([asked, "E1"]).channels == (channel, "E1")


def test_a_subscript_in_the_name_is_the_same_as_its_digit(frame: Frame) -> None:
    over_modbus = attrs.evolve(frame, readings=(attrs.evolve(frame["I3"], name="CO₂"),))
    assert over_modbus["CO2"] is over_modbus["co₂"] is over_modbus.readings[0]


def test_a_name_of_several_channels_is_an_error_that_lists_them(frame: Frame) -> None:
    twice = attrs.evolve(frame, readings=(*frame.readings[:2], attrs.evolve(frame["I3"], name="co")))
    for look in (twice.channel, twice.__getitem__, twice.get, lambda name: twice.only([name])):
        with pytest.raises(ServomexChannelNotFoundError) as caught:
            look("CO")
        assert str(caught.value) == "'CO' is the name of several channels: I2 (CO), I3 (co). Name one by its id"
    assert "CO" in twice
    assert twice["Oxygen"].channel == "I1"


def test_an_id_is_never_taken_for_a_name(frame: Frame) -> None:
    named = attrs.evolve(
        frame, readings=(attrs.evolve(frame["I1"], name="I2"), attrs.evolve(frame["E1"], name="d4"))
    )
    for asked in ("I2", "i2", "D4"):
        assert named.get(asked) is None
        with pytest.raises(ServomexChannelNotFoundError):
            named[asked]


def test_a_frame_holds_the_readings_it_gives(frame: Frame) -> None:
    assert all(reading in frame for reading in frame)
    assert attrs.evolve(frame["I1"], value=1.0) not in frame


def test_a_frame_is_iterable_and_has_a_length(frame: Frame) -> None:
    assert [reading.channel for reading in frame] == ["I1", "I2", "I3", "E1", "E2"]
    assert tuple(frame) == frame.readings
    assert frame.channels == (ChannelId.I1, ChannelId.I2, ChannelId.I3, ChannelId.E1, ChannelId.E2)
    assert len(frame) == 5


@pytest.mark.parametrize(("channel", "there"), [
    ("I1", True), (ChannelId.E2, True), ("oxygen", True), ("I4", False), (ChannelId.D1, False),
    ("X9", False), ("", False), (None, False), (1, False), (["I1"], False),
])  # fmt: skip
def test_in_asks_for_a_channel_and_never_raises(frame: Frame, channel: object, there: bool) -> None:
    assert (channel in frame) is there


def test_age_grows(frame: Frame) -> None:
    now = time.monotonic_ns()
    reading = attrs.evolve(READING, monotonic_ns=now - 2_000_000_000)
    aged = attrs.evolve(frame, monotonic_ns=now - 3_000_000_000, readings=(reading,))
    first, first_reading = aged.age_s, aged["I1"].age_s
    assert 3 <= first < 10
    assert 2 <= first_reading < 9
    time.sleep(0.05)
    assert aged.age_s >= first + 0.03  # the clock of Windows moves every 15.6 ms
    assert aged["I1"].age_s >= first_reading + 0.002


def test_only_keeps_the_wanted_channels_in_their_order(frame: Frame) -> None:
    some = frame.only(frozenset({ChannelId.E1, ChannelId.I2}))
    assert some.channels == ("I2", "E1")
    assert some == attrs.evolve(frame, readings=(frame["I2"], frame["E1"]))
    assert len(frame) == 5
    with pytest.raises(ServomexValidationError, match="empty list of channels"):
        frame.only(frozenset())


@pytest.mark.parametrize(("raw", "ok"), [
    (REAL, True), (make(block(), flags=b"F "), False), (make(block(), flags=b" M"), True),
    (make(block(flags=b"F ")), False), (make(block(alarms=b"  3 ")), False), (make(block(value=b"------")), False),
    (make(block(flags=b" M", cal=b"C", warm=b"W")), True),
])  # fmt: skip
def test_a_frame_is_ok_when_the_analyser_and_all_channels_are(raw: bytes, ok: bool) -> None:
    assert parse_frame(raw).ok is ok


@pytest.mark.parametrize(
    ("value", "fault", "maintenance", "calibrating", "warming_up", "alarm"),
    list(product((20.376, 0.0, None), *[(False, True)] * 5)),
)
def test_quality_and_ok(
    value: float | None, fault: bool, maintenance: bool, calibrating: bool, warming_up: bool, alarm: bool
) -> None:
    status = ChannelStatus(fault, maintenance, calibrating, warming_up, (False, alarm, False, False))
    reading = attrs.evolve(READING, value=value, status=status)
    if value is None or fault:
        assert reading.quality is Quality.BAD
    elif maintenance or calibrating or warming_up:
        assert reading.quality is Quality.UNCERTAIN
    else:
        assert reading.quality is Quality.GOOD
    assert status.ok is (not fault and not alarm)
    assert reading.ok is (value is not None and not fault and not alarm)


@pytest.mark.parametrize("alarm", range(4))
def test_any_alarm_is_not_ok_and_has_its_word(alarm: int) -> None:
    status = ChannelStatus(alarms=(alarm == 0, alarm == 1, alarm == 2, alarm == 3))
    assert not status.ok
    assert status.words == (f"alarm {alarm + 1}",)


def test_the_words_of_a_state() -> None:
    assert ChannelStatus().words == ()
    assert ChannelStatus(True, True, True, True, (True, False, True, False)).words == (
        "fault", "maintenance", "calibrating", "warming up", "alarm 1", "alarm 3",
    )  # fmt: skip


@pytest.mark.parametrize(("channel", "kind"), [
    *[(channel, ChannelKind.TRANSDUCER) for channel in ("I1", "I2", "I3", "I4")],
    *[(channel, ChannelKind.DERIVED) for channel in ("D1", "D2", "D3", "D4")],
    *[(channel, ChannelKind.EXTERNAL_INPUT) for channel in ("E1", "E2")],
])  # fmt: skip
def test_the_kind_of_a_channel(channel: str, kind: ChannelKind) -> None:
    assert ChannelId(channel).kind is kind
    assert attrs.evolve(READING, channel=ChannelId(channel)).kind is kind


@pytest.mark.parametrize(("value", "spec", "text"), [
    (20.376, ".3f", "20.376"), (20.376, "8.1f", "    20.4"), (-0.5, "+.2f", "-0.50"), (None, ".3f", "None"),
    (None, "8.1f", "None"), (0.0, "g", "0"),
])  # fmt: skip
def test_a_reading_formats_as_its_value(value: float | None, spec: str, text: str) -> None:
    assert format(attrs.evolve(READING, value=value), spec) == text


def test_a_reading_without_a_format_is_its_line() -> None:
    assert f"{READING}" == str(READING) == "I1 Oxygen 20.376 %, good"


def test_a_reading_converts() -> None:
    assert READING.to("vpm") == 203760.0
    assert READING.to(Unit.PERCENT) == 20.376
    assert attrs.evolve(READING, value=None).to("vpm") is None
    for unit in ("mA", "?", "bar"):
        with pytest.raises(ServomexValidationError):
            READING.to(unit)
    with pytest.raises(ServomexValidationError):
        attrs.evolve(READING, unit=Unit.UNKNOWN, unit_text="%LE").to("%")


@pytest.mark.parametrize("unit", ["mA", "bar"])
def test_a_wrong_unit_is_refused_with_and_without_a_value(unit: str) -> None:
    with pytest.raises(ServomexValidationError):
        attrs.evolve(READING, value=None).to(unit)


@pytest.mark.parametrize(("channel", "fault", "value", "expected"), [
    ("I1", False, 1.5, 1.5), ("I1", True, 1.5, 1.5), ("D4", True, 1.5, 1.5), ("E1", False, 1.5, 1.5),
    ("E1", True, 1.5, None), ("E2", True, 0.0, None), ("I1", False, None, None), ("I1", False, 0.0, 0.0),
    ("I1", False, float("nan"), None), ("I1", False, float("inf"), None), ("E1", False, float("-inf"), None),
])  # fmt: skip
def test_what_is_not_valid_is_none(channel: str, fault: bool, value: float | None, expected: float | None) -> None:
    reading = make_reading(
        ChannelId(channel), b"CO\x82   ", value, b"vpm\0", ChannelStatus(fault=fault), ProtocolKind.MODBUS_RTU,
        RECEIVED_AT, 7,
    )  # fmt: skip
    assert reading == Reading(
        ChannelId(channel), "CO₂", expected, Unit.VPM, "vpm", ChannelStatus(fault=fault), ProtocolKind.MODBUS_RTU,
        RECEIVED_AT, 7,
    )  # fmt: skip


COLUMNS = [
    "received_at", "monotonic_ns", "device", "protocol", "channel", "kind", "name", "value", "unit", "unit_text",
    "quality", "ok", "fault", "maintenance", "calibrating", "warming_up", "alarm1", "alarm2", "alarm3", "alarm4",
    "analyser_fault", "analyser_maintenance", "cal_groups", "analyser_clock", "requested_at", "latency_s", "error",
    "error_type", "tags",
]  # fmt: skip


def test_a_row_reports_everything() -> None:
    raw = make(
        block(alarms=b"1 3 ", warm=b"W"), block(b"D2", b"||||||", b"------", b"abc", b" 2 4", b" M", b"C"),
        external(b"E1", b"   4.0", b"F "), external(b"E2", b"  12.5"), flags=b" M", cal=b"S1C2S1S2",
    )  # fmt: skip
    frame = attrs.evolve(
        parse_frame(raw, received_at=RECEIVED_AT, monotonic_ns=7), requested_at=REQUESTED_AT, latency_s=0.25
    )
    samples = [attrs.evolve(item, metadata={"site": "mill-3"}) for item in frame.as_samples(device="rig A")]
    rows = [sample.as_dict() for sample in samples]
    common = {
        "received_at": RECEIVED_AT, "monotonic_ns": 7, "device": "rig A", "protocol": "continuous",
        "analyser_fault": False, "analyser_maintenance": True, "cal_groups": "S1C2S1S2",
        "analyser_clock": datetime.fromisoformat("2020-10-06T02:54:12"), "requested_at": REQUESTED_AT,
        "latency_s": 0.25, "error": None, "error_type": None, "tags": {"site": "mill-3"},
        "maintenance": False, "calibrating": False, "warming_up": False,
        "fault": False, "alarm1": False, "alarm2": False, "alarm3": False, "alarm4": False,
    }  # fmt: skip
    special: list[dict[str, Any]] = [
        {"channel": "I1", "kind": "transducer", "name": "Oxygen", "value": 20.376, "unit": "%", "unit_text": "%",
         "quality": "uncertain", "ok": False, "alarm1": True, "alarm3": True, "warming_up": True},
        {"channel": "D2", "kind": "derived", "name": None, "value": None, "unit": "?", "unit_text": "abc",
         "quality": "bad", "ok": False, "alarm2": True, "alarm4": True, "maintenance": True, "calibrating": True},
        {"channel": "E1", "kind": "external_input", "name": None, "value": None, "unit": "mA", "unit_text": "mA",
         "quality": "bad", "ok": False, "fault": True},
        {"channel": "E2", "kind": "external_input", "name": None, "value": 12.5, "unit": "mA", "unit_text": "mA",
         "quality": "good", "ok": True},
    ]  # fmt: skip
    assert rows == [common | own for own in special]
    assert [list(row) for row in rows] == [COLUMNS] * 4
    # Plain types, so that no sink has to know our enums.
    assert {type(value) for row in rows for value in row.values()} <= {
        str, float, int, bool, datetime, type(None), dict,
    }  # fmt: skip


def test_the_columns_are_fixed() -> None:
    assert list(ROW_COLUMNS) == COLUMNS


def test_a_reading_alone_gives_a_part_of_the_same_row(frame: Frame) -> None:
    for reading, sample in zip(frame, frame.as_samples(), strict=True):
        row = sample.as_dict()
        assert reading.as_dict() == {key: row[key] for key in reading.as_dict()}
        assert set(COLUMNS) - set(reading.as_dict()) == {
            "device", "analyser_fault", "analyser_maintenance", "cal_groups", "analyser_clock", "requested_at",
            "latency_s", "error", "error_type", "tags",
        }  # fmt: skip


def test_samples_keep_the_reading_and_its_surroundings(frame: Frame) -> None:
    samples = frame.as_samples(device="rig A")
    assert [sample.reading for sample in samples] == list(frame)
    assert [sample.channel for sample in samples] == list(frame.channels)
    assert {(s.device, s.analyser, s.requested_at, s.latency_s, s.error) for s in samples} == {
        ("rig A", frame.analyser, None, None, None)
    }
    assert frame.as_samples()[0].device == ""


def test_an_error_takes_the_place_of_a_reading() -> None:
    sample = Sample("rig A", ProtocolKind.MODBUS_RTU, RECEIVED_AT, 7, error=ServomexTimeoutError("no reply"))
    row = sample.as_dict()
    assert sample.channel is None
    assert list(row) == COLUMNS
    assert {key: value for key, value in row.items() if value is not None} == {
        "received_at": RECEIVED_AT, "monotonic_ns": 7, "device": "rig A", "protocol": "modbus_rtu",
        "error": "no reply", "error_type": "ServomexTimeoutError", "tags": {},
    }  # fmt: skip


GROUPS = (CalGroupState(1, True, 2),)
MODELS: list[Callable[[], Any]] = [
    lambda: ChannelStatus(True, alarms=(True, False, False, True)),
    lambda: attrs.evolve(READING, value=-1.5),
    lambda: CalGroupState(1, True, 2),
    lambda: AnalyserStatus(False, True, GROUPS, datetime.fromisoformat("2020-10-06T02:54:12")),
    lambda: parse_frame(REAL, received_at=RECEIVED_AT, monotonic_ns=7),
    lambda: parse_frame(REAL, received_at=RECEIVED_AT, monotonic_ns=7).readings[0],
    lambda: Sample("rig", ProtocolKind.MODBUS_RTU, RECEIVED_AT, 7, attrs.evolve(READING), None, None, 0.25),
    lambda: ChannelInfo(ChannelId.I1, "CO₂", Unit.VPM, "vpm"),
    lambda: DeviceInfo(
        "COM11", ProtocolKind.MODBUS_RTU, 3, SerialSettings(),
        (ChannelInfo(ChannelId.E1, None, Unit.MILLIAMP, "mA"),),
    ),
]  # fmt: skip
NAMES = (
    "ChannelStatus Reading CalGroupState AnalyserStatus Frame Reading-parsed Sample ChannelInfo DeviceInfo".split()
)
every_model = pytest.mark.parametrize("build", MODELS, ids=NAMES)


@every_model
def test_models_are_frozen_and_slotted(build: Callable[[], Any]) -> None:
    model = build()
    assert not hasattr(model, "__dict__")
    for field in attrs.fields_dict(type(model)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(model, field, None)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            delattr(model, field)
    with pytest.raises(AttributeError):
        model.anything = 1


@every_model
@pytest.mark.parametrize("duplicate", [
    copy.copy, copy.deepcopy, *[lambda m, p=p: pickle.loads(pickle.dumps(m, p)) for p in range(2, 6)],
])  # fmt: skip
def test_models_survive_copying_and_pickling(build: Callable[[], Any], duplicate: Callable[[Any], Any]) -> None:
    model = build()
    twin = duplicate(model)
    assert type(twin) is type(model)
    assert twin == model == build()
    assert hash(twin) == hash(model) == hash(build())
    assert repr(twin) == repr(model)


@every_model
def test_a_model_differs_when_any_field_does(build: Callable[[], Any]) -> None:
    model = build()
    compared = [name for name, field in attrs.fields_dict(type(model)).items() if field.eq]
    assert {*attrs.fields_dict(type(model))} - {*compared} <= {"raw"}
    for field in compared:
        others = {"metadata": {"site": "another"}, "error": ServomexError("something else")}
        other = others.get(field, "something else")
        assert attrs.evolve(model, **{field: other}) != model


def test_the_raw_bytes_stay_out_of_a_frames_repr(frame: Frame) -> None:
    assert frame.raw == REAL
    assert "2A1D" not in repr(frame)


def test_times_are_given_in_utc(frame: Frame) -> None:
    assert frame.received_at.tzinfo is UTC
    assert frame.analyser.clock is not None
    assert frame.analyser.clock.tzinfo is None


@pytest.mark.parametrize("channel", [ChannelId.I1, ChannelId.D2, ChannelId.E1])
def test_what_is_known_of_a_channel_has_its_kind(channel: ChannelId) -> None:
    assert ChannelInfo(channel, None, Unit.UNKNOWN, "").kind is channel.kind


def test_calibration_groups_are_written_as_the_instrument_writes_them() -> None:
    groups = (CalGroupState(1, False, 1), CalGroupState(2, True, 2), CalGroupState(3, True, 1))
    assert list(map(str, groups)) == ["S1", "C2", "C1"]
    status = AnalyserStatus(False, False, groups)
    assert status.cal_text == "S1C2C1"
    assert status.cal_words == ("group 2 on calibration gas 2", "group 3 on calibration gas 1")
