"""On which line of a TOML file each key stands, for messages: the parser of Python does not tell."""

import re
from collections import Counter

Place = tuple[str | int, ...]
"""Where something stands: the tables and keys that lead to it; those of an array are counted from 0."""

_TABLE = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*("[^"]*"|'[^']*'|[A-Za-z0-9_.-]+)\s*=""")
_LONG = ('"""', "'''")


def lines_of(text: str) -> dict[Place, int]:
    """Return the line of each table and key of a valid TOML text, counted from 1."""
    found: dict[Place, int] = {}
    counts: Counter[str] = Counter()
    table: Place = ()
    within = ""  # the quotes of a text of several lines
    for number, line in enumerate(text.splitlines(), 1):
        if within:
            within = "" if within in line else within
            continue
        if head := _TABLE.match(line):
            table = _table(head[2], counts, counted=head[1] == "[[")
            found.setdefault(table, number)
            found.setdefault(tuple(part for part in table if isinstance(part, str)), number)
        elif key := _KEY.match(line):
            found.setdefault((*table, *_parts(key[1])), number)
            within = next((quotes for quotes in _LONG if line.count(quotes) == 1), "")
    return found


def _table(name: str, counts: Counter[str], *, counted: bool) -> Place:
    parts = _parts(name)
    if counted:
        counts[name] += 1
        return (*parts, counts[name] - 1)
    owner = str(parts[0])
    if len(parts) > 1 and counts[owner]:  # a table within the last of an array
        return (owner, counts[owner] - 1, *parts[1:])
    return parts


def _parts(name: str) -> Place:
    if name[0] in "\"'":
        return (name[1:-1],)
    return tuple(part.strip().strip("\"'") for part in name.split("."))
