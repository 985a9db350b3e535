"""What the campaign against files counts."""

import threading
from collections import Counter

import attrs

COUNTED = ("episodes", "given", "found", "excused")
"""Episodes; rows that sources gave, and that files have; rows that are lost, but were reported as lost, or given
in the last moments before a kill."""
BAD = ("lost", "wrong", "doubled", "crash", "hang", "slow", "refused")
"""What must not happen: rows that are lost without a word; that no source gave, or that are out of order; that are
there twice; tracebacks, errors that are not of this package, deaths of a process, 200 MB or 5 s for a small file;
what does not end; what is reported after more than 2 s; files that cannot be read or continued without a cause."""


@attrs.frozen
class Finding:
    """Something that must not happen, and the options that play its episode again."""

    what: str
    text: str
    replay: str


@attrs.define
class Count:
    """What one episode, or all of a kind, counted."""

    numbers: Counter[str] = attrs.field(factory=Counter)
    findings: list[Finding] = attrs.field(factory=list)
    notes: Counter[str] = attrs.field(factory=Counter)
    said_s: float = 0.0
    longest_s: float = 0.0

    def blame(self, what: str, text: str, replay: str, number: int = 1) -> None:
        """Note something that must not happen."""
        self.numbers[what] += number
        self.findings.append(Finding(what, text, replay))

    def note_said(self, seconds: float) -> None:
        """Note after which time something was said."""
        self.said_s = max(self.said_s, seconds)

    def note_length(self, seconds: float) -> None:
        """Note how long an episode took."""
        self.longest_s = max(self.longest_s, seconds)

    def add(self, other: "Count") -> None:
        """Add what another one counted."""
        self.numbers += other.numbers
        self.findings += other.findings
        self.notes += other.notes
        self.note_said(other.said_s)
        self.note_length(other.longest_s)


@attrs.define
class Tally:
    """What a campaign counted, by kind of episode."""

    kinds: dict[str, Count] = attrs.field(factory=dict)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, repr=False)

    def absorb(self, kind: str, count: Count) -> None:
        """Add what an episode counted."""
        with self._lock:
            self.kinds.setdefault(kind, Count()).add(count)

    @property
    def total(self) -> Count:
        """All kinds together."""
        total = Count()
        with self._lock:
            for count in self.kinds.values():
                total.add(count)
        return total

    @property
    def failed(self) -> bool:
        """Whether anything happened that must not."""
        return bool(self.total.findings)

    def lines(self) -> list[str]:
        """Write a table: a line for each kind."""
        heads = (*COUNTED, *BAD)
        lines = [f"{'kind of episode':16}" + "".join(f"{head:>9}" for head in heads) + "  longest"]
        for kind, count in [*sorted(self.kinds.items()), ("all", self.total)]:
            numbers = "".join(f"{count.numbers[head]:>9,}" for head in heads)
            lines.append(f"{kind:16}{numbers}{count.longest_s:>7.1f} s")
        total = self.total
        lines += [f"{text}: {number:,}" for text, number in sorted(total.notes.items())]
        return [*lines, f"longest from what was done to a file to what was said of it: {total.said_s:.2f} s"]
