"""A broker of the tests' own, mosquitto, and a client that notes what it publishes."""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import attrs
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.servers.processes import dying_with_this, ended, folder_for, free_port, missing, run

USER = "mosquitto"
"""The user of the system who runs it where this one is root; Debian's package creates it."""
PASSWORD = "correct horse/battery?staple@100%"


def program(name: str) -> str:
    """Return the path of a program of the broker."""
    found = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin")
    if found is None:
        missing(f"there is no mosquitto here ({name}); on Debian: apt install mosquitto")
    return found


class MosquittoServer:
    """A broker on a TCP port of this computer.

    Args:
        lines: Lines of its configuration, besides those of its port. Without any, it takes everyone.
    """

    def __init__(self, *lines: str) -> None:
        self._program = program("mosquitto")
        self.folder = folder_for(USER)
        self.port = free_port()
        text = [f"listener {self.port} 127.0.0.1", *(lines or ["allow_anonymous true"])]
        text += ["persistence true", f"persistence_location {self.folder}/", "max_queued_messages 0"]
        (self.folder / "conf").write_text("\n".join([*text, ""]).replace("FOLDER", str(self.folder)))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its URL."""
        return f"mqtt://127.0.0.1:{self.port}/"

    @property
    def log(self) -> str:
        """What it wrote."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [*dying_with_this(), self._program, "-c", str(self.folder / "conf")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it properly: it keeps what it has."""
        if self._process is not None:
            ended(self._process, signal.SIGTERM)
            self._process = None

    def hang(self) -> None:
        """Stop its process, so that it is there and does not answer."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Stop it, and remove all that it has."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def broker(
    *lines: str, users: tuple[str, ...] = (), acl: str | None = None, tls: bool = False
) -> Iterator[MosquittoServer]:
    """Run a broker, with the files that its lines name: passwords, what users may do, a certificate."""
    server = MosquittoServer(*lines)
    try:
        if tls:
            certificates(server.folder)
        for user in users:
            first = [] if (server.folder / "passwords").exists() else ["-c"]
            passwords = str(server.folder / "passwords")
            run([program("mosquitto_passwd"), *first, "-b", passwords, user, PASSWORD], server.folder)
        if acl is not None:
            (server.folder / "acl").write_text(acl)
        for path in server.folder.iterdir():
            path.chmod(0o644)
        server.start()
        yield server
    finally:
        server.remove()


def certificates(folder: Path) -> None:
    """Make a certificate of a broker on this computer, and its key, in a folder."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", "key.pem", "-out", "ca.pem", "-days", "2", "-subj", "/CN=localhost"]
    run([*command, "-addext", "subjectAltName=IP:127.0.0.1"], folder)


@attrs.frozen
class Seen:
    """A message as it arrived."""

    topic: str
    payload: bytes
    retained: bool
    expiry_s: int | None

    @property
    def record(self) -> dict[str, Any]:
        """Its payload, as JSON."""
        found: dict[str, Any] = json.loads(self.payload)
        return found


class Observer:
    """A client that subscribes to topics, and keeps what arrives.

    Args:
        server: The broker.
        topics: What it subscribes to.
        session: A name under which the broker keeps messages while it is away.
        user: The user, who has the password of the tests.
    """

    def __init__(self, server: MosquittoServer, topics: str = "#", session: str = "", user: str = "") -> None:
        self.seen: list[Seen] = []
        self._subscribed = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=session, protocol=MQTTProtocolVersion.MQTTv5)
        self.client.reconnect_delay_set(1, 1)
        if user:
            self.client.username_pw_set(user, PASSWORD)
        self.client.on_message = self._note
        self.client.on_connect = lambda client, *_: client.subscribe(topics, qos=1)
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 600 if session else 0
        self.client.connect("127.0.0.1", server.port, keepalive=60, clean_start=not session, properties=properties)
        self.client.loop_start()
        assert self._subscribed.wait(10)

    def _note(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        expiry_s = getattr(message.properties, "MessageExpiryInterval", None)
        self.seen.append(Seen(message.topic, bytes(message.payload), message.retain, expiry_s))

    def on(self, topic: str) -> list[Seen]:
        """Return what came on a topic."""
        return [item for item in self.seen if item.topic == topic]

    def payloads(self, topic: str) -> list[bytes]:
        """Return the payloads that came on a topic."""
        return [item.payload for item in self.on(topic)]

    def wait_for(self, topic: str, payload: bytes | None = None, number: int = 1) -> Seen:
        """Wait until so many messages came on a topic, and return the last."""
        deadline = time.monotonic() + 30
        while True:
            found = [item for item in self.on(topic) if payload in (None, item.payload)]
            if len(found) >= number:
                return found[-1]
            assert time.monotonic() < deadline, (topic, payload, self.seen)
            time.sleep(0.01)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def retained(server: MosquittoServer) -> dict[str, Seen]:
    """Return what the broker keeps, by topic."""
    with Observer(server) as observer:
        observer.client.publish("marker", b"", qos=1)  # the broker sends what it keeps before this
        observer.wait_for("marker")
        return {item.topic: item for item in observer.seen if item.retained}
