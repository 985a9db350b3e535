"""CSV and JSON lines: what a kill and a loss of power leave, how it is continued, and what damage is told."""

import csv
import gzip
import io
import json
import logging
import re
import zlib
from pathlib import Path

import attrs
import pytest

from servomex.cli import formats
from servomex.errors import ServomexSinkSchemaError, ServomexSinkWriteError
from servomex.errors.mappings import frozen
from servomex.models.columns import ROW_COLUMNS
from servomex.models.plain import tags_text
from servomex.models.sample import Sample
from servomex.recording.load import load
from servomex.sinks import lines as of_lines
from servomex.sinks import open_sink, text
from servomex.sinks.lines import BLOCK
from tests.helpers.recordings import FRAME, batch, batches, joined, write

PLAIN = ("run.csv", "run.jsonl")
PACKED = ("run.csv.gz", "run.jsonl.gz")
every = pytest.mark.parametrize("name", [*PLAIN, *PACKED])
plain = pytest.mark.parametrize("name", PLAIN)
packed = pytest.mark.parametrize("name", PACKED)
HEADERS = {"run.csv": 1, "run.csv.gz": 1, "run.jsonl": 0, "run.jsonl.gz": 0}


def text_of(path: Path) -> bytes:
    """Give the text of a file, packed or not."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def put(path: Path, content: bytes) -> None:
    """Write the text of a file, packed or not."""
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


class TestTheFiles:
    def test_csv_is_csv(self, tmp_path: Path) -> None:
        written = write(tmp_path / "run.csv", batches(8))
        raw = (tmp_path / "run.csv").read_bytes()
        assert raw.count(b"\n") == len(written) + 1
        assert b"\r" not in raw
        with (tmp_path / "run.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ROW_COLUMNS
        assert [row["value"] for row in rows[:5]] == ["20.0"] * 5
        assert (rows[-1]["channel"], rows[-1]["ok"]) == ("E2", "1")
        error = next(row for row in rows if row["error"])
        assert {key: value for key, value in error.items() if value} == {
            "received_at": "2026-03-01T12:30:57.500000+00:00", "monotonic_ns": "12000000000", "device": "rig A",
            "protocol": "modbus_rtu", "error": "no reply to 6", "error_type": "ServomexTimeoutError",
        }  # fmt: skip

    def test_json_lines_are_json(self, tmp_path: Path) -> None:
        written = write(tmp_path / "run.jsonl", batches(8))
        rows = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [list(row) for row in rows] == [ROW_COLUMNS] * len(written)
        assert (rows[0]["received_at"], rows[0]["value"], rows[0]["ok"], rows[0]["error"]) == (
            "2026-03-01T12:30:45.500000+00:00", 20.0, True, None,
        )  # fmt: skip

    def test_the_csv_of_the_commands_is_one_of_ours(self, tmp_path: Path) -> None:
        path = tmp_path / "log.csv"
        path.write_text(formats.csv_header() + formats.csv_rows(FRAME, "COM3"), encoding="utf-8")
        assert list(load(path)) == FRAME.as_samples(device="COM3")
        written = write(path, batches(1), append=True)
        assert list(load(path))[5:] == written

    def test_a_capture_has_no_times_and_is_none(self, tmp_path: Path) -> None:
        path = tmp_path / "capture.csv"
        path.write_text(formats.csv_header() + formats.csv_rows(FRAME, None), encoding="utf-8")
        with pytest.raises(ServomexSinkSchemaError, match=r"capture\.csv, line 2: received_at is empty"):
            list(load(path))

    @packed
    def test_every_program_can_unpack_it(self, name: str, tmp_path: Path) -> None:
        written = write(tmp_path / name, batches(20), flush_s=0)
        write(tmp_path / name, batches(20), append=True)
        lines = gzip.decompress((tmp_path / name).read_bytes()).splitlines()
        assert len(lines) == 2 * len(written) + HEADERS[name]

    @packed
    def test_it_is_packed_well_even_when_it_is_flushed_often(self, name: str, tmp_path: Path) -> None:
        written = write(tmp_path / name, batches(300), flush_s=0, fsync_s=None)
        assert (tmp_path / name).stat().st_size < 20 * len(written)

    @every
    def test_the_system_may_take_the_text_in_pieces(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Slow(io.FileIO):
            def write(self, data: object, /) -> int:
                return super().write(bytes(data)[:7])  # type: ignore[call-overload]

        monkeypatch.setattr("servomex.sinks.places.io.FileIO", Slow)
        written = write(tmp_path / name, batches(5))
        monkeypatch.undo()
        assert list(load(tmp_path / name)) == written

    def test_csv_that_went_through_windows_can_be_read(self, tmp_path: Path) -> None:
        path = tmp_path / "run.csv"
        written = write(path, batches(3))
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
        assert list(load(path)) == written


class TestHalfLines:
    @every
    def test_a_cut_anywhere_costs_the_line_that_it_is_in_and_appending_cuts_no_more(
        self, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / name
        written = write(path, batches(2))
        content = text_of(path)
        start = content.index(b"\n") + 1
        places = [start, start + 1, *range(start + 50, len(content) - 2, 97), len(content) - 2]
        for place in places:
            put(path, content[:place])
            whole = content[:place].count(b"\n")
            rest = place - content[:place].rfind(b"\n") - 1
            caplog.clear()
            assert list(load(path)) == written[: whole - HEADERS[name]]
            told = f"{path} was not ended properly: it has {whole - HEADERS[name]} whole rows, and {rest} bytes"
            assert [message.startswith(told) for message in caplog.messages] == [True] * bool(rest)
            caplog.clear()
            more = write(path, [batch(7)], append=True)
            assert list(load(path)) == written[: whole - HEADERS[name]] + more
            told = f"{path} was not ended properly: {rest} bytes of an incomplete line were cut off"
            assert caplog.messages == [told] * bool(rest)
            assert text_of(path).startswith(content[: place - rest])

    @pytest.mark.parametrize("end", [b"", b"\r"])
    @every
    def test_a_last_row_that_is_whole_counts_without_its_line_end(
        self, name: str, end: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / name
        written = write(path, batches(2))
        put(path, text_of(path).removesuffix(b"\n") + end)
        assert list(load(path)) == written
        write(path, [batch(2)], append=True)
        assert list(load(path)) == joined(batches(3))
        assert text_of(path).count(b"\n") == len(joined(batches(3))) + HEADERS[name]
        assert caplog.messages == []

    @every
    def test_the_only_row_counts_without_its_line_end(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        written = write(path, [batch(0)[:1]])
        put(path, text_of(path).removesuffix(b"\n"))
        assert list(load(path)) == written
        assert list(load(path)) + write(path, [batch(1)], append=True) == list(load(path))

    @pytest.mark.parametrize("name", ["run.csv", "run.csv.gz"])
    @pytest.mark.parametrize("tags", [{}, {"site": "mill-3"}, {"a": '"', "b": "}"}])
    def test_no_tag_is_lost_with_the_line_end(self, name: str, tags: dict[str, str], tmp_path: Path) -> None:
        path = tmp_path / name
        last = attrs.evolve(batch(6)[0], metadata=tags)
        written = write(path, [*batches(6), [last]])
        assert written[-1].error
        whole = text_of(path).removesuffix(b"\n")
        put(path, whole)
        assert list(load(path)) == written
        for size in range(1, len(tags_text(frozen(tags))) + 3):
            put(path, whole[:-size])
            assert list(load(path)) == written[:-1]
        write(path, [batch(7)], append=True)
        assert list(load(path)) == written[:-1] + batch(7)

    @every
    def test_a_kill_in_the_first_line_leaves_a_file_that_can_be_continued(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        write(path, batches(1))
        content = text_of(path)
        for place in (0, 1, 15, 40):
            put(path, content[:place])
            assert list(load(path)) == []
            assert write(path, batches(1), append=True) == list(load(path))
            assert text_of(path) == content

    @every
    def test_what_is_not_ours_is_not_cut(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        for content in (b"half a line", b"{}", b"received;", b'{"received_at": 5', b"\0" * 100):
            put(path, content)
            with pytest.raises(ServomexSinkSchemaError, match=re.escape(str(path))):
                open_sink(path, append=True)
            with pytest.raises(ServomexSinkSchemaError, match=re.escape(str(path))):
                list(load(path))
            assert text_of(path) == content

    @every
    def test_the_zeros_that_a_loss_of_power_leaves_are_cut_off(
        self, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / name
        sink = open_sink(path)
        sink.write(batch(0))
        sink.flush()
        flushed = path.read_bytes()
        sink.close()
        for zeros in (1, 100, 3 * BLOCK):
            path.write_bytes(flushed + bytes(zeros))
            assert list(load(path)) == batch(0)
            assert write(path, batches(1), append=True) * 2 == list(load(path))
        assert {record.levelno for record in caplog.records} == {logging.WARNING}

    def test_a_long_file_is_searched_from_its_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "run.csv"
        written = write(path, batches(30))
        for block in (400, 1000, 7):
            with path.open("ab") as file:
                file.write(b"2026-" * 100)
            if block >= 400:  # the header must fit
                monkeypatch.setattr(of_lines, "BLOCK", block)
                monkeypatch.setattr(text, "BLOCK", block)
            written += write(path, batches(1), append=True)
            assert list(load(path)) == written


class TestPackedFiles:
    @packed
    def test_a_cut_costs_what_was_not_flushed(
        self, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / name
        sink = open_sink(path, flush_s=0, fsync_s=None)
        ends = []
        for part in batches(12):
            sink.write(part)
            ends.append(sink.size)  # type: ignore[attr-defined]
        sink.close()
        content = path.read_bytes()
        for number, end in enumerate(ends):
            for place in (end, end + 1, end + 5):
                path.write_bytes(content[:place])
                caplog.clear()
                found = list(load(path))
                assert found[: len(joined(batches(number + 1)))] == joined(batches(number + 1))
                assert len(caplog.messages) == 1
                assert f"{name} was not ended properly: it has {len(found)} whole rows" in caplog.text
        more = write(path, batches(2), append=True)
        assert list(load(path)) == found + more
        gzip.decompress(path.read_bytes())

    @packed
    def test_a_second_run_that_was_killed_costs_the_first_nothing(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        first = write(path, batches(5))
        sink = open_sink(path, append=True)
        sink.write(batch(9))
        sink.flush()
        killed = path.read_bytes()
        sink.close()
        path.write_bytes(killed)
        path.chmod(0o640)
        assert list(load(path)) == first + batch(9)
        mode = path.stat().st_mode
        assert write(path, batches(1), append=True) == list(load(path))[len(first) + 5 :]
        assert path.stat().st_mode == mode
        assert [item.name for item in tmp_path.iterdir()] == [name]

    @packed
    @pytest.mark.parametrize("place", [40, 700, 3000])
    def test_damage_in_the_middle_is_reported_and_what_is_in_front_of_it_is_given(
        self, name: str, place: int, tmp_path: Path
    ) -> None:
        path = tmp_path / name
        written = write(path, batches(150), flush_s=0)
        content = bytearray(path.read_bytes())
        content[place : place + 40] = b"\xff" * 40
        path.write_bytes(content)
        found: list[Sample] = []
        with pytest.raises(ServomexSinkSchemaError, match=rf"{name}, line \d+: "):
            found += load(path)
        assert found == written[: len(found)]
        assert place < 100 or found
        before = path.read_bytes()
        with pytest.raises(ServomexSinkSchemaError):
            open_sink(path, append=True)
        assert path.read_bytes() == before

    def test_a_flush_that_fails_does_not_spoil_the_packing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "run.csv.gz"
        with open_sink(path, flush_s=1000) as sink:
            sink.write(batch(0))
            with monkeypatch.context() as patch:
                patch.setattr(text, "_write_all", lambda file, data: (file.write(data[:20]), 1 / 0))
                with pytest.raises(ZeroDivisionError):
                    sink.flush()
            sink.write(batch(1))
        assert list(load(path)) == joined(batches(2))
        assert zlib.decompressobj(31).decompress(path.read_bytes()).count(b"\n") == 11


class TestDamage:
    @every
    def test_a_damaged_line_is_reported_with_its_number(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        written = write(path, batches(4))
        lines = text_of(path).splitlines(keepends=True)
        number = 9 + HEADERS[name]
        for old, new in ((b"rig A", b"rig\xff"), (b"continuous", b'conti"nuous'), (b"I4", b"I7"), (b"%", b"bar")):
            damaged = lines[number - 1].replace(b"E1", b"I4").replace(b"mA", b"%").replace(old, new)
            put(path, b"".join([*lines[: number - 1], damaged, *lines[number:]]))
            samples = load(path)
            assert [next(samples) for _ in range(8)] == written[:8]
            with pytest.raises(ServomexSinkSchemaError, match=rf"{name}, line {number}: "):
                next(samples)

    @every
    def test_other_columns_are_reported(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        write(path, batches(1))
        put(path, text_of(path).replace(b"alarm4", b"alarm5"))
        words = (
            f"{name} does not have the columns that this package writes: "
            "it lacks 'alarm4' and it also has 'alarm5'"
        )
        with pytest.raises(ServomexSinkSchemaError, match=words):
            list(load(path))
        with pytest.raises(ServomexSinkSchemaError, match=words):
            open_sink(path, append=True)

    @pytest.mark.parametrize("line", [b"[1, 2]", b"{", b"7", b"NaN", b'{"value": NaN}', b'{"value": 1}'])
    def test_a_line_that_is_no_object_is_reported(self, line: bytes, tmp_path: Path) -> None:
        path = tmp_path / "run.jsonl"
        write(path, batches(1))
        with path.open("ab") as file:
            file.write(line + b"\n")
        with pytest.raises(ServomexSinkSchemaError, match=r"run\.jsonl, line 6: "):
            list(load(path))

    def test_a_line_without_end_is_no_recording(self, tmp_path: Path) -> None:
        path = tmp_path / "run.jsonl"
        path.write_bytes(b'{"received_at": "' + b"x" * 3_000_000)
        with pytest.raises(ServomexSinkSchemaError, match=r"run\.jsonl, line 1: longer than 1000000 bytes"):
            list(load(path))

    def test_empty_lines_are_nothing(self, tmp_path: Path) -> None:
        for name in PLAIN:
            written = write(tmp_path / name, batches(2))
            with (tmp_path / name).open("ab") as file:
                file.write(b"\n\r\n")
            assert list(load(tmp_path / name)) == written


@every
def test_a_new_file_that_gets_no_header_does_not_stay(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object) -> None:
        raise OSError(28, "full")

    monkeypatch.setattr(text, "_write_all", refuse)
    with pytest.raises(ServomexSinkWriteError, match="is full"):
        open_sink(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / name).touch()
    with pytest.raises(ServomexSinkWriteError, match="is full"):
        open_sink(tmp_path / name, append=True)
    assert (tmp_path / name).exists()
