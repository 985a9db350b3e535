"""A queue on disk between readings and sinks: what was taken is delivered, or counted and marked.

An :class:`Outbox` takes samples, and returns once they are on disk. A :class:`Delivery` hands them to each sink,
the oldest first, for as long as that takes.
"""

from typing import TYPE_CHECKING

from servomex.runtime.lazy import hand_on

if TYPE_CHECKING:
    from servomex.outbox.batch import Batch as Batch
    from servomex.outbox.delivery import Delivery as Delivery
    from servomex.outbox.figures import OutboxFigures as OutboxFigures
    from servomex.outbox.figures import SinkFigures as SinkFigures
    from servomex.outbox.looking import Poison as Poison
    from servomex.outbox.looking import empty as empty
    from servomex.outbox.looking import look as look
    from servomex.outbox.looking import poison_in as poison_in
    from servomex.outbox.outbox import Outbox as Outbox
else:
    __getattr__, __dir__ = hand_on(
        __name__,
        {
            "batch": "Batch",
            "delivery": "Delivery",
            "figures": "OutboxFigures SinkFigures",
            "looking": "Poison empty look poison_in",
            "outbox": "Outbox",
        },
    )
