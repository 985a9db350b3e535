"""One connection by HTTP to a database that takes lines of InfluxDB, and what its answers mean."""

import contextlib
import email.utils
import gzip
import http.client
import json
import re
import ssl
from datetime import UTC, datetime

import attrs

from servomex.errors import ServomexSinkWriteError
from servomex.errors.excerpts import plain
from servomex.runtime.clock import time
from servomex.sinks.influx_config import TOKEN_VARIABLE, InfluxConfig
from servomex.version import __version__

LONGEST_ANSWER = 65_536
"""Bytes of an answer that are read."""
LONGEST_PAUSE_S = 20.0
"""The longest wait that a server may ask for: a recording gives a sink up after 30 s."""
OF_A_ROW = frozenset({400, 413, 422})
"""Answers that a row can cause: it does not fit, or there are too many."""
_WHO = f"Check the user and the password, or the token: token_file, password_file or {TOKEN_VARIABLE}"
_MEANINGS = {
    401: ("the server does not know this user or token", _WHO),
    403: ("the server does not allow this user to write", f"{_WHO}, and what it may write"),
    404: ("there is no such database or path", "Create it, as with CREATE DATABASE, or check the URL"),
    405: ("the server takes no lines there", "Check the path of the URL: /write or /api/v2/write"),
    429: ("the server is asked too often", "Raise its limits, or send less"),
}
"""What answers mean, and what to do."""


@attrs.frozen
class Answer:
    """The answer of a server.

    Attributes:
        status: Its status.
        words: What it says, on one line.
        pause_s: How long it asks to wait, if it does.
    """

    status: int
    words: str
    pause_s: float | None = None

    @property
    def is_good(self) -> bool:
        """Whether all lines were taken."""
        return 200 <= self.status < 300

    @property
    def is_of_a_row(self) -> bool:
        """Whether a row may be the reason for it."""
        return self.status in OF_A_ROW


class LineWriter:
    """Sends lines to a database; one that is lost is connected again.

    Args:
        config: Where to.
    """

    def __init__(self, config: InfluxConfig) -> None:
        self._config = config
        self._connection: http.client.HTTPConnection | None = None
        self._not_before = 0.0
        self._asked_to_wait: ServomexSinkWriteError | None = None

    def check(self) -> None:
        """Check that the database takes lines, by sending none.

        Raises:
            ServomexSinkWriteError: It does not.
        """
        answer = self._post(b"")
        if answer.status == 400 and not self._config.is_version_1:  # that it wants at least one
            return
        if not answer.is_good:
            raise self.explained(answer)

    def send(self, lines: bytes) -> Answer:
        """Send lines; return an answer that says they were taken, or that a row may be the reason why not.

        Raises:
            ServomexSinkWriteError: They were not taken, or that is not known; they may be sent again.
        """
        if self._asked_to_wait is not None and time.monotonic() < self._not_before:
            raise self._asked_to_wait
        answer = self._post(lines)
        if answer.is_good or answer.is_of_a_row:
            return answer
        error = self.explained(answer)
        if answer.status in (429, 503) and answer.pause_s is not None:
            self._asked_to_wait, self._not_before = error, time.monotonic() + answer.pause_s
        raise error

    def explained(self, answer: Answer) -> ServomexSinkWriteError:
        """Return the error of an answer, with what to do."""
        what, cure = _MEANINGS.get(answer.status, ("the server refuses the lines", "See the log of the server"))
        if answer.status >= 500:
            what, cure = "the server has an error", "See the log of the server"
        elif 300 <= answer.status < 400:
            what, cure = "the server names another URL", "Write that one"
        said = f"HTTP {answer.status}{': ' * bool(answer.words)}{answer.words}"
        return ServomexSinkWriteError(f"{self._config.target()}: {what} ({said})", cure=cure)

    def disconnect(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _post(self, lines: bytes) -> Answer:
        headers = {
            "Content-Type": "text/plain; charset=utf-8",
            "User-Agent": f"servomex/{__version__}",
            "Accept": "application/json",
        }
        if (who := self._config.authorization()) is not None:
            headers["Authorization"] = who
        if self._config.gzip and lines:
            lines, headers["Content-Encoding"] = gzip.compress(lines, 6, mtime=0), "gzip"
        was_connected = self._connection is not None
        try:
            return self._exchange(lines, headers)
        except (OSError, http.client.HTTPException) as error:
            self.disconnect()
            if not was_connected or isinstance(error, TimeoutError):
                raise self._unreached(error) from error
        try:
            return self._exchange(lines, headers)  # a server may have closed an idle connection
        except (OSError, http.client.HTTPException) as error:
            self.disconnect()
            raise self._unreached(error) from error

    def _exchange(self, lines: bytes, headers: dict[str, str]) -> Answer:
        if self._connection is None:
            self._connection = _connected(self._config)
        self._connection.request("POST", self._config.request_target, lines, headers)
        response = self._connection.getresponse()
        body = response.read(LONGEST_ANSWER)
        if not response.isclosed():
            self.disconnect()  # it has more to say than is read
        words = self._without_secrets(_words(body, response.headers.get("Location", "")), headers)
        return Answer(response.status, words, _pause_s(response.headers.get("Retry-After")))

    def _without_secrets(self, words: str, headers: dict[str, str]) -> str:
        secret = headers.get("Authorization", "").partition(" ")[2]
        for text in filter(None, (secret, self._config.password)):
            words = words.replace(text, "***")
        return plain(words)

    def _unreached(self, error: Exception) -> ServomexSinkWriteError:
        what, cure = "the server cannot be reached", "Check host and port, and whether the server runs"
        if isinstance(error, ssl.SSLCertVerificationError):
            what, cure = (
                "the server's certificate is not trusted",
                "Name its CA as ca=FILE",
            )
        elif isinstance(error, TimeoutError):
            what = f"the server did not answer within {self._config.timeout_s:g} s"
        elif isinstance(error, http.client.HTTPException):
            what, cure = "the server does not speak HTTP, or ended the connection", "Check host and port"
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return ServomexSinkWriteError(f"{self._config.target()}: {what} ({plain(str(reason))})", cure=cure)


def _connected(config: InfluxConfig) -> http.client.HTTPConnection:
    if not config.tls:
        return http.client.HTTPConnection(config.host, config.port, timeout=config.timeout_s)
    context = ssl.create_default_context(cafile=None if config.ca is None else str(config.ca))
    return http.client.HTTPSConnection(config.host, config.port, timeout=config.timeout_s, context=context)


def _words(body: bytes, location: str) -> str:
    """Return what an answer says: the message in its JSON, or its first line."""
    text = body.decode("utf-8", "replace").strip()
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(text)
        if isinstance(found, dict):
            text = str(found.get("error") or found.get("message") or text)
    return " ".join(filter(None, (text, location)))


def _pause_s(given: str | None) -> float | None:
    """Return how long a server asks to wait, within reason."""
    if given is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", given.strip()):
        return min(LONGEST_PAUSE_S, float(given))
    try:
        until = email.utils.parsedate_to_datetime(given)
    except (ValueError, TypeError):
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(LONGEST_PAUSE_S, max(0.0, (until - datetime.now(UTC)).total_seconds()))
