"""Identities: what each channel of a recording measures, with an event when that changes."""

from collections.abc import Iterable

import attrs

from servomex.enums import ChannelId
from servomex.errors import ServomexChannelError
from servomex.models.reading import Reading
from servomex.models.sample import Sample
from servomex.runtime.logs import package_log

_log = package_log("servomex")


class Identities:
    """Remembers the name and the unit of each channel. One thread at a time may use it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ChannelId | str], Reading] = {}

    def events(self, samples: Iterable[Sample]) -> list[Sample]:
        """Return a row for each channel that has another name or unit than before, and log a warning.

        The row has the time of the first reading with the new name or unit, a :class:`ServomexChannelError`, and
        no reading.
        """
        found = []
        for sample in samples:
            reading = sample.reading
            if reading is None:
                continue
            before = self._known.get((sample.device, reading.channel), reading)
            self._known[sample.device, reading.channel] = reading
            if (before.name, before.unit_text) != (reading.name, reading.unit_text):
                text = f"{reading.channel} changed from {_described(before)} to {_described(reading)}"
                _log.warning("%s: %s", sample.device, text)
                found.append(
                    attrs.evolve(
                        sample,
                        reading=None,
                        analyser=None,
                        requested_at=None,
                        latency_s=None,
                        error=ServomexChannelError(text),
                    )
                )
        return found


def _described(reading: Reading) -> str:
    return f"{reading.name or 'no name'} ({reading.unit_text or 'no unit'})"
