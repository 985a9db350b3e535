"""The kinds of options: numbers, seconds, what may also come from the environment."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click

from servomex.enums import ProtocolKind
from servomex.errors import ServomexValidationError
from servomex.tags import name_of, tags_of
from servomex.validation import rate

F = TypeVar("F", bound=Callable[..., Any])

LONGEST_S = 1e6
"""What an option in seconds may be at most: more than the 9999 s between broadcasts, and no timer overflows."""


class Number(click.types.FloatParamType):
    """A number without a unit.

    Args:
        unit: What it counts, such as ``seconds``.
    """

    def __init__(self, unit: str) -> None:
        self._unit = unit

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it."""
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of {self._unit}: write it without a unit, as in 0.5", param, ctx)


SECONDS = Number("seconds")
PER_SECOND = Number("readings per second")


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
"""Those that can be set on a panel."""


def mode_settings(names: Iterable[str], what: str, default: str) -> dict[str, Any]:
    """Return how an option is declared that names a communication mode; the command gets a :class:`ProtocolKind`.

    Args:
        names: Those of :data:`MODES` that may be typed, in any case.
        what: What the mode is for; the help adds the names.
        default: The one that is taken otherwise.
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


def check_seconds(*, zero: bool = False, longest: float = LONGEST_S) -> Callable[..., float | None]:
    """Give the callback of an option in seconds that refuses what is out of range, NaN included."""

    def check(_ctx: click.Context, _option: click.Parameter, value: float | None) -> float | None:
        if value is None or (0 <= value <= longest and (value or zero)):
            return value
        lowest = "0" if zero else "more than 0"
        raise click.BadParameter(f"{value:g} is out of range: {lowest} to {longest:,.0f} seconds.")

    return check


def check_rate(_ctx: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    """Refuse a number of readings per second that is out of range, NaN included."""
    try:
        return None if value is None else rate(value)
    except ServomexValidationError as error:
        raise click.BadParameter(error.text) from error


class _Option(click.Option):
    """An option whose error names the variable that a value is from, and only then."""

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Name it as it was given."""
        names = " / ".join(repr(name) for name in self.opts)
        source = ctx.get_parameter_source(self.name) if ctx is not None and self.name else None
        if source is click.core.ParameterSource.ENVIRONMENT:
            return f"{names}, which is from the environment as {self.envvar}"
        return names


class _Tag(click.types.StringParamType):
    """A tag; in a variable of the environment, commas separate several."""

    envvar_list_splitter = ","


def check_tags(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> Mapping[str, str]:
    """Take tags apart, and refuse what :func:`tags_of` does."""
    tags: dict[str, str] = {}
    for text in values:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE: write it as in site=mill-3.")
        if key in tags:
            raise click.BadParameter(f"the tag {key!r} is given twice, as {tags[key]!r} and as {value!r}.")
        tags[key] = value
    try:
        return tags_of(tags)
    except ServomexValidationError as error:
        raise click.BadParameter(str(error)) from error


def check_name(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Refuse what cannot name an analyser."""
    try:
        return None if value is None else name_of(value)
    except ServomexValidationError as error:
        raise click.BadParameter(str(error)) from error


class PortArgument(click.Argument):
    """A port that may also come from the environment, as its error says when it is missing."""

    def get_error_hint(self, ctx: click.Context | None) -> str:  # noqa: ARG002 (click passes it)
        """Name it, and where else it may come from."""
        return f"{self.human_readable_name!r}, which {self.envvar} may name as well"


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """Declare an option that may also come from the environment, as ``SERVOMEX_`` and its long name."""
    long_name = next(name for name in names if name.startswith("--"))
    variable = "SERVOMEX_" + long_name[2:].upper()
    return click.option(*names, cls=_Option, envvar=variable, show_envvar=True, **settings)


def seconds_option(
    *names: str, zero: bool = False, longest: float = LONGEST_S, **settings: Any
) -> Callable[[F], F]:
    """Declare an option in seconds that may also come from the environment."""
    check = check_seconds(zero=zero, longest=longest)
    return option(*names, type=SECONDS, metavar="SECONDS", callback=check, **settings)


def naming_options(command: F) -> F:
    """Give a command that writes rows the options for what each row says of the analyser."""
    name = option(
        "--name",
        metavar="NAME",
        callback=check_name,
        show_default="the port, over Modbus with the address",
        help="Name of the analyser in each row.",
    )
    tags = option(
        "--tag",
        "tags",
        type=_Tag(),
        metavar="KEY=VALUE",
        multiple=True,
        callback=check_tags,
        help="What else each row says of the analyser, such as site=mill-3; may be repeated.",
    )
    return name(tags(command))
