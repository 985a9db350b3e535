"""``servomex replay``: replay a wire trace or a capture, and write its readings."""

import collections
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import click

import servomex
from servomex.cli.connection import load
from servomex.cli.errors import NoAnswerError, stop_code
from servomex.cli.formats import writer_for
from servomex.cli.interrupts import interrupts_wait
from servomex.cli.options import FRAME_FORMAT, LONGEST_S, MODES, mode_settings, naming_options
from servomex.cli.output import note
from servomex.cli.program import Program, version_option
from servomex.cli.tally import Tally
from servomex.enums import ChannelId, ProtocolKind
from servomex.errors import ServomexConnectionError, ServomexError, ServomexProtocolError, ServomexTimeoutError
from servomex.models.frame import Frame
from servomex.registers import REGISTERS, Span
from servomex.runtime.locks import pause

if TYPE_CHECKING:
    from servomex.continuous.queue import FrameQueue
    from servomex.simulator.playback import Playback, Section
    from servomex.simulator.replay import ReplayLine

TICK_S = 0.05
QUEUE = 1_000_000
"""The most broadcasts that may wait to be written: 23 days' worth."""
_READ_REGISTERS = 4

_MORE = """\b
Examples:
  servomex replay trace.txt
  servomex replay trace.txt --speed 0 --format csv > readings.csv
  servomex replay capture.bin --speed 10

A trace is what --trace writes, a capture the bytes of broadcasts. Both can also be opened like a port, as
sim://replay?file=FILE. The readings have the time at which they are replayed.
"""


@attrs.frozen
class _Reads:
    """The analyser whose values are read in a trace, and how.

    Attributes:
        protocol: The framing of the requests.
        address: Its Modbus address.
        channels: The channels that were read; ``None`` for all.
        sections: The requests for values, each with its number among all requests.
    """

    protocol: ProtocolKind
    address: int
    channels: list[ChannelId] | None
    sections: "list[tuple[int, Section]]"


@click.command(cls=Program, short_help="Replay a trace or a capture.", epilog=_MORE)
@click.argument("file", type=click.Path(readable=False))
@click.option(
    "--speed",
    type=click.FloatRange(0, LONGEST_S),
    metavar="FACTOR",
    default=1.0,
    show_default=True,
    help="How many times as fast; 0 for as fast as possible.",
)
@click.option("--protocol", **mode_settings(MODES, "Communication mode, auto to take it from FILE", "auto"))
@click.option("--format", "output_format", **FRAME_FORMAT)
@naming_options
@version_option
def replay(file: str, speed: float, protocol: ProtocolKind, output_format: str, **naming: Any) -> None:
    """Replay FILE, a wire trace or a capture of broadcasts, and show its readings.

    Each broadcast is shown once. Where the analyser was polled, it is polled again, as often and at the same
    times. Failed readings are reported on stderr.
    """
    with interrupts_wait():
        from servomex.simulator.playback import load_recording
        from servomex.simulator.replay import ReplayLine
        from servomex.simulator.urls import replay_url
    recording, tally = load_recording(file), Tally()
    line = ReplayLine(recording, speed=speed, url=replay_url(file, speed))
    continuous = protocol == ProtocolKind.CONTINUOUS_ASCII or (protocol == ProtocolKind.AUTO and recording.timed)
    try:
        if continuous and recording.timed:
            _replay_broadcasts(line, tally, output_format, naming)
        else:
            _replay_requests(line, _reads(recording, file, protocol), tally, output_format, naming)
    except KeyboardInterrupt as stop:
        code = stop_code(stop)
    else:
        code = 0 if tally.readings else NoAnswerError.exit_code
    note(str(tally))
    raise click.exceptions.Exit(code)


def _replay_broadcasts(line: "ReplayLine", tally: Tally, output_format: str, naming: Mapping[str, Any]) -> None:
    """Show every broadcast of a recording."""
    recording = line.recording
    load(line.url, ProtocolKind.CONTINUOUS_ASCII)
    with servomex.SerialLink(line.url, recording.settings, gap=recording.gap_s) as link:
        reader = servomex.ContinuousReader(link, live=False)
        queue = reader.subscribe(QUEUE)
        reader.start()
        with servomex.Analyzer(link, reader, owns_link=False, **naming) as analyzer:
            show = writer_for(output_format, analyzer, naming["name"])
            _show(_broadcasts(line, reader, queue, tally), show, analyzer, tally)


