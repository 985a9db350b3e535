"""The continuous frame: how long one takes to parse, and how fast a stream is cut into frames."""

import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence

import attrs

from servomex import Frame, ServomexParseError
from servomex.telegram import FrameSplitter, parse_frame
from tests.benchmarks.figures import Goal, Result, figure
from tests.benchmarks.machine import Settings
from tests.benchmarks.peers import split_and_build
from tests.benchmarks.samples import CHANNELS, START, broadcasts, damaged, varied

FRAMES = 200
VARIED_FRAMES = 2000
STEADY = Goal(0.35)
VARIED = Goal(0.45)
STREAM_FRAMES = 1000
CHUNKS = (16, 4096)
"""Bytes at once: what a serial port hands out, and what a file or a full buffer does."""


def parse(settings: Settings) -> Iterator[Result]:
    """Parse frames, beside a parser that splits and builds, and refuse damaged ones.

    In the steady ones little changes from each to the next, as on a quiet line. In the varied ones every value and
    state does, and there are more of both than are remembered.
    """
    rounds = settings.choose(60, 3)
    for name, messages, goal in _kinds():
        frames = [message.rstrip(b"\r\n") for message in messages]
        _check_same(frames)
        settings.say(name)
        pieces = [frames[start : start + FRAMES] for start in range(0, len(frames), FRAMES)]
        pairs = [
            (_microseconds(parse_frame, piece), _microseconds(split_and_build, piece))
            for piece in itertools.islice(itertools.cycle(pieces), rounds)
        ]
        ours, others = zip(*pairs, strict=True)
        yield figure(f"{name}, servomex", "µs", ours)
        yield figure(f"{name}, split and build", "µs", others)
        yield figure(f"{name}, ratio of the two", "", [mine / other for mine, other in pairs], goal=goal)
        yield figure(f"{name}, servomex, a second", "frames", [1e6 / item for item in ours])
    frames = [message.rstrip(b"\r\n") for message in broadcasts(FRAMES, CHANNELS[10])]
    broken = [frame[:100] + bytes([frame[100] ^ 1]) + frame[101:] for frame in frames]
    yield figure("10 channels, damaged and refused", "µs", [_microseconds(_refuse, broken) for _ in range(rounds)])


def _kinds() -> Iterator[tuple[str, list[bytes], Goal | None]]:
    for count, channels in CHANNELS.items():
        yield f"{count} channels", broadcasts(FRAMES, channels), STEADY if count == 5 else None
    yield "5 channels, all varied", varied(VARIED_FRAMES, CHANNELS[5]), VARIED


def _check_same(frames: Sequence[bytes]) -> None:
    """Make sure that both parsers do the same work."""
    for raw in frames:
        if _timeless(parse_frame(raw)) != _timeless(split_and_build(raw)):
            raise RuntimeError(f"the two parsers make different frames of {raw!r}")


def _timeless(frame: Frame) -> object:
    return [attrs.evolve(item, received_at=START, monotonic_ns=0) for item in frame], frame.analyser, frame.raw


def _refuse(raw: bytes) -> None:
    try:
        parse_frame(raw)
    except ServomexParseError:
        return
    raise RuntimeError(f"a damaged frame was taken for a good one: {raw!r}")


def _microseconds(parser: Callable[[bytes], object], frames: Sequence[bytes]) -> float:
    begun = time.perf_counter()
    for frame in frames:
        parser(frame)
    return 1e6 * (time.perf_counter() - begun) / len(frames)


def split(settings: Settings) -> Iterator[Result]:
    """Cut streams into frames: good ones, damaged ones, and noise that never ends a line."""
    rounds = settings.choose(20, 2)
    good = broadcasts(STREAM_FRAMES)
    streams = {
        "good frames": b"".join(good),
        "3 of 10 frames damaged": b"".join(damaged(good, 0.1)),
        "noise without line ends": _noise(200_000),
        "headers without frames": good[0][:34] * 3000,
    }
    for name, stream in streams.items():
        for size in CHUNKS:
            settings.say(f"{name}, {size} bytes at once")
            values = [_megabytes(stream, size, name) for _ in range(rounds)]
            yield figure(f"{name}, {size} at once", "MB/s", values)
    values = [_lines_per_second(streams["good frames"]) for _ in range(rounds)]
    yield figure("good frames, split at line ends, 4096 at once", "MB/s", values)


def _noise(size: int) -> bytes:
    return random.Random(0).randbytes(size).replace(b"\n", b"n")


def _megabytes(stream: bytes, size: int, name: str) -> float:
    splitter, pieces = FrameSplitter(), 0
    begun = time.perf_counter()
    for start in range(0, len(stream), size):
        pieces += len(splitter.feed(stream[start : start + size]))
    passed = time.perf_counter() - begun
    if name == "good frames" and pieces != STREAM_FRAMES:
        raise RuntimeError(f"{pieces} frames came out of {STREAM_FRAMES}")
    return len(stream) / passed / 1e6


def _lines_per_second(stream: bytes) -> float:
    """Do what the simplest splitter does: keep the rest behind the last line end."""
    lines, rest = 0, b""
    begun = time.perf_counter()
    for start in range(0, len(stream), CHUNKS[-1]):
        *whole, rest = (rest + stream[start : start + CHUNKS[-1]]).split(b"\n")
        lines += len(whole)
    passed = time.perf_counter() - begun
    if lines != STREAM_FRAMES:
        raise RuntimeError(f"{lines} lines came out of {STREAM_FRAMES} frames")
    return len(stream) / passed / 1e6
