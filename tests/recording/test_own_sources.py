"""Recordings of managers, and of a program's own sources."""

from collections.abc import Sequence

import attrs
import pytest

from servomex import (
    PollSource,
    ProtocolKind,
    Sample,
    ServomexConfigurationError,
    ServomexManager,
    open_device,
    record,
)
from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.helpers.recorded import OwnSource, sample

pytestmark = pytest.mark.virtual_time


class TestManagers:
    def test_a_failure_of_one_analyser_is_a_failure(self) -> None:
        lines = [VirtualLine(VirtualAnalyzer()) for _ in range(2)]
        with ServomexManager(error_policy="return") as manager:
            for name, line in zip("ab", lines, strict=True):
                manager.add(name, line.url, protocol="modbus_rtu", gap=0.0, timeout=0.2, retries=0)
            with record(manager, rate_hz=20) as rec:
                rec.get(5)
                assert rec.summary.errors == 0
                lines[1].unplug()
                while not any(item.error for item in rec.get(5)):
                    pass
            assert rec.summary.errors > 0
            with pytest.raises(ServomexConfigurationError, match="reconnects by itself"):
                record(manager, rate_hz=1, auto_reconnect=False)

    def test_one_without_analysers_gives_no_batches(self) -> None:
        with ServomexManager(error_policy="return") as manager, record(manager, rate_hz=50, count=3) as rec:
            assert list(rec) == []
        assert rec.summary.repeated == 3


class TestOwnSources:
    """What a source of the user's own gives is recorded as it is."""

    def test_what_has_poll_samples_is_a_source(self, line: VirtualLine) -> None:
        with open_device(line.url, protocol="modbus_rtu", gap=0) as analyzer, ServomexManager() as manager:
            assert all(isinstance(item, PollSource) for item in (analyzer, manager, OwnSource()))
        assert not isinstance(line, PollSource)

    def test_what_cannot_be_read_as_a_source_is_refused_before_anything_starts(self) -> None:
        class Narrow:
            def poll_samples(self) -> list[Sample]:
                return []

        with pytest.raises(ServomexConfigurationError, match="cannot be recorded"):
            record(object(), rate_hz=1)  # type: ignore[arg-type]
        with pytest.raises(
            ServomexConfigurationError, match=r"names and timeout .*Define it as poll_samples\(self, "
        ):
            record(Narrow(), rate_hz=1)  # type: ignore[arg-type]

    def test_samples_without_names_and_with_any_times(self) -> None:
        class Plain:
            def poll_samples(
                self, *, names: Sequence[str] | None = None, timeout: float | None = None
            ) -> list[Sample]:
                samples = sample(7, device=""), sample(3, device="")
                return [attrs.evolve(item, protocol=ProtocolKind.MODBUS_RTU) for item in samples]

        with record(Plain(), rate_hz=100, count=3) as rec:
            assert [[item.monotonic_ns for item in batch] for batch in rec] == [[7, 3]] * 3

    def test_broadcasts_of_two_analysers_without_names_are_kept_apart(self) -> None:
        given = iter([[1, 100], [1, 100], [2, 100], [2, 101], [3, 102]])

        class Two:
            def poll_samples(
                self, *, names: Sequence[str] | None = None, timeout: float | None = None
            ) -> list[Sample]:
                return [sample(number, device="") for number in next(given)]

        with record(Two(), rate_hz=100, count=5) as rec:
            assert [[item.monotonic_ns for item in batch] for batch in rec] == [[1, 100], [2], [101], [3, 102]]
        assert rec.summary.repeated == 1
