"""Short episodes in which the driver is not alone, or time stands still, and proofs that what is wrong is found.

``python -m tests.faults --kind new`` plays long ones.
"""

import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from servomex import Analyzer, ServomexCalibrationError, modbus, open_device, registers
from servomex.enums import CalPhase, ChannelId
from servomex.link import SerialLink
from servomex.models import ChannelStatus, Frame
from servomex.telegram import parse_frame
from tests.faults import strict
from tests.faults.busy import Busy
from tests.faults.campaign import run_campaign
from tests.faults.checker import Given
from tests.faults.crowd import CACHED_EQUAL, Between, CrowdedLine, request
from tests.faults.episodes import SceneEpisode
from tests.faults.hub import Hub
from tests.faults.lively import TURN_S, LivelyTruth
from tests.faults.remote import Clocks
from tests.faults.rig import ADDRESS, Rig
from tests.faults.scenes import KINDS, Scene, make_scene
from tests.faults.sleeping import Slept, build_shim, compiler
from tests.faults.stage import HAS_PTY
from tests.faults.strict import StrictChecker
from tests.faults.tally import Tally
from tests.fuzz import oracle

NOT_YET = {
    "second master",
    "second client",
    "coil writer",
    "late duplicates",
    "gateway exceptions",
    "caching gateway",
    "gateway loopback",
    "stall",
    "stopped process",
    "system sleep",
    "fork",
    "names",
    "two broadcasters",
    "frozen broadcast",
}
"""Kinds in which the driver is known to fail, now and then or always."""


def kinds(tally: Tally) -> set[str]:
    return {finding.kind for finding in tally.findings}


def report(tally: Tally) -> str:
    return "\n".join([*tally.lines(), *(finding.text for finding in tally.findings[:5])])


def test_nothing_wrong_comes_of_any_kind() -> None:
    tally = run_campaign("short", count=len(KINDS), at_once=8, quick=True, kind="new", most=10**6)
    failed = {kind for kind, of_kind in tally.kinds.items() if of_kind.failed}
    assert failed <= NOT_YET, report(tally)
    possible = len(KINDS) - ("system sleep" not in tally.kinds) - 2 * (not HAS_PTY)
    assert len(tally.kinds) == possible, report(tally)
    assert tally.episodes == len(KINDS)
    assert tally.values > 1000, report(tally)
    assert not tally.number("crash"), report(tally)


def test_all_kinds_come_in_turn_and_follow_from_the_seed() -> None:
    scenes = [[make_scene("5", number, pty=True, sleeps=True) for number in range(30)] for _ in range(2)]
    assert scenes[0] == scenes[1]
    assert scenes[0] != [make_scene("6", number, pty=True, sleeps=True) for number in range(30)]
    assert {scene.kind for scene in scenes[0]} == {*KINDS}
    again = scenes[0][17]
    assert make_scene("5", 17, pty=True, sleeps=False, kind=again.kind) == again
    assert {scene.port for scene in scenes[0]} == {"sim", "tcp", "pty"}


def test_all_means_old_and_new_in_turn() -> None:
    tally = run_campaign("turns", count=2, at_once=2, quick=True, kind="all", first=24)
    assert {*tally.kinds} == {"old", make_scene("turns", 12, pty=HAS_PTY, sleeps=bool(compiler())).kind}
    table = tally.lines()[0]
    assert all(word in table for word in ("episodes", "values", "stale", "lost alarm", "gas", "overrun", "hang"))


def play(kind: str, **options: Any) -> Tally:
    """Play a short scene of a kind, with other options."""
    usual = {"mode": "modbus_rtu", "port": "sim", "timeout": None, "retries": 1, "gap": 0.01, "wanted": ()}
    scene = attrs.evolve(
        make_scene("proof", 1, pty=False, sleeps=False, quick=True, kind=kind), **(usual | options)
    )
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        SceneEpisode(scene, tally, Path(folder)).run()
    return tally


def test_an_alarm_that_is_not_shown_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = registers.decode_state

    def without_alarms(channel: ChannelId, bits: Any) -> ChannelStatus:
        return attrs.evolve(decode(channel, bits), alarms=(False,) * 4)

    monkeypatch.setattr(registers, "decode_state", without_alarms)
    tally = play("units", users=("mixed",))
    assert "lost alarm" in kinds(tally)
    text = tally.findings[0].text
    assert "--kind 'units' --seed proof --episode 1" in text
    assert "call:" in text
    assert " < " in text, "the bytes must be there"


