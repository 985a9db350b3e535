"""Ends the whole run, with the stacks of all threads, where something would hang for ever.

pytest's ``faulthandler_timeout`` ends a test that no signal reaches. After a failure pytest stops that clock, and
that of pytest-timeout as well. So it is started again for the end of each test and of the run, and for the end of
Python itself, which waits for threads that are left. A forked child has no such clock; as long as it lives, the
process that collects the results of others waits for it.
"""

import faulthandler
import math
import os
import signal
import sys
import threading

import pytest

_STDERR, _THREADS = pytest.StashKey[int](), pytest.StashKey[list[threading.Thread]]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep the way to the terminal, which is closed to tests, and note which threads are none of theirs."""
    assert sys.__stderr__ is not None
    config.stash[_STDERR] = os.dup(sys.__stderr__.fileno())
    config.stash[_THREADS] = threading.enumerate()
    limit_s = math.ceil(_limit_s(config))
    if limit_s and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: _end_later(limit_s))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Start the clock, which pytest stops behind the test."""
    _start(item.config)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Start the clock for what is closed at the end of the run."""
    _start(session.config)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the clock, unless a thread is left that keeps Python from its end."""
    faulthandler.cancel_dump_traceback_later()
    before = config.stash[_THREADS]
    if any(thread not in before and not thread.daemon for thread in threading.enumerate()):
        _start(config)


def _limit_s(config: pytest.Config) -> float:
    return float(config.getini("faulthandler_timeout") or 0.0)


def _start(config: pytest.Config) -> None:
    if limit_s := _limit_s(config):
        faulthandler.dump_traceback_later(limit_s, exit=True, file=config.stash[_STDERR])


def _end_later(limit_s: int) -> None:
    """Let the system end this process, whatever it does then."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    signal.alarm(limit_s)
