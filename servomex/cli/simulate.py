"""``servomex simulate``: a virtual analyser on a pseudo-terminal or a TCP port, for programs that open one."""

from typing import TYPE_CHECKING, Any

import click

from servomex.cli.errors import CommandError
from servomex.cli.interrupts import interrupts_wait
from servomex.cli.options import ADDRESS, FIXED_MODES, SECONDS, check_seconds, mode_settings, whole_settings
from servomex.cli.output import note, write_data
from servomex.cli.program import Program, version_option
from servomex.runtime.clock import time

if TYPE_CHECKING:
    from servomex.simulator.serve import PtyServer, TcpServer

TICK_S = 0.1
LOOPBACK = "127.0.0.1"

_MORE = """\b
Examples:
  servomex simulate --mode continuous --pty
  servomex simulate --mode modbus_rtu --address 7 --tcp 5020
  servomex simulate --preset moving --pty --fault late:0.3 --fault drop:0.1

The port to open is the only line on stdout. Ctrl-C ends it with exit code 0.
"""


def _check_tcp(_ctx: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, int] | None:
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    if not (port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise click.BadParameter(f"{value!r} is neither PORT nor HOST:PORT with a port from 0 to 65535.")
    return host or LOOPBACK, int(port)


@click.command(cls=Program, epilog=_MORE)
@click.option("--mode", **mode_settings(FIXED_MODES, "Communication mode", "modbus_rtu"))
@click.option(
    "--preset",
    type=click.Choice(["4100", "moving"]),
    default="4100",
    show_default=True,
    help="4100: constant values; moving: changing values and an alarm.",
)
@click.option("--address", **ADDRESS)
@click.option(
    "--period",
    type=SECONDS,
    metavar="SECONDS",
    callback=check_seconds(zero=True),
    default=2.0,
    show_default=True,
    help="Time between broadcasts; 0 for none.",
)
@click.option("--baudrate", **whole_settings(300, 115200, 19200, "Baud rate of --pace.", "BAUD"))
@click.option("--pace", is_flag=True, help="Send bytes as slowly as a real line does.")
@click.option("--pty", is_flag=True, help="Serve on a pseudo-terminal.")
@click.option(
    "--tcp",
    metavar="[HOST:]PORT",
    callback=_check_tcp,
    help="Serve on a TCP port, 0 for any free one; without HOST, only this computer can reach it.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="SPEC",
    help="Simulate a fault, such as late:0.3; may be repeated. "
    "Faults: silent, late, drop, corrupt, garbage, chunked, foreign, duplicate, gap, echo and unplug.",
)
@click.option(
    "--seed", type=int, metavar="N", default=0, show_default=True, help="Seed that makes the faults repeatable."
)
@version_option
def simulate(pty: bool, tcp: tuple[str, int] | None, faults: tuple[str, ...], **options: Any) -> None:
    """Serve a virtual analyser until Ctrl-C."""
    if pty == (tcp is not None):
        raise click.UsageError("Give either --pty or --tcp.")
    try:
        _serve(_server(tcp, [*faults], options), options["address"])
    except KeyboardInterrupt:
        note("stopped")


def _server(tcp: tuple[str, int] | None, faults: list[str], options: dict[str, Any]) -> "PtyServer | TcpServer":
    with interrupts_wait():
        from servomex.simulator.serve import PtyServer, TcpServer
        from servomex.simulator.urls import build_line

    line = build_line(**options, faults=faults)
    return PtyServer(line) if tcp is None else TcpServer(line, *tcp)


def _serve(server: "PtyServer | TcpServer", address: int) -> None:
    """Serve until interrupted; write the port, and each one that replaces it."""
    with server:
        port = server.port
        if not port:
            raise CommandError("the pseudo-terminal could not be opened")
        write_data(f"{port}\n")
        how = f"servomex-read {port}" + (f" --address {address}" if address != 1 else "")
        note(f"read it with: {how}; end it with Ctrl-C")
        while True:
            time.sleep(TICK_S)
            if server.port != port:
                port = server.port
                note(f"it was unplugged; the port is now {port}")
