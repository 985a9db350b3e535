"""Memory of a reader through which a great many frames pass."""

from collections.abc import Iterator

from tests.benchmarks.figures import Goal, Result, Skipped, figure
from tests.benchmarks.machine import Settings, probe, resident_mib

FRAMES = 200_000
CASES = {
    "nobody": "no subscriber",
    "lazy": "a subscriber that never reads",
    "endless": "input that never ends a line",
}
GROWTH_MIB = Goal(1.0)


def memory(settings: Settings) -> Iterator[Result]:
    """How much a reader grows from its first 5,000 frames to its last."""
    frames = settings.choose(FRAMES, 6_000)
    if resident_mib() is None:
        yield Skipped("memory", "this system does not tell how much memory is in use")
        return
    for case, name in CASES.items():
        settings.say(name)
        found = probe("flood", case=case, frames=frames)
        yield figure(f"{name}, growth after {frames} frames", "MiB", [found["grown_mib"]], goal=GROWTH_MIB)
        yield figure(f"{name}, in use", "MiB", [found["after_mib"]])
        yield figure(f"{name}, taken", "MB/s", [found["megabytes_per_s"]])
