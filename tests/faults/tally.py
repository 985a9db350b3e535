"""What a campaign counts: values, errors, what was wrong, and how soon good readings came back."""

import statistics
import threading
from collections import Counter

import attrs

KINDS = ("wrong", "stale", "lost alarm", "gas", "overrun", "crash", "hang")
"""What must not happen: a wrong value or state; an old one that looks fresh; an alarm that was raised all the time
and is not shown; calibration gas that flows while the driver says that it does not; a call that goes on after its
deadline; an exception that is no ServomexError; a call or a thread that does not end."""


@attrs.frozen
class Finding:
    """Something that must not happen, with what is needed to see it again."""

    kind: str
    text: str


@attrs.frozen
class Recovery:
    """How long after the end of a fault the first good reading came.

    Attributes:
        fault: What went wrong.
        seconds: The time; ``None`` when none came before the episode ended.
    """

    fault: str
    seconds: float | None


@attrs.define
class Tally:
    """Counters that many threads share."""

    values: int = 0
    states: int = 0
    frames: int = 0
    episodes: int = 0
    calls: Counter[str] = attrs.field(factory=Counter)
    modes: Counter[str] = attrs.field(factory=Counter)
    errors: Counter[str] = attrs.field(factory=Counter)
    counts: Counter[str] = attrs.field(factory=Counter)
    findings: list[Finding] = attrs.field(factory=list)
    recoveries: list[Recovery] = attrs.field(factory=list)
    kinds: dict[str, "Tally"] = attrs.field(factory=dict)
    overdue_s: float = 0.0
    overdue: str = ""
    stamp_lag_s: float = 0.0
    _lock: threading.Lock = attrs.field(factory=threading.Lock, repr=False)

    def note_values(self, where: str, mode: str, values: int) -> None:
        """Count values that were read and are right."""
        with self._lock:
            self.values += values
            self.states += values
            self.frames += 1
            self.calls[where] += values
            self.modes[mode] += values

    def note_state(self, where: str) -> None:
        """Count a state that was read alone and is right."""
        with self._lock:
            self.states += 1
            self.calls[where] += 1

    def absorb(self, kind: str, other: "Tally") -> None:
        """Add what was counted in an episode of a kind."""
        with self._lock:
            for tally in (self, self.kinds.setdefault(kind, Tally())):
                tally._add(other)

    def _add(self, other: "Tally") -> None:
        self.values += other.values
        self.states += other.states
        self.frames += other.frames
        self.episodes += other.episodes
        self.calls += other.calls
        self.modes += other.modes
        self.errors += other.errors
        self.counts += other.counts
        self.findings += other.findings
        self.recoveries += other.recoveries
        self.stamp_lag_s = max(self.stamp_lag_s, other.stamp_lag_s)
        if other.overdue_s > self.overdue_s:
            self.overdue_s, self.overdue = other.overdue_s, other.overdue

    def note_error(self, error: BaseException) -> None:
        """Count an error that the driver raised."""
        with self._lock:
            self.errors[type(error).__name__] += 1

    def note(self, what: str, number: int = 1) -> None:
        """Count something else."""
        with self._lock:
            self.counts[what] += number

    def note_lateness(self, seconds: float, what: str) -> None:
        """Note how long after its deadline a call came back."""
        with self._lock:
            if seconds > self.overdue_s:
                self.overdue_s, self.overdue = seconds, what

    def note_lag(self, seconds: float) -> None:
        """Note how long after its last byte reached the port a broadcast was stamped."""
        with self._lock:
            self.stamp_lag_s = max(self.stamp_lag_s, seconds)

    def report(self, kind: str, text: str) -> None:
        """Note something that must not happen."""
        with self._lock:
            self.findings.append(Finding(kind, text))

    def note_recovery(self, recovery: Recovery) -> None:
        """Note how long it took to recover from a fault."""
        with self._lock:
            self.recoveries.append(recovery)

    def number(self, kind: str) -> int:
        """How many findings of a kind there are."""
        return sum(item.kind == kind for item in self.findings)

    @property
    def failed(self) -> bool:
        """Whether anything happened that must not."""
        return bool(self.findings)

    def lines(self) -> list[str]:
        """Write all of it."""
        took = [item.seconds for item in self.recoveries if item.seconds is not None]
        missing = [item.fault for item in self.recoveries if item.seconds is None]
        spread = f"p50 {statistics.median(took):.2f} s, max {max(took):.2f} s" if took else "none"
        slowest = sorted((item for item in self.recoveries if item.seconds), key=lambda item: -(item.seconds or 0))
        return [
            *self._table(),
            f"values read          {self.values:,} in {self.frames:,} readings of {self.episodes} episodes",
            *(f"  by {name:17} {number:,}" for name, number in self.calls.most_common()),
            *(f"  in {name:17} {number:,}" for name, number in self.modes.most_common()),
            f"errors raised        {self.errors.total():,}",
            *(f"  {name:20} {number:,}" for name, number in self.errors.most_common()),
            *(f"{name:38} {number:,}" for name, number in sorted(self.counts.items())),
            f"recoveries           {len(took)}: {spread}",
            *(f"  {item.seconds:.2f} s after {item.fault}" for item in slowest[:6]),
            f"not recovered at the end of their episode: {len(missing)} {missing[:5] or ''}",
            f"longest over a deadline {self.overdue_s:.2f} s: {self.overdue}",
            f"longest from the last byte of a broadcast to its stamp {self.stamp_lag_s:.2f} s",
            *(f"{kind + ' ' + ('values' if kind in KINDS[:2] else ''):20} {self.number(kind)}" for kind in KINDS),
        ]

    def _table(self) -> list[str]:
        """Write a line for each kind of episode, and the errors that it led to."""
        heads = ("episodes", "values", "states", *KINDS)
        lines = [f"{'kind of episode':20} " + " ".join(f"{head:>10}" for head in heads)]
        for name, tally in sorted(self.kinds.items()):
            numbers = (tally.episodes, tally.values, tally.states, *map(tally.number, KINDS))
            lines.append(f"{name:20} " + " ".join(f"{number:>10,}" for number in numbers))
            raised = tally.errors.most_common()
            errors = ", ".join(f"{error.removeprefix('Servomex')} {number:,}" for error, number in raised)
            lines.append(f"{'':20} {errors or 'no errors'}")
        return [*lines, ""] if self.kinds else []
