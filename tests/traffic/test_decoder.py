"""Traffic on a line cut into messages and noise, and put into words: literal bytes, and whatever else may come."""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from servomex.telegram import format_frame, parse_frame
from servomex.traffic.decoder import MAX_NOISE, Message, TrafficDecoder
from servomex.traffic.messages import crc16
from tests.helpers.decoded import BROADCAST, IN_WORDS, OXYGEN
from tests.helpers.frames import GOOD_10, REAL, WIRE, block, chunks, external, make
from tests.helpers.modbus_bytes import Framing, ascii_, crc, rtu
from tests.helpers.paths import CAPTURE

# Ten blocks of a value, a name and a unit, as the bench unit holds them; I4 to D4 are not populated.
ALL_BLOCKS = (
    "01 04 8C 41A3020C 4F787967656E 25000000 3DAC0831 434F20202020 25000000 3E800000 434F82202020 25000000"
    + " 00000000 202020202020 00000000" * 5
    + " 00000000 202020202020 6D410000" * 2
)
KINDS: dict[Framing, str] = {rtu: "rtu", ascii_: "ascii"}
FRAMINGS = pytest.mark.parametrize("framed", [rtu, ascii_], ids=["rtu", "ascii"])


def heard(data: bytes, size: int | None = None) -> list[Message]:
    """Decode what passes on a line before it falls silent, in chunks of one size or whole."""
    decoder = TrafficDecoder()
    found = [message for chunk in chunks(data, size or len(data) or 1) for message in decoder.feed(chunk)]
    found += decoder.flush()
    assert decoder.pending == 0
    return found


def texts(data: bytes, size: int | None = None) -> list[str]:
    return [message.text for message in heard(data, size)]


def kinds(data: bytes) -> list[tuple[str, bytes]]:
    return [(message.kind, message.raw) for message in heard(data)]


REQUESTS = {
    "01 04 0000 0046": "FC04 read input registers 30001 to 30070",
    "01 04 0038 0001": "FC04 read input register 30057",
    "01 02 0000 0050": "FC02 read discrete inputs 10001 to 10080",
    "01 02 03E8 0010": "FC02 read discrete inputs 11001 to 11016",
    "01 01 0000 0009": "FC01 read coils 00001 to 00009",
    "01 04 0007 0000": "FC04 read no input register from 30008 on",
    "01 05 0000 FF00": "FC05 start autocalibration of group 1: coil 00001 := 1",
    "01 05 0003 FF00": "FC05 start autocalibration of group 4: coil 00004 := 1",
    "01 05 0003 0000": "FC05 reset the start of group 4: coil 00004 := 0",
    "01 05 0008 FF00": "FC05 stop all autocalibrations: coil 00009 := 1",
    "01 05 0008 0000": "FC05 reset the stop: coil 00009 := 0",
    "01 05 0005 FF00": "FC05 write: coil 00006 := 1",
    "01 05 0000 1234": "FC05 write: coil 00001 := 1234, which is not a valid coil value",
    "01 08 0000 A537": "FC08 loopback of a5 37",
    "01 08 0003 3A00": "FC08 diagnostics 3, 3a 00",
    "01 0F 0000 0004 01 05": "FC15 start autocalibration of group 1, start autocalibration of group 3: "
    "coils 00001 to 00004 := 1 0 1 0",
    "01 0F 0000 0009 02 0001": "FC15 stop all autocalibrations: coils 00001 to 00009 := 0 0 0 0 0 0 0 0 1",
    "01 0F 0001 0001 01 00": "FC15 write: coil 00002 := 0",
}


@FRAMINGS
def test_a_request_is_reported_by_the_numbers_of_the_maker(framed: Framing) -> None:
    for body, words in REQUESTS.items():
        [message] = heard(framed(body))
        assert message.text == f"request: address 1, {words}"
        assert (message.kind, message.raw, message.address) == (KINDS[framed], framed(body), 1)
        assert message.function == int(body[3:5], 16)


