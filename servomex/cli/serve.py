"""``servomex serve``: a web page that shows live readings."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from servomex.cli.connection import PORT, Connection, channels_option, line_options, load
from servomex.cli.errors import CommandError
from servomex.cli.interrupts import interrupts_wait
from servomex.cli.options import naming_options, rate_of, rate_options, whole_settings
from servomex.cli.output import note, write_data
from servomex.cli.program import Program, version_option
from servomex.errors import ServomexConnectionError
from servomex.runtime.clock import time

if TYPE_CHECKING:
    from servomex.views.web import Live, WebServer

TICK_S = 0.25
USUAL_HZ = 1.0

_MORE = """\b
Examples:
  servomex serve /dev/ttyUSB0
  servomex serve usb:A50285BI usb:A50285BK --every 2s --http-port 9000
  servomex serve sim://moving --http-port 0
  servomex serve /dev/ttyUSB0 --host 0.0.0.0 --token-file /etc/servomex/token

The address of the page is the only line on stdout. Ctrl-C ends it with exit code 0.
"""


@click.command(cls=Program, short_help="Show readings on a web page.", epilog=_MORE)
@click.argument("ports", metavar="PORT...", nargs=-1, required=True, type=PORT)
@line_options
@channels_option
@naming_options
@rate_options(f"{USUAL_HZ:g} if omitted.")
@click.option("--http-port", **whole_settings(0, 65535, 8080, "TCP port of the page; 0 for any free one.", "N"))
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Address of the page; other computers can reach another one than this, and need a token.",
)
@click.option(
    "--token-file",
    type=click.Path(readable=False),
    metavar="FILE",
    help="File whose first line viewers must know, 16 or more characters.",
)
@click.option(
    "--allow-host",
    "hosts",
    metavar="NAME",
    multiple=True,
    help="Further name that the page may be asked for by, such as that of a proxy; may be repeated.",
)
@click.option("--hold", **whole_settings(1, 10_000_000, 100_000, "Rows held for charts and download."))
@version_option
def serve(ports: tuple[str, ...], rate: float | None, every: float | None, **given: Any) -> None:
    """Show the readings of the analysers on each PORT on a web page, until Ctrl-C.

    The page only shows: nothing can be changed, and no calibration started, by it. Only this computer can reach it
    unless --host says otherwise.
    """
    rate_hz = rate_of(rate, every) or USUAL_HZ
    if len(set(ports)) < len(ports):
        raise click.UsageError("A port is given twice.")
    if given["name"] and len(ports) > 1:
        raise click.UsageError("--name is for one port: several are named after their ports.")
    web = {name: given.pop(name) for name in ("http_port", "host", "token_file", "hosts", "hold")}
    channels = given.pop("channels")
    requests = [Connection(port=port, trace=None, **given) for port in ports]
    with requests[0].logs(), _reading(requests, channels, rate_hz, web["hold"]) as live:
        try:
            with _server(live, web) as server:
                write_data(f"{server.url}\n")
                if not requests[0].quiet:
                    note("end it with Ctrl-C")
                _watch(live, server, quiet=requests[0].quiet)
        except KeyboardInterrupt:
            if not requests[0].quiet:
                note("stopped")


serve.params = [item for item in serve.params if item.name != "trace"]  # a line that several share has none


def _server(live: "Live", web: dict[str, Any]) -> "WebServer":
    with interrupts_wait():
        from servomex.views.web.server import WebServer
        from servomex.views.web.token import Token

    token = None if web["token_file"] is None else Token.from_file(web["token_file"])
    try:
        return WebServer(live, host=web["host"], port=web["http_port"], hosts=web["hosts"], token=token)
    except ServomexConnectionError as error:  # not the analyser's port, which has an exit code of its own
        raise CommandError(str(error)) from error


@contextlib.contextmanager
def _reading(
    requests: list[Connection], channels: list[str] | None, rate_hz: float, hold: int
) -> "Iterator[Live]":
    """Read the analysers for the page."""
    with interrupts_wait():
        from servomex.manager.manager import ServomexManager
        from servomex.views.gathering import Gathering
        from servomex.views.web.live import Live
    live = Live(hold)
    with ServomexManager() as manager:
        for request in requests:
            _add(manager, request, channels)
        gathering = Gathering(manager, rate_hz, live.take)
        for name, request in zip(manager.names, requests, strict=True):
            live.add(name, request.port, lambda name=name: gathering.figures(name))  # type: ignore[misc]
        with gathering:
            yield live


def _add(manager: Any, request: Connection, channels: list[str] | None) -> None:
    load(request.port, request.protocol)
    manager.add(
        request.name or request.port,
        request.port,
        protocol=request.protocol,
        address=request.address,
        serial_settings=request.settings,
        timeout=request.timeout,
        channels=channels,
        retries=request.retries,
        gap=request.gap,
        listen=request.listen,
        tags=request.tags,
        wait=False,
    )


def _watch(live: "Live", server: "WebServer", *, quiet: bool) -> None:
    """Report on stderr which analysers are lost and back, until the server ends."""
    seen = 0
    while server.alive:
        for event in live.board.events(after=seen):
            seen = event.number
            if event.kind == "lost" and not quiet:
                note(f"{event.device} {event.text}" if event.over else f"{event.device}: {event.text}")
        time.sleep(TICK_S)
    raise CommandError(f"the web server ended: {server.error}")
