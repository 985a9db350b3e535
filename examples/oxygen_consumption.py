"""Oxygen, CO and CO2 on a common time base, and the heat release rate from the consumption of oxygen.

Gas takes different times through the tubes to each analyser. This records one or several analysers, moves every
course back by the delay of its tube, and gives all of them at the same moments. Between two readings a value is
interpolated only where both are good and near each other: what is missing stays empty.

    python oxygen_consumption.py PORT[,ADDRESS] [PORT[,ADDRESS] ...] --o2 1:I1:12 --co 2:I1:15.5 --co2 2:I2:15.5

``2:I1:15.5`` is channel I1 of the second analyser, whose gas is 15.5 s late. The heat release rate is added with
``--flow``, the mass flow in the exhaust duct in kg/s; see heat_release_kw for the formula and what it assumes.
"""

import argparse
import bisect
import contextlib
import csv
import itertools
import statistics
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TextIO

import servomex

GASES = ("o2", "co", "co2")
KJ_PER_KG_O2 = 13.1e3
"""Heat that one kilogram of oxygen releases, for most organic fuels within 5 %."""


class Tube(NamedTuple):
    """Where a gas is measured, and how long it takes to get there."""

    analyser: int
    channel: str
    delay_s: float


class Point(NamedTuple):
    """A reading at the moment at which its gas was taken; without a value where the reading was not good."""

    at_s: float
    value: float | None


def course(samples: Iterable[servomex.Sample], tube: Tube) -> list[Point]:
    """Return the mole fractions that a channel read, moved back by the delay of its tube.

    A reading that failed, or that is uncertain or bad, is a point without a value.

    Raises:
        ValueError: There is no reading of this channel at all.
    """
    points, seen = [], False
    for sample in samples:
        if sample.device == str(tube.analyser) and sample.channel in (tube.channel, None):
            reading = sample.reading
            good = reading is not None and reading.quality == servomex.Quality.GOOD
            percent = reading.to("%") if reading is not None and good else None
            value = None if percent is None else percent / 100
            points.append(Point(sample.monotonic_ns / 1e9 - tube.delay_s, value))
            seen = seen or reading is not None
    if not seen:
        raise ValueError(f"analyser {tube.analyser} gave no reading of {tube.channel}")
    return sorted(points)


def interpolate(points: list[Point], at_s: float, max_gap_s: float) -> float | None:
    """Return the value between two good neighbours that are at most ``max_gap_s`` apart; ``None`` elsewhere."""
    right = bisect.bisect_left(points, at_s, key=lambda point: point.at_s)
    if right < len(points) and points[right].at_s == at_s:
        return points[right].value
    if right in (0, len(points)):
        return None
    before, after = points[right - 1], points[right]
    if before.value is None or after.value is None or after.at_s - before.at_s > max_gap_s:
        return None
    return before.value + (after.value - before.value) * (at_s - before.at_s) / (after.at_s - before.at_s)


Row = tuple[float, dict[str, float | None]]
"""Seconds since the first row, and the mole fraction of each gas."""


def align(courses: dict[str, list[Point]], step_s: float, max_gap_s: float) -> Iterator[Row]:
    """Return all courses at the same moments, from the first to the last that all of them reach."""
    begin = max(points[0].at_s for points in courses.values())
    end = min(points[-1].at_s for points in courses.values())
    for number in itertools.count():
        at_s = begin + number * step_s
        if at_s > end:
            return
        yield number * step_s, {gas: interpolate(points, at_s, max_gap_s) for gas, points in courses.items()}


class Ambient(NamedTuple):
    """The air before the fire: mole fractions of oxygen and CO2 when dried, and of water in the room."""

    o2: float
    co2: float
    water: float = 0.0


def heat_release_kw(o2: float, co: float, co2: float, flow_kg_s: float, air: Ambient) -> float:
    """Return the heat release rate where O2, CO2 and CO are measured in dried gas.

    This is the equation for all three gases of ASTM E1354 and ISO 5660-1, as derived by Janssens (Fire Technology
    27, 1991): phi is the part of the oxygen that was consumed, 0.172 corrects for carbon that burned to CO only,
    1.105 is the expansion when all oxygen is consumed, 1.10 the ratio of the molar masses of oxygen and air.

    It assumes that water is removed before the analysers and CO2 is not, 13.1 MJ for each kg of oxygen, no CO in
    the air before the fire, no soot that would count, and that ``flow_kg_s`` is that of the whole exhaust.
    """
    phi = (air.o2 * (1 - co2 - co) - o2 * (1 - air.co2)) / (air.o2 * (1 - o2 - co2 - co))
    taken = (phi - 0.172 * (1 - phi) * co / o2) / ((1 - phi) + 1.105 * phi)
    return 1.10 * KJ_PER_KG_O2 * air.o2 * (1 - air.water) * taken * flow_kg_s


