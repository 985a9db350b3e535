"""What models look like: on a terminal, in a program's log, and in a notebook."""

import datetime as datetime_module
import re
from datetime import datetime
from html.parser import HTMLParser
from typing import Any

import attrs
import pytest

from servomex import (
    AcquisitionSummary,
    AnalyserStatus,
    CalibrationPhase,
    CalibrationProgress,
    CalibrationReport,
    CalPhase,
    ChannelId,
    ChannelInfo,
    ChannelStatus,
    DeviceInfo,
    DeviceResult,
    DiscoveryResult,
    Frame,
    ProtocolKind,
    Reading,
    SerialSettings,
    ServomexTimeoutError,
    Unit,
    open_device,
)
from servomex.telegram import parse_frame
from tests.helpers.commands import invoke
from tests.helpers.frames import MONOTONIC_NS, REAL, RECEIVED_AT

pytestmark = pytest.mark.virtual_time

EVIL = "<img src=x onerror=alert(1)>"
OK = ChannelStatus()


@pytest.fixture
def frame() -> Frame:
    return parse_frame(REAL, received_at=RECEIVED_AT, monotonic_ns=MONOTONIC_NS)


@pytest.fixture
def oxygen(frame: Frame) -> Reading:
    return frame["I1"]


def evil(frame: Frame) -> Frame:
    return attrs.evolve(frame, readings=tuple(attrs.evolve(item, name=EVIL, unit_text=EVIL) for item in frame))


def report(frame: Frame) -> CalibrationReport:
    phases = (
        CalibrationPhase(CalPhase.CAL_GAS_1, RECEIVED_AT, 61.0),
        CalibrationPhase(CalPhase.SAMPLING, RECEIVED_AT, 2.0),
        CalibrationPhase(CalPhase.CAL_GAS_2, RECEIVED_AT, 3.0),
    )
    states = {ChannelId.I1: (ChannelStatus(calibrating=True), OK)}
    i1 = (ChannelId.I1,)
    return CalibrationReport(1, RECEIVED_AT, RECEIVED_AT, phases, frame, frame, i1, states, 2, 11.0, (EVIL,))


INFO = DeviceInfo(
    "/dev/ttyUSB0", ProtocolKind.MODBUS_RTU, 3, SerialSettings(),
    (ChannelInfo(ChannelId.I1, "Oxygen", Unit.PERCENT, "%"), ChannelInfo(ChannelId.E1, None, Unit.MILLIAMP, "mA")),
)  # fmt: skip


@pytest.mark.parametrize(("changes", "text"), [
    ({}, "I1 Oxygen 20.376 %, good"),
    ({"name": None}, "I1 20.376 %, good"),
    ({"value": None}, "I1 Oxygen no value, bad"),
    ({"value": 1e-5, "unit_text": ""}, "I1 Oxygen 0.00001, good"),
    ({"status": ChannelStatus(warming_up=True, alarms=(False, True, False, False))},
     "I1 Oxygen 20.376 %, uncertain, warming up, alarm 2"),
    ({"value": None, "status": ChannelStatus(fault=True)}, "I1 Oxygen no value, bad, fault"),
])  # fmt: skip
def test_a_reading_is_one_line(oxygen: Reading, changes: dict[str, Any], text: str) -> None:
    reading = attrs.evolve(oxygen, **changes)
    assert str(reading) == f"{reading}" == text


def test_a_format_gives_the_value_alone(oxygen: Reading) -> None:
    assert f"{oxygen:.2f}" == "20.38"


@pytest.mark.parametrize("mode", ["modbus_rtu", "continuous"])
def test_a_frame_is_the_table_that_servomex_read_prints(mode: str) -> None:
    url = f"sim://4100?mode={mode}&period=0.1"
    printed = invoke(url, "--protocol", mode).stdout.splitlines()
    with open_device(url, protocol=mode) as analyzer:
        shown = str(analyzer.poll()).splitlines()
    assert shown[2:] == printed[2:]
    assert len(shown) == 2 + 1 + 5
    assert shown[0].startswith(f"{mode}: analyser ok")
    assert re.fullmatch(r"received \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, \d+\.\d s ago.*", shown[1])


