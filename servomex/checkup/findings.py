"""What a check of the check-up has found: what was seen, what it means, and the cure."""

from enum import StrEnum
from typing import Any

import attrs

from servomex.errors import ServomexError
from servomex.errors.excerpts import unicode_text


class Verdict(StrEnum):
    """What a check has come to."""

    OK = "ok"
    WARNING = "WARNING"
    PROBLEM = "PROBLEM"
    SKIPPED = "skipped"


@attrs.frozen
class Finding:
    """What a check has found.

    Attributes:
        check: Which check: one of :data:`CHECKS`, or ``channel``.
        verdict: What it has come to.
        seen: What was seen.
        cure: What to do about it; of what is ok, a hint. Empty when there is nothing to do.
        error: The error that a problem shows itself by; ``None`` for everything else.
    """

    check: str
    verdict: Verdict
    seen: str
    cure: str = ""
    error: ServomexError | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as an object of JSON."""
        return {
            "check": unicode_text(self.check),
            "verdict": self.verdict.value,
            "seen": unicode_text(self.seen),
            "cure": unicode_text(self.cure),
        }


def problem(check: str, error: ServomexError) -> Finding:
    """Return an error as a finding."""
    cure = error.cure or "Record the line with a trace, and look at what it shows"
    return Finding(check, Verdict.PROBLEM, error.message, cure, error)
