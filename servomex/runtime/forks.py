"""Ports, files and threads belong to the process that opened them; how a forked child treats them.

A fork copies an object without its threads, and with the same open port or file under it. Two processes that use
one port take each other's replies, and two that write one file damage it. So in a child every call is refused,
and the descriptors are closed as soon as the child begins: nothing is flushed, no lock is waited for, and the lock
of a file ends with the parent.
"""

import contextlib
import os
import weakref
from typing import Any, NoReturn, Protocol, Self

from servomex.errors import ServomexConfigurationError


class Inherited(Protocol):
    """An object that has something to release in a forked child."""

    def _let_go(self) -> None:
        """Drop what belongs to the parent without touching port or file, and without waiting for a lock."""


_inherited: "weakref.WeakSet[Inherited]" = weakref.WeakSet()


def let_go_after_fork(item: Inherited) -> None:
    """Call ``item._let_go()`` in each child that is forked from now on, as soon as it starts."""
    _inherited.add(item)


class ProcessBound:
    """Base class of objects that may be used only in the process that made them."""

    _process: int

    def __new__(cls, *_args: Any, **_options: Any) -> Self:
        """Remember the process; here, since a user's own sink need not call ``__init__``."""
        made = super().__new__(cls)
        made._process = os.getpid()
        return made

    @property
    def made_here(self) -> bool:
        """Whether it was made in this process, not in the one that this was forked from."""
        return self._process == os.getpid()

    def check_process(self) -> None:
        """Refuse a call in a forked child.

        Raises:
            ServomexConfigurationError: It was made in another process.
        """
        if not self.made_here:
            raise ServomexConfigurationError(
                f"{self._described} was opened in another process (pid {self._process}), and this one "
                f"(pid {os.getpid()}) is a fork of it: open it here"
            )

    @property
    def _described(self) -> str:
        """Its class and name, without reading anything that another thread may be changing."""
        name = getattr(self, "name", None) or getattr(self, "port", None)
        return f"the {type(self).__name__}{f' {name}' * isinstance(name, str)}"

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled, as happens when a process is spawned.

        Raises:
            ServomexConfigurationError: Always.
        """
        raise ServomexConfigurationError(
            f"{self._described} cannot be handed to another process, or copied: open it there. Frames, readings "
            "and samples can be handed over"
        )


def keep_forever(thing: object) -> None:
    """Keep an object from being finalised, even at the end of the process."""
    with contextlib.suppress(ImportError):
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _after_fork() -> None:
    for item in list(_inherited):
        item._let_go()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
