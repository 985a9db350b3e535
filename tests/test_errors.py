"""The error tree: who inherits from whom, what an error shows, and that it survives pickling and copying."""

import copy
import functools
import inspect
import pickle
import pydoc
from typing import Any

import attrs
import pytest

import servomex
from servomex.enums import ChannelId, ProtocolKind
from servomex.errors import (
    Argument,
    ErrorContext,
    ServomexCalibrationError,
    ServomexCapabilityError,
    ServomexChannelNotFoundError,
    ServomexChecksumError,
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexError,
    ServomexFrameError,
    ServomexIllegalDataAddressError,
    ServomexIllegalDataValueError,
    ServomexIllegalFunctionError,
    ServomexModbusError,
    ServomexNoFrameError,
    ServomexNotFoundError,
    ServomexParseError,
    ServomexProtocolError,
    ServomexProtocolUnsupportedError,
    ServomexSinkDependencyError,
    ServomexSinkError,
    ServomexSinkReadError,
    ServomexSinkSchemaError,
    ServomexSinkWriteError,
    ServomexStaleError,
    ServomexTimeoutError,
    ServomexTransportError,
    ServomexValidationError,
)
from servomex.errors import tree as errors
from servomex.errors.arguments import spelling
from servomex.telegram import parse_frame
from tests.helpers.frames import REAL

CLASSES = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, ServomexError) and found.__module__ == servomex.errors.__name__
]
FULL = ErrorContext(
    port="/dev/ttyUSB0", protocol="modbus_rtu", address=3, channel="I1", register=30001, function_code=4,
    request=b"\x03\x04", response=b"\x03\x84\x02", elapsed_s=0.256,
)  # fmt: skip


def make(kind: type[ServomexError], context: ErrorContext | None = None) -> ServomexError:
    """Make an error of any class."""
    return kind("too late", context)


@pytest.mark.parametrize(("kind", "bases"), [
    (ServomexError, (Exception,)),
    (ServomexConfigurationError, (ServomexError, ValueError)),
    (ServomexValidationError, (ServomexConfigurationError,)),
    (ServomexChannelNotFoundError, (ServomexValidationError, LookupError)),
    (ServomexNoFrameError, (ServomexValidationError, ServomexTimeoutError)),
    (ServomexTransportError, (ServomexError,)),
    (ServomexTimeoutError, (ServomexTransportError, TimeoutError)),
    (ServomexStaleError, (ServomexTimeoutError,)),
    (ServomexConnectionError, (ServomexTransportError, ConnectionError)),
    (ServomexNotFoundError, (ServomexConnectionError, ServomexTimeoutError)),
    (ServomexProtocolError, (ServomexError,)),
    (ServomexParseError, (ServomexProtocolError, ValueError)),
    (ServomexChecksumError, (ServomexParseError,)),
    (ServomexFrameError, (ServomexParseError,)),
    (ServomexCapabilityError, (ServomexError,)),
    (ServomexModbusError, (ServomexProtocolError,)),
    (ServomexIllegalFunctionError, (ServomexModbusError, ServomexCapabilityError)),
    (ServomexIllegalDataAddressError, (ServomexModbusError,)),
    (ServomexIllegalDataValueError, (ServomexModbusError,)),
    (ServomexProtocolUnsupportedError, (ServomexProtocolError, ServomexCapabilityError)),
    (ServomexSinkError, (ServomexError,)),
    (ServomexSinkSchemaError, (ServomexSinkError, ValueError)),
    (ServomexSinkWriteError, (ServomexSinkError, OSError)),
    (ServomexSinkReadError, (ServomexSinkError, OSError)),
    (ServomexSinkDependencyError, (ServomexSinkError, ServomexConfigurationError, ImportError)),
])  # fmt: skip
def test_the_tree(kind: type[ServomexError], bases: tuple[type, ...]) -> None:
    assert kind.__bases__ == bases


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_named_and_documented_alike(kind: type[ServomexError]) -> None:
    assert kind.__name__.startswith("Servomex")
    assert kind.__name__.endswith("Error")
    assert inspect.getdoc(kind)
    assert kind.__name__ in (servomex.errors.__doc__ or "")


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_without_a_context_shows_its_message_alone(kind: type[ServomexError]) -> None:
    error = make(kind)
    assert str(error) == error.message == "too late"
    assert error.context == ErrorContext()


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_shows_where_it_happened(kind: type[ServomexError]) -> None:
    error = make(kind, FULL)
    assert str(error) == (
        "too late [/dev/ttyUSB0, modbus_rtu, address 3, I1, FC04, register 30001, sent 03 04, got 03 84 02, "
        "after 0.26 s]"
    )
    assert error.message == "too late"


@pytest.mark.parametrize("context", [None, FULL])
@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling(
    kind: type[ServomexError], context: ErrorContext | None, protocol: int
) -> None:
    error = make(kind, context)
    copy = pickle.loads(pickle.dumps(error, protocol))
    assert type(copy) is kind
    assert (str(copy), copy.message, copy.context, copy.args) == (
        str(error),
        error.message,
        error.context,
        error.args,
    )
    assert vars(copy) == vars(error)


