"""How late a plain sleep of this process is: while it is, no call can be blamed for coming late."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator

SLEEP_S = 0.01
NOTED_S = 0.02
"""A sleep that ends less late than this is a usual one."""
KEPT = 20_000


class Busy:
    """Sleeps all the time, and notes when it woke up late."""

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque(maxlen=KEPT)
        self._due = float("inf")

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Watch."""
        ending = threading.Event()
        thread = threading.Thread(target=self._watch, args=(ending,), name="faults-busy", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()

    def late_s(self, since: float, until: float) -> float:
        """By how much sleeps of this time were late, all together."""
        late = [*self._late, (self._due, until)]  # the last one: a sleep that goes on, and should have ended
        return sum(max(0.0, min(until, woke) - max(since, due)) for due, woke in late if woke >= since)

    def _watch(self, ending: threading.Event) -> None:
        while not ending.is_set():
            due = self._due = time.monotonic() + SLEEP_S
            time.sleep(SLEEP_S)
            woke = time.monotonic()
            if woke - due > NOTED_S:
                self._late.append((due, woke))
        self._due = float("inf")


BUSY = Busy()
