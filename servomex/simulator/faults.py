"""Faults on the way from a virtual analyser to its reader."""

import random

import attrs

from servomex.errors import ServomexValidationError


@attrs.define
class Faults:
    """Faults of one virtual analyser. All may be changed while it runs. Chances are from 0 to 1, per message.

    Attributes:
        silent: Whether nothing is sent.
        late: Delay of every message in seconds. Messages stay in order.
        drop: Chance that a message is lost.
        corrupt: Chance that one byte of a message is changed.
        garbage: Chance of up to eight random bytes before a message.
        chunked: Whether messages arrive in pieces of up to seven bytes, 10 ms apart.
        foreign: Chance that a reply to the same request from another address arrives first.
        duplicate: Chance that a message arrives twice.
        gap: Requests less than this many seconds after the last byte on the line are not heard.
        seed: Makes the chances repeatable.
    """

    silent: bool = False
    late: float = 0.0
    drop: float = 0.0
    corrupt: float = 0.0
    garbage: float = 0.0
    chunked: bool = False
    foreign: float = 0.0
    duplicate: float = 0.0
    gap: float = 0.0
    seed: int = 0
    _random: random.Random = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 (repeatable on purpose)

    def happens(self, chance: float) -> bool:
        """Return at random whether an event of this probability happens now."""
        return chance > 0 and self._random.random() < chance

    def damage(self, message: bytes) -> bytes:
        """Change one byte of a message."""
        place = self._random.randrange(len(message))
        return message[:place] + bytes([message[place] ^ self._random.randrange(1, 256)]) + message[place + 1 :]

    def noise(self) -> bytes:
        """Return up to eight random bytes."""
        return self._random.randbytes(self._random.randint(1, 8))

    def pieces(self, message: bytes) -> list[tuple[float, bytes]]:
        """Cut a message into pieces, each with its delay after the first."""
        if not self.chunked:
            return [(0.0, message)]
        cuts: list[tuple[float, bytes]] = []
        place = 0
        while place < len(message):
            size = self._random.randint(1, 7)
            cuts.append((0.01 * len(cuts), message[place : place + size]))
            place += size
        return cuts


_DEFAULTS: dict[str, float | bool] = {
    "silent": True,
    "late": 0.25,
    "drop": 0.25,
    "corrupt": 0.1,
    "garbage": 0.1,
    "chunked": True,
    "foreign": 0.1,
    "duplicate": 0.1,
    "gap": 0.05,
    "echo": True,
    "unplug": 5.0,
}
_CHANCES = {"drop", "corrupt", "garbage", "foreign", "duplicate"}
FAULT_NAMES = tuple(_DEFAULTS)
LINE_FAULTS = ("echo", "unplug")


def parse_faults(specs: "list[str]") -> dict[str, float | bool]:
    """Read faults written as ``late``, ``late:0.3`` or ``late=0.3``; without a number a typical one is used.

    Raises:
        ServomexValidationError: A name is unknown or a number is not one; the error lists the names.
    """
    faults: dict[str, float | bool] = {}
    for spec in specs:
        name, _, number = spec.strip().replace("=", ":").partition(":")
        if name not in _DEFAULTS:
            raise ServomexValidationError(f"unknown fault {name!r}; known are {', '.join(FAULT_NAMES)}")
        default = _DEFAULTS[name]
        if number and isinstance(default, bool):
            raise ServomexValidationError(f"the fault {name} takes no number")
        try:
            faults[name] = float(number) if number else default
        except ValueError:
            raise ServomexValidationError(f"the fault {name} takes a number, not {number!r}") from None
        if not 0 <= faults[name] <= (1 if name in _CHANCES else 3600):
            raise ServomexValidationError(f"the number of the fault {name} is out of range: {number}")
    return faults
