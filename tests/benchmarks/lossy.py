"""Lines on which replies are lost and damaged: how many sweeps come out right, and whether any comes out wrong."""

import contextlib
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import attrs

from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.benchmarks.figures import Goal, Result, Skipped, figure, ratio
from tests.benchmarks.machine import Settings
from tests.benchmarks.peers import Client, available_clients, missing_clients
from tests.benchmarks.wire import TURNAROUND_S, Line

RATES = ((0.02, 0.01), (0.10, 0.05), (0.25, 0.10))
"""Which share of the replies is lost, and of which one byte is changed."""
SECONDS = 25.0
SEEDS = (1, 2, 3)
TIMEOUT_S = 0.5
"""The others' timeout; all else is as they come."""
NONE_WRONG = Goal(1.0)
"""Fewer than one."""


@attrs.define
class Outcome:
    """What became of the sweeps of one client."""

    right: int = 0
    wrong: int = 0
    failed: int = 0


def lossy(settings: Settings) -> Iterator[Result]:
    """Count right and wrong sweeps at 19200 baud while replies are lost and damaged."""
    seconds, seeds = settings.choose((SECONDS, SEEDS), (0.5, (1,)))
    kinds = available_clients()
    for drop, corrupt in RATES:
        case = f"{100 * drop:g} % lost, {100 * corrupt:g} % damaged"
        settings.say(case)
        found = _all_at_once(kinds, drop, corrupt, seconds, seeds)
        unit = f"of {seconds:g} s"
        for kind, outcomes in found.items():
            ours = kind is kinds[0]
            yield figure(f"{case}, right sweeps, {kind.name}", unit, [item.right for item in outcomes])
            wrong = sum(item.wrong for item in outcomes)
            yield figure(f"{case}, wrong sweeps, {kind.name}", "", [wrong], goal=NONE_WRONG if ours else None)
            yield figure(f"{case}, failed sweeps, {kind.name}", unit, [item.failed for item in outcomes])
        for kind in kinds[1:]:
            # no sweep at all counts as one, so that there is a ratio
            mine, theirs = ([max(1, item.right) for item in found[each]] for each in (kinds[0], kind))
            yield ratio(f"{case}, right sweeps, servomex / {kind.name}", mine, theirs)
    for name in missing_clients():
        yield Skipped(name, "it is not installed")


def _all_at_once(
    kinds: list[type[Client]], drop: float, corrupt: float, seconds: float, seeds: tuple[int, ...]
) -> dict[type[Client], list[Outcome]]:
    """Run every client with every seed at the same time, each on its own line: they mostly wait."""
    with _quiet(), ThreadPoolExecutor(len(kinds) * len(seeds)) as pool:
        running = {
            kind: [pool.submit(_swept, kind, drop, corrupt, seconds, seed) for seed in seeds] for kind in kinds
        }
        return {kind: [item.result() for item in items] for kind, items in running.items()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep off the screen what the clients log of every fault."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _swept(kind: type[Client], drop: float, corrupt: float, seconds: float, seed: int) -> Outcome:
    """Open on a good line, see what a right sweep is, and sweep while the line is bad."""
    analyser = VirtualAnalyzer(mode="modbus_rtu")
    analyser.faults = attrs.evolve(analyser.faults, seed=seed)
    wire = VirtualLine(analyser, pace=True, turnaround=TURNAROUND_S)
    outcome = Outcome()
    with contextlib.closing(kind(wire.url, Line(19200, ascii=False), TIMEOUT_S)) as client:
        client.sweep()
        right = client.seen
        analyser.faults.drop, analyser.faults.corrupt = drop, corrupt
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                client.sweep()
            except Exception:  # each of the packages has its own
                outcome.failed += 1
            else:
                outcome.right += client.seen == right
                outcome.wrong += client.seen != right
        analyser.faults.drop = analyser.faults.corrupt = 0.0
    return outcome
