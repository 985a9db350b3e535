"""Any sample that there may be, nasty texts and all, for property tests."""

from datetime import UTC, datetime

from hypothesis import strategies as st

from servomex.enums import ChannelId, ProtocolKind
from servomex.errors import ServomexError
from servomex.errors import tree as errors_module
from servomex.models.analyser import AnalyserStatus, CalGroupState
from servomex.models.columns import ROW_COLUMNS
from servomex.models.naming import LONGEST_OWN, own_channel
from servomex.models.reading import ChannelStatus, Reading
from servomex.models.sample import Sample
from servomex.models.tags import LONGEST_KEY, LONGEST_VALUE, MOST_TAGS
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
_KINDS = [
    kind for kind in vars(errors_module).values() if isinstance(kind, type) and issubclass(kind, ServomexError)
]
errors = st.builds(lambda kind, text: kind(text), st.sampled_from(_KINDS), texts)
_VALUE = st.one_of(
    st.sampled_from("'\"=+-@\\,;{}[]: \ufeff\u20ac\U0001f300"),
    st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")),
)
keys = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,8}", fullmatch=True).filter(lambda key: key not in ROW_COLUMNS)
tags = st.dictionaries(keys, st.text(_VALUE, min_size=1, max_size=12), max_size=4)


def _is_own(text: str) -> bool:
    try:
        return own_channel(text) == text
    except ServomexError:
        return False


own_channels = st.text(_VALUE, min_size=1, max_size=LONGEST_OWN).filter(_is_own)
most_tags = {f"k{number:02d}".ljust(LONGEST_KEY, "x"): '"' * LONGEST_VALUE for number in range(MOST_TAGS)}


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Give any sample that there may be: a reading or an error, with or without what may be missing."""
    protocol, received_at = draw(st.sampled_from(ProtocolKind)), draw(times)
    monotonic_ns = draw(nanoseconds)
    reading = draw(st.none() | st.builds(
        Reading, st.sampled_from(ChannelId) | own_channels, st.none() | texts, st.none() | numbers,
        st.sampled_from(Unit), texts, statuses, st.just(protocol), st.just(received_at), st.just(monotonic_ns),
    ))  # fmt: skip
    return Sample(
        draw(texts), protocol, received_at, monotonic_ns, reading, draw(st.none() | analysers),
        draw(st.none() | times), draw(st.none() | numbers), draw(st.none() | errors),
        draw(tags),
    )  # fmt: skip
