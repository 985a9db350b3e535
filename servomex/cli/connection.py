"""The options of every command that opens an analyser, and the opening itself."""

import contextlib
import importlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import attrs
import click

import servomex
from servomex.cli.interrupts import interrupts_wait
from servomex.cli.logs import log_on_stderr
from servomex.cli.options import (
    ADDRESS,
    MODES,
    PortArgument,
    checked,
    log_options,
    mode_settings,
    option,
    seconds_option,
    whole_settings,
)
from servomex.cli.output import STDERR, note
from servomex.enums import ProtocolKind
from servomex.models.naming import asked_channels
from servomex.models.tags import NO_TAGS
from servomex.settings import SerialSettings

_log = logging.getLogger("servomex.cli")
F = TypeVar("F", bound=Callable[..., Any])

_LINE = SerialSettings()
NOTICE_AFTER_S = 1.0
"""When a line shows what is being tried. Opening usually takes less."""

PORT = click.Path(readable=False)
"""The name of a port on the command line."""

_OPTIONS = (
    option("--protocol", **mode_settings(MODES, "Communication mode set on the analyser's panel", "auto")),
    option("--address", **ADDRESS),
    option("--baudrate", **whole_settings(300, 115200, _LINE.baudrate, "Bits per second.", "BAUD")),
    option("--bytesize", **whole_settings(7, 8, _LINE.bytesize, "Data bits.")),
    option(
        "--parity",
        type=click.Choice(["N", "E", "O"], case_sensitive=False),
        metavar="[N|E|O]",
        default=_LINE.parity,
        show_default=True,
        help="Parity: none, even or odd.",
    ),
    option("--stopbits", **whole_settings(1, 2, _LINE.stopbits, "Stop bits.")),
    seconds_option(
        "--gap", zero=True, longest=10, default=0.05, show_default=True, help="Silence before each Modbus request."
    ),
    option("--retries", **whole_settings(0, 10, 2, "How many times a failed Modbus request is repeated.")),
    seconds_option("--timeout", show_default="depends on the line", help="How long a reading may take."),
    seconds_option(
        "--listen",
        default=10.0,
        show_default=True,
        help="How long to wait for the first broadcast, and for 'auto' to find the mode.",
    ),
    option(
        "--trace",
        type=click.Path(readable=False),
        metavar="FILE",
        help="Append every byte, in both directions, to this file.",
    ),
    log_options,
)


def connection_options(command: F) -> F:
    """Add the options of a :class:`Connection`, and the port."""
    return click.argument("port", cls=PortArgument, envvar="SERVOMEX_PORT", type=PORT)(line_options(command))


def line_options(command: F) -> F:
    """Add the options of a :class:`Connection`, except the port."""
    for decorate in reversed(_OPTIONS):
        command = decorate(command)
    return command


channels_option: Callable[[F], F] = option(
    "--channels",
    metavar="I1,CO2,...",
    callback=checked(lambda text: [*asked_channels(text.split(","))]),
    show_default="all",
    help="Read only these channels, named by id or gas.",
)
"""The option that selects channels."""


@attrs.frozen(kw_only=True)
class Connection:
    """How to open an analyser; the fields are the options of the command line."""

    port: str
    protocol: ProtocolKind
    address: int
    baudrate: int
    bytesize: int
    parity: Any
    stopbits: int
    gap: float
    retries: int
    timeout: float | None
    listen: float
    trace: str | None
    verbose: int
    quiet: bool
    name: str | None = None
    tags: Mapping[str, str] = NO_TAGS

    @property
    def settings(self) -> SerialSettings:
        """The serial settings."""
        return SerialSettings(
            baudrate=self.baudrate, bytesize=self.bytesize, parity=self.parity, stopbits=self.stopbits
        )

    @contextlib.contextmanager
    def logs(self, omitted: str = "") -> Iterator[None]:
        """Show the log on stderr, at the requested level, without the logger ``omitted``."""
        with log_on_stderr(None if self.quiet else self.verbose, omitted):
            yield

    def open(self, channels: Iterable[str] | None = None) -> "servomex.Analyzer":
        """Open the analyser."""
        settings = self.settings
        _log.info("opening %s: %s, address %d, %s", self.port, self.protocol, self.address, settings)
        load(self.port, self.protocol)
        with self._patience():
            return servomex.open_device(
                self.port,
                protocol=self.protocol,
                address=self.address,
                serial_settings=settings,
                timeout=self.timeout,
                channels=channels,
                retries=self.retries,
                gap=self.gap,
                listen=self.listen,
                trace=self.trace,
                name=self.name,
                tags=self.tags,
            )

    def add_to(
        self, manager: "servomex.ServomexManager", name: str, channels: Iterable[str] | None = None
    ) -> None:
        """Add the analyser to a manager, which looks for it until it is there."""
        load(self.port, self.protocol)
        manager.add(
            name,
            self.port,
            protocol=self.protocol,
            address=self.address,
            serial_settings=self.settings,
            timeout=self.timeout,
            channels=channels,
            retries=self.retries,
            gap=self.gap,
            listen=self.listen,
            tags=self.tags,
            wait=False,
        )

    @contextlib.contextmanager
    def _patience(self) -> Iterator[None]:
        """On a terminal, show what is being tried if it takes long."""
        if self.quiet or self.verbose or not STDERR.isatty():
            yield
            return
        timer = threading.Timer(NOTICE_AFTER_S, note, [self._attempt])
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    @property
    def _attempt(self) -> str:
        """What is being tried while the analyser is opened."""
        if self.protocol == ProtocolKind.CONTINUOUS_ASCII:
            return f"waiting for a broadcast on {self.port}, for up to {self.listen:g} s ..."
        if self.protocol == ProtocolKind.AUTO:
            return (
                f"looking for an analyser on {self.port}, for up to {self.listen:g} s: Modbus RTU and ASCII at "
                f"address {self.address}, and broadcasts ..."
            )
        return f"asking address {self.address} on {self.port} in mode {self.protocol} ..."


def load(port: str, protocol: str = ProtocolKind.AUTO.value) -> None:
    """Import what opening would import: Ctrl-C during an import could get lost."""
    with interrupts_wait():
        importlib.import_module("servomex.analyzer.opening")
        if protocol != ProtocolKind.CONTINUOUS_ASCII:
            importlib.import_module("servomex.analyzer.detect")
            importlib.import_module("servomex.modbus.client")
        if port.startswith("sim://"):
            importlib.import_module("servomex.simulator.protocol_sim")
