"""How often the commands read and for how long: ``--rate``, ``--every``, ``--duration``, and times with units."""

import collections
import itertools
import json
from datetime import datetime
from pathlib import Path

import click
import pytest

from servomex import ServomexTimeoutError, load, open_device
from servomex.cli.diag import measure
from servomex.cli.diag.command import diag, jitter
from servomex.cli.diag.figures import Cadence
from servomex.cli.read import read
from servomex.cli.record import record
from servomex.cli.stream import stream
from servomex.simulator import VirtualLine
from tests.helpers.commands import FAST, invoke, rows_of

pytestmark = pytest.mark.virtual_time

CONTINUOUS = ("sim://4100?mode=continuous&period=0.1", "--protocol", "continuous")
ONE_CHANNEL = ("--channels", "I1", "--format", "csv", "-q")


def intervals(text: str) -> list[float]:
    """The seconds between the readings of a csv output."""
    moments = [datetime.fromisoformat(row["received_at"]) for row in rows_of(text)]
    return [(after - before).total_seconds() for before, after in itertools.pairwise(moments)]


class TestEvery:
    @pytest.mark.parametrize("pace", [("--every", "500ms"), ("--rate", "2")], ids="".join)
    def test_it_is_the_rate_the_other_way_round(self, line: VirtualLine, pace: tuple[str, ...]) -> None:
        result = invoke(line.url, *FAST, *pace, "--count", "4", *ONE_CHANNEL, command=stream)
        assert intervals(result.stdout) == [pytest.approx(0.5, abs=0.1)] * 3

    def test_a_recording_keeps_it(self, line: VirtualLine, tmp_path: Path) -> None:
        target = tmp_path / "run.csv"
        args = (line.url, str(target), *FAST, "--every", "1m", "--duration", "3m", "--channels", "I1", "-q")
        assert invoke(*args, command=record).exit_code == 0
        found = intervals(target.read_text(encoding="utf-8"))
        assert found == [pytest.approx(60, abs=0.1)] * 2

    def test_a_continuous_recording_keeps_it_as_well(self, tmp_path: Path) -> None:
        target = tmp_path / "run.csv"
        args = (CONTINUOUS[0], str(target), *CONTINUOUS[1:], "--every", "1s", "--count", "3", "-q")
        assert invoke(*args, command=record).exit_code == 0
        assert len({item.monotonic_ns for item in load(target)}) == 3

    @pytest.mark.parametrize("command", [stream, record, jitter])
    def test_both_are_refused_before_a_port_is_opened(self, command: click.Command) -> None:
        outputs = ["run.csv"] * (command is record)
        result = invoke("/dev/nope", *outputs, "--rate", "1", "--every", "1s", command=command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--rate and --every cannot be combined" in result.stderr

    @pytest.mark.parametrize("command", [stream, jitter])
    @pytest.mark.parametrize("pace", [("--rate", "2"), ("--every", "500ms")], ids="".join)
    def test_in_continuous_mode_the_analyser_sets_it(self, command: click.Command, pace: tuple[str, ...]) -> None:
        result = invoke(*CONTINUOUS, *pace, command=command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "an analyser in continuous mode sets the rate itself" in result.stderr

    @pytest.mark.parametrize(("text", "words"), [
        ("0s", "more than 0"), ("-1s", "is not a duration"), ("5", "Write it as 500ms, 90s, 15m, 8h or 2d"),
        ("nan", "is not a duration"), ("0.9ms", "out of range: 1ms to 1,000,000s"), ("12d", "out of range"),
        ("1000001s", "out of range"), ("9999d", "at most 3650d"),
    ])  # fmt: skip
    @pytest.mark.parametrize("command", [stream, jitter])
    def test_what_is_too_short_too_long_or_no_time_is_refused(
        self, command: click.Command, text: str, words: str
    ) -> None:
        result = invoke("/dev/nope", "--every", text, command=command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "Invalid value for '--every'" in result.stderr
        assert words in result.stderr

    @pytest.mark.parametrize("text", ["1ms", "1000000s", "11d"])
    def test_the_limits_are_those_of_the_rate(self, text: str) -> None:
        result = invoke("sim://4100", *FAST, "--every", text, "--count", "1", *ONE_CHANNEL, command=stream)
        assert (result.exit_code, result.stdout.count("\n")) == (0, 2)


class TestDuration:
    @pytest.mark.parametrize(("pace", "readings"), [((), 3), (("--rate", "4"), 10), (("--every", "1m"), 1)])
    def test_a_stream_ends_by_itself(self, line: VirtualLine, pace: tuple[str, ...], readings: int) -> None:
        result = invoke(line.url, *FAST, *pace, "--duration", "2.5s", *ONE_CHANNEL, command=stream)
        assert (result.exit_code, len(rows_of(result.stdout))) == (0, readings)

    def test_it_ends_in_continuous_mode(self) -> None:
        result = invoke(*CONTINUOUS, "--duration", "1s", *ONE_CHANNEL, command=stream)
        assert (result.exit_code, 8 <= len(rows_of(result.stdout)) <= 11) == (0, True)

    def test_what_comes_first_ends_it(self, line: VirtualLine) -> None:
        for limits, readings in ((("1h", "2"), 2), (("2s", "9"), 2)):
            duration, count = limits
            args = ("--duration", duration, "--count", count, *ONE_CHANNEL)
            assert len(rows_of(invoke(line.url, *FAST, *args, command=stream).stdout)) == readings

    def test_readings_that_fail_do_not_prolong_it(self) -> None:
        args = ("--rate", "10", "--duration", "1s", "--format", "csv")
        result = invoke("sim://4100?fault=unplug:0.4", *FAST, *args, command=stream)
        assert (result.exit_code, "Failed: the port was lost" in result.stderr) == (0, True)

    def test_moments_that_the_line_does_not_allow_are_counted(self) -> None:
        args = ("--rate", "50", "--duration", "2s", "--channels", "I1", "--format", "csv")
        result = invoke("sim://4100?pace=1", *FAST, *args, command=stream)
        readings, failed, late, dropped = (
            int(text.split()[0]) for text in result.stderr.splitlines()[-1].split(",")
        )
        assert (readings, failed, dropped) == (len(rows_of(result.stdout)), 0, 0)
        assert readings + late == 100

    @pytest.mark.parametrize("command", [stream, record, diag])
    def test_it_needs_a_unit(self, command: click.Command) -> None:
        words = [*["tap"] * (command is diag), "/dev/nope", *["run.csv"] * (command is record)]
        result = invoke(*words, "--duration", "90", command=command)
        assert (result.exit_code, "'90' is not a duration. Write it as" in result.stderr) == (2, True)


class TestUnits:
    def test_any_time_may_have_a_unit(self) -> None:
        args = ("--gap", "0ms", "--listen", "1m", "--timeout", "500ms", "--watch", "250ms", "--count", "3")
        result = invoke("sim://4100", "--protocol", "rtu", *args, *ONE_CHANNEL, command=read)
        assert intervals(result.stdout) == [pytest.approx(0.25, abs=0.1)] * 2

    @pytest.mark.parametrize("text", ["soon", "1w", "1,5", "500 ms ms", ""])
    def test_what_is_not_a_time_is_reported_with_examples(self, text: str) -> None:
        result = invoke("/dev/nope", "--timeout", text)
        assert result.exit_code == 2
        assert "is not a time: write seconds as in 0.5, or a unit as in 500ms or 2m" in result.stderr

    @pytest.mark.parametrize("text", ["0s", "12d", "0"])
    def test_a_unit_does_not_widen_the_range(self, text: str) -> None:
        result = invoke("/dev/nope", "--timeout", text)
        assert (result.exit_code, "is out of range: more than 0 to 1,000,000 seconds" in result.stderr) == (
            2,
            True,
        )


class TestJitter:
    def test_at_a_rate_it_is_the_time_from_one_reading_to_the_next(self, line: VirtualLine) -> None:
        args = ("jitter", line.url, *FAST, "--every", "500ms", "--count", "5", "--format", "json")
        found = json.loads(invoke(*args, command=diag).stdout)
        assert (found["of"], found["count"], found["failures"]) == ("time between readings at 2 a second", 4, 0)
        assert found["late"] == 0
        assert found["seconds"]["median"] == pytest.approx(0.5, abs=0.01)

    def test_moments_that_the_line_does_not_allow_are_late(self) -> None:
        args = ("jitter", "sim://4100?pace=1", *FAST, "--rate", "20", "--count", "4", "--format", "json")
        found = json.loads(invoke(*args, command=diag).stdout)
        assert (found["count"], found["late"] >= 4) == (3, True)
        assert found["seconds"]["median"] > 0.1

    def test_readings_that_fail_are_counted(self, line: VirtualLine) -> None:
        cadence, faults = Cadence(), line.analysers[0].faults
        with open_device(line.url, protocol="modbus_rtu", gap=0, retries=0) as analyzer:
            steps = measure.paced(analyzer, 4, 0.1, cadence, timeout=0.5)
            for faults.silent in (False, True, False, False):
                next(steps)
        assert (len(cadence.seconds), cadence.failures, cadence.late) == (3, 1, 0)

    def test_when_all_fail_that_is_the_result(self, line: VirtualLine) -> None:
        with open_device(line.url, protocol="modbus_rtu", gap=0, retries=0) as analyzer:
            line.analysers[0].faults.silent = True
            with pytest.raises(ServomexTimeoutError):
                collections.deque(measure.paced(analyzer, 3, 1, Cadence(), timeout=0.2), maxlen=0)
