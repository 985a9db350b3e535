"""A fleet file is read whole: what it says, and every problem in it with its line and a suggestion."""

import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servomex.enums import ProtocolKind
from servomex.fleet.file import parse_fleet, read_fleet
from servomex.fleet.model import Fleet
from servomex.fleet.reads import Listen
from tests.helpers.paths import ROOT

WHOLE = """\
[site]
name = "mill-3"
tags = { line = "A" }

[outbox]
path = "/var/lib/servomex/outbox.sqlite"
max_size = "2GB"
max_age = "14d"

[http]
listen = "127.0.0.1:9464"          # page, health and metrics

[[analyser]]
name = "stack-1"
port = "usb:A50285BI"
address = 1
protocol = "modbus_rtu"
every = "500ms"
channels = ["I1", "co2"]
tags = { boiler = "2" }

[[analyser]]
name = "stack-2"
port = "usb:A50285BI"
address = 2
protocol = "modbus_rtu"

[[sink]]
url = "postgresql://logger@db/plant"

[[sink]]
path = "/data/servomex.csv.gz"
rotate = "1d"
keep = "90d,20GB"

[[alert]]
on = ["alarm", "lost"]
command = ["/usr/local/bin/page-me", "--now"]
min_interval = "5m"
"""


def fleet_of(text: str) -> Fleet:
    fleet, problems = parse_fleet(text)
    assert problems == []
    assert fleet is not None
    return fleet


def problems_of(text: str) -> list[tuple[int | None, str]]:
    fleet, problems = parse_fleet(text)
    assert fleet is None
    return [(problem.line, problem.text) for problem in problems]


def changed(old: str, new: str) -> str:
    """Return the whole file with one text replaced, and fail if it is not in it."""
    assert WHOLE.count(old) >= 1, old
    return WHOLE.replace(old, new, 1)


def test_everything_that_the_file_says_is_read() -> None:
    fleet = fleet_of(WHOLE)
    first, second = fleet.analysers
    assert (fleet.site.name, dict(fleet.site.tags)) == ("mill-3", {"line": "A"})
    assert (first.name, first.port, first.address, first.every) == ("stack-1", "usb:A50285BI", 1, 0.5)
    assert (first.protocol, first.channels, dict(first.tags)) == (
        ProtocolKind.MODBUS_RTU, ("I1", "co2"), {"boiler": "2"},
    )  # fmt: skip
    assert (second.every, second.channels, second.retries) == (1.0, None, 2)
    assert fleet.outbox is not None
    assert (fleet.outbox.max_size, fleet.outbox.max_age) == (2_000_000_000, 14 * 86_400.0)
    assert fleet.http is not None
    assert fleet.http.listen == Listen("127.0.0.1", 9464)
    assert fleet.sinks[0].url == "postgresql://logger@db/plant"
    assert fleet.sinks[1].keep == "90d,20GB"
    assert (fleet.alerts[0].on, fleet.alerts[0].min_interval) == (("alarm", "lost"), 300.0)


@pytest.mark.parametrize(("old", "new", "line", "said"), [
    ("address = 2", "adress = 2", 25, "did you mean 'address'?"),
    ("[[sink]]", "[[sinks]]", 28, "did you mean 'sink'?"),
    ("address = 1", "address = 248", 16, "247"),
    ('"500ms"', '"soon"', 18, "is not a duration"),
    ('"500ms"', "true", 18, "must be a text"),
    ('"2GB"', '"2 gallons"', 7, "is not a size"),
    ('"127.0.0.1:9464"', '"localhost"', 11, "127.0.0.1:9464"),
    ('"127.0.0.1:9464"', '":70000"', 11, "is not an address"),
    ('"modbus_rtu"', '"modbus"', 17, "known are"),
    ('{ boiler = "2" }', '{ unit = "2" }', 20, "a column of each row has this name"),
    ('name = "stack-2"', 'name = "stack-1"', 23, "used twice"),
    ("address = 2", "address = 1", 25, "'stack-1' already"),
    ('protocol = "modbus_rtu"\n\n[[sink]]', 'protocol = "modbus_ascii"\n\n[[sink]]', 26, "a port has one"),
    ("postgresql://logger@db/plant", "postgres//logger@db/plant", 29, "not the name of a recording"),
    ("/data/servomex.csv.gz", "/data/servomex.txt", 32, "not the name of a recording"),
    ('rotate = "1d"\n', "", 33, "add rotate"),
    ('"90d,20GB"', '"90 daze"', 34, "is not a duration"),
    ('url = "postgresql://logger@db/plant"', "", 28, "either url or path"),
    ('["alarm", "lost"]', '["alarms"]', 37, "one of alarm"),
    ('command = ["/usr/local/bin/page-me", "--now"]', "", 36, "either command or webhook"),
    ('[outbox]\npath = "/var/lib/servomex/outbox.sqlite"', "[outbox]", 5, "needs path"),
    ('name = "mill-3"', "name = ", 2, "Invalid value"),
])  # fmt: skip
def test_each_mistake_is_told_with_its_line(old: str, new: str, line: int, said: str) -> None:
    (found_line, text), *_ = problems_of(changed(old, new))
    assert said in text
    assert found_line == line