def _broadcasts(
    line: "ReplayLine", reader: "servomex.ContinuousReader", queue: "FrameQueue", tally: Tally
) -> Iterator[Frame]:
    """Yield the frames until the end of the recording, and those that are still queued then."""
    ended = False
    while len(queue) or not ended:
        try:
            yield queue.get(TICK_S)
        except ServomexTimeoutError:
            if line.ended:
                reader.stop()  # by then the queue has everything it has read
                ended = True
        except ServomexProtocolError as error:  # counted as a dropped frame
            note(f"Dropped: {error}")
        except ServomexError as error:
            _failed(tally, error)


def _replay_requests(
    line: "ReplayLine", reads: _Reads, tally: Tally, output_format: str, naming: Mapping[str, Any]
) -> None:
    """Poll the analyser of a recording as often as it was polled."""
    recording = line.recording
    load(line.url, reads.protocol)
    with servomex.open_device(
        line.url,
        protocol=reads.protocol,
        address=reads.address,
        serial_settings=recording.settings,
        identify=False,
        channels=reads.channels,
        gap=recording.gap_s,
        **naming,
    ) as analyzer:
        show = writer_for(output_format, analyzer, naming["name"])
        _show(_polls(line, reads, analyzer, tally), show, analyzer, tally)


def _polls(line: "ReplayLine", reads: _Reads, analyzer: "servomex.Analyzer", tally: Tally) -> Iterator[Frame]:
    """Poll whenever values were read in the recording, as long as they were."""
    from servomex.analyzer.modbus_mode import OPENING_S

    waiting = collections.deque(reads.sections)
    while True:
        while waiting and waiting[0][0] < line.position:
            waiting.popleft()
        if not waiting:
            return
        section, before = waiting[0][1], line.position
        pause(line.seconds_until(section))
        if section.request == reads.sections[0][1].request:
            analyzer.mode.look_at_all_channels()
        try:
            yield analyzer.poll(timeout=None if tally.readings else max(analyzer.timeout_s, OPENING_S))
        except ServomexConnectionError as error:
            _failed(tally, error)
            pause(max(TICK_S, analyzer.link.retry_in_s))
        except ServomexError as error:
            _failed(tally, error)
            if line.position == before:
                raise NoAnswerError(
                    "the rest of the recording contains requests that this version does not send"
                ) from error


def _reads(recording: "Playback", file: str, protocol: str) -> _Reads:
    """Return the analyser whose values were read most often, and its channels.

    Raises:
        NoAnswerError: There are no readings.
    """
    from servomex.simulator.playback import body_of, framing_of

    found: dict[tuple[ProtocolKind, int], list[tuple[int, Section]]] = {}
    for number, section in enumerate(recording.asked):
        body, framing = body_of(section.request), framing_of(section.request)
        if len(body) == 6 and body[1] == _READ_REGISTERS and protocol in (ProtocolKind.AUTO, framing):
            found.setdefault((framing, body[0]), []).append((number, section))
    if not found:
        mode = "" if protocol == ProtocolKind.AUTO else f" in mode {protocol}"
        raise NoAnswerError(f"{file} contains no readings{mode}: it has {_contents(recording)}")
    (framing, address), sections = max(found.items(), key=lambda item: len(item[1]))
    bodies = {body_of(section.request) for _, section in sections}
    spans = [Span(int.from_bytes(body[2:4], "big"), int.from_bytes(body[4:6], "big")) for body in bodies]
    touched = {number for span in spans for number in span.addresses}
    channels = [channel for channel, span in REGISTERS.items() if touched.intersection(span.addresses)]
    return _Reads(framing, address, channels if 0 < len(channels) < len(REGISTERS) else None, sections)


def _contents(recording: "Playback") -> str:
    if recording.timed:
        return "broadcasts"
    count = len(recording.asked)
    return f"{count} request{'s' * (count != 1)}"


def _show(
    frames: Iterator[Frame], show: Callable[[Frame], None], analyzer: "servomex.Analyzer", tally: Tally
) -> None:
    """Show and count the frames."""
    try:
        for frame in frames:
            tally.readings += 1
            show(frame)
    finally:
        tally.dropped = analyzer.dropped_frames


def _failed(tally: Tally, error: ServomexError) -> None:
    tally.failures += 1
    note(f"Failed: {error}")
