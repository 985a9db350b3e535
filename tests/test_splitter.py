"""Frames found in a byte stream: whatever surrounds them, however it is cut, in bounded memory."""

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servomex.errors import ServomexParseError
from servomex.telegram import HEADER_SIZE, MAX_JUNK, FrameSplitter, parse_frame
from tests.helpers.frames import GOOD_3, GOOD_10, REAL, block, chunks, external, make
from tests.helpers.streams import COUNT_DAMAGED, FIRST, SECOND, SEGMENTS, STREAMS, THIRD


def split(stream: bytes, size: int | None = None) -> tuple[list[bytes], int]:
    """Feed a stream in chunks of one size, or whole, and give the pieces and what is pending."""
    splitter = FrameSplitter()
    pieces = [piece for chunk in chunks(stream, size or len(stream) or 1) for piece in splitter.feed(chunk)]
    return pieces, splitter.pending


def good(pieces: Iterable[bytes]) -> list[bytes]:
    """Give those pieces that parse, without their line ends."""
    found = []
    for piece in pieces:
        try:
            found.append(parse_frame(piece).raw)
        except ServomexParseError:
            continue
    return found


def without_line_ends(data: bytes) -> bytes:
    return data.translate(None, b"\r\n")


def arrivals(stream: bytes) -> dict[bytes, int]:
    """Feed byte by byte and tell after how many bytes each piece came out."""
    splitter = FrameSplitter()
    return {piece: end for end in range(1, len(stream) + 1) for piece in splitter.feed(stream[end - 1 : end])}


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r", b"", b"\n\r", b"\r\r\n\n"])
@pytest.mark.parametrize("size", [None, 1, 7, 138, 139])
def test_frames_are_found_with_any_line_end(end: bytes, size: int | None) -> None:
    pieces, pending = split(FIRST + end + SECOND + end + GOOD_10 + end + REAL + end, size)
    assert pieces == [FIRST, SECOND, GOOD_10, REAL]
    assert pending <= len(end)


@pytest.mark.parametrize("frame", [GOOD_3, REAL, GOOD_10])
def test_a_frame_is_given_with_its_last_byte_and_not_before(frame: bytes) -> None:
    assert arrivals(frame + b"\r\n") == {frame: len(frame)}


def test_a_splitter_starts_empty_and_takes_nothing() -> None:
    splitter = FrameSplitter()
    assert (splitter.feed(b""), splitter.pending, splitter.flush()) == ([], 0, [])


def test_flush_gives_what_is_held_back_and_forgets_it() -> None:
    splitter = FrameSplitter()
    assert splitter.feed(FIRST[:50]) == []
    assert splitter.pending == 50
    assert splitter.flush() == [FIRST[:50]]
    assert splitter.pending == 0
    assert splitter.feed(SECOND) == [SECOND]
    assert splitter.feed(b"\r") == []
    assert splitter.flush() == []


NOISE = [
    b"\x00", b"\xff\xfe\x80", b" ", b"   ", b";;;", b"garbage", b" 06-10-20;", b"\r\n\r\n", b"line\r\n", b"\n\x00",
    b";  ; ; ;2A1D;", FIRST[100:], FIRST[:33], b"\xff" * 500, bytes(range(256)),
]  # fmt: skip


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r", b""])
@pytest.mark.parametrize("size", [None, 1, 64])
def test_noise_glued_to_a_frame_does_not_cost_it(noise: bytes, end: bytes, size: int | None) -> None:
    stream = noise + FIRST + end + noise + SECOND + noise + THIRD + end
    pieces, _ = split(stream, size)
    assert good(pieces) == [FIRST, SECOND, THIRD]


def test_noise_is_given_out_as_soon_as_a_header_ends_it() -> None:
    assert arrivals(b"garbage" + FIRST) == {b"garbage": 7 + HEADER_SIZE, FIRST: 7 + len(FIRST)}


