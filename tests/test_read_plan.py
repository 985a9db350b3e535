"""Which requests a sweep is made of: complete, never more than allowed, and the cheapest there is."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servomex.enums import ChannelId
from servomex.registers import REGISTERS, STATES, LineTiming, Merging, Span, message_size, plan_reads
from servomex.settings import SerialSettings

pytestmark = pytest.mark.virtual_time

BENCH = [ChannelId(name) for name in ("I1", "I2", "I3", "E1", "E2")]
FRAMINGS = pytest.mark.parametrize("ascii_framing", [False, True], ids=["RTU", "ASCII"])


@st.composite
def spans(draw: st.DrawFn) -> list[Span]:
    """Up to eight spans that do not overlap, some of them neighbours, in any order."""
    found, place = [], 0
    for gap, count in draw(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 10)), max_size=8)):
        found.append(Span(place + gap, count))
        place += gap + count
    return draw(st.permutations(found))


@st.composite
def costs(draw: st.DrawFn) -> Callable[[Span], float]:
    """A price for each request and for each address; or prices without any order."""
    request, address = draw(st.integers(0, 100)), draw(st.integers(0, 10))
    if draw(st.booleans()):
        return lambda span: request + address * span.count
    salt = draw(st.integers(1, 1000))
    return lambda span: (span.address * 31 + span.count * 17 + 1) * salt % 101


PLANS = {"wanted": spans(), "cost": costs(), "merging": st.sampled_from(Merging)}


def addresses(wanted: Sequence[Span]) -> list[int]:
    return sorted(address for span in wanted for address in span.addresses)


def all_plans(ordered: Sequence[Span], merging: Merging) -> Iterator[list[Span]]:
    """Every way to cut neighbours into groups that one request each may read."""
    if not ordered:
        yield []
    for size in range(1, len(ordered) + 1):
        group = ordered[:size]
        joined = Span(group[0].address, group[-1].end - group[0].address)
        if size > 1 and merging is Merging.NEVER:
            return
        if merging is Merging.ADJACENT and joined.count != sum(span.count for span in group):
            return
        for rest in all_plans(ordered[size:], merging):
            yield [joined, *rest]


def timing(baudrate: int, ascii_framing: bool, gap_s: float = 0.05) -> LineTiming:
    return LineTiming(SerialSettings(baudrate=baudrate).char_time_s, gap_s, ascii_framing)


@given(**PLANS)
def test_a_plan_covers_everything_wanted_with_sorted_spans_that_do_not_meet(
    wanted: list[Span], cost: Callable[[Span], float], merging: Merging
) -> None:
    plan = plan_reads(wanted, cost, merging)
    read = addresses(plan)
    assert set(addresses(wanted)) <= set(read)
    assert len(read) == len(set(read))
    assert all(left.end <= right.address for left, right in pairwise(plan))


@given(**PLANS)
def test_no_other_plan_is_cheaper(wanted: list[Span], cost: Callable[[Span], float], merging: Merging) -> None:
    found = sum(map(cost, plan_reads(wanted, cost, merging)))
    assert found == min(sum(map(cost, plan)) for plan in all_plans(sorted(wanted), merging))


@given(spans(), costs())
def test_adjacent_never_reads_what_is_not_wanted(wanted: list[Span], cost: Callable[[Span], float]) -> None:
    assert addresses(plan_reads(wanted, cost, Merging.ADJACENT)) == addresses(wanted)


@given(spans(), costs())
def test_never_reads_each_block_on_its_own(wanted: list[Span], cost: Callable[[Span], float]) -> None:
    assert plan_reads(wanted, cost, Merging.NEVER) == sorted(wanted)


def test_nothing_wanted_is_nothing_read() -> None:
    assert plan_reads([], lambda _span: 1.0) == []


@pytest.mark.parametrize(
    ("baudrate", "ascii_framing", "plan"),
    [
        (19200, False, [Span(0, 70)]),
        (19200, True, [Span(0, 70)]),
        (9600, False, [Span(0, 70)]),
        (9600, True, [Span(0, 21), Span(56, 14)]),
        (2400, False, [Span(0, 21), Span(56, 14)]),
        (2400, True, [Span(0, 21), Span(56, 14)]),
    ],
)
def test_the_values_of_the_bench_unit_take_one_read_on_a_fast_line_and_two_on_a_slow_one(
    baudrate: int, ascii_framing: bool, plan: list[Span]
) -> None:
    wanted = [REGISTERS[channel] for channel in BENCH]
    assert plan_reads(wanted, timing(baudrate, ascii_framing).registers) == plan


@FRAMINGS
@pytest.mark.parametrize("baudrate", [2400, 19200])
def test_the_states_of_the_bench_unit_take_one_read_at_any_baud_rate(baudrate: int, ascii_framing: bool) -> None:
    wanted = [STATES[channel] for channel in BENCH]
    assert plan_reads(wanted, timing(baudrate, ascii_framing).bits) == [Span(0, 80)]


@pytest.mark.parametrize(
    ("merging", "plan"),
    [
        (Merging.ADJACENT, [Span(0, 21), Span(56, 14)]),
        (Merging.NEVER, [Span(0, 7), Span(7, 7), Span(14, 7), Span(56, 7), Span(63, 7)]),
    ],
)
def test_an_analyser_that_refuses_gaps_or_long_reads_gets_the_plan_it_can_answer(
    merging: Merging, plan: list[Span]
) -> None:
    wanted = [REGISTERS[channel] for channel in BENCH]
    assert plan_reads(wanted, timing(19200, False).registers, merging) == plan


def test_without_gap_and_turnaround_a_second_request_is_cheaper_than_seven_unwanted_registers() -> None:
    """13 characters of a second request and its reply against 14 of a block between."""
    wanted = [REGISTERS[ChannelId.I1], REGISTERS[ChannelId.I3]]
    at_once = LineTiming(0.001, 0.0, False, turnaround_s=0.0)
    assert plan_reads(wanted, at_once.registers) == [Span(0, 7), Span(14, 7)]
    assert plan_reads(wanted, LineTiming(0.001, 0.05, False).registers) == [Span(0, 21)]


@pytest.mark.parametrize(
    ("head", "data", "ascii_framing", "size"),
    [
        (5, 0, False, 8),
        (5, 0, True, 17),
        (2, 140, False, 145),
        (2, 140, True, 291),
        (2, 10, False, 15),
        (2, 10, True, 31),
    ],
    ids=["request", "ASCII request", "70 registers", "ASCII 70 registers", "80 bits", "ASCII 80 bits"],
)
def test_messages_have_the_sizes_of_the_specification(
    head: int, data: int, ascii_framing: bool, size: int
) -> None:
    assert message_size(head, data, ascii_framing) == size


@pytest.mark.parametrize(("ascii_framing", "values", "states"), [(False, 0.233, 0.103), (True, 0.388, 0.128)])
def test_a_read_costs_its_gap_its_turnaround_and_its_characters(
    ascii_framing: bool, values: float, states: float
) -> None:
    line = LineTiming(0.001, 0.05, ascii_framing)
    assert line.registers(Span(0, 70)) == pytest.approx(values)
    assert line.bits(Span(0, 80)) == pytest.approx(states)


def test_bits_are_paid_by_the_byte() -> None:
    line = timing(2400, False)
    assert line.bits(Span(0, 1)) == line.bits(Span(0, 8)) < line.bits(Span(0, 9)) == line.bits(Span(0, 16))


def test_a_span_ends_behind_its_last_address() -> None:
    assert Span(7, 7).end == 14
    assert list(Span(1008, 3).addresses) == [1008, 1009, 1010]
