"""Frames to parse, to send and to write: with values, clocks and states that differ from one to the next."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import attrs

from servomex import ChannelId, ChannelKind, ChannelStatus, Frame, Reading
from servomex.models.sample import Sample
from servomex.simulator import VirtualAnalyzer, VirtualChannel, constant
from servomex.telegram import format_frame

BENCH = "I1 I2 I3 E1 E2"
CHANNELS = {5: BENCH, 7: "I1 I2 I3 I4 D1 E1 E2", 10: "I1 I2 I3 I4 D1 D2 D3 D4 E1 E2"}
START = datetime(2026, 3, 1, 12, 30, 45, tzinfo=UTC)
NAMES = ("Oxygen", "CO", "CO2", "NO", "SO2", "CH4", "N2O", "Ar")


def analyser_with(channels: str) -> VirtualAnalyzer:
    """An analyser that populates these channels."""
    names = iter(NAMES)
    return VirtualAnalyzer(
        [
            VirtualChannel(ChannelId(item), "" if item[0] == "E" else next(names), "%", constant(20.376))
            for item in channels.split()
        ],
        mode="continuous",
    )


def numbered_frames(count: int, channels: str = BENCH, *, period_s: float = 2.0) -> list[Frame]:
    """Give frames of which the first channel measures their number, from 0.001 on, and a clock that runs on."""
    pattern = analyser_with(channels).frame()
    return [_numbered(pattern, number, number * period_s) for number in range(1, count + 1)]


def _numbered(pattern: Frame, number: int, after_s: float) -> Frame:
    moment = START + timedelta(seconds=after_s)
    first, *others = pattern.readings
    status = ChannelStatus(alarms=(number % 3 == 0, False, False, False), maintenance=number % 5 == 0)
    readings = [
        attrs.evolve(first, value=number / 1000),
        *(attrs.evolve(item, value=round(20 + number / 1000 - place, 1)) for place, item in enumerate(others)),
    ]
    readings[1] = attrs.evolve(readings[1], status=status)
    ns = round(1e9 * after_s)
    return attrs.evolve(
        pattern,
        readings=tuple(attrs.evolve(item, received_at=moment, monotonic_ns=ns) for item in readings),
        analyser=attrs.evolve(pattern.analyser, clock=moment.replace(tzinfo=None)),
        received_at=moment,
        monotonic_ns=ns,
    )


def broadcasts(count: int, channels: str = BENCH) -> list[bytes]:
    """Give such frames as they are broadcast, CR LF included."""
    return [format_frame(frame) for frame in numbered_frames(count, channels)]


def varied(count: int, channels: str = BENCH, seed: int = 0) -> list[bytes]:
    """Return broadcasts in which every value and every state changes at random from each to the next."""
    chance = random.Random(seed)

    def raised() -> bool:
        return chance.random() < 0.5

    def changed(reading: Reading) -> Reading:
        status = ChannelStatus(
            fault=reading.kind is not ChannelKind.EXTERNAL_INPUT and raised(),
            maintenance=raised(),
            calibrating=raised(),
            warming_up=raised(),
            alarms=(raised(), raised(), raised(), raised()),
        )
        return attrs.evolve(reading, value=round(chance.uniform(0, 99), 3), status=status)

    frames = numbered_frames(count, channels)
    return [format_frame(attrs.evolve(item, readings=tuple(map(changed, item)))) for item in frames]


def damaged(messages: Sequence[bytes], share: float, seed: int = 0) -> list[bytes]:
    """Change one byte of so many of these messages, drop a byte of as many, and put noise before as many."""
    chance = random.Random(seed)
    found = []
    for message in messages:
        place, kind = chance.randrange(1, len(message) - 2), chance.random()
        if kind < share:
            message = message[:place] + bytes([message[place] ^ 1]) + message[place + 1 :]
        elif kind < 2 * share:
            message = message[:place] + message[place + 1 :]
        elif kind < 3 * share:
            message = chance.randbytes(20) + message
        found.append(message)
    return found


def sample_batches(batches: int, size: int) -> list[list[Sample]]:
    """Give samples in batches, five of each frame."""
    samples = [
        sample for frame in numbered_frames(-(-batches * size // 5)) for sample in frame.as_samples(device="rig")
    ]
    return [samples[number * size : (number + 1) * size] for number in range(batches)]
