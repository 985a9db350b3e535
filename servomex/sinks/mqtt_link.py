"""The thread that keeps the connection to a broker, publishes what it is given, and connects again."""

import contextlib
import secrets
import socket
import threading
from collections.abc import Iterable

import attrs

from servomex.errors import ServomexError, ServomexSinkWriteError
from servomex.runtime.clock import time
from servomex.runtime.locks import Signal
from servomex.runtime.logs import package_log
from servomex.runtime.worker import Worker
from servomex.sinks.mqtt_config import MqttConfig
from servomex.sinks.mqtt_connection import Batch, Connection
from servomex.sinks.mqtt_devices import Message
from servomex.sinks.mqtt_topics import OFFLINE, ONLINE

_log = package_log("servomex")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Between attempts to connect while nothing is to be published."""
_IDLE_S = 1.0
_LAST_S = 2.0


@attrs.define(eq=False)
class _Order:
    """A batch that a caller waits for.

    Attributes:
        batch: The messages.
        done: Set when they are acknowledged, or cannot be.
        error: Why they cannot be.
        begun: Whether they are being published.
        is_repeated: Whether they are published once more, since the connection was lost.
    """

    batch: Batch
    done: Signal = attrs.field(factory=Signal)
    error: ServomexSinkWriteError | None = None
    begun: bool = False
    is_repeated: bool = False

    def repeat(self) -> None:
        """Publish it once more."""
        self.batch, self.begun, self.is_repeated = Batch(self.batch.messages), False, True


class Link:
    """The connection of one sink to a broker.

    Args:
        config: Where to.
        bridge: The topic that says whether it is connected: ``online``, and ``offline`` as the will. Without one
            there is no will.
    """

    def __init__(self, config: MqttConfig, bridge: str | None = None) -> None:
        self._config = config
        self._bridge = bridge
        self._client_id = config.client_id or f"servomex-{secrets.token_hex(8)}"
        self._status = f"{config.ha_prefix}/status" if config.ha else None
        self._standing: dict[str, Message] = {}
        self._mutex = threading.Lock()
        self._order: _Order | None = None
        self._connection: Connection | None = None
        self._standing_batch: Batch | None = None
        self._failure: ServomexSinkWriteError | None = None
        self._attempt_at = self._idle_attempt_at = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._repeat_discovery = self._repeat_bridge = False
        self._is_careful = self._is_subscribed = False
        self._wake, self._waker = socket.socketpair()
        for end in (self._wake, self._waker):
            end.setblocking(False)
        self._worker = Worker(f"servomex-mqtt {config.target()}", self._run)

    def open(self) -> None:
        """Connect, and announce it.

        Raises:
            ServomexSinkWriteError: The broker cannot be reached, or refuses the connection or the announcement.
        """
        try:
            self._worker.start()
            self.send([] if self._bridge is None else [Message(self._bridge, ONLINE, retain=True)])
        except BaseException:
            self.close()
            raise

    def keep(self, messages: Iterable[Message]) -> None:
        """Publish these again whenever the connection was lost; newer ones replace those with the same topic."""
        with self._mutex:
            self._standing |= {message.topic: message for message in messages}

    def kept(self, topic: str) -> bytes | None:
        """Return what is kept for a topic."""
        found = self._standing.get(topic)
        return None if found is None else found.payload

    def send(self, messages: list[Message]) -> None:
        """Publish messages, and wait until the broker has acknowledged each.

        Raises:
            ServomexSinkWriteError: It has not. Some of them may have been published.
        """
        order = _Order(Batch(messages))
        with self._mutex:
            self._order = order
        self._wake_up()
        while not order.done.wait(0.5):
            if not self._worker.alive:
                raise ServomexSinkWriteError(f"{self._config.target()}: its thread has ended")
        if order.error is not None:
            raise order.error

    def close(self) -> None:
        """Announce that it ends, if there is a connection, and end it. May be called twice.

        Raises:
            ServomexError: Its thread does not end.
        """
        self._worker.ask_to_stop()
        self._wake_up()
        try:
            self._worker.stop(self._config.timeout_s * 2 + _LAST_S + 5)
        finally:
            for end in (self._wake, self._waker):
                end.close()

    def let_go(self) -> None:
        """Close what a forked child has of it."""
        if self._connection is not None:
            self._connection.let_go()
        for end in (self._wake, self._waker):
            end.close()

    def _wake_up(self) -> None:
        with contextlib.suppress(OSError):
            self._waker.send(b"x")

    def _run(self, stopping: threading.Event) -> None:
        try:
            while not stopping.is_set():
                if self._connection is None:
                    self._connect_if_due()
                if self._connection is None:
                    self._wait_for_order()
                else:
                    self._work(self._connection, _IDLE_S)
        except Exception as error:
            self._fail(ServomexSinkWriteError(f"{self._config.target()}: {type(error).__name__}: {error}"))
            raise
        finally:
            self._say_goodbye()

    def _connect_if_due(self) -> None:
        """Connect, when the pause since the last failure has passed; sooner if something is to be published."""
        now = time.monotonic()
        order = self._order
        if order is not None and now < self._attempt_at and self._failure is not None:
            self._fail(self._failure)
            return
        if order is None and now < self._idle_attempt_at:
            return
        try:
            self._connection = Connection(
                self._config, self._bridge, self._client_id, self._hear, one_by_one=self._is_careful
            )
        except ServomexSinkWriteError as error:
            self._note_failure(error, now)
            return
        self._failure = None
        self._announce(self._connection)

    def _note_failure(self, error: ServomexSinkWriteError, begun: float) -> None:
        """Fail what waits; a slow failure is not repeated at once, since the caller has other sinks to write."""
        now = time.monotonic()
        self._failure = error
        self._attempt_at = now + min(LONGEST_PAUSE_S, 2 * (now - begun))
        self._idle_attempt_at = max(self._attempt_at, now + self._pause_s)
        self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2)
        self._fail(error)

    def _wait_for_order(self) -> None:
        self._wake.setblocking(True)
        self._wake.settimeout(min(_IDLE_S, max(0.01, self._idle_attempt_at - time.monotonic())))
        with contextlib.suppress(OSError):
            self._wake.recv(4096)
        self._wake.setblocking(False)

    def _announce(self, connection: Connection) -> None:
        """Publish what is to stand on the broker, as after its restart."""
        with self._mutex:
            standing = [*self._standing.values()]
        if self._bridge is not None:
            standing.insert(0, Message(self._bridge, ONLINE, retain=True))
        self._is_subscribed = False
        self._publish_standing(connection, standing)

    def _publish_standing(self, connection: Connection, messages: list[Message]) -> None:
        if self._standing_batch is None or not connection.is_waiting(self._standing_batch):
            self._standing_batch = Batch(messages)
            connection.publish(self._standing_batch)

    def _work(self, connection: Connection, timeout_s: float) -> None:
        """Publish what was ordered, and handle what the broker says."""
        order = self._order
        if order is not None and not order.begun:
            order.begun = True
            connection.publish(order.batch)
        if order is None or connection.is_waiting(order.batch):
            connection.turn(self._wake, timeout_s)
        if connection.error is not None:
            self._lose(connection, connection.error)
            return
        if order is not None and order.begun and not connection.is_waiting(order.batch):
            self._finish(order, order.batch.refused)
        self._tend_standing(connection)

    def _tend_standing(self, connection: Connection) -> None:
        """Report refused announcements, and repeat them for whoever asked."""
        batch = self._standing_batch
        if batch is not None and connection.is_waiting(batch):
            return
        if batch is not None:
            self._pause_s = FIRST_PAUSE_S
            if batch.refused is not None:
                _log.warning("%s", batch.refused)
        self._standing_batch = None
        if not self._is_subscribed:
            self._is_subscribed = True
            connection.subscribe(topic for topic in (self._bridge, self._status) if topic is not None)
        if self._repeat_bridge and self._bridge is not None:
            self._publish_standing(connection, [Message(self._bridge, ONLINE, retain=True)])
        elif self._repeat_discovery:
            with self._mutex:
                wanted = [m for m in self._standing.values() if m.topic.startswith(f"{self._config.ha_prefix}/")]
            self._publish_standing(connection, wanted)
        self._repeat_bridge, self._repeat_discovery = False, self._repeat_bridge and self._repeat_discovery

    def _hear(self, topic: str, payload: bytes) -> None:
        """Home Assistant has started, or another recording has ended on the topic of this one."""
        self._repeat_discovery |= topic == self._status and payload == ONLINE
        self._repeat_bridge |= topic == self._bridge and payload == OFFLINE

    def _lose(self, connection: Connection, error: ServomexSinkWriteError) -> None:
        connection.hang_up()
        order = self._order
        self._connection = self._standing_batch = None
        if connection.ended_by is not None:
            error = connection.ended_by
        elif order is not None and order.begun and not order.is_repeated and not connection.is_silent:
            # If it was ended because of a message, the answer that says so may be lost when others follow it.
            order.repeat()
            self._is_careful = True
            return
        self._idle_attempt_at = time.monotonic() + self._pause_s
        self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2)
        _log.debug("%s", error)
        self._fail(error)

    def _fail(self, error: ServomexSinkWriteError) -> None:
        if self._order is not None:
            self._finish(self._order, error)

    def _finish(self, order: _Order, error: ServomexSinkWriteError | None) -> None:
        order.error = error
        self._is_careful = self._is_careful and error is not None
        with self._mutex:
            if self._order is order:
                self._order = None
        order.done.set()

    def _say_goodbye(self) -> None:
        """Announce the end, so that the broker need not find out; if that fails, it publishes the will."""
        self._fail(ServomexSinkWriteError(f"{self._config.target()}: the sink is closed"))
        connection, self._connection = self._connection, None
        if connection is None:
            return
        batch = Batch([] if self._bridge is None else [Message(self._bridge, OFFLINE, retain=True)])
        deadline = time.monotonic() + _LAST_S
        try:
            connection.publish(batch)
            while connection.is_waiting(batch) and connection.error is None and time.monotonic() < deadline:
                connection.turn(None, deadline - time.monotonic())
        except (ServomexError, OSError) as error:
            _log.debug("%s: %s", self._config.target(), error)
        finally:
            connection.hang_up(politely=not connection.is_waiting(batch) and connection.error is None)
