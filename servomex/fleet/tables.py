"""Tables of a TOML file as objects: each key is read by one function, and every problem is collected."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

from servomex.errors import ServomexError
from servomex.fleet.lines import Place

T = TypeVar("T")

Read = Callable[[Any], Any]
"""Returns the value of a key; raises a :class:`ServomexError` that says what is wrong with it."""


@attrs.frozen
class Problem:
    """Something wrong in a file.

    Attributes:
        line: The line, counted from 1; ``None`` when it concerns the file as a whole.
        text: What is wrong, and what to do about it.
    """

    line: int | None
    text: str


def key(read: Read, default: Any = attrs.NOTHING) -> Any:
    """Return a field that is a key of a table.

    Args:
        read: Reads its value.
        default: Its value when it is omitted; without one, the key is needed.
    """
    return attrs.field(default=default, metadata={"read": read}, kw_only=True)


class Tables:
    """Reads tables, and collects what is wrong in them.

    Args:
        lines: The lines of the file, see :func:`lines_of`.

    Attributes:
        problems: What was wrong so far.
    """

    def __init__(self, lines: Mapping[Place, int]) -> None:
        self.problems: list[Problem] = []
        self._lines = lines

    def note(self, text: str, *place: str | int) -> None:
        """Note a problem at a place, or at the table around it."""
        line = None
        for depth in range(len(place), 0, -1):
            line = line or self._lines.get(place[:depth])
        self.problems.append(Problem(line, text))

    def read(self, kind: type[T], table: object, *place: str | int) -> T | None:
        """Return a table as an object; ``None`` when something in it is wrong, which is noted.

        Args:
            kind: Its class, whose fields are made by :func:`key`.
            table: The table as it was parsed.
            place: Where it stands.
        """
        what = _named(place)
        if not isinstance(table, dict):
            self.note(f"{what} must be a table", *place)
            return None
        keys: dict[str, attrs.Attribute[Any]] = {field.name: field for field in attrs.fields(kind)}  # type: ignore[arg-type]
        before = len(self.problems)
        for name in table.keys() - keys.keys():
            self.note(f"unknown key {name!r} in {what}{_suggestion(name, keys)}", *place, name)
        given: dict[str, Any] = {}
        for name, field in keys.items():
            if name in table:
                try:
                    given[name] = field.metadata["read"](table[name])
                except ServomexError as error:
                    self.note(f"{name} in {what}: {error}", *place, name)
            elif field.default is attrs.NOTHING:
                self.note(f"{what} needs {name}", *place)
        return kind(**given) if len(self.problems) == before else None

    def read_all(self, kind: type[T], tables: object, name: str) -> list[tuple[int, T]]:
        """Return the tables of an array as objects, with their numbers; those with a problem are left out."""
        if not isinstance(tables, list):
            self.note(f"{name} must be an array of tables: write [[{name}]]", name)
            return []
        read = [(number, self.read(kind, table, name, number)) for number, table in enumerate(tables)]
        return [(number, item) for number, item in read if item is not None]

    def check_names(self, document: Mapping[str, object], names: list[str]) -> None:
        """Note tables that have another name than those that there are."""
        for name in document.keys() - set(names):
            self.note(f"unknown table {name!r}{_suggestion(name, names)}", name)


def _named(place: Place) -> str:
    name, number = place[0], place[1] if len(place) > 1 else None
    return f"[{name}]" if number is None else f"[[{name}]] number {int(number) + 1}"


def _suggestion(name: str, known: Any) -> str:
    meant = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {meant[0]!r}?" if meant else f"; there are {', '.join(known)}"
