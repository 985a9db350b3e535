"""The line between a virtual analyser and its reader: its times, its faults, and its URL."""

import time
from collections.abc import Callable

import pytest
import serial

from servomex.errors import ServomexValidationError
from servomex.models.reading import ChannelStatus
from servomex.port.link import SerialLink
from servomex.settings import SerialSettings
from servomex.simulator import Faults, VirtualAnalyzer, VirtualChannel, VirtualLine, constant
from servomex.simulator.faults import parse_faults
from servomex.simulator.urls import line_from_url
from tests.helpers.bench import Bench
from tests.helpers.modbus_bytes import LOOPBACK, OXYGEN, PROBE, STATE, VALUE_OF_I1, crc, rtu

pytestmark = pytest.mark.virtual_time

CHAR_S = 10 / 19200
TURNAROUND_S = 0.03
GENEROUS_S = 5.0


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_paced_bytes_arrive_exactly_at_their_character_times() -> None:
    bench = Bench(pace=True)
    begun = bench.clock.now
    bench.line.write(PROBE)
    for number in range(len(STATE)):
        due = begun + (len(PROBE) + number + 1) * CHAR_S + TURNAROUND_S
        bench.clock.now = due - 0.1 * CHAR_S
        assert bench.line.waiting() == number
        assert bench.line.next_due() == pytest.approx(due - bench.clock.now if not number else 0.0, abs=1e-6)
        bench.clock.now = due
        assert bench.line.waiting() == number + 1
    assert bench.take() == STATE


def test_messages_on_the_way_do_not_overtake_or_overlap_each_other() -> None:
    bench = Bench(pace=True)
    bench.faults.duplicate = 1.0
    bench.line.write(PROBE)
    bench.pass_((len(PROBE) + len(STATE)) * CHAR_S + TURNAROUND_S)
    assert bench.take() == STATE
    bench.pass_(len(STATE) * CHAR_S)
    assert bench.take() == STATE


def test_taking_bytes_away_does_not_move_those_that_follow() -> None:
    bench = Bench("continuous", pace=True)
    bench.pass_(2.0)
    for number in range(206):
        assert bench.take() == b"", number
        bench.pass_(CHAR_S)
        assert len(bench.take()) == 1, number


def test_without_pace_a_reply_is_there_at_once(bench: Bench) -> None:
    bench.line.write(PROBE)
    assert (bench.take(), bench.line.next_due()) == (STATE, None)


def test_a_port_at_another_baud_rate_gets_garbage_and_is_not_heard() -> None:
    bench, slow = Bench("continuous"), Bench()
    for item in (bench, slow):
        item.line.close(1)
        item.line.open(9600)
    bench.pass_(2.0)
    garbage = bench.take()
    assert len(garbage) == 206
    assert not [text for text in (b";", b"Oxygen", b"20.376", b"\r\n") if text in garbage]
    assert slow.ask(PROBE) == b""
    assert slow.line.heard == []


def test_a_silent_analyser_hears_and_does_not_answer(bench: Bench) -> None:
    bench.faults.silent = True
    assert bench.ask(PROBE) == b""
    assert bench.line.heard == [(1001.0, PROBE)]
    bench.faults.silent = False
    assert bench.ask(PROBE) == STATE


def test_late_replies_come_at_their_time_and_in_order(bench: Bench) -> None:
    bench.faults.late = 0.3
    bench.line.write(LOOPBACK)
    bench.faults.late = 0.0
    bench.line.write(PROBE)
    assert bench.take() == b""
    bench.pass_(0.299)
    assert bench.take() == b""
    bench.pass_(0.002)
    assert bench.take() == LOOPBACK + STATE


def test_a_quarter_of_the_replies_is_lost_where_that_is_asked_for(bench: Bench) -> None:
    bench.faults.drop = 0.25
    answered = sum(bench.ask(PROBE) == STATE for _ in range(400))
    assert 250 < answered < 350
    assert len(bench.line.heard) == 400


