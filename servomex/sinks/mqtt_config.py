"""Which broker, which topics, and how to reach it: ``MqttConfig``, ``mqtt://`` and ``mqtts://`` URLs."""

import os
import re
import socket
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

import attrs

from servomex.errors import ServomexSinkDependencyError, ServomexSinkWriteError, ServomexValidationError
from servomex.errors.excerpts import plain, without_password
from servomex.errors.missing import how_to_get
from servomex.errors.validation import flag, path_text, seconds, whole
from servomex.sinks import urls

PASSWORD_VARIABLE = "SERVOMEX_MQTT_PASSWORD"  # noqa: S105 (the name of a variable)
"""The variable of the environment that may hold the password."""
PORT, TLS_PORT = 1883, 8883
LONGEST_TOPIC = 256
"""Characters of a prefix, a site or a bridge."""
EXAMPLE = "mqtt://user@host:1883/prefix"
_SCHEME = re.compile(r"(mqtts?)://", re.IGNORECASE)
_WILD = re.compile(r"[+#\x00-\x1f\x7f\ud800-\udfff]")


@attrs.frozen
class MqttConfig:
    """A broker of MQTT 5, the topics that are published, and how to connect.

    The ``repr`` does not show the password. Without ``password`` and ``password_file`` it is that of the
    environment variable ``SERVOMEX_MQTT_PASSWORD``, if there is a user.

    Attributes:
        host: Name or address of the broker.
        port: TCP port; when ``None``, 1883, or 8883 with TLS.
        user: The user who connects.
        password: Its password.
        password_file: A file whose first line is the password, as with secrets of systemd or Docker.
        prefix: The beginning of all topics; it may have several levels.
        site: The level after it, for analysers without a tag ``site``; when ``None``, the name of this computer.
        bridge: Name of this connection in ``<prefix>/bridge/<name>``; when ``None``, the name of this computer and
            the port that is recorded.
        client_id: How the broker distinguishes connections; when ``None``, the bridge and some random characters.
        tls: Whether the connection is encrypted, and the certificate of the broker checked.
        ca: A file of the certificates that are trusted; when ``None``, those of the system.
        cert: A file of the certificate that this client shows, if the broker wants one.
        key: The file of its key, if it is not in the same file.
        fresh_s: How long a value counts as current. When ``None``, 2.5 times the interval between the readings of
            its analyser, and at least 10 s.
        ha: Whether Home Assistant is to discover the analysers.
        ha_prefix: The beginning of its topics.
        timeout_s: A broker that is silent for this long is given up.

    Raises:
        ServomexValidationError: A value is out of range, or cannot be used in a topic.
    """

    host: str
    port: int | None = None
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    password_file: str | os.PathLike[str] | None = None
    prefix: str = "servomex"
    site: str | None = None
    bridge: str | None = None
    client_id: str | None = None
    tls: bool = False
    ca: str | os.PathLike[str] | None = None
    cert: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None
    fresh_s: float | None = None
    ha: bool = False
    ha_prefix: str = "homeassistant"
    timeout_s: float = 10.0

    def __attrs_post_init__(self) -> None:
        for name in ("host", "user", "password", "site", "bridge", "client_id"):
            given = getattr(self, name)
            if given is not None and (not isinstance(given, str) or not given):  # it may be a password
                raise ServomexValidationError(f"{name} must be a text that is not empty")
        for name in ("password_file", "ca", "cert", "key"):
            if getattr(self, name) is not None:
                path_text(getattr(self, name), name)
        for name in ("prefix", "ha_prefix"):
            _check_prefix(name, getattr(self, name))
        for name in ("site", "bridge", "client_id"):
            if len(getattr(self, name) or "") > LONGEST_TOPIC:
                raise ServomexValidationError(f"{name} must have at most {LONGEST_TOPIC} characters")
        flag(self.tls, "tls")
        flag(self.ha, "ha")
        seconds(self.timeout_s, "timeout_s", longest=600)
        if self.fresh_s is not None:
            seconds(self.fresh_s, "fresh_s")
        if self.port is not None:
            whole(self.port, "port", 1, 65_535)
        self._check_together()

    def _check_together(self) -> None:
        if self.password is not None and self.password_file is not None:
            raise ServomexValidationError("the password comes from password or from password_file, not from both")
        if self.user is None and (self.password is not None or self.password_file is not None):
            raise ServomexValidationError("there is a password without a user", cure=f"Write {EXAMPLE}")
        if not self.tls and (self.ca or self.cert or self.key):
            raise ServomexValidationError("certificates are for mqtts://", cure="Write mqtts:// or tls=True")
        if self.key and not self.cert:
            raise ServomexValidationError("there is a key without its certificate", cure="Add cert=FILE")

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Return the configuration of a URL: ``mqtts://user@host:8883/prefix?ha=1``.

        The query may have the attributes of this class that are not in front of it, except the password.

        Raises:
            ServomexValidationError: The URL is not valid.
        """
        scheme = _SCHEME.match(url)
        if not scheme:
            raise ServomexValidationError(
                f"{without_password(url)!r} is not the URL of an MQTT broker", cure=f"Write {EXAMPLE}"
            )
        parts = urls.split_url(url, EXAMPLE)
        given = urls.read_parameters(parts.parameters, _READERS)
        if prefix := unquote(parts.path.strip("/")):
            given["prefix"] = prefix
        return cls(
            host=parts.host,
            port=parts.port,
            user=parts.user,
            password=parts.password,
            tls=scheme[1].lower() == "mqtts",
            **given,
        )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port or (TLS_PORT if self.tls else PORT)

    @property
    def site_or_host(self) -> str:
        """The site of analysers that have no tag ``site``."""
        return self.site or socket.gethostname() or "local"

    def secret(self) -> str | None:
        """Return the password.

        Raises:
            ServomexSinkWriteError: Its file cannot be read.
        """
        return urls.secret_of(self.password, self.password_file, PASSWORD_VARIABLE if self.user else None)

    def target(self) -> str:
        """Return ``mqtt://host:port/prefix``, which has no password and may be logged."""
        return plain(f"mqtt{'s' * self.tls}://{urls.authority(*self.address)}/{self.prefix}")

    def check_files(self) -> None:
        """Check that the files of certificates and of the password can be read.

        Raises:
            ServomexSinkWriteError: One of them cannot.
        """
        self.secret()
        for name in ("ca", "cert", "key"):
            given = getattr(self, name)
            if given is not None and not Path(given).is_file():
                raise ServomexSinkWriteError(f"there is no file {given}", cure=f"Check {name}=")


