"""How long a reply may take: from what was seen, within the bounds of the line."""

import pytest

from servomex.enums import ProtocolKind
from servomex.modbus.query import LOOPBACK, PROBE, Query
from servomex.modbus.timing import LATENCIES_KEPT, Pace, Timing, line_timing
from servomex.settings import SerialSettings

TIMING = Timing(usual_wait_s=(0.15, 0.5), patience=1.5, first_guess_s=0.1, silence_s=0.1, longest_pause_s=2.0)


@pytest.mark.parametrize(
    ("slowest_s", "share_s", "wait_s"),
    [(0.01, 9.0, 0.15), (0.1, 9.0, 0.4), (0.1, 0.2, 0.2), (0.3, 9.0, 0.5), (1.0, 9.0, 1.5), (0.1, 0.0, 0.15)],
)
def test_a_reply_may_take_four_times_what_was_seen_within_bounds(
    slowest_s: float, share_s: float, wait_s: float
) -> None:
    pace = Pace(TIMING)
    pace.slowest_s = slowest_s
    assert pace.wait_s(share_s) == pytest.approx(wait_s)


def test_late_replies_raise_the_patience_at_once_and_prompt_ones_lower_it_step_by_step() -> None:
    pace = Pace(TIMING)
    pace.note_late(1.0)
    assert pace.patient_s(0.2) == 1.5
    pace.note_reply(0.01, 0.0)
    assert pace.slowest_s == 0.9


def test_a_reply_that_is_faster_than_all_before_it_is_suspicious() -> None:
    pace = Pace(TIMING)
    assert not any(pace.note_reply(0.05, 0.0) for _ in range(LATENCIES_KEPT))
    assert not pace.note_reply(0.046, 0.0)
    assert pace.note_reply(0.01, 0.0)


def test_a_reply_that_was_cut_short_lengthens_the_pause_up_to_its_bound() -> None:
    pace = Pace(TIMING)
    for expected in (0.4, 1.6, 2.0, 2.0):
        pace.note_cut()
        assert pace.pause_s == pytest.approx(expected)
    pace.note_reply(0.01, 0.0)
    assert pace.pause_s == pytest.approx(1.8)


@pytest.mark.parametrize(
    ("framing", "query", "characters"),
    [
        (ProtocolKind.MODBUS_RTU, PROBE, 8 + 6),
        (ProtocolKind.MODBUS_ASCII, PROBE, 17 + 13),
        (ProtocolKind.MODBUS_RTU, Query(LOOPBACK, payload=b"ab"), 8 + 8),
        (ProtocolKind.MODBUS_ASCII, Query(LOOPBACK, payload=b"ab"), 17 + 17),
    ],
)
def test_a_request_and_its_reply_take_the_gap_the_wait_and_their_characters(
    framing: ProtocolKind, query: Query, characters: int
) -> None:
    line = line_timing(SerialSettings(baudrate=1000), framing, 0.05, 0.3)
    assert line.exchange(query.data_size) == pytest.approx(0.05 + 0.3 + characters / 100)


def test_a_prompt_reply_begins_as_soon_as_those_of_the_bench_unit() -> None:
    rtu = line_timing(SerialSettings(baudrate=1000), ProtocolKind.MODBUS_RTU, 0.0)
    assert 0.02 <= rtu.turnaround_s <= 0.04
