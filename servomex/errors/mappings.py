"""FrozenMapping: a mapping that cannot be changed, for the fields of frozen models."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

V = TypeVar("V")


class FrozenMapping(Mapping[str, V]):
    """A copy of a mapping that cannot be changed. It can be compared with any mapping, hashed, copied and pickled.

    Args:
        items: Its contents.
    """

    __slots__ = ("_hash", "_items")

    def __init__(self, items: Mapping[str, V] | None = None) -> None:
        self._items = dict(items or {})
        self._hash: int | None = None

    def __getitem__(self, key: str) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def plain(self) -> dict[str, V]:
        """Return it as a dict of the caller's own."""
        return self._items.copy()

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._items.items()))
        return self._hash

    def __reduce__(self) -> tuple[object, ...]:
        return FrozenMapping, (self._items,)  # the hash of a text differs between processes

    def __repr__(self) -> str:
        return repr(self._items)


def frozen(items: Mapping[str, V]) -> FrozenMapping[V]:
    """Return an unchangeable copy of a mapping."""
    return items if isinstance(items, FrozenMapping) else FrozenMapping(items)