def ambient(rows: list[Row], baseline_s: float, water: float) -> Ambient:
    """Take the air before the fire from the first seconds of the table.

    Raises:
        ValueError: No good reading of O2 or of CO2 is in them.
    """
    first = [gases for at_s, gases in rows if at_s < baseline_s]
    o2 = [value for gases in first if (value := gases["o2"]) is not None]
    co2 = [value for gases in first if (value := gases["co2"]) is not None]
    if not o2 or not co2:
        raise ValueError(f"the first {baseline_s:g} s have no good readings of O2 and CO2: no heat release rate")
    return Ambient(statistics.mean(o2), statistics.mean(co2), water)


def heat(gases: dict[str, float | None], flow_kg_s: float, air: Ambient) -> float | None:
    """Return the heat release rate of a row; ``None`` where a gas is missing."""
    o2, co, co2 = (gases[gas] for gas in GASES)
    if o2 is None or co is None or co2 is None or o2 <= 0:
        return None
    return heat_release_kw(o2, co, co2, flow_kg_s, air)


def write(rows: list[Row], file: TextIO, flow_kg_s: float | None, air: Ambient | None) -> None:
    """Write the table as CSV: volume percent, and kilowatts if a flow was given; empty where it is not known."""
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["seconds", *(f"{gas}_percent" for gas in GASES), *(["heat_kw"] if air else [])])
    for at_s, gases in rows:
        values = (gases[gas] for gas in GASES)
        cells = ["" if value is None else f"{100 * value:.4f}" for value in values]
        if air and flow_kg_s is not None:
            kilowatts = heat(gases, flow_kg_s, air)
            cells.append("" if kilowatts is None else f"{kilowatts:.2f}")
        table.writerow([f"{at_s:.2f}", *cells])


def recorded(ports: list[str], seconds: float | None, every_s: float) -> list[servomex.Sample]:
    """Read all analysers for a while; Ctrl-C ends it earlier. They are called 1, 2 and so on."""
    samples: list[servomex.Sample] = []
    with servomex.ServomexManager(error_policy="return") as manager:
        for number, text in enumerate(ports, 1):
            port, _, address = text.rpartition(",") if "," in text else (text, "", "1")
            manager.add(str(number), port, address=int(address))
        with (
            contextlib.suppress(KeyboardInterrupt),
            servomex.record(manager, rate_hz=1 / every_s, duration=seconds) as recording,
        ):
            for batch in recording:
                samples.extend(batch)
    return samples


def tube(text: str) -> Tube:
    """Read ``ANALYSER:CHANNEL:DELAY``."""
    analyser, channel, delay = text.split(":")
    return Tube(int(analyser), servomex.ChannelId(channel.upper()), float(delay))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", help="PORT or PORT,ADDRESS such as /dev/ttyUSB0,2 or sim://moving")
    parser.add_argument("more", nargs="*", metavar="port", help="more analysers")
    for gas, usual in zip(GASES, ("1:I1:0", "1:I2:0", "1:I3:0"), strict=True):
        parser.add_argument(
            f"--{gas}", type=tube, default=usual, metavar="ANALYSER:CHANNEL:DELAY", help=f"default {usual}"
        )
    parser.add_argument("--every", type=float, default=1.0, help="seconds from one reading to the next")
    parser.add_argument("--step", type=float, default=1.0, help="seconds from one row to the next")
    parser.add_argument("--max-gap", type=float, help="seconds between neighbours; 2.5 times --every if omitted")
    parser.add_argument("--seconds", type=float, help="how long; until Ctrl-C when omitted")
    parser.add_argument("--flow", type=float, help="kg/s in the exhaust duct, for the heat release rate")
    parser.add_argument("--baseline", type=float, default=60.0, help="seconds at the beginning without fire")
    parser.add_argument("--water", type=float, default=0.0, help="mole fraction of water in the air of the room")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    max_gap_s = given.max_gap or 2.5 * given.every
    try:
        samples = recorded([given.port, *given.more], given.seconds, given.every)
        courses = {gas: course(samples, getattr(given, gas)) for gas in GASES}
        rows = list(align(courses, given.step, max_gap_s))
        air = None if given.flow is None else ambient(rows, given.baseline, given.water)
    except ValueError as error:  # a ServomexError of a wrong argument is one, too
        print(error, file=sys.stderr)
        return 2
    except servomex.ServomexError as error:
        print(error, file=sys.stderr)
        return 1
    write(rows, sys.stdout, given.flow, air)
    return 0


if __name__ == "__main__":
    sys.exit(main())
