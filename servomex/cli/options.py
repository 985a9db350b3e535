"""The kinds of options: numbers, seconds, and values that may also come from the environment."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click

from servomex.durations import parse_duration, parse_time
from servomex.enums import ProtocolKind
from servomex.errors import ServomexValidationError
from servomex.errors.validation import FASTEST_HZ, rate
from servomex.models.tags import name_of, tags_of

F = TypeVar("F", bound=Callable[..., Any])

LONGEST_S = 1e6
"""The most that an option in seconds may be: more than the 9999 s between broadcasts, and no timer overflows."""
SHORTEST_EVERY_S = 1 / FASTEST_HZ


class _Seconds(click.types.FloatParamType):
    """Seconds: a number, or a text with a unit such as ``500ms``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        try:
            return float(value)
        except ValueError:
            pass
        try:
            return parse_time(value)
        except ServomexValidationError:
            self.fail(f"{value!r} is not a time: write seconds as in 0.5, or a unit as in 500ms or 2m", param, ctx)


class _PerSecond(click.types.FloatParamType):
    """A number of readings per second."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        try:
            return float(value)
        except ValueError:
            self.fail(
                f"{value!r} is not a number of readings per second: write it without a unit, as in 0.5", param, ctx
            )


SECONDS = _Seconds()


MODES = {
    "auto": ProtocolKind.AUTO,
    "continuous": ProtocolKind.CONTINUOUS_ASCII,
    "rtu": ProtocolKind.MODBUS_RTU,
    "ascii": ProtocolKind.MODBUS_ASCII,
    "modbus_rtu": ProtocolKind.MODBUS_RTU,
    "modbus_ascii": ProtocolKind.MODBUS_ASCII,
}
"""The communication modes as they are typed."""
FIXED_MODES = [name for name in MODES if name != "auto"]
"""The modes that can be set on a panel."""


def mode_settings(names: Iterable[str], what: str, default: str) -> dict[str, Any]:
    """Return the declaration of an option that names a communication mode; a command gets a :class:`ProtocolKind`.

    Args:
        names: Those of :data:`MODES` that may be typed, in any case.
        what: What the mode is for; the help adds the names.
        default: The value when it is omitted.
    """
    names = list(names)
    return {
        "type": click.Choice(names, case_sensitive=False),
        "metavar": "MODE",
        "callback": lambda _ctx, _option, value: MODES[value],
        "default": default,
        "show_default": True,
        "help": f"{what}: {', '.join(names)}.",
    }


def whole_settings(
    lowest: int, highest: int, default: int | None, what: str, metavar: str = "N"
) -> dict[str, Any]:
    """Return the declaration of an option that takes a whole number.

    Args:
        lowest: The smallest number that may be typed.
        highest: The largest.
        default: The value when it is omitted.
        what: The help.
        metavar: The placeholder for the number in the help.
    """
    return {
        "type": click.IntRange(lowest, highest),
        "metavar": metavar,
        "default": default,
        "show_default": True,
        "help": what,
    }


ADDRESS = whole_settings(1, 247, 1, "Modbus slave address.")
"""The declaration of ``--address``."""


def format_settings(names: Sequence[str], what: str) -> dict[str, Any]:
    """Return the declaration of an option for the format of the output; the first of the names is the default."""
    return {"type": click.Choice(names), "default": names[0], "show_default": True, "help": what}


FRAME_FORMAT = format_settings(["table", "csv", "json", "influx"], "How readings are written to stdout.")
"""The declaration of ``--format`` in the commands that read."""


def check_seconds(*, zero: bool = False, longest: float = LONGEST_S) -> Callable[..., float | None]:
    """Return the callback of an option in seconds, which refuses values out of range, NaN included."""

    def check(_ctx: click.Context, _option: click.Parameter, value: float | None) -> float | None:
        if value is None or (0 <= value <= longest and (value or zero)):
            return value
        lowest = "0" if zero else "more than 0"
        raise click.BadParameter(f"{value:g} is out of range: {lowest} to {longest:,.0f} seconds.")

    return check


def checked(convert: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return the callback of an option that converts its value; one that ``convert`` refuses is a usage error."""

    def check(_ctx: click.Context, _option: click.Parameter, value: Any) -> Any:
        try:
            return None if value is None else convert(value)
        except ServomexValidationError as error:
            raise click.BadParameter(str(error)) from error

    return check


def _interval(text: str) -> float:
    """Return the seconds of ``--every``."""
    interval_s = parse_duration(text)
    if not SHORTEST_EVERY_S <= interval_s <= LONGEST_S:
        raise click.BadParameter(f"{text!r} is out of range: 1ms to {LONGEST_S:,.0f}s.")
    return interval_s


