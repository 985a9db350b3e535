"""What a sink gets at once, and where it stands in an outbox."""

import attrs

from servomex.models.sample import Sample


@attrs.frozen
class Batch:
    """Some rows for one sink, in order: hand it to :meth:`Outbox.done` when they are stored.

    Attributes:
        sink: The name of the sink.
        samples: The rows. Those that say that others are missing come first.
        first: The number of the first row.
        ends: For each sample, the number of the row after it.
        gaps: The numbers of the gaps that the first samples stand for.
        stored_before: Rows at its beginning that may be in the sink already: an attempt to store them was cut
            off, as by the end of the program. 0 when none can be.
    """

    sink: str
    samples: tuple[Sample, ...] = attrs.field(repr=False)
    first: int
    ends: tuple[int, ...] = attrs.field(repr=False)
    gaps: tuple[int, ...] = ()
    stored_before: int = 0

    @property
    def end(self) -> int:
        """The number of the row after the last one."""
        return self.ends[-1]

    def receipt(self) -> "Batch":
        """Return the batch without its samples, to be kept until they are stored."""
        return attrs.evolve(self, samples=())
