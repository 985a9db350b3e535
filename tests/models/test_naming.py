"""A channel that is asked for by the name of its gas: never another gas, whatever was changed on the panel."""

from collections.abc import Iterator

import pytest

from servomex import (
    Analyzer,
    ChannelStatus,
    ServomexChannelError,
    ServomexChannelNotFoundError,
    ServomexManager,
    ServomexValidationError,
    open_device,
)
from servomex.simulator import VirtualAnalyzer, VirtualChannel, VirtualLine, constant

pytestmark = pytest.mark.virtual_time

MODES = ["modbus_rtu", "modbus_ascii", "continuous"]
VALUES = {"Oxygen": 20.9, "CO": 12.5, "CO₂": 0.04}


@pytest.fixture
def analyser(request: pytest.FixtureRequest) -> VirtualAnalyzer:
    channels = [
        VirtualChannel(channel, name, "%", constant(value))
        for channel, (name, value) in zip(("I1", "I2", "I3"), VALUES.items(), strict=True)
    ]
    channels += [VirtualChannel(channel, "", "mA", constant(0.0)) for channel in ("E1", "E2")]
    return VirtualAnalyzer(channels, mode=request.param, period=0.1)


@pytest.fixture
def analyzer(analyser: VirtualAnalyzer) -> Iterator[Analyzer]:
    line = VirtualLine(analyser)
    with open_device(line.url, protocol=analyser.mode, gap=0.002) as opened:
        yield opened


every_mode = pytest.mark.parametrize("analyser", MODES, indirect=True)
over_modbus = pytest.mark.parametrize("analyser", MODES[:2], indirect=True)


def swap(analyser: VirtualAnalyzer) -> None:
    """Exchange the gases of I1 and I2, as another setup on the panel does."""
    first, second = analyser["I1"], analyser["I2"]
    first.name, second.name = second.name, first.name
    first.signal, second.signal = second.signal, first.signal


@every_mode
@pytest.mark.parametrize(("name", "channel", "value"), [
    ("Oxygen", "I1", 20.9), ("oxygen", "I1", 20.9), ("co", "I2", 12.5), ("CO2", "I3", 0.04), ("CO₂", "I3", 0.04),
])  # fmt: skip
def test_one_channel_is_read_by_its_name(analyzer: Analyzer, name: str, channel: str, value: float) -> None:
    reading = analyzer.read_channel(name)
    assert (reading.channel, reading.value) == (channel, value)
    assert analyzer.status(name) == reading.status
    (sample,) = analyzer.poll_samples(channels=[name])
    assert sample.channel == reading.channel


@over_modbus
def test_a_name_that_moved_is_followed_and_never_another_gas_is_given(
    analyser: VirtualAnalyzer, analyzer: Analyzer
) -> None:
    assert (analyzer.read_channel("Oxygen").channel, analyzer.read_channel("CO").channel) == ("I1", "I2")
    for _ in range(3):
        swap(analyser)
        for name in VALUES:
            reading = analyzer.read_channel(name)
            assert (reading.name, reading.value) == (name, VALUES[name])


@over_modbus
def test_the_state_of_a_name_that_moved_is_that_of_the_gas(analyser: VirtualAnalyzer, analyzer: Analyzer) -> None:
    assert analyzer.status("CO").ok
    swap(analyser)
    analyser["I1"].status = ChannelStatus(alarms=(False, True, False, False))
    assert analyzer.status("CO").words == ("alarm 2",)
    assert analyzer.status("Oxygen").ok


@over_modbus
def test_a_name_whose_channel_was_cleared_is_looked_for_in_the_others(
    analyser: VirtualAnalyzer, analyzer: Analyzer
) -> None:
    assert analyzer.read_channel("CO").channel == "I2"
    analyser["I2"].name, analyser["I2"].signal = "", constant(0.0)
    analyser["I1"].name = "CO"
    analyser["I1"].signal = constant(12.5)
    with pytest.raises(ServomexChannelError, match=r"I2 \(CO\) is missing from this reading"):
        analyzer.read_channel("CO")  # the rule for channels that vanish holds for names too
    assert analyzer.read_channel("CO").channel == "I1"


@over_modbus
def test_a_name_is_found_without_a_frame_before(analyser: VirtualAnalyzer) -> None:
    line = VirtualLine(analyser)
    with open_device(line.url, protocol=analyser.mode, identify=False) as analyzer:
        assert analyzer.read_channel("CO").value == 12.5


@every_mode
def test_a_name_that_is_gone_or_was_given_twice_is_an_error(analyser: VirtualAnalyzer, analyzer: Analyzer) -> None:
    with pytest.raises(
        ServomexChannelNotFoundError, match=r"no channel is named 'SO2'; this analyser has I1 \(Ox"
    ):
        analyzer.read_channel("SO2")
    analyser["I1"].name = "SO2"
    analyzer.poll(wait_fresh=True)
    with pytest.raises(ServomexChannelNotFoundError, match="no channel is named 'Oxygen'"):
        analyzer.read_channel("Oxygen")
    analyser["I1"].name = "CO"
    analyzer.poll(wait_fresh=True)
    with pytest.raises(ServomexChannelNotFoundError, match=r"several channels: I1 \(CO\), I2 \(CO\)"):
        analyzer.read_channel("CO")


