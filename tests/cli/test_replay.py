"""``servomex replay``: the readings of traces and captures again, what it says of failures, and how it ends."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import servomex
from servomex.cli import servomex_group
from servomex.cli.replay import replay
from servomex.models.columns import ROW_COLUMNS
from servomex.port.link import SerialLink
from servomex.port.reopening import Pauses
from servomex.simulator import VirtualLine
from tests.helpers.commands import FAST, MODES, invoke, rows_of
from tests.helpers.frames import WIRE, capture_frames
from tests.helpers.paths import CAPTURE
from tests.helpers.replaying import BROADCASTS, HEADER, REQUESTS, trace

pytestmark = pytest.mark.virtual_time

COMPARED = ("value", "name", "unit", "quality", "alarm1", "channel", "protocol")
SUMMARY = re.compile(r"(\d+) readings?, (\d+) failures? in \d+\.\d s, (\d+) dropped frames?")


def again(path: Path, *args: str) -> Result:
    return invoke(str(path), *args, command=replay)


def content(line: str) -> list[Any]:
    """What a line of json says, the times and the device aside."""
    record = json.loads(line)
    return [record["analyser"], [[row[key] for key in COMPARED] for row in record["readings"]]]


def counts(result: Result) -> tuple[int, ...]:
    """The numbers of the summary: readings, failures, dropped."""
    found = SUMMARY.fullmatch(result.stderr.splitlines()[-1])
    assert found, result.stderr
    return tuple(map(int, found.groups()))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.txt"


@pytest.mark.parametrize("mode", MODES)
def test_what_was_read_is_read_again(mode: str, path: Path) -> None:
    port = f"sim://moving?mode={mode}&period=0.1&seed=1"
    options = [*"--watch 0.15 --count 3 --format json --gap 0.005 --protocol".split(), mode]
    first = invoke(port, *options, "--trace", str(path))
    wanted = [content(line) for line in first.stdout.splitlines()]
    for speed in ("0", "1"):
        result = again(path, "--speed", speed, "--format", "json")
        found = [content(line) for line in result.stdout.splitlines()]
        assert result.exit_code == 0
        assert counts(result)[1:] == (0, 0)
        if mode == "continuous":  # all that came is shown, and not what was current now and then
            rest = iter(found)
            assert all(item in rest for item in wanted)
        else:
            assert found == wanted


@pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii"])
def test_what_was_read_on_a_slow_line_at_another_address_is_read_again(mode: str, path: Path) -> None:
    port = f"sim://moving?mode={mode}&address=7"
    options = ["--protocol", mode, "--address", "7", "--baudrate", "2400", "--gap", "0.02", "--count", "2"]
    first = invoke(port, *options, "--format", "json", "--trace", str(path))
    assert "01" not in {item[:2] for item in requests(path)}
    result = again(path, "--speed", "0", "--format", "json")
    assert [*map(content, result.stdout.splitlines())] == [*map(content, first.stdout.splitlines())]
    assert counts(result) == (2, 0, 0)
    assert json.loads(result.stdout.splitlines()[0])["device"].endswith(":7")


def test_a_reading_that_looked_at_all_channels_is_made_so_again(path: Path) -> None:
    settings = servomex.SerialSettings(baudrate=2400)  # a speed at which other readings leave some out
    with servomex.open_device(
        "sim://moving", protocol="modbus_rtu", serial_settings=settings, gap=0, trace=path
    ) as analyzer:
        analyzer.poll()
        analyzer.identify()
        analyzer.poll()
    assert counts(again(path, "--speed", "0")) == (4, 0, 0)


def requests(path: Path) -> list[str]:
    return re.findall(r"> (.*)", path.read_text())


def test_only_the_channels_that_were_read_are_read_again(path: Path) -> None:
    first = invoke(
        "sim://4100", "--channels", "I2,E1", "--gap", "0", "--count", "2", "--format", "json", "--trace", str(path)
    )
    result = again(path, "--speed", "0", "--format", "json")
    assert [[row["channel"] for row in json.loads(line)["readings"]] for line in result.stdout.splitlines()] in (
        [["I2", "E1"]] * 2,
        [["I2", "I3", "E1"]] * 2,  # what lies between was read along
    )
    assert counts(result) == (2, 0, 0)
    assert len(first.stdout.splitlines()) == 2


def test_two_runs_in_one_file_are_one_recording(path: Path) -> None:
    for _ in range(2):
        invoke("sim://4100", *FAST, "--count", "2", "--trace", str(path), "--format", "csv")
    assert counts(again(path, "--speed", "0")) == (4, 0, 0)


@pytest.mark.parametrize("output_format", ["table", "csv", "json", "influx"])
def test_a_capture_is_shown_in_every_format(output_format: str) -> None:
    result = again(CAPTURE, "--speed", "0", "--format", output_format)
    assert (result.exit_code, counts(result)) == (0, (6, 0, 0))
    device = f"sim://replay?file={CAPTURE}&speed=0"
    if output_format == "table":
        assert result.stdout.count(f"{device}, continuous: analyser ok, its clock 2020-10-06 02:54:") == 6
    elif output_format == "csv":
        rows = rows_of(result.stdout)
        assert list(rows[0]) == ROW_COLUMNS
        assert {row["device"] for row in rows} == {device}
        assert [row["value"] for row in rows if row["channel"] == "I1"] == ["20.376"] * 6
    else:
        assert result.stdout.count("\n") == (6 if output_format == "json" else 30)


def test_it_keeps_to_the_times_of_the_recording(path: Path) -> None:
    result = again(trace(path, *BROADCASTS), "--speed", "10", "--format", "csv")
    first, second = (int(row["monotonic_ns"]) for row in rows_of(result.stdout) if row["channel"] == "I1")
    assert 0.15e9 < second - first < 0.9e9


def test_readings_are_made_when_they_were_made(path: Path) -> None:
    invoke("sim://4100", *FAST, "--watch", "0.6", "--count", "2", "--trace", str(path))
    for speed, shortest, longest in (("1", 0.4, 3.0), ("0", 0.0, 0.4)):
        result = again(path, "--speed", speed, "--format", "csv")
        first, second = (int(row["monotonic_ns"]) for row in rows_of(result.stdout) if row["channel"] == "I1")
        assert shortest * 1e9 < second - first < longest * 1e9, speed


def test_damage_is_counted_and_is_no_answer_when_there_is_nothing_else(path: Path) -> None:
    path.write_bytes(WIRE + WIRE.replace(b"20.376", b"20.377") + WIRE)
    result = again(path, "--speed", "0")
    assert (result.exit_code, counts(result)) == (0, (2, 0, 1))
    for damage in (WIRE.replace(b"20.376", b"20.377"), b"\x00\xff\x80"):
        trace(path, (0.0, "!", "opened"), (0.1, "<", damage))
        result = again(path, "--speed", "0")
        assert (result.exit_code, result.stdout, counts(result)[0]) == (4, "", 0)


def test_a_port_that_was_lost_is_lost_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SerialLink, "pauses", Pauses(0.0, 0.0))
    frames = [frame + b"\r\n" for frame in capture_frames()]
    trace(
        path,
        *((0.0, "!", "opened"), (1.0, "<", frames[0]), (2.0, "!", "lost device disconnected")),
        *((3.0, "!", "reopened"), (4.0, "<", frames[1]), (5.0, "!", "lost")),
    )
    result = again(path, "--speed", "0", "--format", "csv")
    clocks = [row["analyser_clock"][-2:] for row in rows_of(result.stdout) if row["channel"] == "I1"]
    assert (result.exit_code, clocks) == (0, ["12", "14"])
    failures = result.stderr.splitlines()[:-1]
    assert len(failures) in (2, 3)
    assert all(line.startswith("Failed: ") for line in failures)
    assert "in the recording the port was lost here" in failures[0]


def test_a_port_that_was_lost_over_modbus_is_lost_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SerialLink, "pauses", Pauses(0.0, 0.0))
    line = VirtualLine()
    with servomex.open_device(line.url, protocol="modbus_rtu", gap=0.005, trace=path) as analyzer:
        line.unplug()
        with pytest.raises(servomex.ServomexConnectionError):
            analyzer.poll()
        line.plug()
        analyzer.poll()
    result = again(path, "--speed", "0", "--format", "json")
    assert (result.exit_code, counts(result)[:2]) == (0, (2, 1))
    assert "Failed: the port was lost" in result.stderr


def test_a_reading_that_failed_fails_again(path: Path) -> None:
    line = VirtualLine()
    with servomex.open_device(line.url, protocol="modbus_rtu", retries=1, gap=0.005, trace=path) as analyzer:
        line.analysers[0].faults.silent = True
        with pytest.raises(servomex.ServomexTimeoutError):
            analyzer.poll(timeout=0.5)
        line.analysers[0].faults.silent = False
        analyzer.poll()
    result = again(path, "--speed", "0", "--format", "json")
    assert result.exit_code == 0
    assert counts(result)[0] == 2


def test_what_other_requests_a_trace_holds_is_no_reading(path: Path, line: VirtualLine) -> None:
    with SerialLink(line.url, trace=path) as link:
        link.write(bytes.fromhex("01 08 00 00 A5 37 DA 8D"))
        link.read(time.monotonic() + 5)
    result = again(path)
    assert (result.exit_code, result.stdout) == (4, "")
    assert f"Error: {path} contains no readings: it has 1 request" in result.stderr


def test_requests_that_are_not_sent_any_more_end_it_with_an_error(path: Path) -> None:
    unknown = bytes.fromhex("01 04 00 01 00 02") + bytes.fromhex("20 0b")
    result = again(trace(path, (1.0, ">", unknown), (1.1, "<", b"?")), "--speed", "0")
    assert (result.exit_code, result.stdout) == (4, "")
    failed, error = result.stderr.splitlines()
    assert failed.startswith("Failed: no reply from address 1")
    assert error == "Error: the rest of the recording contains requests that this version does not send"


ERRORS: dict[str, tuple[list[str], int, str]] = {
    "missing": (["{folder}/nope"], 2, "cannot read {folder}/nope: No such file"),
    "a folder": (["{folder}"], 2, "cannot read {folder}"),
    "neither": (["{folder}/text"], 2, "neither a trace nor a capture"),
    "a broken trace": (["{folder}/broken"], 2, "broken, line 2: neither bytes nor an event"),
    "no file": ([], 2, "'FILE'"),
    "backwards": (["{folder}/text", "--speed", "-1"], 2, "'--speed'"),
    "not a number": (["{capture}", "--speed", "nan"], 2, "speed must be"),
    "an unknown mode": (["{folder}/text", "--protocol", "tcp"], 2, "'--protocol'"),
    "broadcasts, not asked for": (["{capture}", "--protocol", "modbus_rtu"], 4, "modbus_rtu: it has broadcasts"),
    "requests, broadcasts wanted": (["{folder}/asked", "--protocol", "continuous"], 4, "it has 3 requests"),
    "another framing": (["{folder}/asked", "--protocol", "modbus_ascii"], 4, "no readings in mode modbus_ascii"),
}  # fmt: skip


@pytest.mark.parametrize(("args", "code", "words"), ERRORS.values(), ids=ERRORS)
def test_an_error_is_a_line_or_two_with_its_exit_code(
    tmp_path: Path, args: list[str], code: int, words: str
) -> None:
    (tmp_path / "text").write_text("hello")
    (tmp_path / "broken").write_text(f"{HEADER}\nhello\nhello\n")
    trace(tmp_path / "asked", *REQUESTS)
    places = {"folder": tmp_path, "capture": CAPTURE}
    result = invoke(*(arg.format(**places) for arg in args), command=replay)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("Error: ")
    assert words.format(**places) in result.stderr


def test_it_is_one_of_the_commands() -> None:
    result = invoke("replay", "--help", command=servomex_group)
    assert result.exit_code == 0
    for words in ("servomex replay trace.txt", "--speed", "sim://replay?file=FILE", "Exit codes"):
        assert words in result.stdout


def test_a_trace_that_ends_in_its_first_line_is_reported(tmp_path: Path) -> None:
    (tmp_path / "cut.txt").write_text(HEADER[:60])
    result = invoke(str(tmp_path / "cut.txt"), command=replay)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "ends in its first line" in result.stderr
