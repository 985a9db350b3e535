"""One connection to a broker of MQTT 5. All of it is used by one thread, which waits for the socket itself."""

import contextlib
import selectors
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any, cast

import attrs
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from servomex.errors import ServomexSinkWriteError
from servomex.runtime.clock import time
from servomex.sinks.mqtt_config import MqttConfig
from servomex.sinks.mqtt_devices import Message
from servomex.sinks.mqtt_errors import lost, refused_connection, refused_message, silent, unreached
from servomex.sinks.mqtt_topics import OFFLINE

KEEPALIVE_S = 15
"""A broker publishes the will when it hears nothing for one and a half times as long."""
_SELECTOR: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)
"""Not epoll, which a forked child would share."""
_QOS = 1
_SOON_S = 2.0
"""A connection that ends so soon after a message was refused ends because of it, as mosquitto 2.0 does."""
MOST_WAITING = 20
"""Messages that are sent before one is acknowledged; fewer if the broker says so."""


@attrs.define(eq=False)
class Batch:
    """Messages that are published together, and their acknowledgements.

    Attributes:
        messages: What is published.
        sent: How many of them were sent.
        waiting: The topics of those that are not acknowledged, by their number.
        refused: The error of the first one that the broker did not accept.
        moved_at: When the last acknowledgement came, on the monotonic clock.
    """

    messages: list[Message]
    sent: int = 0
    waiting: dict[int, str] = attrs.field(factory=dict)
    refused: ServomexSinkWriteError | None = None
    moved_at: float = 0.0

    @property
    def is_done(self) -> bool:
        """Whether all messages are acknowledged."""
        return self.sent == len(self.messages) and not self.waiting


