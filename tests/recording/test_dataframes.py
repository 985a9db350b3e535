"""to_pandas(): long and wide tables, their types, and gaps that can be seen."""

import sys
from datetime import timedelta
from pathlib import Path

import attrs
import pandas as pd
import pytest

import servomex
from servomex.enums import ProtocolKind
from servomex.errors import (
    ServomexSinkDependencyError,
    ServomexSinkReadError,
    ServomexTimeoutError,
    ServomexValidationError,
)
from servomex.models.columns import ROW_COLUMNS
from servomex.models.reading import ChannelStatus
from servomex.models.sample import Sample
from servomex.recording.dataframes import to_pandas
from servomex.recording.load import load
from servomex.rows.formats import tags_cell
from servomex.units import Unit
from tests.helpers.frames import RECEIVED_AT
from tests.helpers.recordings import ONE_EACH, batch, batches, joined, write


def test_the_package_gives_it() -> None:
    assert servomex.to_pandas is to_pandas


class TestLong:
    @pytest.mark.parametrize("name", ONE_EACH)
    def test_a_file_gives_a_row_a_sample(self, name: str, tmp_path: Path) -> None:
        written = write(tmp_path / name, batches(8))
        table = to_pandas(tmp_path / name)
        assert list(table.columns) == ROW_COLUMNS
        assert len(table) == len(written)
        pd.testing.assert_frame_equal(table, to_pandas(written))

    def test_the_columns_have_their_types(self) -> None:
        for samples in (joined(batches(8)), [], batch(6)):
            kinds = {name: str(kind) for name, kind in to_pandas(samples).dtypes.items()}
            assert kinds == {
                **dict.fromkeys(ROW_COLUMNS, "category"),
                **dict.fromkeys(ROW_COLUMNS[11:22], "boolean"),
                "cal_groups": "category", "received_at": "datetime64[us, UTC]",
                "requested_at": "datetime64[us, UTC]", "analyser_clock": "datetime64[us]", "monotonic_ns": "int64",
                "value": "float64", "latency_s": "float64",
            }  # fmt: skip

    def test_the_values_are_those_of_the_samples(self) -> None:
        samples = joined(batches(8))
        table = to_pandas(samples)
        for row, sample in zip(table.to_dict("records"), samples, strict=True):
            expected = sample.as_dict() | {"tags": tags_cell(sample.metadata)}
            assert {key: None if pd.isna(value) else value for key, value in row.items()} == expected

    def test_gaps_are_not_false(self) -> None:
        table = to_pandas(joined(batches(8)))
        gap = table[table.error.notna()]
        assert len(gap) == 1
        assert gap[["value", "ok", "fault", "channel"]].isna().all(axis=None)
        assert table.ok.sum() == len(table) - 1

    def test_samples_and_files_may_be_mixed(self, tmp_path: Path) -> None:
        first = write(tmp_path / "a.csv", batches(2))
        second = write(tmp_path / "b.parquet", batches(2, 2))
        assert len(to_pandas([tmp_path / "a.csv", str(tmp_path / "b.parquet")])) == 20
        pd.testing.assert_frame_equal(to_pandas(f"{tmp_path}/*"), to_pandas(load(sorted(tmp_path.iterdir()))))
        pd.testing.assert_frame_equal(to_pandas([*first, tmp_path / "b.parquet"]), to_pandas(first + second))