class _Option(click.Option):
    """An option whose error names the environment variable, if its value came from it."""

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Return its name, as it was given."""
        names = " / ".join(repr(name) for name in self.opts)
        source = ctx.get_parameter_source(self.name) if ctx is not None and self.name else None
        if source is click.core.ParameterSource.ENVIRONMENT:
            return f"{names} (environment variable {self.envvar})"
        return names


class _Tag(click.types.StringParamType):
    """A tag; in an environment variable, commas separate several."""

    envvar_list_splitter = ","


def _tags(texts: Iterable[str]) -> Mapping[str, str]:
    """Return the tags that were typed."""
    tags: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE: write it as in site=mill-3.")
        if key in tags:
            raise click.BadParameter(f"the tag {key!r} is given twice, as {tags[key]!r} and as {value!r}.")
        tags[key] = value
    return tags_of(tags)


class PortArgument(click.Argument):
    """A port that may also come from the environment; the error for a missing one says so."""

    def get_error_hint(self, ctx: click.Context | None) -> str:  # noqa: ARG002 (click passes it)
        """Return its name, and where else it may come from."""
        return f"{self.human_readable_name!r} (or set {self.envvar})"


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """Declare an option that may also come from the environment, as ``SERVOMEX_`` and its long name."""
    long_name = next(name for name in names if name.startswith("--"))
    variable = "SERVOMEX_" + long_name[2:].upper().replace("-", "_")
    return click.option(*names, cls=_Option, envvar=variable, show_envvar=True, **settings)


def log_options(command: F) -> F:
    """Add the options that set how much is written to stderr."""
    verbose = option(
        "-v", "--verbose", count=True, help="Show on stderr what is being done; -vv also shows every byte."
    )
    quiet = option(
        "-q", "--quiet", is_flag=True, help="Write nothing to stderr except the error that ends the command."
    )
    return verbose(quiet(command))


def seconds_option(
    *names: str, zero: bool = False, longest: float = LONGEST_S, **settings: Any
) -> Callable[[F], F]:
    """Declare an option in seconds that may also come from the environment."""
    check = check_seconds(zero=zero, longest=longest)
    return option(*names, type=SECONDS, metavar="SECONDS", callback=check, **settings)


def naming_options(command: F) -> F:
    """Add the options for what each row says about the analyser."""
    name = option(
        "--name",
        metavar="NAME",
        callback=checked(name_of),
        show_default="the port; over Modbus also the address",
        help="Name of the analyser in each row.",
    )
    return name(tags_option(command))


tags_option: Callable[[F], F] = option(
    "--tag",
    "tags",
    type=_Tag(),
    metavar="KEY=VALUE",
    multiple=True,
    callback=checked(_tags),
    help="More information on the analyser in each row, such as site=mill-3; may be repeated.",
)
"""The option for what else each row says."""


def rate_options(usual: str) -> Callable[[F], F]:
    """Return a decorator that adds ``--rate`` and ``--every``; the command passes them to :func:`rate_of`.

    Args:
        usual: The default behaviour, for the help.
    """

    def decorate(command: F) -> F:
        rate_option = click.option(
            "--rate",
            type=_PerSecond(),
            metavar="HZ",
            callback=checked(rate),
            help=f"Readings per second, up to 1000. {usual}",
        )
        every_option = click.option(
            "--every",
            metavar="TIME",
            callback=checked(_interval),
            help="Instead of --rate, the time from one reading to the next: 500ms, 2s, 1m or 1h.",
        )
        return rate_option(every_option(command))

    return decorate


def rate_of(rate_hz: float | None, every_s: float | None) -> float | None:
    """Return the readings per second that ``--rate`` or ``--every`` asks for; ``None`` without either.

    Raises:
        UsageError: Both were given.
    """
    if rate_hz is not None and every_s is not None:
        raise click.UsageError("--rate and --every cannot be combined: use one of them.")
    return rate_hz if every_s is None else 1 / every_s


count_option: Callable[[F], F] = click.option(
    "--count", type=click.IntRange(1), metavar="N", help="Stop after this many readings, including failed ones."
)
"""After how many readings a command ends by itself."""

duration_option: Callable[[F], F] = click.option(
    "--duration",
    metavar="TIME",
    callback=checked(parse_duration),
    help="Stop after this time: 90s, 15m, 8h or 2d.",
)
"""When a command ends by itself. A unit is required: hours are as likely here as seconds."""
