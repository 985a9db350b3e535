"""``servomex run``: read the analysers of a fleet file for months, and store what they say."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from servomex.cli.errors import RequestError, stop_code
from servomex.cli.interrupts import interrupts_wait
from servomex.cli.logs import log_on_stderr, warnings_on_stderr
from servomex.cli.options import log_options
from servomex.cli.output import note
from servomex.cli.program import Program, version_option
from servomex.durations import counted
from servomex.errors import ServomexError
from servomex.runtime.clock import time

if TYPE_CHECKING:
    from servomex.fleet.model import Fleet
    from servomex.fleet.service import Service

TICK_S = 0.5
STATUS_S = 10.0
"""How often systemd is told how the service fares."""
MICROSECONDS = 1_000_000

_MORE = """\b
Examples:
  servomex run fleet.toml --check
  servomex run /etc/servomex/fleet.toml

\b
SIGHUP reads the file again: only what has changed in it is closed or opened, and a
file with a mistake changes nothing. Ctrl-C and SIGTERM end it after the readings in
progress; what the sinks have not taken stays in the outbox.
"""


@click.command(cls=Program, short_help="Read a fleet of analysers as a service.", epilog=_MORE)
@click.argument("fleet_file", metavar="FLEET", type=click.Path(readable=False, path_type=Path))
@click.option("--check", is_flag=True, help="Only check the file: tell every mistake with its line, open nothing.")
@log_options
@version_option
def run(fleet_file: Path, check: bool, verbose: int, quiet: bool) -> None:
    """Read the analysers that the file FLEET names, and send their readings to its sinks.

    An analyser or a port that is missing is looked for until it is there, and stops no other. Readings wait in the
    outbox until every sink has them.
    """
    fleet = _read(fleet_file)
    if check:
        sinks = counted(len(fleet.sinks), "sink")
        if not quiet:
            note(f"{fleet_file}: {counted(len(fleet.analysers), 'analyser')}, {sinks}, nothing wrong")
        return
    warned = contextlib.nullcontext() if quiet or verbose else warnings_on_stderr()
    with log_on_stderr(None if quiet else verbose), warned:
        with interrupts_wait():
            from servomex.fleet.service import Service
        try:
            with _hangups() as hangup, Service(fleet) as service:
                _serve(service, fleet_file, hangup, quiet=quiet)
        except KeyboardInterrupt as stop:  # the regular end
            raise click.exceptions.Exit(stop_code(stop)) from stop


def _read(path: Path) -> "Fleet":
    """Read the file, and show every mistake in it.

    Raises:
        RequestError: There are mistakes.
    """
    with interrupts_wait():
        from servomex.fleet.file import read_fleet
    fleet, problems = read_fleet(path)
    if fleet is None:
        for problem in problems:
            note(f"{path}{'' if problem.line is None else f':{problem.line}'}: {problem.text}")
        raise RequestError(f"{path} cannot be used: {counted(len(problems), 'mistake')}")
    return fleet


@contextlib.contextmanager
def _hangups() -> Iterator[threading.Event]:
    """Yield an event that SIGHUP sets; Windows has no such signal."""
    event = threading.Event()
    number = getattr(signal, "SIGHUP", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(number, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(number, before)


def _serve(service: "Service", path: Path, hangup: threading.Event, *, quiet: bool) -> None:
    """Look after the service until it is interrupted."""
    from servomex.fleet.notify import notify, watchdog_s

    wanted_s = watchdog_s()
    every_s = min(STATUS_S, wanted_s / 2) if wanted_s else STATUS_S
    notify("READY=1", f"STATUS={service.status}")
    if not quiet:
        note(f"reading {counted(len(service.fleet.analysers), 'analyser')}; end it with Ctrl-C")
        if service.web is not None:
            note(f"the page is {service.web.url}")
    look_at, still_before = time.monotonic() + every_s, list[str]()
    try:
        while True:
            if hangup.wait(TICK_S):
                hangup.clear()
                _reload(service, path)
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + every_s
                still = service.progress.look()
                for name in sorted({*still} - {*still_before}):
                    note(f"{name} makes no progress")
                notify(f"STATUS={service.status}", *([] if still else ["WATCHDOG=1"]))
                still_before = still
    finally:
        notify("STOPPING=1")


def _reload(service: "Service", path: Path) -> None:
    """Read the file again; one with a mistake, or that cannot be run, changes nothing more and says so."""
    from servomex.fleet.notify import notify

    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() * MICROSECONDS // 1_000_000_000}")
    try:
        changed = service.reload(_read(path))
    except (RequestError, ServomexError) as error:
        note(f"not reloaded: {error}")
    else:
        note(f"reloaded: {'; '.join(changed) or 'nothing changed'}")
    notify("READY=1", f"STATUS={service.status}")
