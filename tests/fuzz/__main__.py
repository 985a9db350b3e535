"""Fuzzes the parsers and the reply path: ``python -m tests.fuzz``. Exit code 1 when something was found."""

import argparse
import sys
import time

import click

from tests.fuzz.engine import Outcome, Search
from tests.fuzz.limits import Limit, all_limits
from tests.fuzz.targets import TARGETS

ROUND_S = 5.0
"""CPU seconds that one target gets before the next has its turn."""
LIMIT_TRIES = 1_000_000


def main() -> int:
    """Fuzz all targets in turn until the time is used up, and write what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cpu-minutes", type=float, default=30.0, help="CPU time for all targets; default 30")
    parser.add_argument("--seed", type=int, default=1, help="makes the course of each target repeatable")
    parser.add_argument("--target", choices=[*TARGETS], action="append", help="only this one; may be repeated")
    parser.add_argument("--replay", metavar="HEX", help="run one input of the target, and nothing else")
    options = parser.parse_args()
    if options.replay is not None:
        for name in options.target or TARGETS:
            believed = TARGETS[name].run(bytes.fromhex(options.replay))
            click.echo(f"{name}: {'believed' if believed else 'refused'}")
        return 0
    outcomes = fuzz(options.target or [*TARGETS], 60 * options.cpu_minutes, options.seed)
    click.echo(table(outcomes))
    limits = all_limits(LIMIT_TRIES if options.cpu_minutes >= 5 else LIMIT_TRIES // 50)
    click.echo(limit_table(limits))
    found = [(name, *finding) for name, outcome in outcomes.items() for finding in outcome.findings]
    for name, data, what in found:
        click.echo(f"\n{name}: {what}\n  python -m tests.fuzz --target {name} --replay {data.hex()}")
    off = [limit for limit in limits if not limit.consistent]
    click.echo(f"\n{len(found)} findings; {len(off)} measured limits do not fit the calculation")
    return 1 if found or off else 0


def fuzz(names: list[str], cpu_s: float, seed: int) -> dict[str, Outcome]:
    """Give each target its turns until the CPU time is used up."""
    searches = {name: Search(TARGETS[name], f"{seed}:{name}") for name in names}
    begun = time.process_time()
    while time.process_time() - begun < cpu_s:
        for search in searches.values():
            until = min(time.process_time() + ROUND_S, begun + cpu_s)
            search.go_on(lambda _, until=until: time.process_time() >= until)  # type: ignore[misc]
    return {name: search.outcome for name, search in searches.items()}


def table(outcomes: dict[str, Outcome]) -> str:
    """Write what became of the targets, and what was covered."""
    rows = [
        f"{'target':10} {'runs':>10} {'believed':>9} {'kept':>5} {'CPU s':>7} {'slowest s':>9} {'findings':>8}"
    ]
    rows += [
        f"{name:10} {item.runs:>10,} {item.believed:>9,} {item.kept:>5} {item.cpu_s:>7.0f} "
        f"{item.slowest_s:>9.3f} {len(item.findings):>8}"
        for name, item in outcomes.items()
    ]
    every = set().union(*(item.all_lines for item in outcomes.values()))
    run = set().union(*(item.lines for item in outcomes.values()))
    for file in sorted({file for file, _ in every}):
        here, missing = {line for line in every if line[0] == file}, sorted(
            line for name, line in every - run if name == file
        )  # fmt: skip
        name = file.rpartition("servomex")[2].strip("/\\")
        rows.append(f"{name:16} {len(here) - len(missing)} of {len(here)} lines; not run: {_ranges(missing)}")
    return "\n".join(rows)


def _ranges(lines: list[int]) -> str:
    """Write line numbers with few words."""
    parts: list[list[int]] = []
    for line in lines:
        if parts and line - parts[-1][1] <= 2:
            parts[-1][1] = line
        else:
            parts.append([line, line])
    return ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in parts) or "none"


def limit_table(limits: list[Limit]) -> str:
    """Write the limits of the formats."""
    rows = [f"\n{'check':28} {'damage':32} {'calculated':>11} {'measured':>11} {'passed of':>20}"]
    rows += [
        f"{item.check:28} {item.damage:32} {item.calculated:>11.2e} {item.measured / item.tried:>11.2e} "
        f"{item.measured:>9,} {item.tried:>10,}"
        for item in limits
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
