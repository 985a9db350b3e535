"""The page of ``servomex serve``, attacked from a browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import servomex
from servomex.views.web import WebServer
from servomex.views.web.token import Token
from tests.browser.conftest import Launch, OpenPage
from tests.helpers.serving import TOKEN, live_of, reading, sample

if TYPE_CHECKING:
    from playwright.sync_api import Page

READINGS = ("events", "api/state", "api/frames", "download.csv", "metrics")


@pytest.fixture
def server() -> Iterator[WebServer]:
    live = live_of("a")
    live.take([sample("a", reading(20.5))])
    with WebServer(live, port=0) as running:
        yield running


def test_a_name_that_is_pointed_to_this_computer_gets_400(launch: Launch, server: WebServer) -> None:
    browser = launch("--host-resolver-rules=MAP evil.test 127.0.0.1")
    page = browser.new_page()
    for path in ("", *READINGS):
        answer = page.goto(f"http://evil.test:{server.port}/{path}")
        assert answer is not None
        assert answer.status == 400
        assert "a" not in page.locator("body").inner_text().split()
    assert page.goto(f"http://localhost:{server.port}/").status == 200  # type: ignore[union-attr]
    page.close()


def test_a_script_of_the_page_itself_cannot_write(page: "Page", server: WebServer) -> None:
    page.goto(server.url)
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        status = page.evaluate(
            "async method => (await fetch('/api/state', { method, body: '{}' })).status", method
        )
        assert status == 405


def test_another_origin_reads_nothing(open_page: OpenPage, server: WebServer) -> None:
    page = open_page()
    page.route("http://127.0.0.1:5999/", lambda route: route.fulfill(content_type="text/html", body="elsewhere"))
    page.goto("http://127.0.0.1:5999/")  # the same name and another port: the same site, but not the same origin
    found = page.evaluate(
        """async ([url, paths]) => {
            const read = async (path, mode) => {
                try {
                    const answer = await fetch(url + path, { mode, credentials: "include" });
                    return (await answer.text()).length;
                } catch { return -1; }
            };
            const all = [];
            for (const path of paths) for (const mode of ["cors", "no-cors"]) all.push(await read(path, mode));
            return all;
        }""",
        [server.url, READINGS],
    )
    assert set(found) <= {-1, 0}


def test_no_page_can_frame_it_and_no_script_from_elsewhere_runs_in_it(page: "Page", server: WebServer) -> None:
    page.route("http://elsewhere.test/", lambda route: route.fulfill(
        content_type="text/html", body=f"<iframe src='{server.url}'></iframe>"
    ))  # fmt: skip
    page.goto("http://elsewhere.test/")
    page.wait_for_timeout(500)
    assert all(frame.evaluate("document.querySelectorAll('#head').length") == 0 for frame in page.frames)


def test_an_injected_script_or_style_is_not_run(browser: "object", launch: Launch, server: WebServer) -> None:
    page = launch().new_page()
    page.goto(server.url)
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.taken = 1";
            document.body.append(script);
            const node = document.createElement("div");
            node.setAttribute("onclick", "window.taken = 2");
            document.body.append(node);
            node.click();
        }"""
    )
    assert page.evaluate("window.taken") is None
    page.close()


def test_a_downloaded_csv_is_a_recording(page: "Page", server: WebServer, tmp_path: Path) -> None:
    page.goto(server.url)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download csv").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    (row,) = servomex.load(path)
    assert row.reading is not None
    assert row.reading.value == 20.5


class TestToken:
    @pytest.fixture
    def guarded(self) -> Iterator[WebServer]:
        live = live_of("a", fresh_s=1000.0)
        live.take([sample("a", reading(20.5))])
        with WebServer(live, port=0, token=Token(TOKEN)) as running:
            yield running

    def test_in_the_part_that_is_never_sent_it_opens_the_page_and_leaves_the_address(
        self, page: "Page", guarded: WebServer
    ) -> None:
        asked: list[tuple[str, str]] = []
        page.on("request", lambda request: asked.append((request.url, request.headers.get("referer", ""))))
        page.goto(f"{guarded.url}#token={TOKEN}")
        page.locator("article").wait_for()
        assert page.locator(".number").inner_text() == "20.5"
        assert TOKEN not in page.url
        assert page.evaluate("history.length") <= 2
        assert len(asked) > 5
        for url, referer in asked:
            assert TOKEN not in url.partition("#")[0] + referer
        assert page.evaluate("document.cookie") == ""
        page.goto(guarded.url)
        page.locator("article").wait_for()

    def test_it_can_be_typed_and_a_wrong_one_is_refused(self, page: "Page", guarded: WebServer) -> None:
        page.goto(guarded.url)
        page.locator("#login").wait_for()
        assert page.locator("article").count() == 0
        page.keyboard.type("not-the-token-at-all")
        page.keyboard.press("Enter")
        page.get_by_text("This is not the token.").wait_for()
        page.keyboard.type(TOKEN)
        page.keyboard.press("Enter")
        page.locator("article").wait_for()
        assert page.locator("#login").is_hidden()