class TestWide:
    def test_there_is_a_column_a_channel_and_a_row_a_time(self) -> None:
        table = to_pandas(joined(batches(3)), wide=True)
        values = ["I1 [%]", "I2 [%]", "I3 [%]", "E1 [mA]", "E2 [mA]"]
        assert list(table.columns) == [name for value in values for name in (value, f"{value} quality")]
        assert table.index.name == "received_at"
        assert str(table.index.dtype) == "datetime64[us, UTC]"
        assert table["I1 [%]"].tolist() == [20.0, 20.001, 20.002]
        assert table["I1 [%] quality"].tolist() == ["good"] * 3
        assert table.dtypes.map(str).tolist() == ["float64", "category"] * 5
        assert table.index[1] == RECEIVED_AT + timedelta(seconds=2)
        assert table.loc["2026-03-01 12:30:47":, "E2 [mA]"].tolist() == [20.001, 20.002]

    def test_frames_that_came_together_are_rows_of_their_own(self) -> None:
        first, second = batch(0), batch(0)
        second = [
            attrs.evolve(item, reading=attrs.evolve(item.reading, value=7.0)) for item in second if item.reading
        ]
        table = to_pandas(first + second, wide=True)
        assert len(table) == 2
        assert list(table.index) == [first[0].received_at] * 2
        assert table["I1 [%]"].tolist() == [first[0].reading and first[0].reading.value, 7.0]

    def test_rows_are_in_the_order_of_time(self) -> None:
        table = to_pandas(batch(2) + batch(0) + batch(1), wide=True)
        assert list(table.index) == [part[0].received_at for part in batches(3)]

    def test_where_a_reading_failed_there_is_a_row_of_nothing(self) -> None:
        table = to_pandas(joined(batches(9)), wide=True)
        assert len(table) == 9
        assert table.isna().all(axis=1).tolist() == [False] * 6 + [True] + [False] * 2

    def test_several_devices_are_part_of_the_names(self) -> None:
        later = RECEIVED_AT + timedelta(seconds=1)
        samples = joined([batch(0, device="B", start=later), batch(0, device="A"), batch(1, device="A")])
        table = to_pandas(samples, wide=True)
        assert list(table.columns)[:12:2] == [
            "B I1 [%]", "B I2 [%]", "B I3 [%]", "B E1 [mA]", "B E2 [mA]", "A I1 [%]",
        ]  # fmt: skip
        assert table.index.is_monotonic_increasing
        assert table["A I1 [%]"].isna().tolist() == [False, True, False]
        assert table["B I1 [%]"].notna().tolist() == [False, True, False]

    def test_a_channel_without_a_value_is_nan_and_a_zero_is_a_zero(self) -> None:
        samples = []
        for item, value in zip(batch(0), (0.0, None, -1.5), strict=False):
            assert item.reading
            samples.append(attrs.evolve(item, reading=attrs.evolve(item.reading, value=value)))
        table = to_pandas(samples, wide=True)
        assert table["I1 [%]"].tolist() + table["I3 [%]"].tolist() == [0.0, -1.5]
        assert table["I2 [%]"].isna().tolist() == [True]
        assert table["I2 [%] quality"].tolist() == ["bad"]

    def test_nothing_is_an_empty_table_with_an_index_of_times(self) -> None:
        failed = Sample("rig", ProtocolKind.MODBUS_RTU, RECEIVED_AT, 0, error=ServomexTimeoutError("no reply"))
        for samples in ([], [failed]):
            table = to_pandas(samples, wide=True)
            assert table.shape == (len(samples), 0)
            assert str(table.index.dtype) == "datetime64[us, UTC]"


def changed(number: int, **fields: object) -> Sample:
    """Give the sample of I1 at a moment, with some of its reading's fields changed."""
    sample = batch(number)[0]
    assert sample.reading
    return attrs.evolve(sample, reading=attrs.evolve(sample.reading, **fields))  # type: ignore[arg-type]


UNCERTAIN = {
    "maintenance": ChannelStatus(maintenance=True),
    "calibrating": ChannelStatus(calibrating=True),
    "warming_up": ChannelStatus(warming_up=True),
}


