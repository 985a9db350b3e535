"""MQTT: the newest value of each channel on a broker, ``mqtt://user@host/prefix`` and ``mqtts://``.

paho-mqtt is imported when a sink is opened, and not with this module: it is an optional package.
"""

import contextlib
import re
import socket
from collections.abc import Mapping
from typing import Any

from servomex.errors import ServomexSinkWriteError, ServomexValidationError
from servomex.errors.validation import flag
from servomex.runtime.logs import package_log
from servomex.sinks.base import FLUSH_S, BufferedSink
from servomex.sinks.mqtt_config import MqttConfig, check_paho
from servomex.sinks.mqtt_devices import Devices, Message, availability
from servomex.sinks.mqtt_discovery import config_payload, config_topic
from servomex.sinks.mqtt_topics import OFFLINE, bridge_topic

_log = package_log("servomex")

MOST_PENDING = 1_000
"""The most rows that wait to be published, and the most messages at once."""


class MqttSink(BufferedSink):
    """Publishes readings to a broker of MQTT 5. Rows count as stored once the broker has acknowledged them.

    A current value is retained on ``<prefix>/<site>/<device>/<channel>`` as a JSON object, and expires when it is
    no longer current. One that is late, as after an outage of the broker, is published on the level ``late`` below
    it, so that it never stands in for a current one. A failed reading makes its device ``offline`` at once on
    ``.../availability``, and is published on ``.../error``.

    After a lost connection the rows that were not acknowledged are sent again, so that a message may come twice.

    Args:
        config: Which broker and which topics, as a :class:`MqttConfig` or a URL, see :meth:`MqttConfig.from_url`.
        flush_s: Seconds until a row is published, 0 for at once.
        metadata: Facts about the whole recording; its ``port`` becomes part of the name of the bridge.
        append: Whether it adds to what is there, as it always does.

    Attributes:
        config: Which broker and which topics.
        bridge: The topic that says whether this sink is connected.

    Raises:
        ServomexValidationError: The URL or an argument is not valid.
        ServomexSinkWriteError: The broker cannot be reached, or does not allow this user to publish.
        ServomexSinkDependencyError: paho-mqtt 2 is not installed.
    """

    most_pending = MOST_PENDING
    always_appends = True

    def __init__(
        self,
        config: MqttConfig | str,
        *,
        flush_s: float = FLUSH_S,
        metadata: Mapping[str, str] | None = None,
        append: bool = True,
    ) -> None:
        if not flag(append, "append"):
            raise ServomexValidationError("a broker is always added to", cure="Omit append")
        self.config: MqttConfig = _config_of(config)
        name = self.config.bridge or _bridge_name((metadata or {}).get("port", ""))
        self.bridge: str = bridge_topic(self.config.prefix, name)
        self._devices = Devices(self.config)
        super().__init__(self.config.target(), flush_s=flush_s, fsync_s=None)

    def _open(self) -> None:
        self.config.check_files()
        from servomex.sinks.mqtt_link import Link

        self._link = Link(self.config, self.bridge)
        self._held.callback(self._link.close)
        self._link.open()

    def _let_go(self) -> None:
        """Leave the connection, and the rows waiting to be published, to the parent of a forked child."""
        self._link.let_go()
        self._held = contextlib.ExitStack()
        self._pending = []
        self.closed = True

    def _store(self, rows: list[Any]) -> None:
        for first in range(0, len(rows), MOST_PENDING):
            messages = self._devices.messages(rows[first : first + MOST_PENDING])
            changed = self._changed_discovery()
            self._link.keep([*changed, *map(availability, self._devices.announced())])
            self._send([*changed, *messages])

    def _check_place(self) -> None:
        """Announce analysers of which nothing has come for too long."""
        silent = self._devices.silent()
        for device in silent:
            device.is_online = False
        if silent:
            messages = [*map(availability, silent)]
            self._link.keep(messages)
            self._send(messages)

    def _finish(self) -> None:
        """Announce that the analysers are no longer read."""
        devices = [device for device in self._devices.announced() if device.is_online]
        try:
            self._link.send([Message(device.availability, OFFLINE, retain=True) for device in devices])
        except ServomexSinkWriteError as error:  # all rows are stored, and the will says the same of the bridge
            _log.warning("%s", error.text)

    def _send(self, messages: list[Message]) -> None:
        try:
            self._link.send(messages)
        except BaseException:
            self._devices.forget_announcements()
            raise

    def _changed_discovery(self) -> list[Message]:
        """Return the configurations for Home Assistant that have changed."""
        if not self.config.ha:
            return []
        found = [
            Message(
                config_topic(self.config, device), config_payload(self.config, device, self.bridge), retain=True
            )
            for device in self._devices.known
        ]
        return [message for message in found if self._link.kept(message.topic) != message.payload]

    @classmethod
    def place_of(cls, url: str) -> str:
        """Return the broker and the topics that a URL leads to."""
        config = MqttConfig.from_url(url)
        return f"{config.target()}/{config.site or ''}"

    @classmethod
    def check_url(cls, url: str, *, table: str | None = None) -> None:
        """Check whether the broker can be reached and accepts the user, without publishing anything.

        Raises:
            ServomexError: It cannot; the errors are those of the constructor.
        """
        if table is not None:
            raise ServomexValidationError("a broker has no tables", cure="Omit table")
        config = _config_of(url)
        config.check_files()
        from servomex.sinks.mqtt_link import Link

        link = Link(config)
        link.open()
        link.close()


def _config_of(source: MqttConfig | str) -> MqttConfig:
    config = source if isinstance(source, MqttConfig) else MqttConfig.from_url(source)
    check_paho()
    return config


def _bridge_name(port: str) -> str:
    """Return the name of a connection: of this computer, and of the port, which only one recording can have."""
    own = re.sub(r"[^A-Za-z0-9_.-]+", "-", re.split(r"[/\\]", port)[-1]).strip("-")[:40]
    return "-".join(filter(None, (socket.gethostname() or "local", own)))
