"""What is done in an episode of the new kinds: a scene. All of it follows from the seed and the number."""

from collections.abc import Callable
from random import Random

import attrs

from tests.faults.crowd import Between
from tests.faults.line import CLEAN, Mix
from tests.faults.plan import Event

MIXTURES = (
    ("mixed", "mixed", "follows", "subscribes", "records"),
    ("mixed", "mixed", "snapshots", "subscribes"),
    ("mixed",),
    ("single", "mixed"),
    ("frames", "channels", "follows"),
)
OTHERS = (("parts",), ("parts",), ("parts", "parts"), ("parts", "follows"), *MIXTURES)
"""Where a reply may be another's: mostly calls whose last reply has nothing behind it that could show that."""
LASTS_S = 8.0
QUICK_S = 2.5
BEGINS_S = 1.5
"""What a process needs to begin."""
FROZEN_S = 7.0
MODBUS = ("modbus_rtu", "modbus_ascii")


@attrs.frozen
class Scene:
    """One episode of a new kind.

    Attributes:
        seed: Of the campaign.
        number: Of the episode.
        kind: What it is about, one of ``KINDS``.
        mode: Of the analyser.
        port: ``sim``, ``pty`` or ``tcp``.
        channels: Which channels the analyser has.
        wanted: The channels that the driver is asked to read; all when empty.
        gap: Seconds before each request.
        period: Seconds between broadcasts.
        timeout: Of all calls; ``None`` for the driver's own.
        retries: Of reads.
        users: What each thread does, see ``MixedReaders``.
        clients: How many copies of the driver read, by a serial server.
        between: What is between them and the analyser.
        mix: What goes wrong on the line besides.
        master_s: Seconds between the requests of another master; 0 for none.
        asks: What that asks, see ``crowd.request``.
        heard: Whether the driver hears its requests as well.
        zeros: Whether another master writes zeros to the coils every 50 ms.
        clears: Whether coils go back to 0 by themselves.
        process: Whether the driver is in another process: ``stop``, ``sleep`` or ``fork``; empty when it is not.
        lasts: Seconds.
        events: What happens, see ``Rig``.
    """

    seed: str
    number: int
    kind: str
    mode: str
    port: str
    channels: tuple[str, ...]
    wanted: tuple[str, ...]
    gap: float
    period: float
    timeout: float | None
    retries: int
    users: tuple[str, ...]
    lasts: float
    clients: int = 1
    between: Between = Between()  # noqa: RUF009 (it is immutable)
    mix: Mix = CLEAN
    master_s: float = 0.0
    asks: str = ""
    heard: bool = False
    zeros: bool = False
    clears: bool = False
    process: str = ""
    events: tuple[Event, ...] = ()

    def __str__(self) -> str:
        parts = [
            f"{self.kind}: {self.mode} on {self.port}, {' '.join(self.channels)}",
            f"gap {self.gap}, period {self.period}, timeout {self.timeout}, retries {self.retries}",
            f"users {' '.join(self.users)}, clients {self.clients}",
            f"between: {self.between}; line: {self.mix}",
        ]
        if self.wanted:
            parts.append(f"only {' '.join(self.wanted)}")
        if self.master_s:
            parts.append(
                f"another master asks {self.asks} every {self.master_s:g} s, requests heard: {self.heard}"
            )
        if self.zeros or self.clears:
            parts.append(f"zeros written: {self.zeros}, coils clear themselves: {self.clears}")
        return "; ".join(parts)


def make_scene(
    seed: str, number: int, *, pty: bool, sleeps: bool, quick: bool = False, kind: str | None = None
) -> Scene:
    """Draw an episode.

    Args:
        seed: Of the campaign.
        number: Of the episode.
        pty: Whether there are pseudo-terminals here.
        sleeps: Whether the sleep of a computer can be played here.
        quick: A short one.
        kind: Of this kind alone; they come in turn when ``None``.
    """
    kinds = possible_kinds(pty=pty, sleeps=sleeps)
    kind = kind or kinds[number % len(kinds)]
    dice = Random(f"new:{seed}:{number}")
    more = dice.sample(["I3", "I4", "D1", "D2", "D3", "D4"], dice.randint(0, 5))
    scene = Scene(
        seed,
        number,
        kind,
        dice.choice(MODBUS),
        dice.choice(("sim", "tcp", "pty") if pty else ("sim", "tcp")),
        tuple(sorted(["I1", "I2", *more])),
        (),
        dice.choice((0.003, 0.01, 0.05)),
        dice.choice((0.1, 0.2, 0.3)),
        dice.choice((None, 0.5, 1.0, 2.0)),
        dice.choice((0, 1, 2, 2, 2)),
        dice.choice(MIXTURES),
        QUICK_S if quick else LASTS_S,
    )
    return KINDS[kind](scene, dice)