def test_states_are_words() -> None:
    assert (str(OK), str(ChannelStatus(fault=True, alarms=(True, False, False, True)))) == (
        "ok", "fault, alarm 1, alarm 4",
    )  # fmt: skip
    groups = parse_frame(REAL).analyser.cal_groups
    assert str(AnalyserStatus(False, False, groups)) == "analyser ok"
    calibrating = (*groups[:2], attrs.evolve(groups[2], calibrating=True, cal_gas=2), groups[3])
    clock = datetime.fromisoformat("2020-10-06T02:54:12")
    assert str(AnalyserStatus(True, True, calibrating, clock)) == (
        "analyser fault, maintenance required, group 3 on calibration gas 2, its clock 2020-10-06 02:54:12"
    )


def test_a_device_and_its_channels_are_said_on_one_line() -> None:
    assert [*map(str, INFO.channels)] == ["I1 Oxygen (%)", "E1 (mA)"]
    assert str(INFO) == (
        "/dev/ttyUSB0: SERVOPRO 4000 series, modbus_rtu, address 3, 19200 8N1: I1 Oxygen (%), E1 (mA)"
    )
    assert str(DiscoveryResult("COM1", None, INFO, 3, None)) == str(INFO)
    silent = ServomexTimeoutError("nothing answers", cure="Check the cable")
    assert (
        str(DiscoveryResult("COM1", None, None, 3, silent)) == "COM1, address 3: nothing answers. Check the cable"
    )


def test_a_result_is_said_after_the_name() -> None:
    assert str(DeviceResult(20.9, name="stack")) == "stack: 20.9"
    assert str(DeviceResult.failure(ServomexTimeoutError("no reply"))) == "no reply"
    assert str(DeviceResult(error=KeyError(), name="stack")) == "stack: KeyError"


def test_a_calibration_is_said_in_words(frame: Frame) -> None:
    progress = CalibrationProgress(2, CalPhase.CAL_GAS_1, RECEIVED_AT, 75.2)
    assert str(progress) == "group 2: calibration gas 1, 1 min 15 s"
    left = CalibrationProgress(2, CalPhase.IDLE, RECEIVED_AT, start_coil=True)
    assert str(left) == "group 2: sample; its start coil is at 1"
    assert str(report(frame)).splitlines() == [
        "autocalibration of group 1: 2026-03-01 12:30:45 UTC to 2026-03-01 12:30:45 UTC, 0 s",
        "2026-03-01 12:30:45 UTC calibration gas 1, 1 min 1 s",
        "2026-03-01 12:30:45 UTC sample, 2 s, then calibration gas again",
        "2026-03-01 12:30:45 UTC calibration gas 2, 3 s",
        "2026-03-01 12:30:45 UTC sample, seen for 11 s",
        "I1 Oxygen: 20.376 % before, 20.376 % after",
        "I1 states seen: calibrating; ok",
        "2 readings failed meanwhile",
    ]


def test_a_repr_is_exact_and_says_each_thing_once(oxygen: Reading) -> None:
    assert repr(ChannelStatus(fault=True)) == "ChannelStatus(fault=True)"
    assert repr(oxygen) == (
        "Reading(channel=ChannelId.I1, name='Oxygen', value=20.376, unit=Unit.PERCENT, unit_text='%', "
        "status=ChannelStatus(), protocol=ProtocolKind.CONTINUOUS_ASCII, "
        f"received_at={RECEIVED_AT!r}, monotonic_ns={MONOTONIC_NS})"
    )
    for state in (OK, ChannelStatus(warming_up=True, alarms=(False, True, False, False))):
        reading = attrs.evolve(oxygen, status=state)
        names = {"datetime": datetime_module, "Unit": Unit, "ChannelId": ChannelId, "ProtocolKind": ProtocolKind}
        assert eval(repr(reading), names | {"Reading": Reading, "ChannelStatus": ChannelStatus}) == reading


