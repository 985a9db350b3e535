"""What a signal handler raises in the middle of a call leaves the call as it is, and the port stays usable."""

import contextlib
import gc
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

import pytest
from pymodbus.pdu.register_message import ReadInputRegistersResponse

import servomex
from servomex.errors import ServomexConnectionError, ServomexIllegalDataValueError, ServomexTimeoutError
from servomex.errors.validation import choice
from servomex.runtime.signals import pass_on_interruption
from servomex.simulator import Faults, PtyServer, TcpServer, VirtualAnalyzer, VirtualLine, constant
from tests.helpers.hook_port import HookPort, answering
from tests.helpers.rfc2217_server import Rfc2217Server

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers"),
    pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning"),
]

FROM_IT = r"^from the handler$"
ERRORS = [
    OSError("from the handler"),
    OSError(5, "from the handler"),
    TimeoutError("from the handler"),
    ConnectionResetError("from the handler"),
    ValueError("from the handler"),
    IndexError("from the handler"),
    TypeError("from the handler"),
    struct.error("from the handler"),
    ServomexTimeoutError("from the handler"),
    ServomexConnectionError("from the handler"),
    ServomexIllegalDataValueError("from the handler"),
    KeyboardInterrupt("from the handler"),
    SystemExit("from the handler"),
]


