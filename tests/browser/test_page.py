"""The page of ``servomex serve``, as a viewer sees it in a real browser."""

import re
import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from servomex.models.reading import ChannelStatus
from servomex.simulator import VirtualAnalyzer, VirtualChannel, VirtualLine
from servomex.simulator.channels import constant
from servomex.views.looks import BANDS, STATES
from servomex.views.web import Live, WebServer
from tests.browser.conftest import PHONE, OpenPage
from tests.helpers import commands
from tests.helpers.browsing import until
from tests.helpers.serving import live_of, reading, sample, served
from tests.helpers.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

LIMIT_S = 6.0
"""Within this time a page is grey that hears nothing; and an analyser that is read five times a second."""
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><b>bold</b>"

Served = tuple[WebServer, Live, dict[str, VirtualLine]]


def two() -> dict[str, VirtualAnalyzer]:
    channels = [
        VirtualChannel("I1", "CO", "vpm", constant(12.5)),
        VirtualChannel("I2", "NO", "vpm", constant(3.0)),
    ]
    return {"stack-1": VirtualAnalyzer(), "stack-2": VirtualAnalyzer(channels)}


@pytest.fixture
def site() -> Iterator[Served]:
    with served(two()) as running:
        yield running


def analyser(served: Served, name: str) -> VirtualAnalyzer:
    found: VirtualAnalyzer = served[2][name].analysers[0]
    return found


def card(page: "Page", name: str, channel: str) -> "Locator":
    section = page.locator("section.analyser").filter(has=page.get_by_role("heading", name=name, exact=True))
    return section.locator("article").filter(has=page.locator(".id", has_text=channel))


def style(locator: "Locator", name: str) -> str:
    found = locator.evaluate("(node, name) => getComputedStyle(node).getPropertyValue(name)", name)
    assert isinstance(found, str)
    return found


def colour(page: "Page", variable: str) -> str:
    """Return a colour of the page as the browser computes it."""
    found = page.evaluate(
        "name => { const node = document.createElement('i'); node.style.color = `var(${name})`; "
        "document.body.append(node); const found = getComputedStyle(node).color; node.remove(); return found; }",
        variable,
    )
    assert isinstance(found, str)
    return found


def ready(page: "Page", server: WebServer) -> None:
    page.goto(server.url)
    page.locator("article").first.wait_for()


def test_each_value_has_its_unit_quality_age_and_states_in_words(page: "Page", site: Served) -> None:
    analyser(site, "stack-2")["I1"].status = ChannelStatus(maintenance=True)
    ready(page, site[0])
    oxygen, monoxide = card(page, "stack-1", "I1"), card(page, "stack-2", "I1")
    assert oxygen.locator(".value dd").inner_text() == "20.376 %"
    assert monoxide.locator(".value dd").inner_text() == "12.5 vpm"
    assert oxygen.locator(".quality dd").inner_text() == "✓ good"
    assert monoxide.locator(".quality dd").inner_text() == "~ uncertain"
    assert re.fullmatch(r"\d\.\d s", oxygen.locator(".age dd").inner_text())
    states = [item.removeprefix("○").removeprefix("●") for item in monoxide.locator("li").all_text_contents()]
    on = {"maintenance"}
    assert states == [f"{item.word} {'on' if item.word in on else 'off'}" for item in STATES]
    assert page.locator("article").count() == sum(len(view.channels) for view in site[1].board.view())


def test_the_header_is_green_only_when_nothing_is_wrong(page: "Page", site: Served) -> None:
    ready(page, site[0])
    head, word = page.locator("#head"), page.locator("#word")
    until(page, "document.querySelector('#head').dataset.level === 'good'")
    good = style(head, "background-color")
    assert good == colour(page, "--good")
    assert word.inner_text() == "All good"
    raised = {
        "warning": ChannelStatus(maintenance=True), "notice": ChannelStatus(calibrating=True),
        "alarm": ChannelStatus(alarms=(False, True, False, False)),
    }  # fmt: skip
    for level, status in raised.items():
        analyser(site, "stack-2")["I2"].status = status
        until(page, f"document.querySelector('#head').dataset.level === '{level}'")
        assert style(head, "background-color") == colour(page, f"--{level}") != good
    assert page.locator("#detail").inner_text() == "stack-2 I2 NO: alarm 2"
    assert page.title().startswith("ALARM")
    analyser(site, "stack-2")["I2"].status = ChannelStatus()
    until(page, "document.querySelector('#head').dataset.level === 'good'")
    texts = page.locator("#events li").all_inner_texts()
    assert "stack-2 I2 NO alarm 2 off" in texts[0]
    assert any("stack-2 I2 NO alarm 2 on" in text for text in texts)


