"""What is done in an episode, and when: all of it follows from the seed."""

from random import Random

import attrs

from tests.faults.line import Mix

USERS = (
    ("frames", "channels", "snapshots", "streams", "records"),
    ("frames", "channels", "snapshots"),
    ("single",),
    ("single", "single", "snapshots"),
    ("frames",),
)
MODES = ("modbus_rtu", "modbus_ascii", "continuous")


@attrs.frozen
class Event:
    """Something that happens.

    Attributes:
        at: Seconds from the beginning of the episode.
        what: A method of the stage, see :class:`tests.faults.stage.Stage`.
        args: Its arguments.
    """

    at: float
    what: str
    args: tuple[object, ...] = ()

    def __str__(self) -> str:
        return f"{self.at:.2f} {self.what}{self.args or ''}"


@attrs.frozen
class Plan:
    """One episode.

    Attributes:
        seed: Of the campaign.
        number: Of the episode.
        mode: The mode that the analysers begin in.
        asked: The protocol that they are opened with.
        port: ``sim`` or ``pty``.
        analysers: How many are on the line; more than one are read by a manager.
        channels: Which channels each has.
        baudrate: Of the line.
        pace: Whether bytes take their time.
        gap: Seconds before each request.
        period: Seconds between broadcasts.
        timeout: Of all calls; ``None`` for the driver's own.
        retries: Of reads.
        users: What is done with it by a thread each; where few share the port, replies of one shape follow each
            other, and a late one has the best chance to be taken for the next.
        echo: Whether the adapter echoes at first.
        lasts: Seconds, without what it takes to recover at the end.
        events: What happens.
    """

    seed: str
    number: int
    mode: str
    asked: str
    port: str
    analysers: int
    channels: tuple[str, ...]
    baudrate: int
    pace: bool
    gap: float
    period: float
    timeout: float | None
    retries: int
    users: tuple[str, ...]
    echo: bool
    lasts: float
    events: tuple[Event, ...]

    def __str__(self) -> str:
        return (
            f"{self.mode} opened as {self.asked} on {self.port}, {self.analysers} analysers with "
            f"{' '.join(self.channels)}, {self.baudrate} baud, pace {self.pace}, gap {self.gap}, period "
            f"{self.period}, timeout {self.timeout}, retries {self.retries}, echo {self.echo}, "
            f"users {' '.join(self.users)}"
        )


def make_plan(seed: str, number: int, *, pty: bool, quick: bool = False) -> Plan:
    """Draw an episode.

    Args:
        seed: Of the campaign.
        number: Of the episode.
        pty: Whether there are pseudo-terminals here.
        quick: A short one, with a single time of faults.
    """
    dice = Random(f"{seed}:{number}")
    mode = MODES[number % 3] if dice.random() < 0.8 else dice.choice(MODES)
    continuous = mode == "continuous"
    analysers = 1 if continuous or dice.random() < 0.6 else dice.randint(2, 3)
    more = dice.sample(["I3", "I4", "D1", "D2", "D3", "D4"], dice.randint(0, 5 if not continuous else 4))
    baudrate = dice.choice((19200, 19200, 9600, 2400) if analysers == 1 and not quick else (19200,))
    asked = "auto" if analysers == 1 and dice.random() < 0.25 else mode
    echo = not continuous and dice.random() < 0.15
    events, lasts = _events(dice, continuous, asked, echo, quick)
    return Plan(
        seed,
        number,
        mode,
        asked,
        "pty" if pty and not quick and number % 4 == 3 else "sim",
        analysers,
        tuple(sorted(["I1", "I2", *more])),
        baudrate,
        pace=dice.random() < 0.4 and not quick,
        gap=dice.choice((0.003, 0.01, 0.05)),
        period=dice.choice((0.1, 0.15, 0.3)) if baudrate == 19200 else 1.2 if baudrate == 2400 else 0.5,
        timeout=dice.choice((None, 0.3, 0.5, 1.0, 2.0)),
        retries=dice.choice((0, 1, 2, 2, 2)),
        users=dice.choice(USERS),
        echo=echo,
        lasts=lasts,
        events=events,
    )


