"""What a line that is set up otherwise shows: parity bits, Modbus TCP at the far end, exceptions of gateways."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from servomex import (
    ServomexError,
    ServomexFrameError,
    ServomexGatewayError,
    ServomexModbusError,
    ServomexTimeoutError,
    discover_port,
    open_device,
)
from servomex.analyzer import detect
from servomex.port import connect as ports
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.traffic.symptoms import is_modbus_tcp, modbus_tcp_probe, symptom_of
from tests.helpers.examining import PATIENT, SHORT, check_problem, examine_quickly, page, page_of
from tests.helpers.modbus_bytes import ascii_, rtu

Answer = Callable[[bytes], bytes]
Serve = Callable[[Answer], str]
SEVEN = "Use the same settings here, or set it to 8 data bits and no parity on its panel"


def said(data: bytes) -> str:
    """What bytes show, and the cure; empty for nothing."""
    symptom = symptom_of(data)
    return f"{symptom.seen}. {symptom.cure}" if symptom else ""


def with_parity(data: bytes, ones: int) -> bytes:
    """Text as it is sent with 7 data bits and a parity bit, received with 8: ``ones`` is 0 for even, 1 for odd."""
    return bytes(byte | 0x80 * (byte.bit_count() % 2 != ones) for byte in data)


@pytest.mark.parametrize(("parity", "ones"), [("even", 0), ("odd", 1)])
@pytest.mark.parametrize("text", [b":010201007C\r\n", b" 01-02-26;12:30:45;  ;S1S1S1S1;05;I1;Oxygen"])
def test_seven_data_bits_show_in_text(parity: str, ones: int, text: bytes) -> None:
    assert said(with_parity(text, ones)) == (
        f"text arrived whose highest bit makes the parity of each byte {parity}: the analyser sends 7 data bits "
        f"and {parity} parity. {SEVEN}"
    )


def test_seven_data_bits_byte_by_byte() -> None:
    """`:0102010` with even parity: 3A and 30 have an even number of ones, B1 and B2 need the highest bit."""
    assert "even" in said(bytes.fromhex("3A 30 B1 30 B2 30 B1 30 30"))
    assert "odd" in said(bytes.fromhex("BA B0 31 B0 32 B0 31 B0 B0"))


@pytest.mark.parametrize(
    ("parity", "seen"),
    [("even", "01 02 01 00 A1 00"), ("odd", "00 00 00 00 60 48"), ("even", "00 01 02 01 00 A1 00 01 02")],
)
def test_a_parity_bit_too_many_shows_in_the_answer_to_the_probe(parity: str, seen: str) -> None:
    """`01 02 01 00 A1 88`: what has a parity bit of 0, which is taken for the stop bit, is handed out as 0."""
    expected = f"the analyser sends 8 data bits and {parity} parity" if parity == "even" else ""
    assert expected in said(bytes.fromhex(seen))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 40,
        b":010201007C\r\n",
        rtu("01 02 01 00"),
        rtu("01 04 04 41 A3 02 0C"),
        rtu("01 08 00 00 12 34"),
        ascii_("01 04 04 41 A3 02 0C"),
        bytes.fromhex("3A 30 B1 30 B2 30"),
        bytes.fromhex("3A 30 B1 30 B2 B0 B1 30 30"),
        bytes(range(256)),
    ],
)
def test_other_bytes_show_nothing(data: bytes) -> None:
    assert symptom_of(data) is None


class TestModbusTcp:
    @pytest.mark.parametrize(
        "data",
        [
            "0104 0000 0003 71 F8 04",
            "5358 0000 0004 01 02 01 00",
            "0102 0000 0003 01 82 02 0102 0000 0003 01 82 02",
        ],
    )
    def test_whole_messages_are_recognised(self, data: str) -> None:
        assert is_modbus_tcp(bytes.fromhex(data))
        assert said(bytes.fromhex(data)).startswith("the server at the far end speaks Modbus TCP")

    @pytest.mark.parametrize(
        "data",
        [
            "",
            "0104 0000 0003 71 F8",
            "0104 0001 0003 71 F8 04",
            "0104 0000 0002 01 02",
            "0000 0000 0000",
            "0104 00",
        ],
    )
    def test_anything_else_is_not(self, data: str) -> None:
        assert not is_modbus_tcp(bytes.fromhex(data))

    def test_the_question_is_a_read_of_two_inputs(self) -> None:
        assert modbus_tcp_probe(7) == bytes.fromhex("53 58 00 00 00 06 07 02 03 E8 00 02")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Start TCP servers that answer each piece that comes; one whose answer is empty says nothing."""
    monkeypatch.setattr(ports, "PROMPT_WRITE_S", 10.0)  # in which a busy computer may not run at all
    monkeypatch.setattr(detect, "MODBUS_TCP_S", 10.0)
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []
    ending = threading.Event()

    def talk(connection: socket.socket, answer: Answer) -> None:
        with connection:
            connection.settimeout(0.05)
            while not ending.is_set():
                try:
                    data = connection.recv(256)
                except TimeoutError:
                    continue
                except OSError:
                    return
                if not data:
                    return
                connection.sendall(answer(data))

    def accept(listener: socket.socket, answer: Answer) -> None:
        while not ending.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            begin(talk, connection, answer)

    def begin(work: Callable[..., None], *arguments: Any) -> None:
        threads.append(threading.Thread(target=work, args=arguments))
        threads[-1].start()

    def start(answer: Answer) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0.05)
        listeners.append(listener)
        begin(accept, listener, answer)
        return f"socket://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    ending.set()
    while threads:
        threads.pop().join()
    for listener in listeners:
        listener.close()


