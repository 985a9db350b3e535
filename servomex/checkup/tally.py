"""Tally: the outcome of requests that were sent once each."""

import attrs


@attrs.define
class Tally:
    """The outcome of requests that were sent once each.

    Attributes:
        sent: How many were sent.
        answered: How many got the right reply in time.
        refused: How many got an exception reply.
        lost: How many got nothing in time.
        damaged: How many got something else.
        late: Replies that arrived too late, as far as they were noticed.
        round_trips_s: Seconds from sending each to the last byte of its reply.
    """

    sent: int = 0
    answered: int = 0
    refused: int = 0
    lost: int = 0
    damaged: int = 0
    late: int = 0
    round_trips_s: list[float] = attrs.field(factory=list)

    @property
    def failure_rate(self) -> float:
        """The share that was lost or damaged, 0 to 1."""
        return (self.lost + self.damaged) / self.sent if self.sent else 0.0