def possible_kinds(*, pty: bool, sleeps: bool) -> list[str]:
    """The kinds that can be played here, in the order in which they come."""
    missing = {*(() if pty else ("stopped process", "fork")), *(() if sleeps else ("system sleep",))}
    return [kind for kind in KINDS if kind not in missing]


def _second_master(scene: Scene, dice: Random) -> Scene:
    """Let another master ask the same analyser; it queues requests, or is deaf while it is busy."""
    return attrs.evolve(
        scene,
        users=dice.choice(OTHERS),
        between=Between(turnaround=dice.choice((0.005, 0.02, 0.05)), deaf=dice.random() < 0.4),
        master_s=dice.choice((0.25, 0.25, 1.0)),
        asks=dice.choice(("block", "all", "state", "analyser", "states", "coils", "mixed", "mixed")),
        heard=dice.random() < 0.4,
    )


def _second_client(scene: Scene, dice: Random) -> Scene:
    """Let two copies of this driver read by one serial server, which gives every reply to both."""
    between = Between(turnaround=dice.choice((0.01, 0.03)))
    return attrs.evolve(scene, port="tcp", clients=2, between=between, users=dice.choice(OTHERS[:4]))


def _coil_writer(scene: Scene, dice: Random) -> Scene:
    """Let somebody else bring the coils back to 0 while gas is started and stopped."""
    zeros = dice.random() < 0.7
    mix = Mix(drop=0.1, late=0.05) if dice.random() < 0.25 else CLEAN
    return attrs.evolve(
        scene,
        users=dice.choice((("calibrations",), ("calibrations", "mixed"))),
        zeros=zeros,
        clears=not zeros or dice.random() < 0.3,
        timeout=None,
        retries=2,
        mix=mix,
        lasts=1.5 * scene.lasts,
    )


def _late_duplicates(scene: Scene, dice: Random) -> Scene:
    """Let replies come twice, the second time much later."""
    chance, again_s = dice.choice((0.05, 0.2, 0.5)), dice.choice(((0.05, 0.3), (0.05, 3.0)))
    between = Between(turnaround=0.005, again=chance, again_s=again_s)
    return attrs.evolve(scene, between=between, users=dice.choice(OTHERS))


def _gateway_exceptions(scene: Scene, dice: Random) -> Scene:
    """Let a gateway answer with exception 0A or 0B, and pass the reply on when it comes at last."""
    late_s = dice.choice(((0.02, 0.3), (0.1, 1.5)))
    between = Between(turnaround=0.01, gives_up=dice.choice((0.1, 0.3)), late_s=late_s)
    return attrs.evolve(scene, between=between, users=dice.choice(OTHERS))


def _caching_gateway(scene: Scene, dice: Random) -> Scene:
    """Let a gateway answer from its memory: to another request, or to an equal one."""
    replay, cache = dice.choice(((0.1, 0.0), (0.3, 0.0), (0.0, 0.2)))
    between = Between(turnaround=0.005, replay=replay, cache=cache)
    return attrs.evolve(scene, between=between, users=dice.choice(OTHERS))


def _gateway_loopback(scene: Scene, dice: Random) -> Scene:
    """Let a gateway answer function 08 itself, at once, whatever of the analyser's is still on its way.

    It is on the network, as gateways are: there the driver does not rely on function 08 alone.
    """
    late_s = dice.choice(((0.05, 0.5), (0.2, 1.5)))
    between = Between(turnaround=0.01, loopback=dice.choice((0.05, 0.2)), late_s=late_s)
    return attrs.evolve(scene, port="tcp", between=between, users=dice.choice(OTHERS))


def _stall(scene: Scene, dice: Random) -> Scene:
    """Let the network stand still, and give all at once afterwards."""
    scene = attrs.evolve(scene, mode=dice.choice(("continuous", "continuous", *MODBUS)))
    return attrs.evolve(scene, events=_times(scene, dice, "stall", (0.5, 1.5, 4.0, 6.0)))


