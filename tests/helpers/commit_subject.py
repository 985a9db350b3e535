"""The hook on commit messages: ``commit_subject.py FILE`` reports what is wrong with one, and then ends with 1."""

import sys
from pathlib import Path

LONGEST = 72
SCISSORS = ">8"
"""Below a comment with this, ``git commit --verbose`` shows what is committed."""


def fault_of(message: str) -> str | None:
    """Return what is wrong with a message, the comments of git aside; ``None`` for nothing."""
    lines: list[str] = []
    for line in message.splitlines():
        if line.startswith("#") and SCISSORS in line:
            break
        if not line.startswith("#") and (lines or line.strip()):
            lines.append(line.rstrip())
    if not lines or len(lines[0].split()) < 2:
        return "the subject needs more than one word"
    if len(lines[0]) > LONGEST:
        return f"the subject has {len(lines[0])} characters, and may have {LONGEST}: {lines[0]}"
    if len(lines) > 1 and lines[1]:
        return "the line after the subject must be empty"
    return None


if __name__ == "__main__":
    sys.exit(fault_of(Path(sys.argv[1]).read_text(encoding="utf-8")))
