"""Arguments in the text of errors: spelled as keywords in a program, and as options on the command line."""

import contextlib
from collections.abc import Callable, Iterator

import attrs


@attrs.frozen
class Argument:
    """An argument of a call that should be changed or checked.

    Its text depends on the reader: ``str()`` shows ``protocol='continuous'`` in a program and
    ``--protocol continuous`` on the command line, see :func:`spelling`.

    Attributes:
        name: Its name in the call, such as ``protocol``.
        value: The value to give it; ``None`` where the user has to find the value.
    """

    name: str
    value: object = None

    def __str__(self) -> str:
        return _spell[-1](self)


def _as_keyword(argument: Argument) -> str:
    name, value = argument.name, argument.value
    if value is None:
        return name
    return f"{name}={str(value)!r}" if isinstance(value, str) else f"{name}={value!r}"


_spell: list[Callable[[Argument], str]] = [_as_keyword]


@contextlib.contextmanager
def spelling(spell: Callable[[Argument], str]) -> Iterator[None]:
    """Spell arguments in another way, in all threads of this process, for example as options."""
    _spell.append(spell)
    try:
        yield
    finally:
        _spell.pop()
