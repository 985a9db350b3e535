"""The settings of a serial port, and the checks of what callers pass in."""

import pickle
from enum import StrEnum
from pathlib import Path
from typing import Any

import attrs
import pytest

from servomex.analyzer.opening import open_device
from servomex.enums import ChannelId, ProtocolKind, Quality
from servomex.errors import ServomexConfigurationError, ServomexNotFoundError, ServomexValidationError
from servomex.errors.validation import choice, rate, seconds, whole
from servomex.manager.manager import ServomexManager
from servomex.port.link import SerialLink
from servomex.settings import SerialSettings
from servomex.simulator import VirtualAnalyzer, VirtualLine


def test_the_defaults_are_those_of_the_bench_unit() -> None:
    assert attrs.asdict(SerialSettings()) == {
        "port": None,
        "baudrate": 19200,
        "bytesize": 8,
        "parity": "N",
        "stopbits": 1,
        "rtscts": False,
        "xonxoff": False,
        "exclusive": True,
    }


@pytest.mark.parametrize(("field", "value"), [
    *[("baudrate", value) for value in (300, 2400, 4800, 9600, 19200, 115200)],
    *[("bytesize", value) for value in (7, 8)], *[("parity", value) for value in "NEO"],
    *[("stopbits", value) for value in (1, 2)],
    *[(flow, value) for flow in ("rtscts", "xonxoff", "exclusive") for value in (True, False)],
])  # fmt: skip
def test_good_settings_are_kept(field: str, value: Any) -> None:
    assert getattr(SerialSettings(**{field: value}), field) == value


