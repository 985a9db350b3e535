"""Samples to be plotted: an hour with calibration, alarms, an outage, a pause, a fault and a change of unit."""

import functools
import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from servomex.enums import ChannelId, ProtocolKind
from servomex.errors import ServomexTimeoutError
from servomex.models.analyser import AnalyserStatus, CalGroupState
from servomex.models.reading import ChannelStatus, Reading
from servomex.models.sample import Sample
from servomex.sinks.opening import open_sink
from servomex.units import Unit

BEGIN = datetime(2026, 3, 1, 11, tzinfo=UTC)
HOUR = 3600
WARMING_UP = (0, 240)
CALIBRATING = (600, 900)
ALARM_1, ALARM_2 = (1200, 1320), (2700, 2760)
OUTAGE = (1800, 1980)
PAUSE = (2100, 2160)
IN_PERCENT = (2400, 3600)
MAINTENANCE = (3000, 3200)
FAULT = (3300, 3360)
"""When, in seconds from the beginning."""
SPIKE = 1500
"""When the oxygen is 25 %, for one reading."""


def during(second: float, span: tuple[int, int]) -> bool:
    return span[0] <= second < span[1]


def reading(
    second: float,
    channel: str,
    value: float | None,
    unit: str = "%",
    *,
    name: str | None = "Oxygen",
    status: ChannelStatus = ChannelStatus(),  # noqa: B008 (it is frozen)
) -> Reading:
    """Give a reading so many seconds after the beginning."""
    known = ChannelId(channel) if channel in set(ChannelId) else channel
    moment, ns = BEGIN + timedelta(seconds=second), round(second * 1e9)
    return Reading(known, name, value, Unit.coerce(unit), unit, status, ProtocolKind.MODBUS_RTU, moment, ns)


def sample(
    second: float,
    its: Reading | None = None,
    *,
    device: str = "rig A",
    analyser: AnalyserStatus | None = None,
) -> Sample:
    """Give a sample; without a reading, one that failed."""
    moment, ns = BEGIN + timedelta(seconds=second), round(second * 1e9)
    error = None if its else ServomexTimeoutError("no reply")
    return Sample(device, ProtocolKind.MODBUS_RTU, moment, ns, its, analyser, error=error)


def course(values: Iterable[float | None], *, every: float = 1.0, channel: str = "I1") -> list[Sample]:
    """Give the samples of one channel at regular intervals; NaN is a failed reading."""
    return [
        sample(n * every, None if value is not None and math.isnan(value) else reading(n * every, channel, value))
        for n, value in enumerate(values)
    ]


def oxygen(second: int) -> float:
    if second == SPIKE:
        return 25.0
    if during(second, CALIBRATING):
        return 4.0 if second < sum(CALIBRATING) / 2 else 20.95
    return round(20.9 + 0.2 * math.sin(second / 200), 3)


def carbon_monoxide(second: int) -> float:
    """Give the value in vpm."""
    return round(120 + 40 * math.sin(second / 300), 2)


def frame(second: int, device: str) -> Iterator[Sample]:
    """Give the samples of one second."""
    calibrating = during(second, CALIBRATING)
    maintenance, fault = during(second, MAINTENANCE), during(second, FAULT)
    groups = tuple(CalGroupState(number, calibrating and number == 1, 1) for number in range(1, 5))
    analyser = AnalyserStatus(fault=fault, maintenance=maintenance, cal_groups=groups)
    alarms = (during(second, ALARM_1), during(second, ALARM_2), False, False)
    status = ChannelStatus(
        calibrating=calibrating, warming_up=during(second, WARMING_UP), maintenance=maintenance, alarms=alarms
    )
    vpm = carbon_monoxide(second)
    value, unit = (round(vpm / 10_000, 6), "%") if during(second, IN_PERCENT) else (vpm, "vpm")
    for its in (
        reading(second, "I1", oxygen(second), status=status),
        reading(second, "I2", None if fault else value, unit, name="CO", status=ChannelStatus(fault=fault)),
        reading(second, "I3", round(5 + math.cos(second / 150), 2), name="CO₂"),
        reading(second, "E1", round(4 + second / 300, 3), "mA", name=None),
    ):
        yield sample(second, its, device=device, analyser=analyser)


@functools.cache
def hour(device: str = "rig A") -> tuple[Sample, ...]:
    """Give an hour at 1 Hz."""
    found: list[Sample] = []
    for second in range(HOUR):
        if during(second, OUTAGE):
            found += [sample(second, device=device)] if second % 5 == 0 else []
        elif not during(second, PAUSE):
            found += frame(second, device)
    return tuple(found)


def written(path: Path, samples: Iterable[Sample]) -> Path:
    """Write a recording."""
    with open_sink(path) as sink:
        sink.write(list(samples))
    return path
