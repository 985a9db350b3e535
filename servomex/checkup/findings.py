"""The finding of a check: what was seen, what it means, and what to do."""

from enum import StrEnum
from typing import Any

import attrs

from servomex.errors import ServomexError
from servomex.errors.excerpts import unicode_text


class Verdict(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARNING = "WARNING"
    PROBLEM = "PROBLEM"
    SKIPPED = "skipped"


@attrs.frozen
class Finding:
    """What a check found.

    Attributes:
        check: Which check: one of :data:`CHECKS`, or ``channel``.
        verdict: The result.
        seen: What was seen.
        cure: What to do about it; a hint where the verdict is ok. Empty when there is nothing to do.
        error: The error of a problem; ``None`` for every other verdict.
    """

    check: str
    verdict: Verdict
    seen: str
    cure: str = ""
    error: ServomexError | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
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
