"""``servomex diag tap`` and ``echo``: what passes on a line, and what comes back from an adapter."""

import json
import re
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from servomex.cli.diag import listen
from servomex.enums import ProtocolKind
from servomex.port import connect as ports
from servomex.port.link import SerialLink
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.testing import ScriptedPort
from tests.helpers.commands import finish, start
from tests.helpers.decoded import BROADCAST, OXYGEN
from tests.helpers.diagnosing import CONTINUOUS, RTU, found, run
from tests.helpers.frames import WIRE
from tests.helpers.modbus_bytes import ascii_, rtu
from tests.helpers.platforms import needs_signals

pytestmark = pytest.mark.virtual_time


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the silences that are waited for: what comes on a virtual line comes at once."""
    monkeypatch.setattr(listen, "ECHO_GAP_S", 0.01)
    monkeypatch.setattr(listen, "ECHO_SILENCE_S", 0.05)
    monkeypatch.setattr(ports, "READ_TICK_S", 0.01)


def line_with(traffic: bytes) -> VirtualLine:
    """Return a line on which these bytes pass again and again, with a silence after them."""

    class Passer(VirtualAnalyzer):
        def broadcast(self) -> bytes:
            return traffic

    return VirtualLine(Passer(mode="continuous", period=0.06))


class TestTap:
    def test_messages_are_shown_as_they_pass_and_nothing_is_sent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        traffic = rtu("01 04 0000 0007") + rtu(OXYGEN) + ascii_("02 08 0000 0102") + b"\xff\xfe" + WIRE
        line = line_with(traffic)
        monkeypatch.setattr(line, "write", pytest.fail)
        stdout, stderr = run("tap", line.url, "--duration", "150ms")
        texts = stdout.splitlines()
        assert [text[24:] for text in texts[:5]] == [
            "request: address 1, FC04 read input registers 30001 to 30007",
            "reply: address 1, FC04, 14 bytes: I1 Oxygen 20.376 %",
            "request: address 2, FC08 loopback of 01 02",
            "2 bytes in no known format",
            BROADCAST,
        ]
        for text in texts:
            moment = datetime.fromisoformat(text[:23]).replace(tzinfo=UTC)
            assert abs(datetime.now(UTC) - moment) < timedelta(seconds=10)
        assert sum(map(int, re.findall(r"(\d+) [AbnR]", stderr))) == len(texts)
        kinds = r"\d ASCII messages?, \d broadcasts?, \d noise bursts?, \d\d? RTU messages"
        assert re.fullmatch(rf"heard {kinds} in \d\.\d s\n", stderr)

    def test_bytes_and_objects_on_request(self) -> None:
        line = line_with(rtu("01 84 02"))
        stdout, stderr = run("tap", line.url, "--duration", "100ms", "--hex", "-q")
        shown = "exception 02 (address out of range): address 1, FC04  [01 84 02 c2 c1]"
        assert {text[24:] for text in stdout.splitlines()} == {shown}
        assert stderr == ""
        record = json.loads(run("tap", line.url, "--duration", "100ms", "--format", "json")[0].splitlines()[0])
        assert datetime.fromisoformat(record.pop("received_at")).utcoffset() == timedelta(0)
        assert record == {
            "kind": "rtu", "raw": "018402c2c1", "address": 1, "function": 4,
            "text": "exception 02 (address out of range): address 1, FC04",
        }  # fmt: skip

    def test_silence_ends_a_message_that_is_not_complete(self) -> None:
        port, half = ScriptedPort(), rtu(OXYGEN)[:9]
        with SerialLink(port) as link:
            port.feed(half)
            passing = listen.messages(link)
            _, message = next(passing)
            assert (message.kind, message.raw) == ("noise", half)
            port.feed(rtu(OXYGEN))
            assert next(passing)[1].raw == rtu(OXYGEN)

    def test_a_message_is_given_as_soon_as_it_is_complete(self) -> None:
        port = ScriptedPort()
        with SerialLink(port) as link:
            passing = listen.messages(link)
            for _ in range(3):
                port.feed(WIRE)
                arrived_at, message = next(passing)
                assert message.raw == WIRE
                assert datetime.now(UTC) - arrived_at < timedelta(seconds=1)

    def test_the_end_flushes_what_is_half_heard(self) -> None:
        until = time.monotonic() + 0.02

        def read(_deadline: float) -> bytes:
            time.sleep(max(0.0, until - time.monotonic()))
            return b"\x01\x04"

        link: Any = SimpleNamespace(read=read)
        assert [message.raw for _, message in listen.messages(link, until)] == [b"\x01\x04"]

    @pytest.mark.parametrize("number", [1, 3])
    def test_a_count_ends_it(self, number: int) -> None:
        stdout, stderr = run("tap", CONTINUOUS, "--count", str(number), "--format", "json")
        assert [json.loads(line)["kind"] for line in stdout.splitlines()] == ["broadcast"] * number
        assert re.fullmatch(rf"heard {number} broadcasts? in \d\.\d s\n", stderr)

    def test_what_comes_first_ends_it(self) -> None:
        assert run("tap", CONTINUOUS, "--count", "1000000", "--duration", "300ms")[0].count("\n") < 10

    def test_nothing_heard_is_said(self) -> None:
        stdout, stderr = run("tap", "sim://4100", "--duration", "100ms")
        assert stdout == ""
        assert re.fullmatch(r"heard nothing in 0\.\d s\n", stderr)

    def test_a_lost_port_ends_it_and_what_was_heard_is_shown(self) -> None:
        stdout, stderr = run("tap", f"{CONTINUOUS}&fault=unplug:0.3", code=3)
        assert stdout.count("\n") == stdout.count(f" {BROADCAST}\n") > 1
        heard, error = stderr.splitlines()
        assert heard.startswith("heard ")
        assert error.startswith("Error: the port was lost")

    @needs_signals
    @pytest.mark.real_time
    def test_ctrl_c_ends_it(self) -> None:
        child = start("diag", "tap", CONTINUOUS, main="main")
        assert child.stdout is not None
        for _ in range(3):
            assert child.stdout.readline().endswith(f" {BROADCAST}\n".encode())
        child.send_signal(signal.SIGINT)
        code, _, stderr = finish(child)
        assert code == 130
        assert re.fullmatch(r"heard \d+ broadcasts in \d+\.\d s\n", stderr)


ASKED = rtu("01 02 03E8 0002")
ANSWER = rtu("01 02 01 00")


class TestEcho:
    def test_the_request_is_the_one_of_the_specification(self) -> None:
        assert listen.read_request(1, ProtocolKind.MODBUS_RTU) == ASKED
        assert listen.read_request(1, ProtocolKind.MODBUS_ASCII) == b":010203E8000210\r\n"
        assert listen.read_request(247, ProtocolKind.MODBUS_RTU) == rtu("F7 02 03E8 0002")

    def test_what_came_back_decides(self) -> None:
        for received, verdict, answered, words in (
            (ASKED + ANSWER, "echoes", True, "strips the echo automatically: no action is needed"),
            (ASKED, "echoes", False, "no analyser was heard after the echo: check that the analyser is on"),
            (b"\xff" + ASKED + ANSWER, "echoes", True, "no action is needed"),
            (ASKED + ANSWER[:4], "echoes", False, "no analyser"),
            (ANSWER, "does not echo", True, "no action is needed"),
            (rtu("01 82 02"), "does not echo", True, "no action is needed"),
            (WIRE, "does not echo", True, "no action is needed"),
            (b"", "cannot tell", False, "nothing came back"),
            (ASKED[:-1], "cannot tell", False, "7 bytes arrived that are neither the request nor a message"),
            (b"\x5a\x13", "cannot tell", False, "check the baud rate"),
        ):
            echo = listen.judge(ASKED, received)
            assert (echo.verdict, echo.answered, echo.sent, echo.received) == (verdict, answered, ASKED, received)
            assert words in echo.advice

    @pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii"])
    @pytest.mark.parametrize(("fault", "verdict"), [("echo", "echoes"), ("gap:0", "does not echo")])
    def test_with_an_analyser_in_either_framing(self, mode: str, fault: str, verdict: str) -> None:
        record = found("echo", f"sim://4100?mode={mode}&fault={fault}", "--timeout", "0.1")
        assert (record["verdict"], record["answered"]) == (verdict, True)

    def test_without_an_analyser(self) -> None:
        stdout, stderr = run("echo", "sim://4100?fault=echo,silent", *RTU)
        assert stdout.startswith("sim://4100?fault=echo,silent: echoes: ")
        assert (stdout.count("\n"), stderr) == (1, "")

    def test_nothing_that_comes_back_is_no_answer(self) -> None:
        stdout, stderr = run("echo", "sim://4100?fault=silent", "--timeout", "0.1", code=4)
        assert "cannot tell: nothing came back" in stdout
        assert stderr == ""

    def test_beside_broadcasts_that_leave_no_silence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listen, "LONGEST_ECHO_S", 0.2)
        record = found("echo", f"{CONTINUOUS}&fault=echo", "--timeout", "0.1", "--protocol", "modbus_rtu")
        assert (record["verdict"], record["answered"]) == ("echoes", True)

    def test_a_named_mode_is_asked_in_that_framing_alone(self, line: VirtualLine) -> None:
        run("echo", line.url, "--protocol", "modbus_ascii", "--timeout", "0.1", code=4)
        assert line.heard == []


def test_the_trace_has_what_was_sent_and_heard(line: VirtualLine, tmp_path: Path) -> None:
    run("echo", line.url, "--trace", str(tmp_path / "trace"))
    _, opened, sent, *came, closed = (tmp_path / "trace").read_text().splitlines()
    assert (opened.split(" ", 2)[2], closed.split(" ", 2)[2]) == ("! opened", "! closed")
    assert sent.endswith(f" > {ASKED.hex(' ')}")
    assert came
