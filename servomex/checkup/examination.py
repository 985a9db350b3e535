"""The check-up of a computer, a port, its line and its analyser: what was seen, and what to do about each problem.

Each check returns findings. It raises a :class:`ServomexError` after which nothing further can be checked.
"""

import contextlib
from collections.abc import Generator, Iterator
from datetime import timedelta

import attrs

from servomex import registers
from servomex.analyzer.analyzer import Analyzer
from servomex.analyzer.detect import BroadcastListener, Detection
from servomex.analyzer.opening import open_device
from servomex.calibration.pulse import left_at_one
from servomex.checkup import losses
from servomex.checkup.computer import access, port_present, versions
from servomex.checkup.elsewhere import Report, find
from servomex.checkup.findings import Finding, Verdict, problem
from servomex.checkup.tally import Tally
from servomex.continuous.reader import ContinuousReader
from servomex.durations import counted
from servomex.enums import EXTERNAL_CHANNELS, Availability, Capability, ProtocolKind
from servomex.errors import (
    Argument,
    ErrorContext,
    ServomexError,
    ServomexModbusError,
    ServomexProtocolError,
    ServomexProtocolUnsupportedError,
    ServomexTimeoutError,
)
from servomex.errors.validation import seconds, whole
from servomex.modbus.client import ModbusClient
from servomex.modbus.line import ModbusLine
from servomex.modbus.others import CURE
from servomex.models.analyser import AnalyserStatus
from servomex.models.frame import Frame
from servomex.models.reading import Reading
from servomex.port.link import SerialLink
from servomex.runtime.clock import time
from servomex.settings import SerialSettings
from servomex.traffic import TrafficDecoder
from servomex.traffic.symptoms import symptom_of
from servomex.traffic.words import reading_text

CHECKS = (
    "versions port access opening line mode settings gap echo broadcast clock "
    "analyser coils abilities"  # and a line for each channel
).split()
"""The checks, in this order."""

SNIFF_S = 1.0
"""How long to listen before anything is sent; a quarter of the time to listen, if that is less."""
GAP_REQUESTS = 20
GAP_CHECK_S = 5.0
"""No more requests are sent after this long."""
CLOCK_S = 60.0
"""An analyser's clock that is off by more than this is a warning."""

_END_OF_BROADCAST = (b";\r\n", b";\n")
_CURES = {
    "fault": "Look at the messages on its panel",
    "maintenance": "It needs maintenance: look at the messages on its panel",
    "calibrating": "It is on calibration gas: wait until that ends, or stop it",
    "warming up": "Wait until it has reached its temperature",
}


@attrs.frozen(kw_only=True)
class CheckRequest:
    """What is to be checked: the arguments of :func:`servomex.open_device`.

    Attributes:
        report: Called with a text about each step before it is tried.

    Raises:
        ServomexValidationError: A value is out of range.
    """

    port: str
    protocol: ProtocolKind = ProtocolKind.AUTO
    address: int = 1
    settings: SerialSettings = attrs.field(factory=SerialSettings)
    timeout: float | None = None
    retries: int = 2
    gap: float = 0.05
    listen: float = 10.0
    trace: str | None = None
    report: Report = attrs.field(default=lambda _text: None)

    def __attrs_post_init__(self) -> None:
        whole(self.address, "address", 1, 247)
        whole(self.retries, "retries", 0, 10)
        seconds(self.listen, "listen")


def examine(request: CheckRequest) -> Generator[Finding, None, None]:
    """Check a port, its line and its analyser, in the order of :data:`CHECKS`.

    Nothing is sent but reads, and loopbacks after a read that was answered. Closing the iterator closes the port.
    """
    done: list[str] = []
    try:
        with contextlib.closing(_checks(request)) as findings:
            for finding in findings:
                done.append(finding.check)
                yield finding
    except ServomexError as error:
        done.append(next(check for check in CHECKS if check not in done))
        yield problem(done[-1], error)
    for check in CHECKS:
        if check not in done:
            yield Finding(check, Verdict.SKIPPED, "not checked because of the problem above")


def _checks(request: CheckRequest) -> Generator[Finding, None, None]:
    yield versions()
    yield port_present(request.port)
    yield access(request.port)
    request.report(f"opening {request.port}")
    with SerialLink(
        request.port, request.settings, gap=request.gap, auto_reconnect=False, trace=request.trace
    ) as link:
        yield Finding("opening", Verdict.OK, "it opens")
        yield from line_checks(request, link)


