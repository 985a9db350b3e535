"""What the pages on MQTT and on InfluxDB show is run from the first block to the last, against real servers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.pages import WITH_SERVER, Block, Script, blocks_of, needs_bash, replaced, stand_ins, workplace
from tests.servers import mosquitto_server
from tests.servers.influx_server import InfluxServer

PAGES = {page.stem: page for page in WITH_SERVER}
NOT_RUN = ("$ sudo apt ", "$ docker ")
"""They install a server, which is there."""


def shown(name: str) -> Iterator[Block]:
    """Give the blocks of a page that are run."""
    for block in blocks_of(PAGES[name]):
        if not block.text.startswith(NOT_RUN):
            yield block


def run(block: Block, names: dict[str, str], folder: Path) -> None:
    """Run a block, with what stands in for what the page names."""
    text = replaced(block.text, names)
    if block.kind == "console":
        for command in Script(str(block), text).run_in(folder):
            command.check()
    elif block.kind == "python":
        with stand_ins(text) as ports:
            exec(
                compile("\n" * block.line + replaced(text, ports), str(block.page), "exec"),
                {"__name__": "__main__"},
            )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in."""
    found = workplace(tmp_path)
    monkeypatch.chdir(found)
    return found


@needs_bash
def test_the_page_on_mqtt(folder: Path) -> None:
    mosquitto_server.program("mosquitto_sub")
    server = mosquitto_server.MosquittoServer()
    names = {
        "sudo ": "",
        "/etc/mosquitto": str(server.folder),
        "broker1": f"127.0.0.1:{server.port}",
        "-h broker1": f"-h 127.0.0.1 -p {server.port}",
        "listener 1883": f"listener {server.port} 127.0.0.1",
    }
    try:
        blocks = [*shown("mqtt")]
        config, acl = [replaced(block.text, names) for block in blocks if block.kind == "text"]
        (server.folder / "conf").write_text(f"{config}\n")
        (server.folder / "acl").write_text(f"{acl}\n")
        for block in blocks:
            run(block, names, folder)
            if "mosquitto_passwd" in block.text:
                server.start()
    finally:
        server.remove()


@needs_bash
def test_the_page_on_influx(folder: Path) -> None:
    server = InfluxServer()
    try:
        server.start()
        for block in shown("influx"):
            run(block, {"db1:8086": f"127.0.0.1:{server.port}"}, folder)
    finally:
        server.remove()
