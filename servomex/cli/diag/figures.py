"""The figures of ``servomex diag``: which gap is safe, and how long things took."""

import math
import statistics
from collections.abc import Mapping, Sequence

import attrs

from servomex.checkup.tally import Tally

CHANCE = 0.05
"""How often a recommendation may be wrong by chance: 95 % confidence."""


@attrs.frozen
class Summary:
    """A summary of durations, in seconds."""

    minimum: float
    median: float
    p99: float
    maximum: float
    deviation: float


def summary(seconds: Sequence[float]) -> Summary | None:
    """Summarise durations; ``None`` when there are none. The deviation is that of a sample, 0 for a single one."""
    if not seconds:
        return None
    several = len(seconds) > 1
    return Summary(
        min(seconds),
        statistics.median(seconds),
        statistics.quantiles(seconds, n=100, method="inclusive")[98] if several else seconds[0],
        max(seconds),
        statistics.stdev(seconds) if several else 0.0,
    )


def smallest_safe_gap(tallies: Mapping[float, Tally]) -> float | None:
    """Return the smallest gap that lost or damaged nothing, nor did any longer one; ``None`` if there is none."""
    safe = None
    for gap_s in sorted(tallies, reverse=True):
        if tallies[gap_s].failure_rate or not tallies[gap_s].sent:
            break
        safe = gap_s
    return safe


def excluded_rate(tally: Tally) -> float:
    """Return the share of failures, 0 to 1, at which all these requests would succeed in 5 % of trials."""
    return 1.0 - math.exp(math.log(CHANCE) / tally.sent)


@attrs.define
class Cadence:
    """How regularly readings arrive.

    Attributes:
        seconds: The durations: of sweeps, between broadcasts, or between readings at a rate.
        failures: Readings that failed.
        dropped: Broadcasts, or replies, that were refused as damaged or late.
        late: Moments that had passed before the previous reading ended.
    """

    seconds: list[float] = attrs.field(factory=list)
    failures: int = 0
    dropped: int = 0
    late: int = 0
