"""Any sample that there may be, nasty texts and all, for property tests."""

from datetime import UTC, datetime

from hypothesis import strategies as st

from servomex.enums import ChannelId, ProtocolKind
from servomex.models import AnalyserStatus, CalGroupState, ChannelStatus, Reading, Sample
from servomex.units import Unit

_CHARACTERS = st.one_of(
    st.sampled_from("'\"=+-@\\x0a,;\n\r\t\0\x1b\x85 \u2028\ufeff\u20ac\U0001f300"), st.characters(codec="utf-8")
)
texts = st.text(_CHARACTERS, max_size=12)
times = st.datetimes(datetime(1600, 1, 1), datetime(2400, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
clocks = st.none() | st.datetimes(datetime(1600, 1, 1), datetime(2400, 1, 1))  # noqa: DTZ001
numbers = st.floats(allow_nan=False, allow_infinity=False)
nanoseconds = st.integers(-(2**63), 2**63 - 1)
flags = st.booleans()
statuses = st.builds(ChannelStatus, flags, flags, flags, flags, st.tuples(flags, flags, flags, flags))
analysers = st.builds(
    AnalyserStatus,
    flags,
    flags,
    st.lists(st.tuples(flags, st.integers(0, 12)), max_size=4).map(
        lambda items: tuple(CalGroupState(number, *item) for number, item in enumerate(items, 1))
    ),
    clocks,
)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Give any sample that there may be: a reading or an error, with or without what may be missing."""
    protocol, received_at = draw(st.sampled_from(ProtocolKind)), draw(times)
    monotonic_ns = draw(nanoseconds)
    reading = draw(st.none() | st.builds(
        Reading, st.sampled_from(ChannelId), st.none() | texts, st.none() | numbers, st.sampled_from(Unit), texts,
        statuses, st.just(protocol), st.just(received_at), st.just(monotonic_ns),
    ))  # fmt: skip
    return Sample(
        draw(texts), protocol, received_at, monotonic_ns, reading, draw(st.none() | analysers),
        draw(st.none() | times), draw(st.none() | numbers), draw(st.none() | texts),
    )  # fmt: skip
