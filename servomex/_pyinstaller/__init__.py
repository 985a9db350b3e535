"""Where PyInstaller finds its hook for this package, by the entry point ``pyinstaller40``."""

from pathlib import Path


def hook_dirs() -> list[str]:
    """Return the folder of ``hook-servomex.py``."""
    return [str(Path(__file__).parent)]