DIALOGUES = {
    "all registers": ("01 04 0000 0046", ALL_BLOCKS, "FC04, 140 bytes: " + IN_WORDS.format("₂")),
    "one channel": ("01 04 0000 0007", OXYGEN, "FC04, 14 bytes: I1 Oxygen 20.376 %"),
    "a value without its name": ("01 04 0000 0002", "01 04 04 41A3020C", "FC04, 4 bytes: I1 20.376"),
    "no value": ("01 04 0007 0002", "01 04 04 7FC00000", "FC04, 4 bytes: I2 no value"),
    "half a value": ("01 04 0000 0001", "01 04 02 41A3", "FC04, 2 bytes"),
    "registers that nobody knows": ("01 04 1000 0002", "01 04 04 41A3020C", "FC04, 4 bytes"),
    "no states": ("01 02 0000 0050", "01 02 0A" + "00" * 10, "FC02, 10 bytes: nothing raised"),
    "states": (
        "01 02 0000 0050",
        "01 02 0A 10 03 00 00 00 00 00 00 0F 00",
        "FC02, 10 bytes: I1 alarm 1, I2 fault and maintenance, E1 fault",
    ),
    "the analyser": (
        "01 02 03E8 0010",
        "01 02 02 03 0D",
        "FC02, 2 bytes: analyser fault, analyser maintenance required, group 1 on calibration gas 1, "
        "group 2 on calibration gas 2",
    ),
    "two flags": ("01 02 03E8 0002", "01 02 01 00", "FC02, 1 byte: nothing raised"),
    "half a state": ("01 02 0000 0004", "01 02 01 0F", "FC02, 1 byte"),
    "coils": ("01 01 0000 0009", "01 01 02 0101", "FC01, 2 bytes: coils 00001 to 00009: 1 0 0 0 0 0 0 0 1"),
    "a write": ("01 05 0000 FF00", "01 05 0000 FF00", "FC05, the write was received"),
    "several writes": ("01 0F 0000 0004 01 05", "01 0F 0000 0004", "FC15, the write was received"),
    "a loopback": ("01 08 0000 A537", "01 08 0000 A537", "FC08, loopback of a5 37"),
    "a reply of another size": ("01 04 0000 0007", "01 04 02 41A3", "FC04, 2 bytes"),
    "three bytes of states": ("01 02 0008 0018", "01 02 03 01 00 10", "FC02, 3 bytes: I2 fault, I4 alarm 1"),
}


@FRAMINGS
def test_a_reply_is_read_in_the_light_of_its_request(framed: Framing) -> None:
    for name, (asked, body, words) in DIALOGUES.items():
        request, reply = heard(framed(asked) + framed(body))
        assert request.text.startswith("request: address 1, "), name
        assert reply.text == f"reply: address 1, {words}", name
        assert (reply.address, reply.function) == (1, int(body[3:5], 16)), name


@FRAMINGS
def test_a_reply_without_its_request_is_reported_by_its_size_alone(framed: Framing) -> None:
    asked = framed("01 04 0000 0007")
    told = "reply: address 1, FC04, 14 bytes"
    assert texts(framed(OXYGEN)) == [told]
    assert texts(asked + framed(OXYGEN) * 2)[1:] == [f"{told}: I1 Oxygen 20.376 %", told]
    assert texts(framed("02 04 0000 0007") + framed(OXYGEN))[1:] == [told]
    assert texts(framed("01 02 0000 0007") + framed(OXYGEN))[1:] == [told]


@FRAMINGS
def test_the_last_request_counts_and_other_addresses_do_not(framed: Framing) -> None:
    asked = ("01 04 0007 0007", "01 04 0000 0007", "02 04 0007 0007")
    assert texts(b"".join(map(framed, (*asked, OXYGEN))))[-1].endswith(": I1 Oxygen 20.376 %")


