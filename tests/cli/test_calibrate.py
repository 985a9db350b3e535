"""``servomex calibrate``: what it shows, that nothing is sent without --yes, that Ctrl-C stops what it started."""

import json
import signal
import sys

import attrs
import pytest

from servomex.calibration.report import CalibrationProgress
from servomex.cli.calibrate import calibrate
from servomex.cli.output import STDERR
from servomex.simulator import TcpServer, VirtualAnalyzer, VirtualLine
from tests.helpers.calibrating import coils, left_at_one, shorten_waits
from tests.helpers.commands import FAST, finish, invoke, start
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.virtual_time

START = ("start", "--protocol", "modbus_rtu", "--gap", "0")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, analyser: VirtualAnalyzer) -> None:
    shorten_waits(monkeypatch)
    analyser.cal_phase_s = 0.3


class TestStatus:
    @pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii", "continuous"])
    def test_all_groups_in_every_mode(self, mode: str) -> None:
        analyser = VirtualAnalyzer(mode=mode, period=0.1)
        line = VirtualLine(analyser)
        analyser.write_coils(2, [True])
        analyser.write_coils(2, [False])
        result = invoke("status", line.url, "--protocol", mode, command=calibrate)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.splitlines() == [
            "group 1: sample",
            "group 2: sample",
            "group 3: calibration gas 1",
            "group 4: sample",
        ]

    @pytest.mark.parametrize(("mode", "coil"), [("modbus_rtu", False), ("continuous", None)])
    def test_one_group_as_json(self, mode: str, coil: bool | None) -> None:
        line = VirtualLine(VirtualAnalyzer(mode=mode, period=0.1))
        options = ("--protocol", mode, "--format", "json")
        result = invoke("status", line.url, "2", *options, command=calibrate)
        (record,) = json.loads(result.stdout).items()
        assert (record[0], record[1]["group"], record[1]["phase"], record[1]["start_coil"]) == (
            "2",
            2,
            "idle",
            coil,
        )
        assert set(record[1]) == attrs.fields_dict(CalibrationProgress).keys() - {"frame"} | {"active"}

    @pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii"])
    def test_start_coils_that_were_left_at_one_are_shown_with_the_cure(self, mode: str) -> None:
        """As a program leaves them that was killed in the middle of its start."""
        analyser = VirtualAnalyzer(mode=mode)
        line = VirtualLine(analyser)
        analyser.refuses_calibration = True
        analyser.write_coils(0, [False, True, False, True])
        analyser.coil_log.clear()
        result = invoke("status", line.url, "--protocol", mode, command=calibrate)
        assert result.stdout.splitlines()[:2] == ["group 1: sample", "group 2: sample; its start coil is at 1"]
        assert result.stderr == (
            "the start coils of groups 2 and 4 are at 1: the analyser ignores the next start until they are 0. "
            "'servomex calibrate stop' sets them back to 0\n"
        )
        assert (result.exit_code, coils(analyser)) == (0, [])
        result = invoke("stop", line.url, "--yes", "--protocol", mode, command=calibrate)
        assert result.stderr == "the start coils of groups 2 and 4 had been left at 1: set back to 0\n"
        assert left_at_one(analyser) == []
        assert invoke("status", line.url, "--protocol", mode, command=calibrate).stderr == ""


class TestGates:
    @pytest.mark.parametrize("command", [("start", "1"), ("start", "1", "--wait"), ("stop",)])
    def test_without_yes_the_port_is_not_even_opened(
        self, line: VirtualLine, analyser: VirtualAnalyzer, command: tuple[str, ...]
    ) -> None:
        line.unplug()
        result = invoke(command[0], line.url, *command[1:], command=calibrate, env={"SERVOMEX_YES": "1"})
        assert (result.exit_code, result.stdout) == (2, "")
        assert "add --yes to confirm. Nothing was sent." in result.stderr
        assert result.stderr.count("\n") == 1

    @pytest.mark.parametrize("group", ["0", "5", "one", "-1"])
    def test_a_group_that_does_not_exist_is_wrong_usage(self, line: VirtualLine, group: str) -> None:
        line.unplug()
        result = invoke("start", line.url, "--yes", "--", group, command=calibrate)
        assert (result.exit_code, result.stdout) == (2, "")

    def test_continuous_mode_cannot_be_written_to(self) -> None:
        line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.1))
        result = invoke("start", line.url, "1", "--yes", "--protocol", "continuous", command=calibrate)
        assert (result.exit_code, result.stdout) == (4, "")
        assert "continuous mode" in result.stderr

    def test_a_port_that_is_not_there(self) -> None:
        assert invoke("stop", "/dev/nope", "--yes", command=calibrate).exit_code == 3


