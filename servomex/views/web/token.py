"""The token: what a viewer must know to see the page from another computer."""

import hashlib
import hmac
import os
from pathlib import Path
from typing import Self

from servomex.errors import ServomexConfigurationError, ServomexValidationError

SHORTEST = 16
LONGEST = 512
COOKIE = "servomex"
COOKIE_S = 30 * 86400
"""How long a browser stays logged in."""
_PURPOSE = b"servomex: cookie of the page"


class Token:
    """A secret text. The cookie of a browser is derived from it, and does not contain it.

    So a browser stays logged in when the server starts again, and is logged out by another token.

    Args:
        text: 16 to 512 visible characters of ASCII.

    Raises:
        ServomexValidationError: It is shorter, longer, or has other characters. The error does not show it.
    """

    def __init__(self, text: str) -> None:
        if not (SHORTEST <= len(text) <= LONGEST and all("!" <= char <= "~" for char in text)):
            raise ServomexValidationError(
                f"a token has {SHORTEST} to {LONGEST} letters, digits or signs of ASCII, without spaces",
                cure='Make one with: python -c "import secrets; print(secrets.token_urlsafe())"',
            )
        self._token = text.encode()
        self._cookie = hmac.new(self._token, _PURPOSE, hashlib.sha256).hexdigest().encode()

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Return the token that is the first line of a file.

        Raises:
            ServomexConfigurationError: The file cannot be read.
            ServomexValidationError: The line is not a token.
        """
        try:
            with Path(path).open(encoding="utf-8", errors="replace") as file:
                line = file.readline(4 * LONGEST)
        except OSError as error:
            raise ServomexConfigurationError(
                f"the file of the token, {os.fspath(path)!r}, cannot be read: {error.strerror or error}"
            ) from error
        return cls(line.strip())

    def __repr__(self) -> str:
        return "Token(...)"

    def is_in_header(self, authorization: str | None) -> bool:
        """Return whether an ``Authorization`` header has the token, as ``Bearer``."""
        scheme, _, given = (authorization or "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token)

    def is_in_cookies(self, header: str | None) -> bool:
        """Return whether a ``Cookie`` header shows that the browser is logged in."""
        given = [item.strip().partition("=") for item in (header or "").split(";")]
        values = [value.encode() for name, _, value in given if name == COOKIE]
        return any(hmac.compare_digest(value, self._cookie) for value in values)

    def cookie(self, *, secure: bool) -> str:
        """Return the ``Set-Cookie`` header that logs a browser in.

        Args:
            secure: Whether the browser reached the page by TLS, and is to send the cookie over TLS only.
        """
        kept = f"{COOKIE}={self._cookie.decode()}; Path=/; Max-Age={COOKIE_S}; HttpOnly; SameSite=Strict"
        return kept + "; Secure" * secure
