"""Rows put together from kept pieces are those that are made as a whole, whatever was written before."""

import csv
import io
import json
import math
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servomex.enums import ChannelId
from servomex.errors.mappings import FrozenMapping
from servomex.models.analyser import AnalyserStatus, CalGroupState
from servomex.models.columns import ROW_COLUMNS
from servomex.models.plain import LONGEST_TEXT
from servomex.models.reading import ChannelStatus
from servomex.models.sample import Sample
from servomex.rows.formats import CSV, JSON_LINES, PLAIN, SQL, csv_text
from servomex.rows.pieces import LONGEST_KEPT, MOST_CHANNELS, RowFormat, plain_row
from tests.helpers.any_samples import samples, texts
from tests.helpers.recordings import batch

FORMATS: dict[str, RowFormat[Any]] = {
    "csv": CSV["."],
    "csv, decimal comma": CSV[","],
    "JSON lines": JSON_LINES,
    "values": PLAIN,
    "values for SQL": SQL,
}
every_format = pytest.mark.parametrize("rows", FORMATS.values(), ids=FORMATS)
SAMPLE = batch(0)[0]
assert SAMPLE.reading
assert SAMPLE.analyser
EAST = datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=5, minutes=30)))
BAD: Any = {"k": ["x"]}
NAIVE = EAST.replace(tzinfo=None)


class Odd(str):
    """A text that is printed otherwise."""

    __slots__ = ()

    def __str__(self) -> str:
        return "odd"


class OwnSample(Sample):
    """A sample with rows of its own."""

    def as_dict(self) -> dict[str, Any]:
        return super().as_dict() | {"device": "own"}


def with_reading(**changes: Any) -> Sample:
    assert SAMPLE.reading
    return attrs.evolve(SAMPLE, reading=attrs.evolve(SAMPLE.reading, **changes))


def with_status(**changes: Any) -> Sample:
    return with_reading(status=ChannelStatus(**changes))


def with_analyser(**changes: Any) -> Sample:
    assert SAMPLE.analyser
    return attrs.evolve(SAMPLE, analyser=attrs.evolve(SAMPLE.analyser, **changes))


def outcome(rows: RowFormat[Any], sample: Sample) -> Any:
    """Return the row of a sample, or how it is refused."""
    try:
        return rows.rows([sample])
    except Exception as error:
        return type(error), str(error)


def wanted(rows: RowFormat[Any], sample: Sample) -> Any:
    try:
        return [rows.row(plain_row(sample))]
    except Exception as error:
        return type(error), str(error)


parts = st.fixed_dictionaries({
    "channel": st.sampled_from([ChannelId.I1, ChannelId.E2, "furnace"]),
    "name": st.sampled_from([None, "", "Oxygen"]) | texts,
    "value": st.sampled_from([None, 0.0, -0.0, 20.376, 1e300, 7]),
    "unit_text": st.sampled_from(["%", ""]) | texts,
    "status": st.sampled_from([ChannelStatus(), ChannelStatus(alarms=(True, False, False, False))]),
})  # fmt: skip


@every_format
class TestKeptPieces:
    @settings(max_examples=30, deadline=None)
    @given(st.lists(samples(), max_size=6))
    def test_every_sample_has_the_row_that_it_has_alone(self, rows: RowFormat[Any], given_: list[Sample]) -> None:
        assert rows.rows(given_) == [rows.row(plain_row(sample)) for sample in given_]

    @settings(max_examples=30, deadline=None)
    @given(samples(), st.lists(parts, max_size=8))
    def test_so_have_the_samples_of_one_frame(
        self, rows: RowFormat[Any], sample: Sample, others: list[dict[str, Any]]
    ) -> None:
        reading = (
            sample.reading
            or with_reading(received_at=sample.received_at, monotonic_ns=sample.monotonic_ns).reading
        )
        assert reading
        frame = [attrs.evolve(sample, error=None, reading=attrs.evolve(reading, **item)) for item in others]
        assert rows.rows(frame) == [rows.row(plain_row(item)) for item in frame]

    @pytest.mark.parametrize("sample", [
        with_status(fault=1), with_status(fault=1.0), with_status(alarms=(1, 0, 0, 0)), with_status(warming_up=0),
        with_analyser(fault=1), with_analyser(maintenance=0), with_analyser(clock=EAST),
        with_analyser(cal_groups=(CalGroupState(1, True, True),)), with_analyser(cal_groups=()),
        attrs.evolve(SAMPLE, analyser=None), attrs.evolve(SAMPLE, analyser=None, reading=None),
        with_reading(value=True), with_reading(value=math.nan), with_reading(value=math.inf),
        with_reading(value=20),
        with_reading(value=10**400), with_reading(value="20.0"), with_reading(value=None),
        with_reading(name=Odd("Oxygen")), with_reading(name="x" * 10**5), with_reading(unit_text="\0" * 10**5),
        with_reading(unit="%"), with_reading(protocol="continuous"), with_reading(name=["Oxygen"]),
        with_reading(received_at=NAIVE), with_reading(received_at=EAST),
        with_reading(monotonic_ns=2**63), with_reading(monotonic_ns=-(2**63)), with_reading(monotonic_ns=5.0),
        attrs.evolve(SAMPLE, requested_at=NAIVE), attrs.evolve(SAMPLE, latency_s=math.nan),
        attrs.evolve(SAMPLE, latency_s=3), attrs.evolve(SAMPLE, latency_s=True),
        attrs.evolve(SAMPLE, metadata={"value": "x"}), attrs.evolve(SAMPLE, metadata=BAD),
        attrs.evolve(SAMPLE, metadata={"k": 'a "b"'}), attrs.evolve(SAMPLE, device="x\udcff"),
        OwnSample(*(getattr(SAMPLE, field.name) for field in attrs.fields(Sample))),
    ])  # fmt: skip
    def test_an_odd_sample_is_written_or_refused_as_it_is_alone(
        self, rows: RowFormat[Any], sample: Sample
    ) -> None:
        for before in ([], [SAMPLE]):
            rows.rows(before)
            assert outcome(rows, sample) == wanted(rows, sample)
            assert rows.rows([SAMPLE]) == [rows.row(plain_row(SAMPLE))]

    def test_what_is_alike_but_another_thing_has_pieces_of_its_own(self, rows: RowFormat[Any]) -> None:
        alike = [with_status(fault=flag) for flag in (True, 1, 1.0, True)]
        assert rows.rows(alike) == [rows.row(plain_row(sample)) for sample in alike]