def line_checks(request: CheckRequest, link: SerialLink) -> Iterator[Finding]:
    """Check a line and its analyser, through a port that is open."""
    sniff_s, listener = min(SNIFF_S, request.listen / 4), BroadcastListener()
    request.report(f"listening for {sniff_s:.1f} s")
    yield line(link, listener, sniff_s)
    found, finding = mode(request, link, listener, request.listen - sniff_s)
    yield finding
    yield settings(request, found)
    yield gap(request, link, found)
    yield echo(link)
    if found and found.frame:
        yield from continuous_checks(request, link, found.frame)
    elif found:
        yield from modbus_checks(request, link, found.protocol)


def line(link: SerialLink, listener: BroadcastListener, listen_s: float) -> Finding:
    """Listen before anything is sent: bytes that arrive then were not requested here."""
    heard = bytearray()
    begun = time.monotonic()
    with (
        link.conversation(begun + listen_s),
        link.tap(listener.feed),
        link.tap(lambda data, _: heard.extend(data)),
    ):
        listener.listen(link, begun + listen_s)
        if heard:  # it may be the beginning of a broadcast, and the next one may be a long time off
            listener.listen(link, time.monotonic() + SNIFF_S)
    if listener.frame:
        return Finding("line", Verdict.OK, "a broadcast arrived: an analyser in continuous mode")
    if not heard:
        return Finding("line", Verdict.OK, f"silent for {listen_s:.1f} s, before anything was sent")
    if listener.broadcast or heard.endswith(_END_OF_BROADCAST):
        return Finding("line", Verdict.OK, "part of a broadcast arrived")
    if symptom := symptom_of(bytes(heard)):
        return Finding("line", Verdict.WARNING, symptom.seen, symptom.cure)
    decoder = TrafficDecoder()
    messages = [item for item in (*decoder.feed(bytes(heard)), *decoder.flush()) if item.kind != "noise"]
    if messages:
        return Finding(
            "line",
            Verdict.WARNING,
            f"{counted(len(messages), 'unrequested Modbus message')} arrived: {messages[0].text}",
            "Another master is on this line, and there may be only one: 'servomex diag tap' shows what it does",
        )
    return Finding(
        "line",
        Verdict.WARNING,
        f"{counted(len(heard), 'byte')} arrived before anything was sent, and match no known format",
        "Check the baud rate, the other serial settings, the wiring and its termination",
    )


def mode(
    request: CheckRequest, link: SerialLink, listener: BroadcastListener, listen_s: float
) -> tuple[Detection | None, Finding]:
    """Find the mode, and compare it with the requested one."""
    try:
        found = find(link, request.address, listener, listen_s, request.report)
    except (ServomexTimeoutError, ServomexProtocolError) as error:
        return None, problem("mode", error)
    where = "" if found.frame else f" at address {request.address}"
    if request.protocol in (ProtocolKind.AUTO, found.protocol):
        return found, Finding("mode", Verdict.OK, f"an analyser in mode {found.protocol}{where}")
    right = Argument("protocol", found.protocol)
    other = ServomexProtocolUnsupportedError(
        f"the analyser{where} is in mode {found.protocol}, not {request.protocol}",
        ErrorContext(port=request.port),
        cure=f"Use {right}, or set it to {request.protocol} on its panel",
        argument=right,
    )
    return found, problem("mode", other)


def settings(request: CheckRequest, found: Detection | None) -> Finding:
    """Return the settings in use."""
    timeout = "by the line" if request.timeout is None else f"{request.timeout:g} s"
    seen = (
        f"{request.settings}, address {request.address}, gap {request.gap:g} s, retries {request.retries}, "
        f"timeout {timeout}, listen {request.listen:g} s"
    )
    if request.settings.bytesize == 7 and not (found and found.frame):
        return Finding("settings", Verdict.WARNING, seen, f"Use {Argument('bytesize', 8)}: Modbus RTU needs it")
    named = found is None or request.protocol is not ProtocolKind.AUTO
    hint = ""
    if found is not None and not named:
        hint = f"In scripts, {Argument('protocol', found.protocol)} saves looking for the mode"
    return Finding("settings", Verdict.OK, seen, hint)