def test_a_channel_that_vanishes_with_its_alarm_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    read = modbus.ModbusClient.read_frame

    def without_the_second(self: modbus.ModbusClient, deadline: float) -> Frame:
        frame = read(self, deadline)
        return attrs.evolve(frame, readings=(frame.readings[0], *frame.readings[2:]))

    monkeypatch.setattr(modbus.ModbusClient, "read_frame", without_the_second)
    assert "lost alarm" in kinds(play("units", users=("frames",)))


def test_gas_that_flows_on_behind_a_stop_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Analyzer, "stop_calibration", lambda self, **_: None)
    tally = play("coil writer", users=("calibrations",), zeros=False, clears=False, lasts=5.0)
    assert "gas" in kinds(tally), report(tally)


def test_gas_behind_an_error_that_says_that_none_flows_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Analyzer.start_calibration

    def refused(self: Analyzer, group: int, **options: Any) -> None:
        start(self, group, **options)
        raise ServomexCalibrationError("it did not start", running=False)

    monkeypatch.setattr(Analyzer, "start_calibration", refused)
    monkeypatch.setattr(Analyzer, "calibrate", refused)
    tally = play("coil writer", users=("calibrations",), zeros=False, clears=False)
    assert "gas" in kinds(tally), report(tally)


def test_a_group_that_is_said_to_be_on_sample_while_gas_flows_is_found() -> None:
    truth, checker, tally = judged("modbus_rtu")
    truth.write_coils(1, [True])
    with open_device(checker.line.url, protocol="modbus_rtu", address=3) as analyzer:
        begun = time.monotonic()
        progress = analyzer.calibration_status(2)
        checker.progress("right", progress, begun)
        assert not tally.findings
        checker.progress("wrong", attrs.evolve(progress, phase=CalPhase.IDLE), begun)
    assert kinds(tally) == {"gas"}


class Judge(StrictChecker):
    """A judge with the line at hand."""

    line: CrowdedLine


def judged(mode: str, *, between: Between | None = None, number: int = 1) -> tuple[LivelyTruth, Judge, Tally]:
    """Set up an analyser, its line and its judge."""
    truth, tally = LivelyTruth(number, ["I1", "I2", "I3"], mode, 3, 0.2), Tally()
    line = CrowdedLine(truth, dice=Random(1), between=between or Between())
    checker = Judge(truth, line, tally, 0, str)
    checker.line = line
    return truth, checker, tally


def broadcast(truth: LivelyTruth, late_s: float = 0.0) -> Given:
    """Let an analyser say something, and stamp it so much later."""
    raw = truth.broadcast()
    at = datetime.now(UTC) + timedelta(seconds=late_s)
    frame = parse_frame(raw, received_at=at, monotonic_ns=time.monotonic_ns() + int(late_s * 1e9))
    return Given.frame(frame)


def test_a_broadcast_that_was_held_up_and_is_stamped_as_new_is_found() -> None:
    truth, checker, tally = judged("continuous")
    checker.good("in time", broadcast(truth, 0.1), 0.0)
    assert not tally.findings
    checker.good("late", broadcast(truth, 3.0), 0.0)
    assert kinds(tally) & {"stale", "lost alarm"}


def test_a_broadcast_that_is_repeated_for_long_is_found() -> None:
    truth, checker, tally = judged("continuous")
    first = truth.broadcast()
    truth.frozen = True
    assert truth.broadcast() == first
    checker.good("a while", broadcast(truth, 3.0), 0.0)
    assert not tally.findings, "a clock of whole seconds cannot show it so soon"
    checker.good("long", broadcast(truth, 6.0), 0.0)
    assert kinds(tally) & {"stale", "lost alarm"}


def test_two_analysers_that_are_taken_for_one_are_found() -> None:
    first, checker, tally = judged("continuous")
    second, checker.other, _ = judged("continuous", number=2)
    for _ in range(strict.MIXED):
        for truth in (first, second):
            checker.good("at first", broadcast(truth), 0.0)
    assert not tally.findings
    for truth in (second, first):
        checker.good("for long", broadcast(truth), 0.0)
    assert kinds(tally) == {"wrong"}


def test_a_frame_without_the_channel_that_was_asked_for_is_found() -> None:
    truth, checker, tally = judged("continuous")
    checker.wanted = frozenset({ChannelId.I1})
    whole = broadcast(truth)
    checker.good("right", attrs.evolve(whole, readings=whole.readings[:1]), 0.0)
    assert not tally.findings
    checker.good("none", attrs.evolve(whole, readings=()), 0.0)
    checker.good("another", attrs.evolve(whole, readings=whole.readings[1:2]), 0.0)
    assert tally.number("wrong") + tally.number("lost alarm") == 2


