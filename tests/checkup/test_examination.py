"""The checks of a line and an analyser: what is heard, what is lost, and the state of everything."""

import random
import re
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from servomex.analyzer.detect import BroadcastListener, Detection
from servomex.analyzer.opening import open_device
from servomex.checkup import examination as checkup
from servomex.checkup.examination import CHECKS, CheckRequest, examine
from servomex.checkup.findings import Finding, Verdict, problem
from servomex.enums import ProtocolKind
from servomex.errors import ServomexTimeoutError, ServomexValidationError
from servomex.modbus.client import ModbusClient
from servomex.modbus.exchange import Exchange
from servomex.models.frame import Frame
from servomex.port.link import SerialLink
from servomex.settings import SerialSettings
from servomex.simulator import Faults, VirtualAnalyzer, VirtualLine
from servomex.testing import ScriptedPort
from tests.helpers.examining import LISTEN_S, SHORT, SILENT, check_problem, examine_quickly, page
from tests.helpers.frames import WIRE
from tests.helpers.hook_port import HookPort, answering
from tests.helpers.modbus_bytes import rtu

pytestmark = pytest.mark.virtual_time


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less."""
    examine_quickly(monkeypatch)


class Noisy(VirtualAnalyzer):
    """Sends what fits nothing, again and again."""

    def broadcast(self) -> bytes:
        return random.Random(1).randbytes(7)


def test_noise_is_heard_before_anything_is_sent() -> None:
    found = page(VirtualLine(Noisy(mode="continuous", period=0.03)), *SHORT)
    verdict, seen, cure = found["line"]
    assert verdict == "WARNING"
    assert re.fullmatch(r"\d+ bytes arrived before anything was sent, and match no known format", seen)
    assert cure == "Check the baud rate, the other serial settings, the wiring and its termination"
    verdict, seen, cure = found["mode"]
    assert re.fullmatch(
        r"no analyser found in .*; \d+ bytes arrived that fit no mode; nothing answered at .* either", seen
    )
    check_problem(found, "mode", "no analyser found in .*", "Check the baud rate and the other serial settings")


REQUEST, REPLY = rtu("05 04 00 00 00 01"), rtu("05 04 02 12 34")
MASTER = "Another master is on this line, and there may be only one: 'servomex diag tap' shows what it does"


@pytest.mark.parametrize(
    ("heard", "verdict", "seen", "cure"),
    [
        (b"", "ok", "silent for 0.1 s, before anything was sent", ""),
        (WIRE, "ok", "a broadcast arrived: an analyser in continuous mode", ""),
        (WIRE[100:], "ok", "part of a broadcast arrived", ""),
        (WIRE[:100], "ok", "part of a broadcast arrived", ""),
        (WIRE[100:-2] + b"\n", "ok", "part of a broadcast arrived", ""),
        (REQUEST + REPLY, "WARNING", "2 unrequested Modbus messages arrived: request: .*", MASTER),
        (b"\0" + REPLY, "WARNING", "1 unrequested Modbus message arrived: reply: .*", MASTER),
        (
            b"\0",
            "WARNING",
            "1 byte arrived before anything was sent, and match no known format",
            "Check the baud rate, .*",
        ),
    ],
)
def test_what_is_heard_before_anything_is_sent(heard: bytes, verdict: str, seen: str, cure: str) -> None:
    port = ScriptedPort()
    with SerialLink(port) as link:
        port.feed(heard)
        found = checkup.line(link, BroadcastListener(), 0.05)
    assert (found.check, found.verdict) == ("line", verdict)
    assert re.fullmatch(seen, found.seen)
    assert re.fullmatch(cure, found.cure)
    assert port.writes == ()


def test_a_broadcast_that_is_under_way_when_the_time_is_up_is_heard_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next one may be a long time off."""
    monkeypatch.setattr(checkup, "SNIFF_S", 10.0)
    port, listener = ScriptedPort(), BroadcastListener()
    rest = threading.Timer(0.1, port.feed, [WIRE[100:]])
    with SerialLink(port) as link:
        port.feed(WIRE[:100])
        rest.start()
        checkup.line(link, listener, 0.01)
    rest.join()
    assert listener.frame is not None


def test_seven_data_bits_are_too_few_for_modbus() -> None:
    request = CheckRequest(port="COM11", settings=SerialSettings(bytesize=7))
    broadcast = Detection(ProtocolKind.CONTINUOUS_ASCII, VirtualAnalyzer().frame())
    for found in (None, Detection(ProtocolKind.MODBUS_ASCII)):
        finding = checkup.settings(request, found)
        assert (finding.verdict, finding.cure) == (
            "WARNING",
            "Use bytesize=8: Modbus RTU needs it",
        )
    assert checkup.settings(request, broadcast).verdict == "ok"


SLOW = "It is slow: allow a longer timeout"


