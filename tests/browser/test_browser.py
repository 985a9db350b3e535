"""The browser that the other tests use."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_a_script_runs(page: "Page") -> None:
    page.set_content("<p id=a></p><script>document.getElementById('a').textContent = 1 + 2</script>")
    assert page.locator("#a").text_content() == "3"
