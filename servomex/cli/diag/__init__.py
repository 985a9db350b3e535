"""``servomex diag``: find out what is wrong with a line."""

from typing import TYPE_CHECKING

from servomex.runtime.lazy import hand_on

if TYPE_CHECKING:
    from servomex.cli.diag.command import diag as diag
else:
    __getattr__, __dir__ = hand_on(__name__, {"command": "diag"})
