"""Drives all of the driver through faults, and compares what it reads with the truth: ``python -m tests.faults``.

Exit code 1 when a value was wrong, or stale and passed as fresh, or a call crashed or did not end.
"""

import argparse
import sys
import time

import click

from tests.faults.campaign import run_campaign
from tests.faults.plan import make_plan
from tests.faults.stage import HAS_PTY


def main() -> int:
    """Play a campaign and write what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="no episode begins later; default 10")
    parser.add_argument("--seed", default="1", help="what is done, and what goes wrong, follows from it")
    parser.add_argument("--episode", type=int, help="play this one alone, and show what happens in it")
    parser.add_argument("--at-once", type=int, default=8, help="episodes played at the same time; default 8")
    options = parser.parse_args()
    begun, cpu = time.monotonic(), time.process_time()
    if options.episode is None:
        tally = run_campaign(options.seed, seconds=60 * options.minutes, at_once=options.at_once)
    else:
        plan = make_plan(options.seed, options.episode, pty=HAS_PTY)
        click.echo("\n  ".join(map(str, (plan, *plan.events))))
        tally = run_campaign(options.seed, first=options.episode, count=1, at_once=1)
    click.echo("\n".join(tally.lines()))
    click.echo(
        f"took {time.monotonic() - begun:.0f} s, {time.process_time() - cpu:.0f} s of CPU; seed {options.seed}"
    )
    for finding in tally.findings:
        click.echo(f"\n{finding.text}")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
