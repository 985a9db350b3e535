"""Short runs of the fuzzing, and proofs that it finds what it is for. ``python -m tests.fuzz`` runs it longer."""

import re
from typing import Any

import pytest
from pymodbus.framer import FramerRTU
from pymodbus.pdu import ModbusPDU

from servomex import telegram
from servomex.enums import ChannelId
from servomex.modbus import client as modbus
from servomex.modbus import exchange, ledger
from servomex.modbus.framing import LinkClient, decode
from servomex.models.frame import Frame
from servomex.port.link import SerialLink
from servomex.traffic import messages
from tests.fuzz import limits, oracle
from tests.fuzz.__main__ import limit_table, table
from tests.fuzz.engine import Outcome, Search
from tests.fuzz.targets import TARGETS
from tests.fuzz.wrong import WrongError
from tests.helpers.frames import REAL, WIRE, resealed

RUNS = {"telegram": 4000, "splitter": 700, "reader": 400, "exchange": 400, "sweep": 130}


def outcome_of(name: str, runs: int, seed: str = "suite") -> Outcome:
    return Search(TARGETS[name], seed).go_on(lambda so_far: so_far.runs >= runs or bool(so_far.findings))


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_is_misread_lost_or_makes_the_driver_crash(name: str) -> None:
    outcome = outcome_of(name, RUNS[name])
    assert outcome.findings == []
    assert outcome.believed > 20, "what is believed must be looked at as well"
    assert outcome.lines < outcome.all_lines
    assert name in table({name: outcome})


def test_the_same_seed_tries_the_same() -> None:
    first, second = (outcome_of("telegram", 800, "7") for _ in range(2))
    assert (first.runs, first.believed, first.kept) == (second.runs, second.believed, second.kept)
    assert first.believed != outcome_of("telegram", 800, "8").believed


def found(name: str, runs: int = 20_000, seed: str = "suite") -> str:
    """What the search finds in a driver that was broken."""
    return "".join(what for _, what in outcome_of(name, runs, seed).findings)


def test_a_checksum_that_is_not_looked_at_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telegram, "_check_sum", lambda frame: None)
    assert "damage was believed" in found("telegram")


def test_a_value_that_is_misread_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    value = telegram._value
    monkeypatch.setattr(telegram, "_value", lambda field, *rest: value(field.replace(b"-", b" "), *rest))
    assert "a frame was misread" in found("telegram")


def test_a_good_frame_that_is_refused_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telegram, "_ORDER", {**telegram._ORDER, ChannelId.D2: 0})
    assert "a good frame was refused" in found("telegram")


def test_bytes_that_a_splitter_loses_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = telegram.FrameSplitter._cut
    monkeypatch.setattr(telegram.FrameSplitter, "_cut", lambda self, size: [item[1:] for item in cut(self, size)])
    assert "bytes were lost" in found("splitter")


def test_a_buffer_that_grows_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telegram.FrameSplitter, "_overflow", lambda self: 0)
    assert "the buffer grows" in found("splitter", 2000)


def test_a_change_that_is_not_confirmed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servomex.continuous.sources.SourceGuard.refusal", lambda self, item: "")
    assert "a change was not confirmed" in found("reader", 4000)


def test_frames_that_are_refused_long_after_two_analysers_sent_in_turn_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("servomex.continuous.sources.QUIET_FRAMES", 1000)
    assert "a good frame was lost" in found("reader", 4000)


def test_a_crc_that_is_not_looked_at_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FramerRTU, "check_CRC", classmethod(lambda cls, data, check: True))
    monkeypatch.setattr(messages, "crc16", lambda data: 0)
    assert re.search(
        "a reply was (believed that never came|misread)|an exception was made up", found("exchange", 4000)
    )


