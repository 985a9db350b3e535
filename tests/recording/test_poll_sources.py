"""What is read for a recording, and how: names, timeout and tags, managers, and sources that are opened again."""

import time
from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from servomex import (
    PollSource,
    Sample,
    ServomexConfigurationError,
    ServomexConnectionError,
    ServomexManager,
    ServomexTimeoutError,
    ServomexValidationError,
    open_device,
    record,
)
from servomex.errors.mappings import frozen
from servomex.simulator import VirtualAnalyzer, VirtualLine
from tests.helpers.recorded import OwnSource, sample

pytestmark = pytest.mark.virtual_time


def manager_of(line: VirtualLine, **options: Any) -> ServomexManager:
    manager = ServomexManager(**options)
    for analyser in line.analysers:
        manager.add(
            f"a{analyser.address}", line.url, protocol="modbus_rtu", address=analyser.address, gap=0.0, retries=0
        )
    return manager


def two() -> VirtualLine:
    return VirtualLine(VirtualAnalyzer(address=1), VirtualAnalyzer(address=2))


class Listening:
    """A source that notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Sequence[str] | None, float | None]] = []

    def poll_samples(self, *, names: Sequence[str] | None = None, timeout: float | None = None) -> list[Sample]:
        self.asked.append((names, timeout))
        return [sample(len(self.asked))]


class TestNames:
    def test_only_those_that_are_named_are_read(self) -> None:
        line = two()
        with manager_of(line) as manager, record(manager, rate_hz=10, count=2, names=["a2"]) as rec:
            assert {item.device for batch in rec for item in batch} == {"a2"}

    @pytest.mark.parametrize("names", [["a3"], ["a1", "a3"], [], "a1", [1]])
    def test_a_name_that_is_unknown_is_refused_before_anything_starts(self, names: list[str]) -> None:
        with manager_of(two()) as manager, pytest.raises(ServomexValidationError):
            record(manager, rate_hz=1, names=names)

    def test_the_error_lists_those_that_are_there(self) -> None:
        with manager_of(two()) as manager, pytest.raises(ServomexValidationError, match="'a3'; there are: a1, a2"):
            record(manager, rate_hz=1, names=["a3"])

    @pytest.mark.parametrize("mode", ["modbus_rtu", "continuous"])
    def test_an_analyser_knows_only_itself(self, mode: str) -> None:
        line = VirtualLine(VirtualAnalyzer(mode=mode, period=0.05))
        rate_hz = None if mode == "continuous" else 10
        with open_device(line.url, protocol=mode, gap=0.0, name="kiln") as analyzer:
            with record(analyzer, rate_hz=rate_hz, count=2, names=["kiln"]) as rec:
                assert len(list(rec)) == 2
            with pytest.raises(ServomexValidationError, match="'stack'; there are: kiln"):
                record(analyzer, rate_hz=rate_hz, names=["stack"])


class TestTimeout:
    def test_it_is_that_of_each_reading(self) -> None:
        line = VirtualLine(VirtualAnalyzer())
        with open_device(line.url, protocol="modbus_rtu", gap=0.0, retries=0) as analyzer:
            analyzer.poll()
            line.analysers[0].faults.silent = True
            with record(analyzer, rate_hz=1, count=2, timeout=0.2) as rec:
                assert all(batch[0].error for batch in rec)
        assert 200.0 <= rec.summary.tick_duration_ms_p50 < 400.0

    def test_it_does_not_apply_where_each_broadcast_is_taken(self) -> None:
        line = VirtualLine(VirtualAnalyzer(mode="continuous", period=0.05))
        with open_device(line.url, protocol="continuous") as analyzer:
            with pytest.raises(ServomexConfigurationError, match="each broadcast is taken as it arrives"):
                record(analyzer, timeout=1.0)
            with record(analyzer, timeout=1.0, rate_hz=10, count=2) as rec:
                assert len(list(rec)) + rec.summary.repeated == 2

    @pytest.mark.parametrize("timeout", [0, -1, float("nan"), "1", True])
    def test_what_is_no_time_is_refused(self, timeout: Any) -> None:
        with pytest.raises(ServomexValidationError, match="timeout"):
            record(OwnSource(), rate_hz=1, timeout=timeout)

    def test_a_source_of_ones_own_is_passed_what_is_given(self) -> None:
        source = Listening()
        with record(source, rate_hz=10, count=1, names=["x", "y"], timeout=0.5) as rec:
            list(rec)
        with record(source, rate_hz=10, count=1) as rec:
            list(rec)
        assert source.asked == [(("x", "y"), 0.5), (None, None)]


class TestTags:
    @pytest.mark.parametrize("mode", ["modbus_rtu", "continuous"])
    def test_each_sample_has_them_and_they_win(self, mode: str) -> None:
        line = VirtualLine(VirtualAnalyzer(mode=mode, period=0.05))
        rate_hz = None if mode == "continuous" else 10
        with (
            open_device(line.url, protocol=mode, gap=0.0, tags={"site": "mill-3", "run": "none"}) as analyzer,
            record(analyzer, rate_hz=rate_hz, count=2, tags={"run": "7"}) as rec,
        ):
            found = {item.metadata for batch in rec for item in batch}
        assert found == {frozen({"site": "mill-3", "run": "7"})}

    def test_so_have_errors_of_a_source(self) -> None:
        def fail(_number: int) -> None:
            raise ServomexTimeoutError("no reply")

        source = OwnSource(act=fail)
        source.tags = {"site": "mill-3"}  # type: ignore[attr-defined]
        with record(source, rate_hz=10, count=1, tags={"run": "7"}) as rec:
            ((row,),) = rec
        assert (row.error is not None, dict(row.metadata)) == (True, {"site": "mill-3", "run": "7"})

    def test_so_have_the_rows_of_a_manager_each_with_the_tags_of_its_analyser(self) -> None:
        line = two()
        with ServomexManager() as manager:
            for address in (1, 2):
                manager.add(
                    f"a{address}",
                    line.url,
                    protocol="modbus_rtu",
                    address=address,
                    gap=0.0,
                    retries=0,
                    timeout=0.2,
                    tags={"place": str(address)},
                )
            line.analysers[1].faults.silent = True
            with record(manager, rate_hz=1, count=2, tags={"run": "7"}) as rec:
                rows = [item for batch in rec for item in batch]
        tags = {(item.device, item.error is None): dict(item.metadata) for item in rows}
        assert tags == {("a1", True): {"place": "1", "run": "7"}, ("a2", False): {"place": "2", "run": "7"}}

    def test_so_has_the_row_of_a_changed_channel(self) -> None:
        class Changing(Listening):
            def poll_samples(
                self, *, names: Sequence[str] | None = None, timeout: float | None = None
            ) -> list[Sample]:
                (row,) = super().poll_samples()
                assert row.reading
                return [attrs.evolve(row, reading=attrs.evolve(row.reading, name=f"gas {len(self.asked)}"))]

        with record(Changing(), rate_hz=10, count=2, tags={"run": "7"}) as rec:
            _, (event, _row) = rec
        assert (event.error is not None, dict(event.metadata)) == (True, {"run": "7"})

    def test_those_that_cannot_be_are_refused_before_anything_starts(self) -> None:
        many = {f"k{number}": "x" for number in range(20)}
        for tags in ({"bad key": "x"}, {"channel": "x"}, {"run": 7}, "run"):
            with pytest.raises(ServomexValidationError):
                record(OwnSource(), rate_hz=1, tags=tags)  # type: ignore[arg-type]
        source = OwnSource()
        source.tags = {f"own{number}": "x" for number in range(20)}  # type: ignore[attr-defined]
        with pytest.raises(ServomexValidationError, match="40 tags"):
            record(source, rate_hz=1, tags=many)


class TestManager:
    @pytest.mark.parametrize("policy", ["raise", "return"])
    def test_one_that_fails_costs_the_others_nothing_whatever_the_policy_is(self, policy: str) -> None:
        line = two()
        with manager_of(line, error_policy=policy) as manager:
            line.analysers[1].faults.silent = True
            with record(manager, rate_hz=1, count=3, timeout=0.2) as rec:
                batches = list(rec)
        assert len(batches) == 3
        for batch in batches:
            assert {item.device: item.error is None for item in batch} == {"a1": True, "a2": False}
        assert (rec.summary.samples_emitted, rec.summary.errors) == (3, 3)

    def test_a_call_of_the_users_own_still_raises(self) -> None:
        line = two()
        with manager_of(line) as manager:
            line.analysers[1].faults.silent = True
            with pytest.raises(ExceptionGroup):
                manager.poll_samples(timeout=0.2)
            assert manager.poll_samples(timeout=0.2, error_policy="return")[-1].error
            with pytest.raises(ServomexValidationError):
                manager.poll_samples(error_policy="shrug")


class Fragile:
    """A source that is lost after some readings, for ever."""

    name = "fragile"

    def __init__(self, lasts: float, number: int = 0) -> None:
        self.lasts, self.number, self.readings, self.closed_times = lasts, number, 0, 0

    def poll_samples(self, *, names: Sequence[str] | None = None, timeout: float | None = None) -> list[Sample]:
        assert not self.closed_times, "it was closed"
        if not self.lasts:
            raise ServomexConnectionError(f"source {self.number} is lost")
        self.lasts -= 1
        self.readings += 1
        return [sample(self.readings, device=str(self.number))]

    def close(self) -> None:
        self.closed_times += 1


class Factory:
    """Makes sources, or fails; notes when it was called."""

    def __init__(self, *outcomes: PollSource | Exception) -> None:
        self.outcomes = list(outcomes)
        self.called: list[float] = []

    def __call__(self) -> PollSource:
        self.called.append(time.monotonic())
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def outcome(batch: list[Sample]) -> int | str:
    """The number of the source that a batch is of, or its error."""
    return int(batch[0].device) if batch[0].error is None else str(batch[0].error)


class TestReconnectFactory:
    def test_a_lost_source_is_replaced_and_each_moment_until_then_is_an_error(self) -> None:
        first, second = Fragile(2, 1), Fragile(3, 2)
        factory = Factory(second)
        with record(
            first, rate_hz=7, count=9, reconnect_factory=factory
        ) as rec:  # no moment is 0.5 s after the loss
            found = [outcome(batch) for batch in rec]
        lost = "source 1 is lost"
        assert found == [1, 1, lost, lost, lost, lost, 2, 2, 2]
        assert (rec.summary.samples_emitted, rec.summary.errors, rec.summary.samples_late) == (9, 4, 0)
        assert (rec.summary.disconnects, rec.summary.outages) == (1, 1)
        assert (first.closed_times, second.closed_times) == (0, 1)

    def test_tries_become_rarer_and_each_moment_has_the_error_of_the_last_one(self) -> None:
        factory = Factory(*(ServomexConnectionError(f"try {number}") for number in range(8)), Fragile(9999, 2))
        with record(Fragile(1, 1), rate_hz=10, duration=150, reconnect_factory=factory) as rec:
            found = [outcome(batch) for batch in rec]
        spans = [after - before for before, after in zip(factory.called, factory.called[1:], strict=False)]
        assert spans == pytest.approx([1, 2, 5, 10, 30, 30, 30, 30], abs=0.15)
        assert len(found) == rec.summary.slots == 1500
        assert list(dict.fromkeys(found)) == [1, "source 1 is lost", *(f"try {number}" for number in range(8)), 2]
        assert found.count("source 1 is lost") == pytest.approx(5, abs=1)
        assert found.count("try 7") == pytest.approx(300, abs=2)
        assert rec.summary.disconnects == 1

    def test_pauses_start_over_only_after_a_reading(self) -> None:
        factory = Factory(Fragile(0, 2), Fragile(0, 3), Fragile(1, 4), Fragile(9999, 5))
        with record(Fragile(1, 1), rate_hz=100, duration=6, reconnect_factory=factory) as rec:
            list(rec)
        spans = [after - before for before, after in zip(factory.called, factory.called[1:], strict=False)]
        assert spans == pytest.approx([1.0, 2.0, 0.5], abs=0.05)

    def test_what_the_factory_gave_is_closed_when_it_is_lost_and_at_the_end(self) -> None:
        first, second, third = Fragile(1, 1), Fragile(1, 2), Fragile(1000, 3)
        seen: list[int] = []

        def factory() -> PollSource:
            seen.append(second.closed_times)
            return [second, third][len(seen) - 1]

        with record(first, rate_hz=20, duration=3, reconnect_factory=factory) as rec:
            assert [number for batch in rec if isinstance(number := outcome(batch), int)][:3] == [1, 2, 3]
        assert seen == [0, 1]
        assert [item.closed_times for item in (first, second, third)] == [0, 1, 1]

    def test_a_source_that_cannot_be_closed_does_not_end_it(self, caplog: pytest.LogCaptureFixture) -> None:
        class Stuck(Fragile):
            def close(self) -> None:
                raise ZeroDivisionError("stuck")

        with record(
            Fragile(1, 1), rate_hz=20, duration=2, reconnect_factory=Factory(Stuck(5, 2), Fragile(99, 3))
        ) as rec:
            assert outcome(list(rec)[-1]) == 3
        assert "could not be closed: ZeroDivisionError: stuck" in caplog.text

    def test_the_same_source_may_be_given_again_and_stays_its_users(self) -> None:
        source = Fragile(1, 1)

        def again() -> PollSource:
            source.lasts = 99
            return source

        with record(source, rate_hz=20, duration=2, reconnect_factory=again) as rec:
            assert outcome(list(rec)[-1]) == 1
        assert source.closed_times == 0

    def test_an_error_of_the_system_is_a_try_that_failed(self) -> None:
        factory = Factory(ConnectionRefusedError("nothing listens"), Fragile(99, 2))
        with record(Fragile(1, 1), rate_hz=10, duration=3, reconnect_factory=factory) as rec:
            found = [outcome(batch) for batch in rec]
        assert "the source could not be opened again: nothing listens" in found
        assert found[-1] == 2

    def test_moments_that_pass_while_it_works_are_late(self) -> None:
        def slow() -> PollSource:
            time.sleep(1.05)
            return Fragile(1000, 2)

        with record(Fragile(1, 1), rate_hz=10, duration=4, reconnect_factory=slow) as rec:
            list(rec)
        assert 9 <= rec.summary.samples_late <= 10
        assert rec.summary.slots == 40

    @pytest.mark.parametrize(
        ("given", "raised"),
        [(ZeroDivisionError("a bug"), ZeroDivisionError), (object(), ServomexConfigurationError)],
    )
    def test_what_is_neither_a_source_nor_a_failure_ends_it(self, given: Any, raised: type[Exception]) -> None:
        with record(Fragile(1, 1), rate_hz=20, reconnect_factory=Factory(given)) as rec, pytest.raises(raised):
            list(rec)

    def test_another_error_than_a_lost_connection_keeps_the_source(self) -> None:
        def fail(number: int) -> None:
            if number in (2, 3):
                raise ServomexTimeoutError("no reply")

        factory = Factory()
        with record(OwnSource(act=fail), rate_hz=1, count=5, reconnect_factory=factory) as rec:
            assert [batch[0].error is None for batch in rec] == [True, False, False, True, True]
        assert factory.called == []

    def test_closing_does_not_wait_for_the_next_try(self) -> None:
        refused = [ServomexConnectionError("away") for _ in range(9)]
        begun = time.monotonic()
        with record(Fragile(0, 1), rate_hz=1, reconnect_factory=Factory(*refused)) as rec:
            rec.get(5)
        assert time.monotonic() - begun < 2.0

    def test_it_is_refused_where_it_would_never_be_called(self, line: VirtualLine) -> None:
        with open_device(line.url, protocol="modbus_rtu", gap=0.0) as analyzer, ServomexManager() as manager:
            for source in (analyzer, manager):
                with pytest.raises(
                    ServomexConfigurationError, match=r"reconnects by itself.*Omit reconnect_factory"
                ):
                    record(source, rate_hz=1, reconnect_factory=lambda: analyzer)
        with pytest.raises(ServomexConfigurationError, match="auto_reconnect=False"):
            record(OwnSource(), rate_hz=1, auto_reconnect=False, reconnect_factory=OwnSource)
        with pytest.raises(ServomexValidationError, match="uncalled"):
            record(OwnSource(), rate_hz=1, reconnect_factory=OwnSource())  # type: ignore[arg-type]


def test_a_source_without_a_frame_yet_has_a_gap_and_does_not_end_it(line: VirtualLine) -> None:
    with open_device(line.url, protocol="modbus_rtu", gap=0.0, identify=False) as analyzer:

        class Newest:
            def poll_samples(
                self, *, names: Sequence[str] | None = None, timeout: float | None = None
            ) -> list[Sample]:
                return analyzer.snapshot().as_samples()

        with record(Newest(), rate_hz=20) as rec:
            assert rec.get(2)[0].error
            analyzer.poll()
            while rec.get(2)[0].error:
                pass