def gap(request: CheckRequest, link: SerialLink, found: Detection | None) -> Finding:
    """Send some small reads with the gap in use, without retries, and count the losses.

    Raises:
        ServomexTimeoutError: None was answered.
    """
    if found is None or found.frame:
        return Finding(
            "gap",
            Verdict.SKIPPED,
            "no analyser found" if found is None else "nothing is requested in continuous mode",
        )
    request.report(f"sending {GAP_REQUESTS} requests with a gap of {link.gap_s:g} s")
    client, tally = losses.single_attempts(link, request.address, found.protocol), Tally()
    until = time.monotonic() + GAP_CHECK_S
    for _ in losses.reads(client, GAP_REQUESTS, tally):
        if time.monotonic() >= until:
            break
    return _gap_finding(link, tally)


def _gap_finding(link: SerialLink, tally: Tally) -> Finding:
    lost, damaged, late = tally.lost, tally.damaged, tally.late
    reads, with_gap = counted(tally.sent, "test read"), f"(gap {link.gap_s:g} s)"
    longer = Argument("gap", round(max(0.1, 2 * link.gap_s), 3))
    keep_longer = f"Try a longer gap, such as {longer}; 'servomex diag gap' finds what it needs"
    if lost + damaged == tally.sent:
        context = ErrorContext(port=link.port)
        raise ServomexTimeoutError(
            f"none of {reads} was answered {with_gap}", context, cure=keep_longer, argument=longer
        )
    others = link.state(ModbusLine).others
    if others.heard:
        return Finding("gap", Verdict.WARNING, others.seen, CURE)
    if not (lost or damaged or late):
        return Finding(
            "gap",
            Verdict.OK,
            f"all {reads} were answered {with_gap}" if tally.sent > 1 else f"1 test read was answered {with_gap}",
        )
    cures = [f"It is slow: allow a longer {Argument('timeout')}"] if late else []
    cures += [keep_longer] if lost > late else []
    cures = cures or ["Check the wiring and its termination"]
    seen = f"{reads} {with_gap}: {lost} lost, {damaged} damaged, {late} answered late"
    return Finding("gap", Verdict.WARNING, seen, ". ".join(cures))


def echo(link: SerialLink) -> Finding:
    """Report whether the adapter echoes what is sent."""
    found = link.state(ModbusLine).echo
    if found is None:
        return Finding("echo", Verdict.SKIPPED, "unknown: nothing came back")
    seen = "the adapter echoes what is sent; the echo is removed" if found else "there is none"
    return Finding("echo", Verdict.OK, seen)


def modbus_checks(request: CheckRequest, link: SerialLink, protocol: ProtocolKind) -> Iterator[Finding]:
    """Check an analyser in a Modbus mode."""
    yield Finding("broadcast", Verdict.SKIPPED, "there are none in Modbus mode")
    yield Finding("clock", Verdict.SKIPPED, "not available over Modbus")
    request.report("reading the analyser")
    with open_device(
        link,
        protocol=protocol,
        address=request.address,
        timeout=request.timeout,
        retries=request.retries,
        identify=False,
    ) as analyzer:
        analyzer.identify(timeout=analyzer.mode.opening_s(analyzer.timeout_s, request.listen))
        frame, left, can = analyzer.snapshot(), coils(analyzer.mode.sender()), abilities(analyzer)
    whole, *channels = state(frame)
    yield from (whole, left, can, *channels)


def coils(client: ModbusClient) -> Finding:
    """Look for coils that were left at 1, as by a program that was killed during a start."""
    try:
        values = client.read_coils(registers.ALL_START_COILS, time.monotonic() + client.patience_s)
        stop = client.read_coil(registers.STOP_COIL, time.monotonic() + client.patience_s)
    except ServomexModbusError as error:
        return Finding("coils", Verdict.SKIPPED, f"they cannot be read: {error.message}")
    except ServomexError as error:
        return problem("coils", error)
    left = [group for group, value in enumerate(values, 1) if value]
    seen = [left_at_one(left)] if left else []
    seen += ["the stop coil is at 1: the analyser ignores the next stop until it is 0"] if stop else []
    if not seen:
        return Finding("coils", Verdict.OK, "the coils that start and stop calibrations are at 0")
    cure = (
        "A program was killed in the middle of a start or a stop, or another master writes to the coils: "
        "'servomex calibrate stop' sets them back to 0, and stops every calibration"
    )
    return Finding("coils", Verdict.WARNING, "; ".join(seen), cure)