@FRAMINGS
def test_an_exception_says_what_was_refused(framed: Framing) -> None:
    for body, reason in (
        ("01 84 02", "02 (address out of range): address 1, FC04"),
        ("07 81 01", "01 (function not supported): address 7, FC01"),
        ("01 8F 03", "03 (invalid data): address 1, FC15"),
        ("01 85 0B", "0B (gateway target did not respond): address 1, FC05"),
        (
            "01 85 0C",
            "0C (a code that neither the manual nor the Modbus specification lists): address 1, FC05",
        ),
    ):
        [message] = heard(framed(body))
        assert message.text == f"exception {reason}"
        assert message.function == int(body[3:5], 16) & 0x7F


@FRAMINGS
def test_an_exception_answers_the_request(framed: Framing) -> None:
    assert texts(b"".join(map(framed, ("01 04 0000 0007", "01 84 02", OXYGEN))))[-1].endswith("FC04, 14 bytes")


@FRAMINGS
def test_a_write_that_is_repeated_is_a_request_again(framed: Framing) -> None:
    begins = [text.partition(":")[0] for text in texts(framed("01 05 0000 FF00") * 4)]
    assert begins == ["request", "reply"] * 2


@FRAMINGS
def test_a_read_of_the_analyser_is_no_reply_of_three_bytes(framed: Framing) -> None:
    # 03 of the address 03E8 could be the byte count of a reply with E8 00 10.
    asked = framed("01 02 03E8 0010")
    assert texts(asked * 2) == ["request: address 1, FC02 read discrete inputs 11001 to 11016"] * 2


def test_an_ascii_message_of_another_form_is_a_message_all_the_same() -> None:
    for body in ("01 03 0000 0001", "01 04 00", "01 84 02 00", "FF 04 0000 0007 00", "01 0F 0000"):
        [message] = heard(ascii_(body))
        assert message.kind == "ascii"
        assert message.text.startswith(f"message of an unknown form: address {int(body[:2], 16)}, FC")


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r", b""])
def test_a_broadcast_is_one_message_with_its_line_end(end: bytes) -> None:
    found = heard((REAL + end) * 3, 7)
    assert [(item.kind, item.raw, item.text) for item in found] == [("broadcast", REAL + end, BROADCAST)] * 3
    assert (found[0].address, found[0].function) == (None, None)


@pytest.mark.parametrize("frame", [WIRE, GOOD_10 + b"\r\n"])
def test_a_broadcast_may_come_byte_by_byte(frame: bytes) -> None:
    assert [message.raw for message in heard(frame * 2, 1)] == [frame] * 2


def test_a_reply_whose_begin_looks_like_a_whole_request_is_the_reply_that_is_awaited() -> None:
    begin = bytes.fromhex("01 04 08 41 A3 02")
    reply = begin + crc(begin) + b"\0\0\0"
    reply += crc(reply)
    assert [message.raw for message in heard(rtu("01 04 0000 0004") + reply)][1:] == [reply]
    assert heard(reply)[0].raw == reply[:8]


def test_the_capture_is_six_broadcasts() -> None:
    data = CAPTURE.read_bytes()
    found = heard(data, 100)
    assert [message.kind for message in found] == ["broadcast"] * data.count(b"\n")
    assert b"".join(message.raw for message in found) == data


def test_a_broadcast_says_what_is_raised() -> None:
    frame = make(
        block(alarms=b"1 3 ", flags=b"F "),
        block(b"I2", b"CO    ", b"------", b"vpm", warm=b"W"),
        external(b"E1", flags=b"F "),
        external(b"E2"),
        flags=b" M",
        cal=b"C2S1S1C1",
    )
    assert texts(frame) == [
        "broadcast: I1 Oxygen 20.376 % (fault, alarm 1, alarm 3), I2 CO no value (warming up), "
        "E1 no value (fault), E2 0.0 mA, analyser maintenance required, group 1 on calibration gas 2, "
        "group 4 on calibration gas 1"
    ]


