"""The fast parser and splitter against the plainest ones: the same frames, the same refusals, the same pieces."""

import re
from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servomex import telegram
from servomex.errors import ServomexParseError
from servomex.models.frame import Frame
from servomex.telegram import HEADER_SIZE, FrameSplitter, checksum, parse_frame
from tests.helpers import naive
from tests.helpers.frames import (
    GOOD_3,
    GOOD_10,
    MONOTONIC_NS,
    REAL,
    RECEIVED_AT,
    block,
    capture_frames,
    chunks,
    external,
    make,
    resealed,
)
from tests.helpers.streams import STREAMS

EXPLORE = settings(max_examples=400, deadline=None, derandomize=True, database=None)
FRAMES = [*capture_frames(), GOOD_3, GOOD_10]


def outcome(parse: Callable[[], Frame]) -> Frame | type[Exception]:
    """What a parser gives, or the kind of error that it raises."""
    try:
        return parse()
    except ServomexParseError as error:
        return type(error)


def assert_same(raw: bytes) -> None:
    fast = outcome(lambda: parse_frame(raw, received_at=RECEIVED_AT, monotonic_ns=MONOTONIC_NS))
    assert fast == outcome(lambda: naive.parse(raw, RECEIVED_AT, MONOTONIC_NS)), raw


# Each field with what it may hold, what it nearly may hold, and any bytes of its width.
def field(width: int, *usual: bytes) -> st.SearchStrategy[bytes]:
    near = st.text(" ;0123456789.-:|FMCWSIDE%vpmA", min_size=width, max_size=width).map(str.encode)
    return st.sampled_from(usual) | near | st.binary(min_size=width, max_size=width)


BLOCKS = st.builds(
    block,
    st.sampled_from([b"I1", b"I2", b"I3", b"D1", b"D4", b"E1", b"E2"]) | field(2, b"I4"),
    field(6, b"Oxygen", b"CO\x82   ", b"||||||", b"      "),
    field(6, b"20.376", b"  -1.5", b"------", b"2..376", b"02.376", b"   0.0", b"1e5   ", b" 1_0.0"),
    field(3, b" % ", b"vpm", b" mA", b"VPM", b"%LE", b"   "),
    field(4, b"    ", b"1   ", b" 2 4"),
    field(2, b"  ", b"F ", b" M", b"FM"),
    field(1, b" ", b"C"),
    field(1, b" ", b"W"),
)
TIMES = st.from_regex(rb"[0-9]{2}-[0-9]{2}-[0-9]{2};[0-9]{2}:[0-9]{2}:[0-9]{2}", fullmatch=True)
CLOCKS = TIMES | field(17, b"06-10-20;02:54:12", b"31-02-20;02:54:12", b"29-02-24;23:59:59", b"06-10-20;02:54:60")


@st.composite
def hand_made(draw: st.DrawFn) -> bytes:
    """A frame with a right sum and anything in its fields, of which most are as they should be."""
    own = draw(st.lists(BLOCKS, max_size=3))
    blocks = own + draw(st.sampled_from([[], [external(b"E1"), external(b"E2", flags=b"F ")]]))
    flags, cal = draw(field(2, b"  ", b"FM")), draw(field(8, b"S1S1S1S1", b"C2S1C1S2"))
    count = b"%02d" % draw(st.just(len(blocks)) | st.integers(0, 11))
    return make(*blocks, clock=draw(CLOCKS), flags=flags, cal=cal, count=count)


@EXPLORE
@given(hand_made() | st.binary(max_size=400), st.sampled_from([b"", b"\r\n", b"\n", b" "]))
def test_any_frame_reads_as_the_plainest_parser_reads_it(raw: bytes, end: bytes) -> None:
    assert_same(raw + end)


@EXPLORE
@given(st.sampled_from(FRAMES), st.integers(0, 400), st.binary(max_size=4), st.booleans())
def test_damage_is_refused_where_the_plainest_parser_refuses_it(
    raw: bytes, at: int, new: bytes, seal: bool
) -> None:
    damaged = raw[:at] + new + raw[at + len(new) :]
    assert_same(resealed(damaged) if seal and len(damaged) > 6 else damaged)


