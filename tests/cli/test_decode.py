"""``servomex decode``, and the cells of the tables that it and ``servomex read`` print."""

import csv
import io
import json
import random
import re
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from servomex.cli import formats
from servomex.cli.decode import _pieces, decode
from servomex.cli.hextext import bytes_of
from servomex.cli.output import colour_wanted, one_line
from servomex.models.frame import frame_text
from servomex.models.reading import ChannelStatus
from servomex.models.texts import number_text
from servomex.simulator import VirtualAnalyzer, VirtualChannel, VirtualLine, constant
from servomex.telegram import FrameSplitter
from tests.helpers.commands import VALUES, finish, invoke, line_with, program, start
from tests.helpers.frames import REAL, WIRE, block, chunks, external, make
from tests.helpers.paths import CAPTURE

CLOCKS = ["02:54:12", "02:54:14", "02:54:16", "02:54:18", "02:54:21", "02:54:23"]
CHECKSUMS = ["2A1D", "2A1F", "2A21", "2A23", "2A1D", "2A1F"]
DAMAGED = WIRE + b"\x1b[2Jnoise\r\n" + WIRE.replace(b"20.376", b"29.376") + WIRE[:50]
DAMAGE_OFFSETS = [len(WIRE), len(WIRE) + 11, 2 * len(WIRE) + 11]


def decoded(data: bytes, *args: str) -> Result:
    return invoke(*args, command=decode, input=data)


