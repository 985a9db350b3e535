"""Wide tables of any mixture: no value differs from the reading it stands for, and none that is bad appears."""

import csv
import re
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from servomex import ChannelId, ChannelStatus, ProtocolKind, Reading, Sample, ServomexTimeoutError, Unit, to_pandas
from tests.helpers.commands import converted
from tests.helpers.frames import RECEIVED_AT
from tests.helpers.recordings import write

TEXTS = ("%", "vpm", "ppm", "mA", "?", "", "mg/m3", "concentration", "current", "unknown")
PER_PERCENT = {"%": 1.0, "vpm": 10_000.0, "ppm": 10_000.0}
Cells = dict[datetime, list[tuple[str, Any, Any]]]
"""By the time of a row, the label, the value and the quality of each pair of cells; empty cells are ``None``."""

units = st.sampled_from([Unit.PERCENT, Unit.VPM, Unit.PPM, Unit.UNKNOWN, Unit.MILLIAMP])
names = st.just("CO") | st.sampled_from((None, "", "CO₂", "I2 [%]", "rig"))
values = st.floats(1e-6, 1e6).map(lambda value: float(f"{value:.7g}")) | st.sampled_from([0.0, -1.5, None])
flags = st.booleans()
alarms = st.tuples(flags, flags, flags, flags)
statuses = st.just(ChannelStatus()) | st.builds(ChannelStatus, flags, flags, flags, flags, alarms)


@st.composite
def frames(draw: st.DrawFn) -> list[list[Sample]]:
    """Frames of two devices at different times, in which anything about a channel may change."""
    found = []
    for number in range(draw(st.integers(1, 6))):
        at = RECEIVED_AT + timedelta(seconds=number)
        device = draw(st.just("rig") | st.sampled_from(("rig", "I1")))
        if draw(st.integers(0, 5)) == 0:
            error = ServomexTimeoutError("no reply")
            found.append([Sample(device, ProtocolKind.MODBUS_RTU, at, number, error=error)])
            continue
        channels = draw(st.lists(st.sampled_from(("I1", "I2", "flow")), min_size=1, unique=True))
        found.append([sample(draw, device, channel, at, number) for channel in channels])
    return found


def sample(draw: st.DrawFn, device: str, channel: str, at: datetime, number: int) -> Sample:
    unit = draw(units)
    text = draw(st.sampled_from(TEXTS)) if unit is Unit.UNKNOWN else unit.value
    its = ChannelId(channel) if channel in ("I1", "I2") else channel
    reading = Reading(
        its, draw(names), draw(values), unit, text, draw(statuses), ProtocolKind.MODBUS_RTU, at, number
    )  # fmt: skip
    return Sample(device, ProtocolKind.MODBUS_RTU, at, number, reading)


def assert_honest(cells: Cells, parts: list[list[Sample]], keep: str | None) -> None:
    """Compare a table with the readings by what its labels say, without the code that made them."""
    assert list(cells) == [part[0].received_at for part in parts]
    several = len({part[0].device for part in parts}) > 1
    for part in parts:
        shown = [item for item in cells[part[0].received_at] if item[1:] != (None, None)]
        for item in filter(None, (item.reading for item in part)):
            begin = f"{part[0].device} {item.channel} " if several else f"{item.channel} "
            (label, value, quality) = only(one for one in shown if one[0].startswith(begin))
            shown.remove((label, value, quality))
            assert quality == item.quality
            wanted = item.quality == "good" or (keep and item.quality == "uncertain")
            assert (value is not None) == bool(wanted)
            assert value is None or value == pytest.approx(expected(item, label), rel=1e-11, abs=0)
        assert shown == [], "there is no cell without a reading"


def expected(reading: Reading, label: str) -> float:
    """What a reading is in the unit of a label; in its own unit it is exact."""
    found = re.search(r"\[([^]]*)\](?: \(\d+\))?$", label)
    assert found
    assert reading.value is not None
    if reading.unit in PER_PERCENT:
        assert found[1] in PER_PERCENT
        return reading.value / PER_PERCENT[reading.unit] * PER_PERCENT[found[1]]
    assert found[1] == (reading.unit_text or "?")
    return reading.value


