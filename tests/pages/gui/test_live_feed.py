"""The feed of the monitors: what comes, in order, and how it ends."""

import time
from typing import TYPE_CHECKING

import pytest

import servomex
from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.helpers.monitors import RTU
from tests.helpers.waiting import wait_until

if TYPE_CHECKING:
    from live_feed import Item


@pytest.mark.virtual_time
class TestLiveFeed:
    """The backend without a window."""

    @pytest.fixture
    def items(self) -> "list[Item]":
        return []

    @pytest.mark.parametrize("mode", [RTU, "continuous"])
    @pytest.mark.parametrize("state", ["reading", "opening a dead line", "a dead line", "unplugged", "not there"])
    def test_it_ends_soon_whatever_it_does(
        self, analyser: VirtualAnalyzer, line: VirtualLine, items: "list[Item]", mode: str, state: str
    ) -> None:
        from live_feed import LiveFeed

        analyser.period = 0.1
        analyser.power_cycle(mode)
        analyser.faults.silent = state == "opening a dead line"
        if state == "not there":
            line.unplug()
        feed = LiveFeed(line.url, items.append, rate_hz=10)
        feed.start()
        opens = state in ("reading", "a dead line", "unplugged")
        wait_until(lambda: any(isinstance(item, servomex.Frame) == opens for item in items))
        if state == "a dead line":
            analyser.faults.silent = True
            time.sleep(0.3)
        elif state == "unplugged":
            line.unplug()
            wait_until(lambda: isinstance(items[-1], servomex.ServomexError))
        begun = time.monotonic()
        feed.stop()
        assert time.monotonic() - begun < 0.5
        feed.close()
        assert time.monotonic() - begun < 3.0
        assert not feed.running

    def test_a_port_that_is_not_there_is_tried_again(
        self, line: VirtualLine, items: "list[Item]", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import live_feed

        monkeypatch.setattr(live_feed, "RETRY_S", 0.1)
        line.unplug()
        feed = live_feed.LiveFeed(line.url, items.append, rate_hz=10)
        feed.start()
        wait_until(lambda: sum(isinstance(item, servomex.ServomexConnectionError) for item in items) > 1)
        line.plug()
        wait_until(lambda: isinstance(items[-1], servomex.Frame))
        feed.close()

    def test_a_name_that_can_never_work_is_reported(self, items: "list[Item]") -> None:
        from live_feed import LiveFeed

        feed = LiveFeed("sim://nothing", items.append)
        feed.start()
        wait_until(lambda: any(isinstance(item, servomex.ServomexError) for item in items))
        feed.close()