class Connection:
    """A connection, from the attempt to make it until it is lost.

    Args:
        config: Where to.
        will: The topic on which the broker is to publish ``offline`` when the connection is lost.
        client_id: How the broker knows it.
        heard: Called with the topic and the payload of each message of a subscription.
        one_by_one: Whether a message is sent only when the one before is acknowledged.

    Attributes:
        error: Why it ended; ``None`` as long as it has not.
        is_silent: Whether it ended since the broker did not answer.

    Raises:
        ServomexSinkWriteError: It cannot be made.
    """

    def __init__(
        self,
        config: MqttConfig,
        will: str | None,
        client_id: str,
        heard: Callable[[str, bytes], None],
        *,
        one_by_one: bool = False,
    ) -> None:
        self.error: ServomexSinkWriteError | None = None
        self.is_silent: bool = False
        self._config = config
        self._heard = heard
        self._refusal: tuple[ServomexSinkWriteError, float] | None = None
        self._accepted = False
        self._most_waiting = 1 if one_by_one else MOST_WAITING
        self._batches: list[Batch] = []
        self._client = client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client.connect_timeout = config.timeout_s
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        if config.user is not None:
            client.username_pw_set(config.user, config.secret())
        if will is not None:
            client.will_set(will, OFFLINE, qos=_QOS, retain=True)
        try:
            if config.tls:
                client.tls_set_context(_context(config))
            client.connect(*config.address, keepalive=KEEPALIVE_S, clean_start=True)
        except (OSError, ValueError) as error:
            raise unreached(config, error) from error
        self._await_answer()

    def _await_answer(self) -> None:
        deadline = time.monotonic() + self._config.timeout_s
        try:
            while not self._accepted and self.error is None:
                self.turn(None, deadline - time.monotonic())
                if time.monotonic() >= deadline:
                    self._end(silent(self._config))
        finally:
            if not self._accepted:
                self.hang_up()
        if self.error is not None:
            raise self.error

    def turn(self, wake: socket.socket | None, timeout_s: float) -> None:
        """Wait for the broker, or for a byte on another socket, and handle what came; see :attr:`error`."""
        own: Any = self._client.socket()
        if own is None:
            self._end(lost(self._config))
            return
        with _SELECTOR() as selector:
            writing = selectors.EVENT_WRITE if self._client.want_write() else 0
            selector.register(own, selectors.EVENT_READ | writing)
            if wake is not None:
                selector.register(wake, selectors.EVENT_READ)
            pending = bool(getattr(own, "pending", int)())  # decrypted already, so the socket is silent
            ready = {key.fileobj: events for key, events in selector.select(0 if pending else max(0.0, timeout_s))}
        if wake is not None and wake in ready:
            with contextlib.suppress(BlockingIOError):
                wake.recv(4096)
        self._handle(ready.get(own, 0) | (selectors.EVENT_READ if pending else 0))
        if self.error is None:
            self._send()
        self._check_answers()

    def _handle(self, events: int) -> None:
        client = self._client
        code = MQTTErrorCode.MQTT_ERR_SUCCESS
        if events & selectors.EVENT_READ:
            code = client.loop_read()
        if not code and events & selectors.EVENT_WRITE:
            code = client.loop_write()
        if not code and client.socket() is not None:
            code = client.loop_misc()
        if code:
            self._end(lost(self._config, code.name.removeprefix("MQTT_ERR_").lower().replace("_", " ")))

    def _check_answers(self) -> None:
        """Give the broker up when it acknowledges nothing for too long."""
        now = time.monotonic()
        if any(now - batch.moved_at > self._config.timeout_s for batch in self._batches if batch.waiting):
            self.is_silent = True
            self._end(silent(self._config))

    @property
    def ended_by(self) -> ServomexSinkWriteError | None:
        """The error of the message that the broker refused just before the connection ended, if there is one."""
        return self._refusal[0] if self._refusal and time.monotonic() - self._refusal[1] < _SOON_S else None

    def publish(self, batch: Batch) -> None:
        """Begin to publish messages; they are acknowledged when :meth:`is_waiting` no longer says so."""
        self._batches.append(batch)
        self._send()

    def is_waiting(self, batch: Batch) -> bool:
        """Return whether a message of a batch is not acknowledged yet."""
        if not batch.is_done:
            return True
        if batch in self._batches:
            self._batches.remove(batch)
        return False

    def _send(self) -> None:
        """Send as many messages as the broker takes before it has acknowledged one."""
        free = self._most_waiting - sum(len(batch.waiting) for batch in self._batches)
        for batch in self._batches:
            for message in batch.messages[batch.sent : batch.sent + max(0, free)]:
                info = self._client.publish(
                    message.topic, message.payload, _QOS, message.retain, _properties(message.expiry_s)
                )
                if info.rc:
                    self._end(lost(self._config))
                    return
                batch.moved_at = batch.moved_at if batch.waiting else time.monotonic()
                batch.waiting[info.mid] = message.topic
                batch.sent, free = batch.sent + 1, free - 1

    def subscribe(self, topics: Iterable[str]) -> None:
        """Subscribe to topics; what others publish from now on is handed to ``heard``."""
        for topic in topics:
            self._client.subscribe(topic, options=SubscribeOptions(qos=_QOS, noLocal=True, retainHandling=2))

    def let_go(self) -> None:
        """Close the socket in a forked child, without a word to the broker."""
        own: Any = self._client.socket()
        if own is not None:
            own.close()

    def hang_up(self, *, politely: bool = False) -> None:
        """End the connection.

        Args:
            politely: Whether the broker is told, and so does not publish the will.
        """
        own: Any = self._client.socket()
        if own is None:
            return
        if politely:
            self._client.disconnect()
            deadline = time.monotonic() + 1
            while self._client.want_write() and time.monotonic() < deadline and self._client.socket():
                self._client.loop_write()
        with contextlib.suppress(OSError):
            own.close()

    def _end(self, error: ServomexSinkWriteError) -> None:
        if self.error is None:
            self.error = error

    def _on_connect(
        self, _client: Client, _data: object, _flags: object, code: ReasonCode, properties: object
    ) -> None:
        if code.is_failure:
            self._end(refused_connection(self._config, code.value, str(code)))
        else:
            self._most_waiting = min(self._most_waiting, getattr(properties, "ReceiveMaximum", MOST_WAITING))
            self._accepted = True

    def _on_disconnect(
        self, _client: Client, _data: object, flags: Any, code: ReasonCode, _properties: object
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._end(refused_connection(self._config, code.value, str(code)))
        else:
            self._end(lost(self._config, "" if code == 0 else str(code)))

    def _on_publish(
        self, _client: Client, _data: object, number: int, code: ReasonCode, _properties: object
    ) -> None:
        for batch in self._batches:
            topic = batch.waiting.pop(number, None)
            if topic is None:
                continue
            batch.moved_at = time.monotonic()
            if code.is_failure:
                self._refusal = refused_message(self._config, topic, code.value, str(code)), time.monotonic()
                batch.refused = batch.refused or self._refusal[0]
            return

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self._heard(message.topic, bytes(message.payload))


class _Socket(ssl.SSLSocket):
    """An encrypted socket that is closed when no connection comes of it, which paho omits."""

    def do_handshake(self, block: bool = False) -> None:
        """Agree on keys, and check the certificate."""
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def _properties(expiry_s: int | None) -> Properties | None:
    if expiry_s is None:
        return None
    found: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    found.MessageExpiryInterval = min(expiry_s, 2**32 - 1)
    return cast("Properties", found)


def _context(config: MqttConfig) -> ssl.SSLContext:
    """Return what checks the certificate of the broker."""
    context = ssl.create_default_context(cafile=None if config.ca is None else str(config.ca))
    context.sslsocket_class = _Socket
    if config.cert is not None:
        context.load_cert_chain(str(config.cert), None if config.key is None else str(config.key))
    return context
