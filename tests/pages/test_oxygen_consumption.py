"""The example that computes the oxygen consumed, and the heat released by it."""

import csv
import io
import sys
import time
from collections.abc import Callable
from types import ModuleType

import attrs
import pytest

import servomex
from servomex.simulator import VirtualAnalyzer, VirtualChannel, VirtualLine
from tests.helpers.examples import example


class TestOxygenConsumption:
    @pytest.fixture
    def module(self) -> ModuleType:
        return example("oxygen_consumption")

    def test_a_value_between_good_neighbours_is_interpolated(self, module: ModuleType) -> None:
        points = [module.Point(0.0, 1.0), module.Point(2.0, 3.0)]
        assert [module.interpolate(points, at_s, 2.5) for at_s in (0.0, 0.5, 2.0)] == [1.0, 1.5, 3.0]

    @pytest.mark.parametrize(
        ("points", "at_s"),
        [
            ([(0.0, 1.0), (1.0, None), (2.0, 3.0)], 0.5),
            ([(0.0, 1.0), (1.0, None), (2.0, 3.0)], 1.0),
            ([(0.0, 1.0), (1.0, None), (2.0, 3.0)], 1.5),
            ([(0.0, 1.0), (3.0, 3.0)], 1.5),
            ([(0.0, 1.0), (1.0, 3.0)], -0.1),
            ([(0.0, 1.0), (1.0, 3.0)], 1.1),
        ],
        ids=["before a bad one", "on a bad one", "behind a bad one", "in a gap", "too early", "too late"],
    )
    def test_nothing_is_made_up(
        self, module: ModuleType, points: list[tuple[float, float | None]], at_s: float
    ) -> None:
        assert module.interpolate([module.Point(*point) for point in points], at_s, 2.5) is None

    @pytest.mark.virtual_time
    def test_a_course_has_a_hole_where_a_reading_failed_or_is_not_good(self, module: ModuleType) -> None:
        line = VirtualLine(VirtualAnalyzer())
        samples: list[servomex.Sample] = []
        with servomex.ServomexManager(error_policy="return") as manager:
            manager.add("1", line.url, protocol="modbus_rtu")
            samples += manager.poll_samples()
            line.analysers[0]["I1"].status = servomex.ChannelStatus(calibrating=True)
            samples += manager.poll_samples()
            line.analysers[0]["I1"].status = servomex.ChannelStatus(alarms=(True, False, False, False))
            samples += manager.poll_samples()
            line.analysers[0].faults.silent = True
            samples += manager.poll_samples(timeout=0.2)
        points = module.course(samples, module.Tube(1, "I1", 7.0))
        assert [point.value for point in points] == [pytest.approx(0.20376), None, pytest.approx(0.20376), None]
        assert points[0].at_s == pytest.approx(samples[0].monotonic_ns / 1e9 - 7.0)
        with pytest.raises(ValueError, match="analyser 1 gave no reading of I4"):
            module.course(samples, module.Tube(1, "I4", 0.0))

    def test_a_step_of_known_delay_is_aligned(self, module: ModuleType) -> None:
        """Two analysers are read once a second, 0.4 s apart; the step is at 10 s, and late by its tube."""
        line = VirtualLine(VirtualAnalyzer())
        with servomex.open_device(line.url, protocol="modbus_rtu") as analyzer:
            samples = {str(sample.channel): sample for sample in analyzer.poll_samples()}
        tubes = {"o2": ("1", "I1", 2.0), "co": ("2", "I2", 7.5), "co2": ("2", "I3", 12.25)}

        def taken(gas: str, second: int) -> servomex.Sample:
            device, channel, delay_s = tubes[gas]
            at_s = second + 0.4 * (device == "2")
            model = samples[channel]
            assert model.reading
            reading = attrs.evolve(model.reading, value=0.0 if at_s - delay_s < 10 else 50.0)
            return attrs.evolve(model, device=device, monotonic_ns=int(at_s * 1e9), reading=reading)

        recorded = [taken(gas, second) for second in range(40) for gas in tubes]
        courses = {
            gas: module.course(recorded, module.Tube(int(device), channel, delay_s))
            for gas, (device, channel, delay_s) in tubes.items()
        }
        rows = list(module.align(courses, 0.1, 2.5))
        begin_s = 0.0 - 2.0  # the first O2 is that of 2 s before it was read; the others begin earlier
        for gas in tubes:
            up = next(at_s for at_s, gases in rows if (gases[gas] or 0.0) >= 0.25) + begin_s
            assert 9.0 < up <= 10.5, gas  # between the last reading before the step and the first one behind it
            assert rows[-1][1][gas] == 0.5

    @pytest.mark.virtual_time
    def test_two_analysers_give_one_table_with_the_heat(
        self, module: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        burns_at = time.monotonic() + 4.0

        def step(before: float, after: float) -> Callable[[float], float]:
            return lambda _: before if time.monotonic() < burns_at else after

        first = VirtualAnalyzer([VirtualChannel("I1", "Oxygen", "%", step(20.95, 18.0))])
        second = VirtualAnalyzer(
            [
                VirtualChannel("I1", "CO", "vpm", step(0.0, 500.0)),
                VirtualChannel("I2", "CO₂", "%", step(0.04, 2.0)),
            ],
            address=3,
        )
        lines = VirtualLine(first), VirtualLine(second)
        tubes = ["--o2", "1:I1:0.1", "--co", "2:I1:0.2", "--co2", "2:I2:0.2"]
        times = ["--every", "0.2", "--step", "0.1", "--max-gap", "9", "--seconds", "7", "--baseline", "0.3"]
        ports = [lines[0].url, f"{lines[1].url},3"]
        monkeypatch.setattr(sys, "argv", ["oxygen", *ports, *tubes, *times, "--flow", "0.02"])
        assert module.main() == 0
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        assert [rows[0][f"{gas}_percent"] for gas in ("o2", "co", "co2")] == ["20.9500", "0.0000", "0.0400"]
        assert [rows[-1][f"{gas}_percent"] for gas in ("o2", "co", "co2")] == ["18.0000", "0.0500", "2.0000"]
        assert float(rows[0]["heat_kw"]) == pytest.approx(0.0, abs=0.01)
        expected = module.heat_release_kw(0.18, 0.0005, 0.02, 0.02, module.Ambient(0.2095, 0.0004))
        assert float(rows[-1]["heat_kw"]) == pytest.approx(expected, rel=0.001)

    @pytest.mark.parametrize("consumed", [0.0, 0.05, 0.3])
    @pytest.mark.parametrize("carbon", [0.0, 0.5, 1.0])
    def test_the_heat_is_that_of_the_oxygen_that_a_balance_of_moles_shows(
        self, module: ModuleType, consumed: float, carbon: float
    ) -> None:
        """Fuel with ``carbon`` moles of CO2 for each mole of oxygen burns; the gas is dried."""
        air = module.Ambient(0.2095, 0.0004)
        oxygen = air.o2 * (1 - consumed)
        dioxide = air.co2 + carbon * air.o2 * consumed
        dry = 1 - air.o2 - air.co2 + oxygen + dioxide
        duct_kg_s = 0.02
        air_kg_s = duct_kg_s / (1 + consumed * 0.105)
        oxygen_kg_s = air_kg_s * air.o2 * 31.998 / 28.97 * consumed
        found = module.heat_release_kw(oxygen / dry, 0.0, dioxide / dry, duct_kg_s, air)
        assert found == pytest.approx(13.1e3 * oxygen_kg_s, rel=0.005, abs=1e-9)

    def test_carbon_that_burned_to_co_released_less_heat(self, module: ModuleType) -> None:
        """CO to CO2 releases 17.6 MJ for each kg of oxygen; that oxygen was not taken."""
        air = module.Ambient(0.2095, 0.0)
        complete, monoxide = 0.1 * air.o2, 0.02 * air.o2  # moles of oxygen taken, and of CO left
        oxygen = air.o2 - complete + monoxide / 2
        dioxide = complete - monoxide
        dry = 1 - air.o2 + oxygen + dioxide + monoxide
        found = module.heat_release_kw(oxygen / dry, monoxide / dry, dioxide / dry, 0.02, air)
        phi = 0.1
        per_mole = 0.02 / (1 + phi * 0.105) * 31.998 / 28.97
        expected = (13.1e3 * complete - 17.6e3 * monoxide / 2) * per_mole
        assert found == pytest.approx(expected, rel=0.01)

    def test_without_a_baseline_there_is_no_heat(
        self, module: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = VirtualLine(VirtualAnalyzer())
        line.analysers[0]["I3"].status = servomex.ChannelStatus(warming_up=True)
        monkeypatch.setattr(sys, "argv", ["oxygen", line.url, "--every", "0.1", "--seconds", "0.5", "--flow", "1"])
        assert module.main() == 2
        assert "no good readings of O2 and CO2" in capsys.readouterr().err
