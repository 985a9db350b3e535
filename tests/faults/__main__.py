"""Drives all of the driver through faults, and compares what it reads with the truth: ``python -m tests.faults``.

Exit code 1 when anything happened that must not: a value or a state was wrong, or stale and passed as fresh, an
alarm was lost, gas flowed while the driver said that it did not, a call came back long after its deadline,
crashed, or did not end.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import click

from tests.faults.campaign import MOST_FINDINGS, draw, run_campaign
from tests.faults.scenes import KINDS
from tests.faults.sleeping import compiler
from tests.faults.tally import KINDS as KINDS_OF_FINDINGS
from tests.faults.tally import Tally

SHOWN = 3
"""Findings of one kind, in one kind of episode, that are written at most; all are counted."""


def main() -> int:
    """Play a campaign and write what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="no episode begins later; default 10")
    parser.add_argument("--seed", default="1", help="what is done, and what goes wrong, follows from it")
    parser.add_argument(
        "--kind",
        default="all",
        choices=["old", "new", "all", *KINDS],
        metavar="KIND",
        help=f"old, new, all (default), or one of the new: {', '.join(KINDS)}",
    )
    parser.add_argument("--episode", type=int, help="play this one alone, and show what happens in it")
    parser.add_argument("--at-once", type=int, default=8, help="episodes played at the same time; default 8")
    parser.add_argument("--most", type=int, default=MOST_FINDINGS, help="end after so many findings; default 20")
    options = parser.parse_args()
    begun, cpu = time.monotonic(), time.process_time()
    if options.episode is None:
        tally = run_campaign(
            options.seed,
            seconds=60 * options.minutes,
            at_once=options.at_once,
            kind=options.kind,
            most=options.most,
        )
    else:
        shim = Path() if compiler() else None
        with tempfile.TemporaryDirectory() as folder:
            what = draw(options.seed, options.episode, options.kind, Tally(), Path(folder), shim, quick=False)[2]
        click.echo("\n  ".join(map(str, (what, *what.events))))
        tally = run_campaign(options.seed, first=options.episode, count=1, at_once=1, kind=options.kind)
    click.echo("\n".join(tally.lines()))
    click.echo(
        f"took {time.monotonic() - begun:.0f} s, {time.process_time() - cpu:.0f} s of CPU; seed {options.seed}"
    )
    for kind, of_kind in tally.kinds.items():
        for sort in KINDS_OF_FINDINGS:
            for text in [item.text for item in of_kind.findings if item.kind == sort][:SHOWN]:
                click.echo(f"\n{kind}: {text}")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
