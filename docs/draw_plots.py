"""Draw the pictures of ``howto/plotting``: ``python docs/draw_plots.py`` in the sources.

It needs matplotlib, and for the page playwright and Chromium.
"""

import shutil
import sys
import tempfile
from pathlib import Path

HOWTO = Path(__file__).parent / "howto"
TITLE = "rig A: an hour with a calibration, two alarms and an outage"


def main() -> None:
    """Draw them."""
    sys.path.insert(0, str(HOWTO.parents[1]))
    import servomex
    from tests.helpers.plotted import hour

    servomex.plot(hour(), HOWTO / "plotting.png", title=TITLE, size=(1000, 900), overwrite=True)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "run.html"
        servomex.plot(hour(), page, title=TITLE)
        _photograph(page, HOWTO / "plotting-page.png")


def _photograph(source: Path, target: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 730}, color_scheme="dark")
        page.goto(source.as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        page.mouse.move(345, 250)
        page.screenshot(path=target)
        browser.close()


if __name__ == "__main__":
    main()
