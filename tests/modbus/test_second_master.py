"""With another master on the line, a reply to its request is never taken for the answer to ours."""

import contextlib

import pytest

from servomex import ChannelStatus, ServomexError, ServomexFrameError, ServomexTimeoutError, open_device
from servomex.modbus.client import ModbusClient
from servomex.modbus.line import ModbusLine
from servomex.simulator import VirtualAnalyzer
from tests.helpers.hook_port import HookPort, answering
from tests.helpers.second_master import MIXES, NEVER, Manners, Outcome, SharedLine, client_on, outcome_of

MODES = ["modbus_rtu", "modbus_ascii"]


def total(outcomes: list[Outcome]) -> tuple[int, int, int]:
    return (
        sum(item.values for item in outcomes),
        sum(item.states for item in outcomes),
        sum(item.errors.total() for item in outcomes),
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("every_s", [0.25, 1.0])
@pytest.mark.parametrize("deaf", [False, True], ids=["queueing device", "deaf device"])
@pytest.mark.parametrize("mix", MIXES)
def test_no_reply_to_another_master_is_believed(mix: str, deaf: bool, every_s: float, mode: str) -> None:
    manners = Manners(mix=MIXES[mix], every_s=every_s, deaf=deaf)
    outcomes = [outcome_of(manners, mode, 0)]
    if every_s == 1.0:
        outcomes += [outcome_of(manners, mode, seed) for seed in (1, 2)]
        assert total(outcomes)[2] < 12 * len(outcomes), "most calls succeed"
    for seed in range(len(outcomes), 8):  # how many succeed on a line that is so busy is a matter of dice
        if total(outcomes)[0] <= 30 or total(outcomes)[1] <= 50:
            outcomes.append(outcome_of(manners, mode, seed))
    assert [item for outcome in outcomes for item in outcome.wrong] == []
    values, states, _ = total(outcomes)
    assert values > 30
    assert states > 50


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("deaf", [False, True], ids=["queueing device", "deaf device"])
def test_requests_that_are_heard_change_nothing(deaf: bool, mode: str) -> None:
    outcome = outcome_of(Manners(mix=MIXES["everything"], every_s=1.0, deaf=deaf, heard=True), mode, 3)
    assert outcome.wrong == []
    assert outcome.values > 20


@pytest.mark.parametrize("mode", MODES)
def test_errors_name_the_other_master(mode: str) -> None:
    manners = Manners(mix=MIXES["everything"], every_s=0.1)
    errors = outcome_of(manners, mode, 1, calls=40).errors
    assert errors
    last = [*errors][-1]
    assert "another" in last.lower()
    assert "asking on this line" in last
    assert not any("another device has the address" in message for message in errors)


@pytest.mark.parametrize("mode", MODES)
def test_replies_that_come_again_later_are_never_taken_for_new(mode: str) -> None:
    outcomes = [outcome_of(Manners(double=0.2), mode, seed, calls=80) for seed in range(4)]
    assert [item for outcome in outcomes for item in outcome.wrong] == []
    assert total(outcomes)[0] > 100


@pytest.mark.parametrize("mode", MODES)
def test_a_private_line_raises_no_false_alarm_in_an_hour(mode: str) -> None:
    line = SharedLine(Manners(swallow=0.02), mode, 5)
    begun, messages = line.clock.now, list[str]()
    with client_on(line, mode) as client:
        while line.clock.now < begun + 3600:
            line.clock.now += 5.0
            try:
                client.read_frame(line.clock.now + 3.0)
            except ServomexError as error:
                messages.append(error.message)
        others = client.link.state(ModbusLine).others
    assert not any("another" in message for message in messages)
    assert (others.heard, others.shared, others.doubles, others.duplicates) == (False, False, 0, 0)


def requests_of_a_sweep(client: ModbusClient, line: SharedLine) -> int:
    client.read_frame(line.clock.now + 3.0)
    before = line.requests
    client.read_frame(line.clock.now + 3.0)
    return line.requests - before


def test_a_quiet_private_line_costs_nothing_and_a_shared_one_a_fence() -> None:
    for shared_line, requests in ((None, 3), (False, 3), (True, 4)):
        line = SharedLine(Manners(every_s=NEVER), "modbus_rtu", 1)
        line.steady = True
        with client_on(line, "modbus_rtu", shared_line=shared_line) as client:
            assert requests_of_a_sweep(client, line) == requests


@pytest.mark.virtual_time
@pytest.mark.parametrize("mode", MODES)
def test_an_old_state_that_comes_again_in_front_of_each_answer_is_not_believed(mode: str) -> None:
    """Another old reply comes with it, so that the answer itself arrives once the request counts as answered."""
    analyser = VirtualAnalyzer(mode=mode)
    answer = answering(analyser)
    last: dict[int, bytes] = {}
    old = b""

    def far_end(port: HookPort, data: bytes) -> None:
        reply, function = answer(data), int(data[3:5], 16) if data[:1] == b":" else data[1]
        if old and function == 2:
            port.at(0.002, old)
        port.at(0.005, reply)
        if not old:
            last[function] = reply
            port.at(0.04, reply)

    with open_device(HookPort(far_end), protocol=mode, gap=0.01, identify=False) as analyzer:
        for _ in range(4):
            analyzer.status("I1")
        assert analyzer.link.state(ModbusLine).others.duplicates > 0
        old = last[2] + last[8]
        analyser["I1"].status = ChannelStatus(alarms=(True, False, False, False))
        for _ in range(4):
            with contextlib.suppress(ServomexError):
                assert analyzer.status("I1").alarms[0]


def repeating_line(mode: str, again_s: float, answers_s: float = 0.02) -> HookPort:
    """One analyser, whose values change all the time, on a line that gives every third reply twice."""
    analyser = VirtualAnalyzer(mode=mode)
    analyser["I1"].signal = lambda _seconds: float(len(port.writes))
    answer = answering(analyser)

    def far_end(port: HookPort, data: bytes) -> None:
        reply = answer(data)
        port.at(answers_s, reply)
        if len(port.writes) % 3 == 0:
            port.at(answers_s + again_s, reply)

    port = HookPort(far_end)
    return port


@pytest.mark.virtual_time
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("again_s", [0.2, 0.3, 0.4, 0.6, 0.8, 1.2])
def test_replies_that_come_again_later_are_not_another_devices(again_s: float, mode: str) -> None:
    with open_device(
        repeating_line(mode, again_s), protocol=mode, identify=False, shared_line=False, timeout=15
    ) as analyzer:
        errors = []
        for _ in range(8):
            try:
                assert analyzer.poll().ok
            except (ServomexTimeoutError, ServomexFrameError) as error:
                errors.append(error.message)
        assert len(errors) <= 4
        assert not any("another device has" in message for message in errors)
        assert not analyzer.link.state(ModbusLine).others.heard


@pytest.mark.virtual_time
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("again_s", [0.3, 1.0, 2.0])
def test_late_replies_that_come_again_are_not_another_masters(again_s: float, mode: str) -> None:
    with open_device(repeating_line(mode, again_s, 0.5), protocol=mode, identify=False) as analyzer:
        for timeout in (0.2, 0.3, 0.4, 8.0, 0.2, 8.0):
            with contextlib.suppress(ServomexTimeoutError):
                analyzer.poll(timeout=timeout)
        assert not analyzer.link.state(ModbusLine).others.heard
