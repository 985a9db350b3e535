"""The name and the tags of an analyser, in everything that it gives."""

from collections.abc import Iterable
from typing import Any

import pytest

from servomex import (
    Analyzer,
    ChannelId,
    Sample,
    ServomexConfigurationError,
    ServomexManager,
    ServomexValidationError,
    open_continuous,
    open_device,
    record,
)
from servomex.simulator import VirtualLine
from tests.helpers.managing import RTU, line_of, unit

pytestmark = pytest.mark.virtual_time

TAGS = {"site": "mill-3", "line": "A"}
MODES = pytest.mark.parametrize("mode", ["modbus_rtu", "modbus_ascii", "continuous"])


def opened(line: VirtualLine) -> Analyzer:
    """Open the analyser of a line under a name, with tags, and without patience."""
    mode = line.analysers[0].mode
    return open_device(line.url, protocol=mode, gap=0.005, timeout=0.3, retries=0, name="rig", tags=TAGS)


def belong(samples: Iterable[Sample], name: str = "rig", tags: dict[str, str] = TAGS) -> bool:
    """Whether there are samples, and each has this name and these tags."""
    found = list(samples)
    return bool(found) and all(item.device == name and item.metadata == tags for item in found)


@MODES
def test_each_sample_has_the_name_and_the_tags_of_its_analyser(mode: str) -> None:
    line = VirtualLine(unit(1, mode))
    with opened(line) as analyzer:
        assert analyzer.name == "rig"
        assert analyzer.tags == TAGS
        assert belong(analyzer.poll_samples())
        rate = None if mode == "continuous" else 50
        with analyzer.stream(rate_hz=rate) as session:
            assert belong([next(iter(session))])
        with record(analyzer, rate_hz=rate, count=2) as recording:
            assert all(map(belong, recording.stream))


@MODES
def test_the_row_of_a_reading_that_failed_has_them_as_well(mode: str) -> None:
    line = VirtualLine(unit(1, mode))
    with opened(line) as analyzer:
        line.analysers[0].faults.silent = True
        with record(analyzer, rate_hz=1, count=15) as recording:
            failed = [batch for batch in recording.stream if batch[0].error]
        assert failed
        assert all(map(belong, failed))


def test_the_row_that_reports_another_unit_has_them_as_well() -> None:
    line = line_of(1)
    with opened(line) as analyzer, record(analyzer, rate_hz=10, count=40) as recording:
        batches = iter(recording.stream)
        next(batches)
        line.analysers[0].channels[ChannelId.I1].unit = "ppm"
        events = [sample for batch in batches for sample in batch if sample.error and sample.reading is None]
    assert len(events) == 1
    assert belong(events)
    assert events[0].latency_s is None


def test_without_a_name_it_is_that_of_the_port_with_the_address_over_modbus() -> None:
    line, loud = line_of(7), VirtualLine(unit(1, "continuous"))
    with open_device(line.url, protocol="modbus_rtu", address=7) as asked, open_continuous(loud.url) as heard:
        assert (asked.name, heard.name) == (f"{line.url}:7", loud.url)
        assert asked.tags == heard.tags == {}
        assert belong(heard.poll_samples(), loud.url, {})


def test_open_continuous_takes_them_as_well() -> None:
    line = VirtualLine(unit(1, "continuous"))
    with open_continuous(line.url, name="rig", tags=TAGS) as analyzer:
        assert belong(analyzer.poll_samples())


def test_they_stay_as_they_were_given() -> None:
    tags = dict(TAGS)
    line = line_of(1)
    with open_device(line.url, protocol="modbus_rtu", name="rig", tags=tags) as analyzer:
        tags["site"] = "elsewhere"
        with pytest.raises(AttributeError):
            analyzer.name = "other"  # type: ignore[misc]
        with pytest.raises(AttributeError):
            analyzer.tags = {}  # type: ignore[misc,assignment]
        assert belong(analyzer.poll_samples())


@pytest.mark.parametrize("wrong", [{"name": ""}, {"name": "a\nb"}, {"tags": {"unit": "x"}}, {"tags": "site=mill"}])
def test_what_cannot_be_one_is_refused_before_the_port_is_opened(
    wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = line_of(1)
    taken: list[int] = []
    monkeypatch.setattr(line, "open", taken.append)
    with pytest.raises(ServomexValidationError):
        open_device(line.url, **wrong)
    with pytest.raises(ServomexValidationError), ServomexManager() as manager:
        manager.add(**{"name": "a", "source": line.url, **wrong})
    assert taken == []


def test_a_manager_gives_each_analyser_its_own_in_rows_of_readings_and_of_errors() -> None:
    line = line_of(1, 2)
    with ServomexManager(error_policy="return") as manager:
        manager.add("a1", line.url, **RTU, tags=TAGS)
        manager.add("a2", line.url, address=2, **RTU, timeout=0.3, retries=0, tags={"site": "other"})
        line.analysers[1].faults.silent = True
        rows = manager.poll_samples()
        assert belong([row for row in rows if row.device == "a1"], "a1")
        failed = [row for row in rows if row.error]
        assert belong(failed, "a2", {"site": "other"})
        assert manager.get("a1").name == "a1"


def test_an_analyser_that_is_passed_in_keeps_its_tags_and_is_given_none() -> None:
    line = line_of(1)
    with ServomexManager() as manager, opened(line) as analyzer:
        with pytest.raises(ServomexConfigurationError, match="tags"):
            manager.add("mine", analyzer, tags={"site": "x"})
        manager.add("mine", analyzer)
        assert belong(manager.poll_samples(), "mine")
        assert belong(analyzer.poll_samples())
        manager.remove("mine")
