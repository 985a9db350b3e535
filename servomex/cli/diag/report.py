"""What ``servomex diag`` writes: functions that return a table for people, or one object on a line."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import attrs

from servomex.checkup.tally import Tally
from servomex.cli.diag.figures import Cadence, Summary, excluded_rate, smallest_safe_gap, summary
from servomex.cli.diag.listen import Echo
from servomex.cli.output import one_line
from servomex.durations import MS, counted
from servomex.models.plain import json_text, time_text
from servomex.traffic import Message

DOUBT = 0.05
"""A recommendation that does not exclude this share of failures is marked as uncertain."""
FEW_DOUBTS = 60
"""This many requests without a failure exclude that share."""


@attrs.frozen
class Source:
    """Where something was measured.

    Attributes:
        port: The port.
        protocol: The communication mode.
        address: The Modbus slave address, if it has one.
    """

    port: str
    protocol: str
    address: int | None

    def __str__(self) -> str:
        address = "" if self.address is None else f", address {self.address}"
        return one_line(f"{self.port}, {self.protocol}{address}")


def loopbacks(source: Source, tally: Tally, *, as_json: bool) -> str:
    """Return the outcome of loopbacks."""
    counts = attrs.asdict(tally)
    round_trips = summary(counts.pop("round_trips_s"))
    if as_json:
        return json_text({**attrs.asdict(source), **counts, "round_trip_s": _rounded(round_trips)})
    return f"{source}, loopbacks\n{_counts(counts)}{_durations(round_trips, 'round trip')}"


def payload(source: Source, sent: bytes, received: bytes, *, as_json: bool) -> str:
    """Return the bytes that a loopback carried, and those returned."""
    if as_json:
        return json_text({**attrs.asdict(source), "payload": sent.hex(), "received": received.hex()})
    return f"{source}, loopback: sent {sent.hex(' ')}, received {received.hex(' ')}\n"


def cadence(source: Source, what: str, found: Cadence, *, as_json: bool) -> str:
    """Return how regularly readings arrived."""
    counts = {
        "count": len(found.seconds),
        "failures": found.failures,
        "dropped": found.dropped,
        "late": found.late,
    }
    durations = summary(found.seconds)
    if as_json:
        return json_text({**attrs.asdict(source), "of": what, **counts, "seconds": _rounded(durations)})
    return f"{source}, {what}\n{_counts(counts)}{_durations(durations, '', deviation=True)}"


def gaps(source: Source, tallies: Mapping[float, Tally], complete: bool, *, as_json: bool) -> str:
    """Return the losses for each gap and, if all of them were measured, the gap to choose."""
    safe = smallest_safe_gap(tallies) if complete else None
    if as_json:
        rows = [{"gap": gap_s, **_losses(tally)} for gap_s, tally in tallies.items()]
        excluded = None if safe is None else round(excluded_rate(tallies[safe]), 4)
        return json_text({**attrs.asdict(source), "gaps": rows, "recommended": safe, "excluded_rate": excluded})
    cells = [
        (f"{gap_s:g} s", tally.sent, tally.lost, tally.damaged, f"{100 * tally.failure_rate:.0f} %")
        for gap_s, tally in tallies.items()
    ]
    table = _aligned([("gap", "sent", "lost", "damaged", "rate"), *cells])
    return f"{source}, requests after a gap\n{table}" + (_gap_advice(safe, tallies) if complete else "")


def _losses(tally: Tally) -> dict[str, float]:
    rate = round(tally.failure_rate, 4)
    return {"sent": tally.sent, "lost": tally.lost, "damaged": tally.damaged, "rate": rate}


def _gap_advice(safe: float | None, tallies: Mapping[float, Tally]) -> str:
    longest = max(tallies)
    if safe is None:
        longer = longest or 0.05
        return (
            f"Some were lost even with the longest gap. Try longer ones: --gaps {2 * longer:g},{4 * longer:g}. If "
            "as many are lost with those, the gap is not the cause: check the wiring and the settings.\n"
        )
    others = "" if safe == longest else ", or with a longer one"
    rate = excluded_rate(tallies[safe])
    doubt = f" That is not certain enough: send {FEW_DOUBTS} or more, with --further." if rate > DOUBT else ""
    return (
        f"Recommended: --gap {safe:g}. None of {counted(tallies[safe].sent, 'request')} was lost with it{others}: "
        f"at most {100 * rate:.1f} % are lost (95 % confidence).{doubt}\n"
    )


def echo(port: str, found: Echo, *, as_json: bool) -> str:
    """Return whether the adapter echoes."""
    if not as_json:
        return one_line(f"{port}: {found.verdict}: {found.advice}") + "\n"
    record = attrs.asdict(found)
    return json_text({"port": port, **record, "sent": found.sent.hex(), "received": found.received.hex()})


def message_line(arrived_at: datetime, message: Message, *, with_bytes: bool) -> str:
    """Return a message in words, followed by its bytes if requested."""
    clock = arrived_at.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "milliseconds")
    bytes_ = f"  [{message.raw.hex(' ')}]" if with_bytes else ""
    return f"{clock} {one_line(message.text)}{bytes_}\n"


def message_json(arrived_at: datetime, message: Message) -> str:
    """Return a message as one object on one line."""
    return json_text({"received_at": time_text(arrived_at), **attrs.asdict(message), "raw": message.raw.hex()})


def _rounded(found: Summary | None) -> dict[str, float] | None:
    return None if found is None else {key: round(value, 6) for key, value in attrs.asdict(found).items()}


def _counts(counts: Mapping[str, int]) -> str:
    return _aligned([tuple(counts), tuple(counts.values())])


def _durations(found: Summary | None, what: str, *, deviation: bool = False) -> str:
    """Return durations in milliseconds; nothing when there are none."""
    if found is None:
        return ""
    columns = {"min": found.minimum, "median": found.median, "p99": found.p99, "max": found.maximum}
    if deviation:
        columns["deviation"] = found.deviation
    return _aligned([(what, *columns), ("ms", *(f"{MS * value:.1f}" for value in columns.values()))])


def _aligned(rows: Iterable[Iterable[object]]) -> str:
    """Return cells in right-aligned columns."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "".join("  ".join(map(str.rjust, row, widths)) + "\n" for row in cells)
