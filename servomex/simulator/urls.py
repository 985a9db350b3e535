"""``sim://NAME?...``: virtual analysers by URL.

NAME is ``4100`` (the bench 4100D, with the constant values of its capture), ``moving`` (the same with values that
move and an alarm), or the name of a :class:`VirtualLine` of this process. Options of the first two:

* ``mode``: ``modbus_rtu`` (default), ``modbus_ascii`` or ``continuous``
* ``address``: slave address, 1 to 247; default 1
* ``period``: seconds between broadcasts; default 2
* ``baudrate``: the analyser's; a port that is opened at another one gets garbage. Default: whatever the port has
* ``pace``: ``1`` lets every byte take its time
* ``cal``: seconds that an autocalibration spends on each gas; default 5
* ``fault``: faults with their numbers, such as ``late:0.3,drop:0.1``, see :class:`Faults`
* ``seed``: makes the faults repeatable
"""

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

from servomex.errors import ServomexValidationError
from servomex.simulator.channels import VirtualChannel, capture_channels, moving_channels
from servomex.simulator.device import VirtualAnalyzer
from servomex.simulator.faults import LINE_FAULTS, Faults, parse_faults
from servomex.simulator.line import VirtualLine, named_line
from servomex.validation import seconds

PRESETS: dict[str, Callable[[], list[VirtualChannel]]] = {"4100": capture_channels, "moving": moving_channels}
N = TypeVar("N", int, float)
_OPTIONS = ("mode", "address", "period", "baudrate", "pace", "cal", "fault", "seed")


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
    if preset not in PRESETS:
        raise ServomexValidationError(f"there is no virtual analyser {preset!r}; there are {', '.join(PRESETS)}")
    wanted = parse_faults(faults or [])
    on_line = {name: wanted.pop(name) for name in LINE_FAULTS if name in wanted}
    analyser = VirtualAnalyzer(
        PRESETS[preset](),
        mode=mode,
        address=address,
        period=period,
        faults=Faults(**wanted, seed=seed),  # type: ignore[arg-type]
    )
    analyser.cal_phase_s = seconds(cal, "cal")
    return VirtualLine(
        analyser,
        baudrate=baudrate,
        pace=pace,
        echo=bool(on_line.get("echo")),
        unplug_after=on_line.get("unplug"),
    )


def line_from_url(url: str, host_baudrate: int) -> VirtualLine:
    """Find or build the line that a URL means.

    Args:
        url: ``sim://NAME?...``
        host_baudrate: Baud rate of the port that is opened, for analysers whose own was not given.

    Raises:
        ServomexValidationError: The name or an option is unknown, or a value is out of range.
    """
    parts = urlsplit(url)
    name = parts.netloc
    if parts.path or parts.fragment:
        raise ServomexValidationError(f"{url} has more than a name and options: sim://NAME?option=value&...")
    line = named_line(name)
    options = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise ServomexValidationError(f"unknown option {unknown[0]!r} of {url}; known are {', '.join(_OPTIONS)}")
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


def _switch(text: str, what: str) -> bool:
    if text not in ("0", "1"):
        raise ServomexValidationError(f"{what} is 1 or 0, not {text!r}")
    return text == "1"


def _number(text: str, kind: Callable[[str], N], what: str) -> N:
    try:
        return kind(text)
    except ValueError:
        raise ServomexValidationError(f"{what} must be a number, not {text!r}") from None
