"""Abilities: what an analyser has been seen to do, or to refuse. No input or output."""

import contextlib
from collections.abc import Iterator
from functools import lru_cache

from servomex.enums import Availability, Capability
from servomex.errors import ServomexIllegalFunctionError, ServomexValidationError

VALUES = Capability.READ_CHANNELS | Capability.READ_STATUS
READING = VALUES | Capability.IDENTIFY

_NEEDED_FOR = {
    1: Capability.AUTOCAL,
    2: Capability.READ_STATUS,
    4: Capability.READ_CHANNELS | Capability.IDENTIFY,
    5: Capability.AUTOCAL,
    8: Capability.LOOPBACK,
}
"""By Modbus function: the capabilities that a device without it lacks."""


class Abilities:
    """Remembers what worked and what was refused; the later of two contradictory observations counts.

    Any thread may use it.
    """

    def __init__(self) -> None:
        self._seen: dict[Capability, bool] = {}

    @contextlib.contextmanager
    def shown_by(self, capability: Capability) -> Iterator[None]:
        """Learn from the block whether the capability works, or the device does not know the function."""
        try:
            yield
        except Exception as error:
            for refused in _refused(error):
                self._seen[refused] = False
            raise
        self.note(capability)

    def note(self, capability: Capability) -> None:
        """Note capabilities that work."""
        self._seen.update(_worked(capability))

    def availability(self, capability: Capability, possible: Capability) -> Availability:
        """Return what is known of a capability.

        Args:
            capability: One, or several that are needed together.
            possible: The capabilities of the communication mode.

        Raises:
            ServomexValidationError: It is not a :class:`Capability`, or none.
        """
        if not isinstance(capability, Capability) or not capability:
            raise ServomexValidationError(
                f"{capability!r} is not a capability",
                cure="Use a member of Capability, such as Capability.AUTOCAL",
            )
        seen = {self._seen.get(item) if item in possible else False for item in capability}
        if False in seen:
            return Availability.UNAVAILABLE
        return Availability.UNKNOWN if None in seen else Availability.AVAILABLE


@lru_cache(maxsize=64)
def _worked(capability: Capability) -> dict[Capability, bool]:
    return dict.fromkeys(capability, True)


def _refused(error: BaseException | None) -> Capability:
    """Return the capabilities that an error, or its cause, shows to be missing from a device."""
    while error is not None:
        if isinstance(error, ServomexIllegalFunctionError):
            return _NEEDED_FOR.get(error.context.function_code or 0, Capability(0))
        error = error.__cause__ or error.__context__
    return Capability(0)