def test_a_stale_error_carries_the_last_frame_over_pickling() -> None:
    frame = parse_frame(REAL)
    copy = pickle.loads(pickle.dumps(ServomexStaleError("old", FULL, frame=frame, age_s=12.5)))
    assert (copy.frame, copy.age_s, copy.frame.raw) == (frame, 12.5, REAL)


# Exceptions are pickled to reach another process, with what was noted on the way.
@pytest.mark.parametrize("kind", CLASSES)
def test_notes_survive_pickling(kind: type[ServomexError]) -> None:
    error = make(kind)
    error.add_note("while recording")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while recording"]


@pytest.mark.parametrize(("kind", "built_in"), [
    (ServomexChannelNotFoundError, LookupError), (ServomexChannelNotFoundError, ValueError),
    (ServomexValidationError, ValueError), (ServomexChecksumError, ValueError), (ServomexStaleError, TimeoutError),
    (ServomexTimeoutError, OSError), (ServomexConnectionError, OSError),
    (ServomexConnectionError, ConnectionError), (ServomexSinkSchemaError, ValueError),
    (ServomexSinkWriteError, OSError), (ServomexSinkReadError, OSError),
    (ServomexSinkDependencyError, ImportError), (ServomexNotFoundError, TimeoutError),
    (ServomexNotFoundError, ConnectionError), (ServomexNoFrameError, ValueError),
    (ServomexNoFrameError, TimeoutError), (ServomexFrameError, ValueError),
])  # fmt: skip
def test_an_error_is_caught_as_the_fitting_built_in(kind: type[ServomexError], built_in: type[Exception]) -> None:
    with pytest.raises(built_in) as caught:
        raise make(kind, FULL)
    assert str(caught.value).startswith("too late [/dev/ttyUSB0")


@pytest.mark.parametrize("kind", [ServomexTransportError, ServomexModbusError, ServomexCapabilityError])
def test_other_errors_are_no_value_errors(kind: type[ServomexError]) -> None:
    assert not issubclass(kind, ValueError | OSError)


@pytest.mark.parametrize(("fields", "text"), [
    ({}, ""), ({"port": "COM11"}, "COM11"), ({"address": 0}, "address 0"), ({"register": 1}, "coil 00001"),
    ({"register": 10073}, "input 10073"), ({"function_code": 15}, "FC15"), ({"function_code": 1}, "FC01"),
    ({"elapsed_s": 0.0}, "after 0.00 s"), ({"elapsed_s": 3.14159}, "after 3.14 s"),
    ({"request": b""}, ""), ({"response": b""}, ""), ({"request": b"\x00"}, "sent 00"),
    ({"channel": "E2", "protocol": "continuous"}, "continuous, E2"),
])  # fmt: skip
def test_a_context_shows_what_is_known(fields: dict[str, Any], text: str) -> None:
    assert str(ErrorContext(**fields)) == text


@pytest.mark.parametrize("size", [1, 23, 24])
def test_few_bytes_are_shown_whole(size: int) -> None:
    assert str(ErrorContext(response=bytes(range(size)))) == "got " + bytes(range(size)).hex(" ")


@pytest.mark.parametrize("size", [25, 204, 100_000])
def test_many_bytes_are_shown_by_their_ends(size: int) -> None:
    data = bytes(place % 251 for place in range(size))
    shown = str(ErrorContext(request=data))
    assert shown == f"sent {data[:16].hex(' ')} ... {data[-4:].hex(' ')} ({size} bytes)"
    assert len(shown) < 100


def test_a_context_is_frozen_and_comparable() -> None:
    assert ErrorContext(**attrs.asdict(FULL)) == FULL
    assert hash(ErrorContext(**attrs.asdict(FULL))) == hash(FULL)
    assert not hasattr(FULL, "__dict__")
    for field in attrs.fields_dict(ErrorContext):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(FULL, field, None)


def with_cure(kind: type[ServomexError]) -> ServomexError:
    """Make an error of any class that carries its cure."""
    error = make(kind, FULL)
    error.cure, error.argument = "Use protocol='continuous'", Argument("protocol", "continuous")
    return error


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_shows_its_cure_between_message_and_context(kind: type[ServomexError]) -> None:
    error = with_cure(kind)
    assert error.text == "too late. Use protocol='continuous'"
    assert str(error) == f"too late. Use protocol='continuous' [{FULL}]"


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    "copied",
    [
        lambda error: pickle.loads(pickle.dumps(error)),
        copy.copy,
        copy.deepcopy,
        lambda error: error.with_context(),
    ],
    ids=["pickle", "copy", "deepcopy", "with_context"],
)
def test_a_copy_keeps_the_cure(kind: type[ServomexError], copied: Any) -> None:
    error = with_cure(kind)
    other = copied(error)
    assert other is not error
    assert (type(other), str(other), other.argument) == (kind, str(error), Argument("protocol", "continuous"))


def raised(error: ServomexError) -> ServomexError:
    """Raise an error while another is handled, from a third."""
    facts: dict[str, int] = {}
    try:
        facts["context"] += 1
    except KeyError:
        with pytest.raises(ServomexError) as caught:
            raise error from OSError("cause")
        return caught.value
    raise AssertionError


