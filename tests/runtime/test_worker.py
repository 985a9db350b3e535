"""The one policy for threads: named, stopped, joined, and never silent when they die."""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable

import pytest

from servomex.errors import ServomexError
from servomex.runtime.locks import Signal
from servomex.runtime.worker import Worker

GENEROUS_S = 5.0


def idle(stopping: threading.Event) -> None:
    stopping.wait(GENEROUS_S)


def failing(error: BaseException) -> Callable[[threading.Event], None]:
    def run(_stopping: threading.Event) -> None:
        raise error

    return run


def test_it_runs_its_function_in_a_thread_of_its_own_name_until_it_is_stopped() -> None:
    started, seen = threading.Event(), []

    def run(stopping: threading.Event) -> None:
        seen.append(threading.current_thread())
        started.set()
        idle(stopping)
        seen.append(threading.current_thread())

    worker = Worker("servomex-test sim://4100", run)
    assert not worker.alive
    worker.start()
    assert started.wait(GENEROUS_S)
    assert worker.alive
    worker.stop()
    assert not worker.alive
    assert len(seen) == 2, "stop() came back before the function did"
    assert seen[0] is not threading.current_thread()
    assert (seen[0].name, seen[0].daemon) == ("servomex-test sim://4100", True)
    assert worker.error is None


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_what_ends_it_is_kept_logged_and_reported(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    reported: list[tuple[BaseException, str]] = []
    worker = Worker(
        "servomex-test", failing(error), lambda found: reported.append((found, threading.current_thread().name))
    )
    worker.start()
    worker.stop()
    assert worker.error is error
    assert reported == [(error, "servomex-test")]
    [record] = [item for item in caplog.records if item.name == "servomex"]
    assert record.levelno == logging.ERROR
    assert "'servomex-test' died" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_the_error_is_kept_before_it_is_reported() -> None:
    seen: list[BaseException | None] = []
    error = ValueError("broken")
    worker = Worker("servomex-test", failing(error), lambda _error: seen.append(worker.error))
    worker.start()
    worker.stop()
    assert seen == [error]


def test_no_listener_is_needed_for_its_death() -> None:
    error = ValueError("broken")
    worker = Worker("servomex-test", failing(error))
    worker.start()
    worker.stop()
    assert worker.error is error


def test_a_function_that_returns_is_no_death(caplog: pytest.LogCaptureFixture) -> None:
    reported: list[BaseException] = []
    worker = Worker("servomex-test", lambda _stopping: None, reported.append)
    worker.start()
    worker.stop()
    assert (worker.error, reported, caplog.records) == (None, [], [])


def test_it_may_be_stopped_twice_and_before_it_was_started() -> None:
    never = Worker("servomex-test", idle)
    never.stop()
    worker = Worker("servomex-test", idle)
    worker.start()
    worker.stop()
    worker.stop()
    assert not worker.alive


def test_stopped_before_it_was_started_it_ends_at_once() -> None:
    worker = Worker("servomex-test", idle)
    worker.stop()
    worker.start()
    worker.stop(GENEROUS_S / 2)
    assert not worker.alive


def test_it_may_be_stopped_from_itself() -> None:
    def run(stopping: threading.Event) -> None:
        worker.stop()
        assert stopping.is_set()

    worker = Worker("servomex-test", run)
    worker.start()
    worker.stop()
    assert worker.error is None
    assert not worker.alive


def test_a_thread_that_does_not_end_is_an_error_that_names_it() -> None:
    end = threading.Event()

    def stubborn(_stopping: threading.Event) -> None:
        end.wait(GENEROUS_S)

    worker = Worker("servomex-stubborn /dev/ttyUSB7", stubborn)
    worker.start()
    with pytest.raises(ServomexError, match=r"'servomex-stubborn /dev/ttyUSB7' did not end within 0\.05 s"):
        worker.stop(timeout=0.05)
    assert worker.alive
    end.set()
    worker.stop()
    assert not worker.alive


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals to send to a program on Windows")
def test_ctrl_c_while_waiting_for_the_end_is_not_taken_for_the_end() -> None:
    worker = Worker("servomex-test", idle)
    worker.start()
    me = threading.get_ident()

    def interrupt() -> None:
        while sys._current_frames()[me].f_code is not Signal.wait.__code__:
            time.sleep(0.001)
        signal.pthread_kill(me, signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        worker.join()
    interrupting.join()
    assert worker.alive
    assert not worker.join(0.05)
    worker.stop()
    assert not worker.alive
