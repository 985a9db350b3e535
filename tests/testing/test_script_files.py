"""Scripts of a fake transport that are read from files and from traces."""

import os
import re
import time
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from servomex import (
    FakeTransport,
    ServomexConfigurationError,
    ServomexError,
    open_device,
)
from servomex.simulator import VirtualAnalyzer, VirtualLine
from servomex.testing import files, load_script

pytestmark = pytest.mark.virtual_time
GENEROUS_S = 5.0


def written(folder: Path, text: str) -> Path:
    path = folder / "script.txt"
    path.write_text(text, encoding="utf-8")
    return path


SCRIPT = """
# the state of the analyser
> 01 02 03 e8 00 02 79 bb
< 01:02:01:00
<a1,88

  >0104 0000, 0007 B008
\t< 01 04\t0E
> 05
"""


def test_a_script_is_read_from_a_file(tmp_path: Path) -> None:
    path = written(tmp_path, SCRIPT)
    expected = {
        bytes.fromhex("010203e8000279bb"): bytes.fromhex("01020100a188"),
        bytes.fromhex("010400000007b008"): bytes.fromhex("01040e"),
        b"\x05": b"",
    }
    assert load_script(path) == load_script(str(path)) == expected
    path.write_bytes(b"\xef\xbb\xbf" + SCRIPT.replace("\n", "\r\n").encode())
    assert load_script(path) == expected


@pytest.mark.parametrize(("text", "number", "why"), [
    ("< 01", 1, "a reply without a request before it"),
    ("# a\n\n> 01\n01", 4, r"neither a request \('>'\) nor a reply \('<'\): '01'"),
    ("> 01\n< 0", 2, "not bytes in hexadecimal digits: '0'"),
    ("> 01\n< 0x01", 2, "not bytes in hexadecimal digits: '0x01'"),
    ("> 01\n< zz # no", 2, "not bytes in hexadecimal digits"),
    ("> 01\n<\n>", 3, "a request without bytes"),
    ("> 01\n< 02\n> 01\n< 03", 3, "the request 01 is there already: each has one reply"),
    ("> 0\x00", 1, "not bytes"),
    ("\xa7" * 500, 1, "neither"),
])  # fmt: skip
def test_a_bad_line_is_named(tmp_path: Path, text: str, number: int, why: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(
        ServomexConfigurationError, match=rf"^{re.escape(str(path))}, line {number}: {why}"
    ) as caught:
        load_script(path)
    assert len(str(caught.value)) < 400 + len(str(path))


def test_a_file_without_requests_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServomexError, match=r"has no requests\. Read broadcasts with load_capture"):
        load_script(written(tmp_path, "# nothing\n\n"))


def test_what_is_not_a_readable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path, tmp_path / "absent", os.devnull):
        with pytest.raises(ServomexConfigurationError, match=f"cannot read {re.escape(str(path))}: "):
            load_script(path)
    monkeypatch.setattr(files, "LARGEST", 10)
    with pytest.raises(ServomexConfigurationError, match="more than 0 MB"):
        load_script(written(tmp_path, SCRIPT))


def test_many_lines_of_one_reply_take_no_time_that_grows_with_their_square(tmp_path: Path) -> None:
    path = written(tmp_path, "> 01\n" + "< 02\n" * 200_000)
    start = time.perf_counter()
    assert len(load_script(path)[b"\x01"]) == 200_000
    assert time.perf_counter() - start < GENEROUS_S


@hypothesis.given(st.dictionaries(st.binary(min_size=1), st.binary(), min_size=1), st.sampled_from(" :,"))
def test_every_script_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, wanted: dict[bytes, bytes], separator: str
) -> None:
    lines = [f"> {ask.hex(separator)}\n< {reply.hex(separator)}\n" for ask, reply in wanted.items()]
    path = written(tmp_path_factory.mktemp("script"), "".join(lines))
    assert load_script(path) == wanted


@hypothesis.given(st.binary() | st.text("<> 0aF,:#\n").map(str.encode))
def test_any_bytes_are_a_script_or_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("script") / "file"
    path.write_bytes(data)
    try:
        found = load_script(path)
    except ServomexError as error:
        found, message = {}, str(error)
        assert str(path) in message
    assert all(found)


def session(port: "str | FakeTransport", trace: Path | None, mode: str) -> list[Any]:
    with open_device(port, protocol=mode, trace=trace) as analyzer:
        found: list[Any] = [[(item.name, item.value) for item in analyzer.poll()] for _ in range(3)]
        found.append(analyzer.read_channel("I2").value)
        found.append(analyzer.status("I1"))
        found.append(analyzer.analyser_status())
        found.append(analyzer.loopback(b"ab"))
    return found


@pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii", "auto"])
def test_a_session_answers_again_from_its_trace(tmp_path: Path, mode: str) -> None:
    """Loopbacks have a fresh number each time; every other request is the same again."""
    trace = tmp_path / "trace.txt"
    line = VirtualLine(VirtualAnalyzer(mode="modbus_rtu" if mode == "auto" else mode))
    first = session(line.url, trace, mode)
    with FakeTransport(load_script(trace)) as port:
        assert session(port, None, mode) == first


TRACE = """\
# servomex trace 1 version=0.1.0 started=2026-03-01T12:30:45.500000+00:00 settings=19200,8N1 gap=0.05 port=COM3
5012.000000000 2026-03-01T12:30:45.500000+00:00 ! opened
5012.010000000 2026-03-01T12:30:45.510000+00:00 < ff
5012.050000000 2026-03-01T12:30:45.550000+00:00 > 01
5012.070000000 2026-03-01T12:30:45.570000+00:00 < 0a
5012.080000000 2026-03-01T12:30:45.580000+00:00 < 0b
5012.150000000 2026-03-01T12:30:45.650000+00:00 > 02
5012.250000000 2026-03-01T12:30:45.750000+00:00 > 01
5012.270000000 2026-03-01T12:30:45.770000+00:00 < 0c
5012.350000000 2026-03-01T12:30:45.850000+00:00 > 01
5013.000000000 2026-03-01T12:30:46.500000+00:00 ! lost device disconnected
5013.500000000 2026-03-01T12:30:47.000000+00:00 ! reopened
5013.600000000 2026-03-01T12:30:47.100000+00:00 < ff
"""


def test_a_trace_gives_each_request_its_last_reply(tmp_path: Path) -> None:
    assert load_script(written(tmp_path, TRACE)) == {b"\x01": b"\x0c", b"\x02": b""}
    broken = written(tmp_path, TRACE + "neither\n")
    with pytest.raises(ServomexError, match=r"line 14: neither bytes nor an event") as caught:
        load_script(written(tmp_path, broken.read_text(encoding="utf-8") + "more\n"))
    assert "script.txt" in str(caught.value)


def test_a_trace_of_broadcasts_is_not_a_script(tmp_path: Path) -> None:
    lines = [line for line in TRACE.splitlines(keepends=True) if " > " not in line]
    with pytest.raises(ServomexError, match=r"has no requests\. Read broadcasts with load_capture\(\), or play a"):
        load_script(written(tmp_path, "".join(lines)))