def test_a_call_that_returns_late_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    poll = Analyzer.poll

    def slow(self: Analyzer, **options: Any) -> Frame:
        frame = poll(self, **options)
        time.sleep(1.0)
        return frame

    monkeypatch.setattr(Analyzer, "poll", slow)
    monkeypatch.setattr(strict, "BUSY_S", float("inf"))
    tally = play("units", users=("frames",), timeout=0.5)
    assert "overrun" in kinds(tally), report(tally)


def test_a_late_return_is_not_judged_while_sleeps_are_late_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    _, checker, tally = judged("modbus_rtu")
    busy, now = Busy(), time.monotonic()
    monkeypatch.setattr(strict, "BUSY", busy)
    checker.late("a call", now - 2.0, 1.0, "a value")
    assert kinds(tally) == {"overrun"}
    busy._late.append((now - 0.9, now - 0.1))
    checker.late("a call", now - 2.0, 1.0, "a value")
    assert len(tally.findings) == 1
    assert tally.counts["returns on a busy computer, late and not judged"] == 1


def test_late_sleeps_are_noticed_also_while_they_go_on() -> None:
    busy = Busy()
    with busy.watched():
        time.sleep(0.1)
        begun = time.monotonic()
        busy._due = begun - 1.0
        assert busy.late_s(begun - 0.5, begun) >= 0.5