def abilities(analyzer: Analyzer) -> Finding:
    """Report which capabilities are available, after a loopback where one can be sent."""
    with contextlib.suppress(ServomexError):
        analyzer.loopback(b"\x55\xaa")
    known = {str(item.name).lower(): analyzer.availability(item) for item in Capability}
    named = {word: [name for name, its in known.items() if its is word] for word in Availability}
    seen = "; ".join(f"{word}: {', '.join(names)}" for word, names in named.items() if names)
    return Finding("abilities", Verdict.OK, seen)


def continuous_checks(request: CheckRequest, link: SerialLink, first: Frame) -> Iterator[Finding]:
    """Check an analyser in continuous mode that has sent one broadcast."""
    request.report(f"waiting for another broadcast, for {request.listen:g} s at most")
    reader = ContinuousReader(link, first=first)
    reader.start()
    with Analyzer(link, reader, owns_link=False) as analyzer:
        found = broadcast(analyzer, request.listen)
        frame, can = analyzer.snapshot(), abilities(analyzer)
    left = Finding("coils", Verdict.SKIPPED, "not available in continuous mode")
    whole, *channels = state(frame)
    yield from (found, clock(frame), whole, left, can, *channels)


def broadcast(analyzer: Analyzer, listen_s: float) -> Finding:
    """Wait for a broadcast, and report how often they are sent."""
    try:
        frame = analyzer.poll(wait_fresh=True, timeout=listen_s)
    except ServomexTimeoutError:
        longer = Argument("listen")
        cure = f"If the frame frequency on its panel is longer, use a longer {longer}; else check the cable"
        return Finding("broadcast", Verdict.WARNING, f"no second broadcast arrived in {listen_s:g} s", cure)
    dropped = analyzer.dropped_frames
    period = f"one every {analyzer.period_s:.1f} s" if analyzer.period_s else "two at once"
    seen = f"{period}, the last is {frame.age_s:.1f} s old, {dropped} dropped"
    if dropped:
        cure = "Check the cable and the serial settings; 'servomex diag jitter' watches for longer"
        return Finding("broadcast", Verdict.WARNING, seen, cure)
    return Finding("broadcast", Verdict.OK, seen)


def clock(frame: Frame) -> Finding:
    """Compare the analyser's clock with this computer's."""
    shown = frame.analyser.clock
    if shown is None:
        return Finding("clock", Verdict.WARNING, "it is not set", "Set it on the panel, if it matters to you")
    ahead = shown - frame.received_at.astimezone().replace(tzinfo=None)
    off_s = abs(ahead).total_seconds()
    text = f"{off_s:.1f} s" if off_s < CLOCK_S else str(timedelta(seconds=round(off_s)))
    seen = f"it shows {shown}, {text} {'ahead of' if ahead > timedelta(0) else 'behind'} this computer's"
    if off_s < CLOCK_S:
        return Finding("clock", Verdict.OK, seen)
    cure = "Set it on the panel if it matters to you: readings are timed by this computer's clock"
    return Finding("clock", Verdict.WARNING, seen, cure)


def state(frame: Frame) -> Iterator[Finding]:
    """Return the state of an analyser, and of each channel."""
    yield _analyser(frame.analyser)
    yield from map(_channel, frame)


def _analyser(status: AnalyserStatus) -> Finding:
    flags = ((status.fault, "fault"), (status.maintenance, "maintenance"))
    words = [word for raised, word in flags if raised]
    seen = ", ".join([*words, *status.cal_words])
    if not seen:
        return Finding("analyser", Verdict.OK, "no fault, no maintenance, all groups on sample")
    return Finding("analyser", Verdict.WARNING, seen, _CURES[[*words, "calibrating"][0]])


def _channel(reading: Reading) -> Finding:
    words = reading.status.words
    if not words and reading.value is not None:
        return Finding("channel", Verdict.OK, reading_text(reading))
    cure = next(
        (_CURES[word] for word in words if word in _CURES),
        "An alarm is active: the measured value is beyond its limit",
    )
    if reading.value is None:
        cure = _CURES["fault"]
        if reading.channel in EXTERNAL_CHANNELS:
            cure = "The input is invalid: check what is connected to it, if anything"
    return Finding("channel", Verdict.WARNING, reading_text(reading), cure)