@contextlib.contextmanager
def alarm(after_s: float, handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Call a handler once after a while; what it raises is lost only where Python loses it: in a finaliser."""
    before = signal.signal(signal.SIGALRM, handler)
    gc.disable()
    limit, _ = signal.setitimer(signal.ITIMER_REAL, after_s)  # which may be the suite's own, for a test that hangs
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, limit)
        gc.enable()


def raising(error: BaseException) -> Callable[[int, FrameType | None], object]:
    def handler(_number: int, _frame: FrameType | None) -> None:
        raise error

    return handler


def for_long(call: Callable[[], object]) -> None:
    """Repeat a call for longer than any alarm takes: one that is lost must not keep the suite for ever."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        call()


@pytest.fixture(params=["sim", "terminal", "socket", "rfc2217"], scope="module")
def port(request: pytest.FixtureRequest) -> Iterator[tuple[VirtualAnalyzer, str]]:
    """A slow Modbus analyser, on each kind of port."""
    analyser = VirtualAnalyzer()
    line = VirtualLine(analyser)
    if request.param == "sim":
        yield analyser, line.url
        return
    server = {"terminal": PtyServer, "socket": TcpServer, "rfc2217": Rfc2217Server}[request.param](line)
    with server:
        yield analyser, str(server.port)


@pytest.fixture(scope="module")
def opened(port: tuple[VirtualAnalyzer, str]) -> Iterator[tuple[VirtualAnalyzer, servomex.Analyzer]]:
    analyser, name = port
    analyser.mode = servomex.ProtocolKind.MODBUS_RTU
    with servomex.open_device(name, protocol="modbus_rtu", timeout=5) as analyzer:
        yield analyser, analyzer


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("after_s", [0.02, 0.09, 0.13])
def test_it_leaves_a_modbus_call_as_it_is(
    opened: tuple[VirtualAnalyzer, servomex.Analyzer], error: BaseException, after_s: float
) -> None:
    """It is raised in the silence before a request, or while a reply is waited for."""
    analyser, analyzer = opened
    expected = analyzer.read_channel("I1")
    generation, damaged = analyzer.link.generation, analyzer.dropped_frames
    analyser.faults.late = 0.1
    try:
        with pytest.raises(type(error)) as caught, alarm(after_s, raising(error)):
            analyzer.read_channel("I2")
    finally:
        analyser.faults.late = 0.0
    assert caught.value is error
    assert analyzer.read_channel("I1").value == expected.value
    assert analyzer.link.generation == generation, "the port was lost"
    assert analyzer.dropped_frames <= damaged + 1  # the reply that nobody waited for


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("mode", ["modbus_ascii", "continuous"])
def test_it_leaves_the_other_modes_as_it_is(mode: str, error: BaseException) -> None:
    line = VirtualLine(VirtualAnalyzer(mode=mode, period=0.3, faults=Faults()))
    with servomex.open_device(line.url, protocol=mode, timeout=5) as analyzer:
        line.analysers[0].faults.late = 0.1
        with pytest.raises(type(error)) as caught, alarm(0.08, raising(error)):
            for_long(lambda: analyzer.poll(wait_fresh=True))
        assert caught.value is error
        line.analysers[0].faults.late = 0.0
        assert analyzer.poll(wait_fresh=True).ok
        assert analyzer.link.generation == 1


def test_it_leaves_a_call_that_looks_who_sent_two_replies_as_it_is() -> None:
    """It is raised while the loopback is sent that tells two devices from another program."""
    error = TimeoutError("from the handler")
    mine, other = VirtualAnalyzer(), VirtualAnalyzer()
    other["I1"].signal = constant(1.0)
    first, second = answering(mine), answering(other)
    asked: list[bytes] = []
    loopbacks: list[bytes] = []

    def end(port: HookPort, data: bytes) -> None:
        if data[1:2] == b"\x08":
            loopbacks.append(data)
            if asked:
                signal.raise_signal(signal.SIGALRM)
            port.at(0.005, first(data))
        else:
            asked.extend([data] if data[1:2] == b"\x04" else [])
            port.at(0.005, first(data) + (second(data) if asked else b""))

    with (
        servomex.open_device(HookPort(end), protocol="modbus_rtu", identify=False) as analyzer,
        alarm(60, raising(error)),
        pytest.raises(TimeoutError) as caught,
    ):
        analyzer.read_channel("I1")
    assert caught.value is error
    assert len(loopbacks) == 2


def test_none_of_many_moments_is_lost() -> None:
    """Whatever step of the call is interrupted."""
    line = VirtualLine(VirtualAnalyzer())
    with PtyServer(line) as server, servomex.open_device(server.port, protocol="modbus_rtu", gap=0) as analyzer:
        expected = analyzer.read_channel("I1").value
        for number in range(150):
            error = (OSError, ValueError)[number % 2](f"number {number}")
            with pytest.raises(type(error)) as caught, alarm(0.001 + number * 0.00013, raising(error)):
                for_long(lambda: analyzer.read_channel("I1"))
            assert caught.value is error
        assert analyzer.read_channel("I1").value == expected
        assert analyzer.link.generation == 1


def test_a_handler_may_be_any_kind_of_callable() -> None:
    class Handler:
        def method(self, _number: int, _frame: FrameType | None) -> None:
            raise OSError("from the handler")

        def __call__(self, *args: object) -> None:
            self.method(*args)  # type: ignore[arg-type]

    with PtyServer(VirtualLine()) as server, servomex.SerialLink(server.port) as link:
        for handler in (Handler(), Handler().method):
            with pytest.raises(OSError, match=FROM_IT), alarm(0.05, handler):
                link.read(time.monotonic() + 5)
        assert link.is_open


def test_an_error_that_the_caller_handles_already_is_not_raised_again() -> None:
    line = VirtualLine()
    with servomex.open_device(line.url, protocol="modbus_rtu") as analyzer:
        try:
            with alarm(0.01, raising(TimeoutError("from the handler"))):
                time.sleep(5)
        except TimeoutError:
            line.unplug()
            with pytest.raises(ServomexConnectionError, match="the port was lost"):
                analyzer.poll()


def test_what_is_not_a_handlers_is_left_alone() -> None:
    pass_on_interruption(OSError("the port's"))
    ended = threading.Event()

    def elsewhere() -> None:  # where no handler ever runs
        try:
            raising(OSError("called"))(1, None)
        except OSError as error:
            pass_on_interruption(error)
            ended.set()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert ended.is_set()


def test_closing_a_port_does_not_swallow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyserial sleeps for 0.3 s in the middle of it."""
    with TcpServer(VirtualLine()) as server:
        link = servomex.SerialLink(server.port).open()
        with pytest.raises(OSError, match=FROM_IT), alarm(0.1, raising(OSError("from the handler"))):
            link.close()
        assert link.is_closed
        assert not link.is_open


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii"])
def test_decoding_a_reply_does_not_swallow_it(
    mode: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(self: ReadInputRegistersResponse, data: bytes) -> None:
        signal.raise_signal(signal.SIGALRM)

    line = VirtualLine(VirtualAnalyzer(mode=mode))
    with servomex.open_device(line.url, protocol=mode) as analyzer:
        monkeypatch.setattr(ReadInputRegistersResponse, "decode", decode)
        with alarm(60, raising(error)), pytest.raises(type(error)) as caught:
            analyzer.read_channel("I1")
        assert caught.value is error


def test_looking_up_a_name_does_not_swallow_it() -> None:
    class Name(str):
        def upper(self) -> str:
            signal.raise_signal(signal.SIGALRM)
            return super().upper()

    error = ValueError("from the handler")
    with alarm(60, raising(error)), pytest.raises(ValueError, match=FROM_IT) as caught:
        choice(servomex.ChannelId, Name("i1"), "channel")
    assert caught.value is error