class Moody(VirtualLine):
    """A line on which some of the reads of the analyser's state go wrong, counted from the first."""

    def __init__(self, fault: Faults, *which: int) -> None:
        super().__init__()
        self.fault = fault
        self.which = which
        self.reads = 0

    def write(self, data: bytes) -> None:
        state = data.startswith(bytes.fromhex("01 02 03 e8 00 10"))
        self.reads += state
        self.analysers[0].faults = self.fault if state and self.reads in self.which else Faults()
        super().write(data)


class Shared(VirtualLine):
    """A line on which another master reads I2 after each read of the analyser's state."""

    def write(self, data: bytes) -> None:
        super().write(data)
        if data.startswith(bytes.fromhex("01 02 03 e8 00 10")):
            self._send(None, self.clock() + 0.01, rtu("01 04 0E 3DAC0831 434F20202020 25000000"))


def test_another_master_is_shown_with_its_cure() -> None:
    verdict, seen, cure = page(Shared())["gap"]
    assert (verdict, cure) == ("WARNING", "Let one program ask at a time, or poll less often")
    assert "is asking on this line" in seen


@pytest.mark.parametrize(
    ("fault", "counts", "cure"),
    [
        (
            SILENT,
            "1 lost, 0 damaged",
            "Try a longer gap, such as --gap 0.1; 'servomex diag gap' finds what it needs",
        ),
        (Faults(corrupt=1.0), "0 lost, 1 damaged", "Check the wiring and its termination"),
    ],
)
def test_requests_that_fail_are_counted_with_their_cure(fault: Faults, counts: str, cure: str) -> None:
    found = page(Moody(fault, 3))
    seen = f"3 test reads (gap 0.005 s): {counts}, 0 answered late"
    assert found["gap"] == ("WARNING", seen, cure)
    assert (found.code, found.record["verdict"], found.record["check"]) == (0, "WARNING", "gap")


@pytest.mark.parametrize(
    ("lost", "late", "cure"),
    [
        (1, 1, SLOW),
        (0, 1, SLOW),
        (2, 1, f"{SLOW}. Try a longer gap, such as gap=0.3; 'servomex diag gap' finds what it needs"),
    ],
)
def test_late_answers_are_distinguished_from_lost_ones(
    lost: int, late: int, cure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([ServomexTimeoutError("no reply")] * lost)

    def read(_client: ModbusClient, _deadline: float) -> None:
        if failure := next(failures, None):
            raise failure

    monkeypatch.setattr(ModbusClient, "read_analyser", read)
    monkeypatch.setattr(Exchange, "__init__", with_late_replies(late))
    with SerialLink("sim://4100", gap=0.15) as link:
        found = checkup.gap(CheckRequest(port=link.port), link, Detection(ProtocolKind.MODBUS_RTU))
    assert found.seen == f"3 test reads (gap 0.15 s): {lost} lost, 0 damaged, {late} answered late"
    assert found.cure == cure


def with_late_replies(number: int) -> Callable[..., None]:
    """Give a constructor of an exchange that has refused some late replies already."""
    real = Exchange.__init__

    def begin(this: Exchange, *args: Any, **options: Any) -> None:
        real(this, *args, **options)
        this._ledger.late_replies = number

    return begin


def test_a_gap_with_which_nothing_is_answered_is_the_problem() -> None:
    found = page(Moody(SILENT, *range(3, 6)))  # the first reading takes two: its state is new
    cure = "Try a longer gap, such as --gap 0.1; 'servomex diag gap' finds what it needs"
    check_problem(found, "gap", r"none of 3 test reads was answered \(gap 0.005 s\)", cure)
    assert found.verdicts("echo", "analyser") == {"skipped"}


def test_the_check_of_the_gap_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "GAP_CHECK_S", 0.001)
    with SerialLink("sim://4100", gap=0.005) as link:
        found = checkup.gap(CheckRequest(port=link.port), link, Detection(ProtocolKind.MODBUS_RTU))
    assert found.seen == "1 test read was answered (gap 0.005 s)"


class WithoutValues(VirtualLine):
    """A line on which the reads of registers are never answered."""

    def write(self, data: bytes) -> None:
        self.analysers[0].faults.silent = data[1] == 4
        super().write(data)


def test_it_is_read_as_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def read(_link: SerialLink, **options: Any) -> None:
        asked.append(options)
        raise ServomexTimeoutError("no reply")

    monkeypatch.setattr(checkup, "open_device", read)
    page(VirtualLine(VirtualAnalyzer(address=9)), "--address", "9", "--timeout", "4", "--retries", "3")
    assert asked == [{"protocol": "modbus_rtu", "address": 9, "timeout": 4.0, "retries": 3, "identify": False}]


def test_an_analyser_that_cannot_be_read_is_the_problem_with_the_words_of_the_driver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ModbusClient, "patience_s", 0.2)
    found = page(WithoutValues(), "--timeout", "0.1", "--retries", "0")
    cure = "Check that the analyser is on, its communication mode, address and serial settings, and the wiring"
    check_problem(found, "analyser", "no reply from address 1", cure)
    assert found.verdicts("mode", "gap", "echo") == {"ok"}


