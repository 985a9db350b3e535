"""Short episodes in which the driver is not alone, or time stands still, and proofs that what is wrong is found.

``python -m tests.faults --kind new`` plays long ones.
"""

import tempfile
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from servomex import Analyzer, ServomexCalibrationError, open_device, registers
from servomex.enums import CalPhase, ChannelId
from servomex.modbus import client as modbus
from servomex.models.frame import Frame
from servomex.port.link import SerialLink
from tests.faults import strict
from tests.faults.bench import broadcast, judged
from tests.faults.busy import Busy
from tests.faults.campaign import run_campaign
from tests.faults.crowd import Between
from tests.faults.episodes import SceneEpisode
from tests.faults.rig import ADDRESS, Rig
from tests.faults.scenes import KINDS, Scene, make_scene, possible_kinds
from tests.faults.sleeping import compiler
from tests.faults.stage import HAS_PTY
from tests.faults.tally import Tally
from tests.fuzz import oracle
from tests.helpers.decoding import change_states
from tests.helpers.waiting import GENEROUS_S


def kinds(tally: Tally) -> set[str]:
    return {finding.kind for finding in tally.findings}


def report(tally: Tally) -> str:
    return "\n".join([*tally.lines(), *(finding.text for finding in tally.findings[:5])])


@pytest.mark.alone
def test_nothing_wrong_comes_of_any_kind() -> None:
    tally = run_campaign("short", count=len(KINDS), at_once=len(KINDS), quick=True, kind="new", most=10**6)
    assert not {kind for kind, of_kind in tally.kinds.items() if of_kind.failed}, report(tally)
    assert {*tally.kinds} == {*possible_kinds(pty=HAS_PTY, sleeps=bool(compiler()))}, report(tally)
    assert tally.episodes == len(KINDS)
    assert tally.values > 1000, report(tally)
    assert not tally.number("crash"), report(tally)
    for kind in (kind for kind, of_kind in tally.kinds.items() if not of_kind.states):
        judge_some_more(kind)


def judge_some_more(kind: str) -> None:
    """Let more than one of a kind be unlucky: a short scene may end before the driver believed anything."""
    tally = run_campaign("more", count=6, at_once=6, quick=True, kind=kind)
    assert tally.states, report(tally)
    assert not tally.failed, report(tally)


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
    change_states(monkeypatch, alarms=(False,) * 4)
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
    tally = play("coil writer", users=("calibrations",), zeros=False, clears=False, lasts=5.0)
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


def test_a_broadcast_that_was_held_up_and_is_stamped_as_new_is_found() -> None:
    truth, checker, tally = judged("continuous")
    checker.good("in time", broadcast(truth, 0.1), 0.0)
    assert not tally.findings
    checker.good("late", broadcast(truth, 3.0), 0.0)
    assert kinds(tally) == {"stale"}


def test_a_broadcast_that_is_repeated_for_long_is_found() -> None:
    truth, checker, tally = judged("continuous")
    first = truth.broadcast()
    truth.frozen = True
    assert truth.broadcast() == first
    checker.good("a while", broadcast(truth, 3.0), 0.0)
    assert not tally.findings, "a clock of whole seconds cannot show it so soon"
    checker.good("long", broadcast(truth, 6.0), 0.0)
    assert kinds(tally) == {"stale"}


@pytest.mark.alone
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


@pytest.mark.alone
def test_one_broadcast_of_another_analyser_that_is_read_often_is_one() -> None:
    first, checker, tally = judged("continuous")
    second, checker.other, _ = judged("continuous", number=2)
    for _ in range(strict.MIXED + 1):
        checker.good("before", broadcast(first), 0.0)
    given = broadcast(second)
    for _ in range(2 * strict.MIXED):
        checker.good("again", given, 0.0)
    assert not tally.findings


@pytest.mark.alone
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


def read_naively(rig: Rig, seconds: float) -> None:
    """Read states as a simple driver does, which takes the first reply of the right form for the answer."""
    dice, until = Random(1), time.monotonic() + seconds
    with SerialLink(rig.url, gap=0.0) as link:
        while time.monotonic() < until and not (rig.tally.findings and rig.tally.states):
            channel = dice.choice([*rig.truth.channels])
            begun, received = time.monotonic(), b""
            link.read_waiting()
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
        threads = [threading.Thread(target=read_naively, args=(rig, GENEROUS_S)) for _ in range(scene.clients)]
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