def records_of(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


class TestTheCapture:
    def test_json(self) -> None:
        result = invoke(str(CAPTURE), "--format", "json", command=decode)
        assert (result.exit_code, result.stderr) == (0, "6 frames, 0 damaged pieces\n")
        records = records_of(result)
        assert [record["analyser"]["clock"] for record in records] == [f"2020-10-06T{clock}" for clock in CLOCKS]
        for record in records:
            assert record["protocol"] == "continuous"
            assert {row["channel"]: row["value"] for row in record["readings"]} == VALUES
            for key in ("device", "received_at", "monotonic_ns", "requested_at", "latency_s"):
                assert record[key] is None
            for key in ("received_at", "monotonic_ns"):
                assert {row[key] for row in record["readings"]} == {None}

    def test_csv(self) -> None:
        result = invoke(str(CAPTURE), "--format", "csv", command=decode)
        rows = list(csv.DictReader(io.StringIO(result.stdout)))
        assert (result.exit_code, len(rows)) == (0, 30)
        assert [row["value"] for row in rows] == ["20.376", "0.084", "0.25", "0.0", "0.0"] * 6
        assert {row["received_at"] + row["monotonic_ns"] + row["device"] + row["latency_s"] for row in rows} == {
            ""
        }
        assert {datetime.fromisoformat(row["analyser_clock"]).day for row in rows} == {6}

    def test_table(self) -> None:
        result = invoke(str(CAPTURE), command=decode)
        blocks = result.stdout.strip("\n").split("\n\n")
        assert [text.splitlines()[0] for text in blocks] == [
            f"frame {number}, checksum valid {checksum}: analyser ok, its clock 2020-10-06 {clock}"
            for number, (clock, checksum) in enumerate(zip(CLOCKS, CHECKSUMS, strict=True), 1)
        ]
        assert all("I1       Oxygen  20.376  %     ok     good" in text for text in blocks)
        assert "received" not in result.stdout


class TestDamage:
    REASONS = ("no frame header", "checksum 2A1D, its bytes sum to 2A26", "50 bytes instead of")

    def test_json(self) -> None:
        result = decoded(DAMAGED, "--format", "json")
        good, *bad = records_of(result)
        assert (result.exit_code, result.stderr) == (4, "1 frame, 3 damaged pieces\n")
        assert len(good["readings"]) == 5
        assert [list(item) for item in bad] == [["error", "offset", "raw", "checksum"]] * 3
        assert [item["offset"] for item in bad] == DAMAGE_OFFSETS
        assert good["checksum"] == {"stated": "2A1D", "computed": "2A1D", "valid": True}
        assert [item["checksum"] for item in bad] == [
            None, {"stated": "2A1D", "computed": "2A26", "valid": False}, None,
        ]  # fmt: skip
        for item, reason in zip(bad, self.REASONS, strict=True):
            assert item["error"].startswith(reason)
            raw = bytes.fromhex(item["raw"])
            assert DAMAGED[item["offset"] :].startswith(raw)

    def test_table(self) -> None:
        result = decoded(DAMAGED)
        lines = [line for line in result.stdout.splitlines() if line.startswith("DAMAGED")]
        assert result.exit_code == 4
        assert lines[0] == rf"DAMAGED at byte {len(WIRE)}: no frame header: b'\x1b[2Jnoise\r\n'"
        assert lines[1].startswith(
            f"DAMAGED at byte {len(WIRE) + 11}: checksum invalid: stated 2A1D computed 2A26: b' 06"
        )
        assert lines[1].endswith("' ...")
        assert all(char.isprintable() for char in result.stdout.replace("\n", ""))

    def test_a_broken_frame_whose_checksum_fits_says_both(self) -> None:
        result = decoded(make(block(value=b"2..376"), external(b"E1"), external(b"E2")))
        words = r"DAMAGED at byte 0: value '2\.\.376' of I1 is not a number; checksum valid [0-9A-F]{4}: b' 06"
        assert re.match(words, result.stdout)

    def test_csv(self) -> None:
        result = decoded(DAMAGED, "--format", "csv")
        assert (result.exit_code, result.stdout.count("\n")) == (4, 6)
        *damage, summary = result.stderr.splitlines()
        assert [line.split(":")[0] for line in damage] == [f"Damaged at byte {place}" for place in DAMAGE_OFFSETS]
        assert summary == "1 frame, 3 damaged pieces"

    @pytest.mark.parametrize("data", [b"", b"\r\n\n", b"nothing\n"])
    def test_no_frame_at_all(self, data: bytes) -> None:
        assert decoded(data).exit_code == 4

    def test_hostile_text(self) -> None:
        frame = make(block(name=b"=1+1\x9b\xff", unit=b"@\x9bx"), external(b"E1"), external(b"E2"))
        for output_format in ("table", "json", "csv"):
            result = decoded(frame, "--format", output_format)
            assert (result.exit_code, "=1+1\ufffdÿ" in result.stdout) == (0, True)
            assert all(char.isprintable() for char in result.stdout.replace("\n", ""))
        assert ",'=1+1" in result.stdout
        assert ",'@\ufffdx," in result.stdout

    @pytest.mark.parametrize("size", [1, 7, 205, 4096])
    def test_pieces_are_found_where_they_lie(self, size: int) -> None:
        source = random.Random(size)
        parts = [
            WIRE,
            REAL,
            REAL + b"\n",
            b"\r\r\n",
            b"\rx\n",
            b"junk",
            WIRE[:70],
            source.randbytes(1500),
            b"\n" * 9,
        ]
        for _ in range(20):
            data = b"".join(source.choices(parts, k=12))
            end = 0
            for offset, piece in _pieces(chunks(data, size)):
                assert data[offset : offset + len(piece)] == piece
                assert data[end:offset].strip(b"\r\n") == b""
                end = offset + len(piece)
            assert data[end:].strip(b"\r\n") == b""


class TestBytes:
    """-v: what a table or a number cannot show."""

    ODD = make(block(name=b"CO\xa9   ", value=b"OVER  "), external(b"E1"), external(b"E2"))

    def test_table(self) -> None:
        shown = decoded(self.ODD, "-v").stdout.splitlines()
        assert r"I1 b'I1;CO\xa9   ;OVER  ; % ;    ;  ; ; ;'" in shown
        assert sum(line.startswith(("I1 b'", "E1 b'", "E2 b'")) for line in shown) == 3
        assert decoded(self.ODD).stdout.count("b'") == 0

    def test_json(self) -> None:
        (record,) = records_of(decoded(self.ODD, "--format", "json", "-v"))
        assert bytes.fromhex(record["readings"][0]["raw"]) == self.ODD[34:67]
        (record,) = records_of(decoded(self.ODD, "--format", "json"))
        assert "raw" not in record["readings"][0]

    def test_csv(self) -> None:
        result = decoded(self.ODD, "--format", "csv", "-v")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "csv has no column for the bytes" in result.stderr


class TestInput:
    @pytest.mark.parametrize("size", [1, 3, 1000])
    def test_hex(self, size: int) -> None:
        text = b"\n ".join(chunks(WIRE.hex(" ").encode().upper(), 50))
        assert b"".join(bytes_of(chunks(text, size))) == WIRE
        result = decoded(text, "--hex", "-")
        assert (result.exit_code, result.stderr) == (0, "1 frame, 0 damaged pieces\n")

    @pytest.mark.parametrize("text", [b"2", b"20 3", b"20 3x", b"\xff\xff", REAL])
    def test_no_hex(self, text: bytes) -> None:
        result = decoded(text, "--hex")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 2)
        assert re.search("not hexadecimal text|in the middle of a byte", result.stderr)

    @pytest.mark.parametrize("separator", [" ", "", ":", ",", ", ", " 0x", ",0X", "\n"])
    def test_arguments_are_hexadecimal_text_as_well(self, separator: str) -> None:
        for text in (WIRE.hex(), WIRE.hex().upper()):
            bytes_ = [text[place : place + 2] for place in range(0, len(text), 2)]
            result = decoded(b"", "--hex", separator.join(bytes_))
            assert (result.exit_code, result.stderr) == (0, "1 frame, 0 damaged pieces\n")

    def test_each_byte_may_be_an_argument(self) -> None:
        result = decoded(b"", "--hex", *WIRE.hex(" ").split(), "--format", "csv")
        assert (result.exit_code, result.stdout) == (0, decoded(WIRE, "--format", "csv").stdout)

    @pytest.mark.parametrize("args", [("2",), ("20", "3g"), ("capture.hex",), ("0x", "2"), ("20;30",), ("ü",)])
    def test_arguments_that_are_none_are_refused(self, args: tuple[str, ...]) -> None:
        result = decoded(WIRE, "--hex", *args)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 2)
        assert re.search("not hexadecimal text: '|in the middle of a byte", result.stderr)

    def test_a_file_of_hexadecimal_text_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "20").write_text(WIRE.hex(":"))
        result = decoded(b"", "--hex", str(tmp_path / "20"))
        assert (result.exit_code, result.stderr) == (0, "1 frame, 0 damaged pieces\n")

    def test_several_files_are_refused(self) -> None:
        result = decoded(WIRE, "a.bin", "b.bin")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "name one FILE" in result.stderr

    @given(st.binary(max_size=40), st.integers(1, 9), st.sampled_from(["", " ", ":", ", ", " 0x", "0x", "\r\n"]))
    def test_any_bytes_come_back_however_they_are_cut(self, raw: bytes, size: int, separator: str) -> None:
        text = separator + separator.join(f"{byte:02x}" for byte in raw)
        assert b"".join(bytes_of(chunks(text.encode(), size))) == raw

    @pytest.mark.parametrize("path", ["/nope/capture.bin", str(Path(__file__).parent)])
    def test_no_such_file(self, path: str) -> None:
        result = invoke(path, command=decode)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 2)
        assert path in result.stderr

    @pytest.mark.alone
    def test_megabytes_without_a_line_end(self) -> None:
        noise = random.Random(1).randbytes(2_000_000).replace(b"\n", b"")
        started = time.monotonic()
        result = decoded(noise + WIRE, "--format", "csv")
        assert time.monotonic() - started < 10
        assert (result.exit_code, result.stdout.count("\n")) == (4, 6)

    def test_a_pipe_is_decoded_while_it_is_written(self) -> None:
        child = subprocess.Popen(
            program("decode", "--format", "json", main="main"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(WIRE)
        child.stdin.flush()
        assert json.loads(child.stdout.readline())["readings"][0]["value"] == 20.376
        assert finish(child) == (0, "", "1 frame, 0 damaged pieces\n")

    def test_a_closed_pipe_ends_it_quietly(self, tmp_path: Path) -> None:
        capture = tmp_path / "capture.bin"
        capture.write_bytes(WIRE * 2000)
        child = start("decode", str(capture), main="main")
        assert child.stdout is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr is not None
        assert child.stderr.read() == b""
        child.stderr.close()
        assert child.wait(60) == 141


class TestText:
    """The table's cells, as pure functions."""

    @pytest.mark.parametrize(("value", "text"), [
        (20.376, "20.376"), (-0.5, "-0.5"), (0.0, "0.0"), (1e-5, "0.00001"), (2.5e-07, "0.00000025"), (None, "-"),
        (123456789.0, "123456789.0"), (3e38, "3e+38"),
    ])  # fmt: skip
    def test_values(self, value: float | None, text: str) -> None:
        assert number_text(value) == text

    def table(self, line: VirtualLine, **extra: Any) -> list[str]:
        return frame_text(line.analysers[0].frame(), "title", **extra).splitlines()

    def test_texts_are_guarded_and_numbers_are_not(self) -> None:
        rows = formats.csv_rows(
            line_with(("I1", ChannelStatus()), value=-1.5, name="-x").analysers[0].frame(), "-d"
        )
        cells = rows.splitlines()[0].split(",")
        assert cells[2:9] == ["'-d", "continuous", "I1", "transducer", "'-x", "-1.5", "%"]

    def test_decimal_points_and_words(self) -> None:
        line = VirtualLine(VirtualAnalyzer([
            VirtualChannel("I1", "a", "vpm", constant(-123.4), ChannelStatus(warming_up=True)),
            VirtualChannel("I2", "b", "", constant(None)),
            VirtualChannel("I3", "c", "%", constant(1.0), ChannelStatus(calibrating=True, alarms=(True,) * 4)),
        ]))  # fmt: skip
        rows = [
            ("I1       a     -123.4  vpm", "warming up", "uncertain"),
            ("I2       b        -", "no value", "bad"),
            ("I3       c        1.0  %", "calibrating, alarm 1, alarm 2, alarm 3, alarm 4", "uncertain"),
        ]
        expected = [f"{start:<29}{state:<49}{quality}" for start, state, quality in rows]
        assert self.table(line)[3:6] == expected

    def test_the_analyser_is_described(self) -> None:
        line = VirtualLine()
        analyser = line.analysers[0]
        analyser.fault = analyser.maintenance = True
        analyser.write_coils(1, [True])
        words = "title: analyser fault, maintenance required, group 2 on calibration gas 1, its clock 2"
        assert self.table(line)[0].startswith(words)
        assert "\x1b[31manalyser fault" in self.table(line, paint=formats.coloured)[0]

    def test_colours(self) -> None:
        states = [ChannelStatus(fault=True), ChannelStatus(warming_up=True), ChannelStatus()]
        line = line_with(*zip(["I1", "I2", "I3"], states, strict=True))
        coloured = self.table(line, paint=formats.coloured)
        assert [text[:5] for text in coloured[3:6]] == ["\x1b[31m", "\x1b[33m", "I3   "]
        assert [click.unstyle(text) for text in coloured[2:]] == self.table(line)[2:]

    @pytest.mark.parametrize(("variable", "terminal", "wanted"), [
        ("", True, True), ("1", True, False), ("", False, False),
    ])  # fmt: skip
    def test_colour_is_for_terminals(
        self, monkeypatch: pytest.MonkeyPatch, variable: str, terminal: bool, wanted: bool
    ) -> None:
        monkeypatch.setenv("NO_COLOR", variable)
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
        assert colour_wanted() is wanted

    def test_nothing_breaks_out_of_a_line(self) -> None:
        assert one_line("a\r\n b\x1b[2J\x00") == "a b\ufffd[2J\ufffd"


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r\0\n"])
def test_line_ends_take_no_time(ends: bytes) -> None:
    splitter = FrameSplitter()
    begun = time.process_time()
    assert splitter.feed(ends * 2_000_000) == []
    assert time.process_time() - begun < 2
    assert splitter.feed(REAL + ends * 2 + REAL + ends) + splitter.flush() == [REAL, REAL]


@pytest.mark.parametrize(
    ("begin", "command"),
    [
        ("# servomex trace 1 version=0.1.0", "replay"),
        ("received_at,monotonic_ns,device", "convert"),
        ('{"received_at": "2026-03-01', "convert"),
        ("SQLite format 3\0", "convert"),
        ("PAR1", "convert"),
    ],
)
def test_what_another_command_reads_is_not_decoded(begin: str, command: str) -> None:
    result = decoded(begin.encode() + b"...")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"not a capture of broadcasts: use 'servomex {command}'" in result.stderr