def _stopped_process(scene: Scene, dice: Random) -> Scene:
    """Let the process of the driver be stopped and go on."""
    scene = attrs.evolve(_in_process(scene, dice, "stop"), mode=dice.choice(("continuous", "continuous", *MODBUS)))
    flood = dice.random() < 0.5
    return attrs.evolve(scene, events=_times(scene, dice, "flood" if flood else "stop", (0.5, 1.5, 5.0)))


def _system_sleep(scene: Scene, dice: Random) -> Scene:
    """Let the computer of the driver sleep: its monotonic clock stands still, its other clocks go on."""
    scene = attrs.evolve(_in_process(scene, dice, "sleep"), mode=dice.choice(("continuous", *MODBUS)))
    return attrs.evolve(scene, events=_times(scene, dice, "stop", (0.3, 1.5, 5.0)))


def _fork(scene: Scene, dice: Random) -> Scene:
    """Let the process of the driver fork, and let the child read on."""
    return attrs.evolve(_in_process(scene, dice, "fork"), mode=dice.choice(("continuous", *MODBUS)))


def _in_process(scene: Scene, dice: Random, process: str) -> Scene:
    return attrs.evolve(
        scene,
        port="tcp" if scene.port == "sim" else scene.port,
        process=process,
        users=dice.choice(MIXTURES),
        between=Between(turnaround=0.02),
        lasts=scene.lasts + BEGINS_S,
    )


def _times(scene: Scene, dice: Random, what: str, lengths: tuple[float, ...]) -> tuple[Event, ...]:
    """Let something happen again and again, each time for a while."""
    events: list[Event] = []
    at = dice.uniform(0.5, 1.0) + (BEGINS_S if scene.process else 0.0)
    while at < scene.lasts - 1.0:
        lasts_s = min(dice.choice(lengths), scene.lasts - 1.0)
        events.append(Event(at, what, (lasts_s,)))
        at += lasts_s + dice.uniform(1.0, 2.0)
    return tuple(events)


def _names(scene: Scene, dice: Random) -> Scene:
    """Let channels lose their names, with alarms that stay, and get them again."""
    mode = dice.choice(("continuous", *MODBUS))
    wanted = ("I1",) if dice.random() < 0.3 else ()
    events: list[Event] = []
    at = 1.0
    while at < scene.lasts - 0.5:
        channel = dice.choice(wanted or scene.channels)
        events.append(Event(at, "alarm", (channel,)))
        events.append(Event(at + 0.2, "name", (channel, "")))
        at += dice.uniform(0.8, 1.5)
        events.append(Event(at, "name", (channel, dice.choice(("NO", "Oxygen", "gas x")))))
        at += dice.uniform(0.4, 1.0)
    return attrs.evolve(scene, mode=mode, wanted=wanted, events=tuple(events))


def _units(scene: Scene, dice: Random) -> Scene:
    """Let units be changed at the panel, often."""
    mode = dice.choice(("continuous", *MODBUS))
    units = ("%", "vpm", "ppm", "g/L")
    events = [
        Event(dice.uniform(0.5, scene.lasts), "unit", (dice.choice(scene.channels), dice.choice(units)))
        for _ in range(int(scene.lasts * 2))
    ]
    return attrs.evolve(scene, mode=mode, events=tuple(sorted(events, key=lambda event: event.at)))


def _two_broadcasters(scene: Scene, dice: Random) -> Scene:
    """Let two analysers broadcast in turn on one line, with clocks that differ, and equal or other labels."""
    labels = dice.choice(("equal", "other"))
    return attrs.evolve(scene, mode="continuous", events=(Event(dice.uniform(0.5, 2.0), "other", (labels,)),))


def _frozen_broadcast(scene: Scene, dice: Random) -> Scene:
    """Let the same broadcast come again and again, its clock included."""
    at = scene.lasts / 2
    events = (Event(at, "freeze", (True,)), Event(at + FROZEN_S, "freeze", (False,)))
    return attrs.evolve(scene, mode="continuous", events=events, lasts=scene.lasts + FROZEN_S)


KINDS: dict[str, Callable[[Scene, Random], Scene]] = {
    "second master": _second_master,
    "second client": _second_client,
    "coil writer": _coil_writer,
    "late duplicates": _late_duplicates,
    "gateway exceptions": _gateway_exceptions,
    "caching gateway": _caching_gateway,
    "gateway loopback": _gateway_loopback,
    "stall": _stall,
    "stopped process": _stopped_process,
    "system sleep": _system_sleep,
    "fork": _fork,
    "names": _names,
    "units": _units,
    "two broadcasters": _two_broadcasters,
    "frozen broadcast": _frozen_broadcast,
}
