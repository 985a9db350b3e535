"""Does to recordings what can happen to them, and accounts for every row: ``python -m tests.faults.files``.

Exit code 1 when anything happened that must not: rows were lost without a word, were wrong or doubled; a program
crashed or did not end; what was done to a file was reported late; or a file could not be continued or read.
"""

import argparse
import sys
import time

import click

from tests.faults.files.campaign import MOST_FINDINGS, draw, run_campaign
from tests.faults.files.scenes import SCENES

SHOWN = 3
"""Findings of one sort, in one kind of episode, that are written at most; all are counted."""


def main() -> int:
    """Play a campaign and write what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.files", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="no episode begins later; default 10")
    parser.add_argument("--seed", default="1", help="what is done follows from it")
    parser.add_argument("--only", nargs="+", default=[*SCENES], choices=[*SCENES], metavar="KIND",
                        help=f"kinds of episodes; all by default: {', '.join(SCENES)}")  # fmt: skip
    parser.add_argument("--episode", type=int, help="play only the one of this number of each kind, and show it")
    parser.add_argument("--at-once", type=int, default=4, help="episodes played at the same time; default 4")
    parser.add_argument(
        "--most", type=int, default=MOST_FINDINGS, help="end after this number of findings; default 1000"
    )
    parser.add_argument("--quick", action="store_true", help="short episodes, as in the test suite")
    options = parser.parse_args()
    begun = time.monotonic()
    one = options.episode is not None
    tally = run_campaign(
        options.seed,
        seconds=60 * options.minutes,
        kinds=options.only,
        first=options.episode or 0,
        rounds=1 if one else None,
        at_once=options.at_once,
        quick=options.quick,
        most=options.most,
    )
    for kind in options.only if one else []:
        click.echo(str(draw(options.seed, kind, options.episode, quick=options.quick)))
    click.echo("\n".join(tally.lines()))
    click.echo(f"took {time.monotonic() - begun:.0f} s; seed {options.seed}")
    for count in tally.kinds.values():
        for sort in dict.fromkeys(finding.what for finding in count.findings):
            for finding in [item for item in count.findings if item.what == sort][:SHOWN]:
                click.echo(f"\n{finding.text}\n  python -m tests.faults.files {finding.replay}")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
