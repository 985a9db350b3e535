"""A short campaign of faults, and proofs that its checker sees what is wrong and what is old.

``python -m tests.faults`` runs a long one.
"""

import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import attrs
import pytest

from servomex import registers, telegram
from servomex.enums import ChannelId
from servomex.modbus import client as modbus
from servomex.modbus import exchange
from servomex.models.frame import Frame
from servomex.port.link import SerialLink
from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.faults import checker
from tests.faults.campaign import Episode, run_campaign
from tests.faults.line import Mix, damage
from tests.faults.plan import Event, make_plan
from tests.faults.tally import Tally
from tests.faults.truth import RATE_HZ, Truth
from tests.helpers.decoding import change_readings, change_states

pytestmark = pytest.mark.alone  # the faults, and the readings that must be many, are spread over real seconds


def kinds(tally: Tally) -> set[str]:
    return {finding.kind for finding in tally.findings}


def report(tally: Tally) -> str:
    return "\n".join([*tally.lines(), *(finding.text for finding in tally.findings)])


@pytest.mark.parametrize("seed", ["1", "2"])
def test_nothing_wrong_and_nothing_stale_comes_of_any_fault(seed: str) -> None:
    tally = run_campaign(seed, count=6, at_once=6, quick=True)
    assert not tally.failed, report(tally)
    assert tally.episodes == 6
    assert tally.values > 100, report(tally)
    assert len(tally.modes) >= 2, report(tally)
    assert tally.errors, "the faults must have been felt"


def test_what_is_done_and_what_goes_wrong_follows_from_the_seed() -> None:
    plans = [[make_plan("5", number, pty=True) for number in range(20)] for _ in range(2)]
    assert plans[0] == plans[1]
    assert plans[0] != [make_plan("6", number, pty=True) for number in range(20)]
    happening = {event.what for plan in plans[0] for event in plan.events}
    assert happening >= {"fault", "unplug", "plug", "power", "host_clock", "babble", "state", "calibrate", "unit"}
    assert {plan.port for plan in plans[0]} == {"sim", "pty"}
    assert {plan.mode for plan in plans[0]} == {"modbus_rtu", "modbus_ascii", "continuous"}
    assert "auto" in {plan.asked for plan in plans[0]}


def of_mode(mode: str, **options: Any) -> Tally:
    """A short campaign of an episode that begins in this mode, with one analyser."""
    fits = (number for number in range(100) if _fits(number, mode, **options))
    return run_campaign("checker", first=next(fits), count=1, at_once=1, quick=True)


def _fits(number: int, mode: str, analysers: int = 1) -> bool:
    plan = make_plan("checker", number, pty=False, quick=True)
    drastic = {event.what for event in plan.events} & {"unplug", "power"}
    return (plan.mode, plan.asked, plan.analysers) == (mode, mode, analysers) and not drastic


@pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii"])
def test_a_value_that_is_decoded_wrongly_is_found(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change_readings(monkeypatch, lambda item: attrs.evolve(item, value=(item.value or 0.0) + 0.001))
    tally = of_mode(mode)
    assert "wrong" in kinds(tally)
    assert "--seed checker --episode" in tally.findings[0].text
    assert "given:" in tally.findings[0].text
    assert " < " in tally.findings[0].text, "the bytes must be there"


def test_a_state_that_is_decoded_wrongly_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    change_states(monkeypatch, warming_up=True)
    assert "wrong" in kinds(of_mode("modbus_rtu"))


def test_a_reply_that_is_given_for_another_channel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address is off by one block, as after a late reply."""
    shifted = dict(registers.REGISTERS)
    shifted[ChannelId.I1], shifted[ChannelId.I2] = shifted[ChannelId.I2], shifted[ChannelId.I1]
    monkeypatch.setattr(registers, "REGISTERS", shifted)
    assert "wrong" in kinds(of_mode("modbus_rtu"))


def test_an_old_reply_that_is_given_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = exchange.Exchange.ask
    kept: dict[Any, Any] = {}

    def old(self: exchange.Exchange, query: Any, deadline: float) -> Any:
        key, reply = (id(self), query), ask(self, query, deadline)
        before, kept[key] = kept.get(key, reply), reply
        return attrs.evolve(before, sent_ns=reply.sent_ns)

    monkeypatch.setattr(exchange.Exchange, "ask", old)
    assert "stale" in kinds(of_mode("modbus_rtu"))


def test_an_old_sweep_that_is_given_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    read = modbus.ModbusClient.read_frame
    kept: dict[int, Frame] = {}

    def cached(self: modbus.ModbusClient, deadline: float) -> Frame:
        return kept.setdefault(id(self), read(self, deadline))

    monkeypatch.setattr(modbus.ModbusClient, "read_frame", cached)
    assert "stale" in kinds(of_mode("modbus_ascii"))


def test_a_broadcast_that_is_read_wrongly_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    value = telegram._value
    monkeypatch.setattr(telegram, "_value", lambda field, *rest: value(field.replace(b"7", b"1"), *rest))
    assert "wrong" in kinds(of_mode("continuous"))


def test_an_old_broadcast_that_is_stamped_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader goes on giving the first frame that it had, as if it had just come."""
    parse, kept = telegram.parse_frame, list[Frame]()
    monkeypatch.setattr(checker, "HELD_S", 0.6)

    def stamped(raw: bytes, **times: Any) -> Frame:
        kept.append(parse(raw, **times))
        old = kept[0]
        at, ns = kept[-1].received_at, kept[-1].monotonic_ns
        readings = tuple(attrs.evolve(item, received_at=at, monotonic_ns=ns) for item in old)
        return attrs.evolve(old, readings=readings, received_at=at, monotonic_ns=ns)

    monkeypatch.setattr("servomex.continuous.stream.parse_frame", stamped)
    monkeypatch.setattr("servomex.continuous.sources.SourceGuard.refusal", lambda self, item: "")
    assert "stale" in kinds(of_mode("continuous"))


def test_a_broadcast_that_is_given_for_current_long_after_it_came_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def whatever(self: Any, deadline: float, **_limits: Any) -> Frame:
        while self._latest is None and time.monotonic() < deadline:
            time.sleep(0.01)
        frame: Frame = self._latest
        return frame

    monkeypatch.setattr("servomex.continuous.reader.ContinuousReader.read_frame", whatever)
    assert "stale" in kinds(of_mode("continuous"))


def test_what_raises_something_that_is_no_error_of_the_driver_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modbus.ModbusClient, "read_status", lambda *_: 1 // 0)
    assert "crash" in kinds(of_mode("modbus_rtu"))


def test_the_truth_reports_analyser_channel_and_moment() -> None:
    truths = [Truth(number, ["I1", "I2", "I3", "D4"], "modbus_rtu", number, 1.0) for number in (1, 2)]
    seen: set[float] = set()
    for truth in truths:
        for _ in range(3):
            with truth.panel():
                values = [block.value for block in truth.moment().blocks.values() if block.value is not None]
            assert not seen & {*values}, "no two analysers, channels or moments may share a value"
            seen |= {*values}
            time.sleep(1.5 / RATE_HZ)
    words = truths[0].input_registers(0, 7)
    assert registers.float_value(words[:2]) == truths[0].said[-1].moment.blocks[ChannelId.I1].value
    assert isinstance(truths[0], VirtualAnalyzer)


def test_damage_always_changes_something_or_nothing_but_never_empties_a_message() -> None:
    from random import Random

    dice = Random(1)
    message = bytes(range(32, 72))
    damaged = [damage(message, dice) for _ in range(2000)]
    assert all(damaged)
    assert sum(item == message for item in damaged) < 100
    assert {len(item) - len(message) for item in damaged} >= {-6, -1, 0, 1, 6}


def test_a_simulated_port_counts_only_bytes_that_can_be_taken() -> None:
    """What arrives behind bytes that are still coming, and a message of no bytes, once blocked it for ever."""
    now = [100.0]
    first, second = VirtualAnalyzer(clock=lambda: now[0]), VirtualAnalyzer(address=2, clock=lambda: now[0])
    line = VirtualLine(first, second, baudrate=2400, pace=True, clock=lambda: now[0])
    line.open(2400)
    line._send(first, now[0], b"")
    line._send(first, now[0], b"a" * 20)
    line._send(second, now[0] + 0.01, b"b" * 5)
    taken = b""
    for _ in range(40):
        now[0] += 0.01
        waiting = line.waiting()
        data = line.take(waiting)
        assert len(data) == waiting
        taken += data
    assert sorted(taken) == sorted(b"a" * 20 + b"b" * 5)


def test_a_late_reply_that_is_taken_for_the_next_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the silence before a request, and without the fence after a failure; chance needs some episodes."""
    monkeypatch.setattr(SerialLink, "settle", lambda self, silence_s, deadline: (b"", True))
    monkeypatch.setattr(exchange.Exchange, "_ready_for", lambda self, query, call: True)
    late = (Event(0.3, "fault", (Mix(late=0.15, jitter=0.3), 0.3, 2.9, "late")), Event(2.9, "clear"))
    tally = Tally()
    plans = [
        attrs.evolve(
            make_plan("late", number, pty=False, quick=True), mode="modbus_rtu", asked="modbus_rtu", analysers=1,
            gap=0.01, timeout=None, retries=1, users=("single",), echo=False, lasts=2.9, events=late,
        )
        for number in range(16)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        players = [threading.Thread(target=Episode(plan, tally, Path(folder)).run) for plan in plans]
        for player in players:
            player.start()
        for player in players:
            player.join()
    assert kinds(tally) & {"wrong", "stale"}