@pytest.mark.parametrize("end", [
    b"\x8d\n", b"\r\x8a", b"\x8d\x8a", b"\x0d\x4a", b" \n", b"\r ", b"  ", b"\r\n\x00", b";\r\n", b"\x00\x00",
])  # fmt: skip
@pytest.mark.parametrize("size", [None, 1])
def test_a_damaged_line_end_costs_no_frame(end: bytes, size: int | None) -> None:
    pieces, _ = split(FIRST + end + SECOND + end + THIRD + b"\r\n", size)
    assert good(pieces) == [FIRST, SECOND, THIRD]


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r", b""])
def test_a_frame_cut_short_anywhere_costs_only_itself(end: bytes) -> None:
    for cut in range(1, len(FIRST)):
        pieces, _ = split(FIRST[:cut] + end + SECOND + end + THIRD + end)
        assert good(pieces) == [SECOND, THIRD], cut


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r", b""])
def test_a_frame_that_starts_late_costs_only_itself(end: bytes) -> None:
    for cut in range(1, len(FIRST)):
        pieces, _ = split(FIRST[cut:] + end + SECOND + end + THIRD + end)
        assert good(pieces) == [SECOND, THIRD], cut


@pytest.mark.parametrize("inserted", [b"\x00", b" ", b";", b"1", b"\n", b"\r", b"\xff"])
@pytest.mark.parametrize("size", [None, 1])
def test_an_inserted_byte_costs_only_its_frame(inserted: bytes, size: int | None) -> None:
    for at in range(1, len(SECOND)):
        damaged = SECOND[:at] + inserted + SECOND[at:]
        pieces, _ = split(FIRST + b"\r\n" + damaged + b"\r\n" + THIRD + b"\r\n", size)
        # A second space in front, or a ";" behind, leaves the frame as it was.
        expected = [FIRST, SECOND, THIRD] if SECOND in damaged else [FIRST, THIRD]
        assert good(pieces) == expected, at


def test_deleted_bytes_cost_only_their_frame() -> None:
    for at in range(len(SECOND)):
        for size in (1, 2, 40):
            damaged = SECOND[:at] + SECOND[at + size :]
            pieces, _ = split(FIRST + b"\r\n" + damaged + b"\r\n" + THIRD + b"\r\n")
            assert good(pieces) == [FIRST, THIRD], (at, size)


def test_any_damaged_byte_costs_only_its_frame() -> None:
    damage = Random(11)
    for at in range(len(SECOND)):
        for new in damage.sample(range(256), 6):
            if new != SECOND[at]:
                damaged = SECOND[:at] + bytes([new]) + SECOND[at + 1 :]
                pieces, _ = split(FIRST + b"\r\n" + damaged + b"\r\n" + THIRD + b"\r\n")
                assert good(pieces) == [FIRST, THIRD], (at, new)


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("own_end", [True, False])
def test_a_count_damaged_upwards_does_not_hold_up_the_next_frame(end: bytes, own_end: bool) -> None:
    before = COUNT_DAMAGED + (end if own_end else b"")
    came = arrivals(before + SECOND + end + THIRD + end)
    assert came[SECOND] <= len(before + SECOND + end)
    assert came[THIRD] == len(before + SECOND + end + THIRD)


@pytest.mark.parametrize("end", [b"\r", b"", b"\x8d\x8a"])
def test_a_count_damaged_upwards_does_not_hold_up_the_next_frame_without_a_line_feed(end: bytes) -> None:
    before = COUNT_DAMAGED + end
    came = arrivals(before + SECOND + end + THIRD + end)
    assert came[SECOND] <= len(before + SECOND + end)


@pytest.mark.parametrize("end", [b"\r", b""])
def test_a_count_damaged_upwards_costs_no_frame_in_the_end(end: bytes) -> None:
    pieces, _ = split((COUNT_DAMAGED + end + SECOND + end + THIRD + end) * 3, 1)
    assert good(pieces)[:4] == [SECOND, THIRD] * 2


def test_flush_finds_a_frame_behind_damage() -> None:
    splitter = FrameSplitter()
    pieces = splitter.feed(COUNT_DAMAGED + SECOND) + splitter.flush()
    assert good(pieces) == [SECOND]


EXPLORE = settings(max_examples=150, deadline=None, derandomize=True, database=None)


@EXPLORE
@given(STREAMS, st.lists(st.integers(1, 300), min_size=1))
def test_the_pieces_do_not_depend_on_the_chunks(stream: bytes, sizes: list[int]) -> None:
    whole = split(stream)
    assert split(stream, 1) == whole
    splitter, pieces, start = FrameSplitter(), list[bytes](), 0
    for size in sizes:
        pieces += splitter.feed(stream[start : start + size])
        start += size
    pieces += splitter.feed(stream[start:])
    assert (pieces, splitter.pending) == whole


