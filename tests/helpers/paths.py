"""Where the files are that tests read."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CAPTURES = ROOT / "tests" / "captures"
CAPTURE = CAPTURES / "continuous_4100_idle_5ch.bin"
"""Broadcasts of the bench unit, whose line ends are LF."""