@every_mode
@pytest.mark.parametrize("identify", [True, False])
def test_channels_are_selected_by_name_when_an_analyser_is_opened(
    analyser: VirtualAnalyzer, identify: bool
) -> None:
    line = VirtualLine(analyser)
    with open_device(line.url, protocol=analyser.mode, channels=["co2", "I1"], identify=identify) as analyzer:
        assert analyzer.poll().channels == ("I1", "I3")
        assert analyzer.read_channel("CO2").value == 0.04
    with ServomexManager() as manager:
        opened = manager.add("a", line.url, protocol=analyser.mode, channels=["CO"])
        assert opened.poll().channels == ("I2",)


@every_mode
@pytest.mark.parametrize(("channels", "text"), [
    (["Oxygen", "SO2"], r"no channel is named 'SO2'; this analyser has I1 \(Oxygen\), I2 \(CO\)"),
    (["Oxygen", "I4"], "I4 is not populated"),
    (["E9"], "unknown channel 'E9'"), ([""], "unknown channel ''"), ("Oxygen", "not the text 'Oxygen'"),
])  # fmt: skip
def test_a_selection_that_is_not_there_is_refused_and_nothing_stays_open(
    analyser: VirtualAnalyzer, channels: list[str], text: str
) -> None:
    line = VirtualLine(analyser)
    with pytest.raises(ServomexValidationError, match=text):
        open_device(line.url, protocol=analyser.mode, channels=channels)


@over_modbus
def test_a_name_that_moves_while_an_analyser_is_opened_is_refused(
    analyser: VirtualAnalyzer, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, reads = analyser.input_registers, [0]

    def read(address: int, count: int) -> list[int]:
        reads[0] += 1
        if reads[0] == 2:
            swap(analyser)
        return honest(address, count)

    monkeypatch.setattr(analyser, "input_registers", read)
    line = VirtualLine(analyser)
    with pytest.raises(ServomexChannelNotFoundError, match=r"selected with channels=.*none is named 'Oxygen'"):
        open_device(line.url, protocol=analyser.mode, channels=["Oxygen"], gap=0.002)
    assert reads[0] >= 2


@every_mode
def test_a_selected_name_that_changes_later_is_reported_as_any_other(analyser: VirtualAnalyzer) -> None:
    line = VirtualLine(analyser)
    with (
        open_device(line.url, protocol=analyser.mode, channels=["Oxygen"]) as analyzer,
        analyzer.stream(rate_hz=None if analyser.mode == "continuous" else 10) as session,
    ):
        first = next(iter(session))
        assert first.reading is not None
        swap(analyser)
        errors = (str(sample.error) for sample in session if sample.error is not None)
        assert any("I1 changed from Oxygen (%) to CO (%)" in error for error in errors)


@every_mode
def test_a_name_that_a_second_channel_gets_is_an_error_at_the_next_reading(
    analyser: VirtualAnalyzer, analyzer: Analyzer
) -> None:
    assert analyzer.read_channel("Oxygen").value == 20.9
    analyser["I3"].name = "Oxygen"
    if analyser.mode == "continuous":
        analyzer.poll(wait_fresh=True)
    for read in (analyzer.read_channel, analyzer.status):
        with pytest.raises(ServomexChannelNotFoundError, match=r"several channels: I1 \(Oxygen\), I3 \(Oxygen\)"):
            read("Oxygen")
    assert analyzer.read_channel("I1").value == 20.9


@over_modbus
def test_a_channel_that_appears_with_the_same_name_makes_it_an_error(
    analyser: VirtualAnalyzer, analyzer: Analyzer
) -> None:
    assert analyzer.read_channel("Oxygen").value == 20.9
    added = VirtualChannel("I4", "Oxygen", "%", constant(5.0))
    analyser.channels[added.channel] = added
    with pytest.raises(ServomexChannelNotFoundError, match=r"several channels: I1 \(Oxygen\), I4 \(Oxygen\)"):
        analyzer.read_channel("Oxygen")


@every_mode
def test_a_name_is_looked_for_among_the_selected_channels_only(analyser: VirtualAnalyzer) -> None:
    line = VirtualLine(analyser)
    with open_device(line.url, protocol=analyser.mode, channels=["Oxygen", "CO"]) as analyzer:
        analyser["I3"].name = "Oxygen"
        analyzer.poll(wait_fresh=True)
        assert analyzer.read_channel("Oxygen").channel == "I1"


@every_mode
@pytest.mark.parametrize(("asked", "text"), [
    ("I2", "channel I2 was not selected: channels=... selected I1, I3"),
    ("CO", r"selected with channels=..., none is named 'CO'; selected are I1 \(Oxygen\), I3 \(CO"),
])  # fmt: skip
def test_a_channel_that_was_not_selected_is_an_error_that_says_so(
    analyser: VirtualAnalyzer, asked: str, text: str
) -> None:
    line = VirtualLine(analyser)
    with open_device(line.url, protocol=analyser.mode, channels=["I1", "I3"]) as analyzer:
        for read in (
            analyzer.read_channel,
            analyzer.status,
            lambda channel: analyzer.poll_samples(channels=[channel]),
        ):
            with pytest.raises(ServomexChannelNotFoundError, match=text) as raised:
                read(asked)
            assert raised.value.cure == "Omit channels where the analyser is opened, or add it there"
