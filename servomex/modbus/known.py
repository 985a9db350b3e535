"""What an analyser's replies have shown, to compare each new reply with. No I/O.

A reply with the names and states that are known already can be taken at once. One that changes them is either
news or the reply to another master's request: asking again shows which.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from itertools import compress

import attrs

from servomex.modbus.query import READ_REGISTERS
from servomex.registers import BLOCK_REGISTERS, REGISTERS, Span

_LABEL = 2
"""In a block of seven registers, the name and the unit follow the two of the value."""


@attrs.define
class Known:
    """Names, units and bits by function code and address."""

    _values: defaultdict[int, dict[int, int]] = attrs.field(factory=lambda: defaultdict(dict))
    _shown: dict[tuple[int, Sequence[int]], tuple[int, ...]] = attrs.field(factory=dict)
    """What reads of these addresses showed, as long as it is what is known: most replies show the same again."""
    _distinct: dict[Span, bool] = attrs.field(factory=dict)
    """What :meth:`distinguishes` returned for these spans, as long as nothing new is known."""

    def fits_words(self, span: Span, words: tuple[int, ...]) -> bool | None:
        """Return whether registers carry the known names and units; ``None`` when one is not known yet."""
        return self._fits(READ_REGISTERS, _label_addresses(span), _labels(span, words))

    def fits_bits(self, function: int, span: Span, bits: tuple[bool, ...]) -> bool | None:
        """Return whether bits are as they were; ``None`` when one is not known yet."""
        return self._fits(function, span.addresses, bits)

    def note_words(self, span: Span, words: tuple[int, ...]) -> None:
        """Remember the names and units."""
        self._note(READ_REGISTERS, _label_addresses(span), _labels(span, words))

    def note_bits(self, function: int, span: Span, bits: tuple[bool, ...]) -> None:
        """Remember the bits."""
        self._note(function, span.addresses, bits)

    def _fits(self, function: int, addresses: Sequence[int], seen: tuple[int, ...]) -> bool | None:
        if self._shown.get((function, addresses)) == seen:
            return True
        known = list(map(self._values[function].get, addresses))
        return None if None in known else known == list(seen)

    def _note(self, function: int, addresses: Sequence[int], seen: tuple[int, ...]) -> None:
        if not self._fits(function, addresses, seen):
            self._shown.clear()
            self._distinct.clear()
            self._values[function].update(zip(addresses, seen, strict=True))
        self._shown[function, addresses] = seen

    def distinguishes(self, span: Span) -> bool:
        """Return whether names and units show that registers are those of this span and no other of its size.

        Registers that were not read yet may carry the same names and units.
        """
        found = self._distinct.get(span)
        if found is None:
            wanted = self._labels_of(span)
            found = None not in wanted and all(_differ(self._labels_of(other), wanted) for other in _rivals(span))
            self._distinct[span] = found
        return found

    def _labels_of(self, span: Span) -> list[int | None]:
        return list(map(self._values[READ_REGISTERS].get, _label_addresses(span)))


_END = max(span.end for span in REGISTERS.values())


@lru_cache(maxsize=128)
def _rivals(span: Span) -> tuple[Span, ...]:
    """Return the other spans of the same size that begin with a channel."""
    starts = [block.address for block in REGISTERS.values() if block.address + span.count <= _END]
    return tuple(Span(start, span.count) for start in starts if start != span.address)


@lru_cache(maxsize=128)
def _is_label(span: Span) -> tuple[bool, ...]:
    return tuple(address % BLOCK_REGISTERS >= _LABEL for address in span.addresses)


@lru_cache(maxsize=128)
def _label_addresses(span: Span) -> tuple[int, ...]:
    return tuple(compress(span.addresses, _is_label(span)))


def _labels(span: Span, words: tuple[int, ...]) -> tuple[int, ...]:
    """Return the names and units among the registers of a span."""
    return tuple(compress(words, _is_label(span)))


def same_labels(span: Span, left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    """Return whether two replies to the same read carry the same names and units; the values may have moved."""
    return _labels(span, left) == _labels(span, right)


def _differ(others: list[int | None], wanted: list[int | None]) -> bool:
    return any(other not in (None, label) for other, label in zip(others, wanted, strict=True))