def test_a_broadcast_that_stays_alone_is_a_warning() -> None:
    with SerialLink(ScriptedPort()) as link:
        request = CheckRequest(port=link.port, listen=0.05)
        found = list(checkup.continuous_checks(request, link, VirtualAnalyzer().frame()))
    cure = "If the frame frequency on its panel is longer, use a longer listen; else check the cable"
    assert found[0] == Finding("broadcast", Verdict.WARNING, "no second broadcast arrived in 0.05 s", cure)
    assert [item.check for item in found] == [
        "broadcast",
        "clock",
        "analyser",
        "coils",
        "abilities",
        *["channel"] * 5,
    ]


@pytest.mark.parametrize(
    ("period_s", "dropped", "verdict", "seen"),
    [
        (2.04, 0, "ok", "one every 2.0 s, the last is 0.0 s old, 0 dropped"),
        (None, 0, "ok", "two at once, the last is 0.0 s old, 0 dropped"),
        (2.04, 2, "WARNING", "one every 2.0 s, the last is 0.0 s old, 2 dropped"),
    ],
)
def test_the_cadence_of_broadcasts_is_reported(
    period_s: float | None, dropped: int, verdict: str, seen: str
) -> None:
    def poll(*, wait_fresh: bool, timeout: float) -> Frame:
        assert (wait_fresh, timeout) == (True, 10.0)
        return VirtualAnalyzer().frame()

    analyzer: Any = SimpleNamespace(poll=poll, period_s=period_s, dropped_frames=dropped)
    found = checkup.broadcast(analyzer, 10.0)
    assert (found.verdict, found.seen) == (verdict, seen)
    cure = "Check the cable and the serial settings; 'servomex diag jitter' watches for longer"
    assert found.cure == (cure if dropped else "")


def test_a_problem_has_a_cure_also_when_its_error_has_none() -> None:
    plain = problem("mode", ServomexTimeoutError("the time was up"))
    assert (plain.seen, plain.cure) == (
        "the time was up",
        "Record the line with a trace, and look at what it shows",
    )
    check = problem("mode", ServomexTimeoutError("no reply", cure="Check the wiring"))
    assert (check.seen, check.cure) == ("no reply", "Check the wiring")


@pytest.mark.parametrize("wrong", [{"address": 0}, {"retries": 11}, {"listen": 0.0}, {"gap": 11.0}], ids=str)
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ServomexValidationError):
        raise next(item.error for item in examine(CheckRequest(port="sim://4100", **wrong)) if item.error)


def test_closing_the_check_up_closes_the_port() -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.05))
    for stop_at in CHECKS[4::3]:
        found = examine(CheckRequest(port=line.url, listen=LISTEN_S))
        for finding in found:
            if finding.check == stop_at:
                break
        found.close()
        with SerialLink(line.url):
            pass


@pytest.mark.parametrize(
    ("faults", "more"),
    [
        (
            Faults(),
            [
                "identifying what answers at address 1",
                "sending 3 requests with a gap of 0.005 s",
                "reading the analyser",
            ],
        ),
        (SILENT, ["asking the addresses 1 to 2", "trying 9600 baud"]),
    ],
)
def test_each_step_is_reported(faults: Faults, more: list[str]) -> None:
    line, reports = VirtualLine(VirtualAnalyzer(faults=faults)), list[str]()
    for _ in examine(CheckRequest(port=line.url, listen=LISTEN_S, gap=0.005, report=reports.append)):
        pass
    assert reports == [
        f"opening {line.url}",
        "listening for 0.0 s",
        "looking for an analyser at address 1, for 0 s at most",
        *more,
    ]


@pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii"])
def test_coils_that_were_left_at_one_are_a_warning_with_the_cure(mode: str) -> None:
    analyser = VirtualAnalyzer(mode=mode)
    analyser.refuses_calibration = True
    analyser.write_coils(0, [False, True])
    analyser.write_coils(8, [True])
    found = page(VirtualLine(analyser))
    verdict, seen, cure = found["coils"]
    assert verdict == "WARNING"
    assert seen == (
        "the start coil of group 2 is at 1: the analyser ignores the next start until it is 0; the stop coil is "
        "at 1: the analyser ignores the next stop until it is 0"
    )
    assert "'servomex calibrate stop' sets them back to 0" in cure


def test_a_device_that_does_not_show_its_coils_is_examined_all_the_same() -> None:
    answer = answering(VirtualAnalyzer())
    port = HookPort(lambda port, data: port.at(0.001, rtu("01 81 01") if data[1] == 1 else answer(data)))
    with open_device(port, protocol="modbus_rtu", gap=0.002) as analyzer:
        found = checkup.coils(analyzer.mode.sender())
    assert found.verdict is Verdict.SKIPPED
    assert "exception 01" in found.seen
