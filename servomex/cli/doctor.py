"""``servomex doctor``: a page about a port, its line and its analyser: what works, what does not, and why."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from servomex.cli.connection import PORT, Connection, line_options, load
from servomex.cli.errors import command_error
from servomex.cli.interrupts import interrupts_wait
from servomex.cli.options import format_settings
from servomex.cli.output import STDERR, colour_wanted, note, one_line, write_data, write_text
from servomex.cli.program import Program, version_option
from servomex.enums import ProtocolKind
from servomex.models.plain import json_text

if TYPE_CHECKING:
    from servomex.checkup.examination import CheckRequest
    from servomex.checkup.findings import Finding

NEXT = "next: 'servomex doctor PORT' for one of these ports, 'servomex discover' to find analysers\n"

_COLOURS = {"PROBLEM": "red", "WARNING": "yellow"}
_VERDICT_WIDTH = 9
_CHECK_WIDTH = 11
_MORE = """\b
Examples:
  servomex doctor
  servomex doctor /dev/ttyUSB0
  servomex doctor COM11 --address 3 --baudrate 9600
  servomex doctor /dev/ttyUSB0 --format json > page.json
"""


@click.command(cls=Program, short_help="Check a port, its line and its analyser.", epilog=_MORE)
@click.argument("port", required=False, envvar="SERVOMEX_PORT", type=PORT)
@line_options
@click.option(
    "--format",
    "output_format",
    **format_settings(
        ["text", "json"], "How the page is written to stdout: for people, or as a JSON object on one line."
    ),
)
@version_option
def doctor(port: str | None, output_format: str, **given: Any) -> None:
    """Check a port, its line and its analyser, and show how to fix what is wrong.

    Without PORT, the ports of this computer are listed. Nothing is changed in an analyser: only reads are sent
    and, after an answer, loopbacks. The check ends by itself; on a silent line it takes about 20 seconds.
    """
    with interrupts_wait():
        from servomex.checkup import computer as portcheck
        from servomex.checkup import examination as checkup

    write = write_text if output_format == "text" else _discard
    if port is None:
        findings = [*_shown(portcheck.overview(), write)]
    else:
        request = Connection(port=port, **given)
        load(port)
        with request.logs(), contextlib.closing(checkup.examine(_order(request))) as found:
            findings = [*_shown(found, write)]
    if output_format == "json":
        write_data(_json(port, findings))
    else:
        write_text(f"\nverdict: {_verdict(findings)}\n{'' if port else NEXT}")
    problems = [item.error for item in findings if item.error]
    raise click.exceptions.Exit(command_error(problems[0]).exit_code if problems else 0)


def _order(request: Connection) -> "CheckRequest":
    """Return what to check; on a terminal, stderr shows what is being tried."""
    from servomex.checkup.examination import CheckRequest

    watched = not request.quiet and STDERR.isatty()
    return CheckRequest(
        port=request.port,
        protocol=ProtocolKind(request.protocol),
        address=request.address,
        settings=request.settings,
        timeout=request.timeout,
        retries=request.retries,
        gap=request.gap,
        listen=request.listen,
        trace=request.trace,
        report=(lambda text: note(f"{text} ...")) if watched else _discard,
    )


def _discard(_text: str) -> None:
    """Ignore a text that should not be shown."""


def _shown(findings: "Iterable[Finding]", write: Callable[[str], None]) -> "Iterator[Finding]":
    """Write and yield each finding as soon as it is available."""
    colour = colour_wanted()
    for finding in findings:
        write(_text(finding, colour=colour))
        yield finding


def _text(finding: "Finding", *, colour: bool) -> str:
    """Return what was seen on one line, and what to do on another."""
    verdict = f"{finding.verdict:<{_VERDICT_WIDTH}}"
    if colour and finding.verdict in _COLOURS:
        verdict = click.style(verdict, fg=_COLOURS[finding.verdict])
    text = f"{verdict}{finding.check:<{_CHECK_WIDTH}}{one_line(finding.seen)}\n"
    if finding.cure:
        kind = "cure" if finding.verdict in _COLOURS else "hint"
        text += f"{'':{_VERDICT_WIDTH + _CHECK_WIDTH}}{kind}: {one_line(finding.cure)}\n"
    return text


def _gravest(findings: "Sequence[Finding]") -> "Finding | None":
    """Return the first problem, else the first warning; ``None`` if there is neither."""
    return next((item for trouble in _COLOURS for item in findings if item.verdict == trouble), None)


def _verdict(findings: "Sequence[Finding]") -> str:
    """Return the summary of a page, with what to do first."""
    gravest = _gravest(findings)
    if gravest is None:
        return "ok"
    count = sum(item.verdict == gravest.verdict for item in findings)
    what = gravest.verdict.lower() + ("s" if count > 1 else "")
    return f"{count} {what}. Start here ({gravest.check}): {one_line(gravest.cure)}"


def _json(port: str | None, findings: "Sequence[Finding]") -> str:
    """Return the page as one object on one line."""
    gravest = _gravest(findings)
    record = {
        "port": port,
        "verdict": gravest.verdict if gravest else "ok",
        "check": gravest.check if gravest else None,
        "cure": gravest.cure if gravest else None,
        "findings": findings,
    }
    return json_text(record)
