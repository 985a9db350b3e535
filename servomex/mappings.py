"""FrozenMapping: a mapping that nobody can change, as a field of a frozen model needs it."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

V = TypeVar("V")


class FrozenMapping(Mapping[str, V]):
    """A copy of a mapping that cannot be changed. It can be compared with any mapping, hashed, copied and pickled.

    Args:
        items: What it holds.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, V] | None = None) -> None:
        self._items = dict(items or {})

    def __getitem__(self, key: str) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


def frozen(items: Mapping[str, V]) -> FrozenMapping[V]:
    """Return a mapping as one that cannot be changed."""
    return items if isinstance(items, FrozenMapping) else FrozenMapping(items)
