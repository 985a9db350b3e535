"""The benchmarks run and write every figure. How fast anything is depends on the machine and is not tested."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servomex.enums import ChannelId
from servomex.registers import REGISTERS, STATES, LineTiming, plan_reads
from tests.benchmarks import page
from tests.benchmarks.__main__ import BENCHMARKS, main
from tests.benchmarks.comparison import ROWS
from tests.benchmarks.figures import Figure, Goal, Result, Skipped, curve, figure, number, ratio, read_back, table
from tests.benchmarks.machine import Settings
from tests.benchmarks.peers import missing_clients
from tests.benchmarks.standing import TITLES, Row
from tests.benchmarks.wire import GAP_S, READ_REGISTERS, Line
from tests.helpers.paths import ROOT
from tests.helpers.platforms import needs_pty

FAST = {
    "parse": [
        f"{kind}, {who}"
        for kind in ("5 channels", "7 channels", "10 channels", "5 channels, all varied")
        for who in ("servomex", "split and build")
    ],
    "split": [
        f"{name}, {size} at once" for name in ("good frames", "noise without line ends") for size in (16, 4096)
    ],
    "load": [".csv, load", ".sqlite, to_pandas", ".parquet, to_pandas, wide"],
    "sinks": [".csv, batches of 5", ".sqlite, batches of 500"],
    "ready": [".csv, batches of 5, csv.writer", ".sqlite, batches of 500, servomex / executemany"],
    "memory": [],
}
"""Benchmarks that are done in a moment, and some of the figures that each must have."""


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What the command writes: the JSON, and the tables."""
    path = tmp_path_factory.mktemp("benchmarks") / "figures.json"
    done = run(*FAST, "--quick", "--json", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(path.read_text(encoding="utf-8")), done.stdout


def test_the_json_reports_the_machine(report: tuple[dict[str, Any], str]) -> None:
    machine = report[0]["machine"]
    assert machine["cpu_count"] >= 1
    assert machine["python"] == ".".join(map(str, sys.version_info[:3]))
    assert machine["platform"]
    assert {"pymodbus", "pyserial"} <= {name for name, version in machine["packages"].items() if version}
    assert report[0]["quick"] is True


@pytest.mark.parametrize("name", FAST)
def test_the_json_has_each_figure_of_the_table(report: tuple[dict[str, Any], str], name: str) -> None:
    results = [read_back(item) for item in report[0]["benchmarks"][name]["figures"]]
    assert [item.as_dict() for item in results] == report[0]["benchmarks"][name]["figures"]
    _, _, *rows = report[1].partition(f"\n{name}: ")[2].partition("\n\n")[0].splitlines()
    for item, row in zip(results, rows, strict=True):
        shown = number(item.median) if isinstance(item, Figure) else "skipped:"
        assert row.startswith(f"{item.name} ")
        assert row.removeprefix(item.name).split()[0] == shown
    assert {*FAST[name]} <= {item.name for item in results}
    assert len({item.name for item in results}) == len(results) > 0
    for item in results:
        if isinstance(item, Figure):
            assert item.low <= item.median <= item.high
            assert item.count >= 1


NOT_QUICK = ("RTU 2400", "100 Hz")
"""What a quick run does not measure."""


@needs_pty
@pytest.mark.alone
@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name not in FAST])
def test_each_other_benchmark_runs_and_has_the_figures_that_are_compared(name: str) -> None:
    results = list(BENCHMARKS[name](Settings(quick=True, idle_s=0.2)))
    names = {item.name for item in results}
    assert len(names) == len(results) > 0
    compared = {text for row in ROWS if row.benchmark == name for text in _figures_of(row)}
    missing = {text for text in compared - names if not text.startswith(NOT_QUICK)}
    assert not [text for text in missing if not any(client in text for client in missing_clients())]


def _figures_of(row: Row) -> Iterator[str]:
    yield row.ours
    yield from filter(None, [row.bound, *(text for peer in row.peers for text in (peer.figure, peer.ratio))])


def test_the_fast_benchmarks_have_the_figures_that_are_compared(report: tuple[dict[str, Any], str]) -> None:
    for name in FAST:
        names = {item["name"] for item in report[0]["benchmarks"][name]["figures"]}
        assert {text for row in ROWS if row.benchmark == name for text in _figures_of(row)} <= names


@needs_pty
@pytest.mark.alone
@pytest.mark.parametrize("name", ["latency"])
def test_a_benchmark_with_another_process_at_the_far_end_loses_nothing(name: str) -> None:
    results = list(BENCHMARKS[name](Settings(quick=True)))
    assert [type(item) for item in results] == [Figure] * 6
    assert all(item.median > 0 for item in results if isinstance(item, Figure))


def test_an_unknown_name_is_wrong_usage_and_the_known_ones_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["parse", "speed"])
    assert ended.value.code == 2
    assert f"there is no benchmark 'speed'; there are {', '.join(BENCHMARKS)}" in capsys.readouterr().err


def test_the_list_names_all_and_runs_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [*BENCHMARKS]


