"""Channel ids of one's own: through every format and back, and never taken for a channel of an analyser."""

import csv
import pickle
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest

import servomex
from servomex.cli import formats
from servomex.cli.replay import replay
from servomex.enums import ChannelId, ProtocolKind
from servomex.errors import ServomexSinkSchemaError, ServomexValidationError
from servomex.models.columns import ROW_COLUMNS
from servomex.models.reading import ChannelStatus, Reading
from servomex.models.sample import Sample
from servomex.recording.load import load
from servomex.units import Unit
from tests.helpers.commands import invoke
from tests.helpers.frames import RECEIVED_AT
from tests.helpers.recordings import FRAME, ONE_EACH, batch, write


def reading(channel: Any, value: float | None = 851.2) -> Reading:
    return Reading(
        channel, "Furnace", value, Unit.UNKNOWN, "°C", ChannelStatus(), ProtocolKind.AUTO, RECEIVED_AT, 7
    )  # fmt: skip


def sample(channel: Any, value: float | None = 851.2) -> Sample:
    return Sample("furnace", ProtocolKind.AUTO, RECEIVED_AT, 7, reading(channel, value))


OWN = (
    "furnace",
    "T1",
    "I",
    "D1a",
    "flow 2",
    "Ofen-Ø",
    "=1+1",
    "@x",
    "'x",
    "-",
    "x" * 32,
    "1",
    "I1,I2",
    '"',
    "温度",
)


class TestIds:
    @pytest.mark.parametrize("channel", OWN)
    def test_a_text_is_an_id_without_a_kind(self, channel: str) -> None:
        one = reading(channel)
        assert (one.channel, type(one.channel), one.kind) == (channel, str, None)
        assert one.as_dict()["kind"] is None
        assert one.as_json()["channel"] == channel
        assert pickle.loads(pickle.dumps(one)) == one
        assert channel in str(one)
        assert repr(channel) in repr(one)

    def test_a_channel_of_an_analyser_stays_one(self) -> None:
        one = reading(ChannelId.I1)
        assert one.channel is ChannelId.I1
        assert one.kind == "transducer"

    @pytest.mark.parametrize("channel", ["I1", "i1", "E2", "I7", "D99", "e 1", "D\u0663", "E001"])
    def test_what_looks_like_one_of_the_analysers_is_refused(self, channel: str) -> None:
        with pytest.raises(ServomexValidationError, match="could be taken for one of the analyser's") as caught:
            reading(channel)
        assert "write ChannelId.I1" in caught.value.cure

    @pytest.mark.parametrize("channel", [" furnace", "furnace ", "\u3000x"])
    def test_spaces_around_it_are_refused(self, channel: str) -> None:
        with pytest.raises(ServomexValidationError, match="is not allowed as a channel of your own"):
            reading(channel)

    @pytest.mark.parametrize("channel", ["", "x" * 33, "a\nb", "a\0", "\x85", "\u2028", "\ud800", 7, None, b"x"])
    def test_what_is_no_text_on_one_line_is_refused(self, channel: Any) -> None:
        with pytest.raises(ServomexValidationError, match="a channel must be a ChannelId or a text of 1 to 32"):
            reading(channel)