class TestMemory:
    def test_few_pieces_are_kept(self) -> None:
        rows = RowFormat([lambda value: (value,)] * len(ROW_COLUMNS), lambda pieces: sum(pieces, ()))
        rows.rows(with_reading(name=f"gas {number}") for number in range(3 * MOST_CHANNELS))
        kept = rows._channel.cache_info()  # type: ignore[attr-defined]
        assert kept.currsize == MOST_CHANNELS

    @pytest.mark.parametrize("sample", [
        with_reading(name="x" * LONGEST_KEPT), with_reading(unit_text="x" * LONGEST_TEXT),
        attrs.evolve(SAMPLE, device="x" * 10**6),
    ])  # fmt: skip
    def test_long_pieces_are_not_kept(self, sample: Sample) -> None:
        rows = RowFormat([lambda value: (value,)] * len(ROW_COLUMNS), lambda pieces: sum(pieces, ()))
        assert rows.rows([sample, sample]) == [plain_row(sample)] * 2
        assert rows._channel.cache_info().currsize == 0  # type: ignore[attr-defined]


class TestAsOtherProgramsWrite:
    """The same lines as the csv and json modules of Python write."""

    @settings(max_examples=60, deadline=None)
    @given(samples(), st.sampled_from(".,"))
    def test_cells_are_quoted_as_in_any_csv(self, sample: Sample, decimal: str) -> None:
        line = csv_text([plain_row(sample)], decimal)
        separator = {".": ",", ",": ";"}[decimal]
        cells = next(csv.reader(io.StringIO(line, newline=""), delimiter=separator, strict=True))
        again = io.StringIO()
        csv.writer(again, delimiter=separator, lineterminator="\n").writerow(cells)
        written = again.getvalue()
        assert line == (written if cells[-1] else written.removesuffix("\n") + '""\n')

    @settings(max_examples=60, deadline=None)
    @given(samples())
    def test_json_is_as_the_module_writes_it(self, sample: Sample) -> None:
        (line,) = JSON_LINES.rows([sample])
        assert json.dumps(sample.as_json(), ensure_ascii=False) + "\n" == line
        assert list(json.loads(line)) == ROW_COLUMNS


def test_equal_tags_may_be_in_another_mapping() -> None:
    tags = [FrozenMapping({"site": site}) for site in ("mill", "mill", "other")]
    tagged = [attrs.evolve(SAMPLE, metadata=item) for item in tags]
    assert [row[-1] for row in PLAIN.rows(tagged)] == tags


def test_an_analyser_without_groups_is_not_one_that_is_missing() -> None:
    bare = AnalyserStatus(False, False, ())
    rows = PLAIN.rows([attrs.evolve(SAMPLE, analyser=bare), attrs.evolve(SAMPLE, analyser=None)])
    assert [row[20:23] for row in rows] == [(False, False, ""), (None, None, None)]


@pytest.mark.parametrize("raised", [OSError("from the handler"), RuntimeError("from the handler")])
def test_what_a_signal_handler_raises_is_not_swallowed(raised: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_args: object) -> None:
        raise raised

    rows = RowFormat([lambda value: (value,)] * len(ROW_COLUMNS), lambda pieces: sum(pieces, ()))
    monkeypatch.setattr(rows, "_channel", interrupted)
    with pytest.raises(type(raised), match="from the handler"):
        rows.rows([SAMPLE])
