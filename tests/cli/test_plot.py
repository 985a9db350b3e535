"""``servomex plot``: a file for a file, one line for each mistake."""

import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from servomex.cli.plot import plot
from tests.helpers.commands import invoke, run
from tests.helpers.plotted import course, hour, sample, written


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return written(tmp_path / "run.csv", course([1.0] * 9))


def plotted(*args: object) -> Result:
    return invoke(*map(str, args), command=plot)


def test_it_writes_a_file_and_says_what_is_in_it(recording: Path, tmp_path: Path) -> None:
    result = plotted(recording, "-o", tmp_path / "run.html", "--title", "Mill 3", "--channels", "oxygen")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"9 readings plotted in {tmp_path / 'run.html'}\n"
    assert "<title>Mill 3</title>" in (tmp_path / "run.html").read_text(encoding="utf-8")


def test_a_picture_has_its_size(recording: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    target = tmp_path / "run.png"
    assert plotted(recording, "-o", target, "--size", "640x300", "--by", "channel").exit_code == 0
    header = target.read_bytes()[16:24]
    assert (int.from_bytes(header[:4]), int.from_bytes(header[4:])) == (640, 300)


@pytest.mark.parametrize(("args", "code", "words"), [
    (["no.csv", "-o", "new.html"], 2, "there is no file"),
    (["run.csv", "-o", "there.html"], 2, "Replace it with --overwrite"),
    (["run.csv", "-o", "new.gif"], 2, ".png .svg .pdf .html"),
    (["run.csv", "-o", "nowhere/new.html"], 2, "there is no folder"),
    (["run.csv", "-o", "new.html", "--channels", "Argon"], 2, "the recording has I1 (Oxygen)"),
    (["run.csv", "-o", "new.html", "--channels", "I77"], 2, "unknown channel"),
    (["run.csv", "-o", "new.html", "--size", "big"], 2, "as in 1600x900"),
    (["run.csv", "-o", "new.html", "--size", "1x1"], 2, "from 200 to 10000"),
    (["run.csv", "-o", "new.html", "--last", "soon"], 2, "not a duration"),
    (["run.csv", "-o", "new.html", "--last", "1h", "--start", "2026-03-01"], 2, "--last and --start"),
    (["run.csv", "-o", "new.html", "--start", "noon"], 2, "is not a time"),
    (["run.csv", "-o", "new.html", "--end", "2020-01-01"], 2, "no readings to plot"),
    (["failed.csv", "-o", "new.html"], 2, "no readings to plot, only 2 failed ones"),
    (["damaged.csv", "-o", "new.html"], 1, "line 5"),
    (["other.csv", "-o", "new.html"], 2, "other.csv"),
])  # fmt: skip
def test_each_mistake_is_one_line_and_no_file(
    recording: Path, tmp_path: Path, args: list[str], code: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "failed.csv", [sample(0), sample(1)])
    lines = recording.read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "damaged.csv").write_text("".join([*lines[:4], "rubbish\n", *lines[4:]]), encoding="utf-8")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (tmp_path / "there.html").touch()
    result = plotted(*args)
    assert result.exit_code == code, result.stderr
    assert words in result.stderr
    assert result.stderr.count("\n") == 1 + ("Try '" in result.stderr)
    assert not (tmp_path / "new.html").exists()


def test_without_a_display_it_asks_for_a_file(recording: Path) -> None:
    pytest.importorskip("matplotlib")
    code, _, stderr = run("plot", str(recording), main="main", env={"MPLBACKEND": "agg", "DISPLAY": ""})
    assert (code, stderr) == (
        1, "Error: there is no display for a window: name a file to write with -o, such as run.png\n",
    )  # fmt: skip


@pytest.mark.alone
@pytest.mark.parametrize("kind", ["png", "html"])
def test_an_hour_is_plotted_in_less_than_three_seconds(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("matplotlib")
    source = written(tmp_path / "hour.csv", hour())
    began = time.monotonic()
    done: Any = run("plot", str(source), "-o", str(tmp_path / f"run.{kind}"), main="main")
    took_s = time.monotonic() - began
    assert done[0] == 0
    assert took_s < 3