def test_one_that_fails_says_so_and_the_others_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(settings: Settings) -> Iterator[Result]:
        """Fail."""
        yield figure("before", "s", [1.5])
        raise OSError("no such thing")

    def skipping(settings: Settings) -> Iterator[Result]:
        """Skip."""
        yield Skipped("peer", "it is not installed")

    monkeypatch.setitem(BENCHMARKS, "parse", broken)
    monkeypatch.setitem(BENCHMARKS, "split", skipping)
    assert main(["parse", "split", "-j", str(tmp_path / "figures.json")]) == 1
    out, err = capsys.readouterr()
    assert err == "Error: benchmark parse failed: OSError: no such thing\n"
    assert "before  1.5" in out
    assert "peer    skipped: it is not installed" in out
    found = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["benchmarks"]
    assert found["parse"]["error"] == "OSError: no such thing"
    assert found["parse"]["figures"][0]["median"] == 1.5
    assert found["split"]["figures"] == [{"name": "peer", "why": "it is not installed"}]


def test_a_figure_is_judged_by_its_goal() -> None:
    below, reached = Goal(2.0), Goal(15.0, least=True)
    assert [figure("f", "", [value], goal=below).met for value in (1.9, 2.0)] == [True, False]
    assert [figure("f", "", [value], goal=reached).met for value in (14.9, 15.0)] == [False, True]
    near = Goal(2.0, over_bound=True)
    assert [figure("f", "", [value], bound=100.0, goal=near).met for value in (101.9, 102.1)] == [True, False]
    assert figure("f", "", [1.0]).met is None
    spread = figure("f", "", [4.0, 1.0, 2.0, 3.0, 5.0])
    assert (spread.low, spread.median, spread.high, spread.count) == (2.0, 3.0, 4.0, 5)


def test_a_ratio_is_formed_pair_by_pair() -> None:
    shares = ratio("ours / theirs", [1.0, 10.0, 4.0], [2.0, 20.0, 4.0])
    assert (shares.low, shares.median, shares.high, shares.count) == (0.5, 0.5, 0.75, 3)


def test_a_curve_shows_with_which_power_the_cost_grows() -> None:
    grown = curve("rows", "s", [10, 100, 1000], [1.0, 10.0, 1000.0], [1.0, 10.0, 1000.0], Goal(1.1))
    assert grown.exponents == pytest.approx([1.0, 2.0])
    assert not grown.met
    assert curve("rows", "s", [10, 100], [2.0, 2.0], [2.0, 2.0], Goal(1.1)).met
    assert read_back(grown.as_dict()) == grown
    assert table([grown, Skipped("others", "none is installed")]) == [
        "figure  sizes           at each      unit  exponents   goal",
        "rows    10, 100, 1 000  1, 10, 1000  s     1.00, 2.00  < 1.1: MISSED",
        "others  skipped: none is installed",
    ]


@pytest.mark.parametrize("ascii_framing", [False, True], ids=["RTU", "ASCII"])
@pytest.mark.parametrize("baudrate", [2400, 9600, 19200])
def test_the_bound_of_a_sweep_is_what_the_driver_plans_with(baudrate: int, ascii_framing: bool) -> None:
    line = Line(baudrate, ascii_framing)
    timing = LineTiming(line.char_s, GAP_S, ascii_framing)
    bench = [ChannelId(name) for name in ("I1", "I2", "I3", "E1", "E2")]
    words = plan_reads([REGISTERS[channel] for channel in bench], timing.registers)
    bits = plan_reads([STATES[channel] for channel in bench], timing.bits)
    reads = line.cheapest()
    assert [read[1:] for read in reads[:-1]] == [(span.address, span.count) for span in (*words, *bits)]
    assert [read[0] for read in reads].count(READ_REGISTERS) == len(words)
    planned = sum(map(timing.registers, words)) + sum(map(timing.bits, bits))
    assert line.seconds(reads[:-1]) == pytest.approx(planned)
    assert line.seconds(reads, after_silence=True) == pytest.approx(line.seconds(reads) - GAP_S)


def test_the_page_has_a_table_for_each_benchmark_and_takes_new_figures(
    report: tuple[dict[str, Any], str],
) -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    for name in BENCHMARKS:
        assert f"{page.INDENT}{page.COMMAND}{name}\n" in text, f"the page does not show {name}"
    fresh = figure("something new", "s", [1.25])
    found = page.refilled(
        text, {"machine": report[0]["machine"], "benchmarks": {"split": {"figures": [fresh.as_dict()]}}}
    )
    command = f"{page.INDENT}{page.COMMAND}split\n"
    before, _, after = found.partition(command)
    block, _, rest = after.partition("\n\n")
    assert block == "    figure         median  n  unit\n    something new  1.25    1  s"
    assert f"python   {report[0]['machine']['implementation']} {report[0]['machine']['python']}\n" in before
    assert len(before.splitlines()) == len(text.partition(command)[0].splitlines())
    assert text.endswith(rest)


def test_the_page_takes_the_comparison(report: tuple[dict[str, Any], str]) -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    cells = [[*TITLES], ["sweep", "1 ms", "2 (peer)", "", "<= 3: met", "ahead"]]
    found = page.refilled(text, {"machine": report[0]["machine"], "benchmarks": {}, "standing": cells})
    assert (
        "    work   servomex  best peer  bound  goal       verdict\n"
        "    sweep  1 ms      2 (peer)          <= 3: met  ahead\n"
    ) in found
    assert page.refilled(text, {**report[0], "benchmarks": {}, "standing": []}).endswith(text[-200:])
