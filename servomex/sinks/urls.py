"""What the URLs of sinks have in common: their parts, their parameters, and passwords that no message shows."""

import difflib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

import attrs

from servomex.errors import Argument, ServomexSinkWriteError, ServomexValidationError
from servomex.errors.excerpts import without_password

_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_SECRETS = frozenset({"password", "passwd", "pass", "pw", "p", "token", "secret", "apikey", "api_key"})
"""Names of parameters that would show a secret in every list of processes, and in the log of a server."""
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


@attrs.frozen
class ServerUrl:
    """A URL of a server, in parts.

    Attributes:
        host: Name or address of the server.
        port: TCP port; ``None`` when there is none in it.
        user: The user, if there is one.
        password: Its password, if there is one.
        path: The path, with the slash in front, not decoded.
        parameters: The parameters after the question mark, decoded.
    """

    host: str
    port: int | None
    user: str | None
    password: str | None = attrs.field(repr=False)
    path: str
    parameters: dict[str, str]


def split_url(url: str, example: str) -> ServerUrl:
    """Split the URL of a server; an error never shows its password.

    Args:
        url: The URL.
        example: One as it should be, for errors.

    Raises:
        ServomexValidationError: It is not valid, a parameter is given twice, or one is a secret.
    """
    shown, cure = without_password(url), f"Write {example}"
    rest = url.partition("://")[2]
    if "@" in re.sub(r"^[^/?@]*@", "", rest):
        # Part of a password would be taken for a host or a path, and shown as such.
        raise ServomexValidationError(
            f"{shown!r} has an @ in the wrong place",
            cure="Percent-encode user and password: / as %2F, ? as %3F, # as %23, @ as %40",
        )
    if _CONTROL.search(url) or "#" in url:
        raise ServomexValidationError(
            f"{shown!r} has a space, a control character or a #",
            cure="Percent-encode it, as %20 or %23",
        )
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ServomexValidationError(f"{shown!r} has no valid host and port", cure=cure) from None
    if not host or port == 0:
        raise ServomexValidationError(f"{shown!r} has no valid host and port", cure=cure)
    user, password = (None if text is None else unquote(text) for text in (parts.username, parts.password))
    return ServerUrl(host, port, user or None, password or None, parts.path, _parameters(parts.query, url))


def _parameters(query: str, url: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for parameter in filter(None, query.split("&")):
        name, _, text = parameter.partition("=")
        scheme = url.partition("://")[0]
        if name.lower() in _SECRETS:
            raise ServomexValidationError(
                f"{name}= in a {scheme}:// URL would be seen by others", cure="Name a file, as password_file=FILE"
            )
        if name in found:
            raise ServomexValidationError(f"{name} is given twice in a {scheme}:// URL")
        found[name] = unquote(text)
    return found


def read_parameters(
    parameters: Mapping[str, str], readers: Mapping[str, Callable[[str, str], Any]]
) -> dict[str, Any]:
    """Return the values of parameters.

    Args:
        parameters: Texts by their names.
        readers: What reads each text that is known, from its name and the text.

    Raises:
        ServomexValidationError: A parameter is unknown, or its text is not valid.
    """
    for name in parameters:
        if name not in readers:
            _refuse(name, readers)
    return {name: readers[name](name, text) for name, text in parameters.items()}


def _refuse(name: str, readers: Mapping[str, object]) -> NoReturn:
    near = difflib.get_close_matches(name, readers, n=1)
    raise ServomexValidationError(
        f"unknown parameter {name!r} in the URL",
        cure=f"Did you mean {near[0]}?" if near else f"Known are {', '.join(readers)}",
    )


def text(_name: str, given: str) -> str:
    """Return the text of a parameter."""
    return given


def integer(name: str, given: str) -> int:
    """Read a whole number.

    Raises:
        ServomexValidationError: It is none.
    """
    if not re.fullmatch(r"[0-9]{1,10}", given):
        raise ServomexValidationError(f"{name} must be a whole number, not {given!r}")
    return int(given)


def number(name: str, given: str) -> float:
    """Read a number of seconds.

    Raises:
        ServomexValidationError: It is none.
    """
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", given):
        raise ServomexValidationError(f"{name} must be a number of seconds, not {given!r}")
    return float(given)


def flag(name: str, given: str) -> bool:
    """Read a flag.

    Raises:
        ServomexValidationError: It is none.
    """
    if given.lower() not in _WORDS:
        raise ServomexValidationError(f"{name} must be 1 or 0, not {given!r}")
    return _WORDS[given.lower()]


def secret_of(
    given: str | None, file: str | os.PathLike[str] | None, variable: str | None, argument: str = "password_file"
) -> str | None:
    """Return a password or a token: the one that is given, that of a file, or that of the environment.

    A file is read each time, so that a password can be changed while a recording runs.

    Args:
        given: The secret itself.
        file: A file whose first line it is.
        variable: The variable of the environment that may hold it.
        argument: What the user named the file with, for errors.

    Raises:
        ServomexSinkWriteError: The file cannot be read.
    """
    if file is not None:
        return first_line(Path(file), argument)
    if given is not None or variable is None:
        return given
    return os.environ.get(variable) or None


def first_line(path: Path, argument: str = "password_file") -> str:
    """Return the first line of the file of a password.

    Raises:
        ServomexSinkWriteError: It cannot be read.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ServomexSinkWriteError(
            f"the file of the password, {path}, cannot be read: {reason}",
            cure="Check its name and its permissions",
            argument=Argument(argument),
        ) from None


def authority(host: str, port: int) -> str:
    """Return a host and a port as a URL has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
