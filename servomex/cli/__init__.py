"""The command line: the programs ``servomex`` and ``servomex-read``."""

from typing import TYPE_CHECKING

from servomex.runtime.lazy import hand_on

if TYPE_CHECKING:
    from servomex.cli.commands import main as main
    from servomex.cli.commands import read_main as read_main
    from servomex.cli.commands import servomex_group as servomex_group
else:
    __getattr__, __dir__ = hand_on(__name__, {"commands": "main read_main servomex_group"})