class TestStart:
    def test_it_shows_what_the_group_is_on(self, line: VirtualLine, analyser: VirtualAnalyzer) -> None:
        result = invoke(*START, line.url, "2", "--yes", command=calibrate)
        assert (result.exit_code, result.stdout) == (0, "group 2: calibration gas 1\n")
        assert "servomex calibrate status" in result.stderr
        assert coils(analyser) == [(2, True), (2, False)]

    def test_quiet_and_as_json(self, line: VirtualLine) -> None:
        result = invoke(*START, line.url, "1", "--yes", "-q", "--format", "json", command=calibrate)
        assert (result.exit_code, result.stderr, result.stdout.count("\n")) == (0, "", 1)
        record = json.loads(result.stdout)["1"]
        assert (record["phase"], record["active"], record["start_coil"]) == ("cal_gas_1", True, None)

    def test_a_refused_start_is_one_line(self, line: VirtualLine, analyser: VirtualAnalyzer) -> None:
        analyser.refuses_calibration = True
        result = invoke(*START, line.url, "1", "--yes", command=calibrate)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "ignored the start of group 1" in result.stderr
        assert result.stderr.count("\n") == 1

    def test_waiting_shows_the_phases_and_ends_with_a_report(
        self, line: VirtualLine, analyser: VirtualAnalyzer
    ) -> None:
        result = invoke(*START, line.url, "1", "--yes", "--wait", command=calibrate)
        assert result.exit_code == 0
        shown = [text.split(",")[0] for text in result.stderr.splitlines()]
        assert shown == [f"group 1: {what}" for what in ("calibration gas 1", "calibration gas 2", "sample")]
        head, first, second, settled, values, states = result.stdout.splitlines()
        assert head.startswith("autocalibration of group 1: ")
        assert [text.partition(" UTC ")[2].split(",")[0] for text in (first, second)] == [
            "calibration gas 1",
            "calibration gas 2",
        ]
        assert settled.endswith(" UTC sample, seen for 0 s")
        assert values == "I1 Oxygen: 20.376 % before, 20.376 % after"
        assert states == "I1 states seen: calibrating; ok"

    def test_quiet_waiting_and_a_report_as_json(self, line: VirtualLine) -> None:
        args = ("--yes", "--wait", "-q", "--format", "json")
        result = invoke(*START, line.url, "1", *args, command=calibrate)
        assert (result.exit_code, result.stderr) == (0, "")
        report = json.loads(result.stdout)
        assert [phase["phase"] for phase in report["phases"]] == ["cal_gas_1", "cal_gas_2"]
        assert (report["group"], report["channels"], report["failed_looks"]) == (1, ["I1"], 0)
        assert [row["value"] for row in report["before"] + report["after"]] == [20.376] * 2
        assert report["states"]["I1"] == [["calibrating"], []]

    def test_it_has_ended_when_its_group_was_on_sample_for_long_enough(
        self, line: VirtualLine, analyser: VirtualAnalyzer
    ) -> None:
        args = ("--yes", "--wait", "-q", "--settle", "0.3", "--format", "json")
        report = json.loads(invoke(*START, line.url, "1", *args, command=calibrate).stdout)
        assert 0.3 <= report["settled_s"] < 5
        assert report["notes"] == []

    def test_a_time_on_sample_longer_than_all_is_wrong_usage(self, line: VirtualLine) -> None:
        args = ("--yes", "--wait", "--settle", "60", "--within", "60")
        result = invoke(*START, line.url, "1", *args, command=calibrate)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--settle must be shorter than --within" in result.stderr

    @pytest.mark.parametrize("option", ["--within", "--settle"])
    def test_what_is_for_watching_starts_nothing_without_it(
        self, option: str, line: VirtualLine, analyser: VirtualAnalyzer
    ) -> None:
        result = invoke(*START, line.url, "1", "--yes", option, "10", command=calibrate)
        assert (result.exit_code, result.stdout, analyser.cal_gas(1)) == (2, "", 0)
        assert f"{option} needs --wait" in result.stderr

    def test_one_that_takes_too_long_is_stopped(self, line: VirtualLine, analyser: VirtualAnalyzer) -> None:
        analyser.cal_phase_s = float("inf")
        result = invoke(*START, line.url, "1", "--yes", "--wait", "--within", "0.4", "-q", command=calibrate)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "did not end within 0.4 s: it was stopped" in result.stderr
        assert analyser.cal_gas(1) == 0

    def test_a_terminal_gets_one_line_that_is_kept_up_to_date(
        self, line: VirtualLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(STDERR, "isatty", lambda: True)
        result = invoke(*START, line.url, "1", "--yes", "--wait", command=calibrate)
        first, *others = result.stderr.split("\r")[1:]
        assert first.startswith("group 1: calibration gas 1, ")
        assert "; I1 Oxygen 20.376 %" in first
        assert others
        assert result.stderr.count("\n") == 1


class TestStop:
    def test_it_stops_all(self, line: VirtualLine, analyser: VirtualAnalyzer) -> None:
        analyser.write_coils(0, [True, True])
        analyser.write_coils(0, [False, False])
        result = invoke("stop", line.url, "--yes", *FAST, command=calibrate)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "all groups are on sample\n", "")
        assert [analyser.cal_gas(group) for group in (1, 2)] == [0, 0]

    def test_one_that_is_ignored(
        self, line: VirtualLine, analyser: VirtualAnalyzer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(analyser, "cal_gas", lambda group: 1)
        result = invoke("stop", line.url, "--yes", *FAST, command=calibrate)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "Stop it on the analyser's panel" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals to send to a program on Windows")
class TestInterrupt:
    def interrupted(
        self, analyser: VirtualAnalyzer, *args: str, number: int = signal.SIGINT
    ) -> tuple[int, str, str]:
        """Run the command in another process, and interrupt it once its start has reached the analyser."""
        analyser.cal_phase_s = float("inf")
        line = VirtualLine(analyser)
        with TcpServer(line) as server:
            options = ("--protocol", "modbus_rtu", "--yes", *args)
            child = start("calibrate", "start", server.port, "1", *options, main="main")
            wait_until(lambda: len(analyser.coil_log) >= 2, 60)
            asked = len(line.heard)
            wait_until(lambda: len(line.heard) >= asked + 4, 60)  # it looks at what the start has done
            child.send_signal(number)
            return finish(child)

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (1, 129)])
    @pytest.mark.real_time
    def test_while_it_is_watched_it_is_stopped(self, analyser: VirtualAnalyzer, number: int, code: int) -> None:
        exit_code, stdout, stderr = self.interrupted(analyser, "--wait", number=number)
        assert (exit_code, stdout) == (code, "")
        assert "it was stopped, and the analyser is on sample again" in stderr
        assert coils(analyser) == [(1, True), (1, False), (9, True), (9, False)]
        assert analyser.cal_gas(1) == 0

    @pytest.mark.real_time
    def test_before_it_is_known_to_run_it_is_stopped(self, analyser: VirtualAnalyzer) -> None:
        analyser.refuses_calibration = True
        exit_code, stdout, stderr = self.interrupted(analyser)
        assert (exit_code, stdout) == (130, "")
        assert "it was stopped" in stderr
        assert coils(analyser) == [(1, True), (1, False), (9, True), (9, False)]


def test_a_stop_that_fails_after_an_interrupt_is_reported(
    line: VirtualLine, analyser: VirtualAnalyzer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_group: int) -> int:
        if analyser.coil_log:
            line.unplug()
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(analyser, "cal_gas", interrupted)
    result = invoke(*START, line.url, "1", "--yes", command=calibrate)
    assert result.exit_code == 130
    assert "it could not be stopped (" in result.stderr
    assert "stop it on the analyser's panel" in result.stderr