class TestFiles:
    @pytest.mark.parametrize("name", [*ONE_EACH, "comma.csv"])
    def test_they_return(self, name: str, tmp_path: Path) -> None:
        options: Any = {"decimal": ","} if name == "comma.csv" else {}
        samples = [*map(sample, OWN), sample("none", None), *batch(0)]
        written = write(tmp_path / name, [samples], **options)
        found = list(load(tmp_path / name))
        assert found == written
        assert {type(item.channel) for item in found} == {str, ChannelId}

    def test_none_acts_as_a_formula(self, tmp_path: Path) -> None:
        write(tmp_path / "run.csv", [[*map(sample, OWN)]])
        with (tmp_path / "run.csv").open(newline="", encoding="utf-8") as file:
            cells = [row["channel"] for row in csv.DictReader(file)]
        assert not [cell for cell in cells if cell.startswith(("=", "@", "-", "+"))]
        assert "'=1+1" in cells

    @pytest.mark.parametrize(("old", "new"), [
        ("I1,transducer", "X1,transducer"), ("I1,transducer", "I1,"), ("I1,transducer", "I1,derived"),
        ("I1,transducer", "I7,transducer"), ("I1,transducer", "I7,"), ("I1,transducer", "furnace,transducer"),
        ("I1,transducer", " I1,"), ("I1,transducer", "I1,measured"), ("I1,transducer", "'=I1,transducer"),
    ])  # fmt: skip
    def test_a_damaged_id_does_not_become_one_of_ones_own(self, old: str, new: str, tmp_path: Path) -> None:
        path = tmp_path / "run.csv"
        write(path, [batch(0)])
        whole = path.read_text(encoding="utf-8")
        assert old in whole
        path.write_text(whole.replace(old, new), encoding="utf-8")
        with pytest.raises(ServomexSinkSchemaError, match="line 2: "):
            list(load(path))

    def test_an_id_of_ones_own_does_not_become_one_of_an_analyser(self, tmp_path: Path) -> None:
        path = tmp_path / "run.csv"
        write(path, [[sample("furnace")]])
        whole = path.read_text(encoding="utf-8")
        for changed in ("furnace,transducer,Furnace", "I1,,Furnace"):
            path.write_text(whole.replace("furnace,,Furnace", changed), encoding="utf-8")
            with pytest.raises(ServomexSinkSchemaError, match="line 2: "):
                list(load(path))

    def test_a_file_of_rows_is_not_played_as_a_line(self, tmp_path: Path) -> None:
        write(tmp_path / "run.csv", [[sample("furnace")]])
        result = invoke(str(tmp_path / "run.csv"), command=replay)
        assert (result.exit_code != 0, result.stdout) == (True, "")


class TestViews:
    def test_tables_have_them_after_those_of_the_analyser(self) -> None:
        samples = [sample("zone 2"), sample("furnace"), *FRAME.as_samples(device="furnace")]
        table = servomex.to_pandas(samples)
        assert table["channel"].tolist()[:2] == ["zone 2", "furnace"]
        assert table["kind"].isna().tolist()[:3] == [True, True, False]
        wide = servomex.to_pandas(samples, wide=True)
        values = [name for name in wide.columns if not name.endswith(" quality")]
        assert values[0] == "I1 [%]"
        assert values[-2:] == ["zone 2 [°C]", "furnace [°C]"]
        assert wide["furnace [°C]"].dropna().tolist() == [851.2]

    def test_lines_of_influx_name_them_without_a_kind(self) -> None:
        frame = attrs.evolve(FRAME, readings=(reading("flow 2"),))
        (line,) = formats.influx_lines(frame, "rig").splitlines()
        assert ",channel=flow\\ 2,name=Furnace," in line
        assert "kind=" not in line

    def test_a_frame_finds_them_by_their_id(self) -> None:
        frame = attrs.evolve(FRAME, readings=(*FRAME.readings, reading("furnace")))
        assert frame.channels[-1] == "furnace"
        assert frame["furnace"].value == 851.2
        assert list(frame.as_json()["readings"][-1]) == [
            column for column in ROW_COLUMNS if column in reading("x").as_dict()
        ]


class Furnace:
    """A source of one's own, with one channel of an analyser too."""

    name = "furnace"

    def poll_samples(self, *, names: Sequence[str] | None = None, timeout: float | None = None) -> list[Sample]:
        del names, timeout
        now, ns = datetime.now(UTC), servomex.runtime.clock.time.monotonic_ns()
        found = [reading("furnace"), reading("T2"), reading(ChannelId.I1)]
        return [
            Sample(self.name, ProtocolKind.AUTO, now, ns, attrs.evolve(item, received_at=now, monotonic_ns=ns))
            for item in found
        ]


def test_a_source_of_ones_own_is_recorded(tmp_path: Path) -> None:
    with servomex.Recorder(Furnace(), tmp_path / "run.jsonl", rate_hz=100, count=3) as recorder:
        recorder.join(10)
    found = [item.channel for item in load(tmp_path / "run.jsonl")]
    assert found == ["furnace", "T2", ChannelId.I1] * 3
    assert recorder.summary.changes == 0
