"""The page of ``servomex serve`` for those who cannot see it, or not its colours."""

from typing import TYPE_CHECKING

import pytest

from servomex.models.reading import ChannelStatus
from servomex.views.web import Live, WebServer
from servomex.views.web.token import Token
from tests.browser.conftest import DESKTOP, PHONE, OpenPage, Serious
from tests.helpers.browsing import until
from tests.helpers.serving import TOKEN, live_of, reading, sample

if TYPE_CHECKING:
    from playwright.sync_api import Page

STATES = {
    "I1": ChannelStatus(),
    "I2": ChannelStatus(alarms=(True, False, True, False)),
    "I3": ChannelStatus(fault=True, maintenance=True),
    "I4": ChannelStatus(calibrating=True),
    "D1": ChannelStatus(warming_up=True, maintenance=True),
}


def everything() -> Live:
    """Analysers in which each state is raised somewhere, and one that is stale."""
    live = live_of("stack-1", "stack-2", "never", fresh_s=1000.0)
    for _ in range(3):
        live.take([
            sample("stack-1", reading(None if status.fault else 1.0, channel=channel, status=status))
            for channel, status in STATES.items()
        ])  # fmt: skip
    live.take([sample("stack-2", reading(at_s=1000.0))])
    return live


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_axe_finds_nothing_serious(
    open_page: OpenPage, serious: Serious, scheme: str, size: tuple[int, int]
) -> None:
    page = open_page(size=size, color_scheme=scheme, reduced_motion="reduce")
    with WebServer(everything(), port=0) as server:
        page.goto(server.url)
        page.locator("article").last.wait_for()
        page.locator("#events li").last.wait_for()
        assert serious(page) == []
    until(page, "document.documentElement.dataset.lost === 'true'")
    assert serious(page) == []


def test_axe_finds_nothing_serious_where_a_token_is_asked_for(page: "Page", serious: Serious) -> None:
    with WebServer(live_of("a"), port=0, token=Token(TOKEN)) as server:
        page.goto(server.url)
        page.locator("#login").wait_for()
        assert serious(page) == []


def test_a_reader_of_the_screen_finds_each_value_with_its_label_and_states_in_words(page: "Page") -> None:
    with WebServer(everything(), port=0) as server:
        page.goto(server.url)
        page.locator("article").last.wait_for()
        article = page.get_by_role("article", name="I2 Oxygen")
        tree = article.aria_snapshot()
        for text in ("heading \"I2 Oxygen\"", "Value", "1.0 %", "Quality", "good", "alarm 1 on", "alarm 2 off",
                     "list \"States\"", "img \"Strip chart of stack-1 I2 Oxygen\""):  # fmt: skip
            assert text in tree
        assert page.get_by_role("region", name="stack-1").count() == 1
        assert page.get_by_role("region", name="Events").count() == 1