class TestWideIsHonest:
    @pytest.mark.parametrize("flag", UNCERTAIN)
    def test_an_uncertain_value_is_kept_on_request_only(self, flag: str) -> None:
        samples = [*batch(0), changed(1, status=UNCERTAIN[flag], value=7.5)]
        table = to_pandas(samples, wide=True)
        assert table["I1 [%]"].isna().tolist() == [False, True]
        assert table["I1 [%] quality"].tolist() == ["good", "uncertain"]
        assert to_pandas(samples, wide=True, keep="uncertain")["I1 [%]"].tolist() == [20.0, 7.5]

    @pytest.mark.parametrize("keep", [None, "uncertain"])
    def test_a_bad_value_is_never_kept(self, keep: str | None) -> None:
        samples = [*batch(0), changed(1, status=ChannelStatus(fault=True), value=7.5)]
        table = to_pandas(samples, wide=True, keep=keep)
        assert table["I1 [%]"].isna().tolist() == [False, True]
        assert table["I1 [%] quality"].tolist() == ["good", "bad"]

    def test_a_value_with_an_alarm_is_good(self) -> None:
        samples = [changed(0, status=ChannelStatus(alarms=(True, False, False, False)), value=7.5)]
        assert to_pandas(samples, wide=True)["I1 [%]"].tolist() == [7.5]

    def test_another_unit_of_concentration_is_converted(self) -> None:
        samples = [
            changed(0, value=0.035),
            changed(1, value=350.0, unit=Unit.VPM, unit_text="vpm"),
            changed(2, value=351.0, unit=Unit.PPM, unit_text="ppm"),
        ]
        table = to_pandas(samples, wide=True)
        assert list(table.columns) == ["I1 [%]", "I1 [%] quality"]
        assert table["I1 [%]"].tolist() == [0.035, 0.035, 0.0351]
        assert list(to_pandas(samples[1:], wide=True).columns) == ["I1 [vpm]", "I1 [vpm] quality"]

    def test_another_unit_begins_another_column(self) -> None:
        samples = [changed(0, value=1.0), changed(1, value=2.0, unit=Unit.UNKNOWN, unit_text="mg/m3")]
        table = to_pandas(samples, wide=True)
        assert list(table.columns)[::2] == ["I1 [%]", "I1 [mg/m3]"]
        assert table["I1 [%]"].isna().tolist() == [False, True]
        assert table["I1 [mg/m3]"].isna().tolist() == [True, False]
        assert table["I1 [mg/m3] quality"].isna().tolist() == [True, False]

    def test_another_name_begins_another_column(self) -> None:
        samples = [changed(0, value=1.0), changed(1, value=2.0, name="CO"), changed(2, value=3.0)]
        table = to_pandas(samples, wide=True)
        assert list(table.columns)[::2] == ["I1 Oxygen [%]", "I1 CO [%]"]
        assert table["I1 Oxygen [%]"].dropna().tolist() == [1.0, 3.0]
        assert table["I1 CO [%]"].dropna().tolist() == [2.0]

    @pytest.mark.parametrize(("wide", "keep"), [(True, "bad"), (False, "uncertain")])
    def test_what_cannot_be_kept_is_refused(self, wide: bool, keep: str) -> None:
        words = r"keep (must be None or 'uncertain', not|is only for a wide table\. Add wide=True)"
        with pytest.raises(ServomexValidationError, match=words):
            to_pandas(batch(0), wide=wide, keep=keep)


def test_missing_pandas_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ServomexSinkDependencyError, match=r'tables need pandas: .* "servomex\[pandas\]"'):
        to_pandas(batch(0))


def test_a_missing_file_is_reported() -> None:
    with pytest.raises(ServomexSinkReadError, match=r"there is no file nope\.csv"):
        to_pandas("nope.csv")


class TestLabels:
    def test_two_channels_that_would_be_called_alike_both_have_a_column(self) -> None:
        unknown = [changed(0, value=1.0, unit=Unit.UNKNOWN, unit_text=text) for text in ("", "?")]
        later = attrs.evolve(unknown[1], received_at=RECEIVED_AT + timedelta(seconds=1))
        table = to_pandas([unknown[0], later], wide=True)
        assert list(table.columns)[::2] == ["I1 Oxygen [?]", "I1 Oxygen [?] (2)"]
        assert table.iloc[:, [0, 2]].notna().to_numpy().tolist() == [[True, False], [False, True]]

    def test_a_unit_that_changed_between_broadcasts_of_one_moment_is_in_rows_of_their_own(self) -> None:
        table = to_pandas([changed(0), changed(0, unit=Unit.UNKNOWN, unit_text="mg")], wide=True)
        assert len(table) == 2
