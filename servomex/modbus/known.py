"""What an analyser's replies have shown, to compare each new reply with. No I/O.

A reply with the names and states that are known already can be taken at once. One that changes them is either
news or the reply to another master's request: asking again shows which.
"""

from collections import defaultdict
from collections.abc import Sequence

import attrs

from servomex.registers import BLOCK_REGISTERS, REGISTERS, Span

_LABEL = 2
"""In a block of seven registers, the name and the unit follow the two of the value."""


@attrs.define
class Known:
    """Names and units by register address, bits by function code and address."""

    _labels: dict[int, int] = attrs.field(factory=dict)
    _bits: defaultdict[int, dict[int, bool]] = attrs.field(factory=lambda: defaultdict(dict))

    def fits_words(self, span: Span, words: tuple[int, ...]) -> bool | None:
        """Return whether registers carry the known names and units; ``None`` when one is not known yet."""
        labels = _labels(span, words)
        return _fits([self._labels.get(address) for address in labels], list(labels.values()))

    def fits_bits(self, function: int, span: Span, bits: tuple[bool, ...]) -> bool | None:
        """Return whether bits are as they were; ``None`` when one is not known yet."""
        return _fits(list(map(self._bits[function].get, span.addresses)), list(bits))

    def note_words(self, span: Span, words: tuple[int, ...]) -> None:
        """Remember the names and units."""
        self._labels.update(_labels(span, words))

    def note_bits(self, function: int, span: Span, bits: tuple[bool, ...]) -> None:
        """Remember the bits."""
        self._bits[function].update(zip(span.addresses, bits, strict=True))

    def tells_apart(self, span: Span) -> bool:
        """Return whether names and units show that registers are those of this span and no other of its size.

        Registers that were not read yet may carry the same names and units.
        """
        wanted = self._labels_of(span)
        starts = [block.address for block in REGISTERS.values() if block.address + span.count <= _END]
        return None not in wanted and all(
            start == span.address or _differ(self._labels_of(Span(start, span.count)), wanted) for start in starts
        )

    def _labels_of(self, span: Span) -> list[int | None]:
        return [self._labels.get(address) for address in span.addresses if address % BLOCK_REGISTERS >= _LABEL]


_END = max(span.end for span in REGISTERS.values())


def _labels(span: Span, words: tuple[int, ...]) -> dict[int, int]:
    numbered = zip(span.addresses, words, strict=False)
    return {address: word for address, word in numbered if address % BLOCK_REGISTERS >= _LABEL}


def same_labels(span: Span, left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    """Return whether two replies to the same read carry the same names and units; the values may have moved."""
    return _labels(span, left) == _labels(span, right)


def _differ(others: list[int | None], wanted: list[int | None]) -> bool:
    return any(other not in (None, label) for other, label in zip(others, wanted, strict=True))


def _fits(known: Sequence[object], seen: Sequence[object]) -> bool | None:
    return None if None in known else known == seen