def read_naively(rig: Rig, seconds: float) -> None:
    """Read states as a simple driver does, which takes the first reply of the right form for the answer."""
    dice, until = Random(1), time.monotonic() + seconds
    with SerialLink(rig.url, gap=0.0) as link:
        while time.monotonic() < until:
            channel = dice.choice([*rig.truth.channels])
            begun, received = time.monotonic(), b""
            link.discard_input()
            link.write(oracle.rtu_frame(bytes([ADDRESS, 2, 0, registers.STATES[channel].address, 0, 8])))
            while len(received) < 6 and time.monotonic() < begun + 0.15:
                received += link.read(begun + 0.15)
            if received[:3] == bytes([ADDRESS, 2, 1]) and oracle.rtu_frame(received[:4]) == received[:6]:
                bits = [bool(received[3] >> place & 1) for place in range(8)]
                rig.checker.state("a simple driver", channel, registers.decode_state(channel, bits), begun)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("second master", {"master_s": 0.05, "asks": "state", "between": Between(turnaround=0.02)}),
        ("late duplicates", {"between": Between(turnaround=0.005, again=0.7, again_s=(0.05, 0.2))}),
        ("gateway exceptions", {"between": Between(turnaround=0.005, gives_up=0.5, late_s=(0.05, 0.2))}),
        ("caching gateway", {"between": Between(turnaround=0.005, replay=0.6)}),
        ("gateway loopback", {"between": Between(turnaround=0.005, loopback=0.6, late_s=(0.1, 0.3))}),
        ("second client", {"port": "tcp", "clients": 2, "between": Between(turnaround=0.02)}),
    ],
)
def test_a_driver_that_believes_the_first_reply_is_found(kind: str, options: dict[str, Any]) -> None:
    usual: dict[str, Any] = {"mode": "modbus_rtu", "port": "sim", "heard": False}
    scene: Scene = attrs.evolve(
        make_scene("simple", 1, pty=False, sleeps=False, quick=True, kind=kind), **(usual | options)
    )
    tally = Tally()
    with Rig(scene, tally) as rig:
        threads = [threading.Thread(target=read_naively, args=(rig, 1.5)) for _ in range(scene.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert tally.states, "some of it is right"
    assert kinds(tally) <= {"wrong", "stale", "lost alarm"}
    assert tally.findings


def test_a_driver_that_believes_the_first_reply_is_right_where_it_is_alone() -> None:
    scene = make_scene("simple", 1, pty=False, sleeps=False, quick=True, kind="units")
    tally = Tally()
    with Rig(attrs.evolve(scene, mode="modbus_rtu", port="sim", events=()), tally) as rig:
        read_naively(rig, 0.5)
    assert tally.states > 10
    assert not tally.findings, report(tally)


def test_what_a_gateway_answers_from_its_memory_is_counted_apart() -> None:
    """To an equal request, the reply is the answer in every byte: no driver can know that it is old."""
    truth, checker, tally = judged("modbus_rtu", between=Between(cache=1.0))
    with open_device(checker.line.url, protocol="modbus_rtu", address=3, identify=False) as analyzer:
        first = analyzer.read_channel("I2")
        time.sleep(2 * TURN_S)
        begun = time.monotonic()
        again = analyzer.read_channel("I2")
    if again.value == first.value:  # a driver that never asks twice alike gets a new one
        assert truth.replayed
        checker.good("read_channel", Given.reading(again), begun)
        assert tally.counts[CACHED_EQUAL] == 1
    assert not tally.findings


def replies(line: CrowdedLine, wait_s: float = 0.0) -> bytes:
    time.sleep(wait_s)
    return line.take(4096)


def test_another_master_is_answered_in_turn_or_not_heard_at_all() -> None:
    for deaf in (False, True):
        truth, checker, _ = judged("modbus_rtu", between=Between(turnaround=0.05, deaf=deaf))
        line, dice = checker.line, Random(1)
        line.open(19200)
        line.others_ask(request("all", 3, "modbus_rtu", dice), heard=True)
        line.write(request("states", 3, "modbus_rtu", dice))
        heard = replies(line, 0.2)
        assert heard.startswith(request("all", 3, "modbus_rtu", dice)), "a request is heard as it is"
        assert [item.function for item in truth.said] == ([4] if deaf else [4, 2])


def test_a_network_that_stands_still_gives_all_at_once() -> None:
    truth, checker, _ = judged("modbus_rtu")
    line = checker.line
    line.open(19200)
    line.write(request("all", 3, "modbus_rtu", Random(1)))
    line.stall(0.3)
    line.write(request("states", 3, "modbus_rtu", Random(1)))
    assert replies(line) == b""
    assert len(truth.said) == 1, "the second request is held up as well"
    replies(line, 0.35)
    assert len(truth.said) == 2


def test_a_serial_server_gives_every_reply_to_both_of_its_clients() -> None:
    _, checker, _ = judged("modbus_rtu")
    with Hub(checker.line) as hub, SerialLink(hub.url) as first, SerialLink(hub.url) as second:
        until = time.monotonic() + 5
        first.write(request("coils", 3, "modbus_rtu", Random(1)))
        heard = []
        for link in (first, second):
            received = b""
            while len(received) < 7 and time.monotonic() < until:
                received += link.read(until)
            heard.append(received)
    assert heard[0] == heard[1] == oracle.rtu_frame(bytes([3, 1, 2, 0, 0]))


def test_states_tell_channel_and_moment() -> None:
    truth, _, _ = judged("modbus_rtu")
    seen: list[tuple[ChannelStatus, ...]] = []
    for _ in range(2):
        truth.discrete_inputs(0, 80)
        moment = truth.said[-1].moment
        alarms = [block.status.alarms for block in moment.blocks.values()]
        assert len({*alarms}) == len(alarms), "no two channels may share their alarms"
        seen.append(tuple(block.status for block in moment.blocks.values()))
        time.sleep(TURN_S)
    assert not {*seen[0]} & {*seen[1]}


@pytest.fixture
def shim(tmp_path: Path) -> Path:
    built = build_shim(tmp_path)
    if built is None:
        pytest.skip("there is no C compiler, or this is not Linux")
    return built


def test_the_monotonic_clock_stands_still_while_a_computer_sleeps(shim: Path, tmp_path: Path) -> None:
    """It has slept an hour when the process begins, and another one in the middle."""
    slept = Slept(tmp_path / "slept", shim)
    slept.add(3600)
    program = (
        "import sys, threading, time\n"
        "def behind(): return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()\n"
        "print(behind(), flush=True)\n"
        "sys.stdin.readline()\n"
        "begun = time.monotonic()\n"
        "time.sleep(0.1); threading.Event().wait(0.1)\n"
        "print(behind(), time.monotonic() - begun, time.time(), flush=True)\n"
    )
    usual = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=slept.environment,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert float(process.stdout.readline()) == pytest.approx(usual + 3600, abs=0.1)
        slept.add(3600)
        process.stdin.write("go on\n")
        process.stdin.flush()
        behind, waited, wall = map(float, process.stdout.readline().split())
    slept.close()
    assert behind == pytest.approx(usual + 7200, abs=0.1)
    assert 0.2 <= waited < 5
    assert wall == pytest.approx(time.time(), abs=30)


def test_what_a_process_that_slept_reports_is_judged_by_its_age() -> None:
    """A reading of before that looks as if it were of now is found, whatever the clock of the process says."""
    truth, _, _ = judged("continuous")
    given = broadcast(truth)
    clocks = Clocks(given.looked_at - time.monotonic())
    assert clocks.sleep(100.0, 150.0) == 50.0
    assert clocks.sleep(160.0, 170.0) == 10.0
    assert [clocks.moment(at) for at in (99.0, 101.0, 109.0, 111.0)] == [99.0, 151.0, 159.0, 171.0]
    honest = attrs.evolve(given, age_s=7.0, looked_at=given.looked_at + 7.0)
    assert clocks.seen(honest).stamp == pytest.approx(given.stamp, abs=0.1)
    young = attrs.evolve(given, age_s=0.0, looked_at=given.looked_at + 7.0)
    assert clocks.seen(young).stamp == pytest.approx(given.stamp + 7.0, abs=0.1)
