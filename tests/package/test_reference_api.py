"""Whoever comes from servomexlib finds each documented name, member, parameter and default, or reads why not."""

import builtins
import contextlib
import enum
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import servomex
from servomex import ErrorContext, SafetyTier, ServomexError, sinks
from servomex.modbus.safety import TIERS
from servomex.port.transport import is_transport
from tests.helpers.paths import ROOT
from tests.helpers.reference_api import (
    CALLS,
    DEFAULTS_HERE,
    ELSEWHERE,
    ENUMS,
    ERRORS,
    ERRORS_HERE,
    GONE_HERE,
    HERE,
    MEMBERS,
    NAMES,
    PUBLIC_HERE,
    RENAMED_HERE,
    REQUIRED,
    STATEFUL,
    TRANSPORT,
)

PAGE = ROOT / "docs" / "howto" / "from-servomexlib.rst"
SIGNATURES = [line for line in CALLS.splitlines() if line]


def found(path: str) -> Any:
    """Give a name of the package, such as ``Analyzer.poll`` or ``sinks.CsvSink``."""
    head, *rest = path.split(".")
    thing: Any = (
        importlib.import_module(f"servomex.{head}")
        if head in ("sinks", "testing", "units")
        else getattr(servomex, head)
    )
    for name in rest:
        thing = getattr(thing, name)
    return thing


def parameters(call: str) -> dict[str, inspect.Parameter]:
    """Read a call of the reference: its parameters without ``self``."""
    scope: dict[str, Any] = {}
    exec(f"def call({call.partition('(')[2]}: ...", scope)
    return dict(inspect.signature(scope["call"]).parameters)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_the_top_level_is_there_and_public(name: str) -> None:
    assert getattr(servomex, name) is not None
    assert name in importlib.import_module("servomex").__all__


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in ELSEWHERE.items() for name in names.split()]
)
def test_a_name_of_a_module_is_there_and_public(module: str, name: str) -> None:
    there = importlib.import_module(module)
    assert getattr(there, name) is not None
    assert name in getattr(there, "__all__", [name])


@pytest.mark.parametrize("name", ENUMS)
def test_an_enumeration_has_the_same_members_in_the_same_order(name: str) -> None:
    kind = getattr(servomex, name)
    assert issubclass(kind, enum.Enum)
    assert [f"{member.name}={member.value}" for member in kind] == ENUMS[name].split()
    if issubclass(kind, str):
        assert all(member == member.value for member in kind)  # a plain string does as well


@pytest.fixture(scope="module")
def instances() -> Iterator[dict[str, Any]]:
    """One object of each kind, as a program has it in hand."""
    error = ServomexError("it failed", ErrorContext(port="sim://"))
    with contextlib.ExitStack() as stack:
        analyzer = stack.enter_context(servomex.open_device("sim://4100?mode=modbus_rtu"))
        manager = stack.enter_context(servomex.ServomexManager())
        frame = analyzer.poll()
        session = analyzer.stream()
        recording = servomex.record(analyzer, rate_hz=1, count=1)
        yield {
            "AcquisitionSummary": recording.summary,
            "AnalyserStatus": frame.analyser,
            "Analyzer": analyzer,
            "CalGroupState": frame.analyser.cal_groups[0],
            "CalibrationProgress": analyzer.calibration_status(),
            "ChannelInfo": analyzer.identify().channels[0],
            "ChannelStatus": frame["I1"].status,
            "DeviceInfo": analyzer.identify(),
            "DeviceResult": servomex.DeviceResult.success(frame),
            "DiscoveryResult": servomex.find_devices(["sim://4100"], listen=0.1)[0],
            "ErrorContext": error.context,
            "FakeTransport": servomex.FakeTransport(),
            "Frame": frame,
            "Reading": frame["I1"],
            "Recording": recording,
            "Sample": analyzer.poll_samples()[0],
            "SerialSettings": servomex.SerialSettings(),
            "ServomexError": error,
            "ServomexManager": manager,
            "StreamingSession": session,
        }


@pytest.mark.parametrize("owner", [owner for owner in MEMBERS if not owner.startswith("sinks.")])
def test_an_object_has_all_members(owner: str, instances: dict[str, Any]) -> None:
    missing = [name for name in MEMBERS[owner].split() if not hasattr(instances[owner], name)]
    assert not missing


def test_sinks_have_all_members(tmp_path: Path) -> None:
    config = sinks.PostgresConfig(host="nowhere.invalid")
    made: dict[str, Any] = {"sinks.PostgresConfig": config}
    with (
        sinks.InMemorySink() as made["sinks.InMemorySink"],
        sinks.SqliteSink(tmp_path / "run.sqlite") as made["sinks.SqliteSink"],
        sinks.ParquetSink(tmp_path / "run.parquet") as made["sinks.ParquetSink"],
    ):
        missing = [
            f"{owner}.{name}"
            for owner, sink in made.items()
            for name in MEMBERS[owner].split()
            if not hasattr(sink, name)
        ]
    assert not missing


