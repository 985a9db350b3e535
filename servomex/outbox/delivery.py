"""Delivery: a thread for each sink, which hands it the rows of an outbox."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Self

import attrs

from servomex.errors import ServomexError, ServomexValidationError
from servomex.errors.validation import seconds, whole
from servomex.outbox.courier import BATCH_S, PAUSES_S, TRIES, Courier, Opener
from servomex.outbox.figures import OutboxFigures, SinkFigures
from servomex.outbox.outbox import Outbox
from servomex.runtime.clock import time
from servomex.runtime.forks import ProcessBound
from servomex.runtime.logs import package_log
from servomex.runtime.worker import Worker

_log = package_log("servomex")

CLOSE_S = 15.0
"""How long :meth:`Delivery.close` waits for all sinks together."""


class Delivery(ProcessBound):
    """Delivers an outbox to its sinks, each in a thread of its own: one that fails or hangs delays no other.

    A sink is opened, and gets its rows in their order, in batches of about 1,000 rows, or what there is after 1 s.
    A batch counts as delivered when the sink has it on disk, or its server has. When anything fails, it is tried
    again after pauses of 1, 2, 5, 10 and then 30 s, for as long as it takes. A batch that is refused three times
    because of a row in it is delivered in parts, and the row is set aside in a table of the outbox.

    A context manager, which starts it.

    Args:
        outbox: The outbox, which stays open afterwards.
        openers: For each sink what opens it, such as ``lambda: open_sink("run.csv", append=True)``. It is called
            in the thread, and again after a failure; an existing file must be appended to.
        batch_s: How long a few rows wait for more.
        pauses_s: The pauses after failures; the last one is repeated.
        tries: How many times a batch is refused before the row that causes it is searched for.

    Raises:
        ServomexValidationError: The outbox has no sink of a name, or an argument is out of range.
    """

    def __init__(
        self,
        outbox: Outbox,
        openers: Mapping[str, Opener],
        *,
        batch_s: float = BATCH_S,
        pauses_s: Sequence[float] = PAUSES_S,
        tries: int = TRIES,
    ) -> None:
        self.outbox = outbox
        self._batch_s = seconds(batch_s, "batch_s", zero=True)
        self._pauses_s = tuple(seconds(pause, "pauses_s", zero=True) for pause in pauses_s) or PAUSES_S
        self._tries = whole(tries, "tries", 1, 1_000)
        self._couriers: dict[str, Courier] = {}
        self._workers: dict[str, Worker] = {}
        for name, opener in openers.items():
            self._check(name)
            self._make(name, opener)

    def _check(self, name: str) -> None:
        if name not in self.outbox.sinks:
            raise ServomexValidationError(
                f"the outbox has no sink {name!r}; it has {', '.join(map(repr, self.outbox.sinks))}"
            )

    def _make(self, name: str, opener: Opener) -> Worker:
        courier = Courier(
            self.outbox, name, opener, batch_s=self._batch_s, pauses_s=self._pauses_s, tries=self._tries
        )
        worker = Worker(f"servomex-outbox {name}", courier.run)
        self._couriers[name], self._workers[name] = courier, worker
        return worker

    def start(self) -> Self:
        """Start the threads.

        Raises:
            ServomexError: The system cannot start another thread.
        """
        for worker in self._workers.values():
            worker.start()
        return self

    def start_sink(self, name: str, opener: Opener) -> None:
        """Deliver to one more sink, or to one that was stopped, which the outbox must know.

        Raises:
            ServomexValidationError: The outbox has no such sink, or it is delivered to.
        """
        self._check(name)
        if name in self._workers:
            raise ServomexValidationError(f"the sink {name!r} is delivered to already", cure="Stop it first")
        self._make(name, opener).start()

    def stop_sink(self, name: str, timeout: float = CLOSE_S) -> None:
        """Stop the delivery to one sink, and close it; its rows stay in the outbox."""
        if name in self._workers:
            self._workers[name].ask_to_stop()
            self._end(name, timeout)

    def figures(self) -> OutboxFigures:
        """Return how the outbox and the delivery fare."""
        found = self.outbox.figures()
        return attrs.evolve(found, sinks=tuple(map(self._with_courier, found.sinks)))

    def _with_courier(self, found: SinkFigures) -> SinkFigures:
        courier = self._couriers.get(found.name)
        if courier is None:
            return found
        return attrs.evolve(
            found,
            is_open=courier.sink is not None,
            failures=courier.failures,
            last_error=courier.last_error,
            moved_at=courier.moved_at,
        )

    def close(self, timeout: float = CLOSE_S) -> None:
        """Deliver what can be delivered at once, stop the threads and close the sinks. May be called twice.

        What is left stays in the outbox. A sink that does not answer in time is abandoned, and the log says so.

        Args:
            timeout: Seconds for all sinks together.
        """
        deadline = time.monotonic() + timeout
        for worker in self._workers.values():
            worker.ask_to_stop()
        for name in list(self._workers):
            self._end(name, max(0.0, deadline - time.monotonic()))

    def _end(self, name: str, timeout: float) -> None:
        worker, courier = self._workers.pop(name), self._couriers.pop(name)
        try:
            worker.stop(timeout)
        except ServomexError:
            sink = courier.sink
            _log.error("the sink %s does not answer, and is abandoned; its rows stay in the outbox", name)
            if sink is not None:
                with contextlib.suppress(Exception):
                    sink.leave()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.close()
