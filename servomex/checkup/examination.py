"""The check-up of a computer, a port, its line and its analyser: what was seen, and the cure for what is not well.

Each check gives findings. It raises a :class:`ServomexError` where nothing behind it can be checked any more.
"""

import contextlib
from collections.abc import Generator, Iterator
from datetime import timedelta

import attrs

from servomex import registers
from servomex.analyzer.analyzer import Analyzer
from servomex.analyzer.detect import Detection, Ear
from servomex.analyzer.opening import OPENING_S, open_device
from servomex.calibration.pulse import left_at_one
from servomex.checkup.computer import access, port_present, versions
from servomex.checkup.elsewhere import Say, find
from servomex.checkup.findings import Finding, Verdict, problem
from servomex.continuous.reader import ContinuousReader
from servomex.durations import counted
from servomex.enums import EXTERNAL_CHANNELS, Availability, Capability, ProtocolKind
from servomex.errors import (
    Argument,
    ErrorContext,
    ServomexError,
    ServomexFrameError,
    ServomexModbusError,
    ServomexProtocolError,
    ServomexProtocolUnsupportedError,
    ServomexTimeoutError,
)
from servomex.errors.validation import seconds, whole
from servomex.modbus.client import ModbusClient
from servomex.modbus.exchange import PATIENCE, QUIET_S
from servomex.modbus.line import ModbusLine
from servomex.modbus.others import CURE
from servomex.models.analyser import AnalyserStatus
from servomex.models.frame import Frame
from servomex.models.reading import Reading
from servomex.port.link import SerialLink
from servomex.runtime.clock import time
from servomex.settings import SerialSettings
from servomex.traffic import TrafficDecoder
from servomex.traffic.symptoms import line_sign
from servomex.traffic.words import reading_text

CHECKS = (
    "versions port access opening line mode settings gap echo broadcast clock "
    "analyser coils abilities"  # and a line for each channel
).split()
"""What is checked, in this order."""

SNIFF_S = 1.0
"""How long a line is listened to before anything is sent; a quarter of the time to listen, if that is less."""
GAP_REQUESTS = 20
GAP_CHECK_S = 5.0
"""No more requests are sent after this long."""
ANSWER_S = 0.5
"""How long the answer to each of them may take to begin."""
CLOCK_S = 60.0
"""An analyser's clock that is off by more than this is worth a word."""

_END_OF_BROADCAST = (b";\r\n", b";\n")
_CURES = {
    "fault": "Look at the messages on its panel",
    "maintenance": "It wants maintenance: look at the messages on its panel",
    "calibrating": "It is on calibration gas: wait until that ends, or stop it",
    "warming up": "Wait until it has reached its temperature",
}


def _no_words(_text: str) -> None:
    """Tell nobody."""