@pytest.mark.parametrize("call", SIGNATURES)
def test_a_call_of_the_reference_is_taken(call: str) -> None:
    path = call.partition("(")[0]
    here = dict(inspect.signature(found(path)).parameters)
    here.pop("self", None)
    for name, wanted in parameters(call).items():
        key = f"{path}({name})"
        if key in GONE_HERE:
            assert name not in here, f"{key} is here: it is not gone"
            continue
        if wanted.kind is inspect.Parameter.VAR_KEYWORD:
            assert any(item.kind is inspect.Parameter.VAR_KEYWORD for item in here.values())
            continue
        mine = here.get(RENAMED_HERE.get(key, name))
        assert mine is not None, f"{key} is missing"
        if wanted.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            assert mine.kind is not inspect.Parameter.KEYWORD_ONLY, f"{key} cannot be given by its place"
        default = REQUIRED if wanted.default is inspect.Parameter.empty else wanted.default
        if key in DEFAULTS_HERE:
            assert default != DEFAULTS_HERE[key], f"{key} does not differ"
            default = DEFAULTS_HERE[key]
        if key in RENAMED_HERE:
            continue
        given = REQUIRED if mine.default is inspect.Parameter.empty else mine.default
        if inspect.isclass(found(path)) and attrs.has(found(path)):
            given = made_default(found(path), name, given)
        assert given == default, key


def made_default(kind: type, name: str, given: object) -> object:
    """Look through the default of a field of attrs, which is a factory in the signature."""
    field = attrs.fields_dict(kind).get(name)
    if field is None or field.default is attrs.NOTHING:
        return given
    return field.default


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_caught_by_the_same_classes(name: str) -> None:
    for base in ERRORS[name].split():
        assert issubclass(getattr(servomex, name), getattr(servomex, base))


@pytest.mark.parametrize("key", [*DEFAULTS_HERE, *RENAMED_HERE, *sorted(GONE_HERE)])
def test_a_difference_is_reported_on_the_page(key: str) -> None:
    path, _, argument = key.rstrip(")").partition("(")
    page = PAGE.read_text("utf-8")
    rows = [row for row in page.split("    * - ")[1:] if f"``{path.removeprefix('sinks.')}``" in row]
    assert any(f"``{argument}``" in row for row in rows), f"no row tells of {argument} of {path}"


@pytest.mark.parametrize("path", HERE)
def test_a_call_beside_the_reference_has_explicit_arguments(path: str) -> None:
    here = dict(inspect.signature(found(path)).parameters)
    here.pop("self", None)
    kinds = {item.kind for item in here.values()}
    assert not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    by_place = [name for name, item in here.items() if item.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert by_place == [word for word in HERE[path].split() if word[0] != "*"]
    for word in HERE[path].split():
        name, _, default = word.lstrip("*").partition("=")
        assert name in here, f"{path}({name}) is missing"
        assert (name not in by_place) == word.startswith("*")
        assert str(here[name].default) == default or not default


@pytest.mark.parametrize("module", PUBLIC_HERE)
def test_a_name_beside_the_reference_is_public(module: str) -> None:
    there = importlib.import_module(module)
    assert set(PUBLIC_HERE[module].split()) <= set(there.__all__)
    assert all(hasattr(there, name) for name in PUBLIC_HERE[module].split())


@pytest.mark.parametrize("name", ERRORS_HERE)
def test_an_error_is_several_things_at_once(name: str) -> None:
    for base in ERRORS_HERE[name].split():
        assert issubclass(getattr(servomex, name), getattr(servomex, base, None) or getattr(builtins, base))


def test_a_transport_needs_its_members_and_no_others() -> None:
    protocol = servomex.Transport
    names = {name for name in vars(protocol) if name[0] != "_"}
    assert names == set(TRANSPORT.split())
    whole = dict.fromkeys(TRANSPORT.split(), int)
    assert isinstance(type("Whole", (), whole)(), protocol)
    assert is_transport(type("Whole", (), whole)())
    for name in whole:
        assert not isinstance(type("Part", (), {key: int for key in whole if key != name})(), protocol)


def test_what_changes_an_analyser_is_stateful() -> None:
    methods = {name for name in dir(servomex.Analyzer) if TIERS.get(name) is SafetyTier.STATEFUL}
    assert methods == set(STATEFUL.split())


def test_a_frame_has_readings_and_reports_what_is_absent(instances: dict[str, Any]) -> None:
    frame = instances["Frame"]
    assert all(reading in frame for reading in frame)
    assert frame.readings[0].channel in frame
    absent = frame.only(["I1"])
    assert "E1" not in absent
    assert frame["I2"] not in absent
    for ask in (absent.channel, absent.__getitem__):
        with pytest.raises(LookupError):
            ask("E1")


def test_what_is_known_beside_the_fields_of_an_error_is_frozen() -> None:
    extra = {"device": "rig A"}
    context = ErrorContext(extra=extra)
    extra["device"] = "rig B"
    assert context.extra == {"device": "rig A"}
    assert not hasattr(context.extra, "__setitem__")
    assert context.merged(extra={"x": 1}).extra == {"device": "rig A", "x": 1}


def test_streams_and_recordings_are_iterators(instances: dict[str, Any]) -> None:
    with instances["Analyzer"].stream(rate_hz=10) as session:
        assert isinstance(next(session), servomex.Sample)
    with servomex.record(instances["Analyzer"], rate_hz=10, count=1) as recording:
        assert all(isinstance(sample, servomex.Sample) for sample in next(recording))