def test_a_fault_is_as_loud_as_an_alarm_and_has_no_value(page: "Page", site: Served) -> None:
    faulty = analyser(site, "stack-2")["I1"]
    faulty.status, faulty.signal = ChannelStatus(fault=True), constant(None)
    ready(page, site[0])
    until(page, "document.querySelector('#head').dataset.level === 'alarm'")
    shown = card(page, "stack-2", "I1")
    assert shown.locator(".value dd").inner_text().strip() == "no value"
    assert style(shown.locator(".title"), "background-color") == colour(page, "--alarm")
    healthy = card(page, "stack-2", "I2")
    assert style(healthy.locator(".title"), "background-color") == "rgba(0, 0, 0, 0)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_band_has_its_colour_on_the_canvas(open_page: OpenPage, site: Served, scheme: str) -> None:
    page = open_page(color_scheme=scheme)
    analyser(site, "stack-1")["I1"].status = ChannelStatus(calibrating=True)
    analyser(site, "stack-1")["I2"].status = ChannelStatus(fault=True)
    ready(page, site[0])
    page.select_option("#span", "120")
    time.sleep(3)
    for channel, word in (("I1", "calibrating"), ("I2", "fault"), ("I3", None)):
        shown = card(page, "stack-1", channel)
        shown.scroll_into_view_if_needed()
        shown.locator("canvas").wait_for()
        time.sleep(1)
        found = {state for state in BANDS if pixels(shown, BANDS[state]) > 50}
        assert found == ({word} if word else set())


def pixels(shown: "Locator", wanted: str) -> int:
    """Count the pixels of a chart that have a colour, as far as they are drawn mostly transparent."""
    red, green, blue = (int(wanted[place : place + 2], 16) for place in (1, 3, 5))
    found = shown.locator("canvas").evaluate(
        """(canvas, wanted) => {
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            let found = 0;
            for (let place = 0; place < data.length; place += 4) {
                const near = wanted.every((value, part) => Math.abs(data[place + part] - value) < 6);
                if (near && data[place + 3] > 30 && data[place + 3] < 200) found += 1;
            }
            return found;
        }""",
        [red, green, blue],
    )
    assert isinstance(found, int)
    return found


def test_an_analyser_that_falls_silent_turns_grey_within_its_limit(page: "Page", site: Served) -> None:
    ready(page, site[0])
    until(page, "document.querySelector('#head').dataset.level === 'good'")
    fresh_s = site[1].board.view()[0].figures.fresh_s
    analyser(site, "stack-1").faults.silent = True
    took_s = until(page, "document.querySelectorAll('article[data-quality=stale]').length === 5")
    assert took_s < fresh_s + 2
    shown = card(page, "stack-1", "I1")
    assert style(shown.locator(".value dd"), "color") == colour(page, "--stale")
    assert shown.locator(".quality dd").inner_text() == "? stale"
    assert "Stale: the last reading is of" in page.locator("section.analyser .state").first.inner_text()
    assert style(page.locator("#head"), "background-color") == colour(page, "--alarm")
    assert card(page, "stack-2", "I1").get_attribute("data-quality") == "good"
    analyser(site, "stack-1").faults.silent = False
    until(page, "document.querySelector('#head').dataset.level === 'good'", 60)


@pytest.mark.parametrize("end", ["SIGKILL", "SIGSTOP"])
def test_a_page_whose_server_is_gone_turns_grey_and_says_since_when(page: "Page", end: str) -> None:
    child = commands.start("serve", "sim://4100", "--protocol", "modbus_rtu", "--http-port", "0", main="main")
    try:
        assert child.stdout is not None
        page.goto(child.stdout.readline().decode().strip())
        until(page, "document.querySelector('#head').dataset.level === 'good'")
        child.send_signal(getattr(signal, end))
        took_s = until(page, "document.documentElement.dataset.lost === 'true'")
        assert took_s < LIMIT_S + 3
        until(page, "document.querySelectorAll('article[data-quality=stale]').length === 5")
        assert re.match(r"No data since \d\d:\d\d:\d\d \(", page.locator("#link").inner_text())
        assert page.locator("#word").inner_text() == "Stale"
        assert style(page.locator("#head"), "background-color") == colour(page, "--stale")
    finally:
        child.kill()
        child.communicate()


def test_a_page_recovers_when_the_server_is_back(page: "Page") -> None:
    live = live_of("a", fresh_s=1000.0)
    live.take([sample("a", reading(1.0))])
    with WebServer(live, port=0) as server:
        ready(page, server)
    until(page, "document.documentElement.dataset.lost === 'true'")
    again = live_of("b", fresh_s=1000.0)
    again.take([sample("b", reading(2.0))])
    with WebServer(again, port=server.port):
        until(page, "document.querySelector('.number')?.textContent === '2.0'", 30)
        assert page.locator("section.analyser h2").all_inner_texts() == ["b"]
        assert page.locator("html").get_attribute("data-lost") == "false"


def test_names_from_the_wire_are_text(page: "Page") -> None:
    live = live_of(HOSTILE)
    live.take([sample(HOSTILE, reading(name=HOSTILE, status=ChannelStatus(alarms=(True, False, False, False))))])
    with WebServer(live, port=0) as server:
        ready(page, server)
        page.locator("#events li").first.wait_for()
        assert page.locator("article .name").inner_text() == HOSTILE
        assert page.locator("section.analyser h2").inner_text() == HOSTILE
        assert page.locator("main img, main b, #head img, #events b, #spoken b").count() == 0
        assert "taken" not in page.title()


