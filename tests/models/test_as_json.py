"""One encoder of JSON: what ``as_json`` returns is what files and commands hold, and ``json.dumps`` takes it."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings

import servomex
from servomex.checkup.findings import Finding, Verdict
from servomex.enums import ProtocolKind
from servomex.errors import (
    Argument,
    ErrorContext,
    ServomexSinkSchemaError,
    ServomexTimeoutError,
    ServomexValidationError,
)
from servomex.models.columns import ROW_COLUMNS
from servomex.models.plain import json_value
from servomex.models.sample import Sample
from servomex.sinks import JsonlSink
from tests.helpers.any_samples import samples
from tests.helpers.commands import invoke
from tests.helpers.frames import RECEIVED_AT
from tests.helpers.recordings import FRAME, batch

SAMPLE = batch(1)[0]


def strict(value: Any) -> Any:
    """Write a value as JSON that any program reads, and read it."""
    return json.loads(json.dumps(value, allow_nan=False))


class TestRows:
    def test_a_reading_has_the_keys_of_its_dict(self) -> None:
        reading = FRAME["I1"]
        found = reading.as_json()
        assert strict(found) == found
        assert list(found) == list(reading.as_dict())
        assert (found["received_at"], found["channel"], found["value"], found["kind"]) == (
            "2026-03-01T12:30:45.500000+00:00", "I1", 20.376, "transducer",
        )  # fmt: skip
        assert {type(value) for value in found.values()} <= {str, int, float, bool, type(None)}

    @settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(sample=samples())
    def test_json_lines_hold_what_it_returns(self, sample: Sample, tmp_path: Path) -> None:
        path = tmp_path / "run.jsonl"
        with JsonlSink(path, overwrite=True, fsync_s=None) as sink:
            sink.write([sample])
        found = sample.as_json()
        assert json.loads(path.read_text(encoding="utf-8")) == strict(found) == found
        assert list(found) == ROW_COLUMNS

    def test_tags_and_errors(self) -> None:
        tagged = SAMPLE.as_json()
        assert tagged["tags"] == {"site": "mill-3", "line": 'A "old", ='}
        failed = batch(6)[0].as_json()
        assert (failed["error"], failed["error_type"], failed["tags"]) == (
            "no reply to 6",
            "ServomexTimeoutError",
            {},
        )

    def test_a_time_of_another_zone_is_utc(self) -> None:
        east = RECEIVED_AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
        assert attrs.evolve(SAMPLE, reading=None, received_at=east).as_json()["received_at"] == (
            "2026-03-01T12:30:45.500000+00:00"
        )

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_number_that_is_none_is_refused_rather_than_written(self, value: float) -> None:
        assert SAMPLE.reading
        reading = attrs.evolve(SAMPLE.reading, value=value)
        wrong: list[Any] = [
            reading,
            attrs.evolve(SAMPLE, reading=reading),
            attrs.evolve(FRAME, readings=(reading,)),
        ]
        for model in wrong:
            with pytest.raises(ServomexValidationError, match=f"value is {value}; use None for an invalid value"):
                model.as_json()

    def test_tags_that_no_file_can_hold_are_refused(self, tmp_path: Path) -> None:
        every: list[Any] = [
            {"a b": "x"}, {"a": "x\n"}, {"a": ""}, {"a": 7}, {"a": ["x"]}, {"value": "x"}, {"time": "x"},
            {f"k{number}": "x" for number in range(33)}, {"a": "x" * 257},
        ]  # fmt: skip
        for tags in every:
            sample = attrs.evolve(SAMPLE, metadata=tags)
            with pytest.raises(ServomexValidationError, match="tag"):
                sample.as_json()
            with (
                pytest.raises(ServomexSinkSchemaError, match=r"cannot hold a sample: .*tag"),
                JsonlSink(tmp_path / "run.jsonl", overwrite=True) as sink,
            ):
                sink.write([sample])


class TestFrames:
    def test_it_is_an_object_with_the_analyser_and_its_readings(self) -> None:
        found = FRAME.as_json(device="rig A", metadata={"site": "mill-3"})
        assert strict(found) == found
        assert list(found) == [
            "device", "protocol", "received_at", "monotonic_ns", "requested_at", "latency_s", "delayed_s", "tags",
            "analyser", "readings",
        ]  # fmt: skip
        assert (found["device"], found["tags"], found["delayed_s"]) == ("rig A", {"site": "mill-3"}, 0.0)
        assert found["analyser"] == FRAME.analyser.as_json() == {
            "fault": False, "maintenance": False, "cal_groups": "S1S1S1S1", "clock": "2020-10-06T02:54:12",
        }  # fmt: skip
        assert found["readings"] == [reading.as_json() for reading in FRAME]

    def test_the_command_prints_the_same(self) -> None:
        result = invoke(
            "sim://4100", "--protocol", "modbus_rtu", "--format", "json", "--name", "rig A", "--tag", "site=mill-3"
        )
        printed = json.loads(result.stdout)
        with servomex.open_device(
            "sim://4100", protocol="modbus_rtu", name="rig A", tags={"site": "mill-3"}
        ) as rig:
            own = rig.poll().as_json(device=rig.name, metadata=rig.tags)
        changing = {"received_at", "monotonic_ns", "requested_at", "latency_s", "readings"}
        assert list(printed) == list(own)
        assert {key: printed[key] for key in printed.keys() - changing} == {
            key: own[key] for key in own.keys() - changing
        }
        times = dict.fromkeys(["received_at", "monotonic_ns"])
        assert [item | times for item in printed["readings"]] == [item | times for item in own["readings"]]

    def test_rows_and_lines_of_influx_have_the_tags_too(self) -> None:
        tags = ("--tag", "site=mill 3", "--tag", "line=a,b=c")
        options = ("sim://4100", "--protocol", "modbus_rtu", "--channels", "I1", *tags)
        (row,) = invoke(*options, "--format", "csv").stdout.splitlines()[1:]
        assert row.endswith(',,,"{""line"":""a,b=c"",""site"":""mill 3""}"')
        (line,) = invoke(*options, "--format", "influx").stdout.splitlines()
        assert ",unit=%,site=mill\\ 3,line=a\\,b\\=c value=20.376," in line


class TestOthers:
    def test_what_is_known_of_an_analyser(self) -> None:
        with servomex.open_device("sim://4100", protocol="modbus_rtu") as analyzer:
            info = analyzer.identify()
        found = info.as_json()
        assert strict(found) == found
        assert (found["protocol"], found["address"], found["model"]) == ("modbus_rtu", 1, "SERVOPRO 4000 series")
        assert found["serial_settings"]["baudrate"] == 19200
        assert found["channels"][0] == {
            "channel": "I1", "name": "Oxygen", "unit": "%", "unit_text": "%", "kind": "transducer",
        }  # fmt: skip

    def test_a_summary(self) -> None:
        with servomex.record(
            servomex.open_device("sim://4100", protocol="modbus_rtu"), rate_hz=50, count=3
        ) as rec:
            assert len(list(rec)) == 3
        rec.source.close()  # type: ignore[attr-defined]
        found = rec.summary.as_json()
        assert strict(found) == found
        assert (found["samples_emitted"], found["errors"]) == (3, 0)
        assert found["started_at"].endswith("+00:00")
        assert found["tick_duration_ms_p50"] == rec.summary.tick_duration_ms_p50
        assert not [key for key in found if key.startswith("_")]

    def test_an_error(self) -> None:
        where = ErrorContext("COM3", ProtocolKind.MODBUS_RTU, 1, request=b"\x01\x04", extra={"device": "rig A"})
        found = ServomexTimeoutError("no reply", where, cure="Wait", argument=Argument("timeout", 5.0)).as_json()
        assert strict(found) == found == {
            "error": "no reply. Wait [COM3, modbus_rtu, address 1, sent 01 04, device rig A]",
            "error_type": "ServomexTimeoutError", "message": "no reply", "cure": "Wait",
            "argument": {"name": "timeout", "value": 5.0},
            "context": {
                "port": "COM3", "protocol": "modbus_rtu", "address": 1, "request": "0104", "device": "rig A",
            },
        }  # fmt: skip
        odd = ServomexTimeoutError("x", ErrorContext(extra={"a": math.nan, "b": object}))
        assert strict(odd.as_json())["context"] == {"a": "nan", "b": "<class 'object'>"}

    def test_results_of_a_manager(self) -> None:
        good = servomex.DeviceResult(FRAME, name="a").as_json()
        assert (good["name"], good["ok"], good["value"]) == ("a", True, FRAME.as_json())
        bad = servomex.DeviceResult.failure(ZeroDivisionError("by zero")).as_json()
        assert strict(bad) == {
            "name": "", "ok": False, "value": None, "error": "by zero", "error_type": "ZeroDivisionError",
        }  # fmt: skip
        with pytest.raises(ServomexValidationError, match="JSON cannot represent the type object"):
            servomex.DeviceResult(object()).as_json()

    def test_values_of_all_kinds(self) -> None:
        moment = datetime(2026, 3, 1, tzinfo=UTC)
        values = [None, True, 1, 1.5, "x", ProtocolKind.AUTO, moment, b"\x00\xff", (1, [2]), {"a": moment}]
        assert strict(json_value(values)) == [
            None, True, 1, 1.5, "x", "auto", "2026-03-01T00:00:00.000000+00:00", "00ff", [1, [2]],
            {"a": "2026-03-01T00:00:00.000000+00:00"},
        ]  # fmt: skip
        assert {type(value) for value in json_value([ProtocolKind.AUTO])} == {str}
        for wrong in (math.nan, {1, 2}, object()):
            with pytest.raises(ServomexValidationError):
                json_value([wrong])

    def test_what_is_not_unicode_is_a_question_mark_in_all_of_them(self) -> None:
        port = "/dev/tty\udce9"
        error = ServomexTimeoutError(
            f"no {port}",
            ErrorContext(port, extra={port: port}),
            cure=f"Plug in {port}",
            argument=Argument(port, port),
        )
        channel = servomex.ChannelInfo(servomex.ChannelId.I1, port, servomex.Unit.PERCENT, port)
        info = servomex.DeviceInfo(port, ProtocolKind.MODBUS_RTU, 1, servomex.SerialSettings(), (channel,))
        found = [
            error.as_json(),
            channel.as_json(),
            info.as_json(),
            servomex.DiscoveryResult(port, None, info, 1, error).as_json(),
            servomex.DeviceResult(info, name=port).as_json(),
            servomex.DeviceResult.failure(ZeroDivisionError(port)).as_json(),
            Finding(port, Verdict.PROBLEM, port, port, error).as_json(),
            attrs.evolve(SAMPLE, device=port, reading=None, error=error).as_json(),
            FRAME.as_json(device=port),
            json_value({port: [port]}),
        ]
        for item in found:
            assert "tty?" in json.dumps(item, ensure_ascii=False).encode().decode()
