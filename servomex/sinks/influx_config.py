"""Which database takes lines of InfluxDB, and how to reach it: ``InfluxConfig`` and ``influx+http://`` URLs."""

import base64
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import attrs

from servomex.errors import ServomexSinkWriteError, ServomexValidationError
from servomex.errors.excerpts import plain, without_password
from servomex.errors.mappings import FrozenMapping
from servomex.errors.validation import flag, path_text, seconds, whole
from servomex.sinks import urls

TOKEN_VARIABLE = "INFLUX_TOKEN"  # noqa: S105 (the name of a variable)
"""The variable of the environment that may hold the token, as for InfluxDB's own programs."""
PORT = 8086
EXAMPLE = "influx+http://host:8086/write?db=plant"
_SCHEME = re.compile(r"influx\+(https?)://", re.IGNORECASE)
_TEXT = re.compile(r"[\x21-\x7e]*")


def _frozen(given: Mapping[str, str]) -> FrozenMapping[str]:
    return FrozenMapping(given)


@attrs.frozen
class InfluxConfig:
    """A database that takes lines of InfluxDB by HTTP, and how to connect to it.

    The ``repr`` shows neither the password nor the token. Without any of them the token is that of the environment
    variable ``INFLUX_TOKEN``.

    Attributes:
        host: Name or address of the server.
        port: TCP port.
        path: The path of the URL that takes lines; when ``None``, that of InfluxDB 1 or 2, by ``query``.
        query: What the URL has besides: ``db`` and ``rp``, or ``org`` and ``bucket``.
        user: The user, for a server that wants one.
        password: Its password.
        password_file: A file whose first line is the password, or the token where there is no user.
        token: A token of InfluxDB 2 or 3.
        token_file: A file whose first line is the token.
        tls: Whether the connection is encrypted, and the certificate of the server checked.
        ca: A file of the certificates that are trusted; when ``None``, those of the system.
        gzip: Whether lines are sent packed.
        timeout_s: A server that is silent for this long is given up.

    Raises:
        ServomexValidationError: A value is out of range.
    """

    host: str
    port: int = PORT
    path: str | None = None
    query: FrozenMapping[str] = attrs.field(factory=dict, converter=_frozen)
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    password_file: str | os.PathLike[str] | None = None
    token: str | None = attrs.field(default=None, repr=False)
    token_file: str | os.PathLike[str] | None = None
    tls: bool = False
    ca: str | os.PathLike[str] | None = None
    gzip: bool = True
    timeout_s: float = 10.0

    def __attrs_post_init__(self) -> None:
        for name in ("host", "user", "password", "token"):
            given = getattr(self, name)
            if given is not None and (not isinstance(given, str) or not given):  # it may be a password
                raise ServomexValidationError(f"{name} must be a text that is not empty")
        for name in ("password_file", "token_file", "ca"):
            if getattr(self, name) is not None:
                path_text(getattr(self, name), name)
        whole(self.port, "port", 1, 65_535)
        flag(self.tls, "tls")
        flag(self.gzip, "gzip")
        seconds(self.timeout_s, "timeout_s", longest=600)
        if self.path is not None and not (self.path.startswith("/") and _TEXT.fullmatch(self.path)):
            raise ServomexValidationError(f"path must begin with / and be percent-encoded, not {self.path!r}")
        if self.query.get("precision", "ns") not in ("n", "ns", "nanosecond"):
            raise ServomexValidationError("times are sent in nanoseconds", cure="Omit precision")
        self._check_secrets()

    def _check_secrets(self) -> None:
        given = [n for n in ("password", "password_file", "token", "token_file") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ServomexValidationError(f"there is a {given[0]} and a {given[1]}", cure="Keep one of them")
        if self.password is not None and self.user is None:
            raise ServomexValidationError("there is a password without a user", cure="Name the user, or a token")
        if self.user is not None and (self.token or self.token_file):
            raise ServomexValidationError("there is a user and a token", cure="Keep one of them")
        if self.ca and not self.tls:
            raise ServomexValidationError("ca is for influx+https://", cure="Write influx+https://")

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Return the configuration of a URL: ``influx+http://host:8086/write?db=plant``.

        ``token_file``, ``password_file``, ``ca``, ``gzip=0`` and ``timeout_s`` in the query are those of this
        class; all else is sent to the server.

        Raises:
            ServomexValidationError: The URL is not valid.
        """
        scheme = _SCHEME.match(url)
        if not scheme:
            raise ServomexValidationError(
                f"{without_password(url)!r} is not the URL of a database of InfluxDB", cure=f"Write {EXAMPLE}"
            )
        parts = urls.split_url(url, EXAMPLE)
        own = {name: value for name, value in parts.parameters.items() if name in _READERS}
        others = {name: value for name, value in parts.parameters.items() if name not in _READERS}
        return cls(
            host=parts.host,
            port=parts.port or PORT,
            path=parts.path if parts.path not in ("", "/") else None,
            query=FrozenMapping(others),
            user=parts.user,
            password=parts.password,
            tls=scheme[1].lower() == "https",
            **urls.read_parameters(own, _READERS),
        )

    @property
    def is_version_1(self) -> bool:
        """Whether the URL is that of InfluxDB 1, by its path."""
        return self.write_path.endswith("/write") and "/api/v2/" not in self.write_path

    @property
    def write_path(self) -> str:
        """The path of the URL that takes lines."""
        if self.path is not None:
            return self.path
        return "/api/v2/write" if "bucket" in self.query else "/write"

    @property
    def request_target(self) -> str:
        """The path and the query of a request."""
        parameters = {**self.query, **({} if "/api/v3/" in self.write_path else {"precision": "ns"})}
        query = "&".join(f"{quote(name)}={quote(text, safe='')}" for name, text in parameters.items())
        return f"{self.write_path}?{query}" if query else self.write_path

    def authorization(self) -> str | None:
        """Return the header that shows who writes.

        Raises:
            ServomexSinkWriteError: The file of a password cannot be read, or the secret has other characters than
                a header may have.
        """
        if self.user is not None:
            password = urls.secret_of(self.password, self.password_file, None) or ""
            return "Basic " + base64.b64encode(f"{self.user}:{password}".encode()).decode("ascii")
        file = self.token_file or self.password_file
        token = urls.secret_of(self.token, file, TOKEN_VARIABLE, "token_file")
        if not token:
            return None
        if not _TEXT.fullmatch(token):
            raise ServomexSinkWriteError("the token has a space or a character that is not ASCII", cure="Check it")
        return f"{'Bearer' if '/api/v3/' in self.write_path else 'Token'} {token}"

    def target(self) -> str:
        """Return ``http://host:port/path`` and the database, which has no password and may be logged."""
        where = "/".join(self.query[name] for name in ("db", "rp", "org", "bucket") if name in self.query)
        shown = f"http{'s' * self.tls}://{urls.authority(self.host, self.port)}{self.write_path}"
        return plain(f"influx+{shown}" + f" ({where})" * bool(where))

    def check_files(self) -> None:
        """Check that the files of certificates and of the token can be read.

        Raises:
            ServomexSinkWriteError: One of them cannot.
        """
        self.authorization()
        if self.ca is not None and not Path(self.ca).is_file():
            raise ServomexSinkWriteError(f"there is no file {self.ca}", cure="Check ca=")


_READERS: dict[str, Any] = {
    "password_file": urls.text,
    "token_file": urls.text,
    "ca": urls.text,
    "gzip": urls.flag,
    "timeout_s": urls.number,
}
"""The parameters of a URL that are ours, and how each is read."""
