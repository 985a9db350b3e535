"""The browser of the tests: Chromium as the system has it, driven by playwright."""

import importlib
import os
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP = (1280, 800)
PHONE = (375, 812)
LIMIT_MS = 20_000
"""How long anything on a page may take; computers that run tests are busy."""

MUST_BE_HERE = "SERVOMEX_TEST_SERVERS" in os.environ
"""Whether a browser that is missing fails the tests; read before a test hides it."""

Launch = Callable[..., "Browser"]
OpenPage = Callable[..., "Page"]
Serious = Callable[["Page"], list[str]]


def _missing(reason: str) -> NoReturn:
    """Skip the test, or fail it where nothing may be missing."""
    if MUST_BE_HERE:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def playwright() -> "Iterator[Playwright]":
    """What drives the browser."""
    if CHROMIUM is None:
        _missing("there is no Chromium; on Debian: apt install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright is not installed: python -m pip install playwright")
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
def launch(playwright: "Playwright") -> Iterator[Launch]:
    """Start a browser of its own, with further arguments of the command line."""
    browsers: list[Browser] = []

    def start(*args: str) -> "Browser":
        browsers.append(playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGS, *args]))
        return browsers[-1]

    yield start
    for browser in browsers:
        browser.close()


@pytest.fixture(scope="session")
def browser(launch: Launch) -> "Browser":
    """A browser, the same for all tests of a process."""
    return launch()


@pytest.fixture
def open_page(browser: "Browser") -> Iterator[OpenPage]:
    """Open an empty page: ``open_page(size=PHONE, color_scheme="dark")``, as of ``Browser.new_context``.

    The test fails if a script of a page raised an error, or did what the page's own policy forbids.
    """
    contexts = []
    wrong: list[str] = []

    def heard(message: "ConsoleMessage") -> None:
        if "Content Security Policy" in message.text:
            wrong.append(message.text)

    def start(*, size: tuple[int, int] = DESKTOP, **options: object) -> "Page":
        width, height = size
        context = browser.new_context(viewport={"width": width, "height": height}, **options)  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(LIMIT_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", heard)
        return page

    yield start
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def serious() -> Serious:
    """Return what axe-core finds in a page that is more than a small matter, with where it is."""
    try:
        axe = importlib.import_module("axe_playwright_python.sync_playwright").Axe()
    except ImportError:
        _missing("axe-core is not installed: python -m pip install axe-playwright-python")

    def look(page: "Page") -> list[str]:
        found: list[dict[str, Any]] = axe.run(page).response["violations"]
        return [
            f"{item['id']}: {node['target']} {node['failureSummary']}"
            for item in found
            if item["impact"] in ("serious", "critical")
            for node in item["nodes"]
        ]

    return look


@pytest.fixture
def page(open_page: OpenPage) -> "Page":
    """An empty page of 1280 x 800 pixels."""
    return open_page()