def check_paho() -> None:
    """Check that paho-mqtt 2 is installed.

    Raises:
        ServomexSinkDependencyError: It is not; the error names the extra to install.
    """
    try:
        from paho.mqtt.enums import CallbackAPIVersion  # noqa: F401 (paho-mqtt 1 has no such module)
    except ImportError as error:
        raise ServomexSinkDependencyError(
            f"MQTT needs paho-mqtt 2: {how_to_get('paho.mqtt.client', 'mqtt')} ({error})"
        ) from error


def _check_prefix(name: str, given: object) -> None:
    if not isinstance(given, str) or not given or len(given) > LONGEST_TOPIC or _WILD.search(given):
        raise ServomexValidationError(
            f"{name} must be the beginning of a topic, 1 to {LONGEST_TOPIC} characters without + and #, "
            f"not {given!r}"
        )
    if given.startswith(("$", "/")) or given.endswith("/") or "//" in given:
        raise ServomexValidationError(f"{name} must have no empty level and not begin with $, not {given!r}")


_READERS: dict[str, Any] = {
    "site": urls.text,
    "bridge": urls.text,
    "client_id": urls.text,
    "password_file": urls.text,
    "ca": urls.text,
    "cert": urls.text,
    "key": urls.text,
    "fresh_s": urls.number,
    "timeout_s": urls.number,
    "ha": urls.flag,
    "ha_prefix": urls.text,
}
"""The parameters of a URL, and how each is read."""