def test_corruption_changes_exactly_one_byte_anywhere(bench: Bench) -> None:
    bench.faults.corrupt = 1.0
    places = set()
    for _ in range(100):
        damaged = bench.ask(PROBE)
        assert len(damaged) == len(STATE)
        [place] = [number for number in range(len(STATE)) if damaged[number] != STATE[number]]
        places.add(place)
    assert places == set(range(len(STATE)))


def test_garbage_comes_before_an_intact_reply(bench: Bench) -> None:
    bench.faults.garbage = 1.0
    replies = [bench.ask(PROBE) for _ in range(100)]
    assert all(reply.endswith(STATE) for reply in replies)
    assert {len(reply) - len(STATE) for reply in replies} == set(range(1, 9))


def test_pieces_of_up_to_seven_bytes_come_ten_milliseconds_apart(bench: Bench) -> None:
    bench.faults.chunked = True
    bench.line.write(VALUE_OF_I1)
    pieces = [bench.take()]
    while bench.line.next_due() is not None:
        bench.pass_(0.009)
        assert bench.take() == b""
        bench.pass_(0.0011)
        pieces.append(bench.take())
    assert b"".join(pieces) == OXYGEN + crc(OXYGEN)
    assert all(1 <= len(piece) <= 7 for piece in pieces)


@pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii"])
def test_the_reply_of_a_foreign_address_comes_first_and_is_intact(mode: str) -> None:
    bench = Bench(mode)
    bench.faults.foreign = 1.0
    if mode == "modbus_rtu":
        assert bench.ask(PROBE) == rtu("C7 02 02 0000") + STATE
    else:
        assert bench.ask(b":010203E8001002\r\n") == b":C70202000035\r\n" + b":0102020000FB\r\n"


def test_a_duplicate_comes_right_behind_its_reply(bench: Bench) -> None:
    bench.faults.duplicate = 1.0
    assert bench.ask(PROBE) == STATE * 2


@pytest.mark.parametrize(("silence", "heard"), [(0.0, False), (0.003, False), (0.049, False), (0.051, True)])
def test_a_request_too_soon_after_a_reply_is_not_heard(bench: Bench, silence: float, heard: bool) -> None:
    bench.faults.gap = 0.05
    assert bench.ask(PROBE) == STATE
    bench.pass_(silence)
    bench.line.write(LOOPBACK)
    assert bench.take() == (LOOPBACK if heard else b"")
    assert len(bench.line.heard) == 1 + heard


def test_an_echo_comes_before_the_reply() -> None:
    bench = Bench(echo=True)
    assert bench.ask(PROBE) == PROBE + STATE
    bench.faults.silent = True
    assert bench.ask(PROBE) == PROBE


@pytest.mark.parametrize("fault", ["drop", "corrupt", "garbage", "foreign", "duplicate"])
def test_the_same_seed_gives_the_same_faults_and_another_seed_others(fault: str) -> None:
    def course(seed: int) -> list[bytes]:
        bench = Bench()
        bench.analyser.faults = Faults(seed=seed)
        setattr(bench.faults, fault, 0.5)
        return [bench.ask(PROBE) for _ in range(50)]

    assert course(1) == course(1) != course(2)


def test_faults_hit_broadcasts_as_well() -> None:
    bench = Bench("continuous")
    bench.faults.drop = 1.0
    bench.pass_(2.0)
    assert bench.take() == b""
    bench.faults.drop, bench.faults.duplicate = 0.0, 1.0
    bench.pass_(2.0)
    assert bench.take().count(b"\r\n") == 2


@pytest.mark.parametrize(
    ("specs", "faults"),
    [
        (["late"], {"late": 0.25}),
        (["late:0.3", "drop=0.1"], {"late": 0.3, "drop": 0.1}),
        (["silent", " chunked ", "echo"], {"silent": True, "chunked": True, "echo": True}),
        (["unplug", "gap:0"], {"unplug": 5.0, "gap": 0.0}),
        ([], {}),
    ],
)
def test_faults_are_read_with_a_number_or_a_typical_one(specs: list[str], faults: dict[str, float | bool]) -> None:
    assert parse_faults(specs) == faults


