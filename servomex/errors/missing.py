"""Optional packages: what to do about one that is missing."""

import sys


def how_to_get(package: str, extra: str) -> str:
    """Return what to do about a package that cannot be imported.

    A frozen program contains only what it imports, see ``_pyinstaller``.

    Args:
        package: The package.
        extra: The extra of this package that installs it.
    """
    if getattr(sys, "frozen", False):
        return f"add 'import {package}' to the program, and freeze it again"
    return f'python -m pip install "servomex[{extra}]"'
