"""What ends a subscription is its error, also when the callback leaves by sys.exit."""

import sys
import threading

import pytest

import servomex
from servomex.recording.subscription import Callback
from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.helpers.background import no_thread_for
from tests.helpers.waiting import wait_until

GENEROUS_S = 5.0


def exit_program(_item: object) -> None:
    sys.exit(3)


def interrupt(_item: object) -> None:
    raise KeyboardInterrupt


class Own(BaseException):
    """One that is no Exception."""


def own(_item: object) -> None:
    raise Own


@pytest.mark.parametrize("mode", ["modbus_rtu", "continuous"])
@pytest.mark.parametrize(
    ("callback", "kind"), [(exit_program, SystemExit), (interrupt, KeyboardInterrupt), (own, Own)]
)
def test_what_is_not_an_exception_ends_it_and_is_its_error(
    mode: str,
    callback: Callback,
    kind: type[BaseException],
    caplog: pytest.LogCaptureFixture,
) -> None:
    line = VirtualLine(VirtualAnalyzer(mode=mode, period=0.02))
    with servomex.open_device(line.url, protocol=mode) as analyzer:
        with analyzer.subscribe(callback) as subscription:
            wait_until(lambda: subscription.error is not None)
            assert isinstance(subscription.error, kind)
            assert subscription.delivered == 1
            wait_until(lambda: not any("acquisition" in thread.name for thread in threading.enumerate()))
        assert isinstance(subscription.error, kind)
    assert any("died" in record.getMessage() for record in caplog.records)


def test_an_exception_does_not_end_it() -> None:
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.02))
    twice = threading.Event()

    def callback(_item: object) -> None:
        if subscription.delivered > 1:
            twice.set()
        raise ValueError("broken")

    with servomex.open_device(line.url, protocol="continuous") as analyzer:
        subscription = analyzer.subscribe(callback)
        assert twice.wait(GENEROUS_S)
        subscription.close()
        assert subscription.error is None
        assert subscription.failures == subscription.delivered


def test_one_whose_thread_cannot_be_started_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    no_thread_for("servomex-subscription", monkeypatch)
    line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.02))
    with servomex.open_device(line.url, protocol="continuous") as analyzer:
        with pytest.raises(servomex.ServomexError, match="cannot be started"):
            analyzer.subscribe(print)
        assert not [thread.name for thread in threading.enumerate() if "acquisition" in thread.name]