def only(items: Any) -> Any:
    (one,) = items
    return one


def assert_one_quantity_a_column(cells: Cells, parts: list[list[Sample]]) -> None:
    """Check that a column has readings of one name and of one kind of unit only."""
    names: dict[str, set[Any]] = {}
    several = len({part[0].device for part in parts}) > 1
    for part in parts:
        for item in filter(None, (item.reading for item in part)):
            begin = f"{part[0].device} {item.channel} " if several else f"{item.channel} "
            labels = [label for label, _, quality in cells[part[0].received_at] if quality is not None]
            label = only(one for one in labels if one.startswith(begin))
            kind = (item.name, "%" if item.unit in PER_PERCENT else (item.unit, item.unit_text))
            names.setdefault(label, set()).add(kind)
    assert Counter(map(len, names.values())).keys() <= {1}


def paired(heading: list[str], row: list[Any]) -> list[tuple[str, Any, Any]]:
    """Put the cells of a row together; a quality is beside its value and called like it."""
    assert heading[1::2] == [f"{label} quality" for label in heading[::2]]
    return list(zip(heading[::2], row[::2], row[1::2], strict=True))


KEEP = pytest.mark.parametrize("keep", [None, "uncertain"])


@KEEP
@settings(max_examples=60, deadline=None)
@given(parts=frames())
def test_a_table_of_pandas_never_shows_another_value(keep: str | None, parts: list[list[Sample]]) -> None:
    table = to_pandas([item for part in parts for item in part], wide=True, keep=keep)
    rows = table.astype(object).where(table.notna(), None).to_numpy().tolist()
    heading = list(map(str, table.columns))
    cells = {at.to_pydatetime(): paired(heading, row) for at, row in zip(table.index, rows, strict=True)}
    assert_honest(cells, parts, keep)
    assert_one_quantity_a_column(cells, parts)


@KEEP
@pytest.mark.parametrize(("decimal", "separator"), [(".", "tab"), (",", ";")])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=frames())
def test_neither_does_a_csv_file(
    keep: str | None, decimal: str, separator: str, parts: list[list[Sample]], tmp_path: Path
) -> None:
    source, target = tmp_path / "run.jsonl", tmp_path / "wide.csv"
    write(source, parts, overwrite=True)
    options = ["--decimal", decimal, "--separator", separator, *(["--keep", keep] if keep else [])]
    assert converted("--wide", "--overwrite", *options, source, target).exit_code == 0
    with target.open(encoding="utf-8", newline="") as file:
        heading, *rows = csv.reader(file, delimiter="\t" if separator == "tab" else separator)
    cells = {
        datetime.fromisoformat(at): paired(
            heading[1:],
            [number(cell, decimal) if place % 2 == 0 else cell or None for place, cell in enumerate(row)],
        )
        for at, *row in rows
    }
    assert_honest(cells, parts, keep)
    assert_one_quantity_a_column(cells, parts)


def number(cell: str, decimal: str) -> float | None:
    assert not cell or decimal == "." or "." not in cell
    return float(cell.replace(decimal, ".")) if cell else None


def test_an_unknown_unit_whose_text_is_that_of_a_quantity_has_its_own_column() -> None:
    parts = [
        Reading(
            ChannelId.I1, "CO", 1.0 + place, unit, text, ChannelStatus(), ProtocolKind.MODBUS_RTU, RECEIVED_AT, 0
        )
        for place, (unit, text) in enumerate([(Unit.PERCENT, "%"), (Unit.UNKNOWN, "concentration")])
    ]
    samples = [
        Sample("rig", ProtocolKind.MODBUS_RTU, RECEIVED_AT + timedelta(seconds=place), 0, reading)
        for place, reading in enumerate(parts)
    ]
    table = to_pandas(samples, wide=True)
    assert list(table.columns)[::2] == ["I1 [%]", "I1 [concentration]"]
