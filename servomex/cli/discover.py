"""``servomex discover``: find the analysers on the ports of this computer."""

import contextlib
import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

import servomex
from servomex.cli.connection import PORT
from servomex.cli.errors import CommandError, NoAnswerError, PortError, RequestError
from servomex.cli.interrupts import interrupts_wait
from servomex.cli.logs import log_on_stderr
from servomex.cli.options import FIXED_MODES, MODES, format_settings, log_options, option, seconds_option
from servomex.cli.output import BAR, STDERR, note, one_line, write_data, write_text
from servomex.cli.program import Program, version_option
from servomex.durations import counted
from servomex.enums import ProtocolKind
from servomex.errors import ServomexConfigurationError, ServomexConnectionError
from servomex.models.plain import json_text
from servomex.port.names import PortInfo, present_text

if TYPE_CHECKING:
    from servomex.discovery.search import DiscoveryResult

_HEADINGS = ("port", "baud", "mode", "address", "channels", "adapter")
_MORE = """\b
Examples:
  servomex discover
  servomex discover /dev/ttyUSB0 --address 1-247
  servomex discover COM3 COM4 --baudrate 19200,9600 --protocol modbus_rtu
  servomex discover --format json | jq -r .port

\b
Nothing is changed in an analyser, but what is sent reaches every device on these
ports. Name the PORTs if other devices on this computer must not be disturbed.
"""


def _check_addresses(_ctx: click.Context, _option: click.Parameter, value: str) -> list[int]:
    """Return the addresses of a list with ranges, such as ``1,3,5-8``."""
    addresses: list[int] = []
    for part in value.split(","):
        found = re.fullmatch(r" *([0-9]{1,3})(?:-([0-9]{1,3}))? *", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= first <= last <= 247:
            raise click.BadParameter(f"{part!r} is neither an address from 1 to 247 nor a range such as 1-10.")
        addresses += range(first, last + 1)
    return addresses


def _check_baudrates(_ctx: click.Context, _option: click.Parameter, value: str) -> list[int]:
    rates = value.split(",")
    for rate in rates:
        if not (re.fullmatch(" *[0-9]{3,6} *", rate) and 300 <= int(rate) <= 115200):
            raise click.BadParameter(f"{rate!r} is not a baud rate from 300 to 115200.")
    return list(map(int, rates))


def _check_protocols(_ctx: click.Context, _option: click.Parameter, value: str) -> list[str] | None:
    names = [part.strip().lower() for part in value.split(",")]
    if names == ["auto"]:
        return None
    for name in names:
        if name not in FIXED_MODES:
            raise click.BadParameter(
                f"{name!r} is not a mode: choose from {', '.join(FIXED_MODES)}, or auto alone for all."
            )
    return [*dict.fromkeys(MODES[name] for name in names)]


@click.command(cls=Program, short_help="Search ports for analysers.", epilog=_MORE)
@click.argument("ports", metavar="[PORT]...", nargs=-1, type=PORT)
@option(
    "--address",
    "addresses",
    metavar="1,3,5-8",
    default="1-10",
    show_default=True,
    callback=_check_addresses,
    help="Modbus slave addresses to try; each takes about 0.3 s in each framing.",
)
@option(
    "--baudrate",
    "baudrates",
    metavar="BAUD,...",
    default="19200",
    show_default=True,
    callback=_check_baudrates,
    help="Baud rates to try, until an analyser is found.",
)
@option(
    "--protocol",
    "protocols",
    metavar="MODE,...",
    default=ProtocolKind.AUTO.value,
    show_default=True,
    callback=_check_protocols,
    help=f"Look for these modes only: {', '.join(FIXED_MODES)}.",
)
@seconds_option(
    "--listen",
    default=2.5,
    show_default=True,
    help="How long to listen for a broadcast at each baud rate, and again when one is heard.",
)
@click.option(
    "--format",
    "output_format",
    **format_settings(["table", "json"], "How analysers are written to stdout; json also lists the other ports."),
)
@log_options
@version_option
def discover(ports: tuple[str, ...], output_format: str, verbose: int, quiet: bool, **wanted: Any) -> None:
    """Search for analysers on the given PORTs, or on all ports of this computer, at the same time.

    A PORT is named as in 'servomex read'; usb:SERIAL is the USB adapter with this serial number.
    """
    with interrupts_wait():
        importlib.import_module("servomex.discovery.search")
    with log_on_stderr(0 if quiet else verbose), _progress(hidden=quiet or verbose > 0) as show:
        results = servomex.find_devices(ports or None, on_progress=show, **wanted)
    if output_format == "json":
        write_data("".join(map(json_text, results)))
    elif found := [result for result in results if result.info]:
        write_text(_table(found))
    _report_failures(results, quiet)


@contextlib.contextmanager
def _progress(*, hidden: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a function that shows the progress as a bar on stderr; ``None`` unless that is a terminal."""
    if hidden or not STDERR.isatty():
        yield None
        return
    with click.progressbar(length=1, label="searching", file=BAR) as bar:

        def show(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield show


def _table(results: "Sequence[DiscoveryResult]") -> str:
    """Return a table for people, with one line for each analyser."""
    rows = [_HEADINGS, *map(_cells, results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)


def _cells(result: "DiscoveryResult") -> tuple[str, ...]:
    info = result.info
    assert info is not None  # noqa: S101 (only analysers are shown)
    channels = ", ".join(f"{item.channel} {item.name}" if item.name else item.channel for item in info.channels)
    return (
        one_line(result.port),
        str(info.serial_settings.baudrate),
        info.protocol.value,
        "" if info.address is None else str(info.address),
        one_line(channels),
        one_line(_adapter(result.usb)) if result.usb else "",
    )


def _adapter(usb: PortInfo) -> str:
    """Return an adapter's own name, and the names by which it can be found again."""
    names = (usb.product or usb.description, f"usb:{usb.serial_number}" if usb.serial_number else None, usb.by_id)
    return ", ".join(name for name in names if name)


def _report_failures(results: "Sequence[DiscoveryResult]", quiet: bool) -> None:
    """Report the ports without an analyser and why; end the command if there is no analyser at all.

    Raises:
        ServomexError: There was one port; the error says why there is no analyser on it.
        CommandError: There were several.
    """
    errors = [result.error for result in results if result.error]
    if len(results) == 1 and errors:
        raise errors[0]
    for result in results:
        if result.error and not quiet:
            note(f"{result.port}: {result.error.text}")
    if results and not quiet:
        note(_count(results))
    if len(errors) == len(results):
        raise _failure(errors)


def _count(results: "Sequence[DiscoveryResult]") -> str:
    """Return the number of ports with an analyser, in words."""
    ports, with_one = {item.port for item in results}, {item.port for item in results if item.info}
    return f"found an analyser on {len(with_one)} of {counted(len(ports), 'port')}"


def _failure(errors: "list[servomex.ServomexError]") -> CommandError:
    """Return the error that ends the command when all ports failed: what the errors have in common."""
    if not errors:
        return PortError(present_text())
    if all(isinstance(error, ServomexConfigurationError) for error in errors):
        return RequestError("none of these ports can be searched")
    if all(isinstance(error, ServomexConfigurationError | ServomexConnectionError) for error in errors):
        return PortError("none of these ports could be opened")
    return NoAnswerError("no analyser found")
