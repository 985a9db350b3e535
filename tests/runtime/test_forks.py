"""In a forked child what the parent opened is refused and left alone; the parent notices nothing."""

import gc
import gzip
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import servomex
from servomex.errors import ServomexConfigurationError
from servomex.models.sample import Sample
from servomex.simulator import PtyServer, TcpServer, VirtualAnalyzer, VirtualLine
from servomex.trace import TraceWriter
from tests.helpers.rfc2217_server import Rfc2217Server
from tests.helpers.waiting import wait_until

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:.*use of fork.. may lead to deadlocks:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning"),
]

MODES = ("modbus_rtu", "modbus_ascii", "continuous")
FORMATS = ("csv", "csv.gz", "jsonl", "jsonl.gz", "sqlite", "parquet")
GENEROUS_S = 20.0


def in_child(act: Callable[[], object]) -> None:
    """Run a function in a forked child and fail unless it does well and ends soon."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            warnings.simplefilter("error")
            act()
            gc.collect()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    deadline = time.monotonic() + GENEROUS_S
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    pytest.fail("the child did not end")


def refused(*calls: Callable[[], object]) -> None:
    """Check that each call is refused because its object is the parent's."""
    for number, call in enumerate(calls):
        with pytest.raises(ServomexConfigurationError) as caught:
            call()
        text = f"was opened in another process (pid {os.getppid()}), and this one (pid {os.getpid()})"
        assert text in str(caught.value), f"call {number}: {caught.value}"


def row(number: int) -> Sample:
    error = servomex.ServomexError("none")
    return Sample("a", servomex.ProtocolKind.MODBUS_RTU, datetime(2026, 1, 1, tzinfo=UTC), number, error=error)


@pytest.fixture(params=["sim", "terminal", "socket", "rfc2217"])
def served(request: pytest.FixtureRequest) -> Iterator[Callable[[VirtualLine], str]]:
    """Give the port of a line on each kind of port."""
    servers = []

    def serve(line: VirtualLine) -> str:
        if request.param == "sim":
            return line.url
        server = {"terminal": PtyServer, "socket": TcpServer, "rfc2217": Rfc2217Server}[request.param](line)
        servers.append(server.__enter__())
        return str(server.port)

    yield serve
    for server in servers:
        server.__exit__(None, None, None)


@pytest.mark.parametrize("mode", MODES)
def test_every_call_is_refused_and_the_parent_reads_on(served: Callable[[VirtualLine], str], mode: str) -> None:
    line = VirtualLine(VirtualAnalyzer(mode=mode, period=0.1))
    with servomex.open_device(served(line), protocol=mode) as analyzer:
        link = analyzer.link
        before = analyzer.read_channel("I1")
        heard = len(line.heard)

        def act() -> None:
            refused(
                analyzer.poll,
                lambda: analyzer.poll(timeout=0.1, wait_fresh=True),
                lambda: analyzer.read_channel("I2"),
                analyzer.read_all,
                lambda: analyzer.status("I1"),
                analyzer.analyser_status,
                analyzer.identify,
                analyzer.snapshot,
                analyzer.poll_samples,
                lambda: analyzer.stream(rate_hz=1),
                lambda: analyzer.subscribe(print),
                analyzer.calibration_status,
                link.open,
                lambda: link.write(b"x"),
                lambda: link.read(time.monotonic() + 1),
                lambda: link.settle(0.1, time.monotonic() + 1),
                lambda: link.conversation(time.monotonic() + 1).__enter__(),
            )
            if analyzer.reader:
                refused(analyzer.reader.subscribe, lambda: analyzer.reader and analyzer.reader.read_frame(0.0))
            analyzer.close()
            link.close()
            analyzer.__exit__(None, None, None)

        in_child(act)
        assert len(line.heard) == heard
        for _ in range(3):
            assert analyzer.read_channel("I1").value == before.value
        assert analyzer.dropped_frames == 0
        assert link.generation == 1


@pytest.mark.alone
@pytest.mark.parametrize("mode", MODES)
def test_a_child_that_reads_all_the_time_does_not_disturb_the_parent(mode: str) -> None:
    line = VirtualLine(VirtualAnalyzer(mode=mode, period=0.05))
    with PtyServer(line) as server, servomex.open_device(server.port, protocol=mode) as analyzer:
        expected = {channel: reading.value for channel, reading in analyzer.read_all().items()}
        context = multiprocessing.get_context("fork")
        told = context.SimpleQueue()

        def ask() -> None:
            outcomes = []
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                try:
                    outcomes.append(str(analyzer.read_channel("I2", timeout=0.2)))
                except ServomexConfigurationError:
                    outcomes.append("refused")
            told.put(sorted(set(outcomes)))

        child = context.Process(target=ask)
        child.start()
        readings = [analyzer.read_channel("I1") for _ in range(20)]
        child.join(GENEROUS_S)
        assert child.exitcode == 0
        assert told.get() == ["refused"]
        assert {item.value for item in readings} == {expected[servomex.ChannelId.I1]}
        assert analyzer.dropped_frames == 0


