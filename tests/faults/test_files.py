"""A short campaign against recordings, and proofs that it sees a row that is lost, doubled or wrong.

``python -m tests.faults.files`` runs a long one.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from servomex.models.sample import Sample
from tests.faults.files import endings, stage
from tests.faults.files.campaign import draw, play_episode, run_campaign
from tests.faults.files.damage import WAYS
from tests.faults.files.judge import compare
from tests.faults.files.numbered import rows_of, samples_of
from tests.faults.files.plan import SUFFIXES, Plan
from tests.faults.files.program import End
from tests.faults.files.scenes import SCENES
from tests.faults.files.tally import BAD, Count

pytestmark = [
    pytest.mark.alone,  # how soon something is said is asked in real seconds
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="signals, mounts and shims are those of Linux"
    ),
]

ROWS = rows_of(samples_of("run", 20))


def report(count: Count) -> str:
    return "\n".join(finding.text for finding in count.findings)


def test_whatever_is_done_to_a_recording_every_row_is_accounted_for() -> None:
    tally = run_campaign("suite", rounds=1, at_once=6, quick=True)
    failed = {kind for kind, count in tally.kinds.items() if count.findings}
    assert not failed, "\n".join([*tally.lines(), *(report(tally.kinds[kind]) for kind in failed)])
    assert {*tally.kinds} == {*SCENES}
    assert tally.total.numbers["episodes"] >= len(SCENES) - 1, (
        "a kind is left out only where the system has no way"
    )
    assert tally.total.numbers["found"] > 1000


def test_what_is_done_follows_from_the_seed() -> None:
    plans = [[draw("5", kind, number) for kind in SCENES for number in range(60)] for _ in range(2)]
    assert plans[0] == plans[1]
    assert plans[0] != [draw("6", kind, number) for kind in SCENES for number in range(60)]
    for kind, scene in SCENES.items():
        of_kind = [plan for plan in plans[0] if plan.kind == kind]
        assert {plan.suffix for plan in of_kind} == {*scene.suffixes}
        assert {plan.rotate for plan in of_kind} == ({True, False} if scene.rotate is None else {scene.rotate})


class TestJudge:
    def test_rows_that_are_all_there_are_found(self) -> None:
        verdict = compare(ROWS, ROWS)
        assert (verdict.found, verdict.missing, verdict.wrong, verdict.doubled) == (len(ROWS), (), 0, 0)

    def test_a_lost_row_is_seen(self) -> None:
        assert compare(ROWS, ROWS[:7] + ROWS[8:]).missing == (7,)

    def test_a_doubled_row_is_seen(self) -> None:
        verdict = compare(ROWS, [*ROWS, ROWS[7]])
        assert (verdict.doubled, verdict.wrong, verdict.missing) == (1, 0, ())
        assert verdict.example.startswith("doubled: ")

    @pytest.mark.parametrize(
        "change",
        [
            lambda row: attrs.evolve(row, latency_s=row.latency_s + 0.001),
            lambda row: attrs.evolve(row, monotonic_ns=row.monotonic_ns + 1),
            lambda row: attrs.evolve(row, reading=attrs.evolve(row.reading, value=row.reading.value + 1e-9)),
            lambda row: attrs.evolve(row, device="another"),
        ],
    )
    def test_a_wrong_row_is_seen(self, change: Callable[[Any], Sample]) -> None:
        wrong = change(ROWS[7])
        verdict = compare(ROWS, [*ROWS[:7], wrong, *ROWS[8:]])
        assert (verdict.wrong, verdict.missing) == (1, (7,))

    def test_a_row_behind_a_later_one_is_wrong(self) -> None:
        turned = [*ROWS[:7], ROWS[8], ROWS[7], *ROWS[9:]]
        assert (compare(ROWS, turned).wrong, compare(ROWS, turned).missing) == (1, ())
        assert compare(ROWS, turned, ordered=False).wrong == 0

    def test_rows_of_two_sources_may_be_mixed(self) -> None:
        other = rows_of(samples_of("other", 20))
        mixed = [row for pair in zip(ROWS, other, strict=True) for row in pair]
        assert compare([*ROWS, *other], mixed).wrong == 0


def test_no_two_readings_have_a_row_in_common() -> None:
    rows = rows_of(samples_of("run", 500))
    assert len({*rows}) == len(rows)
    assert {len(item.samples()) for item in samples_of("run", 500)} == {1, 2, 3}
    assert any(row.error for row in rows)


def test_what_a_program_says_at_its_end_is_understood() -> None:
    said = (
        "x: run.csv is full\n12 readings, 1 failed, 3 late, 2 dropped, 0 disconnects, 7 rows not written; start\n"
    )
    end = End(1, said, hung=False, at_ns=0)
    assert (end.readings, end.dropped, end.unwritten, end.crash) == (13, 2, 7, "")
    assert End(1, "Error: unexpected KeyError: 3\n", hung=False, at_ns=0).crash
    assert (End(2, "Error: no\n", hung=False, at_ns=0).readings, End(2, "", hung=False, at_ns=0).unwritten) == (
        None,
        0,
    )


@pytest.mark.parametrize("way", WAYS[2:], ids=lambda way: way.__name__)
def test_damage_changes_something(way: Callable[[Random, bytearray], None]) -> None:
    whole = bytes(range(256)) * 40
    changed = [bytearray(whole) for _ in range(20)]
    for number, data in enumerate(changed):
        way(Random(number), data)
    assert sum(data != whole for data in changed) >= 15


BROKEN = """
from servomex.sinks.csv import CsvSink
from servomex.recording.fan_out import FanOut
encoded, close = CsvSink._encoded, FanOut.close
{}
"""
"""Breaks the recorder of a program: what is imported by this name when Python starts."""


def of_csv(kind: str) -> Plan:
    plan = draw("broken", kind, 0, quick=True)
    return attrs.evolve(plan, suffix=".csv", rotate=False, before=0, rate=100, readings=30, flush_s=0.0)


@pytest.mark.parametrize(
    ("broken", "kind", "what"),
    [
        ("CsvSink._encoded = lambda self, rows: encoded(self, rows[1:])", "stop", "lost"),
        ("CsvSink._encoded = lambda self, rows: encoded(self, [*rows, rows[0]])", "stop", "doubled"),
        ("CsvSink._encoded = lambda self, rows: encoded(self, rows).replace(b'2.25', b'2.5')", "stop", "wrong"),
        ("CsvSink._check_place = lambda self: None", "remove", "slow"),
        ("import signal, time; FanOut.close = lambda self: time.sleep(60)", "stop", "hang"),
        ("CsvSink._resume = lambda self: 1 // 0", "stop", "crash"),
    ],
)  # fmt: skip
def test_a_broken_recorder_is_found(
    broken: str, kind: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(BROKEN.format(broken))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(stage, "NEVER_SAID_S", 1.0)
    for module in (endings, stage):
        monkeypatch.setattr(module, "ENDS_S", 2.5)
    count = play_episode(of_csv(kind), tmp_path / "episode", None)
    assert what in {finding.what for finding in count.findings}, report(count)
    assert count.numbers[what]
    assert f"--only {kind} --seed broken --episode 0" in count.findings[0].replay


def test_a_recorder_that_is_not_broken_is_not_found(tmp_path: Path) -> None:
    count = play_episode(of_csv("stop"), tmp_path / "episode", None)
    assert not count.findings, report(count)
    assert count.numbers["found"] == count.numbers["given"] > 30
    assert {*BAD}.isdisjoint(+count.numbers)
    assert len(SUFFIXES) == 6