@attrs.frozen(kw_only=True)
class Order:
    """What is to be checked: the arguments of :func:`servomex.open_device`.

    Attributes:
        say: Is told what is being tried.

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
    say: Say = _no_words

    def __attrs_post_init__(self) -> None:
        whole(self.address, "address", 1, 247)
        whole(self.retries, "retries", 0, 10)
        seconds(self.listen, "listen")


def examine(order: Order) -> Generator[Finding, None, None]:
    """Check a port, its line and its analyser, in the order of :data:`CHECKS`.

    Nothing is sent but reads, and loopbacks behind a read that was answered. Closing the iterator closes the port.
    """
    done: list[str] = []
    try:
        with contextlib.closing(_checks(order)) as findings:
            for finding in findings:
                done.append(finding.check)
                yield finding
    except ServomexError as error:
        done.append(next(check for check in CHECKS if check not in done))
        yield problem(done[-1], error)
    for check in CHECKS:
        if check not in done:
            yield Finding(check, Verdict.SKIPPED, "because of the problem above")


def _checks(order: Order) -> Generator[Finding, None, None]:
    yield versions()
    yield port_present(order.port)
    yield access(order.port)
    order.say(f"opening {order.port}")
    with SerialLink(order.port, order.settings, gap=order.gap, auto_reconnect=False, trace=order.trace) as link:
        yield Finding("opening", Verdict.OK, "it opens")
        yield from _line_checks(order, link)


def _line_checks(order: Order, link: SerialLink) -> Iterator[Finding]:
    sniff_s, ear = min(SNIFF_S, order.listen / 4), Ear()
    order.say(f"listening for {sniff_s:.1f} s")
    yield line(link, ear, sniff_s)
    found, finding = mode(order, link, ear, order.listen - sniff_s)
    yield finding
    yield settings(order, found)
    yield gap(order, link, found)
    yield echo(link)
    if found:
        yield from _continuous(order, link, found.frame) if found.frame else _modbus(order, link, found.protocol)


def line(link: SerialLink, ear: Ear, listen_s: float) -> Finding:
    """Listen before anything is sent: what comes then was asked for by nobody here."""
    heard = bytearray()
    begun = time.monotonic()
    with link.conversation(begun + listen_s), link.tap(ear.hear), link.tap(lambda data, _: heard.extend(data)):
        ear.listen(link, begun + listen_s)
        if heard:  # it may be the beginning of a broadcast, and the next one may be a long time off
            ear.listen(link, time.monotonic() + SNIFF_S)
    if ear.frame:
        return Finding("line", Verdict.OK, "a broadcast came: an analyser in continuous mode")
    if not heard:
        return Finding("line", Verdict.OK, f"silent for {listen_s:.1f} s, before anything was sent")
    if ear.broadcast or heard.endswith(_END_OF_BROADCAST):
        return Finding("line", Verdict.OK, "part of a broadcast came")
    if sign := line_sign(bytes(heard)):
        return Finding("line", Verdict.WARNING, sign.seen, sign.cure)
    decoder = TrafficDecoder()
    messages = [item for item in (*decoder.feed(bytes(heard)), *decoder.flush()) if item.kind != "noise"]
    if messages:
        return Finding(
            "line",
            Verdict.WARNING,
            f"{counted(len(messages), 'Modbus message')} came that nobody here asked for: {messages[0].text}",
            "Another master is on this line, and there may be only one: 'servomex diag tap' shows what it does",
        )
    return Finding(
        "line",
        Verdict.WARNING,
        f"{counted(len(heard), 'byte')} came before anything was sent, and fit nothing",
        "Check the baud rate, the other serial settings, the wiring and its termination",
    )


def mode(order: Order, link: SerialLink, ear: Ear, listen_s: float) -> tuple[Detection | None, Finding]:
    """Find the mode, and compare it with the one that was named."""
    try:
        found = find(link, order.address, ear, listen_s, order.say)
    except (ServomexTimeoutError, ServomexProtocolError) as error:
        return None, problem("mode", error)
    where = "" if found.frame else f" at address {order.address}"
    if order.protocol in (ProtocolKind.AUTO, found.protocol):
        return found, Finding("mode", Verdict.OK, f"an analyser in mode {found.protocol}{where}")
    right = Argument("protocol", found.protocol)
    other = ServomexProtocolUnsupportedError(
        f"the analyser{where} is in mode {found.protocol}, not {order.protocol}",
        ErrorContext(port=order.port),
        cure=f"Use {right}, or set it to {order.protocol} on its panel",
        argument=right,
    )
    return found, problem("mode", other)


def settings(order: Order, found: Detection | None) -> Finding:
    """Tell the settings in use."""
    timeout = "by the line" if order.timeout is None else f"{order.timeout:g} s"
    seen = (
        f"{order.settings}, address {order.address}, gap {order.gap:g} s, retries {order.retries}, "
        f"timeout {timeout}, listen {order.listen:g} s"
    )
    if order.settings.bytesize == 7 and not (found and found.frame):
        return Finding("settings", Verdict.WARNING, seen, f"Use {Argument('bytesize', 8)}: Modbus RTU needs it")
    named = found is None or order.protocol is not ProtocolKind.AUTO
    hint = ""
    if found is not None and not named:
        hint = f"In scripts, {Argument('protocol', found.protocol)} saves looking for the mode"
    return Finding("settings", Verdict.OK, seen, hint)


def gap(order: Order, link: SerialLink, found: Detection | None) -> Finding:
    """Send some small reads with the gap in use, none of them twice, and count what is lost.

    Raises:
        ServomexTimeoutError: Not one was answered.
    """
    if found is None or found.frame:
        return Finding("gap", Verdict.SKIPPED, "there is nobody to ask" if found is None else "nothing is asked")
    order.say(f"sending {GAP_REQUESTS} requests with a gap of {link.gap_s:g} s")
    client = ModbusClient(link, order.address, found.protocol, retries=0)
    counts = dict.fromkeys(("sent", "lost", "damaged"), 0)
    until = time.monotonic() + GAP_CHECK_S
    while counts["sent"] < GAP_REQUESTS and time.monotonic() < until:
        counts["sent"] += 1
        try:
            client.read_analyser(time.monotonic() + _answer_s(client))
        except ServomexTimeoutError:
            counts["lost"] += 1
        except ServomexFrameError:
            counts["damaged"] += 1
        except ServomexModbusError:
            pass  # a refusal is an answer
    counts["late"] = client.exchange.late_replies
    return _gap_finding(link, counts)


def _answer_s(client: ModbusClient) -> float:
    """Seconds in which a request is answered unless it is lost, with the loopback before it that a loss costs."""
    link, ascii_framing = client.link, client.protocol is ProtocolKind.MODBUS_ASCII
    wait_s = max(ANSWER_S, PATIENCE * client.exchange.slowest_s)
    line = registers.LineTiming(link.settings.char_time_s, link.gap_s, ascii_framing, turnaround_s=wait_s)
    return QUIET_S + 2 * line.bits(registers.ALL_ANALYSER)


def _gap_finding(link: SerialLink, counts: dict[str, int]) -> Finding:
    sent, lost, damaged, late = counts.values()
    seen = f"of {counted(sent, 'small read')} with a gap of {link.gap_s:g} s"
    longer = Argument("gap", round(max(0.1, 2 * link.gap_s), 3))
    keep_longer = f"Try a longer gap, such as {longer}; 'servomex diag gap' finds what it needs"
    if lost + damaged == sent:
        context = ErrorContext(port=link.port)
        raise ServomexTimeoutError(f"{seen} not one was answered", context, cure=keep_longer, argument=longer)
    others = link.state(ModbusLine).others
    if others.heard:
        return Finding("gap", Verdict.WARNING, others.seen, CURE)
    if not (lost or damaged or late):
        return Finding("gap", Verdict.OK, f"{seen} each was answered")
    cures = [f"It is slow: allow a longer {Argument('timeout')}"] if late else []
    cures += [keep_longer] if lost > late else []
    cures = cures or ["Check the wiring and its termination"]
    seen += f", {lost} lost, {damaged} damaged, {late} answered late"
    return Finding("gap", Verdict.WARNING, seen, ". ".join(cures))


def echo(link: SerialLink) -> Finding:
    """Report whether the adapter sends back what is written."""
    found = link.state(ModbusLine).echo
    if found is None:
        return Finding("echo", Verdict.SKIPPED, "nothing came back that would show one")
    seen = "the adapter sends back what is written, and that is stripped" if found else "there is none"
    return Finding("echo", Verdict.OK, seen)


def _modbus(order: Order, link: SerialLink, protocol: ProtocolKind) -> Iterator[Finding]:
    yield Finding("broadcast", Verdict.SKIPPED, "there are none in the Modbus modes")
    yield Finding("clock", Verdict.SKIPPED, "Modbus does not tell it")
    order.say("reading the analyser")
    with open_device(
        link,
        protocol=protocol,
        address=order.address,
        timeout=order.timeout,
        retries=order.retries,
        identify=False,
    ) as analyzer:
        analyzer.identify(timeout=max(OPENING_S, analyzer.timeout_s))
        frame, left, can = analyzer.snapshot(), coils(analyzer), abilities(analyzer)
    whole, *channels = state(frame)
    yield from (whole, left, can, *channels)


def coils(analyzer: Analyzer) -> Finding:
    """Look for coils that were left at 1, as by a program that was killed in the middle of a start."""
    if not (client := analyzer.client):
        return Finding("coils", Verdict.SKIPPED, "there are none in continuous mode")
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
        return Finding("coils", Verdict.OK, "those that start and stop calibrations are at 0")
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


def _continuous(order: Order, link: SerialLink, first: Frame) -> Iterator[Finding]:
    order.say(f"waiting for another broadcast, for {order.listen:g} s at most")
    reader = ContinuousReader(link, first=first)
    reader.start()
    with Analyzer(link, reader, owns_link=False) as analyzer:
        found = broadcast(analyzer, order.listen)
        frame, left, can = analyzer.snapshot(), coils(analyzer), abilities(analyzer)
    whole, *channels = state(frame)
    yield from (found, clock(frame), whole, left, can, *channels)


def broadcast(analyzer: Analyzer, listen_s: float) -> Finding:
    """Wait for a broadcast, and tell how they come."""
    try:
        frame = analyzer.poll(wait_fresh=True, timeout=listen_s)
    except ServomexTimeoutError:
        longer = Argument("listen")
        cure = f"If the frame frequency on its panel is longer, use a longer {longer}; else check the cable"
        return Finding("broadcast", Verdict.WARNING, f"no second one came in {listen_s:g} s", cure)
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
    cure = "Set it on the panel, if it matters to you: the times of readings are this computer's"
    return Finding("clock", Verdict.WARNING, seen, cure)


def state(frame: Frame) -> Iterator[Finding]:
    """Tell the state of an analyser, and of each channel."""
    yield _analyser(frame.analyser)
    yield from map(_channel, frame)


def _analyser(status: AnalyserStatus) -> Finding:
    flags = ((status.fault, "fault"), (status.maintenance, "maintenance"))
    words = [word for raised, word in flags if raised]
    told = ", ".join([*words, *status.cal_words])
    if not told:
        return Finding("analyser", Verdict.OK, "no fault, no maintenance, all groups on sample")
    return Finding("analyser", Verdict.WARNING, told, _CURES[[*words, "calibrating"][0]])


def _channel(reading: Reading) -> Finding:
    words = reading.status.words
    if not words and reading.value is not None:
        return Finding("channel", Verdict.OK, reading_text(reading))
    cure = next((_CURES[word] for word in words if word in _CURES), "A true value is beyond a limit")
    if reading.value is None:
        cure = _CURES["fault"]
        if reading.channel in EXTERNAL_CHANNELS:
            cure = "The input is invalid: check what is connected to it, if anything is"
    return Finding("channel", Verdict.WARNING, reading_text(reading), cure)