def test_a_broadcast_is_given_with_its_line_end_and_not_before() -> None:
    decoder = TrafficDecoder()
    given_at = [end for end in range(1, len(WIRE) + 1) if decoder.feed(WIRE[end - 1 : end])]
    assert given_at == [len(WIRE)]


@FRAMINGS
def test_a_message_is_given_with_its_last_byte_and_not_before(framed: Framing) -> None:
    for body in (*REQUESTS, "01 04 0000 0007", OXYGEN, "01 84 02"):
        decoder, message = TrafficDecoder(), framed(body)
        given_at = [end for end in range(1, len(message) + 1) if decoder.feed(message[end - 1 : end])]
        assert given_at == [len(message)], body


@pytest.mark.parametrize(
    "message", [rtu("01 02 03E8 0010"), rtu(OXYGEN), rtu("01 84 02"), ascii_("01 02 03E8 0010"), WIRE, GOOD_10]
)
def test_a_message_is_found_again_in_the_middle_of_noise(message: bytes) -> None:
    for noise in (b"\x00", b"\xff" * 7, b"\x01\x04", b"\x01", b" ", b":", b"\x01\x02\xf0", b"Ox; ;"):
        before, found, behind = kinds(noise + message + noise)
        assert (before, behind) == (("noise", noise), ("noise", noise))
        assert found[1] == message


def test_a_damaged_rtu_message_is_noise_and_the_next_one_is_found() -> None:
    good = rtu(OXYGEN)
    for place in range(len(good)):
        damaged = bytearray(good)
        damaged[place] ^= 0x20
        assert kinds(bytes(damaged) + good) == [("noise", damaged), ("rtu", good)]


def test_damage_is_reported_where_it_can_be() -> None:
    assert texts(REAL.replace(b"20.376", b"21.376")) == [
        f"{len(REAL)} bytes in no known format; in them a damaged broadcast: checksum 2A1D, its bytes sum to 2A1E"
    ]
    assert texts(REAL[:100]) == [
        "100 bytes in no known format; in them a damaged broadcast: 100 bytes instead of 204 for 5 channels"
    ]
    assert texts(ascii_("01 02 03E8 0010").replace(b"E8", b"E9")) == [
        "17 bytes in no known format; in them a damaged Modbus ASCII message"
    ]
    assert texts(b"\xfe") == ["1 byte in no known format"]


def test_a_broadcast_whose_sum_fits_and_whose_form_does_not_is_noise() -> None:
    [message] = heard(REAL.replace(b"20.376", b"2..378"))
    assert message.kind == "noise"
    assert message.text.endswith("in them a damaged broadcast: value '2..378' of I1 is not a number")


def test_a_frame_behind_one_that_claims_too_many_channels_is_found() -> None:
    claims = REAL.replace(b";05;", b";10;")
    assert kinds(claims + b"\r\n" + WIRE * 2) == [("noise", claims + b"\r\n"), *[("broadcast", WIRE)] * 2]


def test_addresses_that_cannot_be_are_noise_in_rtu() -> None:
    assert [message.kind for message in heard(rtu("F8 04 0000 0007"))] == ["noise"]
    assert [message.kind for message in heard(rtu("F7 04 0000 0007"))] == ["rtu"]
    assert [message.kind for message in heard(rtu("00 05 0000 FF00"))] == ["rtu"]


def test_names_from_the_line_can_break_out_of_no_text() -> None:
    name = "01 04 0E 41A3020C 0A1B5B324A85 25000000"
    hostile = make(block(name=b"\x80\x85\x9b\xff; "[:6].replace(b";", b",")), external(b"E1"), external(b"E2"))
    for data in (rtu("01 04 0000 0007") + rtu(name), hostile):
        for text in texts(data):
            assert text.isprintable()