@pytest.mark.parametrize(("field", "value"), [
    *[("baudrate", value) for value in (0, -9600, 299, 115201, 9600.0, "9600", True, None, float("nan"))],
    *[("bytesize", value) for value in (5, 6, 9, 0, -8, 8.0, "8", True, None)],
    *[("parity", value) for value in ("n", "M", "S", "", "NE", "none", None, 0, ["N"])],
    *[("stopbits", value) for value in (0, 3, 1.5, "1", True, None)],
])  # fmt: skip
def test_a_bad_setting_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ServomexValidationError, match=f"^{field} must be") as caught:
        SerialSettings(**{field: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", ["no", 1, None])
@pytest.mark.parametrize("field", ["rtscts", "xonxoff", "exclusive"])
def test_a_switch_is_on_or_off(field: str, value: Any) -> None:
    with pytest.raises(ServomexValidationError, match=f"^{field} must be"):
        SerialSettings(**{field: value})


@pytest.mark.parametrize(("port", "kept"), [
    ("COM11", "COM11"), (Path("tty0"), "tty0"), ("sim://4100", "sim://4100"), (None, None),
])  # fmt: skip
def test_settings_keep_the_name_of_their_port(port: str | Path | None, kept: str | None) -> None:
    assert SerialSettings(port=port).port == kept


@pytest.mark.parametrize("port", ["", b"COM11", 11, True, ["COM11"], object()])
def test_a_port_of_settings_that_is_not_a_name_is_refused(port: Any) -> None:
    with pytest.raises(ServomexValidationError, match=r"^port must be the name of a port or None"):
        SerialSettings(port=port)


def test_a_changed_copy_is_checked_as_well() -> None:
    with pytest.raises(ServomexValidationError, match="baudrate"):
        attrs.evolve(SerialSettings(), baudrate=1)


@pytest.mark.parametrize(("settings", "bits", "text"), [
    (SerialSettings(), 10, "19200 8N1"),
    (SerialSettings(baudrate=2400), 10, "2400 8N1"),
    (SerialSettings(parity="E"), 11, "19200 8E1"),
    (SerialSettings(parity="O", stopbits=2), 12, "19200 8O2"),
    (SerialSettings(baudrate=9600, bytesize=7), 9, "9600 7N1"),
    (SerialSettings(baudrate=9600, bytesize=7, parity="E"), 10, "9600 7E1"),
    (SerialSettings(stopbits=2), 11, "19200 8N2"),
])  # fmt: skip
def test_a_character_takes_its_start_data_parity_and_stop_bits(
    settings: SerialSettings, bits: int, text: str
) -> None:
    assert settings.char_time_s == bits / settings.baudrate
    assert str(settings) == text


def test_five_channels_take_as_long_as_the_manual_lets_expect() -> None:
    assert 206 * SerialSettings().char_time_s == pytest.approx(0.107, abs=0.001)
    assert 206 * SerialSettings(baudrate=2400).char_time_s == pytest.approx(0.860, abs=0.002)


def test_settings_are_frozen_comparable_and_picklable() -> None:
    settings = SerialSettings(baudrate=9600, parity="E")
    for field in attrs.fields_dict(SerialSettings):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(settings, field, getattr(settings, field))
    assert pickle.loads(pickle.dumps(settings)) == settings == SerialSettings(baudrate=9600, parity="E")
    assert settings != SerialSettings(baudrate=9600)
    assert SerialSettings(port="COM3") != SerialSettings(port="COM4")
    assert hash(settings) == hash(SerialSettings(baudrate=9600, parity="E"))


@pytest.mark.parametrize(("kind", "text", "member"), [
    (ChannelId, "I1", ChannelId.I1), (ChannelId, ChannelId.E2, ChannelId.E2), (Quality, "bad", Quality.BAD),
    (ProtocolKind, "continuous", ProtocolKind.CONTINUOUS_ASCII), (ProtocolKind, "auto", ProtocolKind.AUTO),
    (ProtocolKind, "modbus_rtu", ProtocolKind.MODBUS_RTU),
    (ProtocolKind, "modbus_ascii", ProtocolKind.MODBUS_ASCII),
])  # fmt: skip
def test_a_plain_string_means_a_member(kind: type[StrEnum], text: str, member: StrEnum) -> None:
    assert choice(kind, text, "thing") is member


def test_a_channel_is_meant_in_any_case() -> None:
    assert [choice(ChannelId, text, "channel") for text in ("i1", "d4", "E2")] == ["I1", "D4", "E2"]
    with pytest.raises(ServomexValidationError):
        choice(ChannelId, "\u01311", "channel")  # a dotless i, whose capital is an I


@pytest.mark.parametrize("value", ["X9", "i9", "", "I1 ", None, 1, ["I1"]])
def test_an_unknown_choice_lists_the_known_ones(value: Any) -> None:
    with pytest.raises(ServomexValidationError, match="I1, I2, I3, I4, D1, D2, D3, D4, E1, E2") as caught:
        choice(ChannelId, value, "channel")
    assert f"unknown channel {value!r}" in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(("value", "zero"), [(0.001, False), (1, False), (3600.5, False), (0, True), (0.0, True)])
def test_a_duration(value: float, zero: bool) -> None:
    checked = seconds(value, "timeout", zero=zero)
    assert checked == value
    assert type(checked) is float


BAD_DURATIONS = [-1, -0.001, float("nan"), float("inf"), float("-inf"), "1", None, True, 1j]


@pytest.mark.parametrize(("value", "zero"), [(0, False), *[(v, z) for v in BAD_DURATIONS for z in (True, False)]])
def test_a_bad_duration_is_refused_by_name(value: Any, zero: bool) -> None:
    with pytest.raises(ServomexValidationError, match=r"^timeout must be") as caught:
        seconds(value, "timeout", zero=zero)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", [1, 2, 247])
def test_a_whole_number(value: int) -> None:
    assert whole(value, "address", 1, 247) == value


@pytest.mark.parametrize("value", [0, 248, -1, 1.0, "1", True, None])
def test_a_bad_whole_number_is_refused_by_name_and_range(value: Any) -> None:
    with pytest.raises(ServomexValidationError, match=r"^address must be a whole number from 1 to 247, not"):
        whole(value, "address", 1, 247)


def test_a_whole_number_beyond_all_floats_is_an_error_as_well() -> None:
    with pytest.raises(ServomexValidationError, match="timeout must be more than 0 seconds"):
        seconds(10**400, "timeout")


@pytest.mark.parametrize("value", [0, -1.0, 1e-11, 5e-324, 1e300, float("nan"), 10**400])
def test_a_rate_that_no_clock_could_keep_is_refused(value: float) -> None:
    with pytest.raises(ServomexValidationError, match="rate_hz must be"):
        rate(value)
    assert rate(1e-6) == 1e-6


WITHOUT_RTU = pytest.mark.parametrize(("wrong", "right"), [
    ({"bytesize": 7}, "Use bytesize=8"), ({"xonxoff": True}, "Use xonxoff=False"),
])  # fmt: skip


@WITHOUT_RTU
def test_modbus_rtu_is_refused_on_a_line_that_does_not_carry_its_bytes(wrong: dict[str, Any], right: str) -> None:
    line = VirtualLine(VirtualAnalyzer())
    with pytest.raises(ServomexConfigurationError, match=right) as raised:
        open_device(line.url, protocol="modbus_rtu", **wrong)
    assert str(next(iter(wrong))) in raised.value.message
    with (
        SerialLink(line.url, SerialSettings(**wrong)) as link,
        pytest.raises(ServomexConfigurationError, match=right),
    ):
        open_device(link, protocol="modbus_rtu")
    assert line.heard == []


@WITHOUT_RTU
@pytest.mark.parametrize("wait", [True, False])
def test_a_manager_refuses_it_as_well_and_can_go_on(wrong: dict[str, Any], right: str, wait: bool) -> None:
    line = VirtualLine(VirtualAnalyzer())
    with ServomexManager() as manager:
        with pytest.raises(ServomexConfigurationError, match=right):
            manager.add("a", line.url, protocol="modbus_rtu", wait=wait, **wrong)
        assert manager.names == ()
        assert manager.add("a", line.url, protocol="modbus_rtu").poll().ok


@WITHOUT_RTU
def test_looking_for_the_mode_leaves_modbus_rtu_out_there(wrong: dict[str, Any], right: str) -> None:
    line = VirtualLine(VirtualAnalyzer(mode="modbus_ascii"))
    with open_device(line.url, **wrong) as analyzer:
        assert analyzer.protocol is ProtocolKind.MODBUS_ASCII
    needed = right.removeprefix("Use ")
    line = VirtualLine(VirtualAnalyzer())
    with pytest.raises(ServomexNotFoundError, match=rf"Modbus ASCII \(RTU needs {needed}, and was not tried\)"):
        open_device(line.url, listen=0.3, **wrong)
    assert all(data.startswith(b":") for _, data in line.heard)