def test_the_file_of_the_manual_has_no_mistakes() -> None:
    page = (ROOT / "docs" / "howto" / "running.rst").read_text(encoding="utf-8")
    shown = page.partition(".. code-block:: text\n\n")[2].partition("\nAn ``[[analyser]]``")[0]
    assert [item.name for item in fleet_of(textwrap.dedent(shown)).analysers] == ["stack-1", "stack-2"]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_lines() -> None:
    text = changed("address = 2", "adress = 2").replace('"2GB"', "2").replace("rotate", "rotat")
    assert [line for line, _ in problems_of(text)] == [7, 25, 33]


def test_a_fleet_without_analysers_is_a_mistake() -> None:
    assert problems_of("") == [(None, "there is no analyser: add a table [[analyser]] with name and port")]


def test_a_password_is_not_told() -> None:
    twice = (
        '[outbox]\npath = "o"\n[[analyser]]\nname = "a"\nport = "p"\n'
        + 2 * '[[sink]]\nurl = "postgresql://me:secret@db/plant"\n'
    )
    (line, text), *_ = problems_of(twice)
    assert (line, "named twice" in text, "secret" in text) == (9, True, False)


def test_a_key_within_a_long_text_is_no_line_of_its_own() -> None:
    text = '[site]\nname = """\nx\naddress = 7"""\n[[analyser]]\nname = "a"\nport = "p"\naddress = 300\n'
    assert [line for line, _ in problems_of(text)] == [2, 8]


@pytest.mark.parametrize("content", [b"\xff\xfe[\x00", b"[[analyser]]\nname = '\xe4'\n"])
def test_what_is_not_utf8_is_a_mistake(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_bytes(content)
    fleet, (problem,) = read_fleet(path)
    assert (fleet, problem.text) == (None, "it is not UTF-8")
    assert problem.line == 1 + content[: content.index(b"\xe4" if b"\xe4" in content else b"\xff")].count(b"\n")


def test_a_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    fleet, (problem,) = read_fleet(tmp_path / "fleet.toml")
    assert (fleet, problem.line) == (None, None)


NAMES = st.sampled_from(["site", "outbox", "http", "analyser", "sink", "alert", "x"])
KEYS = st.sampled_from(
    ["name", "port", "address", "url", "path", "on", "listen", "tags", "keep", "rotate", "every"]
)
VALUES = st.sampled_from(
    ["1", '"a"', "true", "[]", "{}", "[1]", '["a"]', "{a = 1}", "1.5", "1979-05-27", "nan", "-1"]
)
TABLES = st.tuples(NAMES, st.booleans(), st.dictionaries(KEYS, VALUES, max_size=4))


@given(st.lists(TABLES, max_size=6))
def test_any_file_gives_a_fleet_or_problems(tables: list[tuple[str, bool, dict[str, str]]]) -> None:
    text = "".join(
        (f"[[{name}]]\n" if many else f"[{name}]\n")
        + "".join(f"{key} = {value}\n" for key, value in items.items())
        for name, many, items in tables
    )
    fleet, problems = parse_fleet(text)
    assert (fleet is None) == bool(problems)
    assert all(problem.line is None or 1 <= problem.line <= text.count("\n") for problem in problems)


@given(st.text())
def test_any_text_gives_a_fleet_or_problems(text: str) -> None:
    fleet, problems = parse_fleet(text)
    assert (fleet is None) == bool(problems)