def _events(
    dice: Random, continuous: bool, asked: str, echo: bool, quick: bool
) -> tuple[tuple[Event, ...], float]:
    events: list[Event] = []
    at = 0.2 if quick or dice.random() < 0.3 else 1.2
    for _ in range(1 if quick else 3):
        lasts = dice.uniform(0.6, 0.9) if quick else dice.uniform(1.5, 3.5)
        events += _faults(dice, at, at + lasts, continuous, asked, echo)
        at += lasts + (0.6 if quick else dice.uniform(1.5, 3.0))
    events += [_panel(dice, dice.uniform(0.1, at)) for _ in range(int(at * 2.5))]
    return tuple(sorted(events, key=lambda event: event.at)), at


def _faults(dice: Random, since: float, until: float, continuous: bool, asked: str, echo: bool) -> list[Event]:
    """Draw what goes wrong for a while: a mixture on the line, and sometimes something drastic."""
    mix = _mix(dice)
    drastic = dice.choice(("", "", "", "unplug", "power", "mode", "host clock"))
    name = ", ".join(filter(None, (str(mix) if mix != Mix() else "", drastic)))
    events = [Event(since, "fault", (mix, since, until, name or "nothing")), Event(until, "clear")]
    if drastic == "unplug":
        events += [Event(since, "unplug"), Event(until, "plug", (dice.random() < 0.2 if echo else False,))]
    elif drastic == "power":
        events += [Event(since + 0.3, "power", (None,))]
    elif drastic == "mode":
        other = dice.choice(MODES)
        events += [Event(since, "power", (other,)), Event(until, "power", (None if asked == "auto" else "first",))]
    elif drastic == "host clock":
        events += [Event(since, "host_clock", (dice.choice((-86400.0, -3.0, 0.4, 7.0, 3600.0)),))]
    babbles = dice.choice((0, 0, 2, 6))
    events += [
        Event(dice.uniform(since, until), "babble", (dice.randbytes(dice.randint(1, 40)),)) for _ in range(babbles)
    ]
    return events


def _mix(dice: Random) -> Mix:
    severities: dict[str, tuple[float, ...]] = {
        "late": (0.02, 0.1, 0.25, 0.6, 1.2),
        "jitter": (0.05, 0.3, 0.8),
        "drop": (0.1, 0.3, 0.7),
        "damage": (0.1, 0.3, 0.8),
        "noise": (0.2, 0.6),
        "duplicate": (0.2, 0.6),
        "foreign": (0.3, 0.8),
        "gap": (0.005, 0.02),
    }
    names = {*dice.sample([*severities], dice.choice((0, 1, 2, 2, 3, 4))), *dice.choice(((), ("damage",)))}
    chosen = {name: dice.choice(severities[name]) for name in sorted(names)}
    return Mix(**chosen, chunked=dice.random() < 0.2, silent=dice.random() < 0.08)


def _panel(dice: Random, at: float) -> Event:
    """Draw something that somebody does at the analyser's panel, or that happens inside it."""
    which = dice.randrange(3)
    what = dice.choice(("state", "state", "state", "whole", "whole", "unit", "name", "calibrate", "stop", "clock"))
    if what == "state":
        flags = tuple(dice.random() < 0.3 for _ in range(8))
        return Event(at, "state", (which, dice.randrange(12), flags))
    if what == "whole":
        return Event(at, "whole", (which, dice.random() < 0.4, dice.random() < 0.4))
    if what == "unit":
        return Event(at, "unit", (which, dice.randrange(12), dice.choice(("%", "vpm", "ppm", "g/L", "mA"))))
    if what == "name":
        return Event(at, "name", (which, dice.randrange(12), dice.choice(("", "NO", "H2O", "CO₂", "x-y z1"))))
    if what == "calibrate":
        return Event(at, "calibrate", (which, dice.randint(1, 4), dice.choice((0.3, 0.8))))
    if what == "stop":
        return Event(at, "stop", (which,))
    return Event(at, "clock", (which, dice.choice((None, 0.0, -3600.0, 86400.0 * 400))))
