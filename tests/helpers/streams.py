"""Streams of broadcasts, whole and damaged."""

from hypothesis import strategies as st

from servomex.telegram import HEADER_SIZE
from tests.helpers.frames import GOOD_10, REAL, block, external, make

# Traffic with three good frames that can be told apart.
FIRST, SECOND, THIRD = (
    make(block(value=value), external(b"E1"), external(b"E2")) for value in (b"20.100", b"20.200", b"20.300")
)
# It claims ten channels and holds three.
COUNT_DAMAGED = FIRST.replace(b";03;", b";10;")
SEGMENTS = st.one_of(
    st.sampled_from([FIRST, SECOND, REAL, GOOD_10, COUNT_DAMAGED, b"\r\n", b"\n", b"\r", FIRST[:HEADER_SIZE]]),
    st.integers(1, len(REAL)).map(lambda cut: REAL[:cut]),
    st.integers(1, len(REAL)).map(lambda cut: REAL[cut:]),
    st.builds(
        lambda at, new: SECOND[:at] + new + SECOND[at + len(new) :], st.integers(0, 130), st.binary(max_size=8)
    ),
    st.binary(max_size=40),
    st.text(" ;0123456789-:SC\n", max_size=40).map(str.encode),
)
STREAMS = st.lists(SEGMENTS, max_size=12).map(b"".join)