class Cells(HTMLParser):
    """The texts of a table's cells, and the names of all tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not attrs
        self.tags.append(tag)
        if tag in ("td", "th", "caption"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        self.cells[-1] += data


def html(model: Any) -> Cells:
    return Cells(model._repr_html_())


def test_no_text_of_a_model_is_markup(frame: Frame) -> None:
    wrong = evil(frame)
    info = attrs.evolve(INFO, port=EVIL, channels=(ChannelInfo(ChannelId.I1, EVIL, Unit.UNKNOWN, EVIL),))
    for model in (wrong, wrong["I1"], info, report(wrong)):
        assert EVIL not in model._repr_html_()
        shown = html(model)
        assert {*shown.tags} <= {"table", "caption", "br", "thead", "tbody", "tr", "th", "td"}
        assert any(EVIL in cell for cell in shown.cells)


def test_the_html_of_a_frame_has_its_time_its_age_and_when_that_was(frame: Frame) -> None:
    text = html(frame).cells[0]
    assert "continuous: analyser ok, its clock 2020-10-06 02:54:12" in text
    assert re.search(
        r"received 2026-03-01 12:30:45 UTC; \d+\.\d s old at 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC", text
    )
    assert "received 2026-03-01 12:30:45 UTC" in html(frame["I1"]).cells[0]


def test_the_html_of_a_bad_value_is_empty_and_its_quality_a_word(oxygen: Reading) -> None:
    assert html(oxygen).cells[-6:] == ["I1", "Oxygen", "20.376", "%", "ok", "good"]
    faulty = attrs.evolve(oxygen, status=ChannelStatus(fault=True))
    assert html(faulty).cells[-6:] == ["I1", "Oxygen", "", "%", "fault", "bad"]
    warming = attrs.evolve(oxygen, status=ChannelStatus(warming_up=True))
    assert html(warming).cells[-6:] == ["I1", "Oxygen", "20.376", "%", "warming up", "uncertain"]


def test_the_html_of_a_device_lists_its_channels() -> None:
    shown = html(INFO).cells
    assert shown[0] == "/dev/ttyUSB0: SERVOPRO 4000 series, modbus_rtu, address 3, 19200 8N1"
    assert shown[-8:] == ["I1", "Oxygen", "%", "transducer", "E1", "", "mA", "external_input"]


def test_the_html_of_a_calibration_has_its_course_and_the_values(frame: Frame) -> None:
    shown = html(report(frame)).cells
    assert shown[0].startswith("autocalibration of group 1: 2026-03-01 12:30:45 UTC to")
    assert shown[4:7] == ["2026-03-01 12:30:45 UTC", "calibration gas 1", "1 min 1 s"]
    assert "after, received 2026-03-01 12:30:45 UTC" in shown


def test_the_html_of_a_summary_has_every_count_and_says_until_when() -> None:
    summary = AcquisitionSummary(samples_emitted=7, errors=2, outage_s=1.23456, started_at=RECEIVED_AT)
    shown = html(summary).cells
    assert re.search(r"^5 readings, 2 failed.* as of 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC$", shown[0])
    figures = dict(zip(shown[1::2], shown[2::2], strict=True))
    assert figures["samples_emitted"] == "7"
    assert (figures["outage_s"], figures["started_at"]) == ("1.235", "2026-03-01 12:30:45 UTC")
    assert {field.name for field in attrs.fields(AcquisitionSummary) if field.name[0] != "_"} <= {*figures}
    summary.finished_at = RECEIVED_AT
    assert html(summary).cells[0].endswith("to its end")