def test_the_port_is_free_as_soon_as_the_parent_has_closed_it() -> None:
    """The lock of a port lives as long as any process has it open."""
    with PtyServer(VirtualLine()) as server:
        analyzer = servomex.open_device(server.port, protocol="modbus_rtu")
        begun, end = multiprocessing.Event(), multiprocessing.Event()

        def act() -> None:
            begun.set()
            end.wait(GENEROUS_S)

        child = multiprocessing.get_context("fork").Process(target=act)
        child.start()
        try:
            assert begun.wait(GENEROUS_S)
            analyzer.close()
            servomex.open_device(server.port, protocol="modbus_rtu").close()
        finally:
            end.set()
            child.join(GENEROUS_S)
        assert child.exitcode == 0


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_is_as_if_there_had_been_no_child(tmp_path: Path, ending: str) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    files = []
    for name in ("plain", "forked"):
        sink = servomex.open_sink(tmp_path / f"{name}.{ending}", flush_s=1000, fsync_s=None)
        sink.write([row(1), row(2)])
        sink.flush()
        sink.write([row(3)])  # waits for the next flush
        if name == "forked":

            def act() -> None:
                refused(lambda: sink.write([row(9)]), sink.flush, sink.sync, sink.flush_if_due)  # noqa: B023
                sink.close()  # noqa: B023
                sink.__del__()  # noqa: B023

            in_child(act)
        sink.write([row(4)])
        sink.close()
        files.append(tmp_path / f"{name}.{ending}")
    plain, forked = files
    assert list(servomex.load(forked)) == list(servomex.load(plain)) == [row(number) for number in (1, 2, 3, 4)]
    if ending.endswith(".gz"):
        assert gzip.decompress(forked.read_bytes()) == gzip.decompress(plain.read_bytes())
    if ending not in ("sqlite", "parquet"):  # one counts its changes, the other has a number of its own
        assert forked.read_bytes() == plain.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in files}


def test_the_files_of_a_recording_are_the_parents_when_children_come_and_go(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    paths = [tmp_path / f"run.{ending}" for ending in FORMATS]
    line = VirtualLine(VirtualAnalyzer())
    trace = tmp_path / "wire.txt"
    with (
        servomex.open_device(line.url, protocol="modbus_rtu", gap=0, trace=trace) as analyzer,
        servomex.Recorder(analyzer, paths, rate_hz=50, count=60, sink_options={"flush_s": 0.05}) as recorder,
    ):

        def act() -> None:
            refused(recorder.start, recorder.join)
            assert not recorder.running
            recorder.close()
            analyzer.close()

        for _ in range(8):
            in_child(act)
        assert recorder.join(GENEROUS_S)
    assert recorder.summary.attempts == 60
    assert recorder.summary.unwritten == 0
    rows = [list(servomex.load(path)) for path in paths]
    assert len(rows[0]) > 60
    assert all(other == rows[0] for other in rows)
    assert [line for line in trace.read_text().splitlines() if line.endswith("! closed")]
    assert sum(text.endswith("! closed") for text in trace.read_text().splitlines()) == 1


def test_streams_subscriptions_and_queues_are_refused() -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.05))
    seen = threading.Event()
    with servomex.open_device(line.url, protocol="continuous") as analyzer:
        assert analyzer.reader is not None
        frames = analyzer.reader.subscribe()
        with (
            analyzer.stream() as session,
            servomex.record(analyzer) as recording,
            analyzer.subscribe(lambda _item: seen.set()) as subscription,
        ):
            assert seen.wait(GENEROUS_S)

            def act() -> None:
                refused(
                    lambda: session.get(1),
                    lambda: next(iter(session)),
                    lambda: recording.get(1),
                    lambda: next(iter(recording)),
                    lambda: servomex.pipe(recording, "/nowhere/run.csv"),
                    subscription.start,
                    lambda: frames.get(1),
                )
                for item in (session, recording, subscription):
                    item.close()

            in_child(act)
            delivered = subscription.delivered
            assert session.get(GENEROUS_S)
            wait_until(lambda: subscription.delivered > delivered)
            assert subscription.error is None


