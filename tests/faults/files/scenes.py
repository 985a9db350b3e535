"""All kinds of episodes."""

from collections.abc import Callable

import attrs

from tests.faults.files import company, damage, disks, endings, taken
from tests.faults.files.plan import SUFFIXES
from tests.faults.files.stage import Stage


@attrs.frozen
class Scene:
    """A kind of episode.

    Attributes:
        act: What is done.
        rotate: Whether files are divided; ``None`` when that is drawn.
        suffixes: The formats.
        shim: Whether it needs the shim of the disk and the clock.
    """

    act: Callable[[Stage], None]
    rotate: bool | None = None
    suffixes: tuple[str, ...] = SUFFIXES
    shim: bool = False


SCENES = {
    "kill": Scene(endings.kill),
    "kill-opening": Scene(endings.kill_opening),
    "kill-turning": Scene(endings.kill_turning, rotate=True),
    "kill-closing": Scene(endings.kill_closing),
    "stop": Scene(endings.stop),
    "stop-opening": Scene(endings.stop_opening),
    "stop-twice": Scene(endings.stop_twice),
    "simulated": Scene(endings.simulated),
    "remove": Scene(taken.remove),
    "remove-folder": Scene(taken.remove_folder),
    "move": Scene(taken.move),
    "move-and-make": Scene(taken.move_and_make),
    "cut": Scene(taken.cut),
    "foreign": Scene(taken.replace_by_foreign, rotate=False),
    "another": Scene(taken.replace_by_recording, rotate=False),
    "links": Scene(taken.links, rotate=False),
    "forbid": Scene(taken.forbid),
    "full": Scene(disks.full_for_a_while, shim=True),
    "full-to-end": Scene(disks.full_to_the_end, shim=True),
    "small-disk": Scene(disks.small_disk),
    "hung": Scene(disks.hung_for_a_while, shim=True),
    "hung-to-end": Scene(disks.hung_to_the_end, shim=True),
    "clock": Scene(disks.set_clock, shim=True),
    "two": Scene(disks.two_writers),
    "packing": Scene(disks.packing, rotate=False, suffixes=(".csv.gz", ".jsonl.gz")),
    "readers": Scene(company.readers),
    "copies": Scene(company.copies),
    "damage": Scene(damage.damage, rotate=False),
    "damage-parts": Scene(damage.damage_parts, rotate=False, suffixes=(".parquet",)),
}
