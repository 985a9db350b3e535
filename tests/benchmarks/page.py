"""Puts the figures of ``-j FILE`` into the page on performance: ``python -m tests.benchmarks.page FILE``.

A block of text whose first line is the command of a benchmark gets its table, and the one that begins with
``machine`` what it was measured on, and the one that begins with ``work`` the comparison with other drivers. What
the file does not hold stays as it is.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks.figures import aligned, read_back, table
from tests.benchmarks.machine import described
from tests.benchmarks.standing import TITLES
from tests.helpers.paths import ROOT

PAGE = ROOT / "docs" / "explanation" / "performance.rst"
COMMAND = "$ python -m tests.benchmarks "
INDENT = "    "
_BLOCK = re.compile(r"(?<=\.\. code-block:: text\n\n)(?: {4}.*\n|\n(?= {4}))+")


def refilled(text: str, report: dict[str, Any]) -> str:
    """Give the page with the figures of a report."""

    def fresh(block: re.Match[str]) -> str:
        first = block[0].partition("\n")[0].removeprefix(INDENT)
        found = report["benchmarks"].get(first.removeprefix(COMMAND))
        if first.startswith("machine "):
            lines = described(report["machine"])
        elif first.startswith(f"{TITLES[0]} ") and report.get("standing"):
            lines = aligned(report["standing"])
        elif first.startswith(COMMAND) and found is not None:
            lines = [first, *table([read_back(item) for item in found["figures"]])]
        else:
            return block[0]
        return "".join(f"{INDENT}{line}\n" for line in lines)

    return _BLOCK.sub(fresh, text)


if __name__ == "__main__":
    PAGE.write_text(
        refilled(PAGE.read_text(encoding="utf-8"), json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))),
        encoding="utf-8",
    )