def test_traffic_of_all_kinds_is_reported_in_its_order() -> None:
    line = [rtu("01 04 0000 0007"), rtu(OXYGEN), b"\x00", ascii_("02 08 0000 0102"), WIRE, rtu("01 84 02")]
    assert [message.raw for message in heard(b"".join(line))] == line


@given(st.binary(max_size=300))
def test_the_crc_is_that_of_the_specification(data: bytes) -> None:
    assert crc16(data).to_bytes(2, "little") == crc(data)
    assert crc16(data + crc(data)) == 0


GOOD = [WIRE, REAL, GOOD_10, *map(rtu, [*REQUESTS, OXYGEN, ALL_BLOCKS, "01 84 02"]), *map(ascii_, REQUESTS)]
PIECES = st.one_of(
    st.sampled_from(GOOD),
    st.sampled_from(GOOD).flatmap(lambda good: st.integers(0, len(good)).map(lambda end: good[:end])),
    st.binary(max_size=40),
    st.sampled_from([b"\r\n", b" ", b":", b"\x01\x04", b"\x01\x04\xfa", b"\x01\x0f\0\0\0\x01\xf6", b"\0" * 600]),
)
STREAMS = st.lists(PIECES, max_size=12).map(b"".join)


@settings(max_examples=200, deadline=None)
@given(STREAMS, st.lists(st.integers(0, 400), max_size=60))
@example(rtu("01 04 0000 0001") + rtu("01 04 02 0000"), [3])
@example(GOOD_10, [32])
def test_any_chunking_gives_the_same_messages_and_every_byte_once(data: bytes, sizes: list[int]) -> None:
    whole = heard(data)
    assert b"".join(message.raw for message in whole) == data
    assert all(message.raw for message in whole)
    decoder, found, start = TrafficDecoder(), [], 0
    for size in sizes:
        found += decoder.feed(data[start : start + size])
        start += size
        assert decoder.pending <= MAX_NOISE + 1024
    assert [*found, *decoder.feed(data[start:]), *decoder.flush()] == whole


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(GOOD), max_size=8))
def test_messages_that_follow_each_other_are_all_found(line: list[bytes]) -> None:
    found = heard(b"".join(line))
    assert not [message for message in found if message.kind == "noise"]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(GOOD), st.binary(max_size=60))
def test_noise_never_raises_and_silence_ends_it(before: bytes, message: bytes, behind: bytes) -> None:
    decoder = TrafficDecoder()
    decoder.feed(before)
    decoder.flush()
    found = [*decoder.feed(message), *decoder.flush()]
    assert [item.raw for item in found] == [message]
    decoder.feed(behind)
    decoder.flush()
    assert decoder.pending == 0


WORST = {
    "zeros": b"\0",
    "reads that claim the most bytes": b"\x04\x04\xfa",
    "writes that claim the most bytes": b"\x0f\x0f\x0f\x0f\x0f\x0f\xf6",
    "headers": b" 06-10-20;02:54:12;  ;S1S1S1S1;10;",
    "colons": b":",
    "hexadecimal digits without end": b":" + b"0" * 509,
    "spaces": b" ",
}


@pytest.mark.parametrize("piece", WORST.values(), ids=WORST)
def test_what_never_becomes_a_message_costs_little_time_and_memory(piece: bytes) -> None:
    decoder = TrafficDecoder()
    data = (piece * 20_000)[:20_000]
    begun, most, count = time.process_time(), 0, 0
    for chunk in chunks(data, 8):
        count += sum(len(message.raw) for message in decoder.feed(chunk))
        most = max(most, decoder.pending)
    assert time.process_time() - begun < 5.0
    assert most < MAX_NOISE + 1024
    assert count == len(data) - decoder.pending


def test_what_a_virtual_analyser_broadcasts_is_read_back() -> None:
    frame = parse_frame(GOOD_10)
    [message] = heard(format_frame(frame))
    assert message.kind == "broadcast"
    assert [text.split()[0] for text in message.text.removeprefix("broadcast: ").split(", ")] == list(
        frame.channels
    )