def test_alarms_are_spoken_once_and_nothing_else_is(page: "Page", site: Served) -> None:
    ready(page, site[0])
    until(page, "document.querySelector('#head').dataset.level === 'good'")
    page.evaluate(
        "() => { window.spoken = []; new MutationObserver(() => window.spoken.push("
        "document.querySelector('#spoken').textContent)).observe(document.querySelector('#spoken'), "
        "{ childList: true, characterData: true, subtree: true }); }"
    )
    time.sleep(3)
    analyser(site, "stack-1")["I2"].status = ChannelStatus(alarms=(True, False, False, False))
    until(page, "window.spoken.length > 0")
    time.sleep(6)
    assert page.evaluate("window.spoken") == ["Alarm: stack-1 I2 CO: alarm 1."]
    assert page.locator("#spoken").get_attribute("aria-live") == "assertive"


def test_values_of_a_phone_fit_its_width(open_page: OpenPage, site: Served) -> None:
    page = open_page(size=PHONE)
    analyser(site, "stack-1")["I1"].status = ChannelStatus(True, True, True, True, (True, True, True, True))
    ready(page, site[0])
    time.sleep(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    for shown in page.locator("article, li.lamp, .value dd, canvas").all():
        box: Any = shown.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE[0]


def test_everything_is_reached_by_the_keyboard(page: "Page", site: Served) -> None:
    ready(page, site[0])
    reached = []
    for _ in range(3):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached == ["Skip to the readings", "span", "Download csv"]
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "analysers"
    page.locator("#span").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator("#span").input_value() == "1800"


def test_nothing_moves_for_those_who_do_not_want_it(open_page: OpenPage) -> None:
    live = live_of("a")
    live.take([sample("a", reading(status=ChannelStatus(alarms=(True, False, False, False))))])
    with WebServer(live, port=0) as server:
        for wanted, moving in (("reduce", 0), ("no-preference", 1)):
            page = open_page(reduced_motion=wanted)
            ready(page, server)
            until(page, "document.querySelector('#head').dataset.level === 'alarm'")
            assert page.evaluate("document.getAnimations().length") == moving


def test_a_page_that_slept_does_not_show_old_readings_as_fresh(page: "Page", site: Served) -> None:
    ready(page, site[0])
    ages = page.evaluate(
        """async () => {
            const { Clock } = await import("/static/clock.js");
            let steady = 0, wall = 0;
            const clock = new Clock(() => steady, () => wall);
            const found = [];
            for (const [ran, passed] of [[1000, 1000], [0, 3600000], [1000, -5000000], [500, 501]]) {
                steady += ran; wall += passed; found.push(clock.now());
            }
            return found;
        }"""
    )
    assert ages == pytest.approx([1.0, 3601.0, 3602.0, 3602.5])


def test_gaps_are_gaps_and_what_is_uncertain_is_drawn_apart(page: "Page", site: Served) -> None:
    ready(page, site[0])
    course = page.evaluate(
        """async () => {
            const { Course } = await import("/static/model.js");
            const course = new Course();
            const take = (time, value, quality, name = "Oxygen") =>
                course.take(time, { name, unit: "%", value, quality, states: [] }, 3);
            take(1, 10, "good"); take(2, 11, "good"); take(3, 12, "uncertain"); take(4, 13, "good");
            take(9, 14, "good"); take(10, null, "bad"); take(11, 15, "good"); course.gap(12); take(13, 16, "good");
            const found = [course.times, course.good, course.uncertain];
            take(14, 1, "good", "CO");
            return [...found, course.times];
        }"""
    )
    times, good, uncertain, after_another_name = course
    assert times == [1, 2, 3, 4, 4.001, 9, 10, 11, 12, 13]
    assert good == [10, 11, None, 13, None, 14, None, 15, None, 16]
    assert uncertain == [None, 11, 12, 13, None, None, None, None, None, None]
    assert after_another_name == [14]


def test_the_memory_of_page_and_server_is_flat(page: "Page") -> None:
    with served({f"a{number}": VirtualAnalyzer() for number in range(4)}, 20.0, hold=2000) as (
        server,
        live,
        _lines,
    ):
        ready(page, server)
        session = page.context.new_cdp_session(page)

        def used() -> float:
            session.send("HeapProfiler.collectGarbage")
            metrics = session.send("Runtime.getHeapUsage")
            return float(metrics["usedSize"]) / 1e6

        wait_until(lambda: live.rows > 1900, 60)
        time.sleep(2)
        before, nodes = used(), page.evaluate("document.querySelectorAll('*').length")
        time.sleep(8)
        assert used() < before + 3
        assert page.evaluate("document.querySelectorAll('*').length") < nodes + 20
        assert live.rows <= 2000