def modbus_tcp(data: bytes) -> bytes:
    """A strict Modbus TCP server: what is not for protocol 0 is dropped."""
    if data[2:4] != b"\0\0" or len(data) != 6 + int.from_bytes(data[4:6], "big"):
        return b""
    return data[:4] + b"\0\4" + data[6:8] + b"\1\0"


def lenient_modbus_tcp(data: bytes) -> bytes:
    """One that takes whatever comes for a request, and refuses it."""
    return data[:2] + b"\0\0\0\3" + data[6:8] + b"\4"


@pytest.mark.parametrize("protocol", ["auto", "modbus_rtu", "modbus_ascii"])
def test_opening_recognises_a_modbus_tcp_server(serve: Serve, protocol: str) -> None:
    with pytest.raises(ServomexTimeoutError, match=r"he server at the far end speaks Modbus TCP.*Set it"):
        open_device(serve(modbus_tcp), protocol=protocol, listen=0.5, timeout=0.5, retries=0)


def test_modbus_errors_recognise_its_replies(serve: Serve) -> None:
    url = serve(lenient_modbus_tcp)
    with (
        open_device(url, protocol="modbus_rtu", identify=False, timeout=3, retries=0) as analyzer,
        pytest.raises(ServomexFrameError, match="speaks Modbus TCP"),
    ):
        analyzer.poll()


@pytest.mark.parametrize("server", [modbus_tcp, lenient_modbus_tcp])
def test_the_doctor_recognises_it(serve: Serve, server: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    examine_quickly(monkeypatch)
    found = page_of(serve(server), *SHORT)
    verdict, seen, cure = found["mode"]
    assert verdict == "PROBLEM"
    assert "the server at the far end speaks Modbus TCP" in seen.replace("The server", "the server")
    assert cure.startswith("Set it to RTU over TCP")


def gateway(code: int) -> Answer:
    """A gateway that has no answer of an analyser."""
    return lambda data: rtu(f"{data[0]:02X} {data[1] | 0x80:02X} {code:02X}") if data[:1] != b":" else b""


MEANINGS = {
    0x04: (ServomexModbusError, "it failed while processing the request. Look at the messages on its panel"),
    0x05: (ServomexModbusError, "it needs more time. Try again"),
    0x06: (ServomexModbusError, "it is busy with another request. Try again"),
    0x0A: (ServomexGatewayError, "it has no path to the serial line. Check the ports"),
    0x0B: (ServomexGatewayError, "the analyser did not respond to it. Check that the analyser is on"),
    0x0C: (ServomexModbusError, "neither the manual nor the Modbus specification lists this code"),
}


@pytest.mark.parametrize("code", MEANINGS)
def test_exceptions_say_what_they_mean(serve: Serve, code: int) -> None:
    kind, words = MEANINGS[code]
    with pytest.raises(ServomexModbusError) as caught:
        open_device(serve(gateway(code)), protocol="modbus_rtu", timeout=2)
    assert type(caught.value) is kind
    assert f"exception {code:02X}: {words}" in caught.value.text


@pytest.mark.parametrize("code", [0x0A, 0x0B])
def test_a_gateway_without_an_analyser_is_not_taken_for_one(serve: Serve, code: int) -> None:
    words = f"a gateway answered in place of the analyser with exception {code:02X}: "
    url = serve(gateway(code))
    with pytest.raises(ServomexTimeoutError, match="no analyser found") as caught:
        open_device(url, listen=0.6)
    assert words in caught.value.text
    (result,) = discover_port(url, addresses=[1, 2, 3], listen=0.1)
    assert (result.ok, result.address) == (False, None)
    assert type(result.error) is ServomexTimeoutError
    assert words in result.error.text


@pytest.mark.parametrize("code", [0x0A, 0x0B])
def test_the_doctor_explains_a_gateway_s_exception(
    serve: Serve, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    examine_quickly(monkeypatch)
    verdict, seen, cure = page_of(serve(gateway(code)), *SHORT)["mode"]
    assert verdict == "PROBLEM"
    assert f"a gateway answered in place of the analyser with exception {code:02X}" in seen
    assert cure.startswith("Check ")


class SevenBits(VirtualLine):
    """A line whose analyser sends 7 data bits and a parity bit, to a reader with 8."""

    ones = 0

    def take(self, size: int) -> bytes:
        return with_parity(super().take(size), self.ones)


class OddSevenBits(SevenBits):
    ones = 1


@pytest.mark.virtual_time
@pytest.mark.parametrize("kind", [SevenBits, OddSevenBits])
@pytest.mark.parametrize("mode", ["modbus_ascii", "continuous"])
def test_seven_data_bits_are_recognised_by_all(
    kind: type[SevenBits], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    examine_quickly(monkeypatch)
    parity = "odd" if kind.ones else "even"
    words = f"the analyser sends 7 data bits and {parity} parity"
    line = kind(VirtualAnalyzer(mode=mode, period=0.05))
    with pytest.raises(ServomexError, match=words):
        open_device(line.url, listen=0.6)
    (result,) = discover_port(line.url, listen=0.3)
    assert words in str(result.error)
    found = page(line, *PATIENT)
    check_problem(found, "mode", f".*{words}.*", SEVEN)
    assert "Switch one of them off" not in str(found.record)


def test_modbus_ascii_with_seven_data_bits_is_no_second_device() -> None:
    line = SevenBits(VirtualAnalyzer(mode="modbus_ascii"))
    with pytest.raises(ServomexFrameError, match="7 data bits and even parity"):
        open_device(line.url, protocol="modbus_ascii", timeout=2)
