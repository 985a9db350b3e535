"""Plots as pages, in a browser: bands, gaps and alarms on the canvas, zoom, keys, and text that stays text."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import servomex
from servomex.models.sample import Sample
from tests.helpers.plotted import (
    ALARM_1,
    BEGIN,
    CALIBRATING,
    FAULT,
    HOUR,
    MAINTENANCE,
    OUTAGE,
    SPIKE,
    WARMING_UP,
    course,
    hour,
    reading,
    sample,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

START = BEGIN.timestamp()
HOSTILE = "<img src=x onerror='document.title=1'></script><script>document.title=2</script>"
Opened = Callable[..., "Page"]

_PIXELS = """([panel, from, to, low, high]) => {
  const { u } = servomexPlot.charts[panel], { left, top, width, height } = u.bbox;
  const x = (t) => Math.round(u.valToPos(t, "x", true));
  const wide = Math.max(1, x(to) - x(from));
  const down = Math.round(height * low), tall = Math.round(height * (high - low));
  const data = u.ctx.getImageData(x(from), top + down, wide, tall).data;
  const columns = [];
  for (let at = 0; at < wide; at++) {
    const column = [];
    for (let i = at * 4; i < data.length; i += wide * 4) column.push([...data.slice(i, i + 4)]);
    columns.push(column);
  }
  return columns;
}"""


@pytest.fixture
def opened(open_page: Any, tmp_path: Path) -> Opened:
    """Write a page and open it, with no network."""

    def start(samples: Sequence[Sample], **options: Any) -> "Page":
        servomex.plot(samples, tmp_path / "run.html", overwrite=True)
        page: Page = open_page(**options)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "run.html").as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        assert asked == [(tmp_path / "run.html").as_uri()]
        return page

    return start


def columns(page: "Page", panel: int, begin: float, end: float, part: tuple[float, float] = (0.0, 1.0)) -> Any:
    """The pixels of a panel between two times of the hour, as columns of red, green, blue and opacity."""
    return page.evaluate(_PIXELS, [panel, START + begin, START + end, *part])


def has_colour(column: list[list[int]], colour: str) -> bool:
    """Whether a pixel has a colour, mostly transparent as in a band."""
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return any(
        30 < pixel[3] < 80 and all(abs(a - b) < 24 for a, b in zip(pixel[:3], wanted, strict=True))
        for pixel in column
    )


def is_blue(column: list[list[int]]) -> bool:
    return any(r < 90 and 80 < g < 160 and b > 140 and alpha > 120 for r, g, b, alpha in column)


def is_orange(pixel: list[int]) -> bool:
    return pixel[3] > 120 and all(abs(a - b) < 60 for a, b in zip(pixel[:3], (0xD5, 0x5E, 0x00), strict=True))


@pytest.mark.parametrize(("span", "colour"), [
    (WARMING_UP, "#6a3fb5"), (CALIBRATING, "#1565c0"), (MAINTENANCE, "#b26a00"), (FAULT, "#c62828"),
])  # fmt: skip
def test_a_band_has_its_colour_where_it_belongs(opened: Opened, span: tuple[int, int], colour: str) -> None:
    page = opened(hour())
    inside = columns(page, 0, span[0] + 8, span[1] - 8)
    assert all(has_colour(column, colour) for column in inside)
    for begin, end in ((span[0] - 30, span[0] - 8), (span[1] + 8, span[1] + 30)):
        assert not any(has_colour(column, colour) for column in columns(page, 0, begin, end))


def test_a_gap_has_no_curve_and_nothing_else_has_none(opened: Opened) -> None:
    page = opened(hour())
    assert not any(is_blue(column) for column in columns(page, 1, OUTAGE[0] + 8, OUTAGE[1] - 8))
    assert all(is_blue(column) for column in columns(page, 1, 8, OUTAGE[0] - 8))


def test_a_gap_is_one_beside_a_curve_that_has_other_times_and_no_gap(opened: Opened) -> None:
    both = [sample(n * 1.7, reading(n * 1.7, "I2", 30.0 + n % 5, name="CO"), device="rig B") for n in range(2100)]
    page = opened([*hour(), *both])

    def has_curve(begin: float, end: float) -> list[bool]:
        lower = (0.75, 1.0)  # where only the carbon dioxide is
        return [any(is_orange(pixel) for pixel in column) for column in columns(page, 0, begin, end, lower)]

    assert not any(has_curve(OUTAGE[0] + 8, OUTAGE[1] - 8))
    assert all(has_curve(8, OUTAGE[0] - 8))


def test_an_alarm_has_its_mark(opened: Opened) -> None:
    page = opened(hour())
    red = columns(page, 0, ALARM_1[0] - 6, ALARM_1[0] + 6, (0.0, 0.03))
    assert any(r > 150 and g < 90 and alpha > 200 for column in red for r, g, _, alpha in column)


def test_the_cursor_shows_values_and_states_in_words(opened: Opened) -> None:
    page = opened(hour())
    page.evaluate("servomexPlot.charts[0].box.focus()")
    x = page.evaluate(
        "(t) => { const { u } = servomexPlot.charts[0]; const box = u.over.getBoundingClientRect();"
        " return [box.x + u.valToPos(t, 'x'), box.y + box.height / 2]; }",
        START + 700,
    )
    page.mouse.move(*x)
    page.wait_for_function("document.getElementById('moment').textContent !== ''")
    legend = page.locator(".panel").first.locator(".legend li")
    assert re.fullmatch(r"I1 Oxygen: 4 %, uncertain, calibrating", legend.nth(0).inner_text())
    assert re.fullmatch(r"I3 CO₂: [\d.]+ %, good", legend.nth(1).inner_text())
    page.mouse.move(x[0] + (OUTAGE[0] + 90 - 700) / HOUR * 1050, x[1])
    page.wait_for_function("document.querySelector('.legend li').textContent === 'I1 Oxygen: no value'")


def test_zoom_moves_all_panels_and_stays_on_the_data(opened: Opened) -> None:
    page = opened(hour())
    views = "servomexPlot.charts.map(({ u }) => [u.scales.x.min, u.scales.x.max])"
    begin = page.evaluate(views)
    page.locator("#closer").click()
    closer = page.evaluate(views)
    assert len({tuple(view) for view in closer}) == 1
    assert closer[0][1] - closer[0][0] == pytest.approx((begin[0][1] - begin[0][0]) / 2)
    page.locator("#all").click()
    assert page.evaluate(views) == begin


def test_dragging_zooms_and_a_double_click_shows_all(opened: Opened) -> None:
    page = opened(hour())
    views = "servomexPlot.charts.map(({ u }) => u.scales.x.max - u.scales.x.min)"
    begin = page.evaluate(views)
    box = page.evaluate(
        "(({x, y, width, height}) => [x, y, width, height])(servomexPlot.charts[1].u.over.getBoundingClientRect())"
    )
    page.mouse.move(box[0] + box[2] * 0.4, box[1] + 50)
    page.mouse.down()
    page.mouse.move(box[0] + box[2] * 0.6, box[1] + 60, steps=4)
    page.mouse.up()
    zoomed = page.evaluate(views)
    assert all(width == pytest.approx(begin[0] * 0.2, rel=0.05) for width in zoomed)
    page.mouse.dblclick(box[0] + box[2] * 0.5, box[1] + 50)
    assert page.evaluate(views) == begin


def test_the_keys_do_what_the_mouse_does(opened: Opened) -> None:
    page = opened(hour())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "closer"
    for _ in range(5):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith(
        "I1 Oxygen, I3 CO₂ [%]: plot."
    )
    page.keyboard.press("ArrowRight")
    said = page.locator("#spoken").inner_text()
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d; I1 Oxygen: ", said)
    wide = page.evaluate("servomexPlot.view()")
    page.keyboard.press("+")
    near = page.evaluate("servomexPlot.view()")
    assert near[1] - near[0] < wide[1] - wide[0]
    page.keyboard.press("Home")
    assert page.evaluate("servomexPlot.view()") == wide


def test_hostile_texts_are_shown_as_text(opened: Opened) -> None:
    found = [sample(n, reading(n, "I1", 1.0, name=HOSTILE), device=HOSTILE) for n in range(9)]
    page = opened(found)
    assert HOSTILE in page.title()
    assert page.locator("img").count() == 0
    assert HOSTILE in page.locator(".legend li").first.inner_text()
    assert HOSTILE in page.locator("td").nth(2).inner_text()


def test_a_long_recording_is_quick_to_use_and_never_shows_an_extreme_as_the_value(opened: Opened) -> None:
    values = [20.0 + n % 7 / 10 for n in range(100_000)]
    values[SPIKE] = 99.5
    page = opened(course(values))
    page.locator(".chart").first.focus()
    took_ms = page.evaluate(
        "() => { const began = performance.now(); for (let i = 0; i < 10; i++) {"
        " document.getElementById('closer').click(); servomexPlot.charts[0].u.redraw(); }"
        " return performance.now() - began; }"
    )
    assert took_ms < 2000
    page.keyboard.press("ArrowRight")
    assert re.search(r"I1 Oxygen: 20 to 20\.6 %, good", page.locator("#spoken").inner_text())


def test_dark_and_light_and_a_phone(opened: Opened) -> None:
    for scheme, ground in (("dark", "rgb(20, 24, 28)"), ("light", "rgb(255, 255, 255)")):
        page = opened(hour(), size=(375, 812), color_scheme=scheme)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe"])
def test_times_are_those_of_the_recording_wherever_it_is_opened(opened: Opened, zone: str) -> None:
    page = opened(hour(), timezone_id=zone)
    page.locator(".chart").first.focus()
    page.keyboard.press("ArrowRight")
    local = BEGIN.astimezone()
    assert page.locator("#spoken").inner_text().startswith(f"{local:%Y-%m-%d} {local:%H}:")