def test_a_manager_is_refused() -> None:
    line = VirtualLine(VirtualAnalyzer(address=1), VirtualAnalyzer(address=2))
    with servomex.ServomexManager() as manager:
        manager.add("a", line.url, protocol="modbus_rtu")
        manager.add("b", line.url, protocol="modbus_rtu", address=2)

        def act() -> None:
            refused(
                manager.poll,
                manager.poll_samples,
                lambda: manager.execute_each(lambda analyzer: analyzer),
                lambda: manager.get("a"),
                lambda: manager.remove("a"),
                lambda: manager.add("c", "sim://4100"),
            )
            manager.close()
            manager.__del__()

        in_child(act)
        assert all(result.ok for result in manager.poll().values())


def test_a_child_opens_its_own() -> None:
    with servomex.open_device("sim://4100", protocol="modbus_rtu") as analyzer:

        def act() -> None:
            refused(analyzer.poll)
            with servomex.open_device("sim://4100?mode=continuous&period=0.1", protocol="continuous") as own:
                assert own.poll().ok

        in_child(act)
        assert analyzer.poll().ok


def test_what_another_thread_holds_at_the_fork_is_not_waited_for(tmp_path: Path) -> None:
    """Threads poll, write and trace all the time: at any fork some of them hold locks."""
    line = VirtualLine(VirtualAnalyzer())
    broadcasting = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.002))
    stop = threading.Event()
    with (
        servomex.open_device(line.url, protocol="modbus_rtu", gap=0, trace=tmp_path / "wire.txt") as analyzer,
        servomex.open_device(broadcasting.url, protocol="continuous") as other,
        servomex.open_sink(tmp_path / "run.csv.gz", flush_s=0) as sink,
    ):

        def work() -> None:
            while not stop.is_set():
                sink.write(analyzer.poll_samples())

        thread = threading.Thread(target=work)
        thread.start()

        def act() -> None:
            refused(analyzer.poll, other.poll, other.reader.subscribe, sink.flush)  # type: ignore[union-attr]
            assert other.period_s is None or other.period_s > 0
            for item in (other, analyzer, sink):
                item.close()

        try:
            for _ in range(25):
                in_child(act)
        finally:
            stop.set()
            thread.join()
    rows = list(servomex.load(tmp_path / "run.csv.gz"))
    assert len(rows) == sink.rows
    moments = [item.monotonic_ns for item in rows]
    assert moments == sorted(moments)


PROGRAM = """
import atexit, os, signal, sys
import servomex
from servomex.errors import ServomexError

folder, mode = sys.argv[1:]
analyzer = servomex.open_device(f"sim://4100?mode={mode}&period=0.05", protocol=mode, trace=f"{folder}/wire.txt")
recorder = servomex.Recorder(
    analyzer,
    [f"{folder}/run.{ending}" for ending in ("csv", "csv.gz", "jsonl", "sqlite", "parquet")],
    sink_options={"flush_s": 1000},
    **({} if mode == "continuous" else {"rate_hz": 20}),
)
sink = servomex.open_sink(f"{folder}/other.csv.gz", flush_s=1000)
sink.write(analyzer.poll_samples())
recorder.start()
atexit.register(analyzer.close)
pid = os.fork()
if pid == 0:
    signal.alarm(60)  # it may be left alone
    try:
        analyzer.poll()
    except ServomexError:
        sys.exit(7)  # with everything left open
    sys.exit(1)
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 7
recorder.close()
sink.write(analyzer.poll_samples())
sink.close()
print(recorder.summary.samples_emitted, sink.rows)
"""


@pytest.mark.parametrize("mode", MODES)
def test_a_child_that_leaves_everything_open_ends_without_a_word(tmp_path: Path, mode: str) -> None:
    pytest.importorskip("pyarrow")
    command = [sys.executable, "-X", "dev", "-c", PROGRAM, str(tmp_path), mode]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    noise = [text for text in ended.stderr.splitlines() if "fork" not in text]  # newer versions warn of it
    assert (ended.returncode, noise) == (0, [])
    emitted, rows = map(int, ended.stdout.split())
    assert len(list(servomex.load(tmp_path / "other.csv.gz"))) == rows
    for ending in ("csv", "csv.gz", "jsonl", "sqlite", "parquet"):
        readings = {item.monotonic_ns for item in servomex.load(tmp_path / f"run.{ending}") if not item.error}
        assert len(readings) == emitted, ending
    assert (tmp_path / "wire.txt").read_text().count("! closed") == 1


def test_a_trace_that_is_being_written_is_not_written_twice(tmp_path: Path) -> None:
    trace = TraceWriter(tmp_path / "wire.txt", "COM1", servomex.SerialSettings(), 0.05)
    trace.opened()
    trace.sent(b"one")
    before = (tmp_path / "wire.txt").read_bytes()

    def act() -> None:
        trace.came(b"two")
        trace.close()

    in_child(act)
    assert (tmp_path / "wire.txt").read_bytes() == before
    trace.close()