@EXPLORE
@given(STREAMS, st.integers(1, 300))
def test_nothing_is_lost_or_invented(stream: bytes, size: int) -> None:
    splitter = FrameSplitter()
    pieces = [piece for chunk in chunks(stream, size) for piece in splitter.feed(chunk)]
    held_back = splitter.pending
    rest = splitter.flush()
    assert without_line_ends(b"".join(pieces + rest)) == without_line_ends(stream)
    assert len(b"".join(rest)) <= held_back
    assert all(without_line_ends(piece) for piece in pieces + rest)


@EXPLORE
@given(st.lists(SEGMENTS, max_size=8).map(b"".join), st.lists(SEGMENTS, max_size=4).map(b"".join))
def test_a_good_frame_with_its_line_feed_is_always_found(before: bytes, after: bytes) -> None:
    frame = make(block(b"D4", b"Purity", b"99.999"), external(b"E1"), external(b"E2"))
    for size in (None, 1):
        pieces, _ = split(before + frame + b"\r\n" + after, size)
        assert good(pieces).count(frame) == 1


# A body that holds a line feed and still sums up: no frame, but whole it looks like one.
WITH_LINE_FEED = make(block(name=b"O\n    "), external(b"E1"), external(b"E2"))


def test_a_line_feed_inside_a_frame_ends_it_however_it_is_cut() -> None:
    stream = WITH_LINE_FEED + b"\r\n" + SECOND + b"\r\n"
    assert split(stream) == split(stream, 1)
    assert good(split(stream)[0]) == [SECOND]


JUNK_SIZE = 10_000_000
JUNK = {
    "one letter": b"x" * JUNK_SIZE,
    "random": Random(3).randbytes(JUNK_SIZE).replace(b"\n", b"\r"),
    "spaces": b" " * (JUNK_SIZE // 16),
    "one header, no end": FIRST[:HEADER_SIZE] + b"\x00" * JUNK_SIZE,
    "headers": FIRST[:HEADER_SIZE] * (JUNK_SIZE // HEADER_SIZE // 16),
    "headers that are none": (FIRST[: HEADER_SIZE - 1] + b":") * (JUNK_SIZE // HEADER_SIZE // 4),
}


@pytest.mark.parametrize(("kind", "size"), [
    ("one letter", 8), ("one letter", 100_000), ("one letter", JUNK_SIZE), ("random", 4096), ("random", JUNK_SIZE),
    ("spaces", 64), ("one header, no end", 4096), ("headers", 64), ("headers that are none", 64),
])  # fmt: skip
def test_junk_without_a_line_end_is_held_in_bounds_and_the_next_frame_is_found(kind: str, size: int) -> None:
    junk, splitter = JUNK[kind][: 125_000 * size], FrameSplitter()
    most = longest = given_out = 0
    for chunk in chunks(junk, size):
        pieces = splitter.feed(chunk)
        most = max(most, splitter.pending)
        for piece in pieces:
            longest = max(longest, len(piece))
            given_out += len(piece)
    assert most <= 2 * MAX_JUNK
    assert 0 < longest <= 2 * MAX_JUNK
    if b"\r" not in junk:
        assert given_out + splitter.pending == len(junk)
    assert good(splitter.feed(SECOND + b"\r\n")) == [SECOND]
    assert splitter.pending == 0


@pytest.mark.parametrize("size", [1, 8, 1000, None])
def test_a_header_that_arrives_while_junk_is_given_up_is_kept(size: int | None) -> None:
    for length in range(MAX_JUNK - HEADER_SIZE - 1, MAX_JUNK + 9):
        pieces, _ = split(b"x" * length + SECOND, size)
        assert good(pieces) == [SECOND], length


@pytest.mark.parametrize("line", [b"", b"x" * 1000, b"x" * 3000])
def test_lines_of_junk_are_held_in_bounds(line: bytes) -> None:
    splitter = FrameSplitter()
    pieces = splitter.feed((line + b"\r\n") * 2000)
    assert max(map(len, pieces), default=0) <= 2 * MAX_JUNK
    assert splitter.pending == 0
    assert sum(map(len, pieces)) >= len(line) * 2000
    assert splitter.feed(SECOND) == [SECOND]