def test_every_change_of_one_byte_with_a_right_sum_reads_the_same() -> None:
    """All places and all bytes: what the caches hold of the frame before must not hide a change."""
    raw = make(block(), external(b"E1"), external(b"E2", flags=b"F "))
    for at in range(1, len(raw) - 5):
        for new in range(256):
            assert_same(resealed(raw[:at] + bytes([new]) + raw[at + 1 :]))


def test_what_is_remembered_is_bounded() -> None:
    noise = Random(7)
    for _ in range(3000):
        value, name = b"%6d" % noise.randrange(10**6), b"%6x" % noise.randrange(16**6)
        clock = b"06-%02d-20;%02d:%02d:12" % (noise.randint(1, 12), noise.randrange(24), noise.randrange(60))
        assert_same(make(block(name=name, value=value), clock=clock))
    caches = [item for item in vars(telegram).values() if hasattr(item, "cache_info")]
    assert len(caches) >= 5
    for cache in caches:
        assert cache.cache_info().currsize <= cache.cache_info().maxsize <= 1024


@EXPLORE
@given(st.binary(max_size=2000))
def test_the_checksum_is_the_sum(body: bytes) -> None:
    assert checksum(body) == checksum(bytearray(body)) == sum(body) % 65536


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 363, 512, 70_000])
def test_the_checksum_is_the_sum_of_the_largest_bytes(size: int) -> None:
    assert checksum(b"\xff" * size) == 255 * size % 65536


@EXPLORE
@given(STREAMS, st.integers(1, 300))
def test_any_stream_is_cut_as_the_plainest_splitter_cuts_it(stream: bytes, size: int) -> None:
    fast, plain = FrameSplitter(), naive.Splitter()
    for chunk in chunks(stream, size):
        assert fast.feed(chunk) == plain.feed(chunk)
        assert fast.pending == len(plain.held)


HEAD = GOOD_3[:34]


@pytest.mark.parametrize("stream", [
    HEAD * 60, HEAD.replace(b"03", b"10") * 60, b" " * 3000, b" ;" * 1500, (HEAD[:-1] + b":") * 60,
    HEAD + b"\0" * 2000 + REAL, GOOD_10[:-1] + GOOD_3 + b"\r\n", b"x" * 2000 + REAL + b"\n",
    REAL[:100] + (HEAD + REAL) * 3 + b"\n",
], ids=range(9))  # fmt: skip
def test_a_stream_that_is_searched_in_parts_is_cut_the_same(stream: bytes) -> None:
    fast, plain = FrameSplitter(), naive.Splitter()
    for chunk in chunks(stream, 1):
        assert fast.feed(chunk) == plain.feed(chunk)


class Counted:
    """Counts the bytes that are looked at for a header."""

    def __init__(self) -> None:
        self.header = telegram.HEADER
        self.bytes = 0

    def match(self, data: bytes) -> re.Match[bytes] | None:
        self.bytes += HEADER_SIZE
        return self.header.match(data)

    def search(self, data: bytes, start: int) -> re.Match[bytes] | None:
        self.bytes += len(data) - start
        return self.header.search(data, start)

    def finditer(self, data: bytes, start: int) -> Iterator[re.Match[bytes]]:
        self.bytes += len(data) - start
        return self.header.finditer(data, start)


@pytest.mark.parametrize("junk", [b" ", b"x", b" ;", HEAD + b"\0" * 2000, HEAD[:-1] + b":", REAL], ids=range(6))
def test_a_byte_is_not_searched_again_and_again(junk: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    header, splitter = Counted(), FrameSplitter()
    monkeypatch.setattr(telegram, "HEADER", header)
    stream = junk * (10_000 // len(junk))
    for chunk in chunks(stream, 1):
        splitter.feed(chunk)
    assert header.bytes <= 3 * HEADER_SIZE * len(stream)
