"""A kill, a full disk, a file that may not grow: what was written before is there, and it goes on."""

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from servomex.errors import ServomexSinkWriteError
from servomex.models.sample import Sample
from servomex.recording.load import load
from servomex.sinks import Sink, open_sink
from tests.helpers.background import ended
from tests.helpers.paths import ROOT
from tests.helpers.recordings import ONE_EACH, batch, batches, joined, write

FLUSH_S = 0.05
ENOUGH = 50

WRITING = f"""
import itertools, sys, time
from servomex.sinks import open_sink
from tests.helpers.recordings import batch
sink = open_sink(sys.argv[1], flush_s={FLUSH_S}, **eval(sys.argv[2]))
for number in itertools.count():
    before = time.monotonic()
    sink.write(batch(number))
    print(before, time.monotonic(), flush=True)
    time.sleep(0.004)
"""

ROOM = {"run.csv.gz": 12_000, "run.jsonl.gz": 12_000, "run.parquet": 28_000}

FILLING = """
import shutil, sys
from pathlib import Path
from servomex.errors import ServomexSinkWriteError
from servomex.recording.load import load
from servomex.sinks import open_sink
from tests.helpers.recordings import batch, joined
folder = Path(sys.argv[1])
path = folder / sys.argv[2]
filler = folder / "filler"
accepted = []
with open_sink(path, flush_s=0) as sink:
    sink.write(batch(0))
    accepted.append(batch(0))
    filler.write_bytes(bytes(shutil.disk_usage(folder).free - int(sys.argv[3])))
    for number in range(4000):
        try:
            sink.write(batch(number))
            accepted.append(batch(number))
        except ServomexSinkWriteError as error:
            print(error.message)
            break
    for _ in range(3):
        try:
            sink.write(batch(0))
        except ServomexSinkWriteError:
            continue
        accepted.append(batch(0))  # there may be room for some more
    assert list(load(path)) == joined(accepted), "while it is full"
    filler.unlink()
    for number in range(3):
        sink.write(batch(number))
        accepted.append(batch(number))
assert list(load(path)) == joined(accepted), "when there was room again"
print(len(accepted))
"""


def child(code: str, *args: str, before: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*before, sys.executable, "-W", "error", "-c", code, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def killed(path: Path, options: str = "{}") -> tuple[int, int]:
    """Kill a program while it writes: how many batches it wrote, and how many of them a flush interval before."""
    with ended(child(WRITING, str(path), options)) as program:
        assert program.stdout
        assert program.stderr
        lines = [program.stdout.readline() for _ in range(ENOUGH)]
        program.kill()
        lines += program.stdout.readlines()
        assert program.stderr.read() == ""
    times = [tuple(map(float, line.split())) for line in lines if line.endswith("\n")]
    last = times[-1][0]
    return len(times), sum(after <= last - FLUSH_S for _, after in times)


class TestAKill:
    @pytest.mark.parametrize("name", ONE_EACH)
    def test_costs_a_flush_interval_at_most_and_the_file_goes_on(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        written, safe = killed(path)
        assert safe > ENOUGH / 4
        found = list(load(path))
        assert len(joined(batches(safe))) <= len(found) <= len(joined(batches(written + 1)))
        assert found == joined(batches(written + 1))[: len(found)]
        more = write(path, [batch(1000)], append=True)
        assert list(load(path)) == found + more
        assert [item.name for item in tmp_path.iterdir()] == [name]

    def test_of_a_rotated_recording_costs_no_more(self, tmp_path: Path) -> None:
        written, safe = killed(tmp_path / "run.parquet", "{'rotate': '40s'}")
        found = list(load(f"{tmp_path}/run-*.parquet"))
        assert len(joined(batches(safe))) <= len(found)
        assert found == joined(batches(written + 1))[: len(found)]


@pytest.fixture(scope="module")
def small_disk() -> tuple[str, ...]:
    """Give what runs a program with a small disk of its own, where the system lets a user have one."""
    mount = 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"'
    enter = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount)
    if not shutil.which("unshare") or subprocess.run([*enter, "/tmp", "true"], capture_output=True).returncode:
        pytest.skip("no small disk can be had here")
    return enter


@pytest.mark.parametrize("name", ONE_EACH)
def test_a_full_disk_costs_what_does_not_fit_and_goes_on_when_there_is_room(
    name: str, tmp_path: Path, small_disk: tuple[str, ...]
) -> None:
    room = str(ROOM.get(name, 150_000))
    with ended(child(FILLING, str(tmp_path), name, room, before=(*small_disk, str(tmp_path)))) as program:
        stdout, stderr = program.communicate(timeout=150)
    assert (program.returncode, stderr) == (0, "")
    message, count = stdout.splitlines()
    assert message.startswith((f"the disk of {tmp_path / name} is full", f"{tmp_path / name} cannot "))
    assert "disk" in message
    assert int(count) > 10


@contextlib.contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Let the system refuse every file that grows beyond a size."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _fill(sink: Sink, accepted: list[list[Sample]]) -> None:
    for number in range(2000):
        sink.write(batch(number))
        accepted.append(batch(number))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize("name", ["run.csv", "run.csv.gz", "run.jsonl", "run.sqlite"])
def test_a_file_that_may_not_grow_keeps_what_it_has_and_closing_reports_the_loss(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    sink = open_sink(path, flush_s=0, fsync_s=None)
    accepted: list[list[Sample]] = []
    with no_file_larger_than(1500 if name.endswith("gz") else 40_000):
        with pytest.raises(ServomexSinkWriteError, match=re.escape(str(path))):
            _fill(sink, accepted)
        assert list(load(path)) == joined(accepted)
        sink._flush_s = 1000  # type: ignore[attr-defined]
        late = [batch(1000 + number) for number in range(40)]  # more than fits by chance where fewer did not
        for samples in late:
            sink.write(samples)
        lost = len(joined(late))
        with pytest.raises(
            ServomexSinkWriteError, match=f"The last {lost} rows are lost; those before them are in"
        ):
            sink.close()
        sink.close()
    assert list(load(path)) == joined(accepted)
    more = write(path, [batch(3)], append=True)
    assert list(load(path)) == joined(accepted) + more