@pytest.mark.parametrize("name", ["drop", "corrupt", "garbage", "foreign", "duplicate"])
def test_a_chance_above_one_is_refused(name: str) -> None:
    with pytest.raises(ServomexValidationError):
        parse_faults([f"{name}:25"])


def test_an_unplugged_line_fails_for_its_reader_and_for_the_next(bench: Bench) -> None:
    bench.line.unplug()
    calls: list[Callable[[], object]] = [
        bench.take,
        bench.line.waiting,
        lambda: bench.line.write(PROBE),
        lambda: bench.line.open(19200),
    ]
    for call in calls:
        with pytest.raises(serial.SerialException, match="unplugged"):
            call()
    bench.line.plug()
    bench.line.open(19200)
    assert bench.ask(PROBE) == STATE
    with pytest.raises(serial.SerialException, match="in use"):
        bench.line.open(19200)


def test_a_line_may_be_lost_some_seconds_after_it_was_opened() -> None:
    bench = Bench(unplug_after=5.0)
    bench.pass_(4.9)
    assert bench.take() == b""
    assert bench.line.next_due() == pytest.approx(0.1)
    bench.pass_(0.1)
    with pytest.raises(serial.SerialException):
        bench.take()
    bench.line.open(19200)
    bench.pass_(4.9)
    assert bench.take() == b""


def test_a_url_without_options_means_the_bench_unit_at_the_baud_rate_of_the_port() -> None:
    line = line_from_url("sim://4100", 9600)
    [analyser] = line.analysers
    assert (analyser.mode, analyser.address, analyser.period, analyser.faults) == ("modbus_rtu", 1, 2.0, Faults())
    assert (line.baudrate, line.echo) == (9600, False)
    assert analyser.value("I1") == 20.376


def test_every_option_of_a_url_is_taken() -> None:
    url = "sim://moving?mode=continuous&address=247&period=0.5&baudrate=2400&pace=1&fault=drop:0.5,echo,unplug:9&seed=3"
    line = line_from_url(url, 19200)
    [analyser] = line.analysers
    assert (analyser.mode, analyser.address, analyser.period) == ("continuous", 247, 0.5)
    assert (line.baudrate, line.echo) == (2400, True)
    assert analyser.faults == Faults(drop=0.5, seed=3)
    assert analyser.status("I2") == ChannelStatus(alarms=(True, False, False, False))
    line.open(2400)
    due = line.next_due()
    assert due is not None
    assert due <= 0.5 + 10 / 2400


def test_a_line_is_found_by_its_name_as_long_as_it_lives(line: VirtualLine) -> None:
    assert line_from_url(line.url, 19200) is line
    named = VirtualLine(name="bench-7")
    assert line_from_url("sim://bench-7", 19200) is named
    del named
    with pytest.raises(ServomexValidationError, match="no virtual analyser 'bench-7'"):
        line_from_url("sim://bench-7", 19200)


def test_a_wrong_baud_rate_shows_through_a_link() -> None:
    with SerialLink("sim://4100?baudrate=9600", SerialSettings(baudrate=19200)) as link:
        link.write(PROBE)
        assert link.read(time.monotonic()) == b""


@pytest.mark.parametrize(
    "arguments",
    [{"address": 0}, {"address": 248}, {"period": -1.0}, {"mode": "auto"}, {"mode": "rtu"}],
)
def test_a_virtual_analyser_that_cannot_be_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ServomexValidationError):
        VirtualAnalyzer(**arguments)  # type: ignore[arg-type]


def test_channels_are_in_the_order_of_the_instrument_with_e1_and_e2_and_none_twice() -> None:
    listed = [VirtualChannel(name, name, "%", constant(1.0)) for name in ("D1", "E1", "I2")]
    assert list(VirtualAnalyzer(listed).channels) == ["I2", "D1", "E1", "E2"]
    with pytest.raises(ServomexValidationError, match="twice"):
        VirtualAnalyzer([listed[0], listed[0]])