@pytest.mark.parametrize("kind", CLASSES)
def test_with_context_adds_where_it_was_and_keeps_everything_else(kind: type[ServomexError]) -> None:
    error = raised(with_cure(kind))
    error.add_note("of the first")
    other = error.with_context(device="unit 2", address=4)
    assert other.context == FULL.merged(address=4, device="unit 2")
    assert error.context == FULL
    assert other.__traceback__ is error.__traceback__ is not None
    assert other.__cause__ is error.__cause__ is not None
    assert other.__context__ is error.__context__ is not None
    assert other.__suppress_context__ is True
    ours, theirs = vars(other) | {"context": None}, vars(error) | {"context": None}
    assert (type(other), other.args, ours) == (kind, error.args, theirs)
    other.add_note("of the second")
    assert (error.__notes__, other.__notes__) == (["of the first"], ["of the first", "of the second"])


def test_with_context_keeps_what_a_class_adds() -> None:
    frame = parse_frame(REAL)
    stale = ServomexStaleError("old", frame=frame, age_s=12.5).with_context(port="COM3")
    assert (stale.frame, stale.age_s, str(stale)) == (frame, 12.5, "old [COM3]")
    assert ServomexCalibrationError("runs", running=True).with_context().running is True
    assert ServomexParseError("damaged frame: no header", reason="no header").with_context().reason == "no header"


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_takes_the_same_arguments_and_needs_none(kind: type[ServomexError]) -> None:
    assert (str(kind()), kind().message, kind().context) == ("", "", ErrorContext())
    assert str(kind(context=ErrorContext(port="COM3"))) == "[COM3]"
    argument = Argument("gap", 0.1)
    error = kind("late", FULL, cure="Wait", argument=argument)
    assert (error.message, error.context, error.cure, error.argument) == ("late", FULL, "Wait", argument)
    assert str(kind(cure="Wait")) == "Wait"


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_at_the_top_and_in_its_help(kind: type[ServomexError]) -> None:
    assert getattr(servomex, kind.__name__) is kind
    assert kind.__name__ in dir(servomex)
    assert kind.__name__ in help_of("servomex")
    assert kind.__name__ in help_of("servomex.errors").split("CLASSES")[0]


@functools.cache
def help_of(module: str) -> str:
    return pydoc.plain(pydoc.render_doc(module))


class TestContext:
    def test_further_facts_are_shown_last(self) -> None:
        context = ErrorContext(port="COM3", elapsed_s=1.0, extra={"device": "unit 2", "try": 3})
        assert str(context) == "COM3, after 1.00 s, device unit 2, try 3"

    def test_further_facts_cannot_be_changed(self) -> None:
        given = {"device": "unit 2"}
        context = ErrorContext(extra=given)
        given["device"] = "unit 3"
        assert context.extra == {"device": "unit 2"}
        with pytest.raises(TypeError):
            context.extra["device"] = "unit 3"  # type: ignore[index]

    def test_a_context_with_a_list_among_its_facts_can_be_hashed(self) -> None:
        one, other = (ErrorContext(port="COM3", extra={"tried": [1, 2]}) for _ in range(2))
        assert (one, hash(one)) == (other, hash(other))
        assert one != ErrorContext(port="COM3", extra={"tried": [1]})

    def test_merging_overlays_fields_and_adds_the_rest_to_the_extra(self) -> None:
        context = ErrorContext(port="COM3", address=1, extra={"device": "a", "try": 1})
        merged = context.merged(address=2, channel=ChannelId.I1, device="b", extra={"site": "mill"})
        assert merged == ErrorContext(
            port="COM3", address=2, channel="I1", extra={"device": "b", "try": 1, "site": "mill"}
        )
        assert context.merged(port=None).port is None
        assert context.merged() == context

    def test_members_of_enums_are_shown_as_their_values(self) -> None:
        context = ErrorContext(protocol=ProtocolKind.MODBUS_RTU, channel=ChannelId.E2)
        assert str(context) == "modbus_rtu, E2"
        assert context == ErrorContext(protocol="modbus_rtu", channel="E2")


@pytest.mark.parametrize(("argument", "text"), [
    (Argument("protocol", "continuous"), "protocol='continuous'"), (Argument("gap", 0.1), "gap=0.1"),
    (Argument("timeout"), "timeout"), (Argument("confirm", True), "confirm=True"),
    (Argument("protocol", ProtocolKind.MODBUS_RTU), "protocol='modbus_rtu'"),
    (Argument("baudrate", 9600), "baudrate=9600"),
])  # fmt: skip
def test_an_argument_is_spelled_as_in_a_call(argument: Argument, text: str) -> None:
    assert str(argument) == text


def test_an_argument_is_spelled_for_its_reader_and_as_in_a_call_again_afterwards() -> None:
    with spelling(lambda argument: f"/{argument.name.upper()}"):
        assert str(Argument("gap", 0.1)) == "/GAP"
    assert str(Argument("gap", 0.1)) == "gap=0.1"
