"""``sim://NAME?...``: virtual analysers, and recordings to replay, by URL.

NAME is ``4100`` (the bench 4100D, with the constant values of its capture), ``moving`` (the same with values that
move and an alarm), ``foreign`` (another instrument, which the driver must refuse; its unassigned registers are 0)
or ``foreign02`` (the same, which refuses them), or the name of a :class:`VirtualLine` of this process. Options of
all but the last:

* ``mode``: ``modbus_rtu`` (default), ``modbus_ascii`` or ``continuous``
* ``address``: slave address, 1 to 247; default 1
* ``period``: seconds between broadcasts; default 2
* ``baudrate``: the analyser's; a port that is opened at another one gets garbage. Default: whatever the port has
* ``pace``: ``1`` makes every byte take its real time
* ``cal``: seconds that an autocalibration spends on each gas; default 5
* ``fault``: faults with their numbers, such as ``late:0.3,drop:0.1``, see :class:`Faults`
* ``seed``: makes the faults repeatable

``sim://replay`` replays a wire trace or a capture, see :class:`ReplayLine`. Its options:

* ``file``: the file; percent-encode what has a meaning in a URL (``%``, ``&``, ``#``), see :func:`replay_url`
* ``speed``: how many times as fast; 0 for as fast as it is read; default 1
* ``period``: seconds between the broadcasts of a capture; default: as their clocks show
* ``loop``: ``1`` begins again at the end
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote, urlsplit

from servomex.errors import ServomexValidationError
from servomex.errors.excerpts import shown
from servomex.errors.validation import seconds
from servomex.simulator.channels import VirtualChannel, capture_channels, moving_channels
from servomex.simulator.device import VirtualAnalyzer
from servomex.simulator.faults import LINE_FAULTS, Faults, parse_faults
from servomex.simulator.foreign import ForeignInstrument
from servomex.simulator.line import VirtualLine, named_line
from servomex.simulator.playback import LONGEST_PERIOD_S, load_recording
from servomex.simulator.replay import ReplayLine, replay_line


def _analyser(channels: Callable[[], list[VirtualChannel]], **options: Any) -> VirtualAnalyzer:
    return VirtualAnalyzer(channels(), **options)


PRESETS: dict[str, Callable[[], list[VirtualChannel]]] = {"4100": capture_channels, "moving": moving_channels}
_MAKERS: dict[str, Callable[..., VirtualAnalyzer]] = {
    **{name: partial(_analyser, channels) for name, channels in PRESETS.items()},
    "foreign": ForeignInstrument,
    "foreign02": partial(ForeignInstrument, refuses_unassigned=True),
}
N = TypeVar("N", int, float)
REPLAY = "replay"
SHORTEST_PERIOD_S = 0.001
_OPTIONS = ("mode", "address", "period", "baudrate", "pace", "cal", "fault", "seed")
_REPLAY_OPTIONS = ("file", "speed", "period", "loop")


def build_line(
    preset: str = "4100",
    *,
    mode: str = "modbus_rtu",
    address: int = 1,
    period: float = 2.0,
    baudrate: int = 19200,
    pace: bool = False,
    cal: float = 5.0,
    faults: list[str] | None = None,
    seed: int = 0,
) -> VirtualLine:
    """Build a line with one analyser on it.

    Raises:
        ServomexValidationError: An option is out of range or unknown.
    """
    if preset not in _MAKERS:
        known = ", ".join(_MAKERS)
        raise ServomexValidationError(f"there is no virtual analyser {preset!r}; there are {known}")
    _check_period(period)
    wanted = parse_faults(faults or [])
    on_line = {name: wanted.pop(name) for name in LINE_FAULTS if name in wanted}
    analyser = _MAKERS[preset](
        mode=mode,
        address=address,
        period=period,
        faults=Faults(**wanted, seed=seed),  # type: ignore[arg-type]
    )
    if 0 < cal < SHORTEST_PERIOD_S:
        raise ServomexValidationError(f"cal must be at least {SHORTEST_PERIOD_S:g} seconds, not {cal!r}")
    analyser.cal_phase_s = seconds(cal, "cal")
    return VirtualLine(
        analyser,
        baudrate=baudrate,
        pace=pace,
        echo=bool(on_line.get("echo")),
        unplug_after=on_line.get("unplug"),
    )


def line_from_url(url: str, host_baudrate: int) -> VirtualLine:
    """Find or build the line of a URL.

    Args:
        url: ``sim://NAME?...``
        host_baudrate: Baud rate of the port that is opened, for analysers whose own was not given.

    Raises:
        ServomexValidationError: The name or an option is unknown, or a value is out of range.
    """
    name, given = _taken_apart(url)
    line = named_line(name)
    options = _known(url, given, _OPTIONS)
    if line is not None:
        if options:
            raise ServomexValidationError(f"{name} lives in this process: it takes no options by URL")
        return line
    return build_line(
        name,
        mode=options.get("mode", "modbus_rtu"),
        address=_number(options.get("address", "1"), int, "address"),
        period=_number(options.get("period", "2"), float, "period"),
        baudrate=_number(options.get("baudrate", str(host_baudrate)), int, "baudrate"),
        pace=_switch(options.get("pace", "0"), "pace"),
        cal=_number(options.get("cal", "5"), float, "cal"),
        faults=[spec for spec in options.get("fault", "").split(",") if spec],
        seed=_number(options.get("seed", "0"), int, "seed"),
    )


def replay_url(path: str, speed: float = 1.0) -> str:
    """Return the URL that replays a file, whatever characters its name has."""
    return f"sim://{REPLAY}?file={quote(path)}" + (f"&speed={speed:g}" if speed != 1 else "")


def replay_from_url(url: str) -> ReplayLine | None:
    """Find or build the line that replays the recording of a URL; ``None`` when it is not one.

    A line whose port was lost is found again, so that it continues after the loss.

    Raises:
        ServomexConfigurationError: The file cannot be read or is not a recording.
        ServomexValidationError: An option is unknown, or a value is out of range.
    """
    line = replay_line(url)
    if urlsplit(url).netloc != REPLAY or (line is not None and line.waits):
        return line
    _, given = _taken_apart(url)
    options = _known(url, given, _REPLAY_OPTIONS)
    if not options.get("file"):
        raise ServomexValidationError(f"{url} names no file: sim://{REPLAY}?file=PATH")
    period = _number(options["period"], float, "period") if "period" in options else None
    if period is not None:
        _check_period(period)
    return ReplayLine(
        load_recording(options["file"], period),
        speed=_number(options.get("speed", "1"), float, "speed"),
        loop=_switch(options.get("loop", "0"), "loop"),
        url=url,
    )


def _taken_apart(url: str) -> tuple[str, dict[str, str]]:
    """Return the name and the options of a URL. A plus is not read as a space: file names have them."""
    parts = urlsplit(url)
    if parts.path or parts.fragment:
        raise ServomexValidationError(f"{url} has more than a name and options: sim://NAME?option=value&...")
    given = parse_qs(parts.query.replace("+", "%2B"), keep_blank_values=True)
    return parts.netloc, {key: values[-1] for key, values in given.items()}


def _known(url: str, options: dict[str, str], known: tuple[str, ...]) -> dict[str, str]:
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ServomexValidationError(f"unknown option {unknown[0]!r} of {url}; known are {', '.join(known)}")
    return options


def _check_period(period: float) -> None:
    """Refuse broadcasts without a pause, or so rare that none would ever arrive; 0 is for none.

    Raises:
        ServomexValidationError: The period is out of range.
    """
    if 0 < period < SHORTEST_PERIOD_S or period > LONGEST_PERIOD_S:
        raise ServomexValidationError(
            f"period must be from {SHORTEST_PERIOD_S:g} to {LONGEST_PERIOD_S:g} seconds, not {period!r}"
        )


def _switch(text: str, what: str) -> bool:
    if text not in ("0", "1"):
        raise ServomexValidationError(f"{what} must be 1 or 0, not {text!r}")
    return text == "1"


def _number(text: str, kind: Callable[[str], N], what: str) -> N:
    try:
        return kind(text)
    except ValueError:
        raise ServomexValidationError(f"{what} must be a number, not {shown(text)}") from None
