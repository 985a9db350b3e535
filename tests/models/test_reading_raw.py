"""The bytes of a channel, as they came: where what a display showed in another way can be looked at."""

import pickle
from pathlib import Path

import attrs
import pytest

from servomex import ChannelId, ChannelStatus, Frame, Reading, load, open_device, open_sink
from servomex.models.columns import ROW_COLUMNS
from servomex.simulator import VirtualAnalyzer, VirtualChannel, VirtualLine, constant
from servomex.telegram import parse_frame
from tests.helpers.frames import REAL, WIRE, block, external, make

pytestmark = pytest.mark.virtual_time


def polled(mode: str) -> Frame:
    alarms = ChannelStatus(maintenance=True, warming_up=True, alarms=(False, False, True, True))
    channels = [
        VirtualChannel(ChannelId.I1, "Oxygen", "%", constant(20.376), alarms),
        VirtualChannel(ChannelId.I3, "CO₂", "%", constant(0.25)),
        VirtualChannel(ChannelId.E1, "", "mA", constant(0.0), ChannelStatus(fault=True)),
        VirtualChannel(ChannelId.E2, "", "mA", constant(0.0)),
    ]
    line = VirtualLine(VirtualAnalyzer(channels, mode=mode, period=0.1))
    with open_device(line.url, protocol=mode) as analyzer:
        frame = analyzer.poll()
        one = analyzer.read_channel("I3")
        assert one.raw == frame["I3"].raw
        return frame


@pytest.mark.parametrize("raw", [REAL, WIRE])
def test_a_broadcast_gives_each_channel_its_block_of_33_bytes(raw: bytes) -> None:
    frame = parse_frame(raw)
    assert frame["I1"].raw == b"I1;Oxygen;20.376; % ;    ;  ; ; ;"
    assert frame["E2"].raw == b"E2;||||||;   0.0; mA;    ;  ; ; ;"
    assert b"".join(reading.raw for reading in frame) == REAL[34:-5]
    assert {len(reading.raw) for reading in frame} == {33}


def test_an_unknown_glyph_and_a_text_in_the_place_of_a_value_can_be_seen() -> None:
    odd = block(name=b"CO\xa9   ", value=b"OVER  ", unit=b"mg\xb3")
    reading = parse_frame(make(odd, external(b"E1"), external(b"E2")))["I1"]
    assert (reading.value, reading.raw) == (None, b"I1;CO\xa9   ;OVER  ;mg\xb3;    ;  ; ; ;")


@pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii"])
def test_over_modbus_it_is_the_registers_and_a_byte_of_states(mode: str) -> None:
    frame = polled(mode)
    assert frame["I1"].raw == bytes.fromhex("41A3020C") + b"Oxygen" + b"%\0\0\0" + bytes([0b1100_1010])
    assert frame["I3"].raw == bytes.fromhex("3E800000") + b"CO\x82   " + b"%\0\0\0" + b"\0"
    assert frame["E1"].raw[-1] == 0b0000_0001, "invalid"


def test_it_is_in_no_row_no_comparison_and_no_text(tmp_path: Path) -> None:
    frame = polled("continuous")
    reading = frame["I1"]
    assert len(reading.raw) == 33
    bare = attrs.evolve(reading, raw=b"")
    assert bare == reading
    assert hash(bare) == hash(reading)
    assert repr(bare) == repr(reading)
    assert "raw" not in {*ROW_COLUMNS, *reading.as_dict()}
    assert pickle.loads(pickle.dumps(reading)).raw == reading.raw
    with open_sink(tmp_path / "run.csv") as sink:
        sink.write(frame.as_samples(device="a"))
    read = [sample.reading for sample in load(tmp_path / "run.csv")]
    assert read == list(frame)
    assert {item.raw for item in read if isinstance(item, Reading)} == {b""}


@pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii", "continuous"])
def test_the_model_is_the_series(mode: str) -> None:
    with open_device(f"sim://4100?mode={mode}&period=0.1", protocol=mode) as analyzer:
        assert analyzer.identify().model == "SERVOPRO 4000 series"
