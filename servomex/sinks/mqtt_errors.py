"""What the answers of a broker mean, and what to do about each."""

import ssl

from servomex.errors import ServomexSinkWriteError
from servomex.errors.excerpts import plain
from servomex.sinks.mqtt_config import PASSWORD_VARIABLE, MqttConfig

_CREDENTIALS = f"Check the user and the password: in the URL, in password_file or in {PASSWORD_VARIABLE}"
_ANSWERS = {
    0x80: ("the broker refuses the connection", "See the log of the broker"),
    0x84: ("the broker does not speak MQTT 5", "Use mosquitto 1.6 or later, or another broker that does"),
    0x85: ("the broker refuses the client_id", "Omit client_id, or choose another one"),
    0x86: ("the broker refuses the user or the password", _CREDENTIALS),
    0x87: ("the broker refuses the user or the password", f"{_CREDENTIALS}, and what the broker allows this user"),
    0x88: ("the broker is not available", "Try again later"),
    0x89: ("the broker is busy", "Try again later"),
    0x8A: ("the broker has banned this client", "See the log of the broker"),
    0x8B: ("the broker is shutting down", "Start it again"),
    0x8D: ("the broker heard nothing for too long", "Check the network"),
    0x8E: ("another connection has the same client_id", "Omit client_id, or choose another one"),
    0x97: ("the broker's quota is exceeded", "See the log of the broker"),
    0x9F: ("the broker allows fewer connections", "Try again later"),
}
"""Reason codes of MQTT 5, with what happened and what to do."""
_TOPIC = {
    0x87: ("does not allow this user to write", "Allow {user} to write {prefix}/# in the broker's access list"),
    0x90: ("does not take the topic", "Choose another prefix, site or name"),
    0x97: ("has its quota exceeded by", "Raise the limits of the broker"),
}
"""Those of a message that was not accepted."""


def refused_connection(config: MqttConfig, code: int, words: str) -> ServomexSinkWriteError:
    """Return the error of a connection that the broker refused or ended.

    Args:
        config: Where to.
        code: Its reason code.
        words: The name of the code, for one that is not known here.
    """
    what, cure = _ANSWERS.get(code, ("the broker refuses the connection", "See the log of the broker"))
    return ServomexSinkWriteError(f"{config.target()}: {what} ({plain(words)})", cure=cure)


def refused_message(config: MqttConfig, topic: str, code: int, words: str) -> ServomexSinkWriteError:
    """Return the error of a message that the broker did not accept."""
    what, cure = _TOPIC.get(code, ("does not accept", "See the log of the broker"))
    cure = cure.format(
        user=f"the user {config.user!r}" if config.user else "anonymous users", prefix=config.prefix
    )
    return ServomexSinkWriteError(
        f"{config.target()}: the broker {what} {plain(topic)} ({plain(words)})", cure=cure
    )


def unreached(config: MqttConfig, error: BaseException) -> ServomexSinkWriteError:
    """Return the error of a connection that could not be made."""
    what, cure = "the broker cannot be reached", "Check host and port, and whether the broker runs"
    if isinstance(error, ssl.SSLCertVerificationError):
        what, cure = "the broker's certificate is not trusted", "Name its CA as ca=FILE, and the host as it says"
    elif isinstance(error, ssl.SSLError) or (config.tls and isinstance(error, ConnectionResetError)):
        what, cure = "no encrypted connection", "Check the port: 8883 is for mqtts://, 1883 for mqtt://"
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    found = ServomexSinkWriteError(f"{config.target()}: {what} ({plain(str(reason))})", cure=cure)
    found.__cause__ = error
    return found


def lost(config: MqttConfig, words: str = "") -> ServomexSinkWriteError:
    """Return the error of a connection that ended."""
    said = f" ({plain(words)})" if words else ""
    return ServomexSinkWriteError(
        f"{config.target()}: the connection was lost{said}", cure="Check the broker and the network"
    )


def silent(config: MqttConfig) -> ServomexSinkWriteError:
    """Return the error of a broker that does not answer."""
    return ServomexSinkWriteError(
        f"{config.target()}: the broker did not answer within {config.timeout_s:g} s",
        cure="Check the broker and the network",
    )