def test_a_message_that_is_decoded_in_the_place_of_a_damaged_reply_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The size and count of a damaged reply, and the values of the message behind it."""
    receive = LinkClient.receive

    def behind(self: LinkClient) -> ModbusPDU:
        receive(self)
        return decode([*messages.messages_in(bytes(self.received), self.ascii)][-1].body)

    data = bytes.fromhex("2a0514 010101050401 01010203e8b942")
    assert TARGETS["exchange"].run(data) is False
    monkeypatch.setattr("servomex.modbus.framing.body_of", lambda raw, ascii_framing: raw[:-2])
    monkeypatch.setattr(LinkClient, "receive", behind)
    with pytest.raises(WrongError, match="never came"):
        TARGETS["exchange"].run(data)


def test_a_late_reply_that_is_believed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the silence before a request, the fence after a failure, and a look at what came beside a reply."""
    monkeypatch.setattr(SerialLink, "settle", lambda self, silence_s, deadline: (b"", True))
    monkeypatch.setattr(exchange.Exchange, "_ready_for", lambda self, query, call: True)
    monkeypatch.setattr(ledger.Ledger, "weigh", lambda self, messages, pending: False)
    assert "of another request or channel" in found("sweep", 500, "4")


def test_an_old_sweep_that_is_given_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    read, kept = modbus.ModbusClient.read_frame, dict[Any, Frame]()

    def cached(self: modbus.ModbusClient, deadline: float) -> Frame:
        frame = read(self, deadline)
        return kept.setdefault(self, frame)

    monkeypatch.setattr(modbus.ModbusClient, "read_frame", cached)
    assert "of another request or channel" in found("sweep", 300)


def test_the_oracle_reads_a_real_frame_and_no_other() -> None:
    true = oracle.broadcast(WIRE)
    assert true is not None
    assert [(item.id, item.name, item.value, item.unit) for item in true.channels] == [
        ("I1", b"Oxygen", 20.376, b" % "), ("I2", b"CO    ", 0.084, b" % "), ("I3", b"CO2   ", 0.25, b" % "),
        ("E1", b"||||||", 0.0, b" mA"), ("E2", b"||||||", 0.0, b" mA"),
    ]  # fmt: skip
    assert (true.clock, true.groups, true.fault) == (b"06-10-20;02:54:12", "S1S1S1S1", False)
    for old, new in ((b"20.376", b"2..376"), (b";I2;", b";I1;"), (b"S1S1", b"S1S3"), (b";05;", b";04;")):
        assert oracle.broadcast(resealed(REAL.replace(old, new))) is None
    assert oracle.broadcast(REAL.replace(b"20.376", b"20.367")) == oracle.broadcast(
        REAL.replace(b"20.376", b"20.367")
    )
    assert oracle.broadcast(REAL[:-1]) is None


def test_the_oracle_checks_messages_of_the_specification() -> None:
    reply = bytes.fromhex("010201 00 A188".replace(" ", ""))
    assert oracle.rtu_frame(reply[:-2]) == reply
    assert oracle.answers(b"\0" + reply + b"\0", bytes.fromhex("010203E80002"), False) == [b"\0"]
    assert oracle.answers(reply[:-1] + b"\0", bytes.fromhex("010203E80002"), False) == []
    assert oracle.ascii_frame(bytes.fromhex("010203E80002")) == b":010203E8000210\r\n"
    assert oracle.refusals(b":01820279\r\n:0182027B\r\n", bytes.fromhex("010203E80002"), True) == [2]


def test_what_the_formats_let_through_is_as_calculated() -> None:
    found = limits.all_limits(4_000, seed=3)
    assert [item for item in found if not item.consistent] == []
    by_damage = {(item.check, item.damage): item.calculated for item in found}
    assert by_damage["Modbus RTU", "3 random bits"] == 0.0
    assert by_damage["continuous, its sum alone", "1 random byte"] == 0.0
    assert by_damage["Modbus ASCII", "1 random digit"] == 0.0
    assert by_damage["continuous, sum and format", "2 random bytes"] < 0.2 * by_damage[
        "continuous, its sum alone", "2 random bytes"
    ]  # fmt: skip
    assert "Modbus RTU" in limit_table(found)
