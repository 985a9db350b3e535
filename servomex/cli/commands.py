"""The programs ``servomex`` and ``servomex-read``. Each command is imported when it is called, to start fast."""

import importlib

import click

from servomex.cli.interrupts import interrupts_wait, without_late_interrupts
from servomex.cli.program import ProgramGroup, version_option

_COMMANDS = (
    "read",
    "stream",
    "record",
    "watch",
    "serve",
    "convert",
    "outbox",
    "plot",
    "calibrate",
    "discover",
    "doctor",
    "diag",
    "decode",
    "replay",
    "simulate",
    "run",
)


class _Commands(ProgramGroup):
    """The group of all commands; each is named after its module."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click passes it)
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        with interrupts_wait():
            found: click.Command = getattr(importlib.import_module(f"servomex.cli.{cmd_name}"), cmd_name)
        return found


_MORE = """\b
Examples:
  servomex read /dev/ttyUSB0
  servomex read sim://4100 --watch 1 --format csv > log.csv
  servomex watch /dev/ttyUSB0 /dev/ttyUSB1
  servomex decode capture.bin
  servomex convert log.csv log.parquet
  servomex plot log.csv -o log.png
  servomex replay trace.txt
  servomex simulate --mode continuous --pty

\b
Shell completion (bash; zsh and fish likewise), in ~/.bashrc:
  eval "$(_SERVOMEX_COMPLETE=bash_source servomex)"
  eval "$(_SERVOMEX_READ_COMPLETE=bash_source servomex-read)"
"""


@click.group(cls=_Commands, invoke_without_command=True, epilog=_MORE)
@version_option
@click.pass_context
def servomex_group(ctx: click.Context) -> None:
    """Read Servomex SERVOPRO 4000-series gas analysers.

    'servomex COMMAND --help' shows more. 'servomex-read' is short for 'servomex read', and
    'python -m servomex' is the same as 'servomex'.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(prog_name: str = "servomex") -> None:
    """Run ``servomex``.

    Args:
        prog_name: The name shown in the usage and in errors.
    """
    with without_late_interrupts():
        servomex_group(prog_name=prog_name)


def read_main() -> None:
    """Run ``servomex-read``."""
    with without_late_interrupts():
        with interrupts_wait():
            from servomex.cli.read import read
        read(prog_name="servomex-read")
