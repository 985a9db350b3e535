"""Optional packages: what to do about one that is missing."""

import sys


def how_to_get(package: str, extra: str) -> str:
    """Return what to do about a package that cannot be imported.

    A program that was frozen holds no more than it imports, see ``_pyinstaller``.

    Args:
        package: The package.
        extra: The extra of this one that brings it.
    """
    if getattr(sys, "frozen", False):
        return f"add 'import {package}' to the program, and freeze it again"
    return f'python -m pip install "servomex[{extra}]"'
