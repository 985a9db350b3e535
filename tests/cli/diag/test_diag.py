"""``servomex diag``: what is measured and heard, what it says and advises, and how it ends."""

import json
import re
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from servomex.checkup import losses
from servomex.checkup.tally import Tally
from servomex.cli import servomex_group
from servomex.cli.diag import measure, report
from servomex.cli.diag.command import diag
from servomex.cli.diag.figures import Cadence
from servomex.cli.output import STDERR
from servomex.enums import ProtocolKind
from servomex.errors import ServomexConnectionError, ServomexFrameError, ServomexTimeoutError
from servomex.modbus.line import ModbusLine
from servomex.modbus.timing import Timing
from servomex.port import connect as ports
from servomex.simulator import Faults, VirtualAnalyzer, VirtualLine, slave
from tests.helpers.commands import finish, invoke, start
from tests.helpers.diagnosing import CONTINUOUS, RTU, found, run
from tests.helpers.platforms import needs_signals

pytestmark = pytest.mark.virtual_time

NEEDS_A_GAP = "sim://4100?fault=gap:0.03"
GAPS = ("gap", "--protocol", "modbus_rtu", "--gap", "0.035", "--timeout", "0.08", "--count", "2", "--gaps")
SOURCE = report.Source("COM11", "modbus_rtu", 1)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the silences that are kept and waited for: what comes on a virtual line comes at once."""
    monkeypatch.setattr(losses, "STEADY_GAP_S", 0.04)
    monkeypatch.setattr(ModbusLine, "timing", Timing(quiet_s=0.05, silence_s=0.02))
    monkeypatch.setattr(ports, "READ_TICK_S", 0.01)


class TestLoopback:
    def test_each_is_sent_once_with_a_number_of_its_own(self, line: VirtualLine) -> None:
        record = found("loopback", line.url, *RTU, "--count", "7")
        assert (record["port"], record["protocol"], record["address"]) == (line.url, "modbus_rtu", 1)
        assert (record["sent"], record["answered"]) == (7, 7)
        assert not any(record[key] for key in ("refused", "lost", "damaged", "late"))
        sent = [request for _, request in line.heard if request[1] == 8][-7:]
        assert len(set(sent)) == 7
        assert 0 < record["round_trip_s"]["minimum"] <= record["round_trip_s"]["maximum"] < 1

    def test_the_table_shows_counts_and_times(self, line: VirtualLine) -> None:
        stdout, stderr = run("loopback", line.url, *RTU)
        head, names, counts, times, values = stdout.splitlines()
        assert head == f"{line.url}, modbus_rtu, address 1, loopbacks"
        assert names.split() == ["sent", "answered", "refused", "lost", "damaged", "late"]
        assert counts.split() == ["20", "20", "0", "0", "0", "0"]
        assert times.split() == ["round", "trip", "min", "median", "p99", "max"]
        assert re.fullmatch(r" +ms( +\d+\.\d){4}", values)
        assert stderr == ""

    @pytest.mark.parametrize(("mode", "fault"), [("modbus_rtu", "foreign:1,echo"), ("modbus_ascii", "garbage:1")])
    def test_what_does_not_hurt_the_driver_does_not_hurt_here(self, mode: str, fault: str) -> None:
        port = f"sim://4100?mode={mode}&fault={fault}"
        record = found("loopback", port, "--protocol", mode, "--gap", "0.002", "--count", "3")
        assert (record["sent"], record["answered"]) == (3, 3)

    def test_refused_ones_are_counted(self, monkeypatch: pytest.MonkeyPatch, line: VirtualLine) -> None:
        monkeypatch.setattr(slave, "SUPPORTED", (1, 2, 4, 5, 15))
        record = found("loopback", line.url, *RTU, "--count", "3")
        assert (record["sent"], record["refused"], record["round_trip_s"]) == (3, 3, None)

    def test_what_was_measured_before_the_port_was_lost_is_shown(self) -> None:
        stdout, stderr = run("loopback", "sim://4100?fault=unplug:0.3", *RTU, "--count", "10000", code=3)
        assert int(stdout.splitlines()[2].split()[0]) > 10
        assert stderr.startswith("Error: the port was lost")
        assert stderr.count("\n") == 1

    @needs_signals
    @pytest.mark.real_time
    def test_what_was_measured_before_it_was_terminated_is_shown(self) -> None:
        child = start("diag", "loopback", "sim://4100", *RTU, "--count", "100000", "-vv", main="main")
        assert child.stderr is not None
        loopbacks = (line for line in child.stderr if b" > 01 08 00 00 " in line)
        for _ in range(10):
            next(loopbacks)
        child.send_signal(signal.SIGTERM)
        code, stdout, _ = finish(child)
        assert code == 143
        assert stdout.startswith("sim://4100, modbus_rtu, address 1, loopbacks\n")


class TestPayload:
    """``loopback --payload``."""

    @pytest.mark.parametrize("text", ["A55A", "a5 5a", "0xA5,0x5A", "A5:5A"])
    @pytest.mark.parametrize("mode", ["rtu", "ascii"])
    def test_what_is_sent_and_received_is_shown(self, mode: str, text: str) -> None:
        line = VirtualLine(VirtualAnalyzer(mode=ProtocolKind(f"modbus_{mode}")))
        stdout, stderr = run("loopback", line.url, "--protocol", mode, "--gap", "0", "--payload", text)
        assert stdout == f"{line.url}, modbus_{mode}, address 1, loopback: sent a5 5a, received a5 5a\n"
        assert stderr == ""

    def test_json(self, line: VirtualLine) -> None:
        record = found("loopback", line.url, *RTU, "--payload", "0102")
        assert record == {
            "port": line.url, "protocol": "modbus_rtu", "address": 1, "payload": "0102", "received": "0102"
        }  # fmt: skip
        assert [request[:6] for _, request in line.heard][-1] == b"\x01\x08\x00\x00\x01\x02"

    def test_without_a_reply_it_ends_with_4(self, line: VirtualLine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(slave, "SUPPORTED", (1, 2, 4, 5, 15))
        stdout, stderr = run("loopback", line.url, *RTU, "--payload", "0102", code=4)
        assert (stdout, stderr.count("\n")) == ("", 1)

    @pytest.mark.parametrize(("args", "words"), [
        (("--payload", "A5"), "a loopback carries 2 bytes, as in 'A5 5A', not 1"),
        (("--payload", "A5 5A 00"), "not 3"),
        (("--payload", ""), "not 0"),
        (("--payload", "A55"), "ends in the middle of a byte"),
        (("--payload", "A5 zz"), "not hexadecimal text: 'A5zz'"),
        (("--payload", "A55A", "--count", "3"), "--payload sends one loopback: omit --count"),
    ])  # fmt: skip
    def test_what_cannot_be_is_refused_before_a_port_is_opened(self, args: tuple[str, ...], words: str) -> None:
        stdout, stderr = run("loopback", "/dev/nope", *args, code=2)
        assert (stdout, words in stderr) == ("", True)


@pytest.mark.parametrize(
    ("command", "mode", "port"),
    [
        ("loopback", "continuous", "/dev/nope"),  # which is not even opened
        ("gap", "continuous", "/dev/nope"),
        ("gap", "auto", "sim://4100?mode=continuous&period=0.3"),
    ],
)
def test_in_continuous_mode_nothing_can_be_asked(command: str, mode: str, port: str) -> None:
    stdout, stderr = run(command, port, "--protocol", mode, code=4)
    assert stdout == ""
    assert "cannot be measured in continuous mode, in which an analyser does not answer" in stderr
    assert stderr.count("\n") == 1


class TestGap:
    def test_gaps_that_are_too_short_show_loss_and_longer_ones_none(self) -> None:
        stdout, stderr = run(*GAPS, "0,0.05,0.01,0.02", NEEDS_A_GAP)
        head, names, *rows, advice = stdout.splitlines()
        assert head == f"{NEEDS_A_GAP}, modbus_rtu, address 1, requests after a gap"
        assert names.split() == ["gap", "sent", "lost", "damaged", "rate"]
        assert [row.split()[:3] for row in rows] == [
            *([gap, "s", "2"] for gap in ("0", "0.01", "0.02")),
            ["0.05", "s", "202"],
        ]
        *short, long = (int(row.split()[3]) for row in rows)
        assert min(short) > long == 0
        assert advice == (
            "Recommended: --gap 0.05. None of 202 requests was lost with it: "
            "at most 1.5 % are lost (95 % confidence)."
        )
        assert stderr == ""

    def test_json_has_the_rates_and_the_recommendation(self) -> None:
        tallies = {0.01: Tally(sent=3, answered=1, lost=1, damaged=1), 0.05: Tally(sent=3, answered=3)}
        record = json.loads(report.gaps(SOURCE, tallies, True, as_json=True))
        assert record == {
            "port": "COM11", "protocol": "modbus_rtu", "address": 1, "recommended": 0.05,
            "excluded_rate": 0.6316, "gaps": [
                {"gap": 0.01, "sent": 3, "lost": 1, "damaged": 1, "rate": 0.6667},
                {"gap": 0.05, "sent": 3, "lost": 0, "damaged": 0, "rate": 0.0},
            ],
        }  # fmt: skip
        assert json.loads(report.gaps(SOURCE, tallies, False, as_json=True))["recommended"] is None

    def test_what_is_recommended_depends_on_the_losses(self) -> None:
        good, bad = Tally(sent=2, answered=2), Tally(sent=2, lost=1, damaged=1)
        for tallies, complete, advice in (
            (
                {0.0: good},
                True,
                "Recommended: --gap 0. None of 2 requests was lost with it: at most 77.6 % are lost (95",
            ),
            (
                {0.0: bad, 0.05: good, 0.1: good},
                True,
                "Recommended: --gap 0.05. None of 2 requests was lost with it, or with a longer one: at most",
            ),
            (
                {0.0: bad, 0.01: bad},
                True,
                "Some were lost even with the longest gap. Try longer ones: --gaps 0.02,0.04.",
            ),
            ({0.0: bad}, True, "Some were lost even with the longest gap. Try longer ones: --gaps 0.1,0.2."),
            ({0.0: bad, 0.01: good}, False, "0.01 s     2     0        0    0 %"),
        ):
            last = report.gaps(SOURCE, tallies, complete, as_json=False).splitlines()[-1]
            assert last.startswith(advice)

    def test_few_requests_leave_doubt_and_many_do_not(self) -> None:
        for sent, doubt in ((2, True), (20, True), (60, False), (220, False)):
            advice = report.gaps(SOURCE, {0.05: Tally(sent=sent, answered=sent)}, True, as_json=False)
            assert ("not certain enough" in advice) == doubt

    def test_a_gap_that_loses_one_of_many_is_not_recommended(self) -> None:
        tallies = found(
            "gap",
            "sim://4100?fault=drop:0.03&seed=3",
            "--gaps",
            "0.02",
            "--protocol",
            "modbus_rtu",
            "--count",
            "2",
            "--timeout",
            "0.3",
        )
        assert (tallies["gaps"][0]["sent"], tallies["recommended"]) == (202, None)

    def test_each_analyser_of_a_line_has_its_own(self) -> None:
        line = VirtualLine(VirtualAnalyzer(address=1), VirtualAnalyzer(address=2, faults=Faults(gap=0.03)))
        assert found(*GAPS, "0", line.url, "--address", "2")["gaps"][0]["lost"] == 2


class TestJitter:
    def test_the_time_between_broadcasts(self) -> None:
        record = found("jitter", CONTINUOUS, "--protocol", "continuous", "--count", "4")
        assert (record["of"], record["address"]) == ("time between broadcasts", None)
        assert (record["count"], record["failures"], record["dropped"]) == (4, 0, 0)
        assert 0.03 < record["seconds"]["median"] < 0.1
        assert set(record["seconds"]) == {"minimum", "median", "p99", "maximum", "deviation"}

    def test_the_time_of_readings(self, line: VirtualLine) -> None:
        stdout, stderr = run("jitter", line.url, *RTU, "--count", "3")
        head, names, counts, times, values = stdout.splitlines()
        assert head == f"{line.url}, modbus_rtu, address 1, time of a reading"
        assert (names.split(), counts.split()) == (["count", "failures", "dropped", "late"], ["3", "0", "0", "0"])
        assert times.split() == ["min", "median", "p99", "max", "deviation"]
        assert re.fullmatch(r"ms( +\d+\.\d){5}", values)
        assert stderr == ""

    def analyzer(self, *outcomes: float | Exception) -> Any:
        """Something that is polled with these outcomes; numbers are arrivals in seconds."""
        waiting = iter(outcomes)

        def poll(**_options: Any) -> Any:
            outcome = next(waiting)
            if isinstance(outcome, Exception):
                raise outcome
            return SimpleNamespace(monotonic_ns=int(outcome * 1e9))

        return SimpleNamespace(poll=poll, snapshot=lambda: SimpleNamespace(monotonic_ns=0))

    def test_intervals_are_those_of_the_arrivals_and_failures_are_counted(self) -> None:
        cadence = Cadence()
        steps = measure.intervals(self.analyzer(2.0, ServomexTimeoutError("late"), 6.5, 8.5), 4, cadence)
        assert len([*steps]) == 4
        assert (cadence.seconds, cadence.failures) == ([2.0, 4.5, 2.0], 1)

    def test_readings_that_fail_are_counted_and_do_not_end_it(self) -> None:
        cadence = Cadence()
        failures = ServomexTimeoutError("late"), ServomexFrameError("damaged")
        assert len([*measure.sweeps(self.analyzer(1.0, *failures, 2.0), 4, cadence)]) == 4
        assert (len(cadence.seconds), cadence.failures) == (2, 2)

    @pytest.mark.parametrize("take", [measure.intervals, measure.sweeps])
    def test_a_lost_port_ends_it_and_so_does_failure_alone(self, take: Any) -> None:
        cadence = Cadence()
        with pytest.raises(ServomexTimeoutError, match="second"):
            [*take(self.analyzer(ServomexTimeoutError("first"), ServomexTimeoutError("second")), 2, cadence)]
        assert cadence.failures == 2
        with pytest.raises(ServomexConnectionError):
            [*take(self.analyzer(1.0, ServomexConnectionError("lost"), 2.0), 3, cadence)]


SILENT = "sim://4100?fault=silent"
ERRORS: dict[str, tuple[list[str], int, str]] = {
    "missing port, loopback": (["loopback", "/dev/nope"], 3, "there is no port /dev/nope"),
    "missing port, tap": (["tap", "/dev/nope"], 3, "there is no port /dev/nope"),
    "missing port, echo": (["echo", "/dev/nope"], 3, "there is no port /dev/nope"),
    "silent": (["jitter", SILENT, "--listen", "0.2"], 4, "no analyser found"),
    "count 0": (["loopback", "sim://4100", "--count", "0"], 2, "'--count'"),
    "duration 0": (["tap", "sim://4100", "--duration", "0"], 2, "'--duration'"),
    "a gap that is none": (["gap", "sim://4100", "--gaps", "0,x"], 2, "'0,x' is not a list of seconds"),
    "no gap": (["gap", "sim://4100", "--gaps", ""], 2, "'--gaps'"),
    "a gap too long": (["gap", "sim://4100", "--gaps", "11"], 2, "a gap is 0 to 10 seconds"),
    "a gap NaN": (["gap", "sim://4100", "--gaps", "nan"], 2, "'--gaps'"),
    "no port": (["tap"], 2, "'PORT'"),
    "unknown command": (["frob"], 2, "frob"),
    "trace not writable": (["tap", "sim://4100", "--trace", "/nope/trace"], 1, "cannot write the trace"),
}


@pytest.mark.parametrize(("args", "code", "words"), ERRORS.values(), ids=ERRORS)
def test_an_error_is_a_line_or_two_with_its_exit_code(args: list[str], code: int, words: str) -> None:
    result = invoke(*args, command=diag)
    assert (result.exit_code, result.stdout) == (code, "")
    errors = [line for line in result.stderr.splitlines() if not line.startswith("Try '")]
    assert len(errors) == 1
    assert errors[0].startswith("Error: ")
    assert words in errors[0]


def test_the_group_is_found_and_lists_its_commands() -> None:
    for args in (["diag"], ["diag", "--help"]):
        result = invoke(*args, command=servomex_group)
        assert result.exit_code == 0
        for command in ("loopback", "tap", "jitter", "gap", "echo"):
            assert f"  {command} " in result.stdout
    assert invoke("diag", "tap", "--help", command=servomex_group).exit_code == 0


@pytest.mark.parametrize("quiet", [False, True])
def test_progress_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    monkeypatch.setattr(STDERR, "isatty", lambda: True)
    stdout, stderr = run("loopback", "sim://4100", *RTU, "--count", "3", *["--quiet"] * quiet)
    assert stdout.splitlines()[2].split()[:2] == ["3", "3"]
    assert ("100%" in stderr) == (not quiet)
